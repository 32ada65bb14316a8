//! What the cluster asks: is the process alive, may it be sent requests.

use crate::app::{App, Stage};
use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;

pub(super) fn router(app: App) -> Router {
    Router::new().route("/livez", get(livez)).route("/readyz", get(readyz)).with_state(app)
}

/// 200 from the first moment, while loading and draining too; 503 if only a restart helps.
async fn livez(State(app): State<App>) -> (StatusCode, &'static str) {
    if app.is_healthy() {
        (StatusCode::OK, "ok")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "a model's worker ended")
    }
}

/// 200 once every model is loaded, warmed up and checked; 503 before, and while draining.
async fn readyz(State(app): State<App>) -> (StatusCode, &'static str) {
    let stage = *app.stage().borrow();
    match stage {
        Stage::Ready if app.is_healthy() => (StatusCode::OK, "ok"),
        Stage::Ready => (StatusCode::SERVICE_UNAVAILABLE, "a model's worker ended"),
        Stage::Loading => (StatusCode::SERVICE_UNAVAILABLE, "loading"),
        Stage::Draining => (StatusCode::SERVICE_UNAVAILABLE, "draining"),
    }
}
