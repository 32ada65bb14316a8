//! The path that unary and streamed requests share: admission, tokens, scores as batches finish.

use crate::error::Error;
use futures::{Stream, StreamExt, future};
use reranker_engine::{
    Cuts, EncodedDocuments, EncodedQuery, Engine, Feed, Latency, PairScore, ScoreError, ScoreStream,
};
use std::ops::Range;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;

/// What is known of a request before its documents.
pub(super) struct Opening {
    pub(super) query: String,
    pub(super) cuts: Cuts,
    pub(super) deadline: Option<Instant>,
    /// How long the caller may bring nothing, or take nothing, while it is its turn.
    pub(super) patience: Duration,
}

/// Consecutive documents that are encoded in one go.
pub(super) struct Part {
    pub(super) documents: Arc<[String]>,
    pub(super) range: Range<usize>,
}

/// How a request ran.
pub(super) struct Done {
    pub(super) latency: Latency,
    pub(super) queue: Duration,
    pub(super) inference: Duration,
    /// Tokens of every pair, summed.
    pub(super) tokens: u64,
}

/// The device starts on a part while the next one is encoded, and others get their turn at the
/// encoder in between: about 10 ms of a core.
const PART_BYTES: usize = 64 * 1024;
/// Most documents of a part; also what a stream must have room for at once.
const PART_DOCUMENTS: usize = 256;
/// Documents that may be admitted and not yet scored and handed out.
const WINDOW: usize = 4 * PART_DOCUMENTS;

impl Part {
    /// The parts of these documents.
    pub(super) fn all(documents: &Arc<[String]>) -> impl Iterator<Item = Self> + use<> {
        let documents = documents.clone();
        parts(&documents).into_iter().map(move |range| Self { documents: documents.clone(), range })
    }
}

/// Cuts documents into parts.
fn parts<D: AsRef<str>>(documents: &[D]) -> Vec<Range<usize>> {
    let mut parts = Vec::new();
    let (mut start, mut bytes) = (0, 0);
    for (index, document) in documents.iter().enumerate() {
        let length = document.as_ref().len();
        let is_full = bytes + length > PART_BYTES || index - start == PART_DOCUMENTS;
        if index > start && is_full {
            parts.push(start..index);
            (start, bytes) = (index, 0);
        }
        bytes += length;
    }
    if start < documents.len() {
        parts.push(start..documents.len());
    }
    parts
}

/// Scores the documents of an admitted request as they come and gives the scores to `sink`, which may
/// take its time. Dropping the future cancels what has not run.
///
/// # Errors
/// What `parts` fails with, [`Error::DeadlineExceeded`], [`Error::BodyTimeout`].
pub(super) async fn score<Sent: Future<Output = ()>>(
    engine: &Engine,
    encoders: &Semaphore,
    (feed, scores): (Feed, ScoreStream),
    opening: Opening,
    parts: impl Stream<Item = Result<Part, Error>>,
    sink: impl FnMut(Vec<(usize, PairScore)>) -> Sent,
) -> Result<Done, Error> {
    let Opening { query, cuts, deadline, patience } = opening;
    let window = Window { free: Semaphore::new(WINDOW), patience };
    let fed = feed_all(engine, encoders, feed, (query, cuts), parts, &window);
    let taken = take_all(scores, sink, &window);
    let both = future::try_join(fed, taken);
    let ((), done) = match deadline {
        None => both.await?,
        Some(deadline) => tokio::time::timeout_at(deadline.into(), both)
            .await
            .map_err(|_| Error::DeadlineExceeded)??,
    };
    Ok(done)
}

/// The documents between the queue and the reader of their scores.
struct Window {
    free: Semaphore,
    patience: Duration,
}

impl Window {
    /// The next part. The caller may be silent while it waits for scores, else for so long.
    async fn next(
        &self,
        mut parts: Pin<&mut impl Stream<Item = Result<Part, Error>>>,
    ) -> Result<Option<Part>, Error> {
        loop {
            match tokio::time::timeout(self.patience, parts.next()).await {
                Ok(part) => return part.transpose(),
                Err(_) if self.free.available_permits() < WINDOW => {}
                Err(_) => return Err(Error::BodyTimeout { timeout: self.patience }),
            }
        }
    }

    /// Waits until so many documents have room.
    async fn enter(&self, documents: usize) {
        let room = self.free.acquire_many(documents as u32).await;
        room.expect("the window is never closed").forget();
    }

    /// Hands scores of so many documents out; the caller has so long to take them.
    async fn leave(&self, documents: usize, sent: impl Future<Output = ()>) -> Result<(), Error> {
        let taken = tokio::time::timeout(self.patience, sent).await;
        self.free.add_permits(documents);
        taken.map_err(|_| Error::BodyTimeout { timeout: self.patience })
    }
}

/// Encodes and queues the documents as they come.
async fn feed_all(
    engine: &Engine,
    encoders: &Semaphore,
    feed: Feed,
    (query, cuts): (String, Cuts),
    parts: impl Stream<Item = Result<Part, Error>>,
    window: &Window,
) -> Result<(), Error> {
    let mut parts = pin!(parts);
    let mut query = QueryText::Plain(query, cuts);
    while let Some(Part { documents, range }) = window.next(parts.as_mut()).await? {
        window.enter(range.len()).await;
        let turn = encoders.acquire().await.expect("the encoders are never closed");
        let encoder = engine.clone();
        let span = tracing::info_span!("tokenize", documents = range.len() as i64);
        let encode = move || span.in_scope(|| encode(&encoder, query, &documents[range]));
        let encoded = tokio::task::spawn_blocking(encode).await;
        drop(turn);
        let (encoded, documents) =
            encoded.map_err(|error| Error::Internal { cause: format!("encoding: {error}") })?;
        push(&feed, &encoded, &documents).await?;
        query = QueryText::Encoded(encoded);
    }
    feed.finish();
    Ok(())
}

/// Queues documents as soon as there is room; what was admitted whole always has.
async fn push(
    feed: &Feed,
    query: &EncodedQuery,
    documents: &EncodedDocuments,
) -> Result<(), Error> {
    const SHORTEST: Duration = Duration::from_millis(5);
    const LONGEST: Duration = Duration::from_millis(200);
    loop {
        match feed.push(query, documents) {
            Err(ScoreError::Overloaded { retry_after, .. }) => {
                tokio::time::sleep(retry_after.clamp(SHORTEST, LONGEST)).await;
            }
            pushed => return pushed.map_err(refused),
        }
    }
}

enum QueryText {
    Plain(String, Cuts),
    Encoded(EncodedQuery),
}

fn encode(
    engine: &Engine,
    query: QueryText,
    documents: &[String],
) -> (EncodedQuery, EncodedDocuments) {
    let query = match query {
        QueryText::Plain(text, cuts) => engine.encode_query(&text, cuts),
        QueryText::Encoded(query) => query,
    };
    let documents = engine.encode_documents(&query, documents);
    (query, documents)
}

/// Hands the scores on as they come.
async fn take_all<Sent: Future<Output = ()>>(
    mut scores: ScoreStream,
    mut sink: impl FnMut(Vec<(usize, PairScore)>) -> Sent,
    window: &Window,
) -> Result<Done, Error> {
    let mut tokens = 0;
    while let Some(scored) = scores.next().await {
        let scored = scored.map_err(refused)?;
        let count = scored.len();
        tokens += scored.iter().map(|(_, pair)| pair.tokens as u64).sum::<u64>();
        window.leave(count, sink(scored)).await?;
    }
    Ok(Done {
        latency: scores.latency(),
        queue: scores.queued(),
        inference: scores.inference(),
        tokens,
    })
}

pub(super) fn refused(error: ScoreError) -> Error {
    match error {
        ScoreError::Overloaded { bound, retry_after } => Error::Overloaded { bound, retry_after },
        ScoreError::DeadlineExceeded => Error::DeadlineExceeded,
        ScoreError::Closing => Error::Draining,
        other => Error::Internal { cause: other.to_string() },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::{ProptestConfig, prop_assert, prop_assert_eq, proptest};

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// A document that is in no part is never scored, and its request never answered; a part
        /// over the window could never be taken.
        #[test]
        fn parts_cover_all_documents_in_order(
            lengths in proptest::collection::vec(0..100_000usize, 0..700),
        ) {
            let documents: Vec<String> = lengths.iter().map(|length| "x".repeat(*length)).collect();
            let parts = parts(&documents);
            prop_assert_eq!(parts.iter().flat_map(Clone::clone).collect::<Vec<_>>(), (0..lengths.len()).collect::<Vec<_>>());
            for part in parts {
                let bytes: usize = lengths[part.clone()].iter().sum();
                prop_assert!((1..=PART_DOCUMENTS).contains(&part.len()));
                prop_assert!(bytes <= PART_BYTES || part.len() == 1);
            }
        }
    }
}
