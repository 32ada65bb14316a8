//! Canned scores for `--mock`: no model, but the answer that a model gives to an easy question.
//!
//! A document's score is the share of the query's words that it has. It depends on the query and
//! that document alone, as a model's does, so that what is tested against it holds for a model.

use crate::error::Error;
use crate::rerank::{
    self, Latency, RerankRequest, RerankResponse, RerankResult, StreamEvent, StreamHeader,
    StreamSummary,
};
use futures::{Stream, StreamExt};
use reranker_engine::PairScore;
use std::collections::HashSet;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

/// The model's name in answers to requests that name none.
const MODEL: &str = "mock";

/// Scores the documents of `request`, whatever model it names.
pub(crate) async fn rerank(request: RerankRequest) -> Result<RerankResponse, Error> {
    let RerankRequest { query, documents, .. } = &request;
    let (total_bytes, pairs) =
        (rerank::total_bytes(query, documents), score(query, documents).await?);
    Ok(RerankResponse {
        results: rerank::rank(&pairs, request.top_n),
        total_bytes,
        total_tokens: tokens(&pairs),
        latency: request.latency.unwrap_or(Latency::Fast),
        e2e: request.received.elapsed(),
        queue: Duration::ZERO,
        inference: Duration::ZERO,
        model: request.model.unwrap_or_else(|| MODEL.to_owned()),
    })
}

/// Scores the documents of a stream, message by message.
pub(crate) async fn rerank_stream<Sent: Future<Output = ()>>(
    header: StreamHeader,
    documents: impl Stream<Item = Result<Vec<String>, Error>>,
    mut send: impl FnMut(StreamEvent) -> Sent,
) -> Result<(), Error> {
    let mut documents = pin!(documents);
    let (mut count, mut total_bytes, mut total_tokens) = (0, 0, 0);
    while let Some(documents) = documents.next().await {
        let documents = documents?.into();
        let pairs = score(&header.query, &documents).await?;
        total_bytes += rerank::total_bytes(&header.query, &documents);
        total_tokens += tokens(&pairs);
        let results = pairs.iter().enumerate();
        let results: Vec<RerankResult> =
            results.map(|(index, pair)| RerankResult::new(count + index, pair)).collect();
        count += pairs.len();
        if !results.is_empty() {
            send(StreamEvent::Scores(results)).await;
        }
    }
    send(StreamEvent::Summary(StreamSummary {
        documents: count as u64,
        total_bytes,
        total_tokens,
        latency: header.latency.unwrap_or(Latency::Fast),
        e2e: header.received.elapsed(),
        queue: Duration::ZERO,
        inference: Duration::ZERO,
        model: header.model.unwrap_or_else(|| MODEL.to_owned()),
    }))
    .await;
    Ok(())
}

async fn score(query: &str, documents: &Arc<[String]>) -> Result<Vec<PairScore>, Error> {
    let (query, documents) = (query.to_owned(), Arc::clone(documents));
    let pairs = move || {
        let words = words(&query);
        documents.iter().map(|document| pair(&query, &words, document)).collect()
    };
    let pairs = tokio::task::spawn_blocking(pairs).await;
    pairs.map_err(|error| Error::Internal { cause: format!("mocking: {error}") })
}

fn tokens(pairs: &[PairScore]) -> u64 {
    pairs.iter().map(|pair| pair.tokens as u64).sum()
}

/// Strictly between 0 and 1, as a sigmoid is.
fn pair(query: &str, words: &HashSet<String>, document: &str) -> PairScore {
    let found = self::words(document).intersection(words).count();
    let relevance_score = (found as f64 + 1.0) / (words.len() as f64 + 2.0);
    let raw_score = (relevance_score / (1.0 - relevance_score)).ln();
    PairScore {
        logit: raw_score as f32,
        relevance_score,
        raw_score,
        tokens: (query.len() + document.len()).div_ceil(BYTES_PER_TOKEN),
        truncated: false,
    }
}

/// English has about as many.
const BYTES_PER_TOKEN: usize = 4;

fn words(text: &str) -> HashSet<String> {
    text.split(|c: char| !c.is_alphanumeric())
        .filter(|word| !word.is_empty())
        .map(str::to_lowercase)
        .collect()
}
