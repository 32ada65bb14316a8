//! The gRPC listener's routes, their guard, and the health that follows the service's stage.

use super::Ended;
use crate::api::grpc::observe::Observe;
use crate::api::grpc::reranker::RerankerApi;
use crate::api::guard::{Guard, Held, Pace};
use crate::app::{App, Stage};
use crate::auth::Principal;
use crate::error::Error;
use bytes::Bytes;
use http::{Request, Response};
use http_body::{Frame, SizeHint};
use reranker_proto::v1::reranker_server::RerankerServer;
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tonic::body::Body;
use tonic::codegen::{BoxFuture, StdError};
use tonic::server::NamedService;
use tonic::service::Routes;
use tonic::{Code, Status};
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;
use tower::Service;

/// What is reported on; the empty name is the server as a whole.
const SERVICES: [&str; 2] = ["", RerankerServer::<RerankerApi>::NAME];

/// The methods that take one message.
const UNARY: [&str; 2] = ["/reranker.v1.Reranker/Rerank", "/grpc.health.v1.Health/Check"];

/// A message is preceded by a flag and its length.
const FRAMING: usize = 5;

/// The services, and the task of `background` that reports on them until `close`.
pub(super) async fn router(
    app: App,
    guard: Guard,
    close: CancellationToken,
    background: &mut JoinSet<Ended>,
) -> axum::Router {
    let (reporter, health) = tonic_health::server::health_reporter();
    // tonic's reporter calls the whole server "serving" from the start.
    report(&reporter, Stage::Loading).await;
    background.spawn(report_stages(app.clone(), reporter, close));
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(reranker_proto::FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1()
        .expect("the descriptors were compiled together");
    let observe = Observe::new(app.clone(), &DESCRIPTORS);
    let guarded = |needs_key| Guarded { inner: (), guard: guard.clone(), needs_key };
    Routes::default()
        // Probes have no key.
        .add_service(guarded(false).around(health))
        .add_service(guarded(true).around(reflection))
        .add_service(guarded(true).around(RerankerApi::service(app)))
        .prepare()
        .into_axum_router()
        .layer(observe)
}

/// All that the gRPC listener serves.
const DESCRIPTORS: [&[u8]; 3] = [
    reranker_proto::FILE_DESCRIPTOR_SET,
    tonic_health::pb::FILE_DESCRIPTOR_SET,
    tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET,
];

async fn report(reporter: &HealthReporter, stage: Stage) {
    let status = match stage {
        Stage::Ready => ServingStatus::Serving,
        Stage::Loading | Stage::Draining => ServingStatus::NotServing,
    };
    for service in SERVICES {
        reporter.set_service_status(service, status).await;
    }
}

/// Reports until `close`, then ends the streams of those who watch: they would hold the listener.
async fn report_stages(app: App, mut reporter: HealthReporter, close: CancellationToken) -> Ended {
    let mut stage = app.stage();
    let report = close.run_until_cancelled(async {
        loop {
            let now = *stage.borrow_and_update();
            report(&reporter, now).await;
            if let Err(error) = stage.changed().await {
                return error;
            }
        }
    });
    if let Some(error) = report.await {
        return Err(error.into());
    }
    self::report(&reporter, Stage::Draining).await;
    for service in SERVICES {
        reporter.clear_service_status(service).await;
    }
    Ok(())
}

/// A service behind the guard, as `guarded` of `api::http` is for HTTP.
#[derive(Clone)]
struct Guarded<S> {
    inner: S,
    guard: Guard,
    needs_key: bool,
}

impl Guarded<()> {
    fn around<S>(self, inner: S) -> Guarded<S> {
        Guarded { inner, guard: self.guard, needs_key: self.needs_key }
    }
}

impl<S: NamedService> NamedService for Guarded<S> {
    const NAME: &'static str = S::NAME;
}

impl<S, B> Service<Request<Body>> for Guarded<S>
where
    S: Service<Request<Body>, Response = Response<B>, Error = Infallible>,
    S::Future: Send + 'static,
    B: http_body::Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<StdError>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Response<Body>, Infallible>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let principal = if self.needs_key {
            self.guard.principal(request.headers())
        } else {
            Ok(Principal::anonymous())
        };
        match principal {
            Ok(principal) => request.extensions_mut().insert(principal),
            Err(error) => return Box::pin(async { Ok(Status::from(error).into_http()) }),
        };
        let pace = if UNARY.contains(&request.uri().path()) { Pace::Whole } else { Pace::Piece };
        let (parts, body) = request.into_parts();
        let (body, held) = self.guard.meter(body, pace, FRAMING, Status::from);
        let answer = self.inner.call(Request::from_parts(parts, Body::new(body)));
        let limit_bytes = self.guard.body_bytes();
        Box::pin(async move {
            let response = answer.await?;
            let status = response.extensions().get::<Status>();
            // tonic says this of a message that is longer than it may be.
            if status.is_some_and(|status| status.code() == Code::OutOfRange) {
                return Ok(Status::from(Error::BodyTooLarge { limit_bytes }).into_http());
            }
            Ok(response.map(|body| Body::new(Holding { body, _held: held })))
        })
    }
}

/// An answer that keeps its request's bytes counted: a stream reads on while it answers.
struct Holding<B> {
    body: B,
    _held: Held,
}

impl<B: http_body::Body + Unpin> http_body::Body for Holding<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
