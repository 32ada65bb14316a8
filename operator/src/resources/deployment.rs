//! The Deployment around the pod template.

use super::kind::DEPLOYMENT;
use super::{Child, child, pod, selector};
use crate::crd::Strategy;
use crate::validate::Reranker;
use serde_json::{Value, json};

pub(super) fn deployment(reranker: &Reranker) -> Child {
    let rollout = &reranker.spec.rollout;
    let body = json!({"spec": {
        "replicas": reranker.wanted(),
        "selector": {"matchLabels": selector(&reranker.name)},
        "strategy": strategy(reranker),
        "progressDeadlineSeconds": rollout.progress_deadline_seconds,
        "minReadySeconds": rollout.min_ready_seconds,
        "revisionHistoryLimit": 5,
        "template": pod::template(reranker),
    }});
    child(&DEPLOYMENT, &reranker.name, body)
}

fn strategy(reranker: &Reranker) -> Value {
    let rollout = &reranker.spec.rollout;
    let (surge, unavailable) = match reranker.strategy {
        Strategy::Recreate => return json!({"type": "Recreate"}),
        Strategy::InPlace => (json!(0), json!(1)),
        Strategy::Surge | Strategy::Auto => (json!(1), json!(0)),
    };
    let surge = rollout.max_surge.as_ref().map_or(surge, |given| json!(given));
    let unavailable = rollout.max_unavailable.as_ref().map_or(unavailable, |given| json!(given));
    json!({"type": "RollingUpdate", "rollingUpdate": {"maxSurge": surge, "maxUnavailable": unavailable}})
}
