//! The export of traces: spans of our own crates, batched and sent by a thread of their own.
//!
//! The queue in front of that thread is bounded (`OTEL_BSP_MAX_QUEUE_SIZE`, 2,048 spans): while the
//! collector is away spans are dropped, requests never wait.

use crate::config::{TraceProtocol, Traces};
use opentelemetry::KeyValue;
use opentelemetry::trace::TracerProvider;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::resource::{EnvResourceDetector, TelemetryResourceDetector};
use opentelemetry_sdk::trace::{SdkTracerProvider, SpanData, SpanExporter};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::registry::LookupSpan;

/// A running export.
#[derive(Debug)]
pub struct TraceExport(SdkTracerProvider);

impl TraceExport {
    /// Sends what is left, for at most `limit`; blocks.
    pub fn end(&self, limit: Duration) {
        if let Err(error) = self.0.shutdown_with_timeout(limit) {
            tracing::warn!(%error, "the last traces may be lost");
        }
    }
}

/// Starts the thread; the layer feeds it.
pub(super) fn start<S>(config: Traces) -> Result<(TraceExport, impl Layer<S>), String>
where
    S: tracing::Subscriber + for<'a> LookupSpan<'a> + Send + Sync,
{
    let Traces { protocol, service_name } = config;
    let builder = opentelemetry_otlp::SpanExporter::builder();
    let exporter = match protocol {
        TraceProtocol::Grpc => builder.with_tonic().build(),
        TraceProtocol::HttpProtobuf => builder.with_http().build(),
    };
    let exporter = exporter.map_err(|error| format!("the export of traces: {error}"))?;
    // Later ones win: OTEL_SERVICE_NAME over OTEL_RESOURCE_ATTRIBUTES over our own.
    let resource = Resource::builder_empty()
        .with_service_name("reranker")
        .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
        .with_detectors(&[
            Box::new(TelemetryResourceDetector),
            Box::new(EnvResourceDetector::new()),
        ])
        .with_attributes(service_name.map(|name| KeyValue::new("service.name", name)))
        .build();
    let provider = SdkTracerProvider::builder()
        .with_resource(resource)
        .with_batch_exporter(Reporting { exporter, failing: AtomicBool::new(false) })
        .build();
    let layer = spans_to(&provider);
    Ok((TraceExport(provider), layer))
}

fn spans_to<S>(provider: &SdkTracerProvider) -> impl Layer<S> + use<S>
where
    S: tracing::Subscriber + for<'a> LookupSpan<'a> + Send + Sync,
{
    // Not those of libraries: they describe connections, and the exporter's own would feed itself.
    let ours = ["reranker", "reranker_engine"].map(|name| (name, LevelFilter::INFO));
    tracing_opentelemetry::layer()
        .with_tracer(provider.tracer("reranker"))
        .with_location(false)
        .with_threads(false)
        .with_target(false)
        .with_tracked_inactivity(false)
        .with_filter(Targets::new().with_targets(ours))
}

/// Says once that the collector cannot be reached, and once that it can be again.
#[derive(Debug)]
struct Reporting<E> {
    exporter: E,
    failing: AtomicBool,
}

impl<E: SpanExporter> SpanExporter for Reporting<E> {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let exported = self.exporter.export(batch).await;
        let failed_before = self.failing.swap(exported.is_err(), Ordering::Relaxed);
        match &exported {
            Err(error) if !failed_before => {
                tracing::warn!(%error, "traces are not exported; said again when they are");
            }
            Ok(()) if failed_before => tracing::info!("traces are exported again"),
            _ => {}
        }
        exported
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.exporter.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;
    use std::sync::{Arc, Mutex};
    use tracing_subscriber::layer::SubscriberExt;

    #[derive(Clone, Debug, Default)]
    struct Kept(Arc<Mutex<Vec<SpanData>>>);

    impl SpanExporter for Kept {
        async fn export(&self, mut batch: Vec<SpanData>) -> OTelSdkResult {
            self.0.lock().unwrap().append(&mut batch);
            Ok(())
        }
    }

    /// A batch belongs to several requests: as a child of one it would hide from the others.
    #[test]
    fn what_a_span_follows_is_linked() {
        let kept = Kept::default();
        let provider = SdkTracerProvider::builder().with_simple_exporter(kept.clone()).build();
        let subscriber = tracing_subscriber::registry().with(spans_to(&provider));
        tracing::subscriber::with_default(subscriber, || {
            let requests = ["a", "b"].map(|id| tracing::info_span!("request", id));
            let batch = tracing::info_span!(parent: None, "batch", tokens = 5);
            for request in &requests {
                batch.follows_from(request);
            }
            batch.in_scope(|| {});
            let foreign = tracing::info_span!(target: "hyper", "connection");
            drop((batch, requests, foreign));
        });
        let spans = kept.0.lock().unwrap();
        let named = |name: &str| spans.iter().filter(|span| span.name == name).collect::<Vec<_>>();
        let requests: HashSet<_> =
            named("request").iter().map(|span| span.span_context.span_id()).collect();
        let batch = named("batch")[0];
        let links: HashSet<_> =
            batch.links.iter().map(|link| link.span_context.span_id()).collect();
        assert_eq!((links.len(), links), (2, requests));
        assert_eq!(batch.parent_span_id, opentelemetry::SpanId::INVALID);
        assert_eq!(spans.len(), 3, "spans of libraries are left out");
    }
}
