//! Bodies to fields.

use super::super::body::Fields;
use crate::api::convert::documents::{
    AddDocumentFields, INDEX_STATUSES, UpdateDocumentFields, index_status_violation, list_limit,
    paged,
};
use crate::collection::{CollectionName, Content, DocumentText};
use crate::error::Error;
use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use std::borrow::Cow;

/// What `content.type` may be.
#[derive(Clone, Copy)]
enum Kind {
    Text,
    Pages { ordered: bool },
    Auto,
}

const KINDS: [(&str, Kind); 4] = [
    ("text", Kind::Text),
    ("text-pages", Kind::Pages { ordered: true }),
    ("text-pages-unordered", Kind::Pages { ordered: false }),
    ("auto", Kind::Auto),
];
const WRONG_KIND: &str = "Input tag found using 'type' does not match any of the expected tags: \
                          'text', 'text-pages', 'text-pages-unordered', 'auto'";

/// Files of some clients are padded, those of others are not.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

pub(super) fn add(fields: &mut Fields<'_>) -> AddDocumentFields {
    AddDocumentFields {
        collection_name: fields.string("collection_name"),
        path: fields.string("path"),
        content: content(fields),
        metadata: fields.optional_metadata("metadata").unwrap_or_default(),
        overwrite: fields.optional_bool("overwrite").unwrap_or(false),
    }
}

/// What a document is added with, or which rule it breaks.
pub(in super::super) fn content(fields: &mut Fields<'_>) -> Result<Content, Error> {
    let content = fields.tagged("content", "type", &KINDS, WRONG_KIND, |kind, fields| match kind {
        Kind::Text => Ok(Content::Text(DocumentText::plain(fields.string("text")))),
        Kind::Pages { ordered } => paged(&fields.strings("pages"), ordered),
        Kind::Auto => decode(&fields.string("base64_data")).map(Content::Auto),
    });
    // Nobody sees what stands for content of the wrong type.
    content.unwrap_or_else(|| Ok(Content::Auto(Vec::new())))
}

fn decode(text: &str) -> Result<Vec<u8>, Error> {
    let is_space = |byte: &u8| byte.is_ascii_whitespace();
    let packed = if text.as_bytes().iter().any(is_space) {
        Cow::Owned(text.bytes().filter(|byte| !is_space(byte)).collect())
    } else {
        Cow::Borrowed(text.as_bytes())
    };
    BASE64.decode(&*packed).map_err(|error| Error::Invalid {
        message: format!("`content.base64_data` is not base64 of the standard alphabet: {error}"),
    })
}

pub(super) fn update(fields: &mut Fields<'_>) -> UpdateDocumentFields {
    UpdateDocumentFields {
        collection_name: fields.string("collection_name"),
        path: fields.string("path"),
        metadata: fields.optional_metadata("metadata"),
        index_status: fields.optional_literal(
            "index_status",
            &INDEX_STATUSES,
            index_status_violation,
        ),
    }
}

/// A request for a list of documents.
pub(super) struct ListFields {
    collection_name: String,
    limit: Option<i64>,
    pub(super) path_prefix: Option<String>,
    pub(super) path_gt: Option<String>,
}

impl ListFields {
    /// Checks the limits.
    pub(super) fn checked(&self) -> Result<(CollectionName, usize), Error> {
        Ok((CollectionName::new(self.collection_name.clone())?, list_limit(self.limit)?))
    }
}

pub(super) fn list(fields: &mut Fields<'_>) -> ListFields {
    ListFields {
        collection_name: fields.string("collection_name"),
        limit: fields.optional_integer("limit"),
        path_prefix: fields.optional_string("path_prefix"),
        path_gt: fields.optional_string("path_gt"),
    }
}
