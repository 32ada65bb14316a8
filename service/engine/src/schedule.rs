//! The way from a request to its scores: admission, a queue, and a worker thread for each device.
//!
//! Owns admitted requests and the threads that score them; knows no text and no model, only token
//! ids and a [`Scorer`]. Data: [`Scheduler::admit`] → [`Feed::push`] → `queue` → `worker` →
//! [`Scored`].

mod admission;
mod ledger;
mod queue;
mod worker;

use crate::ScoreError;
use crate::model::{EncodedDocument, Scorer};
use admission::{Demand, Policy, Work};
use ledger::Ledger;
use queue::{Header, Queue};
use std::collections::HashMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::sync::Notify;

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
    policy: Policy,
}

/// Held while work is put in or taken out, never while a device runs.
struct State {
    queue: Queue,
    requests: HashMap<u64, Admitted>,
    work: Work,
    stats: Stats,
    next_id: u64,
    closing: bool,
    /// Cleared when a worker ends, for whatever reason.
    alive: bool,
    /// Set when a worker ends though nobody has closed the scheduler.
    failed: bool,
}

/// An admitted request until its last score.
struct Admitted {
    header: Header,
    prefix: Arc<[u32]>,
    /// Token ids by slot, until they run; the ledger has them until the request ends.
    documents: Vec<Option<Arc<[u32]>>>,
    /// Tokens that the estimate has promised and no document has claimed yet.
    promised: usize,
    /// Tokens of documents that have not run.
    waiting: usize,
    /// Nobody knew at admission how many documents would come.
    is_stream: bool,
    /// No further documents come.
    whole: bool,
    /// The caller's span, to be linked with the batches that the request rides in.
    span: tracing::Span,
    /// Open from the first documents to their first batch.
    queue_span: tracing::Span,
    answers: Arc<Answers>,
}

/// Where the worker leaves the scores of one request.
#[derive(Default)]
struct Answers {
    state: Mutex<AnswersState>,
    changed: Notify,
}

#[derive(Default)]
struct AnswersState {
    ledger: Ledger,
    inference: Duration,
    /// When the first documents came.
    queued: Option<Instant>,
    /// When the first batch with any of them began.
    started: Option<Instant>,
    end: Option<Result<(), ScoreError>>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // The state is consistent between statements, so a panic elsewhere does not spoil it.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Answers {
    fn lock(&self) -> MutexGuard<'_, AnswersState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// No further scores come; the first reason stays.
    fn end(&self, end: Result<(), ScoreError>) {
        self.lock().end.get_or_insert(end);
        self.changed.notify_one();
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
        let stats = Stats { max_batch_tokens: max_batch_tokens as u64, ..Stats::default() };
        let shared = Arc::new(Shared {
            state: Mutex::new(State {
                queue: Queue::default(),
                requests: HashMap::new(),
                work: Work { tokens_per_second, ..Work::default() },
                stats,
                next_id: 0,
                closing: false,
                alive: true,
                failed: false,
            }),
            changed: Condvar::new(),
            policy: Policy { max_batch_tokens, max_queued_tokens, max_queue, interactive },
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
        let now = Instant::now();
        let mut state = self.shared.lock();
        if state.closing || !state.alive {
            return Err(ScoreError::Closing);
        }
        let patience = deadline.map(|deadline| deadline.saturating_duration_since(now));
        if patience.is_some_and(|patience| patience.is_zero()) {
            return Err(ScoreError::DeadlineExceeded);
        }
        let promised = tokens.unwrap_or(0);
        let demand = Demand { latency, tokens: promised, patience };
        let latency = admission::admit(&self.shared.policy, &state.work, &demand)?;
        let id = state.next_id;
        state.next_id += 1;
        state.work.backlog(latency).change(0, promised);
        let answers = Arc::new(Answers::default());
        let admitted = Admitted {
            header: Header { id, latency, prefix: 0, deadline },
            prefix: Arc::from([]),
            documents: Vec::new(),
            promised,
            is_stream: tokens.is_none(),
            waiting: 0,
            whole: false,
            span: tracing::Span::current(),
            queue_span: tracing::Span::none(),
            answers: answers.clone(),
        };
        state.requests.insert(id, admitted);
        drop(state);
        let feed = Feed { shared: self.shared.clone(), id };
        let scored = Scored { shared: self.shared.clone(), answers, id, latency };
        Ok((feed, scored))
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
        let state = self.shared.lock();
        Stats {
            queued_fast_tokens: state.work.fast.tokens() as u64,
            queued_slow_tokens: state.work.slow.tokens() as u64,
            queued_requests: (state.work.fast.requests() + state.work.slow.requests()) as u64,
            inflight_tokens: state.work.running as u64,
            tokens_per_second: state.work.tokens_per_second,
            ..state.stats
        }
    }
}

impl Drop for Scheduler {
    fn drop(&mut self) {
        self.close();
    }
}

impl State {
    /// Changes a request's outstanding tokens, in it and in the sum.
    fn outstanding(&mut self, id: u64, change: impl FnOnce(&mut Admitted)) {
        let Some(request) = self.requests.get_mut(&id) else { return };
        let before = request.promised + request.waiting;
        change(request);
        let after = request.promised + request.waiting;
        self.work.backlog(request.header.latency).change(before, after);
    }

    /// Forgets a request and what it had outstanding.
    fn remove(&mut self, id: u64) -> Option<Admitted> {
        self.outstanding(id, |request| (request.promised, request.waiting) = (0, 0));
        self.queue.remove(id);
        self.requests.remove(&id)
    }

    /// Forgets a request that nobody waits for any more.
    fn cancel(&mut self, id: u64) -> Option<Admitted> {
        let request = self.remove(id)?;
        self.stats.cancelled_requests += 1;
        Some(request)
    }

    /// Ends a request that has all its documents and all their scores.
    fn finish_if_scored(&mut self, id: u64) {
        let Some(request) = self.requests.get(&id) else { return };
        if request.whole && request.answers.lock().ledger.is_scored() {
            let request = self.remove(id);
            request.inspect(|request| request.answers.end(Ok(())));
        }
    }
}

/// The way in for the documents of one request; dropping it unfinished cancels the request.
pub(crate) struct Feed {
    shared: Arc<Shared>,
    id: u64,
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
        let State { requests, work, .. } = &mut *state;
        let Some(request) = requests.get_mut(&self.id) else { return Ok(()) };
        if request.is_stream {
            let tokens = prefix.len() + documents.iter().map(|d| d.ids.len()).sum::<usize>();
            admission::has_room(&self.shared.policy, work, tokens)?;
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
    shared: Arc<Shared>,
    answers: Arc<Answers>,
    id: u64,
    latency: Latency,
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

#[cfg(test)]
mod tests;
