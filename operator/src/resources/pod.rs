//! The pod template, as a function of the spec and of the template's version only.
//!
//! A version never changes once it is released, because every pod would be replaced by an upgrade of the
//! operator: what has to change becomes another version, which an object uses when it is new or asks for it.

mod volumes;

use super::{labels_of, selector};
use crate::crd::{AcceleratorType, Model};
use crate::validate::Reranker;
use serde_json::{Map, Value, json};
use volumes::{mounts, volumes, without_server};

/// A version of the pod template.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TemplateVersion {
    /// The first.
    V1,
}

impl TemplateVersion {
    /// What new objects use.
    pub const LATEST: Self = Self::V1;

    /// The version of that number, if this operator has it.
    pub fn find(number: i32) -> Option<Self> {
        (number == 1).then_some(Self::V1)
    }

    /// Its number, as in spec and status.
    pub fn number(self) -> i32 {
        match self {
            Self::V1 => 1,
        }
    }
}

/// Runs without root and owns its volumes.
const USER: i64 = 65_532;

const CACHE: &str = "/cache";
const DATA: &str = "/data";
const KEYS: &str = "/etc/reranker/api-keys";
const TLS: &str = "/etc/reranker/tls";

/// The template of the Deployment's pods.
pub(super) fn template(reranker: &Reranker) -> Value {
    match reranker.template {
        TemplateVersion::V1 => v1(reranker),
    }
}

fn v1(reranker: &Reranker) -> Value {
    let settings = &reranker.spec.pod;
    let mut labels: Map<String, Value> =
        settings.labels.iter().map(|(name, value)| (name.clone(), json!(value))).collect();
    labels.extend(selector(&reranker.name));
    labels.extend(labels_of([("app.kubernetes.io/part-of", "reranker")]));
    let mut metadata = json!({"labels": labels});
    if !settings.annotations.is_empty() {
        metadata["annotations"] = json!(settings.annotations);
    }
    let mut spec = base(reranker);
    spec["containers"] = json!([container(reranker)]);
    spec["terminationGracePeriodSeconds"] = json!(reranker.grace_seconds);
    spec["topologySpreadConstraints"] = match &settings.topology_spread_constraints {
        Some(given) => json!(given),
        None => json!([{
            "maxSkew": 1,
            "topologyKey": "kubernetes.io/hostname",
            "whenUnsatisfiable": "ScheduleAnyway",
            "labelSelector": {"matchLabels": selector(&reranker.name)},
            "matchLabelKeys": ["pod-template-hash"],
        }]),
    };
    if !settings.init_containers.is_empty() {
        spec["initContainers"] = json!(settings.init_containers);
    }
    if !reranker.spec.resource_claims.is_empty() {
        spec["resourceClaims"] = json!(reranker.spec.resource_claims);
    }
    json!({"metadata": metadata, "spec": spec})
}

/// What the server's pods and those that fill the cache share.
fn base(reranker: &Reranker) -> Value {
    let settings = &reranker.spec.pod;
    let account = settings.service_account_name.as_ref().unwrap_or(&reranker.name);
    let mut spec = json!({
        "serviceAccountName": account,
        "automountServiceAccountToken": false,
        "enableServiceLinks": false,
        "securityContext": settings.security_context.clone().unwrap_or_else(|| json!({
            "runAsNonRoot": true,
            "runAsUser": USER,
            "runAsGroup": USER,
            "fsGroup": USER,
            "fsGroupChangePolicy": "OnRootMismatch",
            "seccompProfile": {"type": "RuntimeDefault"},
        })),
        "volumes": volumes(reranker),
    });
    if !reranker.spec.image.pull_secrets.is_empty() {
        let secrets = reranker.spec.image.pull_secrets.iter().map(|name| json!({"name": name}));
        spec["imagePullSecrets"] = secrets.collect();
    }
    if !settings.node_selector.is_empty() {
        spec["nodeSelector"] = json!(settings.node_selector);
    }
    if !settings.tolerations.is_empty() {
        spec["tolerations"] = json!(settings.tolerations);
    }
    let optional = [
        ("affinity", settings.affinity.clone()),
        ("runtimeClassName", settings.runtime_class_name.as_ref().map(|name| json!(name))),
        ("priorityClassName", settings.priority_class_name.as_ref().map(|name| json!(name))),
        ("schedulerName", settings.scheduler_name.as_ref().map(|name| json!(name))),
    ];
    for (field, value) in optional {
        if let Some(value) = value {
            spec[field] = value;
        }
    }
    spec
}

fn container(reranker: &Reranker) -> Value {
    let server = &reranker.spec.server;
    let scheme = if reranker.tls_secret().is_some() { "HTTPS" } else { "HTTP" };
    let probe = |path: &str, period: i32, failures: i32| {
        json!({
            "httpGet": {"path": path, "port": "admin", "scheme": scheme},
            "periodSeconds": period,
            "timeoutSeconds": 3,
            "failureThreshold": failures,
        })
    };
    let mut container = bare_container(reranker, "server", &serve_args(reranker));
    container["ports"] = json!([
        {"name": "grpc", "containerPort": server.grpc_port, "protocol": "TCP"},
        {"name": "http", "containerPort": server.http_port, "protocol": "TCP"},
        {"name": "admin", "containerPort": server.admin_port, "protocol": "TCP"},
    ]);
    // A download and a load may take half an hour, in which the process is alive and not ready.
    container["startupProbe"] = probe("/readyz", 5, 360);
    container["livenessProbe"] = probe("/livez", 10, 3);
    container["readinessProbe"] = probe("/readyz", 5, 2);
    if reranker.spec.drain.pre_stop_seconds > 0 {
        container["lifecycle"] =
            json!({"preStop": {"sleep": {"seconds": reranker.spec.drain.pre_stop_seconds}}});
    }
    let mut resources = reranker.spec.resources.clone();
    let accelerator = &reranker.spec.accelerator;
    if accelerator.kind == AcceleratorType::Nvidia && accelerator.count > 0 {
        resources["limits"][&accelerator.resource_name] = json!(accelerator.count.to_string());
    }
    if !reranker.spec.resource_claims.is_empty() && resources.get("claims").is_none() {
        let claims = reranker.spec.resource_claims.iter();
        resources["claims"] = claims.map(|claim| json!({"name": claim["name"]})).collect();
    }
    container["resources"] = resources;
    container
}

/// What both uses of the image share.
fn bare_container(reranker: &Reranker, name: &str, args: &[String]) -> Value {
    let settings = &reranker.spec.pod;
    let mut container = json!({
        "name": name,
        "image": reranker.image,
        "imagePullPolicy": reranker.spec.image.pull_policy.name(),
        "args": args,
        "env": environment(reranker),
        "volumeMounts": mounts(reranker),
        // The last lines of the log are the reason that status shows.
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "securityContext": {
            "allowPrivilegeEscalation": false,
            "readOnlyRootFilesystem": true,
            "capabilities": {"drop": ["ALL"]},
        },
    });
    if !settings.env_from.is_empty() {
        container["envFrom"] = json!(settings.env_from);
    }
    container
}

fn serve_args(reranker: &Reranker) -> Vec<String> {
    let server = &reranker.spec.server;
    let mut args = vec!["serve".to_owned()];
    let mut flag = |name: &str, value: String| args.extend([format!("--{name}"), value]);
    for (index, model) in reranker.spec.models.iter().enumerate() {
        flag("model", model_argument(index, model));
    }
    for model in &reranker.spec.models {
        for alias in &model.aliases {
            flag("alias", format!("{alias}={}", model.name));
        }
    }
    if reranker.spec.accelerator.kind == AcceleratorType::Cpu {
        flag("device", "cpu".to_owned());
    }
    flag("dtype", server.dtype.name().to_owned());
    if let Some(tokens) = server.max_batch_tokens {
        flag("max-batch-tokens", tokens.to_string());
    }
    flag("max-queue-seconds", (f64::from(server.max_queue_millis) / 1000.0).to_string());
    flag("grpc-listen", format!("0.0.0.0:{}", server.grpc_port));
    flag("http-listen", format!("0.0.0.0:{}", server.http_port));
    flag("admin-listen", format!("0.0.0.0:{}", server.admin_port));
    flag("max-connection-age-seconds", server.max_connection_age_seconds.to_string());
    flag("log-format", server.log_format.name().to_owned());
    flag("shutdown-grace-seconds", ((server.max_request_millis + 999) / 1000).to_string());
    if reranker.spec.collections.embedded.is_some() {
        flag("data-dir", DATA.to_owned());
    }
    if reranker.spec.auth.api_keys_secret_ref.is_some() {
        flag("api-keys-file", format!("{KEYS}/keys"));
    }
    if reranker.tls_secret().is_some() {
        flag("tls-cert", format!("{TLS}/tls.crt"));
        flag("tls-key", format!("{TLS}/tls.key"));
    }
    args.extend(server.extra_args.iter().cloned());
    args
}

/// What a model is to `--model`.
fn model_argument(index: usize, model: &Model) -> String {
    let name = &model.name;
    let source = &model.source;
    if let Some(hub) = &source.hub {
        format!("{name}=hf:{}@{}", hub.repo, hub.revision)
    } else if let Some(pvc) = &source.pvc {
        format!("{name}={}{}", model_folder(index), pvc.path.trim_end_matches('/'))
    } else if source.oci.is_some() {
        format!("{name}={}", model_folder(index))
    } else if let Some(path) = source.baked.as_ref().and_then(|baked| baked.path.as_ref()) {
        format!("{name}={path}")
    } else {
        name.clone()
    }
}

fn model_folder(index: usize) -> String {
    format!("/models/{index}")
}

fn environment(reranker: &Reranker) -> Value {
    let mut variables = Vec::new();
    if let Some(hub) = &reranker.hub {
        variables.push(json!({"name": "HF_HOME", "value": CACHE}));
        if let Some(endpoint) = &hub.endpoint {
            variables.push(json!({"name": "HF_ENDPOINT", "value": endpoint}));
        }
        if let Some(token) = &hub.token {
            variables.push(json!({"name": "HF_TOKEN", "valueFrom": {"secretKeyRef": token}}));
        }
    }
    variables.extend(reranker.spec.pod.env.iter().cloned());
    json!(variables)
}

/// The pod that downloads and checks the hub's models one after the other.
pub(super) fn fill_spec(reranker: &Reranker) -> Value {
    let models = reranker.spec.models.iter().enumerate();
    let mut containers: Vec<Value> = models
        .filter(|(_, model)| model.source.hub.is_some())
        .map(|(index, model)| {
            let model = model_argument(index, model);
            let args = ["verify", "--model", &model, "--device", "cpu"].map(str::to_owned);
            let mut container = bare_container(reranker, &format!("fill-{index}"), &args);
            without_server(&mut container["volumeMounts"]);
            container["resources"] = match reranker.spec.resources.clone() {
                Value::Object(mut given) => {
                    for list in ["requests", "limits"] {
                        if let Some(Value::Object(amounts)) = given.get_mut(list) {
                            amounts.retain(|name, _| !name.contains('/'));
                        }
                    }
                    given.remove("claims");
                    Value::Object(given)
                }
                other => other,
            };
            container
        })
        .collect();
    let last = containers.pop();
    let mut spec = base(reranker);
    without_server(&mut spec["volumes"]);
    spec["restartPolicy"] = json!("OnFailure");
    spec["initContainers"] = json!(containers);
    spec["containers"] = json!([last]);
    spec
}
