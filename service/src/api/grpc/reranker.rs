//! `reranker.v1.Reranker`.

use super::call::admission;
use super::{Gated, answer, gated, queries, unreadable};
use crate::api::catch_panic;
use crate::api::convert::{self, RerankFields};
use crate::api::guard::Held;
use crate::app::{Admission, App, RequestLimits};
use crate::error::Error;
use crate::metrics;
use crate::rerank::StreamEvent;
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use reranker_proto::v1::rerank_stream_request::Message;
use reranker_proto::v1::reranker_server::{Reranker, RerankerServer};
use reranker_proto::v1::{
    RerankRequest, RerankResponse, RerankStreamRequest, RerankStreamResponse, TopDocumentsRequest,
    TopDocumentsResponse, TopPagesRequest, TopPagesResponse, TopSnippetsRequest,
    TopSnippetsResponse,
};
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;
use tonic::{Code, Request, Response, Status, Streaming};
use tracing::Instrument;

/// The gRPC face of [`App`].
pub(crate) struct RerankerApi {
    app: App,
}

impl RerankerApi {
    /// The service behind its gate.
    pub(crate) fn service(app: App) -> Gated<RerankerServer<Self>> {
        let limit = app.limits().body_bytes;
        let server = RerankerServer::new(Self { app: app.clone() });
        gated(app, server.max_decoding_message_size(limit))
    }
}

#[tonic::async_trait]
impl Reranker for RerankerApi {
    async fn rerank(
        &self,
        request: Request<RerankRequest>,
    ) -> Result<Response<RerankResponse>, Status> {
        answer(async {
            let admission = admission(&request);
            let fields = RerankFields::try_from(request.into_inner())?;
            Ok(self.app.rerank(fields.into_request(&admission)?).await?.into())
        })
        .await
    }

    async fn top_snippets(
        &self,
        request: Request<TopSnippetsRequest>,
    ) -> Result<Response<TopSnippetsResponse>, Status> {
        answer(queries::top_snippets(&self.app, request)).await
    }

    async fn top_pages(
        &self,
        request: Request<TopPagesRequest>,
    ) -> Result<Response<TopPagesResponse>, Status> {
        answer(queries::top_pages(&self.app, request)).await
    }

    async fn top_documents(
        &self,
        request: Request<TopDocumentsRequest>,
    ) -> Result<Response<TopDocumentsResponse>, Status> {
        answer(queries::top_documents(&self.app, request)).await
    }

    type RerankStreamStream = BoxStream<'static, Result<RerankStreamResponse, Status>>;

    async fn rerank_stream(
        &self,
        mut request: Request<Streaming<RerankStreamRequest>>,
    ) -> Result<Response<Self::RerankStreamStream>, Status> {
        let admission = admission(&request);
        let (sender, answers) = mpsc::channel(ANSWERS);
        let held = request.extensions_mut().remove::<Held>();
        let call = answer_stream(self.app.clone(), request.into_inner(), admission, sender, held);
        // The call ends when the client goes away and its stream is dropped.
        let call = AbortOnDropHandle::new(tokio::spawn(metrics::carried(call.in_current_span())));
        let answers = stream::unfold((answers, call), async |(mut answers, call)| {
            let answer = answers.recv().await?;
            Some((answer, (answers, call)))
        });
        Ok(Response::new(answers.boxed()))
    }
}

/// Messages that wait for a client to read them; while they are full the call waits.
const ANSWERS: usize = 4;

/// Runs one stream to its end and sends everything that the client is to read.
async fn answer_stream(
    app: App,
    mut messages: Streaming<RerankStreamRequest>,
    admission: Admission,
    answers: mpsc::Sender<Result<RerankStreamResponse, Status>>,
    held: Option<Held>,
) {
    let RequestLimits { body_bytes: limit_bytes, patience, .. } = app.limits();
    let run = async {
        let first = tokio::time::timeout(patience, messages.message()).await;
        let first = first.map_err(|_| Error::BodyTimeout { timeout: patience })?;
        let first = first.map_err(|status| broken(&status, limit_bytes))?;
        let Some(Message::Header(header)) = first.and_then(|first| first.message) else {
            return Err(Error::InvalidRequest(vec![convert::header_violation()]));
        };
        let header = convert::stream_header(header, &admission)?;
        let documents = messages.map(|message| match message {
            Ok(RerankStreamRequest { message: Some(Message::Documents(message)) }) => {
                Ok(message.documents)
            }
            // A message of a kind that a newer client knows.
            Ok(RerankStreamRequest { message: None }) => Ok(Vec::new()),
            Ok(RerankStreamRequest { message: Some(Message::Header(_)) }) => {
                Err(Error::InvalidRequest(vec![convert::header_violation()]))
            }
            Err(status) => Err(broken(&status, limit_bytes)),
        });
        let send = |event: StreamEvent| {
            let sent = answers.send(Ok(event.into()));
            // Where nobody listens any more this call is about to be aborted.
            async { drop(sent.await) }
        };
        app.rerank_stream(header, documents, send).await
    };
    if let Err(error) = catch_panic(run).await {
        metrics::note_error(&error);
        // A client that takes nothing holds up nobody but itself.
        drop((admission, held));
        drop(answers.send(Err(error.into())).await);
    }
}

/// Why a stream's next message could not be read: what the guard refused, or what tonic did.
fn broken(status: &Status, limit_bytes: usize) -> Error {
    let source = std::error::Error::source(status);
    match (source.and_then(|source| source.downcast_ref::<Error>()), status.code()) {
        (Some(error), _) => error.clone(),
        (None, Code::OutOfRange) => Error::BodyTooLarge { limit_bytes },
        (None, _) => unreadable(),
    }
}
