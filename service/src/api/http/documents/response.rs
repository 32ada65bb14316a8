//! Answers to bodies.

use super::super::metadata::MetadataBody;
use crate::api::links::Links;
use crate::collection::{CollectionName, Document, DocumentPath};
use serde::{Serialize, Serializer};

#[derive(Serialize)]
pub(super) struct DeletedBody<'a> {
    #[serde(serialize_with = "as_strings")]
    pub(super) deleted_paths: &'a [DocumentPath],
}

fn as_strings<S: Serializer>(paths: &&[DocumentPath], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(paths.iter().map(DocumentPath::as_str))
}

/// What both answers about documents say.
#[derive(Serialize)]
pub(super) struct DocumentBody<'a> {
    id: String,
    collection_name: &'a str,
    path: &'a str,
    metadata: MetadataBody<'a>,
    index_status: &'static str,
    size: u64,
    num_pages: Option<u32>,
    file_url: String,
}

impl<'a> DocumentBody<'a> {
    pub(super) fn new(
        collection: &'a CollectionName,
        document: &'a Document,
        links: &Links,
    ) -> Self {
        Self {
            id: document.id.to_string(),
            collection_name: collection.as_str(),
            path: document.path.as_str(),
            metadata: MetadataBody(&document.metadata),
            index_status: document.status.word(),
            size: document.size,
            num_pages: document.num_pages,
            file_url: links.document(document.id),
        }
    }
}

#[derive(Serialize)]
pub(super) struct InfoBody<'a> {
    document: WithContent<'a>,
}

#[derive(Serialize)]
struct WithContent<'a> {
    #[serde(flatten)]
    document: DocumentBody<'a>,
    content: Option<String>,
}

impl<'a> InfoBody<'a> {
    pub(super) fn new(document: DocumentBody<'a>, content: Option<String>) -> Self {
        Self { document: WithContent { document, content } }
    }
}

#[derive(Serialize)]
pub(super) struct ListBody<'a> {
    documents: Vec<Listed<'a>>,
}

#[derive(Serialize)]
struct Listed<'a> {
    #[serde(flatten)]
    document: DocumentBody<'a>,
    created_at: String,
}

impl<'a> ListBody<'a> {
    pub(super) fn new(
        collection: &'a CollectionName,
        documents: &'a [Document],
        links: &Links,
    ) -> Self {
        let documents = documents.iter().map(|document| Listed {
            document: DocumentBody::new(collection, document, links),
            created_at: document.created_at.to_string(),
        });
        Self { documents: documents.collect() }
    }
}

#[derive(Serialize)]
pub(super) struct PageInfoBody<'a> {
    pub(super) page: PageBody<'a>,
}

#[derive(Serialize)]
pub(super) struct PageBody<'a> {
    id: String,
    collection_name: &'a str,
    path: &'a str,
    page_index: u64,
    content: Option<String>,
    image_url: Option<String>,
}

impl<'a> PageBody<'a> {
    pub(super) fn new(
        collection: &'a CollectionName,
        document: &'a Document,
        page_index: u64,
        content: Option<String>,
        links: &Links,
    ) -> Self {
        let index = u32::try_from(page_index).ok().filter(|_| document.has_images);
        Self {
            id: document.id.to_string(),
            collection_name: collection.as_str(),
            path: document.path.as_str(),
            page_index,
            content,
            image_url: index.map(|index| links.page_image(document.id, index)),
        }
    }
}
