//! Loading and ready, seen from all three listeners.

use anyhow::Result;
use reranker_proto::v1::RerankRequest;
use reranker_tests::server::{Running, random};
use serde_json::json;
use tonic::Code;
use tonic_types::StatusExt;

/// A cluster would kill a pod that is still downloading, or send requests to it.
#[tokio::test]
async fn while_loading_the_process_is_alive_and_not_ready() -> Result<()> {
    let server = Running::start(Vec::new(), &[]).await?;
    let request = json!({"query": "q", "documents": ["d"]});
    assert_eq!(server.admin("/livez").await?.0, 200);
    assert_eq!(server.admin("/readyz").await?, (503, "loading".to_owned()));

    let http = server.post("/v1/models/rerank", &request).await?;
    assert_eq!(http.status, 503);
    let seconds: u64 = http.headers["retry-after"].to_str()?.parse()?;
    assert!((1..=60).contains(&seconds));
    assert_eq!(http.body["detail"], format!("loading the model; retry in {seconds} s"));
    assert_eq!(server.post("/v1/nothing", &request).await?.status, 404);

    let documents = vec!["d".to_owned()];
    let request = RerankRequest { query: "q".into(), documents, ..RerankRequest::default() };
    let mut client = server.grpc().await?;
    let status = client.rerank(request.clone()).await.expect_err("the model is not there");
    assert_eq!(
        (status.code(), status.message()),
        (Code::Unavailable, http.body["detail"].as_str().unwrap_or_default())
    );
    let retry = status.get_details_retry_info().and_then(|info| info.retry_delay);
    assert_eq!(retry.map(|delay| delay.as_secs()), Some(seconds));

    server.app.serve_models(vec![random("m", 1).await?]);
    assert_eq!(server.admin("/readyz").await?, (200, "ok".to_owned()));
    assert_eq!(client.rerank(request).await?.get_ref().model, "m");
    Ok(())
}
