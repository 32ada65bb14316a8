//! Canned answers for `--mock`: those that HTTP gives, as messages.

use super::{Gated, gated};
use crate::api::canned::{COLLECTION, CREATED_AT, ID, Links, PATH, SCORE, TEXT};
use crate::api::convert::count;
use crate::app::App;
use prost_types::Timestamp;
use reranker_proto::v1;
use reranker_proto::v1::collections_server::{Collections, CollectionsServer};
use std::collections::HashMap;
use tonic::{Request, Response, Status};

const LINKS: Links<'static> = Links("");

/// Collections of which everything asked is true.
pub(crate) struct CannedCollections;

impl CannedCollections {
    /// The service behind its gate.
    pub(crate) fn service(app: App) -> Gated<CollectionsServer<Self>> {
        let limit = super::collections::largest_message(&app);
        gated(app, CollectionsServer::new(Self).max_decoding_message_size(limit))
    }
}

type Answer<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl Collections for CannedCollections {
    async fn add_collection(
        &self,
        _: Request<v1::AddCollectionRequest>,
    ) -> Answer<v1::AddCollectionResponse> {
        Ok(Response::new(v1::AddCollectionResponse {}))
    }

    async fn list_collections(
        &self,
        _: Request<v1::ListCollectionsRequest>,
    ) -> Answer<v1::ListCollectionsResponse> {
        let collection_names = vec![COLLECTION.to_owned()];
        Ok(Response::new(v1::ListCollectionsResponse { collection_names }))
    }

    async fn delete_collection(
        &self,
        _: Request<v1::DeleteCollectionRequest>,
    ) -> Answer<v1::DeleteCollectionResponse> {
        Ok(Response::new(v1::DeleteCollectionResponse {}))
    }

    async fn add_document(
        &self,
        _: Request<v1::AddDocumentRequest>,
    ) -> Answer<v1::AddDocumentResponse> {
        Ok(Response::new(v1::AddDocumentResponse { replaced: false }))
    }

    async fn update_document(
        &self,
        _: Request<v1::UpdateDocumentRequest>,
    ) -> Answer<v1::UpdateDocumentResponse> {
        Ok(Response::new(v1::UpdateDocumentResponse {}))
    }

    async fn delete_documents(
        &self,
        request: Request<v1::DeleteDocumentsRequest>,
    ) -> Answer<v1::DeleteDocumentsResponse> {
        let deleted_paths = request.into_inner().paths;
        Ok(Response::new(v1::DeleteDocumentsResponse { deleted_paths }))
    }

    async fn get_document(
        &self,
        request: Request<v1::GetDocumentRequest>,
    ) -> Answer<v1::GetDocumentResponse> {
        let v1::GetDocumentRequest { collection_name, path, include_content } =
            request.into_inner();
        let document = Some(document(collection_name, or(path, PATH)));
        Ok(Response::new(v1::GetDocumentResponse { document, content: content(include_content) }))
    }

    /// One document on the first page, none on any other, as over HTTP.
    async fn list_documents(
        &self,
        request: Request<v1::ListDocumentsRequest>,
    ) -> Answer<v1::ListDocumentsResponse> {
        let v1::ListDocumentsRequest { collection_name, path_prefix, path_gt, .. } =
            request.into_inner();
        let documents = match path_gt {
            None => vec![document(collection_name, format!("{path_prefix}{PATH}"))],
            Some(_) => Vec::new(),
        };
        Ok(Response::new(v1::ListDocumentsResponse { documents }))
    }

    async fn get_page(&self, request: Request<v1::GetPageRequest>) -> Answer<v1::GetPageResponse> {
        let v1::GetPageRequest { collection_name, path, page_index, include_content } =
            request.into_inner();
        Ok(Response::new(v1::GetPageResponse {
            id: ID.to_owned(),
            collection_name: or(collection_name, COLLECTION),
            path: or(path, PATH),
            page_index: page_index.max(0),
            content: content(include_content),
            image_url: Some(LINKS.page_image()),
        }))
    }

    async fn get_status(&self, _: Request<v1::GetStatusRequest>) -> Answer<v1::GetStatusResponse> {
        Ok(Response::new(v1::GetStatusResponse {
            documents: 1,
            indexed_documents: 1,
            indexed_bytes: count(TEXT.len() as u64),
            ..v1::GetStatusResponse::default()
        }))
    }
}

pub(super) fn top_snippets() -> v1::TopSnippetsResponse {
    v1::TopSnippetsResponse {
        results: vec![v1::SnippetResult {
            path: PATH.to_owned(),
            start_index: 0,
            end_index: count(TEXT.len() as u64),
            start_page: 0,
            end_page: 1,
            content: TEXT.to_owned(),
            score: SCORE,
        }],
        document_results: vec![hit()],
    }
}

pub(super) fn top_pages(include_content: bool) -> v1::TopPagesResponse {
    v1::TopPagesResponse {
        results: vec![v1::PageResult {
            path: PATH.to_owned(),
            page_index: 0,
            score: SCORE,
            content: content(include_content),
            image_url: Some(LINKS.page_image()),
        }],
        document_results: vec![hit()],
    }
}

pub(super) fn top_documents() -> v1::TopDocumentsResponse {
    v1::TopDocumentsResponse { results: vec![hit()] }
}

fn document(collection_name: String, path: String) -> v1::Document {
    v1::Document {
        id: ID.to_owned(),
        collection_name: or(collection_name, COLLECTION),
        path,
        metadata: HashMap::new(),
        index_status: v1::DocumentStatus::Indexed.into(),
        created_at: Some(Timestamp { seconds: CREATED_AT.as_second(), nanos: 0 }),
        size: count(TEXT.len() as u64),
        num_pages: None,
        file_url: LINKS.document(),
    }
}

fn hit() -> v1::DocumentResult {
    v1::DocumentResult {
        path: PATH.to_owned(),
        score: SCORE,
        metadata: HashMap::new(),
        file_url: LINKS.document(),
    }
}

fn content(included: bool) -> Option<String> {
    included.then(|| TEXT.to_owned())
}

/// What the request names, or what stands for it.
fn or(named: String, otherwise: &str) -> String {
    if named.is_empty() { otherwise.to_owned() } else { named }
}
