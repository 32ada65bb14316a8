//! Messages to fields.

use super::super::metadata::attributes;
use crate::api::convert::documents::{
    AddDocumentFields, UpdateDocumentFields, index_status_violation, paged,
};
use crate::collection::{Content, DocumentText, Step};
use crate::error::{Error, Location, Violation};
use reranker_proto::v1;
use reranker_proto::v1::DocumentStatus;
use reranker_proto::v1::add_document_request::Content as WireContent;
use reranker_proto::v1::update_document_request::Change;

pub(super) fn add(request: v1::AddDocumentRequest) -> Result<AddDocumentFields, Error> {
    let v1::AddDocumentRequest { collection_name, path, content, metadata, overwrite } = request;
    let content = match content {
        Some(WireContent::Text(text)) => Ok(Content::Text(DocumentText::plain(text))),
        Some(WireContent::Pages(v1::Pages { texts })) => paged(&texts, true),
        Some(WireContent::UnorderedPages(v1::Pages { texts })) => paged(&texts, false),
        Some(WireContent::Auto(bytes)) => Ok(Content::Auto(bytes)),
        None => {
            return Err(Error::InvalidRequest(vec![Violation {
                kind: "missing",
                location: vec![Location::Field("content")],
                message: "Field required",
            }]));
        }
    };
    let metadata = attributes(metadata)?;
    Ok(AddDocumentFields { collection_name, path, content, metadata, overwrite })
}

pub(super) fn update(request: v1::UpdateDocumentRequest) -> Result<UpdateDocumentFields, Error> {
    let v1::UpdateDocumentRequest { collection_name, path, change } = request;
    let (metadata, index_status) = match change {
        None => (None, None),
        Some(Change::Metadata(metadata)) => (Some(attributes(metadata.attributes)?), None),
        Some(Change::IndexStatus(status)) => (None, Some(step(status)?)),
    };
    Ok(UpdateDocumentFields { collection_name, path, metadata, index_status })
}

fn step(status: i32) -> Result<Step, Error> {
    match DocumentStatus::try_from(status) {
        Ok(DocumentStatus::NotParsed) => Ok(Step::Parse),
        Ok(DocumentStatus::NotIndexed) => Ok(Step::Index),
        _ => Err(Error::InvalidRequest(vec![index_status_violation()])),
    }
}
