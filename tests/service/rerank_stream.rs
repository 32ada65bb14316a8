//! `RerankStream`: documents as they come, scores as they are there.

use anyhow::{Context, Result};
use reranker::app::RequestLimits;
use reranker::rate_limit::{Quota, Rates};
use reranker_engine::EngineOptions;
use reranker_proto::v1::rerank_stream_request::Message as Sent;
use reranker_proto::v1::rerank_stream_response::Message as Received;
use reranker_proto::v1::reranker_client::RerankerClient;
use reranker_proto::v1::{
    LatencyMode, RerankRequest, RerankStreamDocuments, RerankStreamHeader, RerankStreamRequest,
    RerankStreamResponse, RerankStreamSummary,
};
use reranker_tests::checkpoint::Checkpoint;
use reranker_tests::server::{Running, Settings, load, random};
use reranker_tests::until;
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Endpoint;
use tonic::{Code, Status, Streaming};
use tonic_types::StatusExt;

/// A stream's two directions.
struct Call {
    send: mpsc::Sender<RerankStreamRequest>,
    answers: Streaming<RerankStreamResponse>,
}

fn header(query: &str) -> RerankStreamRequest {
    let query = query.to_owned();
    message(Sent::Header(RerankStreamHeader { query, ..RerankStreamHeader::default() }))
}

fn documents(documents: &[String]) -> RerankStreamRequest {
    message(Sent::Documents(RerankStreamDocuments { documents: documents.to_vec() }))
}

fn message(message: Sent) -> RerankStreamRequest {
    RerankStreamRequest { message: Some(message) }
}

async fn call(server: &Running, first: RerankStreamRequest) -> Result<Call> {
    let (send, messages) = mpsc::channel(1);
    send.send(first).await?;
    let mut client = server.grpc().await?;
    let answers = client.rerank_stream(ReceiverStream::new(messages)).await?.into_inner();
    Ok(Call { send, answers })
}

impl Call {
    /// The scores by index of the next message.
    async fn scores(&mut self) -> Result<BTreeMap<i64, f64>> {
        match self.answers.message().await?.and_then(|answer| answer.message) {
            Some(Received::Scores(scores)) => Ok(scores
                .results
                .iter()
                .map(|result| (result.index, result.relevance_score))
                .collect()),
            other => anyhow::bail!("no scores but {other:?}"),
        }
    }

    /// Everything until the end.
    async fn rest(mut self) -> Result<(BTreeMap<i64, f64>, RerankStreamSummary), Status> {
        drop(self.send);
        let mut scores = BTreeMap::new();
        let mut summary = None;
        while let Some(answer) = self.answers.message().await? {
            assert!(summary.is_none(), "the summary is the last message");
            match answer.message {
                Some(Received::Scores(some)) => {
                    assert!(!some.results.is_empty());
                    for result in some.results {
                        let twice = scores.insert(result.index, result.relevance_score);
                        assert_eq!(twice, None, "document {} scored twice", result.index);
                    }
                }
                Some(Received::Summary(last)) => summary = Some(last),
                None => panic!("an empty message"),
            }
        }
        Ok((scores, summary.expect("a stream that ends well has a summary")))
    }
}

fn texts(count: usize, words: usize) -> Vec<String> {
    (0..count).map(|i| format!("{i} {}", "so many words ".repeat(words))).collect()
}

/// A stream must not be another model: same scores, counts and bytes as one call.
#[tokio::test]
async fn a_stream_scores_as_one_call_does() -> Result<()> {
    let server = Running::start(vec![random("m", 1).await?], &[]).await?;
    let mut all = texts(700, 3);
    all[650] = all[2].clone();
    all[1] = all[0].clone();
    let stream = call(&server, header("which one")).await?;
    for part in [&all[..1], &all[1..2], &[], &all[2..640], &all[640..]] {
        stream.send.send(documents(part)).await?;
    }
    let (scores, summary) = stream.rest().await?;

    let request =
        RerankRequest { query: "which one".into(), documents: all, ..RerankRequest::default() };
    let whole = server.grpc().await?.rerank(request).await?.into_inner();
    let expected: BTreeMap<i64, f64> =
        whole.results.iter().map(|result| (result.index, result.relevance_score)).collect();
    assert_eq!(scores, expected);
    assert_eq!(
        (summary.documents, summary.total_bytes, summary.total_tokens, summary.model.as_str()),
        (700, whole.total_bytes, whole.total_tokens, "m")
    );
    assert_eq!(summary.actual_latency_mode(), LatencyMode::Fast);
    Ok(())
}

/// Whoever shows results as they come would wait for the last document.
#[tokio::test]
async fn scores_come_before_the_documents_end() -> Result<()> {
    let server = Running::start(vec![random("m", 1).await?], &[]).await?;
    let mut stream = call(&server, header("q")).await?;
    for index in 0..3 {
        stream.send.send(documents(&texts(1, 1))).await?;
        assert_eq!(stream.scores().await?.into_keys().collect::<Vec<_>>(), [index]);
    }
    let (rest, summary) = stream.rest().await?;
    assert!(rest.is_empty());
    assert_eq!(summary.documents, 3);
    Ok(())
}

/// A stream without documents is a whole one.
#[tokio::test]
async fn an_empty_stream_has_a_summary() -> Result<()> {
    let server = Running::start(vec![random("m", 1).await?], &[]).await?;
    let (scores, summary) = call(&server, header("q")).await?.rest().await?;
    assert!(scores.is_empty());
    assert_eq!((summary.documents, summary.total_bytes, summary.total_tokens), (0, 0, 0));
    Ok(())
}

/// The same refusals as for one call, and for what only a stream can do wrong.
#[tokio::test]
async fn wrong_streams_are_refused_with_what_is_wrong() -> Result<()> {
    let server = Running::start(vec![random("m", 1).await?], &[]).await?;
    let refusal = async |messages: Vec<RerankStreamRequest>| -> Result<Status> {
        let mut messages = messages.into_iter();
        let stream = call(&server, messages.next().context("a first message")?).await?;
        for message in messages {
            // The stream may have been refused already.
            let _ = stream.send.send(message).await;
        }
        Ok(stream.rest().await.expect_err("is refused"))
    };
    let wrong_header = RerankStreamHeader { latency: 7, ..RerankStreamHeader::default() };
    for (messages, field) in [
        (vec![documents(&texts(1, 1))], "header"),
        (vec![header("q"), header("q")], "header"),
        (vec![message(Sent::Header(wrong_header))], "header.latency"),
    ] {
        let status = refusal(messages).await?;
        assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
        let details = status.get_details_bad_request().context("names the field")?;
        assert_eq!(details.field_violations[0].field, field);
    }
    let long = vec!["x".repeat(3_000_000)];
    let status = refusal(vec![header("q"), documents(&long), documents(&long)]).await?;
    assert_eq!(status.code(), Code::InvalidArgument);
    assert!(status.message().contains("count 6000302 bytes"), "{status:?}");
    let unknown = RerankStreamHeader { model: "nope".into(), ..RerankStreamHeader::default() };
    let status = refusal(vec![message(Sent::Header(unknown))]).await?;
    assert_eq!(
        (status.code(), status.message()),
        (Code::NotFound, "model `nope` not found; available: m")
    );
    Ok(())
}

/// A client that never reads must cost a bounded part of the queue and of memory, and hold up nobody;
/// and not for longer than it may be silent.
#[tokio::test]
async fn a_client_that_never_reads_slows_down_only_itself() -> Result<()> {
    let engine = random("m", 1).await?;
    let limits = RequestLimits { patience: Duration::from_secs(1), ..RequestLimits::default() };
    let settings = Settings { limits, ..Settings::default() };
    let server = Running::start_with(vec![engine.clone()], settings).await?;
    // The client's window, in bytes: some thousand answers.
    let channel = Endpoint::from_shared(format!("http://{}", server.addresses.grpc))?
        .initial_stream_window_size(65_535)
        .connect()
        .await?;
    let (send, messages) = mpsc::channel(1);
    send.send(header("q")).await?;
    let mut client = RerankerClient::new(channel);
    let answers = client.rerank_stream(ReceiverStream::new(messages)).await?.into_inner();
    let all: Vec<String> = (0..30_000).map(|i| i.to_string()).collect();
    let sending = tokio::spawn({
        let all = all.clone();
        async move {
            for part in all.chunks(10) {
                if send.send(documents(part)).await.is_err() {
                    break;
                }
            }
        }
    });
    let request = RerankRequest {
        query: "q".into(),
        documents: vec!["another client's".to_owned()],
        ..RerankRequest::default()
    };
    until("the call is given up", async || {
        let answered = server.grpc().await.expect("connects").rerank(request.clone()).await;
        assert!(answered.is_ok(), "{answered:?}");
        server.app.in_flight() == 0
    })
    .await;
    let ran = engine.stats().batch_tokens;
    let whole = RerankRequest { documents: all, ..request };
    server.grpc().await?.rerank(whole).await?;
    let whole = engine.stats().batch_tokens - ran;
    assert!(ran < whole * 7 / 10, "{ran} of {whole} tokens ran for a client that reads nothing");
    drop(answers);
    // Its client would wait for ever to send the rest.
    sending.abort();
    Ok(())
}

/// A stream whose client has fallen silent would hold its place for ever; one that waits for the
/// server has not fallen silent.
#[tokio::test]
async fn a_silent_client_is_told_that_its_time_is_over() -> Result<()> {
    let limits = RequestLimits { patience: Duration::from_millis(500), ..RequestLimits::default() };
    let settings = Settings { limits, ..Settings::default() };
    let server = Running::start_with(vec![random("m", 1).await?], settings).await?;
    let mut stream = call(&server, header("q")).await?;
    // Scored in several times the patience.
    stream.send.send(documents(&texts(1_000, 200))).await?;
    let mut scored = 0;
    while scored < 1_000 {
        scored += stream.scores().await?.len();
    }
    let status = loop {
        match stream.answers.message().await {
            Ok(answer) => assert!(answer.is_some(), "the stream ended well"),
            Err(status) => break status,
        }
    };
    assert_eq!(status.code(), Code::DeadlineExceeded, "{status:?}");
    let (_, metrics) = server.admin("/metrics").await?;
    let counted = "code=\"body_timeout\"} 1";
    assert!(metrics.lines().any(|line| line.ends_with(counted)), "{metrics}");
    Ok(())
}

/// What a stream is refused for is what a call is refused for: code, text and count.
#[tokio::test]
async fn a_streams_rates_are_a_calls_rates() -> Result<()> {
    let quota = |bytes| Quota { bytes: Some(bytes), requests: None };
    let rates = Rates { fast: quota(1_000), slow: quota(2_000) };
    let settings = Settings { rates, ..Settings::default() };
    let server = Running::start_with(vec![random("m", 1).await?], settings).await?;
    let stream = call(&server, header("q")).await?;
    // Fast has room for the first of them, slow for the next two, nobody for the last.
    for document in ["a", "b", "c", "d"] {
        let _ = stream.send.send(documents(&[document.repeat(800)])).await;
    }
    let status = stream.rest().await.expect_err("is over its rate");
    assert_eq!(status.code(), Code::ResourceExhausted, "{status:?}");
    assert!(status.message().starts_with("rate limit: "), "{status:?}");
    let (_, metrics) = server.admin("/metrics").await?;
    assert!(metrics.contains("reason=\"rate_limit\""), "{metrics}");
    Ok(())
}

/// Documents of a client that has gone would take the device from the others.
#[tokio::test]
async fn a_dropped_stream_leaves_the_queue() -> Result<()> {
    let options = EngineOptions { max_batch_tokens: Some(64), ..EngineOptions::default() };
    let engine = load("m", Checkpoint::new(1), options).await?;
    let server = Running::start(vec![engine.clone()], &[]).await?;
    let mut stream = call(&server, header("q")).await?;
    stream.send.send(documents(&texts(250, 100))).await?;
    stream.scores().await?;
    drop(stream);
    until("the queue is empty", async || {
        let stats = engine.stats();
        stats.queued_requests == 0 && stats.inflight_tokens == 0
    })
    .await;
    assert_eq!(engine.stats().cancelled_requests, 1);
    assert!(engine.stats().batches < 200, "{:?}", engine.stats());
    until("nothing is in flight", async || server.app.in_flight() == 0).await;
    Ok(())
}

/// Shutdown lets a stream end properly.
#[tokio::test]
async fn a_stream_that_was_let_in_ends_properly_at_shutdown() -> Result<()> {
    let server = Running::start(vec![random("m", 1).await?], &[]).await?;
    let mut stream = call(&server, header("q")).await?;
    stream.send.send(documents(&texts(1, 1))).await?;
    stream.scores().await?;
    server.stop.cancel();
    let stage = server.app.stage();
    until("the server drains", async || *stage.borrow() == reranker::app::Stage::Draining).await;
    stream.send.send(documents(&texts(2, 1))).await?;
    let (scores, summary) = stream.rest().await?;
    assert_eq!((scores.len(), summary.documents), (2, 3));
    server.ended().await
}
