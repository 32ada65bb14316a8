//! `reranker.v1.Reranker`.

use crate::api::convert::RerankFields;
use crate::api::{MAX_BODY_BYTES, catch_panic};
use crate::app::{Admission, App};
use crate::error::{Error, Violation};
use reranker_proto::v1::reranker_server::{Reranker, RerankerServer};
use reranker_proto::v1::{RerankRequest, RerankResponse};
use tonic::body::Body;
use tonic::codegen::http;
use tonic::service::interceptor::InterceptedService;
use tonic::service::{LayerExt, Layered};
use tonic::{Code, Request, Response, Status};
use tower::util::{MapResponse, MapResponseLayer};

/// The gRPC face of [`App`].
pub(crate) struct RerankerApi {
    app: App,
}

impl RerankerApi {
    /// The service behind its gate: a call is let in or refused by its headers.
    pub(crate) fn service(
        app: App,
    ) -> InterceptedService<Refined, impl FnMut(Request<()>) -> Result<Request<()>, Status> + Clone>
    {
        let gate = app.clone();
        let server = RerankerServer::new(Self { app }).max_decoding_message_size(MAX_BODY_BYTES);
        let server = MapResponseLayer::new(refine as Refine).named_layer(server);
        InterceptedService::new(server, move |mut request: Request<()>| {
            let admission = gate.admit(super::timeout(request.metadata()))?;
            request.extensions_mut().insert(admission);
            Ok(request)
        })
    }
}

type Refine = fn(http::Response<Body>) -> http::Response<Body>;
type Refined =
    Layered<MapResponse<RerankerServer<RerankerApi>, Refine>, RerankerServer<RerankerApi>>;

#[tonic::async_trait]
impl Reranker for RerankerApi {
    async fn rerank(
        &self,
        request: Request<RerankRequest>,
    ) -> Result<Response<RerankResponse>, Status> {
        let admission =
            request.extensions().get::<Admission>().cloned().expect("the gate has let it in");
        let answer = catch_panic(async {
            let fields = RerankFields::try_from(request.into_inner())?;
            self.app.rerank(fields.into_request(&admission)?).await
        });
        Ok(Response::new(answer.await?.into()))
    }
}

/// Gives the refusals that tonic makes before the handler runs the words and codes of ours.
///
/// tonic calls a message that does not parse INTERNAL; it is the caller's, as on HTTP.
fn refine(response: http::Response<Body>) -> http::Response<Body> {
    let Some(status) = response.extensions().get::<Status>() else {
        return response;
    };
    let error = match status.code() {
        Code::OutOfRange => Error::BodyTooLarge { limit_bytes: MAX_BODY_BYTES },
        // Ours carry details, if only the code.
        Code::Internal if status.details().is_empty() => Error::InvalidRequest(vec![Violation {
            kind: "message_invalid",
            location: Vec::new(),
            message: "not a reranker.v1.RerankRequest",
        }]),
        _ => return response,
    };
    Status::from(error).into_http()
}
