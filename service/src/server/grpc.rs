//! The gRPC listener's routes, their guard, and the health that follows the service's stage.

use super::Ended;
use crate::api::admitted;
use crate::api::grpc::collections::{ADD_DOCUMENT, CollectionsApi};
use crate::api::grpc::mock::CannedCollections;
use crate::api::grpc::observe::Observe;
use crate::api::grpc::reranker::RerankerApi;
use crate::api::guard::{Guard, Kind, Untaken};
use crate::app::{App, Stage};
use crate::auth::Principal;
use crate::error::Error;
use bytes::Bytes;
use http::{Request, Response};
use reranker_proto::v1::collections_server::CollectionsServer;
use reranker_proto::v1::reranker_server::RerankerServer;
use std::convert::Infallible;
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
const SERVICES: [&str; 3] =
    ["", RerankerServer::<RerankerApi>::NAME, CollectionsServer::<CollectionsApi>::NAME];

/// Streams documents in; all other calls of the API bring one message.
const STREAM: &str = "/reranker.v1.Reranker/RerankStream";

/// The longest message of a service beside the API.
const ASIDE_MESSAGE: usize = 4 * 1024;
/// Most bytes of all messages of one call of such a service: tools ask for hundreds of symbols.
const ASIDE_CALL: usize = 64 * 1024;

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
        .expect("the descriptors were compiled together")
        .max_decoding_message_size(ASIDE_MESSAGE);
    let observe = Observe::new(app.clone(), &DESCRIPTORS);
    let guarded = |access| Guarded { inner: (), guard: guard.clone(), access };
    let routes = Routes::default()
        // Probes have no key.
        .add_service(guarded(Access::Probe).around(health))
        .add_service(guarded(Access::Tool).around(reflection))
        .add_service(guarded(Access::Api).around(RerankerApi::service(app.clone())));
    let routes = if app.is_mock() {
        routes.add_service(guarded(Access::Api).around(CannedCollections::service(app)))
    } else {
        routes.add_service(guarded(Access::Api).around(CollectionsApi::service(app)))
    };
    routes.prepare().into_axum_router().layer(observe)
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

/// What a service is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Access {
    /// Whoever asks whether the server is well; needs no key, and must not cost anything.
    Probe,
    /// Whoever looks at what there is.
    Tool,
    /// Whoever has documents to score, to keep or to find.
    Api,
}

/// A service behind the guard, as `guarded` of `api::http` is for HTTP.
#[derive(Clone)]
struct Guarded<S> {
    inner: S,
    guard: Guard,
    access: Access,
}

impl Guarded<()> {
    fn around<S>(self, inner: S) -> Guarded<S> {
        Guarded { inner, guard: self.guard, access: self.access }
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
        let principal = if self.access == Access::Probe {
            Ok(Principal::anonymous())
        } else {
            self.guard.principal(request.headers())
        };
        match principal {
            Ok(principal) => admitted(principal, request.extensions_mut()),
            Err(error) => return Box::pin(async { Ok(Status::from(error).into_http()) }),
        }
        let kind = match self.access {
            Access::Probe => Kind::Aside(ASIDE_MESSAGE),
            Access::Tool => Kind::Aside(ASIDE_CALL),
            Access::Api => match request.uri().path() {
                STREAM => Kind::Stream,
                ADD_DOCUMENT => Kind::Document,
                _ => Kind::Whole,
            },
        };
        let untaken = request.extensions_mut().remove::<Untaken>().unwrap_or_default();
        let (mut parts, body) = request.into_parts();
        let (body, held) = self.guard.meter(body, kind, parts.version, FRAMING, Status::from);
        if kind == Kind::Stream {
            // Its task holds the bytes while it runs, which an answer that nobody reads may outlive.
            parts.extensions.insert(held.clone());
        }
        let answer = self.inner.call(Request::from_parts(parts, Body::new(body)));
        let limit_bytes = self.guard.limit(kind);
        Box::pin(async move {
            let response = answer.await?;
            let status = response.extensions().get::<Status>();
            // tonic says this of a message that is longer than it may be.
            if status.is_some_and(|status| status.code() == Code::OutOfRange) {
                return Ok(Status::from(Error::BodyTooLarge { limit_bytes }).into_http());
            }
            Ok(match kind {
                Kind::Whole | Kind::Document => {
                    response.map(|body| Body::new(held.through(body, &untaken)))
                }
                Kind::Stream | Kind::Aside(_) => response.map(Body::new),
            })
        })
    }
}
