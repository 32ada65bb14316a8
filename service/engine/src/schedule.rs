//! The way from a request to its scores: admission, a queue, and a worker thread for each device.
//!
//! Owns admitted requests and the threads that score them; knows no text and no model, only token
//! ids and a [`Scorer`]. Data: [`Scheduler::admit`] → [`Feed::push`] → `queue` → `worker` →
//! [`Scored`].

mod admission;
mod feed;
mod ledger;
mod queue;
mod state;
mod worker;

use crate::ScoreError;
use crate::model::Scorer;
use admission::{Demand, Policy};
pub(crate) use feed::{Feed, Score, Scored};
use state::{Size, State};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// A class of work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Latency {
    /// Interactive: before slow work.
    Fast,
    /// Batch: what fast work leaves, and at least a fifth of the device.
    Slow,
}

/// Bounds of a scheduler.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Budget of one batch in tokens; a longer pair runs alone.
    pub(crate) max_batch_tokens: usize,
    /// Most tokens that may be queued or running; a larger request is taken when there are none.
    pub(crate) max_queued_tokens: usize,
    /// Longest wait before a request's own work.
    pub(crate) max_queue: Duration,
    /// Longest time to the answer of a request that asks for the fast class.
    pub(crate) interactive: Duration,
    /// Tokens per second until some are measured; 0 if unknown.
    pub(crate) tokens_per_second: f64,
}

/// What the scheduler has done and has to do.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Stats {
    /// Tokens of admitted fast requests that have not run.
    pub queued_fast_tokens: u64,
    /// Tokens of admitted slow requests that have not run.
    pub queued_slow_tokens: u64,
    /// Tokens on the device.
    pub inflight_tokens: u64,
    /// Admitted requests with tokens that have not run.
    pub queued_requests: u64,
    /// Measured rate of full batches.
    pub tokens_per_second: f64,
    /// Time the devices computed since the start.
    pub busy: Duration,
    /// Batches since the start.
    pub batches: u64,
    /// Tokens of those batches.
    pub batch_tokens: u64,
    /// Budget of one batch.
    pub max_batch_tokens: u64,
    /// Requests that were dropped before their last score.
    pub cancelled_requests: u64,
}

/// Admits requests and answers them.
pub(crate) struct Scheduler {
    shared: Arc<Shared>,
    workers: Mutex<Vec<JoinHandle<()>>>,
}

struct Shared {
    state: Mutex<State>,
    /// Work came, or the scheduler closes.
    changed: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // The state is consistent between statements, so a panic elsewhere does not spoil it.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Scheduler {
    /// Starts a worker for each scorer, all over one queue.
    pub(crate) fn start(scorers: Vec<Arc<dyn Scorer>>, limits: Limits) -> Self {
        let Limits {
            max_batch_tokens,
            max_queued_tokens,
            max_queue,
            interactive,
            tokens_per_second,
        } = limits;
        let policy = Policy { max_batch_tokens, max_queued_tokens, max_queue, interactive };
        let shared = Arc::new(Shared {
            state: Mutex::new(State::new(policy, tokens_per_second)),
            changed: Condvar::new(),
        });
        let devices = scorers.len() as f64;
        let workers = scorers.into_iter().map(|scorer| {
            let shared = shared.clone();
            std::thread::Builder::new()
                .name("reranker-worker".to_owned())
                .spawn(move || worker::run(&shared, scorer.as_ref(), devices))
                .expect("the system starts a thread")
        });
        let workers = Mutex::new(workers.collect());
        Self { shared, workers }
    }

    /// Admits a whole request of about `tokens`, or refuses it at once. Without `tokens` the request
    /// is a stream, whose documents need room as they come.
    pub(crate) fn admit(
        &self,
        latency: Option<Latency>,
        tokens: Option<usize>,
        deadline: Option<Instant>,
    ) -> Result<(Feed, Scored), ScoreError> {
        let size = tokens.map_or(Size::Unknown, |tokens| Size::Parts(vec![tokens]));
        let mut admitted = self.admit_at(Instant::now(), latency, &size, deadline)?;
        Ok(admitted.pop().expect("a request has a part"))
    }

    /// Admits a request of parts of about so many tokens each, which have prefixes of their own, or
    /// refuses it whole.
    pub(crate) fn admit_parts(
        &self,
        latency: Option<Latency>,
        tokens: Vec<usize>,
        deadline: Option<Instant>,
    ) -> Result<Vec<(Feed, Scored)>, ScoreError> {
        self.admit_at(Instant::now(), latency, &Size::Parts(tokens), deadline)
    }

    fn admit_at(
        &self,
        now: Instant,
        latency: Option<Latency>,
        size: &Size,
        deadline: Option<Instant>,
    ) -> Result<Vec<(Feed, Scored)>, ScoreError> {
        let patience = deadline.map(|deadline| deadline.saturating_duration_since(now));
        let demand = Demand { latency, tokens: size.tokens(), patience };
        let tickets = self.shared.lock().admit(now, &demand, size, deadline)?;
        let ends = |ticket| {
            let state::Ticket { id, latency, answers } = ticket;
            let feed = Feed { shared: self.shared.clone(), id };
            (feed, Scored { shared: self.shared.clone(), answers, id, latency })
        };
        Ok(tickets.into_iter().map(ends).collect())
    }

    /// Refuses new requests, waits until the admitted ones are answered and joins the workers.
    pub(crate) fn close(&self) {
        self.shared.lock().closing = true;
        self.shared.changed.notify_all();
        let workers =
            std::mem::take(&mut *self.workers.lock().unwrap_or_else(PoisonError::into_inner));
        for worker in workers {
            // A worker that panicked has already been reported by its requests.
            let _ = worker.join();
        }
    }

    pub(crate) fn is_healthy(&self) -> bool {
        !self.shared.lock().failed
    }

    pub(crate) fn stats(&self) -> Stats {
        self.shared.lock().stats()
    }
}

impl Drop for Scheduler {
    fn drop(&mut self) {
        self.close();
    }
}

#[cfg(test)]
mod tests;
