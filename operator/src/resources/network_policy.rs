//! The `NetworkPolicy`: who may reach which port. What pods reach is left alone: hub, object store, collector.

use super::kind::NETWORK_POLICY;
use super::{Child, Surroundings, child, selector};
use crate::crd::MonitorKind;
use crate::validate::Reranker;
use serde_json::{Value, json};

pub(super) fn network_policy(reranker: &Reranker, around: &Surroundings) -> Option<Child> {
    let settings = &reranker.spec.network_policy;
    settings.enabled.then(|| {
        let server = &reranker.spec.server;
        let port = |number: i32| json!({"port": number, "protocol": "TCP"});
        let mut serving = json!({"ports": [port(server.grpc_port), port(server.http_port)]});
        if let Some(from) = &settings.from {
            serving["from"] = json!(from);
        }
        let mut admin = json!({"ports": [port(server.admin_port)]});
        if let Some(peers) = admin_peers(reranker, around) {
            admin["from"] = json!(peers);
        }
        let body = json!({"spec": {
            "podSelector": {"matchLabels": selector(&reranker.name)},
            "policyTypes": ["Ingress"],
            "ingress": [serving, admin],
        }});
        child(&NETWORK_POLICY, &reranker.name, body)
    })
}

/// None: everybody.
fn admin_peers(reranker: &Reranker, around: &Surroundings) -> Option<Vec<Value>> {
    let monitors = &reranker.spec.network_policy.monitoring_from;
    if monitors.is_none() && reranker.spec.monitoring.kind != MonitorKind::None {
        return None;
    }
    let operator = json!({
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": around.operator_namespace}},
        "podSelector": {"matchLabels": {"app.kubernetes.io/name": super::MANAGER}},
    });
    Some(std::iter::once(operator).chain(monitors.iter().flatten().cloned()).collect())
}
