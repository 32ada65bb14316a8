//! How clients reach the pods, and which may.

use super::{Opaque, schema};
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Type of the Service.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ServiceType {
    /// An address inside the cluster.
    #[default]
    ClusterIP,
    /// And a port on every node.
    NodePort,
    /// And a load balancer.
    LoadBalancer,
}

impl ServiceType {
    /// As Services spell it.
    pub fn name(self) -> &'static str {
        match self {
            Self::ClusterIP => "ClusterIP",
            Self::NodePort => "NodePort",
            Self::LoadBalancer => "LoadBalancer",
        }
    }
}

/// The Services in front of the pods.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase", default)]
pub struct ServiceSettings {
    /// Type of the Service that carries the object's name.
    #[serde(rename = "type")]
    pub kind: ServiceType,
    /// Whether there is a second one, `NAME-headless`, whose name gives the addresses of all ready pods: for
    /// gRPC clients that balance by themselves (`dns:///NAME-headless.NAMESPACE:50051`, `round_robin`).
    pub headless: bool,
    /// Annotations of both.
    #[schemars(schema_with = "schema::string_map")]
    pub annotations: BTreeMap<String, String>,
}

impl Default for ServiceSettings {
    fn default() -> Self {
        Self { kind: ServiceType::default(), headless: true, annotations: BTreeMap::new() }
    }
}

/// Ways into the cluster from outside.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase", default)]
pub struct Route {
    /// Spec of an Ingress, as in `networking.k8s.io/v1`; a backend without a service gets the object's HTTP
    /// port.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::opaque")]
    pub ingress: Option<Opaque>,
    /// An `HTTPRoute` of the Gateway API to the HTTP port.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http_route: Option<GatewayRoute>,
    /// A `GRPCRoute` of the Gateway API to the gRPC port.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grpc_route: Option<GatewayRoute>,
}

/// A route of the Gateway API.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct GatewayRoute {
    /// Gateways, as in the Gateway API.
    #[schemars(schema_with = "schema::opaque_list::<8>")]
    pub parent_refs: Vec<Opaque>,
    /// Host names; none: all of the gateway's.
    #[serde(default)]
    #[schemars(schema_with = "schema::names")]
    pub hostnames: Vec<String>,
}

/// What tells Prometheus to scrape.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub enum MonitorKind {
    /// Nothing.
    #[default]
    None,
    /// A `ServiceMonitor`, through the headless Service.
    ServiceMonitor,
    /// A `PodMonitor`.
    PodMonitor,
}

/// Scraping by the Prometheus operator.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase", default)]
pub struct MetricsMonitor {
    /// What tells it to.
    pub kind: MonitorKind,
    /// Time between two readings.
    #[schemars(length(max = 16), regex(pattern = "^([0-9]+(ms|s|m|h))+$"))]
    pub interval: String,
    /// Labels by which Prometheus selects it.
    #[schemars(schema_with = "schema::string_map")]
    pub labels: BTreeMap<String, String>,
}

impl Default for MetricsMonitor {
    fn default() -> Self {
        Self { kind: MonitorKind::default(), interval: "15s".to_owned(), labels: BTreeMap::new() }
    }
}

/// Who may reach the pods.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase", default)]
pub struct NetworkPolicySettings {
    /// Whether there is a `NetworkPolicy`.
    pub enabled: bool,
    /// Peers that may reach the gRPC and HTTP ports, as in a `NetworkPolicy`, at most 16; absent: all.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::opaque_list::<16>")]
    pub from: Option<Vec<Opaque>>,
    /// Peers beside the operator that may reach the admin port, at most 16, such as Prometheus. Absent: all if
    /// monitoring.kind is set, else none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::opaque_list::<16>")]
    pub monitoring_from: Option<Vec<Opaque>>,
}

impl Default for NetworkPolicySettings {
    fn default() -> Self {
        Self { enabled: true, from: None, monitoring_from: None }
    }
}

/// Who may call.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase", default)]
pub struct Auth {
    /// Secret whose key `keys` is the server's file of API keys; absent: everybody may call. A change is
    /// read without a restart.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub api_keys_secret_ref: Option<String>,
}

/// TLS on all listeners.
#[derive(Serialize, Deserialize, KubeSchema, Clone, Debug, PartialEq)]
#[x_kube(
    validation = Rule::new("has(self.secretName) != has(self.issuerRef)")
        .message("tls needs a secretName or an issuerRef, not both"),
)]
#[serde(rename_all = "camelCase")]
pub struct Tls {
    /// Secret of type `kubernetes.io/tls`. A change is read without a restart.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub secret_name: Option<String>,
    /// Issuer of cert-manager that signs a certificate for the Services' names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub issuer_ref: Option<IssuerRef>,
}

/// An issuer of cert-manager.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq)]
pub struct IssuerRef {
    /// Its name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// `Issuer` or `ClusterIssuer`.
    #[schemars(schema_with = "issuer_kind")]
    pub kind: String,
}

fn issuer_kind(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({"type": "string", "enum": ["Issuer", "ClusterIssuer"]})
}
