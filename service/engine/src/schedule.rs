//! The way from a request to its scores: a bounded queue and one worker thread.
//!
//! Owns queued requests and the thread that scores them; knows no text and no model, only token ids
//! and a [`Scorer`]. Data: [`Scheduler::submit`] → `queue` → `worker` → [`Ticket`].

mod queue;
mod worker;

use crate::ScoreError;
use crate::model::{EncodedPairs, Scorer};
use queue::Queue;
use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::oneshot;

/// Bounds of a scheduler, in tokens.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Budget of one batch; a longer pair runs alone.
    pub(crate) max_batch_tokens: usize,
    /// Budget of the queue; a longer request is taken when the queue is empty.
    pub(crate) max_queued_tokens: usize,
}

/// Takes requests and answers them in order.
pub(crate) struct Scheduler {
    shared: Arc<Shared>,
    worker: Mutex<Option<JoinHandle<()>>>,
}

/// What the worker found for one request.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// One logit a document, in the request's order.
    pub(crate) logits: Vec<f32>,
    /// Time of the batches that held any of its documents.
    pub(crate) inference: Duration,
}

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

/// Held while work is put in or taken out, never while the device runs.
struct State {
    queue: Queue,
    jobs: HashMap<u64, Job>,
    next_id: u64,
    closing: bool,
    /// Cleared when the worker ends, for whatever reason.
    alive: bool,
    /// Measured rate of the worker; 0 before its first batch.
    tokens_per_second: f64,
}

struct Job {
    pairs: Arc<EncodedPairs>,
    logits: Vec<f32>,
    inference: Duration,
    reply: oneshot::Sender<Result<Outcome, ScoreError>>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // The state is consistent between statements, so a panic elsewhere does not spoil it.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Scheduler {
    pub(crate) fn start(scorer: Arc<dyn Scorer>, limits: Limits) -> Self {
        let shared = Arc::new(Shared {
            state: Mutex::new(State {
                queue: Queue::new(limits.max_queued_tokens),
                jobs: HashMap::new(),
                next_id: 0,
                closing: false,
                alive: true,
                tokens_per_second: 0.0,
            }),
            changed: Condvar::new(),
        });
        let worker = std::thread::Builder::new()
            .name("reranker-worker".to_owned())
            .spawn({
                let shared = shared.clone();
                move || worker::run(&shared, scorer.as_ref(), limits.max_batch_tokens)
            })
            .expect("the system starts a thread");
        Self { shared, worker: Mutex::new(Some(worker)) }
    }

    /// Queues the whole request or refuses it at once.
    pub(crate) fn submit(&self, pairs: EncodedPairs) -> Result<Pending, ScoreError> {
        let (reply, answer) = oneshot::channel();
        let mut state = self.shared.lock();
        if state.closing || !state.alive {
            return Err(ScoreError::Closing);
        }
        let id = state.next_id;
        let lengths = pairs.documents.iter().map(|document| document.ids.len()).collect();
        if !state.queue.push(id, pairs.prefix.len(), lengths) {
            return Err(ScoreError::Overloaded { retry_after: state.backlog() });
        }
        state.next_id += 1;
        let job = Job {
            logits: vec![f32::NAN; pairs.documents.len()],
            pairs: Arc::new(pairs),
            inference: Duration::ZERO,
            reply,
        };
        state.jobs.insert(id, job);
        drop(state);
        self.shared.changed.notify_one();
        Ok(Pending(answer))
    }

    /// Refuses new requests, waits until the queued ones are answered and joins the worker.
    pub(crate) fn close(&self) {
        self.shared.lock().closing = true;
        self.shared.changed.notify_one();
        let worker = self.worker.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(worker) = worker {
            // A worker that panicked has already been reported by its requests.
            let _ = worker.join();
        }
    }

    pub(crate) fn is_healthy(&self) -> bool {
        let state = self.shared.lock();
        state.alive && !state.closing
    }
}

impl Drop for Scheduler {
    fn drop(&mut self) {
        self.close();
    }
}

impl State {
    /// When the queue will be empty at the measured rate.
    fn backlog(&self) -> Duration {
        const UNKNOWN: Duration = Duration::from_secs(1);
        if self.tokens_per_second > 0.0 {
            Duration::try_from_secs_f64(self.queue.tokens() as f64 / self.tokens_per_second)
                .unwrap_or(UNKNOWN)
        } else {
            UNKNOWN
        }
    }
}

/// A queued request; dropping it cancels what has not been scored yet.
pub(crate) struct Pending(oneshot::Receiver<Result<Outcome, ScoreError>>);

impl Pending {
    pub(crate) fn wait(self) -> Result<Outcome, ScoreError> {
        self.0.blocking_recv().unwrap_or_else(|_| Err(worker_gone()))
    }
}

impl Future for Pending {
    type Output = Result<Outcome, ScoreError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0)
            .poll(context)
            .map(|answer| answer.unwrap_or_else(|_| Err(worker_gone())))
    }
}

fn worker_gone() -> ScoreError {
    ScoreError::Failed("the worker has ended".to_owned())
}

#[cfg(test)]
mod tests;
