//! Logs on standard error, traces to an OTLP collector, and what ties both to a request.
//!
//! ```text
//! events, spans ──RUST_LOG──> lines on standard error
//! our own spans ──────────> OpenTelemetry ──bounded queue, own thread──> collector
//! ```

mod request;
mod traces;

use crate::config::{LogFormat, Traces};
use std::io::{self, IsTerminal};
use tracing_subscriber::fmt::format::{DefaultFields, Format};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, Registry, fmt};

pub(crate) use request::{
    REQUEST_ID, continue_trace, request_id, set_attribute, set_failed, set_name,
};
pub use traces::TraceExport;

/// Sends the process's logs to standard error; `RUST_LOG` filters them, `info` by default.
///
/// Does nothing if the process has a subscriber already.
pub fn init(format: LogFormat) {
    // An error means that somebody was first, which is what a test or an embedding program wants.
    let _ = tracing_subscriber::registry().with(lines(format)).try_init();
}

/// As [`init`], and exports traces if there is somewhere to send them.
///
/// Must be called within a runtime, which carries the connection to the collector.
///
/// # Errors
/// If the collector's endpoint is not an address.
pub fn start(format: LogFormat, traces: Option<Traces>) -> Result<Option<TraceExport>, String> {
    let Some(traces) = traces else {
        init(format);
        return Ok(None);
    };
    let (export, layer) = traces::start(traces)?;
    // As above.
    let _ = tracing_subscriber::registry().with(lines(format)).with(layer).try_init();
    Ok(Some(export))
}

fn lines(format: LogFormat) -> Box<dyn Layer<Registry> + Send + Sync> {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    match format {
        LogFormat::Text => layer().with_filter(filter).boxed(),
        LogFormat::Json => layer().json().flatten_event(true).with_filter(filter).boxed(),
    }
}

type Lines = fmt::Layer<Registry, DefaultFields, Format, fn() -> io::Stderr>;

fn layer() -> Lines {
    fmt::layer()
        .with_target(false)
        .with_ansi(io::stderr().is_terminal())
        .with_writer(io::stderr as fn() -> io::Stderr)
}
