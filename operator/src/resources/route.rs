//! Ways in from outside, and the certificate.

use super::kind::{CERTIFICATE, GRPC_ROUTE, HTTP_ROUTE, INGRESS, Kind};
use super::service::headless_name;
use super::{Child, child};
use crate::crd::GatewayRoute;
use crate::validate::Reranker;
use serde_json::{Value, json};

/// The Ingress as it was given, with the object's HTTP port wherever a backend names no service.
pub(super) fn ingress(reranker: &Reranker) -> Option<Child> {
    let mut spec = reranker.spec.route.ingress.clone()?;
    let backend = json!({"service": {"name": reranker.name, "port": {"name": "http"}}});
    if spec.get("rules").is_none() && spec.get("defaultBackend").is_none() {
        spec["defaultBackend"] = backend.clone();
    }
    for rule in spec["rules"].as_array_mut().into_iter().flatten() {
        if rule.get("http").is_none() {
            rule["http"] = json!({"paths": [{"path": "/", "pathType": "Prefix"}]});
        }
        for path in rule["http"]["paths"].as_array_mut().into_iter().flatten() {
            if path.get("backend").is_none_or(|given| given == &json!({})) {
                path["backend"] = backend.clone();
            }
        }
    }
    if spec["rules"].is_null() {
        spec.as_object_mut()?.remove("rules");
    }
    Some(child(&INGRESS, &reranker.name, json!({"spec": spec})))
}

pub(super) fn http_route(reranker: &Reranker) -> Option<Child> {
    let route = reranker.spec.route.http_route.as_ref()?;
    Some(gateway(&HTTP_ROUTE, reranker, route, reranker.spec.server.http_port))
}

pub(super) fn grpc_route(reranker: &Reranker) -> Option<Child> {
    let route = reranker.spec.route.grpc_route.as_ref()?;
    Some(gateway(&GRPC_ROUTE, reranker, route, reranker.spec.server.grpc_port))
}

fn gateway(kind: &'static Kind, reranker: &Reranker, route: &GatewayRoute, port: i32) -> Child {
    let backend = json!({"name": reranker.name, "port": port});
    let mut spec: Value = json!({
        "parentRefs": route.parent_refs,
        "rules": [{"backendRefs": [backend]}],
    });
    if !route.hostnames.is_empty() {
        spec["hostnames"] = json!(route.hostnames);
    }
    child(kind, &reranker.name, json!({"spec": spec}))
}

/// A certificate of cert-manager for the Services' names.
pub(super) fn certificate(reranker: &Reranker) -> Option<Child> {
    let issuer = reranker.spec.tls.as_ref()?.issuer_ref.as_ref()?;
    let (name, namespace) = (&reranker.name, &reranker.namespace);
    let mut names = Vec::new();
    for service in [name.clone(), headless_name(reranker)] {
        names.push(service.clone());
        for domain in [
            namespace.clone(),
            format!("{namespace}.svc"),
            format!("{namespace}.svc.cluster.local"),
        ] {
            names.push(format!("{service}.{domain}"));
        }
    }
    let body = json!({"spec": {
        "secretName": reranker.tls_secret(),
        "dnsNames": names,
        "issuerRef": {"group": "cert-manager.io", "kind": issuer.kind, "name": issuer.name},
        "privateKey": {"rotationPolicy": "Always"},
        "usages": ["server auth"],
    }});
    Some(child(&CERTIFICATE, name, body))
}
