//! What a pod is: device, additions, the server's settings and its store.

use super::{Opaque, schema};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Kind of device.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum AcceleratorType {
    /// A GPU of NVIDIA, or a part of one.
    #[default]
    Nvidia,
    /// None: the processor computes.
    Cpu,
}

/// The device that each pod computes on.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase", default)]
pub struct Accelerator {
    /// Kind of device.
    #[serde(rename = "type")]
    pub kind: AcceleratorType,
    /// Resource that the device plugin advertises: `nvidia.com/gpu`, or a slice such as
    /// `nvidia.com/mig-1g.10gb`. Not used for `cpu`.
    #[schemars(length(min = 3, max = 253), regex(pattern = "^[a-z0-9.-]+/[A-Za-z0-9._-]+$"))]
    pub resource_name: String,
    /// How many each pod gets; 0 with resourceClaims. Not used for `cpu`.
    #[schemars(range(min = 0, max = 16))]
    pub count: i32,
}

impl Default for Accelerator {
    fn default() -> Self {
        Self {
            kind: AcceleratorType::default(),
            resource_name: "nvidia.com/gpu".to_owned(),
            count: 1,
        }
    }
}

/// What to add to the pods; each field as in a pod.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase", default)]
pub struct PodSettings {
    /// Labels beside the operator's own, which win.
    #[schemars(schema_with = "schema::string_map")]
    pub labels: BTreeMap<String, String>,
    /// Annotations.
    #[schemars(schema_with = "schema::string_map")]
    pub annotations: BTreeMap<String, String>,
    /// Labels that a node must have.
    #[schemars(schema_with = "schema::string_map")]
    pub node_selector: BTreeMap<String, String>,
    /// Taints that the pods stand.
    #[schemars(schema_with = "schema::opaque_list::<16>")]
    pub tolerations: Vec<Opaque>,
    /// Rules of placement.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::opaque")]
    pub affinity: Option<Opaque>,
    /// How pods spread; absent: over nodes, as far as possible.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::opaque_list::<8>")]
    pub topology_spread_constraints: Option<Vec<Opaque>>,
    /// Runtime class, such as `nvidia`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub runtime_class_name: Option<String>,
    /// Priority class.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub priority_class_name: Option<String>,
    /// Another scheduler.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub scheduler_name: Option<String>,
    /// An existing `ServiceAccount`; absent: the operator makes one without rights.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub service_account_name: Option<String>,
    /// Security context of the pod; absent: user 65532, no root, seccomp `RuntimeDefault`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::opaque")]
    pub security_context: Option<Opaque>,
    /// Environment variables of the server's container; the operator's own win.
    #[schemars(schema_with = "schema::opaque_list::<64>")]
    pub env: Vec<Opaque>,
    /// Sources of more environment variables.
    #[schemars(schema_with = "schema::opaque_list::<16>")]
    pub env_from: Vec<Opaque>,
    /// More volumes.
    #[schemars(schema_with = "schema::opaque_list::<16>")]
    pub volumes: Vec<Opaque>,
    /// Where the server's container mounts them.
    #[schemars(schema_with = "schema::opaque_list::<16>")]
    pub volume_mounts: Vec<Opaque>,
    /// Containers that run before the server.
    #[schemars(schema_with = "schema::opaque_list::<8>")]
    pub init_containers: Vec<Opaque>,
}

/// Type of the weights in memory.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Dtype {
    /// As in the file.
    #[default]
    Auto,
    /// 32 bits.
    F32,
    /// 16 bits, of the range of 32.
    Bf16,
}

impl Dtype {
    /// As the server's flag spells it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
        }
    }
}

/// How the server writes its log.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// One JSON object a line.
    #[default]
    Json,
    /// Lines for people.
    Text,
}

impl LogFormat {
    /// As the server's flag spells it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::Text => "text",
        }
    }
}

/// Settings of the server.
#[derive(Serialize, Deserialize, KubeSchema, Clone, Debug, PartialEq)]
#[x_kube(
    validation = Rule::new("self.grpcPort != self.httpPort && self.grpcPort != self.adminPort && self.httpPort != self.adminPort")
        .message("the three listeners need three ports: change grpcPort, httpPort or adminPort"),
)]
#[serde(rename_all = "camelCase", default = "ServerSettings::default")]
pub struct ServerSettings {
    /// Port of gRPC.
    #[schemars(range(min = 1024, max = 65535))]
    pub grpc_port: i32,
    /// Port of the HTTP API.
    #[schemars(range(min = 1024, max = 65535))]
    pub http_port: i32,
    /// Port of probes, /metrics and /load.
    #[schemars(range(min = 1024, max = 65535))]
    pub admin_port: i32,
    /// Type of the weights in memory.
    pub dtype: Dtype,
    /// Most tokens in one run of the model; absent: found at start.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 32768))]
    pub max_batch_tokens: Option<i32>,
    /// Longest time, in milliseconds, that a request may be expected to wait; over it it is refused.
    #[schemars(range(min = 1, max = 3_600_000))]
    pub max_queue_millis: i32,
    /// Time, in milliseconds, that a request in flight has to finish when its pod ends.
    #[schemars(range(min = 1000, max = 3_600_000))]
    pub max_request_millis: i32,
    /// Age, in seconds, at which a connection is told to go, so that clients spread over new pods; 0: never.
    #[schemars(range(min = 0, max = 86_400))]
    pub max_connection_age_seconds: i32,
    /// How the log is written.
    pub log_format: LogFormat,
    /// More flags of `reranker serve`, at most 32; they come last.
    #[schemars(schema_with = "schema::strings::<32, 4096>")]
    pub extra_args: Vec<String>,
}

impl Default for ServerSettings {
    fn default() -> Self {
        Self {
            grpc_port: 50051,
            http_port: 8080,
            admin_port: 9090,
            dtype: Dtype::default(),
            max_batch_tokens: None,
            max_queue_millis: 10_000,
            max_request_millis: 120_000,
            max_connection_age_seconds: 300,
            log_format: LogFormat::default(),
            extra_args: Vec::new(),
        }
    }
}

/// What keeps collections.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum StoreKind {
    /// Nothing: the collections' calls answer 404.
    #[default]
    None,
    /// A volume of one pod.
    Embedded,
}

/// Where collections of documents are kept.
#[derive(Serialize, Deserialize, KubeSchema, Clone, Debug, Default, PartialEq)]
#[x_kube(
    validation = Rule::new("(self.store == 'embedded') == has(self.embedded)")
        .message("collections.embedded goes with store `embedded`: set both or neither"),
)]
#[serde(rename_all = "camelCase", default = "Collections::default")]
pub struct Collections {
    /// What keeps them.
    pub store: StoreKind,
    /// The volume, for store `embedded`. It outlives the object only if its claim is retained by the storage
    /// class.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub embedded: Option<EmbeddedStore>,
}

/// The volume of the embedded store.
#[derive(Serialize, Deserialize, KubeSchema, Clone, Debug, PartialEq)]
#[x_kube(
    validation = Rule::new("quantity(string(self.size)).compareTo(quantity(string(oldSelf.size))) >= 0")
        .message("a volume cannot shrink: keep size or raise it"),
    validation = Rule::new("has(self.storageClassName) == has(oldSelf.storageClassName) && (!has(self.storageClassName) || self.storageClassName == oldSelf.storageClassName)")
        .message("storageClassName of a volume cannot change: make a new object and copy the documents"),
)]
#[serde(rename_all = "camelCase", default = "EmbeddedStore::default")]
pub struct EmbeddedStore {
    /// Its size; it may grow where the storage class allows that.
    #[schemars(schema_with = "schema::quantity")]
    pub size: Quantity,
    /// Storage class; absent: the cluster's default.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub storage_class_name: Option<String>,
}

impl Default for EmbeddedStore {
    fn default() -> Self {
        Self { size: Quantity("10Gi".to_owned()), storage_class_name: None }
    }
}
