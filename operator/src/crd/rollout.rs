//! How pods are replaced, end, and may be evicted.

use super::schema;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// In which order pods are replaced.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub enum Strategy {
    /// `recreate` for the embedded store, `inPlace` if pods ask for devices, else `surge`.
    #[default]
    Auto,
    /// A new pod first: needs a free device.
    Surge,
    /// An old pod ends first: needs no free device; with one replica there is a gap of one start.
    InPlace,
    /// All old pods end first.
    Recreate,
}

/// How pods are replaced when what they run changes.
#[derive(Serialize, Deserialize, KubeSchema, Clone, Debug, PartialEq)]
#[x_kube(
    validation = Rule::new("!(has(self.maxSurge) && has(self.maxUnavailable) && string(self.maxSurge) in ['0', '0%'] && string(self.maxUnavailable) in ['0', '0%'])")
        .message("with maxSurge and maxUnavailable both 0 no pod could be replaced: raise one"),
    validation = Rule::new("self.strategy in ['surge', 'inPlace'] || (!has(self.maxSurge) && !has(self.maxUnavailable))")
        .message("maxSurge and maxUnavailable go with strategy `surge` or `inPlace`: name one of these or leave them out"),
)]
#[serde(rename_all = "camelCase", default = "Rollout::default")]
pub struct Rollout {
    /// In which order.
    pub strategy: Strategy,
    /// Pods above the number wanted while replacing, a number or a share such as `25%`; absent: 1 for
    /// `surge`, 0 for `inPlace`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::pods_or_percent")]
    pub max_surge: Option<IntOrString>,
    /// Pods below the number wanted while replacing; absent: 0 for `surge`, 1 for `inPlace`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::pods_or_percent")]
    pub max_unavailable: Option<IntOrString>,
    /// Seconds without progress before the condition Progressing is False.
    #[schemars(range(min = 60, max = 86_400))]
    pub progress_deadline_seconds: i32,
    /// Seconds that a new pod must be ready before it counts.
    #[schemars(range(min = 0, max = 3600))]
    pub min_ready_seconds: i32,
    /// Version of the operator's pod template to use. Absent: the one in status, or the newest for a new
    /// object; so an upgrade of the operator replaces no pod until this asks for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub template_version: Option<i32>,
}

impl Default for Rollout {
    fn default() -> Self {
        Self {
            strategy: Strategy::default(),
            max_surge: None,
            max_unavailable: None,
            progress_deadline_seconds: 1800,
            min_ready_seconds: 0,
            template_version: None,
        }
    }
}

/// How a pod ends without losing a request.
#[derive(Serialize, Deserialize, KubeSchema, Clone, Debug, PartialEq)]
#[x_kube(
    validation = Rule::new("!has(self.gracePeriodSeconds) || self.gracePeriodSeconds > self.preStopSeconds")
        .message("drain.gracePeriodSeconds includes preStopSeconds: raise it over that"),
)]
#[serde(rename_all = "camelCase", default = "Drain::default")]
pub struct Drain {
    /// Seconds between a pod's leaving the Services and the signal to end, in which clients and proxies
    /// learn of it.
    #[schemars(range(min = 0, max = 300))]
    pub pre_stop_seconds: i32,
    /// Seconds until a pod is killed; absent: preStopSeconds + server.maxRequestMillis + 10 s.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 7200))]
    pub grace_period_seconds: Option<i32>,
}

impl Default for Drain {
    fn default() -> Self {
        Self { pre_stop_seconds: 15, grace_period_seconds: None }
    }
}

/// How many pods the cluster may evict at once.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase", default)]
pub struct Disruption {
    /// Whether there is a `PodDisruptionBudget`.
    pub enabled: bool,
    /// Pods that may be away at once, a number or a share such as `25%`.
    #[schemars(schema_with = "schema::pods_or_percent")]
    pub max_unavailable: IntOrString,
}

impl Default for Disruption {
    fn default() -> Self {
        Self { enabled: true, max_unavailable: IntOrString::Int(1) }
    }
}
