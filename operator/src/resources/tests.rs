//! Whole children of minimal specs, against golden/: a difference that nobody meant replaces every pod of every
//! cluster at the next upgrade. `make generate` writes them anew.

use super::*;
use crate::crd::RerankerDeployment;
use crate::validate::validate;
use std::fmt::Write as _;
use std::path::Path;

/// A name, and the spec beside a minimal image and model.
const CASES: &[(&str, &str)] = &[
    ("minimal", ""),
    (
        "gpu-from-hub",
        r#"
replicas: 3
models:
- name: zerank-1-small
  aliases: [zerank-1]
  source:
    hub: {repo: zeroentropy/zerank-1-small, revision: a65fd51, endpoint: "https://mirror.example.com", tokenSecretRef: {name: hub, key: token}}
cache: {type: pvc, fill: job, pvc: {size: 20Gi, accessMode: ReadOnlyMany, retain: true}}
accelerator: {resourceName: nvidia.com/mig-1g.10gb}
resources: {requests: {cpu: "2", memory: 4Gi}}
auth: {apiKeysSecretRef: keys}
tls: {issuerRef: {name: ca, kind: ClusterIssuer}}
autoscaling: {mode: keda, keda: {extraTriggers: [{type: cron, metadata: {desiredReplicas: "2"}}]}}
monitoring: {kind: serviceMonitor, labels: {release: prometheus}}
"#,
    ),
    (
        "two-models-on-cpu",
        r"
models:
- {name: own, source: {pvc: {claimName: models, path: /own/v2}}}
- {name: other, source: {oci: {image: registry.example.com/other@sha256:00}}}
accelerator: {type: cpu}
server: {dtype: f32, maxBatchTokens: 4096, maxQueueMillis: 2500, extraArgs: [--special-tokens, parse]}
autoscaling: {mode: hpa, hpa: {metrics: [{type: Pods}]}}
disruption: {enabled: false}
networkPolicy: {from: [{podSelector: {}}], monitoringFrom: [{podSelector: {matchLabels: {app: prometheus}}}]}
route:
  ingress: {rules: [{host: rerank.example.com}]}
  httpRoute: {parentRefs: [{name: gateway}], hostnames: [rerank.example.com]}
  grpcRoute: {parentRefs: [{name: gateway}]}
monitoring: {kind: podMonitor}
pod:
  labels: {team: search, app.kubernetes.io/name: mine}
  nodeSelector: {disk: fast}
  env: [{name: RUST_LOG, value: debug}]
  volumes: [{name: ca, configMap: {name: ca}}]
  volumeMounts: [{name: ca, mountPath: /etc/ca}]
  initContainers: [{name: wait, image: registry.example.com/wait}]
",
    ),
    (
        "collections",
        r"
collections: {store: embedded, embedded: {size: 50Gi, storageClassName: fast}}
accelerator: {count: 0}
resourceClaims: [{name: gpu, resourceClaimTemplateName: gpu}]
autoscaling: {mode: none}
drain: {preStopSeconds: 0, gracePeriodSeconds: 40}
stopped: true
",
    ),
];

fn around() -> Surroundings {
    Surroundings {
        operator_namespace: "reranker-system".to_owned(),
        scaler_address: "reranker-operator.reranker-system:9443".to_owned(),
    }
}

fn object(spec: &str) -> RerankerDeployment {
    let spec: Value = serde_saphyr::from_str(spec).expect("is YAML");
    let mut whole = json!({
        "apiVersion": "reranker.dev/v1alpha1",
        "kind": "RerankerDeployment",
        "metadata": {"name": "small", "namespace": "search", "uid": "uid-of-small"},
        "spec": {
            "image": {"repository": "registry.example.com/reranker", "tag": "1.0"},
            "models": [{"name": "demo", "source": {"baked": {}}}],
        },
    });
    for (name, value) in spec.as_object().into_iter().flatten() {
        whole["spec"][name] = value.clone();
    }
    serde_json::from_value(whole).expect("is an object")
}

fn render(spec: &str) -> Vec<Child> {
    resources(&validate(&object(spec)).expect("is valid"), &around())
}

#[test]
fn children_are_the_golden_ones() {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/resources/golden");
    for (name, spec) in CASES {
        let mut text = String::new();
        for child in render(spec) {
            let yaml = serde_saphyr::to_string(&child.object).expect("is YAML");
            write!(text, "---\n{yaml}").expect("strings grow");
        }
        let path = golden.join(format!("{name}.yaml"));
        if std::env::var_os("RERANKER_GENERATE").is_some() {
            std::fs::write(&path, &text).expect("golden/ can be written");
        }
        let expected = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(text == expected, "{name} differs from {}: run `make generate`", path.display());
    }
}

/// Server-side apply of an object by the wrong name, or of one twice, would never come to rest.
#[test]
fn children_have_names_of_their_own() {
    for (_, spec) in CASES {
        let children = render(spec);
        let mut names: Vec<_> =
            children.iter().map(|child| (child.kind.plural, child.name.as_str())).collect();
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
        for child in &children {
            assert_eq!(child.object["metadata"]["name"], json!(child.name));
        }
    }
}

/// Scarce devices: a new pod would wait for the old one's device for ever.
#[test]
fn pods_with_devices_are_replaced_in_place() {
    let surge = |spec: &str| {
        let children = render(spec);
        let deployment = children.iter().find(|child| child.kind.kind == "Deployment");
        deployment.expect("is there").object["spec"]["strategy"]["rollingUpdate"].clone()
    };
    let in_place = json!({"maxSurge": 0, "maxUnavailable": 1});
    assert_eq!(surge(""), in_place);
    assert_eq!(surge("accelerator: {type: cpu}"), json!({"maxSurge": 1, "maxUnavailable": 0}));
    assert_eq!(surge("accelerator: {type: cpu}\nresources: {limits: {amd.com/gpu: 1}}"), in_place);
    assert_eq!(
        surge("rollout: {strategy: surge, maxSurge: 25%}"),
        json!({"maxSurge": "25%", "maxUnavailable": 0})
    );
}

/// A Job cannot change: the same models must give the same name, others another.
#[test]
fn another_revision_is_another_job() {
    let job = |revision: &str| {
        let spec = format!(
            "models: [{{name: a, source: {{hub: {{repo: o/r, revision: {revision}}}}}}}]\n\
             cache: {{type: pvc, fill: job, pvc: {{size: 1Gi, accessMode: ReadWriteMany}}}}"
        );
        let children = render(&spec);
        children.into_iter().find(|child| child.kind.kind == "Job").expect("is there").name
    };
    assert_eq!(job("v1"), job("v1"));
    assert_ne!(job("v1"), job("v2"));
}

#[test]
fn the_number_of_pods_is_within_bounds() {
    for (spec, wanted) in [
        ("", 1),
        ("replicas: 3", 3),
        ("replicas: 9", 4),
        ("replicas: 0", 1),
        ("{replicas: 9, stopped: true}", 0),
        ("autoscaling: {mode: none}", 1),
        ("{replicas: 9, autoscaling: {mode: none}}", 9),
        ("{replicas: 0, autoscaling: {mode: none}}", 0),
        ("{replicas: 9, collections: {store: embedded, embedded: {}}}", 1),
    ] {
        assert_eq!(validate(&object(spec)).expect("is valid").wanted(), wanted, "{spec}");
    }
}

#[test]
fn what_only_the_whole_spec_shows_is_refused() {
    for (spec, field) in [
        ("models: [{name: a, aliases: [a], source: {baked: {}}}]", "models[0].aliases"),
        ("rollout: {templateVersion: 9}", "rollout.templateVersion"),
        ("pod: {volumes: [{name: tmp}]}", "pod.volumes[0].name"),
        ("pod: {env: [{name: HF_TOKEN}]}", "pod.env[0].name"),
        ("pod: {initContainers: [{name: server}]}", "pod.initContainers[0].name"),
        (
            "models: [{name: a, source: {hub: {repo: o/r, revision: m}}}, \
             {name: b, source: {hub: {repo: o/r, revision: m, endpoint: 'http://m'}}}]",
            "models[1].source.hub",
        ),
    ] {
        let error = validate(&object(spec)).expect_err(spec);
        assert_eq!(error.field, field, "{error}");
    }
}
