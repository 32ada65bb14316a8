//! What collections hold, what is done for them, and how long searches take.

use super::{Count, Histograms, Real, SECONDS, labels};
use crate::collection::ingest::Tally;
use crate::collection::{Statistics, Unit};
use labels::{OutcomeLabels, StatusLabel, UnitLabel};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit as BaseUnit};
use std::sync::atomic::Ordering;
use std::time::Duration;

/// What a service with collections says of them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CollectionFigures {
    /// Documents, and how long the one has waited that is searchable next; none: the store has not
    /// answered.
    pub(crate) counted: Option<(Statistics, Duration)>,
    /// What has been taken in.
    pub(crate) tally: Tally,
}

pub(super) struct Collections {
    documents: Family<StatusLabel, Count>,
    indexed_bytes: Count,
    lag: Real,
    ingested: Family<OutcomeLabels, Counter>,
    passages: Counter,
    ingested_bytes: Counter,
    search: Histograms<UnitLabel>,
}

impl Collections {
    pub(super) fn declare(r: &mut Registry) -> Self {
        let histogram: fn() -> Histogram = || Histogram::new(SECONDS);
        let metrics = Self {
            documents: Family::default(),
            indexed_bytes: Count::default(),
            lag: Real::default(),
            ingested: Family::default(),
            passages: Counter::default(),
            ingested_bytes: Counter::default(),
            search: Family::new_with_constructor(histogram),
        };
        r.register(
            "collection_documents",
            "Documents by how far they are: parsing and indexing are those that wait, too",
            metrics.documents.clone(),
        );
        r.register_with_unit(
            "collection_indexed",
            "UTF-8 text of indexed documents",
            BaseUnit::Bytes,
            metrics.indexed_bytes.clone(),
        );
        r.register_with_unit(
            "index_lag",
            "Since when the document waits that queries find next; 0: none waits, failed ones do not",
            BaseUnit::Seconds,
            metrics.lag.clone(),
        );
        r.register(
            "ingest_documents",
            "Documents that came through a step, or failed in it",
            metrics.ingested.clone(),
        );
        r.register(
            "ingest_passages",
            "Passages that were indexed, of both lengths",
            metrics.passages.clone(),
        );
        r.register_with_unit(
            "ingest",
            "UTF-8 text that was indexed",
            BaseUnit::Bytes,
            metrics.ingested_bytes.clone(),
        );
        r.register_with_unit(
            "search",
            "What a query's search for words took, before a reranker",
            BaseUnit::Seconds,
            metrics.search.clone(),
        );
        metrics
    }

    pub(super) fn searched(&self, unit: Unit, took: Duration) {
        self.search.get_or_create(&UnitLabel { unit: word(unit) }).observe(took.as_secs_f64());
    }

    pub(super) fn set(&self, figures: &CollectionFigures) {
        let CollectionFigures { counted, tally } = figures;
        if let Some((statistics, lag)) = counted {
            let Statistics { parsing, indexing, indexed, failed, indexed_bytes } = *statistics;
            for (status, documents) in [
                ("parsing", parsing),
                ("indexing", indexing),
                ("indexed", indexed),
                ("failed", failed),
            ] {
                self.documents.get_or_create(&StatusLabel { status }).set(documents);
            }
            self.indexed_bytes.set(indexed_bytes);
            self.lag.set(lag.as_secs_f64());
        }
        let Tally { parsed, parsing_failed, indexed, indexing_failed, passages, bytes } = *tally;
        for (step, outcome, total) in [
            ("parse", "ok", parsed),
            ("parse", "failed", parsing_failed),
            ("index", "ok", indexed),
            ("index", "failed", indexing_failed),
        ] {
            store(&self.ingested.get_or_create(&OutcomeLabels { step, outcome }), total);
        }
        store(&self.passages, passages);
        store(&self.ingested_bytes, bytes);
        for unit in ["snippet", "page", "document"] {
            // There from the start: what appears with its first event looks as if it had none.
            drop(self.search.get_or_create(&UnitLabel { unit }));
        }
    }
}

/// The ingestion's total is the truth; a scrape copies it.
fn store(counter: &Counter, total: u64) {
    counter.inner().store(total, Ordering::Relaxed);
}

fn word(unit: Unit) -> &'static str {
    match unit {
        Unit::Passage(_) => "snippet",
        Unit::Page => "page",
        Unit::Document => "document",
    }
}
