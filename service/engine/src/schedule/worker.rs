//! The thread that takes slices, packs them, scores them and answers.

use super::queue::Slice;
use super::state::{Answers, State};
use super::{Latency, Shared};
use crate::ScoreError;
use crate::model::{Batch, ScoreFailure, Scorer};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

/// A slice with what it needs to run.
pub(super) struct Work {
    pub(super) slice: Slice,
    prefix: Arc<[u32]>,
    pub(super) documents: Vec<Arc<[u32]>>,
    answers: Arc<Answers>,
    span: tracing::Span,
}

impl Work {
    /// The same work in two parts; only for several documents.
    fn halves(&self) -> [Work; 2] {
        let middle = self.documents.len() / 2;
        [0..middle, middle..self.documents.len()].map(|part| {
            let documents = self.documents[part.clone()].to_vec();
            let first = self.slice.documents.start;
            Work {
                slice: Slice {
                    id: self.slice.id,
                    documents: first + part.start..first + part.end,
                    tokens: self.prefix.len()
                        + documents.iter().map(|ids| ids.len()).sum::<usize>(),
                },
                prefix: self.prefix.clone(),
                documents,
                answers: self.answers.clone(),
                span: self.span.clone(),
            }
        })
    }
}

/// Runs until the scheduler closes and every admitted request is answered, or the device is lost.
/// `devices` is the number of workers, whose rates are taken to be equal.
pub(super) fn run(shared: &Shared, scorer: &dyn Scorer, devices: f64) {
    let _ending = Ending(shared);
    while let Some(work) = take(shared) {
        let tokens: usize = work.iter().map(|work| work.slice.tokens).sum();
        let documents: usize = work.iter().map(|work| work.documents.len()).sum();
        // OpenTelemetry has no unsigned numbers.
        let [t, d, r] = [tokens, documents, work.len()].map(|count| count as i64);
        let span = tracing::info_span!("batch", tokens = t, documents = d, requests = r);
        for work in &work {
            span.follows_from(&work.span);
        }
        let lost = span.in_scope(|| score_and_answer(shared, scorer, &work, devices));
        shared.lock().work.running -= tokens;
        if lost {
            break;
        }
    }
}

/// Marks the worker as ended, also when it panics, and lets the waiting requests fail.
struct Ending<'a>(&'a Shared);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.alive = false;
        state.failed |= !state.closing;
        let ids: Vec<u64> = state.requests.keys().copied().collect();
        for id in ids {
            let request = state.remove(id);
            let gone = ScoreError::Failed("the worker has ended".to_owned());
            request.inspect(|request| request.answers.end(Err(gone)));
        }
        drop(state);
        self.0.changed.notify_all();
    }
}

/// The next batch's slices; waits for work, none once the scheduler is closed and idle.
fn take(shared: &Shared) -> Option<Vec<Work>> {
    let mut state = shared.lock();
    loop {
        let work = state.take(Instant::now());
        if !work.is_empty() {
            return Some(work);
        }
        if !state.alive || state.closing && state.requests.is_empty() {
            return None;
        }
        state = shared.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
    }
}

/// Scores a batch; if it fails, each of its requests alone, so that only the one at fault has no
/// scores; and a request that does not fit the device's memory in halves. True if the device is lost.
fn score_and_answer(shared: &Shared, scorer: &dyn Scorer, work: &[Work], devices: f64) -> bool {
    match score(shared, scorer, work, devices) {
        Ok((logits, elapsed)) => answer(shared, work, &logits, elapsed),
        Err(ScoreFailure::Batch(_) | ScoreFailure::Memory(_)) if work.len() > 1 => {
            return work
                .iter()
                .any(|work| score_and_answer(shared, scorer, std::slice::from_ref(work), devices));
        }
        Err(ScoreFailure::Memory(reason)) if work[0].documents.len() > 1 => {
            tracing::warn!(%reason, "a batch is split: the device's memory does not hold it");
            return work[0]
                .halves()
                .iter()
                .any(|half| score_and_answer(shared, scorer, std::slice::from_ref(half), devices));
        }
        Err(failure) => {
            let (reason, lost) = match failure {
                ScoreFailure::Batch(reason) | ScoreFailure::Memory(reason) => (reason, false),
                ScoreFailure::Device(reason) => (reason, true),
            };
            tracing::error!(%reason, lost, "a batch failed");
            let mut state = shared.lock();
            for work in work {
                state.remove(work.slice.id);
                work.answers.end(Err(ScoreError::Failed(reason.clone())));
            }
            return lost;
        }
    }
    false
}

/// One run of the device: a logit for each document, and the time it took.
fn score(
    shared: &Shared,
    scorer: &dyn Scorer,
    work: &[Work],
    devices: f64,
) -> Result<(Vec<f32>, Duration), ScoreFailure> {
    let mut batch = Batch::default();
    for work in work {
        batch.push_pairs(&work.prefix, &work.documents);
    }
    let documents = batch.last_rows().len();
    let start = Instant::now();
    let logits = catch_unwind(AssertUnwindSafe(|| scorer.score(&batch)));
    let elapsed = start.elapsed();
    let logits = logits.unwrap_or_else(|_| {
        Err(ScoreFailure::Batch("the model panicked on this batch".to_owned()))
    })?;
    if logits.len() != documents {
        let reason = format!("{} logits for {documents} documents", logits.len());
        return Err(ScoreFailure::Batch(reason));
    }
    if logits.iter().any(|logit| !logit.is_finite()) {
        return Err(ScoreFailure::Batch("a score is not finite".to_owned()));
    }
    // A batch that failed says nothing of how fast the device is.
    shared.lock().measure(batch.tokens(), elapsed, devices);
    Ok((logits, elapsed))
}

pub(super) fn answer(shared: &Shared, work: &[Work], logits: &[f32], elapsed: Duration) {
    let mut logits = logits.iter();
    for work in work {
        let mut answers = work.answers.lock();
        answers.inference += elapsed;
        for (slot, &logit) in work.slice.documents.clone().zip(&mut logits) {
            answers.ledger.score(slot, logit);
        }
        drop(answers);
        work.answers.changed.notify_one();
    }
    let mut state = shared.lock();
    for work in work {
        state.finish_if_scored(work.slice.id);
    }
}

impl State {
    /// Ends the requests that are late and moves the next batch to the device.
    pub(super) fn take(&mut self, now: Instant) -> Vec<Work> {
        for id in self.queue.expire(now) {
            let request = self.cancel(id);
            request.inspect(|request| request.answers.end(Err(ScoreError::DeadlineExceeded)));
        }
        let slices = self.queue.take(self.policy.max_batch_tokens);
        slices.into_iter().map(|slice| self.start(slice, now)).collect()
    }

    fn start(&mut self, slice: Slice, now: Instant) -> Work {
        self.work.running += slice.tokens;
        let id = slice.id;
        let mut documents = Vec::new();
        self.outstanding(id, |request| {
            let ids = request.documents[slice.documents.clone()].iter_mut();
            documents = ids.map(|ids| ids.take().expect("a document is taken once")).collect();
            let ran: usize = documents.iter().map(|ids| ids.len()).sum();
            let is_last = slice.documents.end == request.documents.len();
            // The prefix counts once until the last slice has gone.
            request.waiting = if is_last { 0 } else { request.waiting - ran };
            request.queue_span = tracing::Span::none();
        });
        let request = &self.requests[&id];
        if request.header.latency == Latency::Fast {
            self.work.fast_lately.add(now, slice.tokens);
        }
        request.answers.lock().started.get_or_insert(now);
        Work {
            slice,
            prefix: request.prefix.clone(),
            documents,
            answers: request.answers.clone(),
            span: request.span.clone(),
        }
    }

    /// Counts a run and follows the rate of full batches; small ones are mostly the cost of starting
    /// and would understate it.
    pub(super) fn measure(&mut self, tokens: usize, elapsed: Duration, devices: f64) {
        self.stats.batches += 1;
        self.stats.batch_tokens += tokens as u64;
        self.stats.busy += elapsed;
        if elapsed.is_zero() {
            return;
        }
        let rate = devices * tokens as f64 / elapsed.as_secs_f64();
        let before = self.work.tokens_per_second;
        let is_full = 2 * tokens as u64 >= self.stats.max_batch_tokens;
        if before <= 0.0 {
            self.work.tokens_per_second = rate;
        } else if is_full || rate > before {
            self.work.tokens_per_second = 0.9 * before + 0.1 * rate;
        }
    }
}
