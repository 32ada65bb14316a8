//! `reranker.v1.Collections`.

mod aside;
mod request;
mod response;

use super::call::Call;
use super::{Gated, answer, gated};
use crate::api::convert::collections::{AddCollectionFields, counted};
use crate::api::convert::documents::{deletion, list_limit, located, nothing_deleted, page_index};
use crate::api::{Access, blocking};
use crate::app::App;
use crate::collection::{Added, CollectionName, DocumentPath};
use aside::Aside;
use reranker_proto::v1::collections_server::{Collections, CollectionsServer};
use reranker_proto::v1::{
    AddCollectionRequest, AddCollectionResponse, AddDocumentRequest, AddDocumentResponse,
    DeleteCollectionRequest, DeleteCollectionResponse, DeleteDocumentsRequest,
    DeleteDocumentsResponse, GetDocumentRequest, GetDocumentResponse, GetPageRequest,
    GetPageResponse, GetStatusRequest, GetStatusResponse, ListCollectionsRequest,
    ListCollectionsResponse, ListDocumentsRequest, ListDocumentsResponse, UpdateDocumentRequest,
    UpdateDocumentResponse,
};
use tonic::{Request, Response, Status};

/// Brings a document, which may be longer than other messages.
pub(crate) const ADD_DOCUMENT: &str = "/reranker.v1.Collections/AddDocument";

/// The gRPC face of the store.
#[derive(Clone)]
pub(crate) struct CollectionsApi {
    app: App,
}

impl CollectionsApi {
    /// The service behind its gate.
    pub(crate) fn service(app: App) -> Gated<Aside<CollectionsServer<Self>>> {
        let (api, limit) = (Self { app: app.clone() }, largest_message(&app));
        let inner = CollectionsServer::new(api.clone()).max_decoding_message_size(limit);
        gated(app, Aside { inner, api, limit })
    }
}

/// Most bytes that a message of this service may have. The guard in front knows which calls may bring as
/// much as a document.
pub(super) fn largest_message(app: &App) -> usize {
    let limits = app.limits();
    limits.document_bytes.max(limits.body_bytes)
}

#[tonic::async_trait]
impl Collections for CollectionsApi {
    async fn add_collection(
        &self,
        request: Request<AddCollectionRequest>,
    ) -> Result<Response<AddCollectionResponse>, Status> {
        answer(async {
            let (call, request) = Call::enter(&self.app, request, Access::Write)?;
            let AddCollectionRequest { collection_name, num_shards } = request;
            let fields = AddCollectionFields { collection_name, num_shards };
            let (name, num_shards) = fields.into_request()?;
            call.within(call.store.add_collection(&name, num_shards)).await?;
            Ok(AddCollectionResponse {})
        })
        .await
    }

    async fn list_collections(
        &self,
        request: Request<ListCollectionsRequest>,
    ) -> Result<Response<ListCollectionsResponse>, Status> {
        answer(async {
            let (call, ListCollectionsRequest {}) = Call::enter(&self.app, request, Access::Read)?;
            let names = call.within(call.store.collections()).await?;
            let collection_names = names.iter().map(CollectionName::to_string).collect();
            Ok(ListCollectionsResponse { collection_names })
        })
        .await
    }

    async fn delete_collection(
        &self,
        request: Request<DeleteCollectionRequest>,
    ) -> Result<Response<DeleteCollectionResponse>, Status> {
        answer(async {
            let (call, request) = Call::enter(&self.app, request, Access::Write)?;
            let name = CollectionName::new(request.collection_name)?;
            call.within(call.store.delete_collection(&name)).await?;
            Ok(DeleteCollectionResponse {})
        })
        .await
    }

    async fn add_document(
        &self,
        request: Request<AddDocumentRequest>,
    ) -> Result<Response<AddDocumentResponse>, Status> {
        answer(async {
            let (call, request) = Call::enter(&self.app, request, Access::Write)?;
            let add = blocking(move || request::add(request)?.into_request());
            let (collection, document, overwrite) = add.await?;
            let added = call.store.add_document(&collection, document, overwrite);
            let replaced = call.within(added).await? == Added::Replaced;
            Ok(AddDocumentResponse { replaced })
        })
        .await
    }

    async fn update_document(
        &self,
        request: Request<UpdateDocumentRequest>,
    ) -> Result<Response<UpdateDocumentResponse>, Status> {
        answer(async {
            let (call, request) = Call::enter(&self.app, request, Access::Write)?;
            let update = blocking(move || request::update(request)?.into_request());
            let (collection, path, update) = update.await?;
            match update {
                Some(update) => {
                    call.within(call.store.update_document(&collection, &path, update)).await?;
                }
                // Nothing changes, if there is something that could.
                None => drop(call.within(call.store.document(&collection, &path, false)).await?),
            }
            Ok(UpdateDocumentResponse {})
        })
        .await
    }

    async fn delete_documents(
        &self,
        request: Request<DeleteDocumentsRequest>,
    ) -> Result<Response<DeleteDocumentsResponse>, Status> {
        answer(async {
            let (call, request) = Call::enter(&self.app, request, Access::Write)?;
            let (collection, paths) = deletion(request.collection_name, request.paths)?;
            let deleted = call.within(call.store.delete_documents(&collection, &paths)).await?;
            if deleted.is_empty() {
                return Err(nothing_deleted(&collection, &paths));
            }
            let deleted_paths = deleted.iter().map(DocumentPath::to_string).collect();
            Ok(DeleteDocumentsResponse { deleted_paths })
        })
        .await
    }

    async fn get_document(
        &self,
        request: Request<GetDocumentRequest>,
    ) -> Result<Response<GetDocumentResponse>, Status> {
        answer(async {
            let (call, request) = Call::enter(&self.app, request, Access::Read)?;
            let GetDocumentRequest { collection_name, path, include_content } = request;
            let (collection, path) = located(collection_name, path)?;
            let read = call.store.document(&collection, &path, include_content);
            let (document, content) = call.within(read).await?;
            let document = Some(response::document(&collection, document, &call.links));
            Ok(GetDocumentResponse { document, content })
        })
        .await
    }

    async fn list_documents(
        &self,
        request: Request<ListDocumentsRequest>,
    ) -> Result<Response<ListDocumentsResponse>, Status> {
        answer(async {
            let (call, request) = Call::enter(&self.app, request, Access::Read)?;
            let ListDocumentsRequest { collection_name, limit, path_prefix, path_gt } = request;
            let (collection, limit) = (CollectionName::new(collection_name)?, list_limit(limit)?);
            let listed = call.store.documents(&collection, &path_prefix, path_gt.as_deref(), limit);
            let documents = call.within(listed).await?;
            let documents = documents
                .into_iter()
                .map(|document| response::document(&collection, document, &call.links));
            Ok(ListDocumentsResponse { documents: documents.collect() })
        })
        .await
    }

    async fn get_page(
        &self,
        request: Request<GetPageRequest>,
    ) -> Result<Response<GetPageResponse>, Status> {
        answer(async {
            let (call, request) = Call::enter(&self.app, request, Access::Read)?;
            let GetPageRequest { collection_name, path, page_index: index, include_content } =
                request;
            let (collection, path) = located(collection_name, path)?;
            let index = page_index(index)?;
            let read = call.store.page(&collection, &path, index, include_content);
            let (document, content) = call.within(read).await?;
            Ok(response::page(&collection, &document, index, content, &call.links))
        })
        .await
    }

    async fn get_status(
        &self,
        request: Request<GetStatusRequest>,
    ) -> Result<Response<GetStatusResponse>, Status> {
        answer(async {
            let (call, request) = Call::enter(&self.app, request, Access::Read)?;
            let name = counted(request.collection_name)?;
            Ok(call.within(call.store.statistics(name.as_ref())).await?.into())
        })
        .await
    }
}
