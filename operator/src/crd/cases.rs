//! Specs and what the schema says to them, for the rules as Rust evaluates them and as a real API server does.

use serde_json::{Value, json};

/// The smallest object there is.
pub(crate) fn minimal() -> Value {
    json!({
        "apiVersion": "reranker.dev/v1alpha1",
        "kind": "RerankerDeployment",
        "metadata": {"name": "small", "namespace": "search"},
        "spec": {
            "image": {"repository": "registry.example.com/reranker", "tag": "1.0"},
            "models": [{"name": "demo", "source": {"baked": {}}}],
        },
    })
}

/// Merges a JSON merge patch (RFC 7386).
pub(crate) fn merge(target: &mut Value, patch: &Value) {
    let (Value::Object(patch), true) = (patch, target.is_object()) else {
        target.clone_from(patch);
        return;
    };
    let target = target.as_object_mut().expect("checked above");
    for (name, value) in patch {
        if value.is_null() {
            target.remove(name);
        } else if target.get(name).is_some_and(Value::is_object) && value.is_object() {
            merge(target.get_mut(name).expect("is there"), value);
        } else {
            target.insert(name.clone(), value.clone());
        }
    }
}

/// Changes of the minimal spec that are right.
pub(crate) fn accepted() -> Vec<Value> {
    vec![
        json!({}),
        json!({"image": {"tag": null, "digest": format!("sha256:{:064}", 0)}}),
        json!({"models": [
            {"name": "a", "source": {"hub": {"repo": "o/r", "revision": "main"}}},
            {"name": "b", "source": {"pvc": {"claimName": "models"}}},
            {"name": "c", "source": {"oci": {"image": "registry.example.com/c"}}},
        ]}),
        json!({"cache": {"type": "pvc", "fill": "job", "pvc": {"size": "20Gi", "accessMode": "ReadOnlyMany"}}}),
        json!({"cache": {"type": "pvc", "pvc": {"claimName": "c", "accessMode": "ReadOnlyMany"}}}),
        json!({"cache": {"type": "none"}}),
        json!({"collections": {"store": "embedded", "embedded": {}},
               "autoscaling": {"mode": "none"}, "replicas": 1}),
        json!({"collections": {"store": "embedded", "embedded": {}}, "autoscaling": {"maxReplicas": 1}}),
        json!({"autoscaling": {"mode": "hpa", "hpa": {"metrics": []}}}),
        json!({"autoscaling": {"mode": "keda", "minReplicas": 0, "scaleToZero": {"enabled": true},
                               "keda": {"extraTriggers": [{"type": "cron"}]}}}),
        json!({"rollout": {"strategy": "surge", "maxSurge": "25%", "maxUnavailable": 0}}),
        json!({"drain": {"preStopSeconds": 5, "gracePeriodSeconds": 6}}),
        json!({"tls": {"secretName": "t"}}),
    ]
}

/// Changes of the minimal spec that are wrong, and a part of what is said to them.
pub(crate) fn refused() -> Vec<(Value, &'static str)> {
    let embedded = json!({"store": "embedded", "embedded": {}});
    let hub = json!([{"name": "a", "source": {"hub": {"repo": "o/r", "revision": "main"}}}]);
    vec![
        (json!({"image": {"digest": format!("sha256:{:064}", 0)}}), "a tag or a digest, not both"),
        (json!({"image": {"tag": null}}), "a tag or a digest, not both"),
        (
            json!({"models": [{"name": "a", "source": {"baked": {}}}, {"name": "a", "source": {"baked": {}}}]}),
            "a name of its own",
        ),
        (json!({"models": [{"name": "a", "source": {}}]}), "set hub, pvc, oci or baked"),
        (
            json!({"models": [{"name": "a", "source": {"baked": {}, "oci": {"image": "i"}}}]}),
            "set hub, pvc, oci or baked",
        ),
        (
            json!({"models": hub, "cache": {"type": "none"}}),
            "set cache.type to `emptyDir` or `pvc`",
        ),
        (json!({"cache": {"type": "pvc"}}), "set both or neither"),
        (json!({"cache": {"fill": "job"}}), "set cache.type to `pvc`, or cache.fill to `pod`"),
        (
            json!({"cache": {"type": "pvc", "pvc": {"size": "1Gi", "accessMode": "ReadOnlyMany"}}}),
            "set cache.fill to `job`",
        ),
        (
            json!({"cache": {"type": "pvc", "pvc": {"accessMode": "ReadWriteOnce"}}}),
            "give the size of a new one",
        ),
        (json!({"server": {"httpPort": 50051}}), "three ports"),
        (json!({"collections": {"store": "embedded"}}), "set both or neither"),
        (json!({"collections": embedded}), "belongs to one pod"),
        (
            json!({"collections": embedded, "replicas": 2, "autoscaling": {"mode": "none"}}),
            "belongs to one pod",
        ),
        (
            json!({"collections": embedded, "autoscaling": {"maxReplicas": 1}, "rollout": {"strategy": "surge"}}),
            "`auto` or `recreate`",
        ),
        (json!({"autoscaling": {"minReplicas": 5}}), "lower the one or raise the other"),
        (json!({"autoscaling": {"minReplicas": 0}}), "nothing holds a request"),
        (
            json!({"autoscaling": {"minReplicas": 0, "scaleToZero": {"enabled": true}}}),
            "a trigger of its own",
        ),
        (
            json!({"autoscaling": {"mode": "keda", "keda": {}, "scaleToZero": {"enabled": true}}}),
            "a trigger of its own",
        ),
        (json!({"autoscaling": {"mode": "hpa"}}), "set both or neither"),
        (json!({"autoscaling": {"keda": {}}}), "leave keda out"),
        (
            json!({"rollout": {"strategy": "surge", "maxSurge": "0%", "maxUnavailable": 0}}),
            "no pod could be replaced",
        ),
        (json!({"rollout": {"maxSurge": 1}}), "name one of these or leave them out"),
        (json!({"drain": {"gracePeriodSeconds": 15}}), "raise it over that"),
        (
            json!({"monitoring": {"kind": "serviceMonitor"}, "service": {"headless": false}}),
            "monitoring.kind to `podMonitor`",
        ),
        (json!({"tls": {}}), "not both"),
        (
            json!({"tls": {"secretName": "t", "issuerRef": {"name": "i", "kind": "Issuer"}}}),
            "not both",
        ),
    ]
}

/// Changes of the minimal spec that follow each other, and a part of what is said to the second; empty: nothing.
pub(crate) fn transitions() -> Vec<(Value, Value, &'static str)> {
    let embedded = |size: &str, class: Option<&str>| {
        let store = json!({"size": size, "storageClassName": class});
        json!({"collections": {"store": "embedded", "embedded": store}, "autoscaling": {"maxReplicas": 1}})
    };
    let cache = |size: &str, mode: &str| json!({"cache": {"type": "pvc", "pvc": {"size": size, "accessMode": mode}}});
    let once = "ReadWriteOnce";
    vec![
        (json!({}), embedded("1Gi", None), ""),
        (embedded("1Gi", None), embedded("2Gi", None), ""),
        (embedded("1Gi", None), embedded("500Mi", None), "keep size or raise it"),
        (embedded("1Gi", None), embedded("1Gi", Some("fast")), "cannot change"),
        (embedded("1Gi", Some("fast")), embedded("1Gi", None), "cannot change"),
        (embedded("1Gi", None), json!({}), "make a new object and copy them"),
        (cache("1Gi", once), cache("2Gi", once), ""),
        (cache("2Gi", once), cache("1Gi", once), "keep size or raise it"),
        (cache("1Gi", once), cache("1Gi", "ReadWriteMany"), "cannot change"),
        (cache("1Gi", once), json!({}), ""),
    ]
}
