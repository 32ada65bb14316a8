//! What the service counts: every metric is declared here, once, with its name, unit and buckets.
//!
//! One [`Metrics`] belongs to each [`App`](crate::app::App). Requests are counted by the layer of
//! their protocol through an [`Exchange`]; work by the use-case; the engines' own figures and the
//! process's are read when somebody scrapes. Labels are bounded: routes are those that exist,
//! models those that are loaded, everything else is [`UNKNOWN`].

mod collections;
mod engine;
mod exchange;
mod labels;
mod load;
mod process;

use crate::collection::Unit as SearchUnit;
use crate::rerank::Latency;
use collections::Collections;
use labels::{
    ClassLabels, DurationLabels, ModelLabel, ProtocolLabel, ReasonLabels, RequestLabels,
    StateLabels,
};
use prometheus_client::encoding::text;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

pub(crate) use collections::CollectionFigures;
pub(crate) use engine::ModelFigures;
pub(crate) use exchange::{
    Exchange, Outcome, carried, note_cancelled, note_class, note_error, note_model,
};
pub(crate) use load::{Load, ModelLoad};

/// The label of a route, model or class that a request did not come to, or that does not exist.
pub(crate) const UNKNOWN: &str = "unknown";

/// The media type of [`Metrics::encode`].
pub(crate) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Seconds from a refusal at once to a request that filled its time: steps of at most 2.5.
const SECONDS: [f64; 16] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0,
];

/// A listener that serves requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// `reranker.v1`.
    Grpc,
    /// The hosted API's shape.
    Http,
}

impl Protocol {
    const fn name(self) -> &'static str {
        match self {
            Self::Grpc => "grpc",
            Self::Http => "http",
        }
    }
}

/// What a request cost, once it is answered.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Work<'a> {
    pub(crate) model: &'a str,
    pub(crate) class: Latency,
    pub(crate) documents: u64,
    pub(crate) tokens: u64,
    pub(crate) queue: Duration,
    pub(crate) inference: Duration,
}

type Seconds = Counter<f64, AtomicU64>;
type Count = Gauge<u64, AtomicU64>;
type Real = Gauge<f64, AtomicU64>;
type Histograms<L> = Family<L, Histogram, fn() -> Histogram>;

/// The metrics of one service. See the table in [`declare`](Self::declare).
pub struct Metrics {
    registry: Registry,
    requests: Family<RequestLabels, Counter>,
    request_duration: Histograms<DurationLabels>,
    rejected: Family<ReasonLabels, Counter>,
    cancelled: Family<ProtocolLabel, Counter>,
    connections: Family<ProtocolLabel, Count>,
    documents: Family<ClassLabels, Counter>,
    tokens: Family<ClassLabels, Counter>,
    queue: Histograms<ClassLabels>,
    inference: Histograms<ClassLabels>,
    queued_tokens: Family<ClassLabels, Count>,
    queued_requests: Family<ModelLabel, Count>,
    inflight_tokens: Family<ModelLabel, Count>,
    tokens_per_second: Family<ModelLabel, Real>,
    busy: Family<ModelLabel, Seconds>,
    batches: Family<ModelLabel, Counter>,
    batch_tokens: Family<ModelLabel, Counter>,
    batch_capacity: Family<ModelLabel, Counter>,
    queue_cancelled: Family<ModelLabel, Counter>,
    model_load_state: Family<StateLabels, Gauge>,
    open_fds: Count,
    max_fds: Count,
    resident_memory: Count,
    cpu: Seconds,
    start_time: Real,
    /// Zero or missing while collections are off.
    collections: Collections,
    /// Samples of the engines' busy time, for [`Load`].
    busy_window: Mutex<load::BusyWindow>,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::declare()
    }
}

impl Metrics {
    /// Declares every metric: the names below get the prefix `reranker_` and, where they have one,
    /// the unit as a suffix; counters end in `_total`.
    #[expect(clippy::too_many_lines, reason = "a table: one row a metric")]
    fn declare() -> Self {
        let histogram: fn() -> Histogram = || Histogram::new(SECONDS);
        let mut r = Registry::with_prefix("reranker");
        let metrics = Self {
            registry: Registry::default(),
            requests: Family::default(),
            request_duration: Family::new_with_constructor(histogram),
            rejected: Family::default(),
            cancelled: Family::default(),
            connections: Family::default(),
            documents: Family::default(),
            tokens: Family::default(),
            queue: Family::new_with_constructor(histogram),
            inference: Family::new_with_constructor(histogram),
            queued_tokens: Family::default(),
            queued_requests: Family::default(),
            inflight_tokens: Family::default(),
            tokens_per_second: Family::default(),
            busy: Family::default(),
            batches: Family::default(),
            batch_tokens: Family::default(),
            batch_capacity: Family::default(),
            queue_cancelled: Family::default(),
            model_load_state: Family::default(),
            open_fds: Gauge::default(),
            max_fds: Gauge::default(),
            resident_memory: Gauge::default(),
            cpu: Counter::default(),
            start_time: Gauge::default(),
            collections: Collections::declare(&mut r),
            busy_window: Mutex::default(),
        };
        let build =
            [("version", env!("CARGO_PKG_VERSION")), ("architecture", std::env::consts::ARCH)];
        r.register("build", "The running build", Info::new(build.to_vec()));

        r.register(
            "requests",
            "Requests by how they ended: `ok`, an error's code, or `cancelled`",
            metrics.requests.clone(),
        );
        r.register_with_unit(
            "request_duration",
            "From a request's head to the end of its answer",
            Unit::Seconds,
            metrics.request_duration.clone(),
        );
        r.register(
            "rejected",
            "Well-formed requests that were turned away, by reason",
            metrics.rejected.clone(),
        );
        r.register(
            "cancelled",
            "Requests whose caller was gone before the answer",
            metrics.cancelled.clone(),
        );
        r.register("connections", "Connections open now", metrics.connections.clone());

        r.register("documents", "Documents of answered requests", metrics.documents.clone());
        r.register(
            "tokens",
            "Tokens of answered requests: every pair in its prompt, after truncation",
            metrics.tokens.clone(),
        );
        r.register_with_unit(
            "queue",
            "What an answered request waited for the device",
            Unit::Seconds,
            metrics.queue.clone(),
        );
        r.register_with_unit(
            "inference",
            "What the device spent on batches that held an answered request",
            Unit::Seconds,
            metrics.inference.clone(),
        );

        let tokens = || Unit::Other("tokens".to_owned());
        r.register_with_unit(
            "queued",
            "Tokens that wait for the device, by class",
            tokens(),
            metrics.queued_tokens.clone(),
        );
        r.register(
            "queued_requests",
            "Requests that wait for the device, whole or in part",
            metrics.queued_requests.clone(),
        );
        r.register_with_unit(
            "inflight",
            "Tokens in the batch that runs",
            tokens(),
            metrics.inflight_tokens.clone(),
        );
        r.register(
            "tokens_per_second",
            "The measured rate of the device while it is busy",
            metrics.tokens_per_second.clone(),
        );
        r.register_with_unit(
            "busy",
            "Time the device spent on batches",
            Unit::Seconds,
            metrics.busy.clone(),
        );
        r.register("batches", "Batches that ran", metrics.batches.clone());
        r.register_with_unit(
            "batch",
            "Tokens of the batches that ran",
            tokens(),
            metrics.batch_tokens.clone(),
        );
        r.register_with_unit(
            "batch_capacity",
            "Tokens the batches that ran had room for; batch tokens over this is their fill",
            tokens(),
            metrics.batch_capacity.clone(),
        );
        r.register(
            "queue_cancelled",
            "Requests that left the queue because their caller was gone or their deadline passed",
            metrics.queue_cancelled.clone(),
        );
        r.register(
            "model_load_state",
            "1 for the state a model is in: loading, ready or draining",
            metrics.model_load_state.clone(),
        );

        r.register("process_open_fds", "Open file descriptors", metrics.open_fds.clone());
        r.register("process_max_fds", "Most file descriptors", metrics.max_fds.clone());
        r.register_with_unit(
            "process_resident_memory",
            "Memory of the process",
            Unit::Bytes,
            metrics.resident_memory.clone(),
        );
        r.register_with_unit(
            "process_cpu",
            "Processor time of the process, user and system",
            Unit::Seconds,
            metrics.cpu.clone(),
        );
        r.register_with_unit(
            "process_start_time",
            "When the process started, since 1970",
            Unit::Seconds,
            metrics.start_time.clone(),
        );
        Self { registry: r, ..metrics }
    }

    /// Counts what an answered request cost.
    pub(crate) fn worked(&self, work: Work<'_>) {
        let labels = ClassLabels { model: work.model.to_owned(), class: class(work.class) };
        self.documents.get_or_create(&labels).inc_by(work.documents);
        self.tokens.get_or_create(&labels).inc_by(work.tokens);
        self.queue.get_or_create(&labels).observe(work.queue.as_secs_f64());
        self.inference.get_or_create(&labels).observe(work.inference.as_secs_f64());
    }

    /// Counts a search for words.
    pub(crate) fn searched(&self, unit: SearchUnit, took: Duration) {
        self.collections.searched(unit, took);
    }

    /// All metrics as OpenMetrics text, with what `engines` and `collections` say now, each of `models` in `state` and the
    /// open `connections` by protocol.
    pub(crate) fn encode(
        &self,
        engines: &[ModelFigures],
        models: &[String],
        state: &'static str,
        connections: &[(&'static str, u64)],
        collections: Option<&CollectionFigures>,
    ) -> Result<String, fmt::Error> {
        if let Some(figures) = collections {
            self.collections.set(figures);
        }
        for &(protocol, open) in connections {
            self.connections.get_or_create(&ProtocolLabel { protocol }).set(open);
        }
        for protocol in [Protocol::Grpc, Protocol::Http] {
            // There from the start: what appears with its first event looks as if it had none.
            let labels = ProtocolLabel { protocol: protocol.name() };
            drop(self.cancelled.get_or_create(&labels));
        }
        for model in models {
            for known in ["loading", "ready", "draining"] {
                let labels = StateLabels { model: model.clone(), state: known };
                self.model_load_state.get_or_create(&labels).set(i64::from(known == state));
            }
        }
        for model in engines {
            self.set_engine(model);
        }
        if let Some(process) = process::Figures::read() {
            self.open_fds.set(process.open_fds);
            self.max_fds.set(process.max_fds);
            self.resident_memory.set(process.resident_bytes);
            store(&self.cpu, process.cpu_seconds);
            self.start_time.set(process.start_seconds);
        }
        let mut text = String::new();
        text::encode(&mut text, &self.registry)?;
        Ok(text)
    }

    fn set_engine(&self, ModelFigures { name, stats }: &ModelFigures) {
        let reranker_engine::Stats {
            queued_fast_tokens,
            queued_slow_tokens,
            inflight_tokens,
            queued_requests,
            tokens_per_second,
            busy,
            batches,
            batch_tokens,
            max_batch_tokens,
            cancelled_requests,
        } = stats;
        for (latency, queued) in
            [(Latency::Fast, queued_fast_tokens), (Latency::Slow, queued_slow_tokens)]
        {
            let labels = ClassLabels { model: name.clone(), class: class(latency) };
            self.queued_tokens.get_or_create(&labels).set(*queued);
        }
        let model = ModelLabel { model: name.clone() };
        self.queued_requests.get_or_create(&model).set(*queued_requests);
        self.inflight_tokens.get_or_create(&model).set(*inflight_tokens);
        self.tokens_per_second.get_or_create(&model).set(*tokens_per_second);
        store(&self.busy.get_or_create(&model), busy.as_secs_f64());
        for (family, total) in [
            (&self.batches, *batches),
            (&self.batch_tokens, *batch_tokens),
            (&self.batch_capacity, batches * max_batch_tokens),
            (&self.queue_cancelled, *cancelled_requests),
        ] {
            // The engine's total is the truth; a scrape copies it.
            family.get_or_create(&model).inner().store(total, Ordering::Relaxed);
        }
    }

    /// Remembers how long each engine has been busy, for [`load`](Self::load).
    pub(crate) fn sample(&self, now: Instant, engines: &[ModelFigures]) {
        let busy = engines.iter().map(|model| model.stats.busy).collect();
        self.busy_window.lock().unwrap_or_else(PoisonError::into_inner).push(now, busy);
    }

    /// How loaded the service is.
    pub(crate) fn load(&self, now: Instant, engines: &[ModelFigures]) -> Load {
        let window = self.busy_window.lock().unwrap_or_else(PoisonError::into_inner);
        Load::new(&window, now, engines)
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

const fn class(latency: Latency) -> &'static str {
    match latency {
        Latency::Fast => "fast",
        Latency::Slow => "slow",
    }
}

/// Sets a counter that somebody else counts.
fn store(counter: &Seconds, total: f64) {
    counter.inner().store(total.to_bits(), Ordering::Relaxed);
}
