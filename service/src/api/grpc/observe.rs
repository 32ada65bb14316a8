//! Around every gRPC call: its id, its span, and its end, which may be in the trailers.

use crate::app::App;
use crate::error::Error;
use crate::metrics::{Exchange, Outcome, Protocol};
use crate::telemetry::{self, REQUEST_ID};
use http_body::{Body as _, Frame, SizeHint};
use prost::Message;
use std::collections::HashSet;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::http::{HeaderMap, HeaderValue, Request, Response};
use tonic::codegen::{Bytes, Service, StdError};
use tonic::metadata::MetadataMap;
use tower::Layer;
use tracing::{Instrument, Span};

/// The layer around all services.
#[derive(Clone)]
pub(crate) struct Observe {
    app: App,
    /// Those that exist, as `package.Service/Method`.
    methods: Arc<HashSet<String>>,
}

impl Observe {
    /// Observes calls of the services that these encoded descriptor sets describe; all others are one
    /// in the metrics.
    ///
    /// # Panics
    /// If a set is not one: they are compiled in.
    pub(crate) fn new(app: App, descriptors: &[&[u8]]) -> Self {
        let sets = descriptors.iter().map(|set| {
            prost_types::FileDescriptorSet::decode(*set).expect("is a compiled descriptor set")
        });
        let mut methods = HashSet::new();
        for file in sets.flat_map(|set| set.file) {
            for service in &file.service {
                let service_name = format!("{}.{}", file.package(), service.name());
                let names = service.method.iter().map(prost_types::MethodDescriptorProto::name);
                methods.extend(names.map(|method| format!("{service_name}/{method}")));
            }
        }
        Self { app, methods: Arc::new(methods) }
    }
}

impl<S> Layer<S> for Observe {
    type Service = Observed<S>;

    fn layer(&self, inner: S) -> Observed<S> {
        Observed { inner, observe: self.clone() }
    }
}

/// A service that is observed.
#[derive(Clone)]
pub(crate) struct Observed<S> {
    inner: S,
    observe: Observe,
}

impl<S, B, R> Service<Request<B>> for Observed<S>
where
    S: Service<Request<B>, Response = Response<R>>,
    S::Future: Send + 'static,
    R: http_body::Body<Data = Bytes> + Send + 'static,
    R::Error: Into<StdError>,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let id = telemetry::request_id(request.headers());
        let method = request.uri().path().trim_start_matches('/');
        let method = self.observe.methods.get(method).cloned();
        let span = request_span(&request, &id, method.as_deref());
        let metadata = MetadataMap::from_headers(std::mem::take(request.headers_mut()));
        let timeout = super::timeout(&metadata);
        *request.headers_mut() = metadata.into_headers();
        let exchange = Exchange::begin(self.observe.app.clone(), Protocol::Grpc, method, timeout);
        let call = span.in_scope(|| exchange.run(self.inner.call(request)));
        let ending = Ending { exchange: Some(exchange), span: span.clone() };
        let answer = async move {
            let mut response = call.await?.map(Body::new);
            response.headers_mut().insert(REQUEST_ID, id);
            Ok(ending.follow(response))
        };
        Box::pin(answer.instrument(span))
    }
}

/// Names and attributes after OpenTelemetry's conventions for RPC servers. The span is an error's so
/// that no log filter takes the request's id from the lines within.
fn request_span<B>(request: &Request<B>, id: &HeaderValue, method: Option<&str>) -> Span {
    if method.is_some_and(|method| method.starts_with("grpc.")) {
        // Probes of the health every few seconds would bury what is to be seen.
        return Span::none();
    }
    let (service, name) = method.and_then(|method| method.split_once('/')).unwrap_or_default();
    let span = tracing::error_span!(
        "grpc",
        request_id = id.to_str().unwrap_or_default(),
        trace_id = tracing::field::Empty,
        key = tracing::field::Empty,
        rpc.method = name,
        otel.kind = "server",
    );
    telemetry::continue_trace(&span, request.headers());
    telemetry::set_name(&span, method.unwrap_or("_OTHER").to_owned());
    telemetry::set_attribute(&span, "rpc.system", "grpc");
    telemetry::set_attribute(&span, "rpc.service", service.to_owned());
    span
}

/// A call whose end is not known yet.
struct Ending {
    exchange: Option<Exchange>,
    span: Span,
}

impl Ending {
    /// Ends the call if the head of the answer is all of it, else with its trailers.
    fn follow(mut self, response: Response<Body>) -> Response<Body> {
        let http = response.status().as_u16();
        let refused = response.extensions().get::<Status>();
        let error: Option<&Error> =
            refused.and_then(|status| std::error::Error::source(status)?.downcast_ref());
        if let Some(error) = error {
            self.end(error.into(), response.headers());
        } else if let Some(outcome) = outcome(response.headers()) {
            self.end(outcome, response.headers());
        } else if http != 200 || response.body().is_end_stream() {
            self.end(Outcome::of_http(http), response.headers());
        } else {
            return response.map(|body| Body::new(Followed { body, ending: self }));
        }
        response
    }

    fn end(&mut self, outcome: Outcome, headers: &HeaderMap) {
        let Some(exchange) = self.exchange.take() else { return };
        if let Some(status) = status(headers) {
            telemetry::set_attribute(&self.span, "rpc.grpc.status_code", i64::from(status));
            // UNKNOWN, DEADLINE_EXCEEDED, UNIMPLEMENTED, INTERNAL, UNAVAILABLE, DATA_LOSS
            if [2, 4, 12, 13, 14, 15].contains(&status) {
                telemetry::set_failed(&self.span, outcome.word());
            }
        }
        self.span.in_scope(|| exchange.end(outcome));
    }
}

impl Drop for Ending {
    fn drop(&mut self) {
        // Counted and logged as cancelled, within its span.
        self.span.in_scope(|| drop(self.exchange.take()));
    }
}

fn status(headers: &HeaderMap) -> Option<i32> {
    headers.get(Status::GRPC_STATUS)?.to_str().ok()?.parse().ok()
}

fn outcome(headers: &HeaderMap) -> Option<Outcome> {
    status(headers).map(Outcome::of_grpc)
}

/// The body of an answer, up to its trailers.
struct Followed {
    body: Body,
    ending: Ending,
}

impl http_body::Body for Followed {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = &mut *self;
        let mut poll = || Pin::new(&mut this.body).poll_frame(context);
        let frame = this.ending.span.in_scope(|| match &this.ending.exchange {
            Some(exchange) => exchange.enter(poll),
            None => poll(),
        });
        if let Poll::Ready(Some(Ok(frame))) = &frame
            && let Some(trailers) = frame.trailers_ref()
        {
            this.ending.end(outcome(trailers).unwrap_or(Outcome::Ok), trailers);
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
