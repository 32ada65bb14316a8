//! From what was observed to status and conditions. Pure: the time comes in.
//!
//! Every condition has a reason that a person can act on, and `Available` takes the root cause of what is wrong as
//! its own, so that one column of `kubectl get` answers why something is not up.

mod conditions;
mod diagnosis;

pub use conditions::{Findings, Scaler, merge};
pub use diagnosis::{Cause, Diagnosis, diagnose};

use crate::crd::{
    AutoscalingMode, AutoscalingStatus, Model, ModelStatus, RerankerDeploymentStatus,
};
use crate::resources;
use crate::validate::Reranker;
use conditions::conditions;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use std::collections::BTreeMap;

/// What a pass over an object has seen.
#[derive(Clone, Debug, Default)]
pub struct Observed {
    /// The Deployment.
    pub deployment: Option<Deployment>,
    /// The pods of its selector.
    pub pods: Vec<Pod>,
    /// What pods are loading, by name.
    pub loading: BTreeMap<String, String>,
    /// The Job that fills the cache.
    pub job: Option<Job>,
    /// What could not be applied.
    pub problems: Vec<Problem>,
    /// What is known of the scaling.
    pub scaler: Scaler,
    /// What the autoscaler did.
    pub autoscaling: Option<AutoscalingStatus>,
}

/// What could not be applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Reason of the condition `Degraded`.
    pub reason: &'static str,
    /// What happened and what to do.
    pub message: String,
}

/// The status of an object whose spec is valid.
pub fn status(
    reranker: &Reranker,
    generation: i64,
    observed: &Observed,
    old: &RerankerDeploymentStatus,
    now: &Time,
) -> RerankerDeploymentStatus {
    let pods = living(&observed.pods);
    let ready = pods.iter().filter(|pod| diagnosis::is_ready(pod)).count() as i32;
    let deployed = observed.deployment.as_ref().and_then(|deployment| deployment.status.as_ref());
    let wanted = reranker.wanted();
    let server = &reranker.spec.server;
    let host = |service: &str| format!("{service}.{}.svc", reranker.namespace);
    let scheme = if reranker.tls_secret().is_some() { "https" } else { "http" };
    let grpc = if reranker.spec.service.headless {
        host(&format!("{}-headless", reranker.name))
    } else {
        host(&reranker.name)
    };
    let found = conditions(reranker, observed, &pods, ready);
    RerankerDeploymentStatus {
        observed_generation: generation,
        replicas: pods.len() as i32,
        ready_replicas: ready,
        updated_replicas: deployed.and_then(|status| status.updated_replicas).unwrap_or_default(),
        ready: format!("{ready}/{wanted}"),
        selector: resources::selector_text(&reranker.name),
        url: format!("{scheme}://{}:{}", host(&reranker.name), server.http_port),
        grpc_url: format!("dns:///{grpc}:{}", server.grpc_port),
        template_version: Some(reranker.template.number()),
        models: reranker.spec.models.iter().map(model).collect(),
        autoscaling: match reranker.spec.autoscaling.mode {
            AutoscalingMode::Builtin | AutoscalingMode::Keda => observed.autoscaling.clone(),
            AutoscalingMode::Hpa | AutoscalingMode::None => None,
        },
        conditions: merge(&old.conditions, found, generation, now),
    }
}

/// The status of an object whose spec is not: what runs goes on as it did.
pub fn invalid(
    generation: i64,
    message: &str,
    old: &RerankerDeploymentStatus,
    now: &Time,
) -> RerankerDeploymentStatus {
    let mut found = Findings::default();
    found.set("Degraded", true, "InvalidSpec", message);
    if !old.conditions.iter().any(|condition| condition.type_ == "Available") {
        found.set("Available", false, "InvalidSpec", message);
    }
    RerankerDeploymentStatus {
        observed_generation: generation,
        conditions: merge(&old.conditions, found, generation, now),
        ..old.clone()
    }
}

fn model(model: &Model) -> ModelStatus {
    let source = &model.source;
    let source = if let Some(hub) = &source.hub {
        format!("{}@{}", hub.repo, hub.revision)
    } else if let Some(pvc) = &source.pvc {
        format!("{}:{}", pvc.claim_name, pvc.path)
    } else if let Some(oci) = &source.oci {
        oci.image.clone()
    } else {
        let path = source.baked.as_ref().and_then(|baked| baked.path.clone());
        path.unwrap_or_else(|| "inside the binary".to_owned())
    };
    ModelStatus { name: model.name.clone(), source }
}

/// Pods that are not ending.
fn living(pods: &[Pod]) -> Vec<&Pod> {
    let ended = |pod: &&Pod| {
        let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
        pod.metadata.deletion_timestamp.is_some() || matches!(phase, Some("Succeeded" | "Failed"))
    };
    pods.iter().filter(|pod| !ended(pod)).collect()
}

#[cfg(test)]
mod tests;
