//! The volumes of a pod and where they are mounted.

use super::{CACHE, DATA, KEYS, TLS, model_folder};
use crate::crd::CacheType;
use crate::validate::Reranker;
use serde_json::{Value, json};

/// The volumes of the pod.
pub(super) fn volumes(reranker: &Reranker) -> Value {
    let spec = &reranker.spec;
    let mut volumes = vec![
        json!({"name": "tmp", "emptyDir": {}}),
        json!({"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": "1Gi"}}),
    ];
    if reranker.hub.is_some() {
        volumes.push(match (spec.cache.kind, reranker.cache_claim()) {
            (CacheType::Pvc, Some(claim)) => {
                json!({"name": "cache", "persistentVolumeClaim": {"claimName": claim}})
            }
            _ => json!({"name": "cache", "emptyDir": {"sizeLimit": spec.cache.size_limit}}),
        });
    }
    for (index, model) in spec.models.iter().enumerate() {
        let name = format!("model-{index}");
        if let Some(pvc) = &model.source.pvc {
            let claim = json!({"claimName": pvc.claim_name, "readOnly": true});
            volumes.push(json!({"name": name, "persistentVolumeClaim": claim}));
        }
        if let Some(oci) = &model.source.oci {
            let image = json!({"reference": oci.image, "pullPolicy": oci.pull_policy.name()});
            volumes.push(json!({"name": name, "image": image}));
        }
    }
    if spec.collections.embedded.is_some() {
        let claim = format!("{}-data", reranker.name);
        volumes.push(json!({"name": "data", "persistentVolumeClaim": {"claimName": claim}}));
    }
    if let Some(secret) = &spec.auth.api_keys_secret_ref {
        volumes.push(json!({"name": "api-keys", "secret": {"secretName": secret}}));
    }
    if let Some(secret) = reranker.tls_secret() {
        volumes.push(json!({"name": "tls", "secret": {"secretName": secret}}));
    }
    volumes.extend(spec.pod.volumes.iter().cloned());
    json!(volumes)
}

/// Where the container mounts them.
pub(super) fn mounts(reranker: &Reranker) -> Value {
    let spec = &reranker.spec;
    let mount = |name: &str, path: &str| json!({"name": name, "mountPath": path});
    let read_only =
        |name: &str, path: &str| json!({"name": name, "mountPath": path, "readOnly": true});
    let mut mounts = vec![mount("tmp", "/tmp"), mount("shm", "/dev/shm")];
    if reranker.hub.is_some() {
        mounts.push(mount("cache", CACHE));
    }
    for (index, model) in spec.models.iter().enumerate() {
        if model.source.pvc.is_some() || model.source.oci.is_some() {
            mounts.push(read_only(&format!("model-{index}"), &model_folder(index)));
        }
    }
    if spec.collections.embedded.is_some() {
        mounts.push(mount("data", DATA));
    }
    if spec.auth.api_keys_secret_ref.is_some() {
        mounts.push(read_only("api-keys", KEYS));
    }
    if reranker.tls_secret().is_some() {
        mounts.push(read_only("tls", TLS));
    }
    mounts.extend(spec.pod.volume_mounts.iter().cloned());
    json!(mounts)
}

/// Leaves out the volumes that only a server needs: a claim may allow one pod.
pub(super) fn without_server(volumes: &mut Value) {
    if let Value::Array(volumes) = volumes {
        volumes.retain(|volume| {
            let name = volume["name"].as_str().unwrap_or_default();
            !["data", "api-keys", "tls"].contains(&name) && !name.starts_with("model-")
        });
    }
}
