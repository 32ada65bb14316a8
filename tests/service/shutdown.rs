//! SIGTERM: what comes on the connections that are there is answered, new ones are refused, the process ends.

use crate::http2;
use anyhow::{Context, Result, ensure};
use prost::Message as _;
use reranker_proto::v1::RerankRequest;
use reranker_tests::checkpoint::Checkpoint;
use reranker_tests::process::{Process, run, stderr};
use reranker_tests::raw::Connection;
use reranker_tests::server::{Running, random};
use reranker_tests::{LIMIT, until};
use serde_json::json;
use std::time::{Duration, Instant};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

const PATH: &str = "/v1/models/rerank";
const BODY: &str = r#"{"query":"q","documents":["a","b"]}"#;

/// A server with one request that has been let in and not been sent whole.
fn with_a_request_in_flight(flags: &[&str]) -> Result<(Process, Connection)> {
    let checkpoint = Checkpoint::new(1);
    let model = checkpoint.model("m");
    let process = Process::serve(&[&["--model", &model], flags].concat(), &[])?.ready()?;
    let mut connection = Connection::open(&process.http)?;
    let length = format!("content-length: {}", BODY.len());
    connection.post(PATH, &[&length, "expect: 100-continue"])?;
    // The server asks for the body after it has let the request in.
    assert_eq!(connection.answer()?.status, 100);
    Ok((process, connection))
}

fn get(base: &str, path: &str) -> Result<u16> {
    let mut connection = Connection::open(base)?;
    connection.send(format!("GET {path} HTTP/1.1\r\nhost: test\r\n\r\n").as_bytes())?;
    Ok(connection.answer()?.status)
}

/// Every rollout would lose requests: those in flight, and those that clients were about to send on connections that
/// they keep. Or clients would go on with a server that is going away.
#[test]
fn all_that_comes_on_the_connections_there_is_answered() -> Result<()> {
    let (process, mut in_flight) = with_a_request_in_flight(&[])?;
    let mut kept = Connection::open(&process.http)?;
    let answer = kept.post_json(PATH, &[], BODY)?;
    assert_eq!((answer.status, answer.headers.get("connection")), (200, None));
    let mut new = Connection::open(&process.http)?;
    assert_eq!(get(&process.admin, "/readyz")?, 200);
    process.terminate()?;
    process.wait_for("draining")?;

    for connection in [&mut new, &mut kept] {
        let answer = connection.post_json(PATH, &[], BODY)?;
        assert_eq!((answer.status, &answer.headers["connection"][..]), (200, "close"));
        assert!(connection.is_closed());
    }
    assert_eq!(get(&process.admin, "/readyz")?, 503);
    assert_eq!(get(&process.admin, "/livez")?, 200);
    let refused = Connection::open(&process.http).err().context("new connections are refused")?;
    let cause = refused.downcast_ref::<std::io::Error>().map(std::io::Error::kind);
    assert_eq!(cause, Some(std::io::ErrorKind::ConnectionRefused), "{refused:#}");

    in_flight.send(BODY.as_bytes())?;
    let answer = in_flight.answer()?;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.json()?["results"].as_array().map(Vec::len), Some(2));
    let (status, log) = process.end()?;
    assert!(status.success(), "{status}: {log}");
    Ok(())
}

/// An operator who presses Ctrl-C twice wants it to end now, and to know that it was not clean.
#[test]
fn a_second_signal_ends_at_once() -> Result<()> {
    let (mut process, _in_flight) = with_a_request_in_flight(&[])?;
    // The first one drains; the next that is not an echo of it ends.
    let end = Instant::now() + LIMIT;
    while !process.has_ended()? && Instant::now() < end {
        process.terminate()?;
    }
    let (status, log) = process.end()?;
    assert_eq!(status.code(), Some(1), "{log}");
    assert!(log.contains("second signal: stopped with 1 requests unanswered"), "{log}");
    Ok(())
}

/// A client that never finishes its request would hold the process until it is killed.
#[test]
fn the_grace_ends() -> Result<()> {
    let (process, _in_flight) = with_a_request_in_flight(&["--shutdown-grace-seconds", "0"])?;
    process.terminate()?;
    let (status, log) = process.end()?;
    assert_eq!(status.code(), Some(1), "{log}");
    assert!(log.contains("still running after the grace of 0 s"), "{log}");
    Ok(())
}

/// A client on a slow line would lose the answer that it is in the middle of. Others that just stay
/// must not hold the end.
#[test]
fn an_answer_on_its_way_has_the_grace() -> Result<()> {
    let process = Process::serve(&["--mock", "--shutdown-grace-seconds", "120"], &[])?.ready()?;
    let document = "x".repeat(15_000_000);
    let body = json!({"query": "q", "documents": [document], "return_documents": true}).to_string();
    let mut slow = Connection::open(&process.http)?;
    slow.post("/v1/rerank", &[&format!("content-length: {}", body.len())])?;
    slow.send(body.as_bytes())?;
    slow.wait()?;
    let mut half = Connection::open(&process.http)?;
    half.send(b"POST /v1/rerank HTTP/1.1\r\nhost: ")?;
    process.terminate()?;
    process.wait_for("draining")?;
    assert!(half.is_closed());
    let answer = slow.answer()?;
    assert_eq!(answer.status, 200);
    assert!(answer.body.len() > document.len());
    let (status, log) = process.end()?;
    assert!(status.success(), "{status}: {log}");
    Ok(())
}

/// Calls over gRPC are let in and finished like those over HTTP.
#[tokio::test]
async fn a_grpc_call_in_flight_finishes() -> Result<()> {
    let server = Running::start(vec![random("m", 1).await?], &[]).await?;
    let mut client = server.grpc().await?;
    // Enough work to be still running when the server is told to stop.
    let documents = (0..150).map(|i| format!("{i} {}", "so many words ".repeat(200))).collect();
    let request = RerankRequest { query: "q".into(), documents, ..RerankRequest::default() };
    let call = tokio::spawn(async move { client.rerank(request).await });
    until("the call is let in", async || server.app.in_flight() == 1).await;
    server.stop.cancel();
    let draining = server.app.stage();
    until("the server drains", async || *draining.borrow() == reranker::app::Stage::Draining).await;
    until("new connections are refused", async || server.channel().await.is_err()).await;
    assert_eq!(call.await??.get_ref().results.len(), 150);
    server.ended().await
}

/// What a client of HTTP/2 sends before it can know of the end is answered, on either listener.
#[tokio::test]
async fn requests_that_cross_goaway_are_answered() -> Result<()> {
    let server = Running::start(vec![random("m", 1).await?], &[]).await?;
    let request = RerankRequest {
        query: "q".into(),
        documents: vec!["d".into()],
        ..RerankRequest::default()
    };
    let mut message = vec![0; 5];
    request.encode(&mut message)?;
    let length = u32::try_from(message.len() - 5)?;
    message[1..5].copy_from_slice(&length.to_be_bytes());
    let calls = [
        (server.addresses.grpc, "/reranker.v1.Reranker/Rerank", "application/grpc", message),
        (server.addresses.http, PATH, "application/json", BODY.into()),
    ];
    let mut connections = Vec::new();
    for (address, ..) in &calls {
        let (client, driver) = http2::connect(*address).await?;
        connections.push((client.ready().await?, driver));
    }
    server.stop.cancel();
    // Nothing is awaited before both are on their way.
    let mut answers = Vec::new();
    for ((address, path, kind, body), (client, _)) in calls.into_iter().zip(&mut connections) {
        let head = http2::post(address, path).header("content-type", kind).body(())?;
        let (answer, mut send) = client.send_request(head, false)?;
        send.send_data(body.into(), true)?;
        answers.push(answer);
    }
    for answer in answers {
        let answer = answer.await?;
        assert_eq!(answer.status(), 200);
        let (body, trailers) = http2::body(answer).await?;
        assert!(!body.is_empty());
        let status = trailers.as_ref().and_then(|trailers| trailers.get("grpc-status"));
        assert!(status.is_none_or(|status| status == "0"), "{trailers:?}");
    }
    for (client, driver) in connections {
        drop(client);
        driver.await??;
    }
    server.ended().await
}

/// Clients that watch the health keep a stream open for ever; it must not hold the shutdown.
#[tokio::test]
async fn a_watch_of_the_health_does_not_hold_the_end() -> Result<()> {
    let server = Running::start(vec![random("m", 1).await?], &[]).await?;
    let mut client = HealthClient::new(server.channel().await?);
    let mut watch = client.watch(HealthCheckRequest::default()).await?.into_inner();
    assert!(watch.message().await?.is_some());
    server.stop.cancel();
    while watch.message().await?.is_some() {}
    server.ended().await
}

/// A rollout would lose documents, or leave the next server with another's folder.
#[test]
fn documents_are_there_after_a_restart() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let folder = folder.path().to_str().context("a path")?;
    let checkpoint = Checkpoint::least(1);
    let model = checkpoint.model("m");
    let flags = ["--model", &model, "--data-dir", folder];
    let post = |process: &Process, path: &str, body: serde_json::Value| -> Result<_> {
        let answer = Connection::open(&process.http)?.post_json(path, &[], &body.to_string())?;
        ensure!(answer.status < 300, "{:?}", answer.json());
        answer.json()
    };
    let process = Process::serve(&flags, &[])?.ready()?;
    post(&process, "/v1/collections/add-collection", json!({"collection_name": "c"}))?;
    for number in 0..20 {
        let content = json!({"type": "text", "text": "otter ".repeat(10_000)});
        let path = number.to_string();
        let document = json!({"collection_name": "c", "path": path, "content": content});
        post(&process, "/v1/documents/add-document", document)?;
    }
    let other = run(["serve", "--model", &model, "--data-dir", folder]);
    let errors = stderr(&other);
    ensure!(other.status.code() == Some(1) && errors.contains(folder), "{errors}");
    process.terminate()?;
    let (status, log) = process.end()?;
    ensure!(status.success(), "{status} {log:?}");

    let process = Process::serve(&flags, &[])?.ready()?;
    let start = Instant::now();
    loop {
        let counts = post(&process, "/v1/status/get-status", json!({}))?;
        ensure!(counts["num_documents"] == 20 && start.elapsed() < LIMIT, "{counts}");
        if counts["num_indexed_documents"] == 20 {
            break;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    let query = json!({"collection_name": "c", "query": "otter", "k": 30});
    let found = post(&process, "/v1/queries/top-documents", query)?;
    ensure!(found["results"].as_array().map(Vec::len) == Some(20), "{found}");
    Ok(())
}
