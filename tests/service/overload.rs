//! A full queue is an answer.

use anyhow::Result;
use reranker_engine::{Cuts, EngineOptions};
use reranker_proto::v1::RerankRequest;
use reranker_tests::checkpoint::Checkpoint;
use reranker_tests::server::{Running, load};
use serde_json::json;
use tonic::Code;
use tonic_types::StatusExt;

/// Under load clients must be told when to come back; hanging or a 500 makes it worse.
#[tokio::test]
async fn a_full_queue_refuses_with_a_hint() -> Result<()> {
    let options = EngineOptions { max_queued_tokens: 1, ..EngineOptions::default() };
    let engine = load("m", Checkpoint::new(1), options).await?;
    let server = Running::start(vec![engine.clone()], &[]).await?;
    let mut client = server.grpc().await?;
    let request = json!({"query": "q", "documents": ["d"]});

    // Enough work to keep the queue full while both protocols ask.
    let documents: Vec<String> =
        (0..2_000).map(|i| format!("{i} {}", "so many words ".repeat(300))).collect();
    let encoded = tokio::task::spawn_blocking({
        let engine = engine.clone();
        move || engine.encode("q", &documents, Cuts::default())
    });
    let ticket = engine.submit(encoded.await?)?;

    let http = server.post("/v1/models/rerank", &request).await?;
    assert_eq!(http.status, 429, "{}", http.body);
    let seconds: u64 = http.headers["retry-after"].to_str()?.parse()?;
    assert!((1..=60).contains(&seconds));
    assert_eq!(http.body["detail"], http.body["message"]);

    let documents = vec!["d".to_owned()];
    let request = RerankRequest { query: "q".into(), documents, ..RerankRequest::default() };
    let status = client.rerank(request).await.expect_err("the queue is full");
    assert_eq!(status.code(), Code::ResourceExhausted);
    let retry = status.get_details_retry_info().and_then(|info| info.retry_delay);
    assert!(retry.is_some_and(|delay| (1..=60).contains(&delay.as_secs())), "{status:?}");

    drop(ticket);
    Ok(())
}
