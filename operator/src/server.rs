//! What the cluster asks of the operator: is it alive, is it ready, what has it counted.

use crate::metrics::{self, Metrics};
use axum::Router;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use axum::routing::get;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// Whether the operator is ready: it has reached the API server and waits for the lease or holds it.
#[derive(Clone, Debug, Default)]
pub struct Readiness(Arc<AtomicBool>);

impl Readiness {
    /// Sets it.
    pub fn set(&self, ready: bool) {
        self.0.store(ready, Ordering::Relaxed);
    }
}

/// Serves `/livez`, `/readyz` and `/metrics` until `stop`.
///
/// # Errors
/// If the listener fails.
pub async fn serve(
    listener: TcpListener,
    metrics: Arc<Metrics>,
    readiness: Readiness,
    stop: CancellationToken,
) -> io::Result<()> {
    let ready = async move || {
        if readiness.0.load(Ordering::Relaxed) {
            (StatusCode::OK, "ok")
        } else {
            (StatusCode::SERVICE_UNAVAILABLE, "the API server was not reached yet")
        }
    };
    let scrape =
        async move || ([(CONTENT_TYPE, metrics::CONTENT_TYPE)], metrics.encode()).into_response();
    let router = Router::new()
        .route("/livez", get(async || "ok"))
        .route("/readyz", get(ready))
        .route("/metrics", get(scrape));
    axum::serve(listener, router).with_graceful_shutdown(stop.cancelled_owned()).await
}
