//! What both protocols call: the loaded models by name, the use-cases, and the gate in front.
//!
//! Owns the life of the service: loading, ready, draining. Knows no protocol. The stage is the
//! one source for readiness on every listener.

mod collections;
mod models;

use crate::auth::Principal;
use crate::error::Error;
use crate::metrics::{self, Metrics, Work};
use crate::mock;
use crate::rate_limit::{Charge, RateLimiter, Rates};
use crate::rerank::{
    self, Latency, MAX_TOTAL_BYTES, Received, RerankRequest, RerankResponse, StreamEvent,
    StreamHeader, total_bytes,
};
use futures::{Stream, future};
use reranker_engine::Engine;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::{Mutex as AsyncMutex, Semaphore, watch};
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

pub use collections::Collections;
use collections::Counted;
pub use models::Alias;
pub(crate) use models::Loading;

/// The service without its protocols. Clones share everything.
#[derive(Clone, Debug)]
pub struct App(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// Answers are canned; there are no models.
    mock: bool,
    aliases: Vec<Alias>,
    limits: RequestLimits,
    rates: Mutex<RateLimiter>,
    models: OnceLock<Vec<Engine>>,
    /// None: collections are off.
    collections: OnceLock<Collections>,
    /// Documents as they were counted last.
    counted: AsyncMutex<Option<Counted>>,
    stage: watch::Sender<Stage>,
    in_flight: TaskTracker,
    /// One turn a core: text becomes tokens no faster with more.
    encoders: Semaphore,
    metrics: Metrics,
    /// The models that are being loaded or are there.
    announced: OnceLock<Vec<String>>,
    loading: Mutex<Option<Loading>>,
    configuration: OnceLock<String>,
}

/// What one request may bring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestLimits {
    /// Most bytes as [`total_bytes`] counts them.
    pub bytes: u64,
    /// Most documents; none: as many as the bytes allow.
    pub documents: Option<usize>,
    /// Most bytes of the raw request: the HTTP body or the gRPC message.
    pub body_bytes: usize,
    /// The same of a request that adds a document.
    pub document_bytes: usize,
    /// How long the caller of a stream may bring nothing, or take nothing, while it is its turn.
    pub patience: Duration,
}

impl RequestLimits {
    /// Refuses what is over the limits.
    ///
    /// # Errors
    /// [`Error::TooManyDocuments`], [`Error::InputTooLarge`]
    pub(crate) fn check(&self, documents: usize, total_bytes: u64) -> Result<(), Error> {
        if let Some(limit) = self.documents.filter(|&most| documents > most) {
            return Err(Error::TooManyDocuments { documents, limit });
        }
        if total_bytes > self.bytes {
            return Err(Error::InputTooLarge { total_bytes, limit_bytes: self.bytes });
        }
        Ok(())
    }
}

impl Default for RequestLimits {
    /// The hosted API's.
    fn default() -> Self {
        Self {
            bytes: MAX_TOTAL_BYTES,
            documents: None,
            body_bytes: 16 * 1024 * 1024,
            document_bytes: 64 * 1024 * 1024,
            patience: Duration::from_mins(1),
        }
    }
}

/// How far the service is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Models are being loaded; requests are refused.
    Loading,
    /// Models are loaded and warmed up.
    Ready,
    /// Shutting down: what clients send on the connections that they have is still answered.
    Draining,
}

/// A request that was let in; draining waits until it is dropped.
#[derive(Clone, Debug)]
pub struct Admission {
    /// When the request arrived.
    pub received: Instant,
    /// When the caller stops waiting.
    pub deadline: Option<Instant>,
    /// Who calls.
    pub principal: Principal,
    /// What the request may bring.
    pub limits: RequestLimits,
    _in_flight: TaskTrackerToken,
}

impl App {
    /// A service without models yet, with the hosted API's limits and no rates.
    pub fn new(aliases: Vec<Alias>) -> Self {
        Self::limited(aliases, RequestLimits::default(), Rates::default())
    }

    /// A service without models yet that refuses what is over these limits.
    pub fn limited(aliases: Vec<Alias>, limits: RequestLimits, rates: Rates) -> Self {
        Self::with(aliases, limits, rates, false)
    }

    /// A service that answers everything with what is canned, ready at once; of the limits only that
    /// of the raw request holds.
    pub fn mock(limits: RequestLimits) -> Self {
        let limits = RequestLimits { bytes: u64::MAX, documents: None, ..limits };
        let app = Self::with(Vec::new(), limits, Rates::default(), true);
        app.open();
        app
    }

    fn with(aliases: Vec<Alias>, limits: RequestLimits, rates: Rates, mock: bool) -> Self {
        Self(Arc::new(Inner {
            mock,
            aliases,
            limits,
            rates: Mutex::new(RateLimiter::new(rates)),
            models: OnceLock::new(),
            collections: OnceLock::new(),
            counted: AsyncMutex::default(),
            stage: watch::Sender::new(Stage::Loading),
            in_flight: TaskTracker::new(),
            encoders: Semaphore::new(
                std::thread::available_parallelism().map_or(1, NonZeroUsize::get),
            ),
            metrics: Metrics::default(),
            announced: OnceLock::new(),
            loading: Mutex::default(),
            configuration: OnceLock::new(),
        }))
    }

    /// Keeps the effective configuration, as JSON and without secrets, for those who ask; the first
    /// call counts.
    pub fn set_configuration(&self, json: String) {
        self.0.configuration.get_or_init(|| json);
    }

    /// The effective configuration as JSON, if it is known.
    pub(crate) fn configuration(&self) -> Option<&str> {
        self.0.configuration.get().map(String::as_str)
    }

    /// What is counted.
    pub fn metrics(&self) -> &Metrics {
        &self.0.metrics
    }

    /// All metrics as OpenMetrics text, with the open connections by protocol.
    pub(crate) async fn scrape(
        &self,
        connections: &[(&'static str, u64)],
    ) -> Result<String, std::fmt::Error> {
        let collections = self.collection_figures().await;
        let figures = self.figures();
        let models = self.0.announced.get().map_or(&[] as &[String], Vec::as_slice);
        let state = match *self.0.stage.borrow() {
            Stage::Loading => "loading",
            Stage::Ready => "ready",
            Stage::Draining => "draining",
        };
        self.0.metrics.encode(&figures, models, state, connections, collections.as_ref())
    }

    /// Whether answers are canned.
    pub fn is_mock(&self) -> bool {
        self.0.mock
    }

    /// Opens the gate, unless the service is draining already.
    pub(crate) fn open(&self) {
        self.0.stage.send_if_modified(|stage| {
            let loaded = *stage == Stage::Loading;
            if loaded {
                *stage = Stage::Ready;
            }
            loaded
        });
    }

    /// The stage now and whenever it changes.
    pub fn stage(&self) -> watch::Receiver<Stage> {
        self.0.stage.subscribe()
    }

    /// What one request may bring.
    pub fn limits(&self) -> RequestLimits {
        self.0.limits
    }

    /// Lets a request in whose caller waits for `timeout`, or for as long as it takes.
    ///
    /// # Errors
    /// [`Error::Loading`], and [`Error::Draining`] if it ends before it is loaded.
    pub fn admit(
        &self,
        timeout: Option<Duration>,
        principal: Principal,
    ) -> Result<Admission, Error> {
        let received = Instant::now();
        // A deadline past the clock's range is none.
        let deadline = timeout.and_then(|timeout| received.checked_add(timeout));
        let admission = Admission {
            received,
            deadline,
            principal,
            limits: self.0.limits,
            _in_flight: self.0.in_flight.token(),
        };
        match *self.0.stage.borrow() {
            Stage::Loading => Err(Error::Loading),
            Stage::Ready => Ok(admission),
            Stage::Draining if self.is_mock() || !self.models().is_empty() => Ok(admission),
            Stage::Draining => Err(Error::Draining),
        }
    }

    /// Says that the service goes away: it is not ready any more.
    pub fn leave(&self) {
        self.0.stage.send_replace(Stage::Draining);
        self.0.in_flight.close();
    }

    /// Returns once the service leaves and no request is left that was let in.
    pub async fn drained(&self) {
        self.0.in_flight.wait().await;
    }

    /// Requests that are let in and not answered yet.
    pub fn in_flight(&self) -> usize {
        self.0.in_flight.len()
    }

    /// Scores documents with the model that the request names.
    ///
    /// # Errors
    /// [`Error::ModelNotFound`], [`Error::RateLimited`], [`Error::OverQuota`],
    /// [`Error::Overloaded`], [`Error::Draining`], [`Error::Internal`].
    pub async fn rerank(&self, request: RerankRequest) -> Result<RerankResponse, Error> {
        let mut responses = self.rerank_all(vec![request]).await?;
        Ok(responses.pop().expect("a request has a response"))
    }

    /// Scores the documents of requests that are one call, with one caller, model, class and deadline:
    /// it is charged once and let in as a whole, or not at all.
    ///
    /// # Errors
    /// As [`rerank`](Self::rerank).
    pub(crate) async fn rerank_all(
        &self,
        mut requests: Vec<RerankRequest>,
    ) -> Result<Vec<RerankResponse>, Error> {
        if self.0.mock {
            return future::try_join_all(requests.into_iter().map(mock::rerank)).await;
        }
        let Some(first) = requests.first() else { return Ok(Vec::new()) };
        let engine = self.model(first.model.as_deref())?.clone();
        let (principal, latency) = (first.principal.clone(), first.latency);
        let bytes = |request: &RerankRequest| total_bytes(&request.query, &request.documents);
        let charge = Charge { bytes: requests.iter().map(bytes).sum(), requests: 1 };
        let class = self.rates().check(&principal, latency, charge, Instant::now())?;
        for request in &mut requests {
            request.latency = latency.or((class == Latency::Slow).then_some(class));
        }
        metrics::note_model(&engine.spec().name);
        metrics::note_class(class);
        let documents: Vec<usize> = requests.iter().map(|one| one.documents.len()).collect();
        let answer = rerank::rerank(&engine, &self.0.encoders, requests).await;
        if let Err(Error::Overloaded { .. } | Error::Draining | Error::Internal { .. }) = &answer {
            self.rates().refund(&principal, class, charge);
        }
        let responses = answer?;
        for (response, documents) in responses.iter().zip(documents) {
            metrics::note_class(response.latency);
            self.0.metrics.worked(Work {
                model: &response.model,
                class: response.latency,
                documents: documents as u64,
                tokens: response.total_tokens,
                queue: response.queue,
                inference: response.inference,
            });
        }
        Ok(responses)
    }

    /// Scores the documents of a stream with the model that its header names, and gives `send` the
    /// scores as they are there, then a summary.
    ///
    /// # Errors
    /// As [`rerank`](Self::rerank), those of [`RequestLimits`], and those of `documents`.
    pub async fn rerank_stream<Sent: Future<Output = ()>>(
        &self,
        mut header: StreamHeader,
        documents: impl Stream<Item = Result<Vec<String>, Error>>,
        mut send: impl FnMut(StreamEvent) -> Sent,
    ) -> Result<(), Error> {
        if self.0.mock {
            return mock::rerank_stream(header, documents, send).await;
        }
        let engine = self.model(header.model.as_deref())?.clone();
        let (principal, latency) = (header.principal.clone(), header.latency);
        let begin = Charge { bytes: 0, requests: 1 };
        let class = self.rates().check(&principal, latency, begin, Instant::now())?;
        header.latency = latency.or((class == Latency::Slow).then_some(class));
        let charge = |received: Received, bytes| {
            self.0.limits.check(received.documents, received.bytes)?;
            // Without a class each message is charged to what is left, as requests are.
            let charge = Charge { bytes, requests: 0 };
            self.rates().check(&principal, latency, charge, Instant::now()).map(drop)
        };
        metrics::note_model(&engine.spec().name);
        metrics::note_class(class);
        let send = |event: StreamEvent| {
            if let StreamEvent::Summary(summary) = &event {
                metrics::note_class(summary.latency);
                self.0.metrics.worked(Work {
                    model: &summary.model,
                    class: summary.latency,
                    documents: summary.documents,
                    tokens: summary.total_tokens,
                    queue: summary.queue,
                    inference: summary.inference,
                });
            }
            send(event)
        };
        rerank::rerank_stream(&engine, &self.0.encoders, header, charge, documents, send).await
    }

    fn rates(&self) -> MutexGuard<'_, RateLimiter> {
        // A panic while the lock is held leaves an account half-charged at worst.
        self.0.rates.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A pod that is still loading would be sent requests it cannot answer.
    #[test]
    fn the_gate_is_shut_while_loading() {
        let app = App::new(Vec::new());
        assert!(matches!(app.admit(None, Principal::anonymous()), Err(Error::Loading)));
        assert!(app.is_healthy());
        assert_eq!(app.in_flight(), 0);
    }

    /// A rollout would cut requests off, or hang although nothing is left to do.
    #[tokio::test]
    async fn draining_waits_for_all_that_was_let_in() {
        let app = App::mock(RequestLimits::default());
        let admit = || app.admit(None, Principal::anonymous());
        let before = admit().expect("is ready");
        app.leave();
        let late = admit().expect("came on a connection that was there");
        let draining = tokio::spawn({
            let app = app.clone();
            async move { app.drained().await }
        });
        drop(before);
        tokio::task::yield_now().await;
        assert!(!draining.is_finished());
        drop(late);
        draining.await.expect("drains");
    }

    #[test]
    fn the_gate_stays_shut_if_it_ends_while_loading() {
        let app = App::new(Vec::new());
        app.leave();
        assert!(matches!(app.admit(None, Principal::anonymous()), Err(Error::Draining)));
    }
}
