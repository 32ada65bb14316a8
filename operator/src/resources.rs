//! From a [`Reranker`] to the objects that make it run. Pure: one file a kind.
//!
//! Objects are JSON as it is sent to the API server, not typed copies of one Kubernetes version: parts of a pod
//! that people pass through reach the server whole, and it says what is wrong with them.

mod autoscaler;
mod cache;
mod deployment;
mod disruption_budget;
mod fingerprint;
mod kind;
mod monitor;
mod network_policy;
mod pod;
mod route;
mod service;

pub use autoscaler::SCALER_NAME;
pub(crate) use fingerprint::fingerprint;
pub(crate) use kind::DEPLOYMENT;
pub use kind::{KINDS, Kind};
pub use pod::TemplateVersion;

use crate::validate::Reranker;
use serde_json::{Map, Value, json};

/// Who owns the fields that are applied, and who manages the objects that carry the label.
pub const MANAGER: &str = "reranker-operator";

/// What the children need to know of the operator itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Surroundings {
    /// Namespace of the operator, whose pods may reach the admin ports.
    pub operator_namespace: String,
    /// `HOST:PORT` at which KEDA reaches the operator.
    pub scaler_address: String,
}

/// An object to apply.
#[derive(Clone, Debug, PartialEq)]
pub struct Child {
    /// Its kind.
    pub kind: &'static Kind,
    /// Its name.
    pub name: String,
    /// The object, whole.
    pub object: Value,
}

/// All objects that a [`Reranker`] needs, in the order in which they are applied.
pub fn resources(reranker: &Reranker, around: &Surroundings) -> Vec<Child> {
    let mut children: Vec<Child> = [
        service::account(reranker),
        cache::claim(reranker),
        cache::data(reranker),
        route::certificate(reranker),
        cache::job(reranker),
        Some(service::service(reranker)),
        service::headless(reranker),
        network_policy::network_policy(reranker, around),
        disruption_budget::disruption_budget(reranker),
        Some(deployment::deployment(reranker)),
        autoscaler::hpa(reranker),
        autoscaler::scaled_object(reranker, around),
        monitor::monitor(reranker),
        route::ingress(reranker),
        route::http_route(reranker),
        route::grpc_route(reranker),
    ]
    .into_iter()
    .flatten()
    .collect();
    for child in &mut children {
        own(reranker, child);
    }
    children
}

/// Labels by which the Services and the Deployment find the pods; they never change.
pub fn selector(name: &str) -> Map<String, Value> {
    labels_of([
        ("app.kubernetes.io/name", "reranker"),
        ("app.kubernetes.io/instance", name),
        ("app.kubernetes.io/component", "server"),
    ])
}

/// The selector, as one string.
pub fn selector_text(name: &str) -> String {
    let labels = selector(name);
    let terms = labels.iter().filter_map(|(key, value)| Some(format!("{key}={}", value.as_str()?)));
    terms.collect::<Vec<_>>().join(",")
}

/// Labels by which the operator finds the children of an object.
pub fn ownership(name: &str) -> String {
    format!("app.kubernetes.io/managed-by={MANAGER},app.kubernetes.io/instance={name}")
}

fn labels_of<const N: usize>(labels: [(&str, &str); N]) -> Map<String, Value> {
    labels.into_iter().map(|(key, value)| (key.to_owned(), json!(value))).collect()
}

/// A child with a name and a body; `own` adds what all have.
fn child(kind: &'static Kind, name: impl Into<String>, body: Value) -> Child {
    Child { kind, name: name.into(), object: body }
}

fn own(reranker: &Reranker, child: &mut Child) {
    let object = &mut child.object;
    object["apiVersion"] = json!(child.kind.api_version());
    object["kind"] = json!(child.kind.kind);
    let metadata = &mut object["metadata"];
    metadata["name"] = json!(child.name);
    metadata["namespace"] = json!(reranker.namespace);
    let mut labels = selector(&reranker.name);
    labels.insert("app.kubernetes.io/managed-by".to_owned(), json!(MANAGER));
    labels.insert("app.kubernetes.io/part-of".to_owned(), json!("reranker"));
    match &mut metadata["labels"] {
        Value::Object(given) => {
            given.retain(|name, _| !labels.contains_key(name));
            given.append(&mut labels);
        }
        none => *none = Value::Object(labels),
    }
    if metadata.get("ownerReferences").is_none() {
        metadata["ownerReferences"] = json!([reranker.owner]);
    } else if metadata["ownerReferences"] == json!([]) {
        // Kept when the object goes.
        metadata.as_object_mut().expect("has labels").remove("ownerReferences");
    }
}

#[cfg(test)]
mod tests;
