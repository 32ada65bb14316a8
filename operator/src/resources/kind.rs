//! The kinds of children: what is applied, watched, pruned, and what the operator may do.

/// A kind of child.
#[derive(Debug, PartialEq, Eq)]
pub struct Kind {
    /// API group, empty for the core one.
    pub group: &'static str,
    /// Version.
    pub version: &'static str,
    /// Name of the kind.
    pub kind: &'static str,
    /// Its resource in paths.
    pub plural: &'static str,
    /// Whether every cluster serves it; the others come with something that may be missing.
    pub builtin: bool,
}

impl Kind {
    /// `GROUP/VERSION`, or only the version.
    pub fn api_version(&self) -> String {
        if self.group.is_empty() {
            self.version.to_owned()
        } else {
            format!("{}/{}", self.group, self.version)
        }
    }
}

macro_rules! kinds {
    ($($name:ident = $group:literal $version:literal $kind:literal $plural:literal $builtin:literal;)*) => {
        $(
            #[doc = concat!("`", $kind, "`.")]
            pub(crate) static $name: Kind = Kind {
                group: $group,
                version: $version,
                kind: $kind,
                plural: $plural,
                builtin: $builtin,
            };
        )*
        /// All kinds.
        pub static KINDS: &[&Kind] = &[$(&$name),*];
    };
}

kinds! {
    SERVICE_ACCOUNT = "" "v1" "ServiceAccount" "serviceaccounts" true;
    CLAIM = "" "v1" "PersistentVolumeClaim" "persistentvolumeclaims" true;
    SERVICE = "" "v1" "Service" "services" true;
    JOB = "batch" "v1" "Job" "jobs" true;
    DEPLOYMENT = "apps" "v1" "Deployment" "deployments" true;
    DISRUPTION_BUDGET = "policy" "v1" "PodDisruptionBudget" "poddisruptionbudgets" true;
    NETWORK_POLICY = "networking.k8s.io" "v1" "NetworkPolicy" "networkpolicies" true;
    INGRESS = "networking.k8s.io" "v1" "Ingress" "ingresses" true;
    HPA = "autoscaling" "v2" "HorizontalPodAutoscaler" "horizontalpodautoscalers" true;
    SCALED_OBJECT = "keda.sh" "v1alpha1" "ScaledObject" "scaledobjects" false;
    SERVICE_MONITOR = "monitoring.coreos.com" "v1" "ServiceMonitor" "servicemonitors" false;
    POD_MONITOR = "monitoring.coreos.com" "v1" "PodMonitor" "podmonitors" false;
    HTTP_ROUTE = "gateway.networking.k8s.io" "v1" "HTTPRoute" "httproutes" false;
    GRPC_ROUTE = "gateway.networking.k8s.io" "v1" "GRPCRoute" "grpcroutes" false;
    CERTIFICATE = "cert-manager.io" "v1" "Certificate" "certificates" false;
}
