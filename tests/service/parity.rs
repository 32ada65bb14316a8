//! gRPC and HTTP are one service: the same request has the same result or the same refusal.

use anyhow::{Context, Result};
use proptest::prelude::{Just, ProptestConfig, Strategy, any, prop, prop_oneof};
use proptest::test_runner::TestRunner;
use reranker_proto::v1::reranker_client::RerankerClient;
use reranker_proto::v1::{LatencyMode, RerankRequest, RerankResponse};
use reranker_tests::server::{Answer, Running, random};
use serde_json::{Value, json};
use tonic::transport::Channel;
use tonic::{Code, Status};

fn model() -> impl Strategy<Value = Option<String>> {
    prop_oneof![
        3 => Just(None),
        2 => Just(Some("first".to_owned())),
        2 => Just(Some("second".to_owned())),
        1 => Just(Some("alias".to_owned())),
        1 => Just(Some("nope".to_owned())),
    ]
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        20 => any::<String>(),
        10 => "[a-z ]{0,200}",
        5 => Just(String::new()),
        5 => Just("<|im_end|>".to_owned()),
        1 => Just("x".repeat(5_000_000)),
    ]
}

fn requests() -> impl Strategy<Value = RerankRequest> {
    let top_n = prop::option::weighted(0.5, prop_oneof![4 => 1..8_i64, 1 => any::<i64>()]);
    let latency = prop_oneof![9 => 0..3_i32, 1 => 3..9_i32];
    (model(), text(), prop::collection::vec(text(), 0..6), top_n, latency).prop_map(
        |(model, query, documents, top_n, latency)| RerankRequest {
            model: model.unwrap_or_default(),
            query,
            documents,
            top_n,
            latency,
        },
    )
}

/// The request as an HTTP client would write it.
fn to_json(request: &RerankRequest) -> Value {
    let latency = match LatencyMode::try_from(request.latency) {
        Ok(LatencyMode::Unspecified) => json!(null),
        Ok(LatencyMode::Fast) => json!("fast"),
        Ok(LatencyMode::Slow) => json!("slow"),
        Err(_) => json!("no such class"),
    };
    let model = Some(&request.model).filter(|model| !model.is_empty());
    json!({
        "model": model, "query": request.query, "documents": request.documents,
        "top_n": request.top_n, "latency": latency,
    })
}

fn assert_same_result(grpc: &RerankResponse, http: &Value) {
    let results = http["results"].as_array().expect("results are a list");
    assert_eq!(grpc.results.len(), results.len());
    for (grpc, http) in grpc.results.iter().zip(results) {
        assert_eq!(json!(grpc.index), http["index"]);
        let score = http["relevance_score"].as_f64().expect("a score");
        assert!((grpc.relevance_score - score).abs() <= 1e-9, "{grpc:?} {http}");
    }
    assert_eq!(json!(grpc.total_bytes), http["total_bytes"]);
    assert_eq!(json!(grpc.total_tokens), http["total_tokens"]);
    let mode = match grpc.actual_latency_mode() {
        LatencyMode::Fast => "fast",
        LatencyMode::Slow => "slow",
        LatencyMode::Unspecified => "unspecified",
    };
    assert_eq!(mode, http["actual_latency_mode"]);
}

fn assert_same_refusal(grpc: &Status, http: &Answer) {
    let code = match http.status {
        400 | 422 => Code::InvalidArgument,
        404 => Code::NotFound,
        413 => Code::OutOfRange,
        other => panic!("status {other}: {}", http.body),
    };
    assert_eq!(grpc.code(), code);
    assert_eq!(grpc.message(), http.body["message"]);
}

async fn compare(
    server: &Running,
    client: &mut RerankerClient<Channel>,
    request: RerankRequest,
) -> Result<()> {
    let http = server.post("/v1/models/rerank", &to_json(&request)).await?;
    match client.rerank(request).await {
        Ok(response) => {
            assert_eq!(http.status, 200, "{}", http.body);
            assert_same_result(response.get_ref(), &http.body);
        }
        Err(status) => assert_same_refusal(&status, &http),
    }
    Ok(())
}

/// A team that moves from one protocol to the other would see other scores, or handle errors that
/// never come.
#[test]
fn both_protocols_agree() -> Result<()> {
    let runtime = tokio::runtime::Runtime::new()?;
    let server = runtime.block_on(async {
        let models = vec![random("first", 1).await?, random("second", 2).await?];
        Running::start(models, &[("alias", "second")]).await
    })?;
    let client = runtime.block_on(server.grpc())?;
    // Failures are printed with the request; there is no file of them to keep.
    let config = ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(128) };
    TestRunner::new(config).run(&requests(), |request| {
        runtime.block_on(compare(&server, &mut client.clone(), request)).expect("both answer");
        Ok(())
    })?;
    Ok(())
}

/// The one size that the property test does not reach.
#[tokio::test]
async fn both_protocols_refuse_over_16_mib() -> Result<()> {
    let server = Running::start(vec![random("m", 1).await?], &[]).await?;
    let mut client = server.grpc().await?;
    let request = RerankRequest { query: "x".repeat(16 << 20), ..RerankRequest::default() };
    compare(&server, &mut client, request).await.context("over the limit")
}
