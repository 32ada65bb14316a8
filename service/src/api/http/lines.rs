//! Bodies of `add-collection` and `add-document` as lines of a file: what the command line exports and
//! imports.

use super::body::{self, Fields};
use super::documents::content;
use super::metadata::MetadataBody;
use crate::api::convert::collections::AddCollectionFields;
use crate::api::convert::documents::AddDocumentFields;
use crate::collection::embedded::transfer::Entry;
use crate::collection::{CollectionName, Content, DocumentText, NewDocument, Pages};
use crate::error::Error;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;

/// A collection's line.
#[derive(Serialize)]
pub(crate) struct CollectionLine<'a> {
    collection_name: &'a str,
    num_shards: u32,
}

impl<'a> CollectionLine<'a> {
    pub(crate) fn new(name: &'a CollectionName, num_shards: u32) -> Self {
        Self { collection_name: name.as_str(), num_shards }
    }
}

/// A document's line.
#[derive(Serialize)]
pub(crate) struct DocumentLine<'a> {
    collection_name: &'a str,
    path: &'a str,
    content: ContentBody<'a>,
    metadata: MetadataBody<'a>,
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
enum ContentBody<'a> {
    Text { text: &'a str },
    TextPages { pages: Vec<&'a str> },
    TextPagesUnordered { pages: Vec<&'a str> },
    Auto { base64_data: String },
}

impl<'a> DocumentLine<'a> {
    pub(crate) fn new(collection: &'a CollectionName, document: &'a NewDocument) -> Self {
        let NewDocument { path, content, metadata } = document;
        let content = match content {
            Content::Auto(bytes) => ContentBody::Auto { base64_data: STANDARD.encode(bytes) },
            Content::Text(text) => match &text.pages {
                Pages::None => ContentBody::Text { text: &text.text },
                Pages::Ordered(_) => ContentBody::TextPages { pages: pages(text) },
                Pages::Unordered(_) => ContentBody::TextPagesUnordered { pages: pages(text) },
            },
        };
        let (collection_name, path) = (collection.as_str(), path.as_str());
        Self { collection_name, path, content, metadata: MetadataBody(metadata) }
    }
}

fn pages(text: &DocumentText) -> Vec<&str> {
    (0..).map_while(|index| text.page(index)).collect()
}

/// The fields of a line.
struct LineFields {
    collection_name: Option<String>,
    kind: Kind,
}

enum Kind {
    Collection { num_shards: Option<i64> },
    Document(AddDocumentFields),
}

/// Reads a line and checks it as a request is checked. `collection` is where it goes whatever collection it
/// names. A document's content may also be a string, as in answers of `get-document-info`: its text.
///
/// # Errors
/// [`Error::InvalidRequest`], [`Error::Invalid`].
pub(crate) fn read(line: &[u8], collection: Option<&CollectionName>) -> Result<Entry, Error> {
    let LineFields { collection_name, kind } = body::parse(line, take)?;
    let name = collection.map(ToString::to_string).or(collection_name);
    let collection_name = name.ok_or_else(|| Error::Invalid {
        message: "the line names no collection; add `collection_name`, or give --collection"
            .to_owned(),
    })?;
    match kind {
        Kind::Collection { num_shards } => {
            let fields = AddCollectionFields { collection_name, num_shards };
            fields.into_request().map(|(name, num_shards)| Entry::Collection { name, num_shards })
        }
        Kind::Document(fields) => {
            let (collection, document, _) =
                AddDocumentFields { collection_name, ..fields }.into_request()?;
            Ok(Entry::Document { collection, document })
        }
    }
}

fn take(fields: &mut Fields<'_>) -> LineFields {
    let collection_name = fields.optional_string("collection_name");
    if !fields.contains("path") && !fields.contains("content") {
        let num_shards = fields.optional_integer("num_shards");
        return LineFields { collection_name, kind: Kind::Collection { num_shards } };
    }
    let path = fields.string("path");
    let content = match fields.string_if_one("content") {
        Some(text) => Ok(Content::Text(DocumentText::plain(text))),
        None => content(fields),
    };
    let metadata = fields.optional_metadata("metadata").unwrap_or_default();
    // Which documents are replaced is for the whole file to say.
    let document = AddDocumentFields {
        collection_name: String::new(),
        path,
        content,
        metadata,
        overwrite: false,
    };
    LineFields { collection_name, kind: Kind::Document(document) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::collection::{DocumentPath, Metadata};
    use proptest::prelude::*;

    fn any_content() -> impl Strategy<Value = Content> {
        let pages = || prop::collection::vec("\\PC{0,3}\n?", 1..4);
        prop_oneof![
            any::<String>().prop_map(|text| Content::Text(DocumentText::plain(text))),
            (pages(), any::<bool>())
                .prop_map(|(pages, ordered)| Content::Text(DocumentText::paged(&pages, ordered))),
            any::<Vec<u8>>().prop_map(Content::Auto),
        ]
    }

    proptest! {
        /// What is exported would come back as something else.
        #[test]
        fn a_written_line_reads_as_what_it_was_written_from(
            content in any_content(), path in "[^\0]{1,20}", tag in any::<String>(), tags in any::<Vec<String>>()
        ) {
            let attributes = serde_json::json!({"tag": tag, "list:tags": tags}).to_string();
            let metadata = Metadata::from_json(&attributes).unwrap();
            let path = DocumentPath::new(path).unwrap();
            let document = NewDocument { path, content, metadata };
            let collection = CollectionName::new("c".to_owned()).unwrap();
            let line = serde_json::to_vec(&DocumentLine::new(&collection, &document)).unwrap();
            let read = read(&line, None).unwrap();
            prop_assert_eq!(read, Entry::Document { collection, document });
        }
    }

    /// Dumps of users' own scripts would have to be rewritten first.
    #[test]
    fn lines_of_other_programs_are_read() {
        let name = |text: &str| CollectionName::new(text.to_owned()).unwrap();
        let path = DocumentPath::new("p".to_owned()).unwrap();
        let content = Content::Text(DocumentText::plain("t".to_owned()));
        let document = NewDocument { path, content, metadata: Metadata::EMPTY };
        let expected =
            |text: &str| Entry::Document { collection: name(text), document: document.clone() };
        let line = br#"{"id":"x","collection_name":"c","path":"p","metadata":null,"content":"t","size":1}"#;
        assert_eq!(read(line, None).unwrap(), expected("c"));
        assert_eq!(read(line, Some(&name("d"))).unwrap(), expected("d"));
        let line = br#"{"path":"p","content":{"type":"text","text":"t"},"overwrite":true}"#;
        assert_eq!(read(line, Some(&name("d"))).unwrap(), expected("d"));
        let told = read(line, None).unwrap_err().to_string();
        assert!(told.contains("give --collection"), "{told}");
        let line = br#"{"collection_name":"c","num_shards":8}"#;
        assert_eq!(read(line, None).unwrap(), Entry::Collection { name: name("c"), num_shards: 8 });

        for (line, reason) in [
            (&br#"{"collection_name":"c","path":"p""#[..], "JSON decode error"),
            (br#"{"collection_name":"c","path":"p"}"#, "body.content: Field required"),
            (br#"{"collection_name":"c","content":"t"}"#, "body.path: Field required"),
            (br#"{"collection_name":"c","path":"p","content":{"type":"auto","base64_data":"?"}}"#, "is not base64"),
            (br#"{"collection_name":"c","path":"p","content":{"type":"text-pages","pages":[]}}"#, "is empty"),
            (br#"{"collection_name":"c","path":"p","content":"t","metadata":{"a b":"x"}}"#, "`a b`"),
            (br#"{"collection_name":"c","num_shards":2}"#, "`num_shards` is 2"),
            (b"[]", "Input should be a valid dictionary"),
        ] {
            let told = read(line, None).unwrap_err().to_string();
            assert!(told.contains(reason), "{told}");
        }
    }
}
