//! Every rule of the schema, accepting and refusing: what a rule lets through reaches the pods, what it refuses
//! wrongly cannot be used at all.

use super::cases::{accepted, merge, minimal, refused, transitions};
use super::*;
use serde_json::{Value, json};

/// The minimal object with `spec` merged in, read with all defaults as the API server fills them in.
fn object(spec: &Value) -> RerankerDeployment {
    let mut object = minimal();
    merge(&mut object["spec"], spec);
    serde_json::from_value(object).unwrap_or_else(|error| panic!("{spec}: {error}"))
}

fn messages(checked: Result<(), kube::core::cel::ValidationErrors>) -> String {
    checked.map_or_else(
        |errors| errors.iter().map(|error| error.message.clone()).collect::<Vec<_>>().join("; "),
        |()| String::new(),
    )
}

#[test]
fn what_is_right_is_accepted() {
    for spec in accepted() {
        assert_eq!(messages(object(&spec).validate_cel()), "", "{spec}");
    }
}

#[test]
fn what_is_wrong_is_refused_with_what_to_do() {
    for (spec, part) in refused() {
        let found = messages(object(&spec).validate_cel());
        assert!(found.contains(part), "{spec}: {found}");
    }
}

#[test]
fn names_that_no_service_can_have_are_refused() {
    for (name, fits) in [
        ("a", true),
        ("zerank-1-small", true),
        (&*"a".repeat(40), true),
        (&*"a".repeat(41), false),
        ("1a", false),
        ("a-", false),
        ("a.b", false),
    ] {
        let mut object = object(&json!({}));
        object.metadata.name = Some(name.to_owned());
        assert_eq!(object.validate_cel().is_ok(), fits, "{name}");
    }
}

#[test]
fn changes_that_would_lose_data_are_refused() {
    for (old, new, part) in transitions() {
        let found = messages(object(&new).validate_cel_update(&object(&old)));
        assert!(found.contains(part) && (part.is_empty() == found.is_empty()), "{new}: {found}");
    }
}

/// What is installed by hand or by the chart would be another schema than the operator's.
#[test]
fn the_charts_copy_is_current() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../charts/reranker-operator/files/crd.yaml");
    let copy = std::fs::read_to_string(path).expect("the chart's copy");
    assert!(copy == yaml(), "run `make generate`");
}

/// The API server refuses a schema whose default has a field that its own type does not know, and
/// `kubectl explain` of a field without a text says nothing.
#[test]
fn every_field_is_explained() {
    fn walk(path: &str, schema: &Value, missing: &mut Vec<String>) {
        for (name, property) in schema["properties"].as_object().into_iter().flatten() {
            let path = format!("{path}.{name}");
            if property["description"].as_str().is_none_or(str::is_empty) {
                missing.push(path.clone());
            }
            walk(&path, property, missing);
            walk(&path, &property["items"], missing);
        }
    }
    let definition = serde_json::to_value(definition()).expect("is JSON");
    let schema = &definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"];
    let mut missing = Vec::new();
    walk("spec", &schema["spec"], &mut missing);
    walk("status", &schema["status"], &mut missing);
    assert_eq!(missing, Vec::<String>::new());
}
