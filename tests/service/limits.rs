//! Limits that are configured: what one request may bring, and what all may hold.

use anyhow::Result;
use reranker::app::RequestLimits;
use reranker::server::{ConnectionLimits, Edge};
use reranker_proto::v1::RerankRequest;
use reranker_tests::raw::Connection;
use reranker_tests::server::{Running, Settings, random};
use reranker_tests::until;
use serde_json::json;
use tonic::Code;
use tonic_types::StatusExt;

const PATH: &str = "/v1/models/rerank";

fn documents(count: usize, bytes: usize) -> RerankRequest {
    let documents = vec!["x".repeat(bytes); count];
    RerankRequest { query: "q".into(), documents, ..RerankRequest::default() }
}

/// An operator's limits would hold for one protocol only, or not at all.
#[tokio::test]
async fn a_request_keeps_to_the_configured_limits() -> Result<()> {
    let limits = RequestLimits {
        bytes: 1_000,
        documents: Some(3),
        body_bytes: 2_000,
        ..RequestLimits::default()
    };
    let settings = Settings { limits, ..Settings::default() };
    let server = Running::start_with(vec![random("m", 1).await?], settings).await?;
    let mut client = server.grpc().await?;
    for (count, bytes, status, code, text) in [
        (3, 1, 200, Code::Ok, ""),
        (4, 1, 400, Code::InvalidArgument, "4 documents; the limit is 3 a request"),
        (1, 849, 200, Code::Ok, ""),
        (1, 850, 400, Code::InvalidArgument, "the limit is 1000"),
        (1, 3_000, 413, Code::OutOfRange, "the request is over 2000 bytes"),
    ] {
        let request = documents(count, bytes);
        let body = json!({"query": request.query, "documents": request.documents});
        let http = server.post(PATH, &body).await?;
        assert_eq!(http.status, status, "{}", http.body);
        let grpc = client.rerank(request).await;
        let (is, message) = match &grpc {
            Ok(_) => (Code::Ok, ""),
            Err(status) => (status.code(), status.message()),
        };
        assert_eq!(is, code, "{message}");
        if status != 200 {
            assert_eq!(http.body["message"], message);
            assert!(message.contains(text), "{message}");
        }
    }
    Ok(())
}

/// Many large requests at once would take all of the machine's memory.
#[tokio::test(flavor = "multi_thread")]
async fn bodies_share_one_budget() -> Result<()> {
    let limits = ConnectionLimits { inflight_bytes: 100_000, ..ConnectionLimits::default() };
    let request = RequestLimits {
        bytes: 90_000,
        documents: None,
        body_bytes: 90_000,
        ..RequestLimits::default()
    };
    let edge = Edge { limits, ..Edge::default() };
    let settings = Settings { edge, limits: request, ..Settings::default() };
    let server = Running::start_with(vec![random("m", 1).await?], settings).await?;
    let mut client = server.grpc().await?;
    let large = documents(1, 60_000);
    let body = json!({"query": large.query, "documents": large.documents}).to_string();
    assert_eq!(server.post_bytes(PATH, body.clone()).await?.status, 200);

    let mut holder = Connection::open(&server.http())?;
    holder.post(PATH, &["content-length: 80000", "expect: 100-continue"])?;
    assert_eq!(holder.answer()?.status, 100);
    holder.send(&vec![b' '; 70_000])?;
    // The bytes count once they are read.
    let refused = async || Ok::<_, anyhow::Error>(server.post_bytes(PATH, body.clone()).await?);
    until("the first body is read", async || {
        refused().await.is_ok_and(|answer| answer.status == 429)
    })
    .await;
    let http = refused().await?;
    assert_eq!((http.status, &http.headers["retry-after"]), (429, &"1".parse()?));
    let status = client.rerank(large.clone()).await.expect_err("there is no room");
    assert_eq!(status.code(), Code::ResourceExhausted);
    assert_eq!(http.body["message"], status.message());
    assert!(status.message().contains("hold the 100000 bytes"), "{}", status.message());
    assert!(status.get_details_retry_info().is_some());
    // Small ones still fit.
    assert_eq!(server.post(PATH, &json!({"query": "q", "documents": ["d"]})).await?.status, 200);

    drop(holder);
    until("the bytes have returned", async || {
        refused().await.is_ok_and(|answer| answer.status == 200)
    })
    .await;
    client.rerank(large).await?;
    Ok(())
}
