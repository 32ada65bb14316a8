//! API keys: who is let in, over both protocols, and how the keys change.

use anyhow::Result;
use reranker::server::Edge;
use reranker_proto::v1::RerankRequest;
use reranker_proto::v1::reranker_client::RerankerClient;
use reranker_tests::certificates::Files;
use reranker_tests::process::{Process, run, stderr};
use reranker_tests::raw::Connection;
use reranker_tests::server::{Running, Settings, random};
use serde_json::{Value, json};
use std::os::unix::fs::symlink;
use tonic::{Code, Request};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;
use tonic_reflection::pb::v1::ServerReflectionRequest;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;

const PATH: &str = "/v1/models/rerank";
const BODY: &str = r#"{"query":"q","documents":["a","b"]}"#;

async fn server(keys: &Files) -> Result<Running> {
    let edge = Edge { keys_file: Some(keys.path("keys")), ..Edge::default() };
    let settings = Settings { edge, ..Settings::default() };
    Running::start_with(vec![random("m", 1).await?], settings).await
}

fn post(base: &str, key: Option<&str>, body: &str) -> Result<(u16, Value)> {
    let header = key.map(|key| format!("authorization: {key}"));
    let headers: Vec<&str> = header.iter().map(String::as_str).collect();
    let answer = Connection::open(base)?.post_json(PATH, &headers, body)?;
    let challenge = answer.headers.get("www-authenticate").map(String::as_str);
    assert_eq!(challenge, (answer.status == 401).then_some("Bearer"));
    assert!(answer.headers.contains_key("x-request-id"));
    Ok((answer.status, answer.json()?))
}

/// Anybody could use the server, or nobody; the hosted API's test key has spaces.
#[tokio::test(flavor = "multi_thread")]
async fn http_lets_in_who_has_a_key() -> Result<()> {
    let keys = Files::new(&[("keys", "My API Key name=all\nreader read_only\n")])?;
    let server = server(&keys).await?;
    let base = server.http();
    for key in ["Bearer My API Key", "bearer My API Key", "BEARER reader"] {
        assert_eq!(post(&base, Some(key), BODY)?.0, 200, "{key}");
    }
    let text = "Not authenticated";
    for key in [None, Some("Basic My API Key"), Some("My API Key"), Some("Bearer")] {
        let body = json!({"detail": text, "message": text});
        assert_eq!(post(&base, key, BODY)?, (401, body), "{key:?}");
    }
    let text = "invalid API key";
    for key in ["Bearer other", "Bearer My API", "Bearer reader read_only"] {
        let body = json!({"detail": text, "message": text});
        assert_eq!(post(&base, Some(key), BODY)?, (401, body), "{key}");
    }
    let two = ["authorization: Bearer reader", "authorization: Bearer other"];
    assert_eq!(Connection::open(&base)?.post_json(PATH, &two, BODY)?.status, 401);
    Ok(())
}

/// A wrong path must not look like a wrong key, and a stranger must not have his bodies parsed.
#[tokio::test(flavor = "multi_thread")]
async fn the_route_comes_before_the_key_and_the_body_after() -> Result<()> {
    let keys = Files::new(&[("keys", "key")])?;
    let server = server(&keys).await?;
    let base = server.http();
    assert_eq!(Connection::open(&base)?.post_json("/v1/nothing", &[], BODY)?.status, 404);
    let mut connection = Connection::open(&base)?;
    connection.send(format!("GET {PATH} HTTP/1.1\r\nhost: test\r\n\r\n").as_bytes())?;
    assert_eq!(connection.answer()?.status, 405);

    assert_eq!(post(&base, None, "no json")?.0, 401);
    assert_eq!(post(&base, Some("Bearer key"), "no json")?.0, 422);
    let huge = format!("content-length: {}", 1_u64 << 40);
    let mut connection = Connection::open(&base)?;
    connection.post(PATH, &[&huge, "expect: 100-continue"])?;
    assert_eq!(connection.answer()?.status, 401);
    // Probes have no key.
    assert_eq!(server.admin("/readyz").await?.0, 200);
    Ok(())
}

fn request(key: Option<&str>) -> Result<Request<RerankRequest>> {
    let documents = vec!["d".to_owned()];
    let mut request =
        Request::new(RerankRequest { query: "q".into(), documents, ..RerankRequest::default() });
    if let Some(key) = key {
        request.metadata_mut().insert("authorization", key.parse()?);
    }
    Ok(request)
}

/// The second protocol would be the open door.
#[tokio::test]
async fn grpc_lets_in_who_has_a_key() -> Result<()> {
    let keys = Files::new(&[("keys", "My API Key\nreader read_only\n")])?;
    let server = server(&keys).await?;
    let mut client = server.grpc().await?;
    for key in ["Bearer My API Key", "bearer reader"] {
        client.rerank(request(Some(key))?).await?;
    }
    for (key, text) in [
        (None, "Not authenticated"),
        (Some("Basic reader"), "Not authenticated"),
        (Some("Bearer read"), "invalid API key"),
    ] {
        let status = client.rerank(request(key)?).await.expect_err("has no key");
        assert_eq!((status.code(), status.message()), (Code::Unauthenticated, text));
    }

    let channel = server.channel().await?;
    HealthClient::new(channel.clone()).check(HealthCheckRequest::default()).await?;
    let requests = tokio_stream::iter([ServerReflectionRequest::default()]);
    let described = ServerReflectionClient::new(channel).server_reflection_info(requests).await;
    assert_eq!(described.expect_err("has no key").code(), Code::Unauthenticated);
    Ok(())
}

/// A key that leaked must stop working, and a mistake in the file must not shut everybody out. A
/// mounted Secret changes by a symbolic link, with the time of its files unchanged.
#[test]
fn the_keys_follow_their_file() -> Result<()> {
    let files = Files::new(&[("one", "first hush\n"), ("two", "other hush name=x\n")])?;
    symlink(files.path("one"), files.path("keys"))?;
    let keys = files.flag("keys");
    let flags = ["--model", "demo", "--api-keys-file", &keys];
    let process = Process::serve(&flags, &[("RUST_LOG", "trace")])?;
    process.wait_for("ready")?;
    let status = |key: &str| anyhow::Ok(post(&process.http, Some(key), BODY)?.0);
    assert_eq!((status("Bearer first hush")?, status("Bearer other hush")?), (200, 401));

    symlink(files.path("two"), files.path("new"))?;
    std::fs::rename(files.path("new"), files.path("keys"))?;
    let mut log = process.read_until("read again")?;
    assert_eq!((status("Bearer first hush")?, status("Bearer other hush")?), (401, 200));

    for (broken, part) in [("fine hush\nsha256:12\n", "line 2: `sha256:` needs"), ("#", "no key")] {
        files.write("two", broken)?;
        log.extend(process.read_until("not read again: what was read before stays")?);
        let error = log.last().and_then(|entry| entry["error"].as_str()).unwrap_or_default();
        assert!(error.contains(&keys) && error.contains(part), "{error}");
        assert_eq!((status("Bearer other hush")?, status("Bearer fine hush")?), (200, 401));
    }
    process.terminate()?;
    log.extend(process.read_until("SIGTERM received")?);
    let log = format!("{log:?}");
    assert!(log.contains("/v1/models/rerank") && !log.contains("hush"), "{log}");
    assert!(process.end()?.0.success());
    Ok(())
}

/// Nobody could say whose requests the log is full of.
#[tokio::test(flavor = "multi_thread")]
async fn the_log_names_the_key() -> Result<()> {
    let files = Files::new(&[("keys", "hush name=search\nother hush read_only\n")])?;
    let flags = ["--model", "demo", "--api-keys-file", &files.flag("keys")];
    let process = Process::serve(&flags, &[("RUST_LOG", "reranker=debug")])?;
    process.wait_for("ready")?;
    assert_eq!(post(&process.http, Some("Bearer hush"), BODY)?.0, 200);
    let entry = process.wait_for("answered")?;
    assert_eq!(entry["spans"][0]["key"], "search", "{entry}");
    let mut client = RerankerClient::connect(process.grpc.clone()).await?;
    client.rerank(request(Some("Bearer other hush"))?).await?;
    let entry = process.wait_for("answered")?;
    assert_eq!(entry["spans"][0]["key"], "line 2", "{entry}");
    assert_eq!(post(&process.http, None, BODY)?.0, 401);
    let entry = process.wait_for("refused")?;
    assert!(entry["spans"][0].get("key").is_none(), "{entry}");
    Ok(())
}

/// A server that starts without the keys it was told of is open, or closed, to all.
#[test]
fn a_broken_file_is_refused_at_start() -> Result<()> {
    let files = Files::new(&[("keys", "secret\nsecret read_only\n"), ("empty", "")])?;
    for (name, part) in [
        ("keys", "line 2: the same key as in line 1"),
        ("empty", "no key in it"),
        ("missing", "cannot read `"),
    ] {
        let output = run(["serve", "--api-keys-file", &files.flag(name)]);
        let text = stderr(&output);
        assert_eq!(output.status.code(), Some(1), "{text}");
        assert!(text.starts_with("error: ") && text.contains(part), "{text}");
        assert!(text.contains(&files.flag(name)) && !text.contains("secret"), "{text}");
    }
    Ok(())
}
