//! gRPC: the same use-cases and errors as HTTP, as `google.rpc.Status`.

mod call;
pub(crate) mod collections;
mod filter;
pub(crate) mod fuzzing;
mod metadata;
pub(crate) mod mock;
pub(crate) mod observe;
mod queries;
pub(crate) mod reranker;

use crate::api::{catch_panic, principal};
use crate::app::App;
use crate::error::{Error, Violation};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tonic::body::Body;
use tonic::codegen::http;
use tonic::metadata::MetadataMap;
use tonic::server::NamedService;
use tonic::service::interceptor::InterceptedService;
use tonic::service::{Interceptor, LayerExt, Layered};
use tonic::{Code, Request, Response, Status};
use tonic_types::{ErrorDetails, FieldViolation, StatusExt};
use tower::Service;
use tower::util::{MapResponse, MapResponseLayer};

/// A service of ours behind its gate.
type Gated<S> = InterceptedService<Layered<MapResponse<S, Refine>, S>, Gate>;
type Refine = fn(http::Response<Body>) -> http::Response<Body>;

/// Lets a call in or refuses it, by its headers.
#[derive(Clone)]
pub(crate) struct Gate(App);

impl Interceptor for Gate {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        let timeout = timeout(request.metadata());
        let admission = self.0.admit(timeout, principal(request.extensions()))?;
        request.extensions_mut().insert(admission);
        Ok(request)
    }
}

fn gated<S>(app: App, server: S) -> Gated<S>
where
    S: NamedService
        + Service<http::Request<Body>, Response = http::Response<Body>, Error = Infallible>,
{
    let server = MapResponseLayer::new(refine as Refine).named_layer(server);
    InterceptedService::new(server, Gate(app))
}

/// What a handler answers, or how it failed.
async fn answer<T>(handler: impl Future<Output = Result<T, Error>>) -> Result<Response<T>, Status> {
    Ok(Response::new(catch_panic(handler).await?))
}

/// A message that does not parse.
fn unreadable() -> Error {
    Error::InvalidRequest(vec![Violation {
        kind: "message_invalid",
        location: Vec::new(),
        message: "not a message of reranker.v1",
    }])
}

/// Gives a refusal that tonic makes before the handler runs the words and code of ours.
///
/// tonic calls a message that does not parse INTERNAL; it is the caller's, as on HTTP.
fn refine(response: http::Response<Body>) -> http::Response<Body> {
    let Some(status) = response.extensions().get::<Status>() else {
        return response;
    };
    // Ours carry details, if only the code.
    match status.code() {
        Code::Internal if status.details().is_empty() => Status::from(unreadable()).into_http(),
        _ => response,
    }
}

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        if let Error::Internal { cause } = &error {
            tracing::error!(cause, "gRPC call failed");
        }
        let mut details = ErrorDetails::new();
        if let Error::InvalidRequest(violations) = &error {
            details.set_bad_request(violations.iter().map(field_violation).collect::<Vec<_>>());
        }
        if let Some(seconds) = error.retry_after_seconds() {
            details.set_retry_info(Some(Duration::from_secs(seconds)));
        }
        let code = Code::from_i32(error.code().wire().grpc);
        let mut status = Status::with_error_details(code, error.to_string(), details);
        status.set_source(Arc::new(error));
        status
    }
}

/// The caller's timeout, `grpc-timeout`: up to eight digits and a unit.
///
/// Source: the gRPC protocol over HTTP/2.
fn timeout(metadata: &MetadataMap) -> Option<Duration> {
    let text = metadata.get("grpc-timeout")?.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let is_value = digits.len() <= 8 && digits.bytes().all(|byte| byte.is_ascii_digit());
    let value: u64 = digits.parse().ok().filter(|_| is_value)?;
    match unit {
        "H" => Some(Duration::from_hours(value)),
        "M" => Some(Duration::from_mins(value)),
        "S" => Some(Duration::from_secs(value)),
        "m" => Some(Duration::from_millis(value)),
        "u" => Some(Duration::from_micros(value)),
        "n" => Some(Duration::from_nanos(value)),
        _ => None,
    }
}

fn field_violation(violation: &Violation) -> FieldViolation {
    FieldViolation::new(violation.path(), violation.message)
}
