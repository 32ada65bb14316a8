//! The streamed form of the use-case: documents as they come, scores as they are there.

use super::score::{Done, Opening, Part, refused, score};
use super::{Latency, RerankResult, total_bytes};
use crate::auth::Principal;
use crate::error::Error;
use futures::{Stream, StreamExt, stream};
use reranker_engine::{Cuts, Engine};
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;

/// What a stream begins with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamHeader {
    /// A loaded model or alias; none: the default model.
    pub model: Option<String>,
    /// The text the documents are scored against.
    pub query: String,
    /// The class of work; none: fast if possible.
    pub latency: Option<Latency>,
    /// When the request's first byte arrived.
    pub received: Instant,
    /// When the caller stops waiting for the answer.
    pub deadline: Option<Instant>,
    /// How long the caller may bring nothing, or take nothing, while it is its turn.
    pub patience: Duration,
    /// Who calls.
    pub principal: Principal,
}

/// What a stream answers.
#[derive(Clone, Debug, PartialEq)]
pub enum StreamEvent {
    /// Scores of some documents, at least one, in no particular order.
    Scores(Vec<RerankResult>),
    /// Every document has its score.
    Summary(StreamSummary),
}

/// How a stream ran.
#[derive(Clone, Debug, PartialEq)]
pub struct StreamSummary {
    /// The model that gave the scores; never an alias.
    pub model: String,
    /// Documents scored.
    pub documents: u64,
    /// See [`total_bytes`].
    pub total_bytes: u64,
    /// Tokens of every pair in its prompt after truncation, summed.
    pub total_tokens: u64,
    /// The class the request ran in.
    pub latency: Latency,
    /// From the request's arrival to this summary.
    pub e2e: Duration,
    /// From admission to the first batch.
    pub queue: Duration,
    /// Time the device spent on batches that held any of the pairs.
    pub inference: Duration,
}

/// What a stream has brought.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Received {
    pub(crate) documents: usize,
    /// See [`total_bytes`].
    pub(crate) bytes: u64,
}

/// Scores the documents of a stream and gives `send` what is there, waiting until it is sent.
///
/// `charge` is asked about each message, with what has come and the message's own bytes, before it
/// costs anything. Dropping the future cancels what has not
/// run.
pub(crate) async fn rerank_stream<Sent: Future<Output = ()>>(
    engine: &Engine,
    encoders: &Semaphore,
    header: StreamHeader,
    mut charge: impl FnMut(Received, u64) -> Result<(), Error>,
    documents: impl Stream<Item = Result<Vec<String>, Error>>,
    mut send: impl FnMut(StreamEvent) -> Sent,
) -> Result<(), Error> {
    let StreamHeader { model: _, query, latency, received, deadline, patience, principal: _ } =
        header;
    let mut so_far = Received::default();
    let parts = {
        let (so_far, query) = (&mut so_far, query.clone());
        documents.flat_map(move |documents| {
            let documents = documents.and_then(|documents| {
                let bytes = total_bytes(&query, &documents);
                so_far.documents += documents.len();
                so_far.bytes += bytes;
                charge(*so_far, bytes)?;
                Ok(documents.into())
            });
            stream::iter(match documents {
                Ok(documents) => Part::all(&documents).map(Ok).collect(),
                Err(error) => vec![Err(error)],
            })
        })
    };
    let cuts = Cuts::default();
    let admitted = engine.admit(latency, None, deadline).map_err(refused)?;
    let opening = Opening { query, cuts, deadline, patience };
    let done = score(engine, encoders, admitted, opening, parts, |scores| {
        let results = scores.iter().map(|(index, pair)| RerankResult::new(*index, pair));
        send(StreamEvent::Scores(results.collect()))
    });
    let Done { latency, queue, inference, tokens } = done.await?;
    let summary = StreamSummary {
        model: engine.spec().name.clone().into_owned(),
        documents: so_far.documents as u64,
        total_bytes: so_far.bytes,
        total_tokens: tokens,
        latency,
        e2e: received.elapsed(),
        queue,
        inference,
    };
    send(StreamEvent::Summary(summary)).await;
    Ok(())
}
