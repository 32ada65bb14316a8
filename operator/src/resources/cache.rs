//! Claims for the model cache and for collections, and the Job that fills the former.

use super::kind::{CLAIM, JOB};
use super::pod::fill_spec;
use super::{Child, child, fingerprint};
use crate::validate::Reranker;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use serde_json::{Value, json};

/// The claim of the cache, unless an existing one is named.
pub(super) fn claim(reranker: &Reranker) -> Option<Child> {
    let claim = reranker.spec.cache.pvc.as_ref()?;
    let size = claim.size.as_ref()?;
    // The Job has to write what pods then only read.
    let modes: &[&str] = match claim.access_mode.as_str() {
        "ReadOnlyMany" => &["ReadWriteOnce", "ReadOnlyMany"],
        "ReadWriteMany" => &["ReadWriteMany"],
        _ => &["ReadWriteOnce"],
    };
    let mut body = volume(modes, size, claim.storage_class_name.as_deref());
    if claim.retain {
        body["metadata"]["ownerReferences"] = json!([]);
    }
    Some(child(&CLAIM, format!("{}-cache", reranker.name), body))
}

/// The claim of the embedded store.
pub(super) fn data(reranker: &Reranker) -> Option<Child> {
    let store = reranker.spec.collections.embedded.as_ref()?;
    let body = volume(&["ReadWriteOnce"], &store.size, store.storage_class_name.as_deref());
    Some(child(&CLAIM, format!("{}-data", reranker.name), body))
}

fn volume(modes: &[&str], size: &Quantity, class: Option<&str>) -> Value {
    let mut spec = json!({"accessModes": modes, "resources": {"requests": {"storage": size}}});
    if let Some(class) = class {
        spec["storageClassName"] = json!(class);
    }
    json!({"spec": spec})
}

/// The Job that downloads and checks the models; another set of models or image is another Job, because a Job
/// cannot change.
pub(super) fn job(reranker: &Reranker) -> Option<Child> {
    reranker.is_filled_by_job().then(|| {
        let pod = fill_spec(reranker);
        let name = format!("{}-fill-{:016x}", reranker.name, fingerprint(&pod));
        let body = json!({"spec": {
            "backoffLimit": 6,
            "template": {
                "metadata": {"labels": {
                    "app.kubernetes.io/name": "reranker",
                    "app.kubernetes.io/instance": reranker.name,
                    "app.kubernetes.io/component": "fill",
                }},
                "spec": pod,
            },
        }});
        child(&JOB, name, body)
    })
}
