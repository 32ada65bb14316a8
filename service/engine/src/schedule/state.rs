//! What is admitted and what becomes of it. Everything happens under one lock; time comes in as an
//! argument.

use super::admission::{self, Demand, Policy, Work};
use super::ledger::Ledger;
use super::queue::{Header, Queue};
use super::{Latency, Stats};
use crate::ScoreError;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::Notify;

/// Held while work is put in or taken out, never while a device runs.
pub(super) struct State {
    pub(super) policy: Policy,
    pub(super) queue: Queue,
    pub(super) requests: HashMap<u64, Admitted>,
    pub(super) work: Work,
    pub(super) stats: Stats,
    pub(super) next_id: u64,
    pub(super) closing: bool,
    /// Cleared when a worker ends, for whatever reason.
    pub(super) alive: bool,
    /// Set when a worker ends though nobody has closed the scheduler.
    pub(super) failed: bool,
}

/// An admitted request until its last score.
pub(super) struct Admitted {
    pub(super) header: Header,
    pub(super) prefix: Arc<[u32]>,
    /// Token ids by slot, until they run; the ledger has them until the request ends.
    pub(super) documents: Vec<Option<Arc<[u32]>>>,
    /// Tokens that the estimate has promised and no document has claimed yet.
    pub(super) promised: usize,
    /// Tokens of documents that have not run.
    pub(super) waiting: usize,
    /// Nobody knew at admission how many documents would come.
    pub(super) is_stream: bool,
    /// No further documents come.
    pub(super) whole: bool,
    /// The caller's span, to be linked with the batches that the request rides in.
    pub(super) span: tracing::Span,
    /// Open from the first documents to their first batch.
    pub(super) queue_span: tracing::Span,
    pub(super) answers: Arc<Answers>,
}

/// Where the worker leaves the scores of one request.
#[derive(Default)]
pub(super) struct Answers {
    pub(super) state: Mutex<AnswersState>,
    pub(super) changed: Notify,
}

#[derive(Default)]
pub(super) struct AnswersState {
    pub(super) ledger: Ledger,
    pub(super) inference: Duration,
    /// When the first documents came.
    pub(super) queued: Option<Instant>,
    /// When the first batch with any of them began.
    pub(super) started: Option<Instant>,
    pub(super) end: Option<Result<(), ScoreError>>,
}

impl Answers {
    pub(super) fn lock(&self) -> MutexGuard<'_, AnswersState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// No further scores come; the first reason stays.
    pub(super) fn end(&self, end: Result<(), ScoreError>) {
        self.lock().end.get_or_insert(end);
        self.changed.notify_one();
    }
}

/// How much a request is at its admission.
pub(super) enum Size {
    /// About the tokens of each of its parts.
    Parts(Vec<usize>),
    /// Nobody knows: it is a stream.
    Unknown,
}

impl Size {
    pub(super) fn tokens(&self) -> usize {
        match self {
            Self::Parts(tokens) => tokens.iter().sum(),
            Self::Unknown => 0,
        }
    }
}

/// What its caller keeps of an admitted part of a request.
pub(super) struct Ticket {
    pub(super) id: u64,
    pub(super) latency: Latency,
    pub(super) answers: Arc<Answers>,
}

impl State {
    pub(super) fn new(policy: Policy, tokens_per_second: f64) -> Self {
        Self {
            policy,
            queue: Queue::default(),
            requests: HashMap::new(),
            work: Work { tokens_per_second, ..Work::default() },
            stats: Stats { max_batch_tokens: policy.max_batch_tokens as u64, ..Stats::default() },
            next_id: 0,
            closing: false,
            alive: true,
            failed: false,
        }
    }

    /// Admits a whole request or refuses it; gives a ticket for each of its parts.
    pub(super) fn admit(
        &mut self,
        now: Instant,
        demand: &Demand,
        size: &Size,
        deadline: Option<Instant>,
    ) -> Result<Vec<Ticket>, ScoreError> {
        if self.closing || !self.alive {
            return Err(ScoreError::Closing);
        }
        if demand.patience.is_some_and(|patience| patience.is_zero()) {
            return Err(ScoreError::DeadlineExceeded);
        }
        let latency = admission::admit(&self.policy, &self.work, now, demand)?;
        let (parts, is_stream) = match size {
            Size::Parts(tokens) => (&tokens[..], false),
            Size::Unknown => (&[0][..], true),
        };
        Ok(parts.iter().map(|&tokens| self.enter(latency, tokens, is_stream, deadline)).collect())
    }

    fn enter(
        &mut self,
        latency: Latency,
        promised: usize,
        is_stream: bool,
        deadline: Option<Instant>,
    ) -> Ticket {
        let id = self.next_id;
        self.next_id += 1;
        self.work.backlog(latency).change(0, promised);
        let answers = Arc::new(Answers::default());
        let admitted = Admitted {
            header: Header { id, latency, prefix: 0, deadline },
            prefix: Arc::from([]),
            documents: Vec::new(),
            promised,
            is_stream,
            waiting: 0,
            whole: false,
            span: tracing::Span::current(),
            queue_span: tracing::Span::none(),
            answers: answers.clone(),
        };
        self.requests.insert(id, admitted);
        Ticket { id, latency, answers }
    }

    pub(super) fn stats(&self) -> Stats {
        let Work { fast, slow, running, tokens_per_second, .. } = &self.work;
        Stats {
            queued_fast_tokens: fast.tokens() as u64,
            queued_slow_tokens: slow.tokens() as u64,
            queued_requests: (fast.requests() + slow.requests()) as u64,
            inflight_tokens: *running as u64,
            tokens_per_second: *tokens_per_second,
            ..self.stats
        }
    }

    /// Changes a request's outstanding tokens, in it and in the sum.
    pub(super) fn outstanding(&mut self, id: u64, change: impl FnOnce(&mut Admitted)) {
        let Some(request) = self.requests.get_mut(&id) else { return };
        let before = request.promised + request.waiting;
        change(request);
        let after = request.promised + request.waiting;
        self.work.backlog(request.header.latency).change(before, after);
    }

    /// Forgets a request and what it had outstanding.
    pub(super) fn remove(&mut self, id: u64) -> Option<Admitted> {
        self.outstanding(id, |request| (request.promised, request.waiting) = (0, 0));
        self.queue.remove(id);
        self.requests.remove(&id)
    }

    /// Forgets a request that nobody waits for any more.
    pub(super) fn cancel(&mut self, id: u64) -> Option<Admitted> {
        let request = self.remove(id)?;
        self.stats.cancelled_requests += 1;
        Some(request)
    }

    /// Ends a request that has all its documents and all their scores.
    pub(super) fn finish_if_scored(&mut self, id: u64) {
        let Some(request) = self.requests.get(&id) else { return };
        if request.whole && request.answers.lock().ledger.is_scored() {
            let request = self.remove(id);
            request.inspect(|request| request.answers.end(Ok(())));
        }
    }
}
