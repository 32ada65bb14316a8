//! HTTP: the hosted API's routes, errors and headers.
//!
//! Every answer passes [`envelope`]: it has a request id, and a panic becomes a 500. The routes by
//! resource are in the modules below.

mod body;
mod cors;
pub(crate) mod fuzzing;
mod linger;
mod models;

use crate::api::guard::{Guard, Pace};
use crate::api::{catch_panic, principal};
use crate::app::{Admission, App};
use crate::error::{Error, ErrorCode, Location, Violation};
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::{BoxError, Router};
use linger::Linger;
use serde::Serialize;
use serde_json::json;
use std::time::{Duration, Instant};
use tower::util::option_layer;
use tracing::Instrument;
use uuid::Uuid;

pub use cors::Origin;
pub(crate) use linger::Lingering;

const JSON: HeaderValue = HeaderValue::from_static("application/json");
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const SHOULD_RETRY: HeaderName = HeaderName::from_static("x-should-retry");

/// The public API behind its guard. Bodies that nobody reads are read to their end by tasks of
/// `lingering`; `cors` are the origins whose pages may call.
pub(crate) fn router(app: App, guard: Guard, lingering: Lingering, cors: &[Origin]) -> Router {
    enveloped(models::routes(), guard, lingering, cors).with_state(app)
}

/// Every route with and without `/v1`, and what no route answers.
fn enveloped(
    routes: Router<App>,
    guard: Guard,
    lingering: Lingering,
    cors: &[Origin],
) -> Router<App> {
    // The fallbacks stay outside: a wrong route or method is told so with any key and none.
    let routes = routes.route_layer(middleware::from_fn_with_state(guard, guarded));
    Router::new()
        .merge(routes.clone())
        .nest("/v1", routes)
        .fallback(|uri: Uri| async move { Error::RouteNotFound { path: uri.path().to_owned() } })
        .method_not_allowed_fallback(|method: Method, uri: Uri| async move {
            Error::MethodNotAllowed { method: method.to_string(), path: uri.path().to_owned() }
        })
        .layer(option_layer(cors::layer(cors)))
        .layer(middleware::from_fn_with_state(lingering, envelope))
}

/// Refuses callers without a key, and bodies that are too large, too slow or too many.
async fn guarded(
    State(guard): State<Guard>,
    mut request: Request,
    next: Next,
) -> Result<Response, Error> {
    let principal = guard.principal(request.headers())?;
    request.extensions_mut().insert(principal);
    let (parts, body) = request.into_parts();
    let (body, held) = guard.meter(body, Pace::Whole, 0, BoxError::from);
    let response = next.run(Request::from_parts(parts, Body::new(body))).await;
    // What the handler made of the body's bytes is gone with the handler.
    drop(held);
    Ok(response)
}

/// Lets a request in that the guard has let in.
fn admit(app: &App, request: &Request) -> Result<Admission, Error> {
    app.admit(timeout(request.headers()), principal(request.extensions()))
}

async fn envelope(State(lingering): State<Lingering>, request: Request, next: Next) -> Response {
    let started = Instant::now();
    let id = Uuid::new_v4();
    let span =
        tracing::info_span!("http", %id, method = %request.method(), path = request.uri().path());
    let is_post = request.method() == Method::POST;
    let request = request.map(|body| Linger::wrap(body, lingering));
    let mut response = async {
        let response = catch_panic(async { Ok(next.run(request).await) }).await.into_response();
        tracing::debug!(status = response.status().as_u16(), elapsed = ?started.elapsed(), "answered");
        response
    }
    .instrument(span)
    .await;
    let headers = response.headers_mut();
    let id = HeaderValue::try_from(id.to_string()).expect("a UUID is ASCII");
    headers.insert(REQUEST_ID, id);
    if is_post {
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    }
    response
}

/// The time that the official clients say they wait: Python in the first of these headers, Node in the
/// second. Zero or no number is no limit.
fn timeout(headers: &HeaderMap) -> Option<Duration> {
    ["x-stainless-read-timeout", "x-stainless-timeout"]
        .iter()
        .find_map(|name| headers.get(*name)?.to_str().ok()?.trim().parse().ok())
        .filter(|seconds: &f64| *seconds > 0.0)
        .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
}

/// A body of JSON.
fn json_response(status: StatusCode, body: &impl Serialize) -> Response {
    match serde_json::to_vec(body) {
        Ok(body) => (status, [(CONTENT_TYPE, JSON)], body).into_response(),
        Err(error) => {
            Error::Internal { cause: format!("writing the answer: {error}") }.into_response()
        }
    }
}

impl IntoResponse for Error {
    fn into_response(self) -> Response {
        if let Self::Internal { cause } = &self {
            tracing::error!(cause, "request failed");
        }
        let wire = self.code().wire();
        let message = self.to_string();
        let body = match &self {
            Self::InvalidRequest(violations) => {
                let detail: Vec<_> = violations.iter().map(violation_json).collect();
                json!({"detail": detail, "message": message})
            }
            _ => json!({"detail": message, "message": message}),
        };
        let status = StatusCode::from_u16(wire.http).expect("the table holds HTTP statuses");
        let body = (status, [(CONTENT_TYPE, JSON)], body.to_string());
        let mut response = body.into_response();
        if self.code() == ErrorCode::Unauthenticated {
            let challenge = HeaderValue::from_static("Bearer");
            response.headers_mut().insert(WWW_AUTHENTICATE, challenge);
        }
        if let Some(seconds) = self.retry_after_seconds() {
            response.headers_mut().insert(RETRY_AFTER, seconds.into());
        }
        if !wire.retry {
            response.headers_mut().insert(SHOULD_RETRY, HeaderValue::from_static("false"));
        }
        response
    }
}

fn violation_json(violation: &Violation) -> serde_json::Value {
    let mut loc = vec![json!("body")];
    loc.extend(violation.location.iter().map(|step| match step {
        Location::Field(name) => json!(name),
        Location::Index(index) => json!(index),
    }));
    json!({"type": violation.kind, "loc": loc, "msg": violation.message})
}

#[cfg(test)]
mod tests;
