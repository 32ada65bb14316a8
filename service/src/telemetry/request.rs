//! A request's identity: its id, and its place in a trace that began elsewhere.
//!
//! Both protocols keep their headers in an [`http::HeaderMap`], so each of these exists once.

use http::{HeaderMap, HeaderName, HeaderValue};
use opentelemetry::propagation::{Extractor, TextMapPropagator};
use opentelemetry::trace::{Status, TraceContextExt};
use opentelemetry::{Context, Value};
use opentelemetry_sdk::propagation::TraceContextPropagator;
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt;
use uuid::Uuid;

/// Carries the request's id in both directions.
pub(crate) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The longest id that is taken over from a client.
const MAX_ID_BYTES: usize = 128;

/// The id the client gave, if it is a short token that cannot break a log line, else a fresh one.
pub(crate) fn request_id(headers: &HeaderMap) -> HeaderValue {
    let sane = |id: &&HeaderValue| {
        let bytes = id.as_bytes();
        let is_token = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.:".contains(byte);
        (1..=MAX_ID_BYTES).contains(&bytes.len()) && bytes.iter().all(is_token)
    };
    headers.get(REQUEST_ID).filter(sane).cloned().unwrap_or_else(|| {
        HeaderValue::try_from(Uuid::new_v4().to_string()).expect("a UUID is ASCII")
    })
}

/// Makes `span` a part of the trace that the headers name (`traceparent`, `tracestate`), if they name
/// one, and writes the trace's id into its field `trace_id`, for the logs.
pub(crate) fn continue_trace(span: &Span, headers: &HeaderMap) {
    // Not the current context: a request has no parent but the one that the caller names.
    let parent =
        TraceContextPropagator::new().extract_with_context(&Context::new(), &Headers(headers));
    let named = parent.span().span_context().trace_id();
    // Without an export there is nothing to set, and the caller's id is still worth logging.
    let _ = span.set_parent(parent);
    let exported = span.context().span().span_context().trace_id();
    if let Some(id) =
        [exported, named].into_iter().find(|id| *id != opentelemetry::TraceId::INVALID)
    {
        span.record("trace_id", tracing::field::display(id));
    }
}

/// Names the exported span; the logs know it by its kind only.
pub(crate) fn set_name(span: &Span, name: String) {
    span.context().span().update_name(name);
}

/// Sets an attribute of the exported span that the logs do without.
pub(crate) fn set_attribute(span: &Span, key: &'static str, value: impl Into<Value>) {
    span.set_attribute(key, value);
}

/// Marks the exported span as failed by the service's fault.
pub(crate) fn set_failed(span: &Span, code: &'static str) {
    span.set_attribute("error.type", code);
    span.set_status(Status::error(""));
}

struct Headers<'a>(&'a HeaderMap);

impl Extractor for Headers<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key)?.to_str().ok()
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(HeaderName::as_str).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id_for(sent: &[u8]) -> String {
        let mut headers = HeaderMap::new();
        headers.insert(REQUEST_ID, HeaderValue::from_bytes(sent).expect("is a header"));
        request_id(&headers).to_str().expect("is ASCII").to_owned()
    }

    /// A client could write its own lines into the log, or megabytes of them.
    #[test]
    fn only_short_tokens_are_taken_over_as_ids() {
        let longest = "x".repeat(MAX_ID_BYTES);
        for good in ["a", "Root-1_2.3:4", "2f1e7cf2-ef3e-4f7f-a3a5-0d1e35c1b2a7", &longest] {
            assert_eq!(id_for(good.as_bytes()), good);
        }
        let long = "x".repeat(MAX_ID_BYTES + 1);
        for bad in ["", "a b", "a\"b", "a=b", "é", "{}", &long] {
            let fresh = id_for(bad.as_bytes());
            assert!(Uuid::parse_str(&fresh).is_ok(), "`{bad}`: {fresh}");
        }
        assert!(Uuid::parse_str(request_id(&HeaderMap::new()).to_str().unwrap()).is_ok());
    }
}
