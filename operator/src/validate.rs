//! From a spec to what can be rendered. Pure.
//!
//! The schema's CEL rules have refused what a field or its neighbours show. Here is what needs the whole spec,
//! and what was left to a default that depends on something else.

use crate::crd::{
    AcceleratorType, AutoscalingMode, CacheFill, CacheType, Hub, RerankerDeployment,
    RerankerDeploymentSpec, SecretKey, StoreKind, Strategy,
};
use crate::resources::TemplateVersion;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::Resource;
use serde_json::Value;
use std::time::Duration;

/// A spec that is consistent, with every default resolved.
#[derive(Clone, Debug, PartialEq)]
pub struct Reranker {
    /// Name of the object.
    pub name: String,
    /// Namespace of the object and of its children.
    pub namespace: String,
    /// What makes the garbage collector delete the children with the object.
    pub owner: OwnerReference,
    /// Pods wanted now; none: nobody has said yet, which counts as the fewest.
    pub replicas: Option<i32>,
    /// Bounds of the number of pods.
    pub bounds: Bounds,
    /// Reference of the server's image.
    pub image: String,
    /// How the hub is reached, if a model comes from there.
    pub hub: Option<HubAccess>,
    /// Never `Auto`.
    pub strategy: Strategy,
    /// Time from the beginning of a pod's end until it is killed.
    pub grace_seconds: i32,
    /// Work that may wait in each pod.
    pub target_backlog: Duration,
    /// The pod template to render.
    pub template: TemplateVersion,
    /// Everything else, as it was given.
    pub spec: RerankerDeploymentSpec,
}

/// Fewest and most pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Fewest.
    pub min: i32,
    /// Most, at least `min`.
    pub max: i32,
}

impl Bounds {
    /// The number within the bounds next to `replicas`.
    pub fn clamp(self, replicas: i32) -> i32 {
        replicas.clamp(self.min, self.max)
    }
}

/// How the hub is reached.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HubAccess {
    /// Address of a mirror.
    pub endpoint: Option<String>,
    /// Where the token is.
    pub token: Option<SecretKey>,
}

/// What is wrong with a spec; it waits for a change.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {reason}")]
pub struct Invalid {
    /// Path of the field.
    pub field: String,
    /// What is wrong with it and what to do.
    pub reason: String,
}

fn invalid<T>(field: impl Into<String>, reason: impl Into<String>) -> Result<T, Invalid> {
    Err(Invalid { field: field.into(), reason: reason.into() })
}

impl Reranker {
    /// Whether the pods ask for devices of which a cluster has few: then no pod more than wanted may be
    /// needed to replace one.
    pub fn is_scarce(&self) -> bool {
        is_scarce(&self.spec)
    }

    /// Pods that the Deployment is to have.
    pub fn wanted(&self) -> i32 {
        if self.spec.stopped {
            return 0;
        }
        self.bounds.clamp(self.replicas.unwrap_or(self.bounds.min))
    }

    /// Whether a Job has to fill the cache before pods start.
    pub fn is_filled_by_job(&self) -> bool {
        self.spec.cache.fill == CacheFill::Job && self.hub.is_some()
    }

    /// Name of the claim that caches, if one does.
    pub fn cache_claim(&self) -> Option<String> {
        let claim = self.spec.cache.pvc.as_ref()?;
        Some(claim.claim_name.clone().unwrap_or_else(|| format!("{}-cache", self.name)))
    }

    /// Name of the Secret with the certificate of the listeners, if they have one.
    pub fn tls_secret(&self) -> Option<String> {
        let tls = self.spec.tls.as_ref()?;
        Some(tls.secret_name.clone().unwrap_or_else(|| format!("{}-tls", self.name)))
    }
}

/// Checks an object.
///
/// # Errors
/// What is wrong, the first thing found.
pub fn validate(object: &RerankerDeployment) -> Result<Reranker, Invalid> {
    let spec = &object.spec;
    let name = object.metadata.name.clone().unwrap_or_default();
    let Some(owner) = object.controller_owner_ref(&()) else {
        return invalid("metadata.uid", "is missing: the object does not come from an API server");
    };
    check_aliases(spec)?;
    check_pod(spec)?;
    let image = &spec.image;
    let image = match (&image.tag, &image.digest) {
        (Some(tag), None) => format!("{}:{tag}", image.repository),
        (None, Some(digest)) => format!("{}@{digest}", image.repository),
        _ => return invalid("image", "needs a tag or a digest, not both"),
    };
    let wanted = spec.rollout.template_version.map(|version| ("rollout.templateVersion", version));
    let used = object.status.as_ref().and_then(|status| status.template_version);
    let version = wanted.or_else(|| used.map(|version| ("status.templateVersion", version)));
    let template = match version {
        None => TemplateVersion::LATEST,
        Some((field, number)) => TemplateVersion::find(number).ok_or_else(|| Invalid {
            field: field.to_owned(),
            reason: format!(
                "this operator has no template `{number}`: use 1 to {} or a newer operator",
                TemplateVersion::LATEST.number()
            ),
        })?,
    };
    let drain = &spec.drain;
    let request_seconds = (spec.server.max_request_millis + 999) / 1000;
    let on_processor = spec.accelerator.kind == AcceleratorType::Cpu;
    let target =
        spec.autoscaling.target_backlog_millis.unwrap_or(if on_processor { 30_000 } else { 500 });
    Ok(Reranker {
        namespace: object.metadata.namespace.clone().unwrap_or_default(),
        owner,
        replicas: spec.replicas,
        bounds: bounds(spec),
        image,
        hub: hub_access(spec)?,
        strategy: strategy(spec),
        grace_seconds: drain
            .grace_period_seconds
            .unwrap_or(drain.pre_stop_seconds + request_seconds + 10),
        target_backlog: Duration::from_millis(u64::try_from(target).unwrap_or_default()),
        template,
        spec: spec.clone(),
        name,
    })
}

fn bounds(spec: &RerankerDeploymentSpec) -> Bounds {
    let (min, max) = match spec.autoscaling.mode {
        // Absent means one.
        AutoscalingMode::None => {
            let replicas = spec.replicas.unwrap_or(1);
            (replicas, replicas)
        }
        _ => (spec.autoscaling.min_replicas, spec.autoscaling.max_replicas),
    };
    let most = if spec.collections.store == StoreKind::Embedded { 1 } else { i32::MAX };
    Bounds { min: min.min(most), max: max.max(min).min(most) }
}

fn strategy(spec: &RerankerDeploymentSpec) -> Strategy {
    match spec.rollout.strategy {
        Strategy::Auto if spec.collections.store == StoreKind::Embedded => Strategy::Recreate,
        Strategy::Auto if is_scarce(spec) => Strategy::InPlace,
        Strategy::Auto => Strategy::Surge,
        given => given,
    }
}

fn is_scarce(spec: &RerankerDeploymentSpec) -> bool {
    let device = spec.accelerator.kind == AcceleratorType::Nvidia && spec.accelerator.count > 0;
    let extended = |list: &str| {
        let named = spec.resources[list].as_object();
        named.is_some_and(|named| named.keys().any(|name| name.contains('/')))
    };
    device || !spec.resource_claims.is_empty() || extended("limits") || extended("requests")
}

fn check_aliases(spec: &RerankerDeploymentSpec) -> Result<(), Invalid> {
    let mut taken: Vec<&str> = spec.models.iter().map(|model| model.name.as_str()).collect();
    for (index, model) in spec.models.iter().enumerate() {
        for alias in &model.aliases {
            if taken.contains(&alias.as_str()) {
                return invalid(
                    format!("models[{index}].aliases"),
                    format!("`{alias}` names another model or is given twice: leave it out"),
                );
            }
            taken.push(alias);
        }
    }
    Ok(())
}

/// The server asks one hub with one token, whichever model it asks for.
fn hub_access(spec: &RerankerDeploymentSpec) -> Result<Option<HubAccess>, Invalid> {
    let access = |hub: &Hub| HubAccess {
        endpoint: hub.endpoint.clone(),
        token: hub.token_secret_ref.clone(),
    };
    let mut found: Option<HubAccess> = None;
    for (index, model) in spec.models.iter().enumerate() {
        let Some(hub) = &model.source.hub else { continue };
        if spec.cache.kind == CacheType::None {
            return invalid(
                "cache.type",
                "`none` leaves no place for the hub's files: use another",
            );
        }
        let this = access(hub);
        if found.as_ref().is_some_and(|first| *first != this) {
            return invalid(
                format!("models[{index}].source.hub"),
                "endpoint and tokenSecretRef differ from those of an earlier model: a pod uses one \
                 hub and one token",
            );
        }
        found = Some(this);
    }
    Ok(found)
}

/// Names that the template uses itself.
const VOLUMES: [&str; 6] = ["tmp", "shm", "cache", "data", "api-keys", "tls"];
const VARIABLES: [&str; 3] = ["HF_HOME", "HF_TOKEN", "HF_ENDPOINT"];

fn check_pod(spec: &RerankerDeploymentSpec) -> Result<(), Invalid> {
    for (index, volume) in spec.pod.volumes.iter().enumerate() {
        let name = named(volume);
        if VOLUMES.contains(&name) || name.starts_with("model-") {
            return invalid(
                format!("pod.volumes[{index}].name"),
                format!("`{name}` is a volume of the operator's own: choose another name"),
            );
        }
    }
    for (index, variable) in spec.pod.env.iter().enumerate() {
        let name = named(variable);
        if VARIABLES.contains(&name) {
            return invalid(
                format!("pod.env[{index}].name"),
                format!("`{name}` is set from models and cache: say it there"),
            );
        }
    }
    for (index, container) in spec.pod.init_containers.iter().enumerate() {
        if named(container) == "server" {
            return invalid(
                format!("pod.initContainers[{index}].name"),
                "`server` is the server's own container: choose another name",
            );
        }
    }
    Ok(())
}

fn named(value: &Value) -> &str {
    value["name"].as_str().unwrap_or_default()
}
