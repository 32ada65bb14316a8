//! What the operator saw.

use super::schema;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What the operator saw of an object and its pods.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase", default)]
pub struct RerankerDeploymentStatus {
    /// Generation of the spec that this is about.
    pub observed_generation: i64,
    /// Pods that are not ending.
    pub replicas: i32,
    /// Pods that serve.
    pub ready_replicas: i32,
    /// Pods that run what the spec says now.
    pub updated_replicas: i32,
    /// Ready pods of those wanted, such as `2/3`.
    pub ready: String,
    /// Selector of the pods, for the scale subresource.
    pub selector: String,
    /// Address of the HTTP API inside the cluster.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub url: String,
    /// Target for gRPC clients inside the cluster.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub grpc_url: String,
    /// Version of the pod template in use.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub template_version: Option<i32>,
    /// What is served.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub models: Vec<ModelStatus>,
    /// What the autoscaler saw and did, in the modes `builtin` and `keda`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub autoscaling: Option<AutoscalingStatus>,
    /// `Available`, `Progressing`, `Degraded`, `ModelReady`, `Schedulable`, `ScalingActive` and `ScalingLimited`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::conditions")]
    pub conditions: Vec<Condition>,
}

/// A model that is served.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase", default)]
pub struct ModelStatus {
    /// Name that clients send.
    pub name: String,
    /// Where it comes from.
    pub source: String,
}

/// What the autoscaler saw and did.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase", default)]
pub struct AutoscalingStatus {
    /// Pods wanted.
    pub desired: i32,
    /// Work that waits in all pods, in milliseconds of one pod.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backlog_millis: Option<i64>,
    /// Mean share of the time that pods compute.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub busy_percent: Option<i32>,
    /// Median of the pods' measured rates.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokens_per_second: Option<i64>,
    /// Pods whose load was read.
    pub pods_sampled: i32,
    /// When the number last changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_scale_time: Option<Time>,
    /// Wishes of the last minutes, at most 10, from which a restarted operator goes on.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 10))]
    pub window: Vec<WindowEntry>,
    /// The last changes, at most 5.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 5))]
    pub history: Vec<Scaling>,
}

/// A wish.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq)]
pub struct WindowEntry {
    /// When.
    pub at: Time,
    /// Pods that the load asked for.
    pub replicas: i32,
}

/// A change of the number of pods.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq)]
pub struct Scaling {
    /// When.
    pub at: Time,
    /// Pods before.
    pub from: i32,
    /// Pods after.
    pub to: i32,
    /// The numbers behind it.
    pub reason: String,
}
