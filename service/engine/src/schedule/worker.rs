//! The thread that takes slices, packs them, scores them and answers.

use super::queue::Slice;
use super::{Job, Outcome, Shared, State};
use crate::ScoreError;
use crate::model::{Batch, EncodedPairs, Scorer};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

/// Runs until the scheduler closes and the queue is empty.
pub(super) fn run(shared: &Shared, scorer: &dyn Scorer, max_batch_tokens: usize) {
    let _ending = Ending(shared);
    while let Some(work) = take(shared, max_batch_tokens) {
        let mut batch = Batch::default();
        for (slice, pairs) in &work {
            batch.push_pairs(pairs, slice.documents.clone());
        }
        let start = Instant::now();
        let logits = score(scorer, &batch);
        let elapsed = start.elapsed();
        if let Err(reason) = &logits {
            tracing::error!(%reason, tokens = batch.tokens(), "a batch failed");
        }
        answer(shared, &work, &logits, batch.tokens(), elapsed);
    }
}

/// Marks the worker as ended, also when it panics, and lets the waiting requests fail.
struct Ending<'a>(&'a Shared);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.alive = false;
        state.jobs.clear();
    }
}

/// The next batch's slices; waits for work, none once the scheduler is closed and idle.
fn take(shared: &Shared, max_batch_tokens: usize) -> Option<Vec<(Slice, Arc<EncodedPairs>)>> {
    let mut state = shared.lock();
    loop {
        let State { queue, jobs, .. } = &mut *state;
        let slices = queue.take(max_batch_tokens, |id| {
            let gone = jobs.get(&id).is_none_or(|job| job.reply.is_closed());
            if gone {
                jobs.remove(&id);
            }
            gone
        });
        if !slices.is_empty() {
            let with_pairs = |slice: Slice| {
                let pairs = jobs[&slice.id].pairs.clone();
                (slice, pairs)
            };
            return Some(slices.into_iter().map(with_pairs).collect());
        }
        if state.closing {
            return None;
        }
        state = shared.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
    }
}

/// Scores a batch; a panic fails the batch, not the worker.
fn score(scorer: &dyn Scorer, batch: &Batch) -> Result<Vec<f32>, String> {
    let documents = batch.last_rows().len();
    if documents == 0 {
        return Ok(Vec::new());
    }
    let logits = catch_unwind(AssertUnwindSafe(|| scorer.score(batch)))
        .unwrap_or_else(|_| Err("the model panicked on this batch".to_owned()))?;
    if logits.len() != documents {
        return Err(format!("{} logits for {documents} documents", logits.len()));
    }
    if logits.iter().any(|logit| !logit.is_finite()) {
        return Err("a score is not finite".to_owned());
    }
    Ok(logits)
}

fn answer(
    shared: &Shared,
    work: &[(Slice, Arc<EncodedPairs>)],
    logits: &Result<Vec<f32>, String>,
    tokens: usize,
    elapsed: Duration,
) {
    let mut state = shared.lock();
    if tokens > 0 && elapsed > Duration::ZERO {
        let rate = tokens as f64 / elapsed.as_secs_f64();
        let before = state.tokens_per_second;
        state.tokens_per_second = if before > 0.0 { 0.8 * before + 0.2 * rate } else { rate };
    }
    let mut first = 0;
    for (slice, _) in work {
        let count = slice.documents.len();
        let places = first..first + count;
        first += count;
        match logits {
            Ok(logits) => {
                // A request that failed in an earlier batch is no longer there.
                let Some(job) = state.jobs.get_mut(&slice.id) else { continue };
                job.logits[slice.documents.clone()].copy_from_slice(&logits[places]);
                job.inference += elapsed;
                if slice.last
                    && let Some(job) = state.jobs.remove(&slice.id)
                {
                    reply(job, None);
                }
            }
            Err(reason) => {
                if let Some(job) = state.jobs.remove(&slice.id) {
                    reply(job, Some(reason));
                }
            }
        }
    }
}

fn reply(job: Job, failure: Option<&String>) {
    let Job { logits, inference, reply, .. } = job;
    let outcome = match failure {
        None => Ok(Outcome { logits, inference }),
        Some(reason) => Err(ScoreError::Failed(reason.clone())),
    };
    // The caller may have gone; then nobody waits for the answer.
    let _ = reply.send(outcome);
}
