//! What the operator counts: every metric with its name, unit and buckets.

use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// The media type of [`Metrics::encode`].
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

const SECONDS: [f64; 10] = [0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Reason {
    reason: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct KindLabel {
    kind: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Direction {
    direction: &'static str,
}

/// All metrics.
pub struct Metrics {
    registry: Registry,
    reconcile: Histogram,
    errors: Family<Reason, Counter>,
    applied: Family<KindLabel, Counter>,
    scaled: Family<Direction, Counter>,
    objects: Family<Reason, Gauge>,
    leader: Gauge,
    /// The reason of each object's condition Available.
    reasons: Mutex<HashMap<String, String>>,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("reranker_operator");
        let reconcile = Histogram::new(SECONDS);
        registry.register_with_unit(
            "reconcile",
            "Time of a pass over an object",
            Unit::Seconds,
            reconcile.clone(),
        );
        let errors = Family::<Reason, Counter>::default();
        registry.register(
            "errors",
            "Passes and other steps that failed, by reason",
            errors.clone(),
        );
        let applied = Family::<KindLabel, Counter>::default();
        registry.register("applied", "Children applied, by kind", applied.clone());
        let scaled = Family::<Direction, Counter>::default();
        registry.register(
            "scaled",
            "Changes of a number of replicas, by direction",
            scaled.clone(),
        );
        let objects = Family::<Reason, Gauge>::default();
        registry.register(
            "objects",
            "Objects by the reason of their condition Available",
            objects.clone(),
        );
        let leader = Gauge::default();
        registry.register("leader", "1 while this process holds the lease", leader.clone());
        let reasons = Mutex::default();
        Self { registry, reconcile, errors, applied, scaled, objects, leader, reasons }
    }
}

impl Metrics {
    /// A pass over an object took so long.
    pub fn reconciled(&self, time: Duration) {
        self.reconcile.observe(time.as_secs_f64());
    }

    /// Something failed.
    pub fn failed(&self, reason: &str) {
        self.errors.get_or_create(&Reason { reason: reason.to_owned() }).inc();
    }

    /// A child was applied.
    pub fn applied(&self, kind: &'static str) {
        self.applied.get_or_create(&KindLabel { kind }).inc();
    }

    /// A number of replicas was changed.
    pub fn scaled(&self, from: i32, to: i32) {
        let direction = if to > from { "up" } else { "down" };
        self.scaled.get_or_create(&Direction { direction }).inc();
    }

    /// An object's condition Available has this reason now.
    pub fn object(&self, object: &str, reason: &str) {
        let mut reasons = self.reasons.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(before) = reasons.insert(object.to_owned(), reason.to_owned()) {
            self.objects_by(&before).dec();
        }
        self.objects_by(reason).inc();
    }

    /// Forgets objects that are gone.
    pub fn retain(&self, is_there: impl Fn(&str) -> bool) {
        let mut reasons = self.reasons.lock().unwrap_or_else(PoisonError::into_inner);
        reasons.retain(|object, reason| {
            let stays = is_there(object);
            if !stays {
                self.objects_by(reason).dec();
            }
            stays
        });
    }

    fn objects_by(&self, reason: &str) -> Gauge {
        self.objects.get_or_create(&Reason { reason: reason.to_owned() }).clone()
    }

    /// Whether this process holds the lease.
    pub fn leads(&self, leads: bool) {
        self.leader.set(i64::from(leads));
    }

    /// All of them, as OpenMetrics text.
    pub fn encode(&self) -> String {
        let mut out = String::new();
        text::encode(&mut out, &self.registry).expect("strings grow");
        out
    }
}
