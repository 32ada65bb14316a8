//! `ServiceMonitor` and `PodMonitor` of the Prometheus operator.

use super::kind::{POD_MONITOR, SERVICE_MONITOR};
use super::{Child, child, selector};
use crate::crd::MonitorKind;
use crate::validate::Reranker;
use serde_json::json;

pub(super) fn monitor(reranker: &Reranker) -> Option<Child> {
    let settings = &reranker.spec.monitoring;
    let mut endpoint = json!({"port": "admin", "path": "/metrics", "interval": settings.interval});
    if reranker.tls_secret().is_some() {
        endpoint["scheme"] = json!("https");
        // The certificate has the Services' names, and pods are scraped by address.
        endpoint["tlsConfig"] = json!({"insecureSkipVerify": true});
    }
    let mut labels = selector(&reranker.name);
    let (kind, endpoints) = match settings.kind {
        MonitorKind::None => return None,
        MonitorKind::ServiceMonitor => {
            labels.insert("reranker.dev/service".to_owned(), json!("headless"));
            (&SERVICE_MONITOR, "endpoints")
        }
        MonitorKind::PodMonitor => (&POD_MONITOR, "podMetricsEndpoints"),
    };
    let body = json!({
        "metadata": {"labels": settings.labels},
        "spec": {"selector": {"matchLabels": labels}, endpoints: [endpoint]},
    });
    Some(child(kind, &reranker.name, body))
}
