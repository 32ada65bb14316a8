//! The rules of ARCHITECTURE.md that a search can check.

use std::fs;
use std::path::{Path, PathBuf};

/// A crate, and the only places that may name it.
const ONLY_THERE: &[(&str, &[&str])] = &[
    (
        "tonic",
        &[
            "service/src/api/grpc",
            "service/src/cli/bench/grpc.rs",
            "service/src/server",
            "operator/src/scaler.rs",
            "proto/",
            "tests/",
        ],
    ),
    (
        "reranker_proto",
        &["service/src/api/", "service/src/cli/bench/grpc.rs", "service/src/server", "tests/"],
    ),
    ("prost", &["proto/", "service/src/api/", "service/src/api/grpc", "tests/"]),
    ("reqwest", &["service/src/cli/bench/http.rs", "operator/src/autoscale/signal.rs", "tests/"]),
    ("hdrhistogram", &["service/src/cli/bench/statistics.rs"]),
    (
        "axum",
        &[
            "service/src/api/http",
            "service/src/server",
            "operator/src/server.rs",
            "operator/tests/",
            "tests/",
        ],
    ),
    (
        "candle_core",
        &["service/engine/src/model", "service/engine/src/kernels", "service/engine/src/e"],
    ),
    ("libloading", &["service/engine/src/kernels/cards.rs"]),
    ("tokenizers", &["service/engine/src/model/tokenizer"]),
    ("hf_hub", &["service/engine/src/model/source"]),
    ("memmap2", &["service/engine/src/model/weights.rs"]),
    ("safetensors", &["service/engine/src/model/weights.rs", "service/engine/src/fixture.rs"]),
    ("hyper", &["service/src/server"]),
    ("hyper_util", &["service/src/server"]),
    ("tokio_rustls", &["service/src/server", "tests/"]),
    ("tower_http", &["service/src/api/http"]),
    ("sha2", &["service/src/auth.rs", "service/src/downloads.rs", "service/src/server"]),
    ("hmac", &["service/src/downloads.rs"]),
    ("clap", &["service/src/cli", "service/src/config", "operator/src/cli"]),
    ("opentelemetry", &["service/src/telemetry"]),
    ("opentelemetry_sdk", &["service/src/telemetry"]),
    ("opentelemetry_otlp", &["service/src/telemetry"]),
    ("tracing_opentelemetry", &["service/src/telemetry"]),
    ("prometheus_client", &["service/src/metrics", "operator/src/metrics.rs"]),
    ("indicatif", &["service/src/cli/"]),
    ("csv", &["service/src/parse"]),
    ("encoding_rs", &["service/src/parse/"]),
    ("flate2", &["service/src/parse/", "service/engine/"]),
    ("hayro", &["service/src/parse/"]),
    ("html5ever", &["service/src/parse/"]),
    ("jpeg_encoder", &["service/src/parse/"]),
    ("quick_xml", &["service/src/parse/"]),
    ("weezl", &["service/src/parse/"]),
    ("zip", &["service/src/parse/", "tests/"]),
    ("rusqlite", &["service/src/collection/embedded"]),
    ("tantivy", &["service/src/collection/embedded/index"]),
    ("kube", &["operator/", "tests/"]),
    ("k8s_openapi", &["operator/"]),
];

/// Modules that decide: values in, values out.
const PURE: &[&str] = &[
    "service/engine/src/schedule/queue.rs",
    "service/engine/src/schedule/admission.rs",
    "service/engine/src/schedule/ledger.rs",
    "service/engine/src/model/prompt.rs",
    "service/engine/src/model/batch.rs",
    "service/src/api/convert/collections.rs",
    "service/src/api/convert/documents.rs",
    "service/src/api/convert/filter.rs",
    "service/src/api/convert/queries.rs",
    "service/src/api/convert/rerank.rs",
    "service/src/cli/bench/arrivals.rs",
    "service/src/cli/bench/statistics.rs",
    "service/src/collection/document.rs",
    "service/src/collection/filter.rs",
    "service/src/collection/passages.rs",
    "service/src/auth.rs",
    "service/src/downloads.rs",
    "service/src/rate_limit.rs",
];
/// The operator's modules that decide, whole folders: they know neither a cluster nor a clock.
const OPERATOR_PURE: &[&str] = &[
    "operator/src/crd",
    "operator/src/validate.rs",
    "operator/src/resources",
    "operator/src/status",
    "operator/src/rbac.rs",
    "operator/src/autoscale/limits.rs",
    "operator/src/autoscale/policy",
    "operator/src/autoscale/record.rs",
    "operator/src/autoscale/simulator",
    "operator/src/autoscale/window.rs",
];
const IMPURE: &[&str] = &[
    "Instant::now",
    "SystemTime",
    "std::fs",
    "std::net",
    "std::thread",
    "mpsc",
    "tokio",
    "oneshot",
];

/// The only places that may ask for the time of day, which jumps: there it leaves the process, as the
/// `created` of an answer or a document. Everything else is measured by `Instant`.
const TIME_OF_DAY: &[&str] = &[
    "service/src/api/http/compat/score.rs",
    "service/src/api/http/downloads.rs",
    "service/src/api/links.rs",
    "service/src/app/collections.rs",
    "service/src/collection/embedded.rs",
    "service/src/collection/embedded/transfer.rs",
    "service/src/collection/embedded/tests.rs",
    "operator/src/autoscale/scaling.rs",
    "operator/src/controller.rs",
    "operator/src/leader.rs",
    "operator/tests/cluster/hollow.rs",
    "tests/",
];

/// A file longer than this has a second room in it.
const MAX_LINES: usize = 600;

struct Source {
    /// From the root, with `/`.
    path: String,
    text: String,
}

impl Source {
    /// Code without the unit tests at its end, which may name what they test with.
    fn code(&self) -> &str {
        self.text.split("#[cfg(test)]\nmod tests").next().unwrap_or_default()
    }
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ has a parent");
    let mut folders: Vec<PathBuf> =
        ["operator", "proto", "service", "tests"].iter().map(|name| root.join(name)).collect();
    let mut sources = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder of the repository").flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).expect("a source file");
                let path = path.strip_prefix(root).expect("under the root");
                sources.push(Source { path: path.to_string_lossy().replace('\\', "/"), text });
            }
        }
    }
    assert!(sources.len() > 30, "only {} sources found", sources.len());
    sources
}

/// Lines that name `name` as a crate: `use name::`, `name::x`, `extern crate name`.
fn names_crate(code: &str, name: &str) -> Option<usize> {
    code.lines().position(|line| {
        let line = line.split("//").next().unwrap_or_default();
        line.match_indices(&format!("{name}::")).any(|(at, _)| {
            !line[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == ':')
        })
    })
}

/// A protocol that reaches into the domain, or a library that spreads, cannot be replaced later.
#[test]
fn crates_are_named_only_where_they_belong() {
    let mut problems = Vec::new();
    for source in sources() {
        for (name, places) in ONLY_THERE {
            let allowed = places.iter().any(|place| source.path.starts_with(place))
                || source.path.ends_with("build.rs")
                || source.path.starts_with("service/engine/benches");
            if let Some(line) = names_crate(source.code(), name)
                && !allowed
            {
                problems.push(format!("{}:{}: names `{name}`", source.path, line + 1));
            }
        }
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

/// A clock or channel in a module that decides makes it untestable.
#[test]
fn what_decides_is_pure() {
    let sources = sources();
    for path in PURE {
        let source = sources.iter().find(|source| source.path == *path);
        let code = source.unwrap_or_else(|| panic!("{path} is gone: change PURE")).code();
        for word in IMPURE {
            assert!(!code.contains(word), "{path} names `{word}`");
        }
    }
}

/// What the operator decides could not be tested without a cluster, or would differ from one pass to the next.
#[test]
fn what_the_operator_decides_is_pure() {
    for place in OPERATOR_PURE {
        let of_place = |source: &Source| source.path.starts_with(place);
        let sources: Vec<Source> = sources().into_iter().filter(of_place).collect();
        assert!(!sources.is_empty(), "{place} is gone: change OPERATOR_PURE");
        for source in sources.iter().filter(|source| !source.path.ends_with("tests.rs")) {
            for word in IMPURE.iter().chain(&["kube::Client", "kube::Api", "kube::api", "Client,"])
            {
                assert!(!source.code().contains(word), "{} names `{word}`", source.path);
            }
        }
    }
}

/// A clock that is set, or a leap of a virtual machine, would end waits, empty quotas or stop health.
#[test]
fn nothing_depends_on_the_time_of_day() {
    for source in sources() {
        let allowed = TIME_OF_DAY.iter().any(|place| source.path.starts_with(place));
        for word in ["SystemTime", "UNIX_EPOCH", "Timestamp::now", ".modified()"] {
            assert!(allowed || !source.code().contains(word), "{} names `{word}`", source.path);
        }
    }
}

/// Old code in comments is never true for long.
#[test]
fn no_code_in_comments() {
    let mut problems = Vec::new();
    for source in sources() {
        for (number, line) in source.text.lines().enumerate() {
            let line = line.trim();
            let comment = line.strip_prefix("//").filter(|rest| !rest.starts_with(['/', '!']));
            let looks_like_code = comment.is_some_and(|comment| {
                let comment = comment.trim();
                comment.ends_with([';', '{', '}'])
                    && ["let ", "fn ", "use ", "if ", "for ", "return ", "}", ".", "self."]
                        .iter()
                        .any(|start| comment.starts_with(start))
            });
            if looks_like_code {
                problems.push(format!("{}:{}: {line}", source.path, number + 1));
            }
        }
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

#[test]
fn files_are_short_enough_to_read() {
    for source in sources() {
        let lines = source.text.lines().count();
        assert!(lines <= MAX_LINES, "{} has {lines} lines", source.path);
    }
}

/// Everything a user is told is there: the documents that the README promises.
#[test]
fn the_project_files_are_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ has a parent");
    for name in ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md", "LICENSE"] {
        assert!(root.join(name).is_file(), "{name} is missing");
    }
    let architecture = fs::read_to_string(root.join("ARCHITECTURE.md")).expect("is there");
    assert!(architecture.lines().count() <= 150, "ARCHITECTURE.md is a map, not a book");
}
