//! HTTP: the hosted API's routes, errors and headers.
//!
//! Every answer passes [`envelope`]: it has a request id, it is counted, logged and traced, and a
//! panic becomes a 500. The routes by resource are in the modules below.

mod body;
mod call;
mod collections;
mod compat;
mod cors;
mod documents;
mod downloads;
pub(crate) mod fuzzing;
pub(crate) mod lines;
mod linger;
mod metadata;
mod mock;
mod models;
mod openapi;
mod queries;
mod status;

use crate::api::guard::{Guard, Kind, Untaken};
use crate::api::{admitted, catch_panic, principal};
use crate::app::{Admission, App};
use crate::auth::Principal;
use crate::error::{Error, ErrorCode, Location, Violation};
use crate::metrics::{Exchange, Outcome, Protocol};
use crate::telemetry::{self, REQUEST_ID};
use axum::body::Body;
use axum::extract::{MatchedPath, Request, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::{BoxError, Extension, Router};
use linger::Linger;
use serde::Serialize;
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;
use tower::util::option_layer;
use tracing::{Instrument, Span};

pub use cors::Origin;
pub(crate) use linger::Lingering;

const JSON: HeaderValue = HeaderValue::from_static("application/json");
const SHOULD_RETRY: HeaderName = HeaderName::from_static("x-should-retry");

/// How a client reaches the server: `http` or `https`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scheme(pub(crate) &'static str);

/// The public API behind its guard. Bodies that nobody reads are read to their end by tasks of
/// `lingering`; `cors` are the origins whose pages may call.
pub(crate) fn router(
    app: App,
    guard: Guard,
    lingering: Lingering,
    cors: &[Origin],
    scheme: Scheme,
) -> Router {
    let (own, open) = if app.is_mock() {
        (mock::routes(), mock::downloads())
    } else {
        let own = models::routes()
            .merge(collections::routes())
            .merge(documents::routes())
            .merge(queries::routes())
            .merge(status::routes());
        (own, downloads::routes())
    };
    let keyed = versioned(own).merge(compat::routes());
    let open = versioned(open.merge(openapi::routes()));
    let routes = behind(guard, keyed, open);
    enveloped(routes, app.clone(), lingering, cors).layer(Extension(scheme)).with_state(app)
}

/// Routes that need a key, and routes that need none, with the bounds of bodies and answers. Routes
/// only: a wrong route or method is told so with any key and none.
fn behind(guard: Guard, keyed: Router<App>, open: Router<App>) -> Router<App> {
    let keyed = keyed.route_layer(middleware::from_fn_with_state(guard.clone(), guarded));
    keyed.merge(open.route_layer(middleware::from_fn_with_state(guard, bounded)))
}

/// Every route with and without `/v1`.
fn versioned(routes: Router<App>) -> Router<App> {
    Router::new().merge(routes.clone()).nest("/v1", routes)
}

/// The routes in what every answer has, and what no route answers.
fn enveloped(routes: Router<App>, app: App, lingering: Lingering, cors: &[Origin]) -> Router<App> {
    routes
        .fallback(|uri: Uri| async move { Error::RouteNotFound { path: uri.path().to_owned() } })
        .method_not_allowed_fallback(|method: Method, uri: Uri| async move {
            Error::MethodNotAllowed { method: method.to_string(), path: uri.path().to_owned() }
        })
        .layer(option_layer(cors::layer(cors)))
        .layer(middleware::from_fn_with_state((app, lingering), envelope))
}

/// Refuses callers without a key, and bodies that are too large, too slow or too many.
async fn guarded(
    State(guard): State<Guard>,
    mut request: Request,
    next: Next,
) -> Result<Response, Error> {
    let principal = guard.principal(request.headers())?;
    admitted(principal, request.extensions_mut());
    Ok(metered(&guard, request, next).await)
}

/// As [`guarded`], for callers without a key as well.
async fn bounded(State(guard): State<Guard>, mut request: Request, next: Next) -> Response {
    admitted(Principal::anonymous(), request.extensions_mut());
    metered(&guard, request, next).await
}

async fn metered(guard: &Guard, mut request: Request, next: Next) -> Response {
    let route = request.extensions().get::<MatchedPath>().map(MatchedPath::as_str);
    let adds = route.is_some_and(|route| route.ends_with("/documents/add-document"));
    let kind = if adds { Kind::Document } else { Kind::Whole };
    let untaken = request.extensions_mut().remove::<Untaken>().unwrap_or_default();
    let (parts, body) = request.into_parts();
    let (body, held) = guard.meter(body, kind, parts.version, 0, BoxError::from);
    let response = next.run(Request::from_parts(parts, Body::new(body))).await;
    response.map(|body| Body::new(held.through(body, &untaken)))
}

/// Lets a request in that the guard has let in.
fn admit(app: &App, request: &Request) -> Result<Admission, Error> {
    app.admit(timeout(request.headers()), principal(request.extensions()))
}

async fn envelope(
    State((app, lingering)): State<(App, Lingering)>,
    request: Request,
    next: Next,
) -> Response {
    let route = request.extensions().get::<MatchedPath>().map(|path| path.as_str().to_owned());
    let id = telemetry::request_id(request.headers());
    let span = request_span(&request, &id, route.as_deref());
    let is_post = request.method() == Method::POST;
    let exchange = Exchange::begin(app, Protocol::Http, route, None);
    let request = request.map(|body| Linger::wrap(body, lingering));
    let mut response = async {
        let handler = exchange.run(next.run(request));
        let response = catch_panic(async { Ok(handler.await) }).await.into_response();
        let status = response.status().as_u16();
        let outcome = match response.extensions().get::<Arc<Error>>() {
            Some(error) => Outcome::from(&**error),
            None => Outcome::of_http(status),
        };
        let span = tracing::Span::current();
        telemetry::set_attribute(&span, "http.response.status_code", i64::from(status));
        if status >= 500 {
            telemetry::set_failed(&span, outcome.word());
        }
        exchange.end(outcome);
        response
    }
    .instrument(span)
    .await;
    let headers = response.headers_mut();
    headers.insert(REQUEST_ID, id);
    if is_post {
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    }
    response
}

/// Names and attributes after OpenTelemetry's conventions for HTTP servers. The span is an error's so
/// that no log filter takes the request's id from the lines within.
fn request_span(request: &Request, id: &HeaderValue, route: Option<&str>) -> Span {
    let method = match request.method().as_str() {
        known @ ("GET" | "HEAD" | "POST" | "PUT" | "DELETE" | "OPTIONS" | "PATCH") => known,
        _ => "_OTHER",
    };
    let span = tracing::error_span!(
        "http",
        request_id = id.to_str().unwrap_or_default(),
        trace_id = tracing::field::Empty,
        key = tracing::field::Empty,
        http.request.method = method,
        url.path = request.uri().path(),
        otel.kind = "server",
    );
    telemetry::continue_trace(&span, request.headers());
    match route {
        Some(route) => {
            telemetry::set_name(&span, format!("{method} {route}"));
            telemetry::set_attribute(&span, "http.route", route.to_owned());
        }
        None => telemetry::set_name(&span, method.to_owned()),
    }
    span
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

/// What the hosted API says where there is nothing to say.
#[derive(Serialize)]
struct DefaultBody {
    message: &'static str,
}

const SUCCESS: DefaultBody = DefaultBody { message: "Success!" };

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
        error_response(self, |_| {})
    }
}

/// An error's answer; `extend` may add to its body.
fn error_response(error: Error, extend: impl FnOnce(&mut serde_json::Value)) -> Response {
    if let Error::Internal { cause } = &error {
        tracing::error!(cause, "request failed");
    }
    let wire = error.code().wire();
    let message = error.to_string();
    let mut body = match &error {
        Error::InvalidRequest(violations) => {
            let detail: Vec<_> = violations.iter().map(violation_json).collect();
            json!({"detail": detail, "message": message})
        }
        Error::MissingParameter { name } => {
            let detail =
                json!({"type": "missing", "loc": ["query", name], "msg": "Field required"});
            json!({"detail": [detail], "message": message})
        }
        _ => json!({"detail": message, "message": message}),
    };
    extend(&mut body);
    let status = StatusCode::from_u16(wire.http).expect("the table holds HTTP statuses");
    let mut response = (status, [(CONTENT_TYPE, JSON)], body.to_string()).into_response();
    if error.code() == ErrorCode::Unauthenticated {
        response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    if let Some(seconds) = error.retry_after_seconds() {
        response.headers_mut().insert(RETRY_AFTER, seconds.into());
    }
    if !wire.retry {
        response.headers_mut().insert(SHOULD_RETRY, HeaderValue::from_static("false"));
    }
    response.extensions_mut().insert(Arc::new(error));
    response
}

fn violation_json(violation: &Violation) -> serde_json::Value {
    let mut loc = vec![json!("body")];
    loc.extend(violation.location.iter().map(|step| match step {
        Location::Field(name) => json!(name),
        Location::Key(name) => json!(name),
        Location::Index(index) => json!(index),
    }));
    json!({"type": violation.kind, "loc": loc, "msg": violation.message})
}

#[cfg(test)]
mod tests;
