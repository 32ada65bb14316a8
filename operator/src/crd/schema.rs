//! Parts of the schema that a derive does not give, and the definition as it is installed.

use super::{Opaque, RerankerDeployment};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;
use schemars::{Schema, SchemaGenerator, json_schema};
use serde_json::{Value, json};

/// An object without fields.
pub(super) fn empty() -> Opaque {
    json!({})
}

/// An object of any fields.
pub(super) fn opaque(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "object", "x-kubernetes-preserve-unknown-fields": true})
}

/// At most `MAX` objects of any fields.
pub(super) fn opaque_list<const MAX: usize>(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "maxItems": MAX,
        "items": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
    })
}

/// A map of at most 64 short strings.
pub(super) fn string_map(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "maxProperties": 64,
        "additionalProperties": {"type": "string", "maxLength": 4096},
    })
}

/// At most 8 names of objects.
pub(super) fn names(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "maxItems": 8,
        "items": {"type": "string", "minLength": 1, "maxLength": 253},
    })
}

/// At most `MAX` strings of up to `LENGTH` characters.
pub(super) fn strings<const MAX: usize, const LENGTH: usize>(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "maxItems": MAX,
        "items": {"type": "string", "minLength": 1, "maxLength": LENGTH},
    })
}

/// An amount such as `20Gi`.
pub(super) fn quantity(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "x-kubernetes-int-or-string": true,
        "maxLength": 32,
        "pattern": "^[0-9]+(\\.[0-9]+)?([KMGTP]i?|k)?$",
    })
}

/// A number of pods or a share such as `25%`.
pub(super) fn pods_or_percent(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "x-kubernetes-int-or-string": true,
        "minimum": 0,
        "maxLength": 4,
        "pattern": "^(100|[0-9]{1,2})%$",
    })
}

/// The conditions, merged by their type.
pub(super) fn conditions(generator: &mut SchemaGenerator) -> Schema {
    let item =
        generator.subschema_for::<k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition>();
    json_schema!({
        "type": "array",
        "items": item,
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["type"],
    })
}

/// The definition to install.
///
/// The default of an object has those of its fields: the API server checks the rules against it as it is written.
pub fn definition() -> CustomResourceDefinition {
    let mut value = serde_json::to_value(RerankerDeployment::crd()).expect("is JSON");
    tidy(&mut value["spec"]["versions"][0]["schema"]["openAPIV3Schema"]);
    serde_json::from_value(value).expect("was a definition before")
}

/// [`definition`], as YAML.
pub fn yaml() -> String {
    serde_saphyr::to_string(&definition()).expect("is YAML")
}

fn tidy(schema: &mut Value) {
    let Value::Object(fields) = schema else { return };
    // A field that may be absent is left out, never null.
    fields.remove("nullable");
    // An integer's bounds say it; the API server knows no unsigned formats.
    if fields.get("format").and_then(Value::as_str).is_some_and(|format| format.starts_with("uint"))
    {
        fields.remove("format");
    }
    if let Some(Value::Object(properties)) = fields.get_mut("properties") {
        properties.values_mut().for_each(tidy);
    }
    if let Some(items) = fields.get_mut("items") {
        tidy(items);
    }
    match fields.get("default") {
        Some(Value::Object(_)) => {
            let default = defaults(fields.get("properties"));
            fields.insert("default".to_owned(), default);
        }
        Some(Value::Null) => {
            fields.remove("default");
        }
        _ => {}
    }
}

fn defaults(properties: Option<&Value>) -> Value {
    let properties = properties.and_then(Value::as_object).into_iter().flatten();
    let with = properties.filter_map(|(name, it)| Some((name.clone(), it.get("default")?.clone())));
    Value::Object(with.collect())
}
