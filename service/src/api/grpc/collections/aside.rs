//! `AddDocument`, whose message is decoded on the blocking pool: tonic decodes where it reads, and so long a
//! message would hold up an async thread, and all calls on it, for tens of milliseconds.

use super::{ADD_DOCUMENT, CollectionsApi};
use crate::api::grpc::unreadable;
use crate::api::{INLINE_BYTES, blocking};
use bytes::{Buf, Bytes};
use prost::Message;
use reranker_proto::v1::collections_server::Collections;
use reranker_proto::v1::{AddDocumentRequest, AddDocumentResponse};
use std::convert::Infallible;
use std::task::{Context, Poll};
use tonic::body::Body;
use tonic::codec::{Codec, DecodeBuf, Decoder};
use tonic::codegen::{BoxFuture, http};
use tonic::server::{Grpc, NamedService, UnaryService};
use tonic::{Request, Response, Status};
use tonic_prost::ProstEncoder;
use tower::Service;

/// The service `inner`, but for `AddDocument`.
#[derive(Clone)]
pub(crate) struct Aside<S> {
    pub(super) inner: S,
    pub(super) api: CollectionsApi,
    /// Most bytes of a message.
    pub(super) limit: usize,
}

impl<S: NamedService> NamedService for Aside<S> {
    const NAME: &'static str = S::NAME;
}

impl<S> Service<http::Request<Body>> for Aside<S>
where
    S: Service<http::Request<Body>, Response = http::Response<Body>, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Infallible>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        if request.uri().path() != ADD_DOCUMENT {
            return Box::pin(self.inner.call(request));
        }
        let (api, limit) = (self.api.clone(), self.limit);
        Box::pin(async move {
            let mut grpc = Grpc::new(Undecoded).max_decoding_message_size(limit);
            Ok(grpc.unary(AddDocument(api), request).await)
        })
    }
}

struct AddDocument(CollectionsApi);

impl UnaryService<Bytes> for AddDocument {
    type Response = AddDocumentResponse;
    type Future = BoxFuture<Response<AddDocumentResponse>, Status>;

    fn call(&mut self, request: Request<Bytes>) -> Self::Future {
        let api = self.0.clone();
        Box::pin(async move {
            let (metadata, extensions, bytes) = request.into_parts();
            let message = decode(bytes).await?;
            api.add_document(Request::from_parts(metadata, extensions, message)).await
        })
    }
}

async fn decode(bytes: Bytes) -> Result<AddDocumentRequest, Status> {
    let decode = |bytes: Bytes| AddDocumentRequest::decode(bytes).map_err(|_| unreadable());
    if bytes.len() <= INLINE_BYTES {
        return Ok(decode(bytes)?);
    }
    Ok(blocking(move || decode(bytes)).await?)
}

/// A request's bytes as they came, an answer's message.
#[derive(Clone, Copy)]
struct Undecoded;

impl Codec for Undecoded {
    type Encode = AddDocumentResponse;
    type Decode = Bytes;
    type Encoder = ProstEncoder<AddDocumentResponse>;
    type Decoder = Self;

    fn encoder(&mut self) -> Self::Encoder {
        ProstEncoder::default()
    }

    fn decoder(&mut self) -> Self {
        *self
    }
}

impl Decoder for Undecoded {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, source: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(source.copy_to_bytes(source.remaining())))
    }
}
