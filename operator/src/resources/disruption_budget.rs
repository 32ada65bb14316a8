//! The `PodDisruptionBudget`.

use super::kind::DISRUPTION_BUDGET;
use super::{Child, child, selector};
use crate::validate::Reranker;
use serde_json::json;

/// Counted as pods that may be away, never as pods that must be there: one replica would block the draining of
/// its node for ever.
pub(super) fn disruption_budget(reranker: &Reranker) -> Option<Child> {
    let disruption = &reranker.spec.disruption;
    disruption.enabled.then(|| {
        let body = json!({"spec": {
            "maxUnavailable": disruption.max_unavailable,
            "selector": {"matchLabels": selector(&reranker.name)},
            // A pod that is not ready serves nobody; keeping it would block the drain.
            "unhealthyPodEvictionPolicy": "AlwaysAllow",
        }});
        child(&DISRUPTION_BUDGET, &reranker.name, body)
    })
}
