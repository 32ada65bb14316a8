//! What is counted: exactly, with bounded labels, and all that the dashboard shows.

use anyhow::{Context, Result};
use reranker_proto::v1::{LatencyMode, RerankRequest};
use reranker_tests::scrape::Scrape;
use reranker_tests::server::{Running, Settings, random};
use reranker_tests::until;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

const HTTP: &str = "/v1/models/rerank";
const GRPC: &str = "reranker.v1.Reranker/Rerank";

/// A call over gRPC by hand: a path and a message that no client would send.
async fn raw_grpc(
    server: &Running,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Result<()> {
    let client = reqwest::Client::builder().http2_prior_knowledge().build()?;
    let mut request = client
        .post(format!("http://{}/{path}", server.addresses.grpc))
        .header("content-type", "application/grpc")
        .header("te", "trailers");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let length = u32::try_from(body.len())?.to_be_bytes();
    let frame = [&[0], &length[..], body].concat();
    request.body(frame).send().await?.bytes().await?;
    Ok(())
}

/// Enough work to be still running when the test goes on.
fn much() -> Vec<String> {
    (0..150).map(|i| format!("{i} {}", "so many words ".repeat(200))).collect()
}

fn documents(documents: &[&str]) -> RerankRequest {
    let documents = documents.iter().map(|&text| text.to_owned()).collect();
    RerankRequest { query: "q".into(), documents, ..RerankRequest::default() }
}

/// Alerts and bills are made of these numbers: one too many or too few and nobody believes them.
#[tokio::test]
async fn every_request_is_counted_once() -> Result<()> {
    let server = Running::start(vec![random("m", 1).await?], &[("other", "m")]).await?;
    let good = json!({"query": "q", "documents": ["a", "b"]});
    let mut tokens = [0, 0];
    for (path, body) in [
        (HTTP, good.clone()),
        (HTTP, json!({"query": "q", "documents": ["a"], "model": "other"})),
        ("/models/rerank", json!({"query": "q", "documents": [], "latency": "slow"})),
    ] {
        let answer = server.post(path, &body).await?;
        assert_eq!(answer.status, 200, "{}", answer.body);
        tokens[0] += answer.body["total_tokens"].as_u64().context("tokens")?;
    }
    for (path, body) in [
        (HTTP, json!({"query": "q"})),
        (HTTP, json!([])),
        (HTTP, json!({"query": "q", "documents": ["a"], "model": "nope"})),
        ("/v1/nothing", good.clone()),
    ] {
        assert!(server.post(path, &body).await?.status >= 400);
    }
    server.method(reqwest::Method::GET, HTTP).await?;

    let mut client = server.grpc().await?;
    let slow = RerankRequest { latency: LatencyMode::Slow.into(), ..documents(&["a", "b", "c"]) };
    for (class, request) in [documents(&["a"]), slow].into_iter().enumerate() {
        let answer = client.rerank(request).await?;
        tokens[class] += answer.get_ref().total_tokens.unsigned_abs();
    }
    let wrong = RerankRequest { top_n: Some(0), ..documents(&["a"]) };
    client.rerank(wrong).await.expect_err("top_n is out of range");
    let wrong = RerankRequest { model: "nope".into(), ..documents(&["a"]) };
    client.rerank(wrong).await.expect_err("there is no such model");
    raw_grpc(&server, GRPC, &[], &[0x12, 2, 0xff, 0xfe]).await?;
    raw_grpc(&server, "reranker.v1.Reranker/Nothing", &[], &[]).await?;
    raw_grpc(&server, "a.b.C/D", &[], &[]).await?;
    HealthClient::new(server.channel().await?).check(HealthCheckRequest::default()).await?;

    let expected = [
        ("http", HTTP, "m", "fast", "ok", 2),
        ("http", "/models/rerank", "m", "slow", "ok", 1),
        ("http", HTTP, "unknown", "unknown", "invalid_request", 2),
        ("http", HTTP, "unknown", "unknown", "not_found", 1),
        ("http", HTTP, "unknown", "unknown", "method_not_allowed", 1),
        ("http", "unknown", "unknown", "unknown", "route_not_found", 1),
        ("grpc", GRPC, "m", "fast", "ok", 1),
        ("grpc", GRPC, "m", "slow", "ok", 1),
        ("grpc", GRPC, "unknown", "unknown", "invalid_request", 2),
        ("grpc", GRPC, "unknown", "unknown", "not_found", 1),
        ("grpc", "unknown", "unknown", "unknown", "route_not_found", 2),
        ("grpc", "grpc.health.v1.Health/Check", "unknown", "unknown", "ok", 1),
    ];
    let expected: BTreeMap<Vec<String>, f64> = expected
        .into_iter()
        .map(|(protocol, route, model, class, code, count)| {
            ([protocol, route, model, class, code].map(str::to_owned).to_vec(), f64::from(count))
        })
        .collect();
    let scrape = Scrape::of(&server).await?;
    let labels = ["protocol", "route", "model", "class", "code"];
    assert_eq!(scrape.by("reranker_requests_total", &labels), expected);
    let all: f64 = expected.values().sum();
    assert_close(scrape.sum("reranker_request_duration_seconds_count", &[]), all);
    for (class, documents, answers) in [("fast", 4.0, 3.0), ("slow", 3.0, 2.0)] {
        let labels = [("model", "m"), ("class", class)];
        assert_close(scrape.sum("reranker_documents_total", &labels), documents);
        assert_close(scrape.sum("reranker_queue_seconds_count", &labels), answers);
        assert_close(scrape.sum("reranker_inference_seconds_count", &labels), answers);
    }
    for (class, tokens) in ["fast", "slow"].into_iter().zip(tokens) {
        let counted = scrape.sum("reranker_tokens_total", &[("class", class)]);
        assert_close(counted, tokens as f64);
    }
    assert_close(scrape.sum("reranker_rejected_total", &[]), 0.0);
    assert_close(scrape.sum("reranker_cancelled_total", &[]), 0.0);
    Ok(())
}

fn assert_close(a: f64, b: f64) {
    assert!((a - b).abs() < 1e-9, "{a} is not {b}");
}

/// The reason on the dashboard is what somebody is woken for.
#[tokio::test]
async fn refusals_are_counted_by_their_reason() -> Result<()> {
    let server = Running::start(Vec::new(), &[]).await?;
    let mut client = server.grpc().await?;
    let good = json!({"query": "q", "documents": ["a"]});
    assert_eq!(server.post(HTTP, &good).await?.status, 503);
    client.rerank(documents(&["a"])).await.expect_err("is loading");
    server.app.serve_models(vec![random("m", 1).await?]);

    let message =
        prost::Message::encode_to_vec(&RerankRequest { documents: much(), ..documents(&[]) });
    raw_grpc(&server, GRPC, &[("grpc-timeout", "30m")], &message).await?;
    let reasons = |scrape: &Scrape| scrape.by("reranker_rejected_total", &["protocol", "reason"]);
    let of = |protocol: &str, reason: &str| (vec![protocol.to_owned(), reason.to_owned()], 1.0);
    let expected =
        [of("grpc", "deadline_too_near"), of("grpc", "loading"), of("http", "loading")].into();
    until("the refusals are counted", async || {
        let scrape = Scrape::of(&server).await;
        scrape.is_ok_and(|scrape| scrape.sum("reranker_requests_total", &[]) >= 3.0)
    })
    .await;
    let scrape = Scrape::of(&server).await?;
    assert_eq!(reasons(&scrape), expected);
    assert_close(scrape.sum("reranker_requests_total", &[("code", "unavailable")]), 2.0);
    assert_close(scrape.sum("reranker_requests_total", &[("code", "overloaded")]), 1.0);
    assert_close(scrape.sum("reranker_cancelled_total", &[]), 0.0);
    Ok(())
}

/// Callers that give up are the first sign of trouble, and no error is ever written to them.
#[tokio::test]
async fn callers_that_are_gone_are_counted_as_cancelled() -> Result<()> {
    let server = Running::start(vec![random("m", 1).await?], &[]).await?;
    let client = reqwest::Client::new();
    let body = json!({"query": "q", "documents": much()}).to_string();
    let http = tokio::spawn(client.post(server.http() + HTTP).body(body).send());
    until("the request is let in", async || server.app.in_flight() == 1).await;
    http.abort();
    let mut client = server.grpc().await?;
    let request = RerankRequest { documents: much(), ..documents(&[]) };
    until("the request is gone", async || server.app.in_flight() == 0).await;
    let grpc = tokio::spawn(async move { client.rerank(request).await.map(drop) });
    until("the call is let in", async || server.app.in_flight() == 1).await;
    grpc.abort();

    until("both are counted", async || {
        let scrape = Scrape::of(&server).await;
        scrape.is_ok_and(|scrape| scrape.sum("reranker_requests_total", &[]) >= 2.0)
    })
    .await;
    let scrape = Scrape::of(&server).await?;
    for protocol in ["http", "grpc"] {
        let labels = [("protocol", protocol)];
        assert_close(scrape.sum("reranker_cancelled_total", &labels), 1.0);
        let labels = [("protocol", protocol), ("code", "cancelled")];
        assert_close(scrape.sum("reranker_requests_total", &labels), 1.0);
    }
    Ok(())
}

/// A request that stops in its middle is no bad request: its caller has gone.
#[tokio::test]
async fn half_a_request_is_a_cancelled_one() -> Result<()> {
    let server = Running::start(vec![random("m", 1).await?], &[]).await?;
    let mut connection = TcpStream::connect(server.addresses.http).await?;
    let half =
        format!("POST {HTTP} HTTP/1.1\r\nhost: a\r\ncontent-length: 99\r\n\r\n{{\"query\": ");
    connection.write_all(half.as_bytes()).await?;
    until("the request has begun", async || server.app.in_flight() == 1).await;
    drop(connection);

    for (address, path) in [(server.addresses.http, HTTP), (server.addresses.grpc, GRPC)] {
        for reason in [h2::Reason::CANCEL, h2::Reason::NO_ERROR] {
            until("no request is left", async || server.app.in_flight() == 0).await;
            let (h2, connection) =
                h2::client::handshake(TcpStream::connect(address).await?).await?;
            tokio::spawn(connection);
            let request =
                http::Request::post(format!("http://{address}/{}", path.trim_start_matches('/')))
                    .header("content-type", "application/grpc")
                    .header("te", "trailers");
            let (_answer, mut body) = h2.ready().await?.send_request(request.body(())?, false)?;
            body.send_data(bytes::Bytes::from_static(b"\0\0\0\0\x63"), false)?;
            until("the request has begun", async || server.app.in_flight() == 1).await;
            body.send_reset(reason);
        }
    }
    until("all are counted", async || {
        let scrape = Scrape::of(&server).await;
        scrape.is_ok_and(|scrape| scrape.sum("reranker_requests_total", &[]) >= 5.0)
    })
    .await;
    let requests = Scrape::of(&server).await?.by("reranker_requests_total", &["protocol", "code"]);
    let cancelled = |protocol: &str| [protocol, "cancelled"].map(str::to_owned).to_vec();
    assert_eq!(requests, [(cancelled("http"), 3.0), (cancelled("grpc"), 2.0)].into());
    Ok(())
}

/// Anybody could fill the server's memory, and Prometheus's, with names of their own.
#[tokio::test]
async fn hostile_names_make_no_series() -> Result<()> {
    let server = Running::start(vec![random("m", 1).await?], &[]).await?;
    let mut client = server.grpc().await?;
    let mut before = 0;
    for round in 0..10 {
        let name = format!("evil\"}} {round}\\n");
        let body = json!({"query": "q", "documents": ["a"], "model": name});
        assert_eq!(server.post(HTTP, &body).await?.status, 404);
        server.post(&format!("/v1/models/rerank/{round}"), &body).await?;
        let verb = reqwest::Method::from_bytes(format!("VERB{round}").as_bytes())?;
        server.method(verb, HTTP).await?;
        let wrong = RerankRequest { model: name, ..documents(&["a"]) };
        client.rerank(wrong).await.expect_err("there is no such model");
        raw_grpc(&server, &format!("reranker.v1.Reranker/{round}"), &[], &[]).await?;
        raw_grpc(&server, &format!("evil{round}.Service/Rerank"), &[], &[]).await?;
        let (_, text) = server.admin("/metrics").await?;
        let series = text.lines().count();
        assert!(!text.contains("evil"), "{text}");
        assert!(round == 0 || series == before, "{series} lines after {before}");
        before = series;
    }
    Ok(())
}

/// The metrics and labels that an expression of the dashboard uses.
fn used(expression: &str) -> Vec<(String, BTreeSet<String>)> {
    let name = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    let mut found = Vec::new();
    let mut rest = expression;
    while let Some(start) = rest.find(|c: char| c.is_ascii_alphabetic() || c == '_') {
        // A number's exponent or a range's unit is no name.
        let part_of_number = rest[..start].ends_with(|c: char| c.is_ascii_digit() || c == '$');
        let word = rest[start..].split(|c| !name(c)).next().unwrap_or_default();
        let after = rest[start + word.len()..].trim_start();
        rest = &rest[start + word.len()..];
        // `sum(..)`, `sum by (..) (..)`
        let function = after.starts_with('(') || after.starts_with("by (");
        if part_of_number || (function && word != "by") {
            continue;
        }
        if word == "by" {
            rest = after.split_once(')').map_or("", |(_, after)| after);
        } else {
            let selector = after.strip_prefix('{').and_then(|after| after.split_once('}'));
            let (matchers, after) = selector.unwrap_or(("", after));
            let label = |matcher: &str| matcher.split(['=', '!']).next().map(str::to_owned);
            let labels = matchers.split("\",").filter(|text| !text.is_empty()).filter_map(label);
            found.push((word.to_owned(), labels.collect()));
            // A range is no name.
            rest = after
                .strip_prefix('[')
                .and_then(|after| after.split_once(']'))
                .map_or(after, |it| it.1);
        }
    }
    found
}

/// A panel without data looks like a service without trouble.
#[tokio::test]
async fn every_panel_of_the_dashboard_has_its_metrics() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let data_dir = Some(folder.path().to_owned());
    let server =
        Running::start_with(Vec::new(), Settings { data_dir, ..Settings::default() }).await?;
    let good = json!({"query": "q", "documents": ["a"]});
    assert_eq!(server.post(HTTP, &good).await?.status, 503);
    server.app.serve_models(vec![random("m", 1).await?]);
    assert_eq!(server.post(HTTP, &good).await?.status, 200);
    assert_eq!(server.post(HTTP, &json!({})).await?.status, 422);
    let mut client = server.grpc().await?;
    client.rerank(documents(&["a"])).await?;
    let scrape = Scrape::of(&server).await?;

    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("the repository")?;
    let path = root.join("charts/reranker/dashboards/reranker.json");
    let dashboard: Value = serde_json::from_slice(&std::fs::read(path)?)?;
    let panels = dashboard["panels"].as_array().context("panels")?;
    let mut expressions = 0;
    let mut shown = BTreeSet::new();
    for panel in panels.iter().filter(|panel| panel["type"] != "row") {
        let title = panel["title"].as_str().context("a title")?;
        assert_eq!(panel["datasource"]["uid"], "${datasource}", "{title}");
        let targets = panel["targets"].as_array().context("targets")?;
        assert!(!targets.is_empty(), "{title} shows nothing");
        for target in targets {
            let expression = target["expr"].as_str().context("an expression")?;
            let metrics = used(expression);
            assert!(!metrics.is_empty(), "{title}: no metric in `{expression}`");
            for (metric, labels) in metrics {
                assert!(scrape.names().contains(metric.as_str()), "{title}: no metric `{metric}`");
                // Those that Prometheus adds to every target.
                let own =
                    labels.iter().filter(|label| !["job", "instance"].contains(&label.as_str()));
                for label in own {
                    let there = scrape.labels(&metric).contains(label.as_str());
                    assert!(there, "{title}: `{metric}` has no label `{label}`");
                }
                shown.insert(metric);
            }
            expressions += 1;
        }
    }
    assert!(expressions >= 20 && shown.len() >= 20, "{expressions} expressions, {shown:?}");
    Ok(())
}

/// A user is woken for documents that nobody can find, or is not.
#[tokio::test]
async fn documents_and_searches_are_counted() -> Result<()> {
    let off = Running::start(Vec::new(), &[]).await?;
    assert!(!Scrape::of(&off).await?.names().contains("reranker_collection_documents"));
    let folder = tempfile::tempdir()?;
    let data_dir = Some(folder.path().to_owned());
    let settings = Settings { data_dir, ..Settings::default() };
    let server = Running::start_with(vec![random("m", 1).await?], settings).await?;
    let post = async |path: &str, body: Value| -> Result<()> {
        let answer = server.post(path, &body).await?;
        assert!(answer.status < 300, "{}", answer.body);
        Ok(())
    };
    post("/collections/add-collection", json!({"collection_name": "c"})).await?;
    for (path, content) in [
        ("a", json!({"type": "text", "text": "otter"})),
        ("b", json!({"type": "text-pages", "pages": ["one", "two"]})),
        ("c.csv", json!({"type": "auto", "base64_data": "eCx5CjEsMgo="})),
        ("d.bin", json!({"type": "auto", "base64_data": "AP8B"})),
    ] {
        let body = json!({"collection_name": "c", "path": path, "content": content});
        post("/documents/add-document", body).await?;
    }
    let query = json!({"collection_name": "c", "query": "otter", "k": 1});
    post("/queries/top-snippets", query.clone()).await?;
    post("/queries/top-snippets", query.clone()).await?;
    post("/queries/top-pages", query).await?;
    until("all is counted", async || {
        let scrape = Scrape::of(&server).await.unwrap_or_default();
        let documents = |status| scrape.sum("reranker_collection_documents", &[("status", status)]);
        documents("indexed") + documents("failed") > 3.5
    })
    .await;
    let scrape = Scrape::of(&server).await?;
    let of = |values: &[(&[&str], f64)]| -> BTreeMap<Vec<String>, f64> {
        let named = |labels: &[&str]| labels.iter().map(|&label| label.to_owned()).collect();
        values.iter().map(|(labels, value)| (named(labels), *value)).collect()
    };
    let documents = scrape.by("reranker_collection_documents", &["status"]);
    let expected: [(&[&str], f64); 4] =
        [(&["parsing"], 0.0), (&["indexing"], 0.0), (&["indexed"], 3.0), (&["failed"], 1.0)];
    assert_eq!(documents, of(&expected));
    let ingested = scrape.by("reranker_ingest_documents_total", &["step", "outcome"]);
    let expected: [(&[&str], f64); 4] = [
        (&["parse", "ok"], 1.0),
        (&["parse", "failed"], 1.0),
        (&["index", "ok"], 3.0),
        (&["index", "failed"], 0.0),
    ];
    assert_eq!(ingested, of(&expected));
    let searches = scrape.by("reranker_search_seconds_count", &["unit"]);
    let expected: [(&[&str], f64); 3] =
        [(&["snippet"], 2.0), (&["page"], 1.0), (&["document"], 0.0)];
    assert_eq!(searches, of(&expected));
    // "otter", "one\ntwo" and "x: 1\ny: 2".
    assert_close(scrape.sum("reranker_collection_indexed_bytes", &[]), 21.0);
    assert_close(scrape.sum("reranker_ingest_bytes_total", &[]), 21.0);
    assert_close(scrape.sum("reranker_index_lag_seconds", &[]), 0.0);
    // A long one and a short one a document, a further short one for the second page.
    assert_close(scrape.sum("reranker_ingest_passages_total", &[]), 7.0);
    Ok(())
}

/// Memory, age and build are of the process that is asked.
#[tokio::test]
async fn the_process_and_the_models_state_are_there() -> Result<()> {
    let server = Running::start(Vec::new(), &[]).await?;
    server.app.announce_models(vec!["m".to_owned()]);
    let states = async || -> Result<BTreeMap<Vec<String>, f64>> {
        Ok(Scrape::of(&server).await?.by("reranker_model_load_state", &["model", "state"]))
    };
    let expected = |now: &str| {
        let state = |state: &str| {
            (vec!["m".to_owned(), state.to_owned()], f64::from(u8::from(state == now)))
        };
        BTreeMap::from(["loading", "ready", "draining"].map(state))
    };
    assert_eq!(states().await?, expected("loading"));
    server.app.serve_models(vec![random("m", 1).await?]);
    assert_eq!(states().await?, expected("ready"));

    let channel = server.channel().await?;
    for (open, label) in [(1.0, "grpc"), (0.0, "http"), (1.0, "admin")] {
        let scrape = Scrape::of(&server).await?;
        assert_close(scrape.sum("reranker_connections", &[("protocol", label)]), open);
    }
    drop(channel);
    let scrape = Scrape::of(&server).await?;
    let version = [("version", env!("CARGO_PKG_VERSION"))];
    assert_close(scrape.sum("reranker_build_info", &version), 1.0);
    if Path::new("/proc/self/stat").exists() {
        assert!(scrape.sum("reranker_process_resident_memory_bytes", &[]) > 1e6);
        assert!(scrape.sum("reranker_process_open_fds", &[]) > 3.0);
        let started = scrape.sum("reranker_process_start_time_seconds", &[]);
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?;
        let age = now.as_secs_f64() - started;
        assert!((-2.0..Duration::from_hours(24).as_secs_f64()).contains(&age), "{age} s old");
    }
    Ok(())
}
