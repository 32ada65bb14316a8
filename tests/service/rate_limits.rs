//! Quotas of a minute, for each key and class.

use anyhow::Result;
use reranker::rate_limit::{Quota, Rates};
use reranker::server::Edge;
use reranker_proto::v1::{LatencyMode, RerankRequest};
use reranker_tests::certificates::Files;
use reranker_tests::raw::{Answer, Connection};
use reranker_tests::server::{Running, Settings, random};
use tonic::{Code, Request};
use tonic_types::StatusExt;

const RATES: Rates = Rates {
    fast: Quota { bytes: Some(2_000), requests: None },
    slow: Quota { bytes: Some(5_000), requests: Some(3) },
};

async fn server(keys: &Files) -> Result<Running> {
    let edge = Edge { keys_file: Some(keys.path("keys")), ..Edge::default() };
    let settings = Settings { edge, rates: RATES, ..Settings::default() };
    Running::start_with(vec![random("m", 1).await?], settings).await
}

fn post(base: &str, key: &str, latency: &str, document: usize) -> Result<Answer> {
    let key = format!("authorization: Bearer {key}");
    let document = "x".repeat(document - 150);
    let body = format!(r#"{{"query":"","documents":["{document}"],"latency":{latency}}}"#);
    Connection::open(base)?.post_json("/v1/models/rerank", &[&key], &body)
}

/// One key's load would be everybody's refusal; clients without a class would be refused too early.
#[tokio::test(flavor = "multi_thread")]
async fn a_key_has_its_quota_and_is_told_when_to_come_back() -> Result<()> {
    let keys = Files::new(&[("keys", "a\nb read_only\n")])?;
    let server = server(&keys).await?;
    let base = server.http();

    assert_eq!(post(&base, "a", r#""fast""#, 1_900)?.status, 200);
    let refused = post(&base, "a", r#""fast""#, 1_900)?;
    assert_eq!(refused.status, 429);
    let seconds: u64 = refused.headers["retry-after"].parse()?;
    assert!((1..=60).contains(&seconds));
    let text = refused.json()?["detail"].as_str().unwrap_or_default().to_owned();
    assert!(text.starts_with("rate limit: 2000 bytes of fast requests per minute"), "{text}");

    let fallen = post(&base, "a", "null", 1_900)?;
    assert_eq!((fallen.status, &fallen.json()?["actual_latency_mode"]), (200, &"slow".into()));
    assert_eq!(post(&base, "a", r#""slow""#, 1_900)?.status, 200);
    let other = post(&base, "b", "null", 1_900)?;
    assert_eq!((other.status, &other.json()?["actual_latency_mode"]), (200, &"fast".into()));

    // What never fits is the request's fault: a retry would not help.
    let never = post(&base, "b", r#""fast""#, 2_001)?;
    assert_eq!((never.status, never.headers.contains_key("retry-after")), (400, false));
    Ok(())
}

/// A call of many queries would cost as many requests, or be paid for by half and refused.
#[tokio::test(flavor = "multi_thread")]
async fn a_call_of_many_queries_is_charged_once_or_not_at_all() -> Result<()> {
    let keys = Files::new(&[("keys", "a\n")])?;
    let server = server(&keys).await?;
    let base = server.http();
    let score = |queries: usize, bytes: usize| {
        let left: Vec<String> = (0..queries).map(|query| query.to_string()).collect();
        let right = vec!["x".repeat(bytes / queries - 151); queries];
        let body = serde_json::json!({"text_1": left, "text_2": right}).to_string();
        Connection::open(&base)?.post_json("/score", &["authorization: Bearer a"], &body)
    };
    // More than the quotas of both classes, then just the slow one's bytes and one of its three requests.
    assert_eq!(score(4, 6_000)?.status, 400);
    let answer = score(5, 4_000)?;
    assert_eq!(answer.status, 200, "{}", answer.json()?);
    assert_eq!(answer.json()?["data"].as_array().map(Vec::len), Some(5));
    assert_eq!(score(4, 3_000)?.status, 429);
    assert_eq!(post(&base, "a", r#""slow""#, 500)?.status, 200);
    assert_eq!(score(2, 400)?.status, 200, "fast, of which nothing was taken");
    Ok(())
}

/// The two protocols would give twice the quota.
#[tokio::test(flavor = "multi_thread")]
async fn both_protocols_draw_on_one_quota() -> Result<()> {
    let keys = Files::new(&[("keys", "a\n")])?;
    let server = server(&keys).await?;
    assert_eq!(post(&server.http(), "a", r#""fast""#, 1_900)?.status, 200);
    let mut request = Request::new(RerankRequest {
        documents: vec!["x".repeat(1_000)],
        latency: LatencyMode::Fast.into(),
        ..RerankRequest::default()
    });
    request.metadata_mut().insert("authorization", "Bearer a".parse()?);
    let status = server.grpc().await?.rerank(request).await.expect_err("is over the quota");
    assert_eq!(status.code(), Code::ResourceExhausted);
    let retry = status.get_details_retry_info().and_then(|info| info.retry_delay);
    assert!(retry.is_some_and(|delay| (1..=60).contains(&delay.as_secs())), "{status:?}");
    Ok(())
}
