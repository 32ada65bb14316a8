//! What other scalers need. Both write the object's scale subresource, never the Deployment's.

use super::kind::{HPA, SCALED_OBJECT};
use super::{Child, Surroundings, child};
use crate::crd::{AutoscalingMode, Behavior, RerankerDeployment, ScalingRules};
use crate::validate::Reranker;
use kube::Resource;
use serde_json::{Value, json};

/// Key under which KEDA tells the operator's scaler which object it asks about.
pub const SCALER_NAME: &str = "rerankerDeployment";

pub(super) fn hpa(reranker: &Reranker) -> Option<Child> {
    let metrics = &reranker.spec.autoscaling.hpa.as_ref()?.metrics;
    let body = json!({"spec": {
        "scaleTargetRef": target(reranker),
        "minReplicas": reranker.bounds.min,
        "maxReplicas": reranker.bounds.max,
        "metrics": metrics,
        "behavior": behavior(&reranker.spec.autoscaling.behavior),
    }});
    Some(child(&HPA, &reranker.name, body))
}

pub(super) fn scaled_object(reranker: &Reranker, around: &Surroundings) -> Option<Child> {
    let settings = &reranker.spec.autoscaling;
    if settings.mode != AutoscalingMode::Keda {
        return None;
    }
    let push = json!({
        "type": "external-push",
        "metadata": {"scalerAddress": around.scaler_address, SCALER_NAME: reranker.name},
    });
    let extra = settings.keda.iter().flat_map(|keda| keda.extra_triggers.iter().cloned());
    let triggers: Vec<Value> = std::iter::once(push).chain(extra).collect();
    let body = json!({"spec": {
        "scaleTargetRef": target(reranker),
        "minReplicaCount": reranker.bounds.min,
        "maxReplicaCount": reranker.bounds.max,
        "pollingInterval": settings.sample_seconds,
        "cooldownPeriod": settings.scale_to_zero.idle_seconds,
        // An operator that does not answer must not shrink what is busy.
        "fallback": {
            "failureThreshold": 3,
            "replicas": reranker.bounds.min.max(1),
            "behavior": "currentReplicasIfHigher",
        },
        "advanced": {"horizontalPodAutoscalerConfig": {"behavior": behavior(&settings.behavior)}},
        "triggers": triggers,
    }});
    Some(child(&SCALED_OBJECT, &reranker.name, body))
}

fn target(reranker: &Reranker) -> Value {
    json!({
        "apiVersion": RerankerDeployment::api_version(&()),
        "kind": RerankerDeployment::kind(&()),
        "name": reranker.name,
    })
}

/// The same words as ours.
fn behavior(behavior: &Behavior) -> Value {
    let rules = |rules: &ScalingRules| json!(rules);
    json!({"scaleUp": rules(&behavior.scale_up), "scaleDown": rules(&behavior.scale_down)})
}
