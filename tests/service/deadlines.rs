//! A caller's time and presence: refused at once what cannot make it, dropped what nobody waits for.

use anyhow::Result;
use reranker_engine::{Engine, EngineOptions};
use reranker_proto::v1::RerankRequest;
use reranker_tests::checkpoint::Checkpoint;
use reranker_tests::raw::Connection;
use reranker_tests::server::{Running, load};
use reranker_tests::until;
use serde_json::json;
use std::time::{Duration, Instant};
use tonic::{Code, Request};

/// A server with a small batch, so that large requests take many.
async fn server() -> Result<(Engine, Running)> {
    let options = EngineOptions {
        max_batch_tokens: Some(64),
        max_queued_tokens: 10_000_000,
        max_queue: Duration::from_hours(1),
        ..EngineOptions::default()
    };
    let engine = load("m", Checkpoint::new(1), options).await?;
    let server = Running::start(vec![engine.clone()], &[]).await?;
    Ok((engine, server))
}

/// Many seconds of work.
fn large() -> RerankRequest {
    let documents = (0..3_000).map(|i| format!("{i} {}", "so many words ".repeat(100)));
    RerankRequest { query: "q".into(), documents: documents.collect(), ..RerankRequest::default() }
}

async fn idle(engine: &Engine) {
    until("the device is idle", async || {
        let stats = engine.stats();
        stats.queued_requests == 0 && stats.inflight_tokens == 0
    })
    .await;
}

/// Work that cannot be done in time keeps others waiting and helps nobody.
#[tokio::test]
async fn what_cannot_make_its_deadline_is_refused_at_once() -> Result<()> {
    let (engine, server) = server().await?;
    let mut client = server.grpc().await?;
    let mut request = Request::new(large());
    request.set_timeout(Duration::from_secs(2));
    let status = client.rerank(request).await.expect_err("takes longer");
    assert_eq!(status.code(), Code::ResourceExhausted, "{status:?}");
    assert!(status.message().contains("the caller waits"), "{status:?}");

    let body = json!({"query": "q", "documents": large().documents});
    for header in ["x-stainless-read-timeout", "X-Stainless-Timeout"] {
        let answer = server.post_with("/v1/models/rerank", &body, &[(header, "2.0")]).await?;
        assert_eq!(answer.status, 429, "{}", answer.body);
        assert!(answer.headers.contains_key("retry-after"));
        let text = answer.body["detail"].as_str().unwrap_or_default();
        assert!(text.contains("the caller waits"), "{text}");
    }
    assert_eq!(engine.stats().batches, 0);
    Ok(())
}

/// A caller whose time is over is told so, and not to try again.
#[tokio::test]
async fn a_deadline_that_passes_is_answered() -> Result<()> {
    let (engine, server) = server().await?;
    let body = json!({"query": "q", "documents": ["d"]}).to_string();
    let http = server.http();
    let answer = tokio::task::spawn_blocking(move || {
        let mut connection = Connection::open(&http)?;
        let length = format!("content-length: {}", body.len());
        let headers = [&length[..], "x-stainless-timeout: 0.001", "expect: 100-continue"];
        connection.post("/v1/models/rerank", &headers)?;
        // The server asks for the body after it has let the request in.
        connection.answer()?;
        let sent = Instant::now();
        while sent.elapsed() < Duration::from_millis(2) {
            std::thread::yield_now();
        }
        connection.send(body.as_bytes())?;
        connection.answer()
    });
    let answer = answer.await??;
    assert_eq!((answer.status, answer.headers["x-should-retry"].as_str()), (504, "false"));
    let text = "the deadline passed before the answer was ready";
    assert_eq!(answer.json()?, json!({"detail": text, "message": text}));
    assert_eq!(engine.stats().batches, 0);
    Ok(())
}

/// A client that hangs up must not keep the device busy, whatever it spoke.
#[tokio::test]
async fn a_client_that_goes_away_leaves_the_queue() -> Result<()> {
    let (engine, server) = server().await?;
    let running = async |count: u64| {
        until("it runs", async || engine.stats().batches >= count).await;
    };

    let mut client = server.grpc().await?;
    let call = tokio::spawn(async move { client.rerank(large()).await });
    running(1).await;
    call.abort();
    idle(&engine).await;
    assert_eq!(engine.stats().cancelled_requests, 1);

    let body = json!({"query": "q", "documents": large().documents}).to_string();
    let http = server.http();
    let before = engine.stats().batches;
    let connection = tokio::task::spawn_blocking(move || -> Result<Connection> {
        let mut connection = Connection::open(&http)?;
        connection.post("/v1/models/rerank", &[&format!("content-length: {}", body.len())])?;
        connection.send(body.as_bytes())?;
        Ok(connection)
    });
    let connection = connection.await??;
    running(before + 1).await;
    drop(connection);
    idle(&engine).await;
    assert_eq!(engine.stats().cancelled_requests, 2);
    assert_eq!(server.app.in_flight(), 0);
    Ok(())
}

/// One bad batch of calls, dropped mid-way, must leave nothing behind.
#[tokio::test]
async fn a_hundred_dropped_requests_free_the_device() -> Result<()> {
    let (engine, server) = server().await?;
    let channel = server.channel().await?;
    let calls: Vec<_> = (0..100)
        .map(|_| {
            let mut client =
                reranker_proto::v1::reranker_client::RerankerClient::new(channel.clone());
            let mut request = large();
            request.documents.truncate(100);
            tokio::spawn(async move { client.rerank(request).await })
        })
        .collect();
    until("all are let in", async || engine.stats().queued_requests >= 99).await;
    for call in &calls {
        call.abort();
    }
    until("all are dropped", async || engine.stats().cancelled_requests == 100).await;
    let before = engine.stats().batches;
    idle(&engine).await;
    let stats = engine.stats();
    assert_eq!(stats.cancelled_requests, 100);
    // The batch that ran while they were dropped, and one that was taken before the last was.
    assert!(stats.batches <= before + 2, "{before} batches, then {stats:?}");
    until("nothing is in flight", async || server.app.in_flight() == 0).await;
    Ok(())
}
