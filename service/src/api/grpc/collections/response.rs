//! Answers to messages.

use super::super::metadata;
use crate::api::convert::count;
use crate::api::links::Links;
use crate::collection::{CollectionName, Document, DocumentStatus, Statistics};
use prost_types::Timestamp;
use reranker_proto::v1;

pub(super) fn document(
    collection: &CollectionName,
    document: Document,
    links: &Links,
) -> v1::Document {
    let Document { id, path, metadata, status, created_at, size, num_pages, has_images: _ } =
        document;
    v1::Document {
        id: id.to_string(),
        collection_name: collection.to_string(),
        path: path.to_string(),
        metadata: metadata::wire(&metadata),
        index_status: index_status(status).into(),
        created_at: Some(Timestamp {
            seconds: created_at.as_second(),
            nanos: created_at.subsec_nanosecond(),
        }),
        size: count(size),
        num_pages: num_pages.map(Into::into),
        file_url: links.document(id),
    }
}

pub(super) fn page(
    collection: &CollectionName,
    document: &Document,
    page_index: u64,
    content: Option<String>,
    links: &Links,
) -> v1::GetPageResponse {
    let image = u32::try_from(page_index).ok().filter(|_| document.has_images);
    v1::GetPageResponse {
        id: document.id.to_string(),
        collection_name: collection.to_string(),
        path: document.path.to_string(),
        page_index: count(page_index),
        content,
        image_url: image.map(|index| links.page_image(document.id, index)),
    }
}

fn index_status(status: DocumentStatus) -> v1::DocumentStatus {
    match status {
        DocumentStatus::NotParsed => v1::DocumentStatus::NotParsed,
        DocumentStatus::Parsing => v1::DocumentStatus::Parsing,
        DocumentStatus::ParsingFailed => v1::DocumentStatus::ParsingFailed,
        DocumentStatus::NotIndexed => v1::DocumentStatus::NotIndexed,
        DocumentStatus::Indexing => v1::DocumentStatus::Indexing,
        DocumentStatus::IndexingFailed => v1::DocumentStatus::IndexingFailed,
        DocumentStatus::Indexed => v1::DocumentStatus::Indexed,
    }
}

impl From<Statistics> for v1::GetStatusResponse {
    fn from(statistics: Statistics) -> Self {
        let documents = count(statistics.documents());
        let Statistics { parsing, indexing, indexed, failed, indexed_bytes } = statistics;
        Self {
            documents,
            parsing_documents: count(parsing),
            indexing_documents: count(indexing),
            indexed_documents: count(indexed),
            failed_documents: count(failed),
            indexed_bytes: count(indexed_bytes),
        }
    }
}
