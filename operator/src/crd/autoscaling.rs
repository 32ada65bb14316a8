//! How the number of pods follows the load.

use super::{Opaque, schema};
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Who decides the number of pods.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum AutoscalingMode {
    /// The operator, which reads the pods' load itself and needs nothing else.
    #[default]
    Builtin,
    /// KEDA, which asks the operator for the load.
    Keda,
    /// A `HorizontalPodAutoscaler` with metrics of yours.
    Hpa,
    /// Whoever writes `replicas`.
    None,
}

/// How the number of pods follows the load.
#[derive(Serialize, Deserialize, KubeSchema, Clone, Debug, PartialEq)]
#[x_kube(
    validation = Rule::new("self.minReplicas <= self.maxReplicas")
        .message("autoscaling.minReplicas is over maxReplicas: lower the one or raise the other"),
    validation = Rule::new("self.minReplicas >= 1 || self.scaleToZero.enabled")
        .message("without pods nothing holds a request until one comes: set minReplicas to 1 or more, or see scaleToZero"),
    validation = Rule::new("!self.scaleToZero.enabled || (self.mode == 'keda' && has(self.keda) && has(self.keda.extraTriggers) && self.keda.extraTriggers.size() > 0)")
        .message("scaleToZero needs something that sees demand while there are no pods: set mode `keda` and a trigger of its own in keda.extraTriggers"),
    validation = Rule::new("(self.mode == 'hpa') == has(self.hpa)")
        .message("autoscaling.hpa goes with mode `hpa`: set both or neither"),
    validation = Rule::new("!has(self.keda) || self.mode == 'keda'")
        .message("autoscaling.keda goes with mode `keda`: set mode to `keda` or leave keda out"),
)]
#[serde(rename_all = "camelCase", default = "Autoscaling::default")]
pub struct Autoscaling {
    /// Who decides.
    pub mode: AutoscalingMode,
    /// Fewest pods.
    #[schemars(range(min = 0, max = 1000))]
    pub min_replicas: i32,
    /// Most pods.
    #[schemars(range(min = 1, max = 1000))]
    pub max_replicas: i32,
    /// Work, in milliseconds at the pod's measured rate, that may wait in each pod; more adds pods. Absent:
    /// 500 on a GPU, 30000 on the processor.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 3_600_000))]
    pub target_backlog_millis: Option<i32>,
    /// Share of the time, in percent, that each pod may compute; more adds pods, and it decides how far
    /// they are taken away.
    #[schemars(range(min = 1, max = 100))]
    pub target_busy_percent: i32,
    /// Seconds between two readings of the load.
    #[schemars(range(min = 1, max = 300))]
    pub sample_seconds: i32,
    /// How far, in percent, the load may be from what the pods are for before their number changes.
    #[schemars(range(min = 0, max = 50))]
    pub tolerance_percent: i32,
    /// Seconds after the first pod is ready without taking pods away; absent: 60.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 86_400))]
    pub initial_cooldown_seconds: Option<i32>,
    /// How fast the number may change, in the words of the `HorizontalPodAutoscaler`.
    pub behavior: Behavior,
    /// What the `HorizontalPodAutoscaler` scales on, for mode `hpa`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hpa: Option<HpaSettings>,
    /// Additions to the `ScaledObject`, for mode `keda`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keda: Option<KedaSettings>,
    /// Running no pods while there is no demand.
    pub scale_to_zero: ScaleToZero,
}

impl Default for Autoscaling {
    fn default() -> Self {
        Self {
            mode: AutoscalingMode::default(),
            min_replicas: 1,
            max_replicas: 4,
            target_backlog_millis: None,
            target_busy_percent: 80,
            sample_seconds: 5,
            tolerance_percent: 10,
            initial_cooldown_seconds: None,
            behavior: Behavior::default(),
            hpa: None,
            keda: None,
            scale_to_zero: ScaleToZero::default(),
        }
    }
}

/// How fast the number of pods may change.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase", default)]
pub struct Behavior {
    /// Upwards.
    #[schemars(schema_with = "up_schema")]
    pub scale_up: ScalingRules,
    /// Downwards.
    #[schemars(schema_with = "down_schema")]
    pub scale_down: ScalingRules,
}

impl Default for Behavior {
    fn default() -> Self {
        Self { scale_up: scale_up(), scale_down: scale_down() }
    }
}

/// The rules of one direction.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct ScalingRules {
    /// Seconds whose safest wish counts: the lowest upwards, the highest downwards.
    #[schemars(range(min = 0, max = 3600))]
    pub stabilization_window_seconds: i32,
    /// Which of the policies counts.
    pub select_policy: SelectPolicy,
    /// How much may change in how much time, at most 8.
    #[schemars(length(min = 1, max = 8))]
    pub policies: Vec<ScalingPolicy>,
}

/// Which of several policies counts.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq)]
pub enum SelectPolicy {
    /// The one that allows most.
    Max,
    /// The one that allows least.
    Min,
    /// None: no change in this direction.
    Disabled,
}

/// How much may change in how much time.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct ScalingPolicy {
    /// What `value` counts.
    #[serde(rename = "type")]
    pub kind: PolicyType,
    /// Most that may change.
    #[schemars(range(min = 1, max = 1000))]
    pub value: i32,
    /// In so many seconds.
    #[schemars(range(min = 1, max = 1800))]
    pub period_seconds: i32,
}

/// What a policy counts.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq)]
pub enum PolicyType {
    /// Pods.
    Pods,
    /// Percent of the pods at the start of the period.
    Percent,
}

fn scale_up() -> ScalingRules {
    let policy = |kind, value| ScalingPolicy { kind, value, period_seconds: 30 };
    ScalingRules {
        stabilization_window_seconds: 15,
        select_policy: SelectPolicy::Max,
        policies: vec![policy(PolicyType::Pods, 2), policy(PolicyType::Percent, 50)],
    }
}

fn scale_down() -> ScalingRules {
    ScalingRules {
        stabilization_window_seconds: 300,
        select_policy: SelectPolicy::Max,
        policies: vec![ScalingPolicy { kind: PolicyType::Pods, value: 1, period_seconds: 60 }],
    }
}

fn up_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
    rules_schema(generator, &scale_up())
}

fn down_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
    rules_schema(generator, &scale_down())
}

/// The schema of rules whose fields default to those of `rules`: the two directions differ in that.
fn rules_schema(
    generator: &mut schemars::SchemaGenerator,
    rules: &ScalingRules,
) -> schemars::Schema {
    let mut schema = ScalingRules::json_schema(generator);
    let defaults = serde_json::to_value(rules).expect("is JSON");
    if let Some(properties) = schema.get_mut("properties").and_then(|it| it.as_object_mut()) {
        for (name, property) in properties {
            if let Some(property) = property.as_object_mut() {
                property.insert("default".to_owned(), defaults[name].clone());
            }
        }
    }
    schema.remove("required");
    schema
}

/// What a `HorizontalPodAutoscaler` scales on.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq)]
pub struct HpaSettings {
    /// Metrics as in `autoscaling/v2`, 1 to 8; an adapter in the cluster must serve them.
    #[schemars(schema_with = "schema::opaque_list::<8>")]
    pub metrics: Vec<Opaque>,
}

/// Additions to the `ScaledObject`.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase", default)]
pub struct KedaSettings {
    /// More triggers, at most 8; with scaleToZero at least one that sees demand while there are no pods.
    #[schemars(schema_with = "schema::opaque_list::<8>")]
    pub extra_triggers: Vec<Opaque>,
}

/// Running no pods while there is no demand.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase", default)]
pub struct ScaleToZero {
    /// Whether to.
    pub enabled: bool,
    /// Seconds without demand before the last pod goes.
    #[schemars(range(min = 1, max = 86_400))]
    pub idle_seconds: i32,
}

impl Default for ScaleToZero {
    fn default() -> Self {
        Self { enabled: false, idle_seconds: 900 }
    }
}
