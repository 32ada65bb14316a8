//! The OpenAPI document that the server gives, against the hosted API's and against the routes.

use anyhow::{Context, Result};
use reqwest::Method;
use reranker_tests::server::Running;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

const OURS: &str = include_str!("../../service/src/api/http/openapi.json");
const HOSTED: &str = include_str!("../openapi/zeroentropy-2026-07.json");

/// Where a client of the hosted API may be answered otherwise than its document says, and why.
const DIFFERENCES: [(&str, &str); 5] = [
    ("/models/embed", "this server has no models that embed"),
    ("/collections/add-collection request.num_shards", "the hosted API refuses others too"),
    ("/queries/top-documents request.filter", "only filters that mean something are taken"),
    ("/queries/top-pages request.filter", "the same"),
    ("/queries/top-snippets request.filter", "the same"),
];

fn documents() -> (Value, Value) {
    let [ours, hosted] = [OURS, HOSTED].map(|text| serde_json::from_str(text).expect("is JSON"));
    (ours, hosted)
}

/// A document and a place in it.
#[derive(Clone, Copy)]
struct Schema<'a>(&'a Value, &'a Value);

impl<'a> Schema<'a> {
    fn at(self, value: &'a Value) -> Self {
        let reference = value["$ref"].as_str().map(|reference| reference.trim_start_matches('#'));
        match (reference, value["allOf"].as_array()) {
            (Some(reference), _) => {
                let found = self.0.pointer(reference);
                self.at(found.unwrap_or_else(|| panic!("{reference} is not there")))
            }
            (None, Some(only)) => self.at(&only[0]),
            (None, None) => Self(self.0, value),
        }
    }

    /// The schemas of which one must hold.
    fn variants(self) -> Vec<Self> {
        let any = self.1["anyOf"].as_array().or_else(|| self.1["oneOf"].as_array());
        any.map_or_else(
            || vec![self],
            |any| any.iter().flat_map(|value| self.at(value).variants()).collect(),
        )
    }

    fn list(self, key: &str) -> Vec<&'a Value> {
        self.1[key].as_array().map(|list| list.iter().collect()).unwrap_or_default()
    }

    fn properties(self) -> impl Iterator<Item = (&'a str, Self)> {
        let properties = self.1["properties"].as_object().into_iter().flatten();
        properties.map(move |(name, value)| (name.as_str(), self.at(value)))
    }

    fn property(self, name: &str) -> Option<Self> {
        self.properties().find(|(other, _)| *other == name).map(|(_, schema)| schema)
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Way {
    Request,
    Response,
}

/// Notes where what `from` allows is not allowed by `to`: a request of theirs by us, an answer of ours by
/// their clients.
fn compare(place: &str, way: Way, from: Schema<'_>, to: Schema<'_>, problems: &mut Vec<String>) {
    for from in from.variants() {
        let tries = to.variants().into_iter().map(|to| {
            let mut problems = Vec::new();
            compare_one(place, way, from, to, &mut problems);
            problems
        });
        problems.extend(tries.min_by_key(Vec::len).unwrap_or_default());
    }
}

fn compare_one(
    place: &str,
    way: Way,
    from: Schema<'_>,
    to: Schema<'_>,
    problems: &mut Vec<String>,
) {
    let (from_type, to_type) = (&from.1["type"], &to.1["type"]);
    if from_type != to_type {
        return problems.push(format!("{place}: type {from_type} is not {to_type}"));
    }
    let allowed = to.list("enum");
    let given = from.list("enum");
    if !allowed.is_empty() && (given.is_empty() || given.iter().any(|word| !allowed.contains(word)))
    {
        problems.push(format!("{place}: one of {given:?} is not one of {allowed:?}"));
    }
    for name in to.list("required") {
        if !from.list("required").contains(&name) {
            problems.push(format!("{place}: {name} may be left out"));
        }
    }
    let (theirs, ours) = if way == Way::Request { (from, to) } else { (to, from) };
    for (name, _) in theirs.properties() {
        let place = format!("{place}.{name}");
        match (from.property(name), to.property(name)) {
            (Some(from), Some(to)) => compare(&place, way, from, to, problems),
            _ => problems.push(format!("{place}: is not there")),
        }
        let [theirs, ours] = [theirs, ours].map(|schema| &schema.1["properties"][name]["default"]);
        if !theirs.is_null() && theirs != ours {
            problems.push(format!("{place}: the default {theirs} is {ours}"));
        }
    }
    for key in ["items", "additionalProperties"] {
        if let (Some(inner), true) = (from.1.get(key), to.1.get(key).is_some()) {
            compare(&format!("{place}.{key}"), way, from.at(inner), to.at(&to.1[key]), problems);
        }
    }
}

/// Compares a body of one operation.
fn bodies(place: &str, way: Way, from: Schema<'_>, to: Schema<'_>, problems: &mut Vec<String>) {
    let schema = |body: Schema<'_>| body.1.pointer("/content/application~1json/schema").cloned();
    if let (Some(inner), Some(other)) = (schema(from), schema(to)) {
        let (from, to) = (Schema(from.0, &inner), Schema(to.0, &other));
        compare(place, way, from.at(&inner), to.at(&other), problems);
    }
}

/// Code that is generated from our document, or written to it, would not fit the hosted API's clients.
#[test]
fn the_hosted_api_is_in_our_document() {
    let (ours, hosted) = documents();
    let mut problems = Vec::new();
    for (path, item) in hosted["paths"].as_object().expect("has paths") {
        // No official client calls these.
        if path.starts_with("/admin/") || path.starts_with("/usage/") {
            continue;
        }
        let Some(our_item) = ours["paths"].get(path) else {
            problems.push(format!("{path}: is not there"));
            continue;
        };
        for (method, theirs) in item.as_object().expect("has methods") {
            let Some(own) = our_item.get(method) else {
                problems.push(format!("{path} {method}: is not there"));
                continue;
            };
            let (own_body, their_body) = (&own["requestBody"], &theirs["requestBody"]);
            let place = format!("{path} request");
            let (from, to) = (Schema(&hosted, their_body), Schema(&ours, own_body));
            bodies(&place, Way::Request, from, to, &mut problems);
            for (status, response) in theirs["responses"].as_object().expect("has answers") {
                let place = format!("{path} {status}");
                match own["responses"].get(status) {
                    Some(answer) => {
                        let from = Schema(&ours, answer).at(answer);
                        bodies(
                            &place,
                            Way::Response,
                            from,
                            Schema(&hosted, response),
                            &mut problems,
                        );
                    }
                    None => problems.push(format!("{place}: is not there")),
                }
            }
            for parameter in theirs["parameters"].as_array().into_iter().flatten() {
                let has = |own: &&Value| {
                    ["name", "in", "required"].iter().all(|key| own[key] == parameter[key])
                };
                if !own["parameters"].as_array().into_iter().flatten().any(|own| has(&own)) {
                    problems.push(format!("{path}: parameter {} is not there", parameter["name"]));
                }
            }
        }
    }
    let known = |problem: &String, place: &str| {
        problem.strip_prefix(place).is_some_and(|rest| rest.starts_with([':', '.']))
    };
    for (place, _) in DIFFERENCES {
        assert!(problems.iter().any(|problem| known(problem, place)), "{place} is no difference");
    }
    problems.retain(|problem| !DIFFERENCES.iter().any(|(place, _)| known(problem, place)));
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

fn routes(folder: &Path, found: &mut BTreeSet<String>) {
    for entry in fs::read_dir(folder).expect("a folder of the repository").flatten() {
        let path = entry.path();
        if path.is_dir() {
            routes(&path, found);
        } else if !path.ends_with("mock.rs") && !path.ends_with("tests.rs") {
            let text = fs::read(&path).expect("a file");
            let text = String::from_utf8_lossy(&text);
            let named = text.split(".route(\"").skip(1).filter_map(|rest| rest.split('"').next());
            found.extend(named.map(str::to_owned));
        }
    }
}

/// A route that nobody finds, or one that is promised and not there.
#[tokio::test]
async fn the_document_has_the_routes_and_the_server_the_document() -> Result<()> {
    let (ours, _) = documents();
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../service/src/api/http");
    let mut found = BTreeSet::new();
    routes(&folder, &mut found);
    let paths = ours["paths"].as_object().context("has paths")?;
    assert_eq!(found, paths.keys().cloned().collect());

    let server = Running::start(Vec::new(), &[]).await?;
    for (path, item) in paths {
        let own = item.get("servers").is_some();
        for prefix in if own { &[""][..] } else { &["", "/v1"] } {
            let answer = server.method(Method::DELETE, &format!("{prefix}{path}")).await?;
            assert_eq!(answer.status, 405, "{prefix}{path}");
            let method = if item.get("get").is_some() { "GET" } else { "POST" };
            assert!(answer.headers["allow"].to_str()?.starts_with(method), "{path}");
        }
    }
    let answer = server.method(Method::GET, "/openapi.json").await?;
    assert_eq!((answer.status, &answer.body), (200, &ours));
    assert_eq!(answer.headers["content-type"], "application/json");
    assert_eq!(answer.body["openapi"], json!("3.1.0"));
    Ok(())
}
