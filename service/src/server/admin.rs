//! What the cluster and its people ask: is the process alive, may it be sent requests, how loaded is
//! it, what has it counted, what was it told.

use super::{Connections, Ended, Protocol};
use crate::app::{App, Loading, Stage};
use crate::metrics::{self, ModelLoad};
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use reranker_engine::Engine;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

pub(super) fn router(app: App, connections: Connections) -> Router {
    let metrics = get(async move |State(app): State<App>| metrics(&app, &connections).await);
    Router::new()
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .route("/metrics", metrics)
        .route("/load", get(load))
        .route("/debug/config", get(configuration))
        .with_state(app)
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

/// All metrics, as OpenMetrics text.
async fn metrics(app: &App, connections: &Connections) -> Response {
    let open = [("grpc", Protocol::Grpc), ("http", Protocol::Http), ("admin", Protocol::Admin)]
        .map(|(name, protocol)| (name, connections.open(protocol)));
    match app.scrape(&open).await {
        Ok(text) => ([(CONTENT_TYPE, metrics::CONTENT_TYPE)], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

/// How loaded the service is, for the autoscaler: all models together, then each.
async fn load(State(app): State<App>) -> Json<Value> {
    let stage = *app.stage().borrow();
    let load = app.metrics().load(Instant::now(), &app.figures());
    let models = load.models.iter().map(|(name, model)| {
        let mut body = model_load(model);
        body["name"] = json!(name);
        body
    });
    let mut body = model_load(&load.total);
    body["models"] = models.collect();
    body["ready"] = json!(stage == Stage::Ready && app.is_healthy());
    body["draining"] = json!(stage == Stage::Draining);
    body["loading"] = app.loading().map_or(Value::Null, |loading| {
        let Loading { model, step, done, total } = loading;
        json!({"model": model, "step": step, "done": done, "total": total})
    });
    Json(body)
}

fn model_load(load: &ModelLoad) -> Value {
    let ModelLoad {
        queued_fast_tokens,
        queued_slow_tokens,
        queued_requests,
        inflight_tokens,
        tokens_per_second,
        busy_ratio,
        backlog_seconds,
    } = load;
    json!({
        "queued_tokens": queued_fast_tokens + queued_slow_tokens,
        "queued_fast_tokens": queued_fast_tokens,
        "queued_slow_tokens": queued_slow_tokens,
        "queued_requests": queued_requests,
        "inflight_tokens": inflight_tokens,
        "tokens_per_second": tokens_per_second,
        "busy_ratio": busy_ratio,
        "backlog_seconds": backlog_seconds,
    })
}

/// What the process was told and what came of it; no secrets.
async fn configuration(State(app): State<App>) -> Json<Value> {
    let told = app.configuration().and_then(|json| serde_json::from_str(json).ok());
    let mut body: Value = told.unwrap_or_else(|| json!({}));
    body["version"] = json!(env!("CARGO_PKG_VERSION"));
    body["models"] = app.models().iter().map(model_info).collect();
    Json(body)
}

fn model_info(engine: &Engine) -> Value {
    let info = engine.info();
    json!({
        "name": engine.spec().name,
        "source": info.source,
        "device": info.device,
        "dtype": info.dtype,
        "parameters": info.parameters,
        "max_input_tokens": info.max_input_tokens,
        "max_batch_tokens": info.max_batch_tokens,
    })
}

/// Samples the engines once a second, for the busy ratio of `/load`; never ends.
pub(super) async fn sample_load(app: App) -> Ended {
    let mut every_second = tokio::time::interval(Duration::from_secs(1));
    loop {
        every_second.tick().await;
        app.metrics().sample(Instant::now(), &app.figures());
    }
}
