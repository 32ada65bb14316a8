//! The use-case: a query and documents in, the best documents out.
//!
//! Owns the domain's request and response, order and totals; knows no wire and no model names.
//!
//! `RerankRequest -> admit -> encode (blocking pool) -> queue -> scores -> rank -> RerankResponse`

mod score;
mod streaming;

use crate::auth::Principal;
use crate::error::Error;
use futures::{StreamExt, TryStreamExt, future, stream};
use reranker_engine::{Cuts, Engine, Feed, PairScore, ScoreStream};
use score::{Done, Opening, Part, refused, score};
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;

pub use reranker_engine::Latency;
pub(crate) use streaming::{Received, rerank_stream};
pub use streaming::{StreamEvent, StreamHeader, StreamSummary};

/// The most that [`total_bytes`] of one request may be, unless configured otherwise.
pub const MAX_TOTAL_BYTES: u64 = 5_000_000;

/// Requests of one call that are encoded at a time: enough to fill batches.
const AT_A_TIME: usize = 16;

/// What the hosted API counts for a document beside its own bytes and the query's.
const BYTES_PER_DOCUMENT: u64 = 150;

/// Documents to score against a query. Checked: see `api::convert`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RerankRequest {
    /// A loaded model or alias; none: the default model.
    pub model: Option<String>,
    /// The text the documents are scored against.
    pub query: String,
    /// The texts to score; may be empty.
    pub documents: Arc<[String]>,
    /// How many results to return; none: all.
    pub top_n: Option<NonZeroUsize>,
    /// The class of work; none: fast if possible.
    pub latency: Option<Latency>,
    /// Further cuts, beside the model's own.
    pub cuts: Cuts,
    /// When the request's first byte arrived.
    pub received: Instant,
    /// When the caller stops waiting for the answer.
    pub deadline: Option<Instant>,
    /// Who calls.
    pub principal: Principal,
}

/// The best documents, best first.
#[derive(Clone, Debug, PartialEq)]
pub struct RerankResponse {
    /// The model that gave the scores; never an alias.
    pub model: String,
    /// Descending score; equal scores in the documents' order.
    pub results: Vec<RerankResult>,
    /// See [`total_bytes`].
    pub total_bytes: u64,
    /// Tokens of every pair in its prompt after truncation, summed.
    pub total_tokens: u64,
    /// The class the request ran in.
    pub latency: Latency,
    /// From the request's arrival to this response.
    pub e2e: Duration,
    /// From admission to the first batch.
    pub queue: Duration,
    /// Time the device spent on batches that held any of the pairs.
    pub inference: Duration,
}

/// One scored document.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RerankResult {
    /// Position in the request's documents.
    pub index: usize,
    /// Relevance in [0, 1].
    pub relevance_score: f64,
    /// What the relevance is the sigmoid of: the model's logit divided by its scale.
    pub raw_score: f64,
    /// The pair was too long for the model and lost its document's last tokens.
    pub truncated: bool,
}

impl RerankResult {
    pub(crate) fn new(index: usize, pair: &PairScore) -> Self {
        let &PairScore { relevance_score, raw_score, truncated, .. } = pair;
        Self { index, relevance_score, raw_score, truncated }
    }
}

/// The sum over documents of 150 + bytes of the query + bytes of the document.
pub fn total_bytes<D: AsRef<str>>(query: &str, documents: &[D]) -> u64 {
    let each = BYTES_PER_DOCUMENT + query.len() as u64;
    documents.iter().map(|document| each + document.as_ref().len() as u64).sum()
}

/// The results in order: descending score, equal scores in the documents' order, cut to `top_n`.
pub fn rank(pairs: &[PairScore], top_n: Option<NonZeroUsize>) -> Vec<RerankResult> {
    let mut results: Vec<RerankResult> =
        pairs.iter().enumerate().map(|(index, pair)| RerankResult::new(index, pair)).collect();
    // A stable sort keeps equal scores in the documents' order.
    results.sort_by(|a, b| b.relevance_score.total_cmp(&a.relevance_score));
    if let Some(top_n) = top_n {
        results.truncate(top_n.get());
    }
    results
}

/// Scores the documents of requests that are one call, with one caller, class and deadline: they are
/// admitted together or not at all. Dropping the future cancels what has not run.
pub(crate) async fn rerank(
    engine: &Engine,
    encoders: &Semaphore,
    requests: Vec<RerankRequest>,
) -> Result<Vec<RerankResponse>, Error> {
    let Some(&RerankRequest { latency, deadline, .. }) = requests.first() else {
        return Ok(Vec::new());
    };
    let estimate =
        |request: &RerankRequest| engine.estimate(&request.query, &request.documents, request.cuts);
    let tokens = requests.iter().map(estimate).collect();
    let admitted = engine.admit_parts(latency, tokens, deadline).map_err(refused)?;
    stream::iter(requests.into_iter().zip(admitted))
        .map(|(request, admitted)| rerank_admitted(engine, encoders, request, admitted))
        .buffered(AT_A_TIME)
        .try_collect()
        .await
}

async fn rerank_admitted(
    engine: &Engine,
    encoders: &Semaphore,
    request: RerankRequest,
    admitted: (Feed, ScoreStream),
) -> Result<RerankResponse, Error> {
    let RerankRequest {
        model: _,
        query,
        documents,
        top_n,
        latency: _,
        cuts,
        received,
        deadline,
        principal: _,
    } = request;
    let total_bytes = total_bytes(&query, &documents);
    let mut pairs = vec![None; documents.len()];
    // Its documents are there, and nobody has to take its scores.
    let patience = Duration::MAX;
    let opening = Opening { query, cuts, deadline, patience };
    let parts = stream::iter(Part::all(&documents).map(Ok));
    let done = score(engine, encoders, admitted, opening, parts, |scores| {
        for (index, pair) in scores {
            pairs[index] = Some(pair);
        }
        future::ready(())
    });
    let Done { latency, queue, inference, tokens: total_tokens } = done.await?;
    let pairs: Vec<PairScore> =
        pairs.into_iter().map(|pair| pair.expect("the scores are complete")).collect();
    Ok(RerankResponse {
        model: engine.spec().name.clone().into_owned(),
        results: rank(&pairs, top_n),
        total_bytes,
        total_tokens,
        latency,
        e2e: received.elapsed(),
        queue,
        inference,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::{ProptestConfig, any, prop_assert, prop_assert_eq, proptest};

    fn pairs(scores: &[f64]) -> Vec<PairScore> {
        let pair = |&relevance_score| PairScore {
            logit: 0.0,
            relevance_score,
            raw_score: 0.0,
            tokens: 20,
            truncated: false,
        };
        scores.iter().map(pair).collect()
    }

    fn order(scores: &[f64], top_n: usize) -> Vec<usize> {
        let ranked = rank(&pairs(scores), NonZeroUsize::new(top_n));
        ranked.iter().map(|result| result.index).collect()
    }

    /// Clients that page through equal documents would see them jump about.
    #[test]
    fn equal_scores_keep_the_documents_order() {
        assert_eq!(order(&[0.5, 0.9, 0.5, 0.9, 0.5], 0), [1, 3, 0, 2, 4]);
        assert_eq!(order(&[0.5, 0.9, 0.5], 2), [1, 0]);
        assert_eq!(order(&[0.5], 9), [0]);
        assert_eq!(order(&[], 3), [] as [usize; 0]);
    }

    /// Bills and quotas of the hosted API's users are counted in this figure.
    #[test]
    fn bytes_are_counted_as_the_hosted_api_does() {
        let documents = ["4", "The answer is definitely 1 million."];
        assert_eq!(total_bytes("What is 2+2?", &documents), 360);
        assert_eq!(total_bytes("é", &["ß"]), 154);
        assert_eq!(total_bytes("a query alone costs nothing", &[] as &[&str]), 0);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// `top_n` would change which documents are best, not only how many come back.
        #[test]
        fn top_n_is_a_prefix(scores in proptest::collection::vec(0.0..1.0, 0..30), n in any::<u8>()) {
            let all = order(&scores, 0);
            let some = order(&scores, usize::from(n).max(1));
            prop_assert_eq!(&some[..], &all[..some.len()]);
            prop_assert!(all.windows(2).all(|pair| scores[pair[0]] >= scores[pair[1]]));
        }
    }
}
