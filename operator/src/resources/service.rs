//! The Services and the `ServiceAccount`.

use super::kind::{SERVICE, SERVICE_ACCOUNT};
use super::{Child, child, selector};
use crate::validate::Reranker;
use serde_json::{Value, json};

/// Name of the Service that gives the pods' own addresses.
pub(super) fn headless_name(reranker: &Reranker) -> String {
    format!("{}-headless", reranker.name)
}

/// The Service that carries the object's name.
pub(super) fn service(reranker: &Reranker) -> Child {
    let settings = &reranker.spec.service;
    let body = json!({
        "metadata": {"annotations": settings.annotations},
        "spec": {
            "type": settings.kind.name(),
            "selector": selector(&reranker.name),
            "ports": [port(reranker, "http", reranker.spec.server.http_port), port(reranker, "grpc", reranker.spec.server.grpc_port)],
        },
    });
    child(&SERVICE, &reranker.name, body)
}

/// The Service without an address of its own.
pub(super) fn headless(reranker: &Reranker) -> Option<Child> {
    let settings = &reranker.spec.service;
    settings.headless.then(|| {
        let server = &reranker.spec.server;
        let body = json!({
            "metadata": {
                "annotations": settings.annotations,
                "labels": {"reranker.dev/service": "headless"},
            },
            "spec": {
                "type": "ClusterIP",
                "clusterIP": "None",
                "selector": selector(&reranker.name),
                "ports": [
                    port(reranker, "grpc", server.grpc_port),
                    port(reranker, "http", server.http_port),
                    port(reranker, "admin", server.admin_port),
                ],
            },
        });
        child(&SERVICE, headless_name(reranker), body)
    })
}

fn port(reranker: &Reranker, name: &str, number: i32) -> Value {
    let protocol = match name {
        _ if reranker.tls_secret().is_some() => "https",
        // HTTP/2 without TLS, which a proxy cannot guess.
        "grpc" => "kubernetes.io/h2c",
        _ => "http",
    };
    json!({"name": name, "port": number, "targetPort": name, "protocol": "TCP", "appProtocol": protocol})
}

/// An account without rights, unless there is one.
pub(super) fn account(reranker: &Reranker) -> Option<Child> {
    reranker.spec.pod.service_account_name.is_none().then(|| {
        child(&SERVICE_ACCOUNT, &reranker.name, json!({"automountServiceAccountToken": false}))
    })
}
