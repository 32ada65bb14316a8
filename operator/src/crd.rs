//! `RerankerDeployment`, version `v1alpha1` of the group `reranker.dev`.
//!
//! The documentation of a field is what `kubectl explain` shows. What a spec can get wrong by itself is refused
//! by CEL rules here, so that the API server says so at once; what needs more than CEL is `validate`'s. Objects
//! that only Kubernetes understands pass through as they are ([`Opaque`]): a typed copy of them would make the
//! schema huge and tie it to one version.

#![expect(unreachable_pub, reason = "`KubeSchema` copies each type into a function")]

mod autoscaling;
#[cfg(test)]
mod cases;
mod model;
mod network;
mod pod;
mod rollout;
mod schema;
mod status;
#[cfg(test)]
mod tests;

pub use autoscaling::{
    Autoscaling, AutoscalingMode, Behavior, HpaSettings, KedaSettings, PolicyType, ScaleToZero,
    ScalingPolicy, ScalingRules, SelectPolicy,
};
pub use model::{
    Baked, Cache, CacheFill, CacheType, Hub, Image, Model, Oci, OwnClaim, PullPolicy, Pvc,
    SecretKey, Source,
};
pub use network::{
    Auth, GatewayRoute, IssuerRef, MetricsMonitor, MonitorKind, NetworkPolicySettings, Route,
    ServiceSettings, ServiceType, Tls,
};
pub use pod::{
    Accelerator, AcceleratorType, Collections, Dtype, EmbeddedStore, LogFormat, PodSettings,
    ServerSettings, StoreKind,
};
pub use rollout::{Disruption, Drain, Rollout, Strategy};
pub use schema::{definition, yaml};
pub use status::{AutoscalingStatus, ModelStatus, RerankerDeploymentStatus, Scaling, WindowEntry};

use kube::{CustomResource, KubeSchema};
use schema::opaque_list;
use serde::{Deserialize, Serialize};

/// A value whose meaning belongs to Kubernetes, passed through unchanged.
pub type Opaque = serde_json::Value;

/// What a `RerankerDeployment` asks for.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[kube(
    group = "reranker.dev",
    version = "v1alpha1",
    kind = "RerankerDeployment",
    plural = "rerankerdeployments",
    singular = "rerankerdeployment",
    shortname = "rrd",
    category = "reranker",
    namespaced,
    cel,
    derive = "PartialEq",
    doc = "RerankerDeployment keeps servers of reranking models running on a cluster, scaled to their load.",
    status = "RerankerDeploymentStatus",
    scale(
        spec_replicas_path = ".spec.replicas",
        status_replicas_path = ".status.replicas",
        label_selector_path = ".status.selector"
    ),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.ready", description = "ready replicas of all"),
    printcolumn(name = "Desired", type_ = "integer", json_path = ".spec.replicas", description = "replicas asked for"),
    printcolumn(name = "Model", type_ = "string", json_path = ".spec.models[0].name", description = "the default model"),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Available\")].reason",
        description = "why it is available, or why not"
    ),
    printcolumn(name = "URL", type_ = "string", json_path = ".status.url", priority = 1, description = "address of the HTTP API"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    validation = Rule::new("self.metadata.name.matches('^[a-z]([-a-z0-9]{0,38}[a-z0-9])?$')")
        .message("metadata.name becomes the name of Services: use at most 40 lower case letters, digits and dashes, a letter first and no dash last"),
)]
#[x_kube(
    validation = Rule::new("self.collections.store != 'embedded' || ((!has(self.replicas) || self.replicas <= 1) && (self.autoscaling.mode == 'none' || self.autoscaling.maxReplicas <= 1))")
        .message("collections.store `embedded` belongs to one pod: set replicas and autoscaling.maxReplicas to 1"),
    validation = Rule::new("self.collections.store != 'embedded' || self.rollout.strategy in ['auto', 'recreate']")
        .message("collections.store `embedded` must not be open in two pods: set rollout.strategy to `auto` or `recreate`"),
    validation = Rule::new("self.cache.type != 'none' || !self.models.exists(m, has(m.source.hub))")
        .message("a model from the hub needs a place for its files: set cache.type to `emptyDir` or `pvc`"),
    validation = Rule::new("self.monitoring.kind != 'serviceMonitor' || self.service.headless")
        .message("a ServiceMonitor scrapes through the headless Service: set service.headless, or monitoring.kind to `podMonitor`"),
)]
#[serde(rename_all = "camelCase")]
pub struct RerankerDeploymentSpec {
    /// Number of pods wanted. Written by whoever scales: the operator in `autoscaling.mode: builtin`, KEDA or
    /// the `HorizontalPodAutoscaler` in theirs, people in `none`. Leave it out unless the mode is `none`, where
    /// absent means 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1000))]
    pub replicas: Option<i32>,

    /// Stops reconciling: nothing but status is written until this is false again.
    #[serde(default)]
    pub paused: bool,

    /// Runs no pods and keeps everything else: claims, Services, policies.
    #[serde(default)]
    pub stopped: bool,

    /// Image of the server.
    pub image: Image,

    /// Models to serve, 1 to 8. The first answers requests that name none.
    #[schemars(length(min = 1, max = 8))]
    #[x_kube(
        validation = Rule::new("self.all(m, self.exists_one(n, n.name == m.name))")
            .message("each model needs a name of its own")
    )]
    pub models: Vec<Model>,

    /// Where downloaded model files are kept.
    #[serde(default)]
    pub cache: Cache,

    /// The device that each pod computes on.
    #[serde(default)]
    pub accelerator: Accelerator,

    /// Requests and limits of the server's container, as in a pod: CPU and memory; the accelerator is added.
    #[serde(default = "schema::empty")]
    #[schemars(schema_with = "schema::opaque")]
    pub resources: Opaque,

    /// Claims of dynamic resource allocation for the pod, as in `pod.spec.resourceClaims`, passed through. With
    /// claims, set accelerator.count to 0.
    #[serde(default)]
    #[schemars(schema_with = "opaque_list::<4>")]
    pub resource_claims: Vec<Opaque>,

    /// What to add to the pods.
    #[serde(default)]
    pub pod: PodSettings,

    /// Settings of the server.
    #[serde(default)]
    pub server: ServerSettings,

    /// Where collections of documents are kept, if the pods serve any.
    #[serde(default)]
    #[x_kube(
        validation = Rule::new("oldSelf.store == 'none' || self.store == oldSelf.store")
            .message("collections.store cannot change, because its documents would be lost: make a new object and copy them")
    )]
    pub collections: Collections,

    /// How the number of pods follows the load.
    #[serde(default)]
    pub autoscaling: Autoscaling,

    /// How pods are replaced when what they run changes.
    #[serde(default)]
    pub rollout: Rollout,

    /// How a pod ends without losing a request.
    #[serde(default)]
    pub drain: Drain,

    /// How many pods the cluster may evict at once.
    #[serde(default)]
    pub disruption: Disruption,

    /// The Services in front of the pods.
    #[serde(default)]
    pub service: ServiceSettings,

    /// Ways into the cluster from outside.
    #[serde(default)]
    pub route: Route,

    /// Scraping by the Prometheus operator.
    #[serde(default)]
    pub monitoring: MetricsMonitor,

    /// Who may reach the pods.
    #[serde(default)]
    pub network_policy: NetworkPolicySettings,

    /// Who may call.
    #[serde(default)]
    pub auth: Auth,

    /// TLS on all listeners; absent: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<Tls>,
}
