//! The two ends of an admitted request: documents go in at one, scores come out at the other.

use super::state::{Answers, AnswersState, State};
use super::{Latency, Shared, admission, ledger};
use crate::ScoreError;
use crate::model::EncodedDocument;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The way in for the documents of one request; dropping it unfinished cancels the request.
pub(crate) struct Feed {
    pub(super) shared: Arc<Shared>,
    pub(super) id: u64,
}

impl Feed {
    /// Queues documents behind `prefix`, which is the same in all calls. `estimate` is what of the
    /// request's own estimate they were.
    ///
    /// # Errors
    /// [`ScoreError::Closing`] if nobody is left to score them; [`ScoreError::Overloaded`] if the queue
    /// has no room for more of a stream, which may try again then. A request that has failed or
    /// was dropped takes documents and forgets them.
    pub(crate) fn push(
        &self,
        prefix: &Arc<[u32]>,
        documents: &[EncodedDocument],
        estimate: usize,
    ) -> Result<(), ScoreError> {
        let mut state = self.shared.lock();
        if !state.alive {
            return Err(ScoreError::Closing);
        }
        let State { policy, requests, work, .. } = &mut *state;
        let Some(request) = requests.get_mut(&self.id) else { return Ok(()) };
        if request.is_stream {
            let tokens = prefix.len() + documents.iter().map(|d| d.ids.len()).sum::<usize>();
            admission::has_room(policy, work, tokens)?;
        }
        request.prefix = prefix.clone();
        request.header.prefix = prefix.len();
        let header = request.header;
        let mut answers = request.answers.lock();
        if answers.queued.is_none() && !documents.is_empty() {
            answers.queued = Some(Instant::now());
            let latency = header.latency;
            request.queue_span = tracing::info_span!(parent: &request.span, "queue", ?latency);
        }
        let first = answers.ledger.slots();
        let new: Vec<&EncodedDocument> = documents
            .iter()
            .filter(|document| answers.ledger.add(document, header.prefix))
            .collect();
        drop(answers);
        // A duplicate of a scored document is ready without a batch.
        request.answers.changed.notify_one();
        let lengths: Vec<usize> = new.iter().map(|document| document.ids.len()).collect();
        state.queue.push(&header, first, lengths.iter().copied());
        state.outstanding(self.id, |request| {
            request.promised = request.promised.saturating_sub(estimate);
            let prefix = if first == 0 && !new.is_empty() { header.prefix } else { 0 };
            request.waiting += prefix + lengths.iter().sum::<usize>();
            request.documents.extend(new.iter().map(|document| Some(document.ids.clone())));
        });
        drop(state);
        self.shared.changed.notify_one();
        Ok(())
    }

    /// There are no more documents.
    pub(crate) fn finish(self) {
        let mut state = self.shared.lock();
        state.outstanding(self.id, |request| {
            request.promised = 0;
            request.whole = true;
        });
        state.finish_if_scored(self.id);
        drop(state);
        self.shared.changed.notify_one();
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        let is_open = state.requests.get(&self.id).is_some_and(|request| !request.whole);
        if is_open {
            let cancelled = state.cancel(self.id);
            cancelled.inspect(|request| request.answers.end(Err(ScoreError::Cancelled)));
            drop(state);
            // The workers may wait for this request before they end.
            self.shared.changed.notify_all();
        }
    }
}

/// The scores of one request as they come; dropping it cancels what has not run.
pub(crate) struct Scored {
    pub(super) shared: Arc<Shared>,
    pub(super) answers: Arc<Answers>,
    pub(super) id: u64,
    pub(super) latency: Latency,
}

/// A document's place and size, and its logit.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Score {
    /// Position in the request.
    pub(crate) index: usize,
    /// Tokens of the pair.
    pub(crate) tokens: usize,
    pub(crate) truncated: bool,
    pub(crate) logit: f32,
}

impl Scored {
    /// The class that the request runs in.
    pub(crate) fn latency(&self) -> Latency {
        self.latency
    }

    /// The documents that got their scores since the last call, at least one; none when all have.
    pub(crate) async fn next(&mut self) -> Option<Result<Vec<Score>, ScoreError>> {
        loop {
            let (ready, end) = {
                let mut state = self.answers.lock();
                (state.ledger.take_ready(), state.end.clone())
            };
            match end {
                Some(Err(error)) => return Some(Err(error)),
                Some(Ok(())) if ready.is_empty() => return None,
                None if ready.is_empty() => self.answers.changed.notified().await,
                _ => {
                    let score = |(entry, logit): (ledger::Entry, f32)| {
                        let ledger::Entry { index, tokens, truncated } = entry;
                        Score { index, tokens, truncated, logit }
                    };
                    return Some(Ok(ready.into_iter().map(score).collect()));
                }
            }
        }
    }

    /// Time of the batches that held any of the documents, so far.
    pub(crate) fn inference(&self) -> Duration {
        self.answers.lock().inference
    }

    /// Time from the first documents to their first batch; so far, while there was none.
    pub(crate) fn queued(&self) -> Duration {
        let AnswersState { queued, started, .. } = *self.answers.lock();
        let Some(queued) = queued else { return Duration::ZERO };
        started.unwrap_or_else(Instant::now).saturating_duration_since(queued)
    }
}

impl Drop for Scored {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        if state.cancel(self.id).is_some() {
            drop(state);
            // The workers may wait for this request before they end.
            self.shared.changed.notify_all();
        }
    }
}
