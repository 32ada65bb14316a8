//! What the operator may do: the rules of its role, from what it does.

use crate::crd::RerankerDeployment;
use crate::resources::KINDS;
use kube::Resource;
use serde_json::{Value, json};

/// Rules for the namespaces that are watched.
pub fn rules() -> Value {
    let group = RerankerDeployment::group(&());
    let plural = RerankerDeployment::plural(&());
    let rule = |group: &str, resource: &str, verbs: &[&str]| json!({"apiGroups": [group], "resources": [resource], "verbs": verbs});
    let mut rules = vec![
        rule(&group, &plural, &["get", "list", "watch", "patch"]),
        rule(&group, &format!("{plural}/status"), &["patch"]),
        rule(&group, &format!("{plural}/scale"), &["patch"]),
        // Owner references that block the owner's deletion, where a cluster asks for it.
        rule(&group, &format!("{plural}/finalizers"), &["update"]),
        rule("", "pods", &["list", "watch", "patch"]),
        rule("events.k8s.io", "events", &["create", "patch"]),
    ];
    for kind in KINDS {
        // Server-side apply creates by patching, for which the API server asks both.
        let mut verbs = vec!["list", "create", "patch", "delete"];
        if kind.builtin {
            verbs.extend(["get", "watch"]);
        }
        rules.push(rule(kind.group, kind.plural, &verbs));
    }
    json!(rules)
}

/// Rules for the operator's own namespace: its lease.
pub fn own_rules() -> Value {
    json!([
        {"apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "verbs": ["create"]},
        {
            "apiGroups": ["coordination.k8s.io"],
            "resources": ["leases"],
            "resourceNames": ["reranker-operator"],
            "verbs": ["get", "update"],
        },
    ])
}

/// Both, as YAML.
pub fn yaml() -> String {
    let all = json!({"watched": rules(), "own": own_rules()});
    serde_saphyr::to_string(&all).expect("is YAML")
}

#[cfg(test)]
mod tests {
    /// The chart's role would lack what this version does.
    #[test]
    fn the_charts_copy_is_current() {
        let path =
            concat!(env!("CARGO_MANIFEST_DIR"), "/../charts/reranker-operator/files/rules.yaml");
        let copy = std::fs::read_to_string(path).expect("the chart's copy");
        assert!(copy == super::yaml(), "run `make generate`");
    }
}
