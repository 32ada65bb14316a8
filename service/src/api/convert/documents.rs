//! Requests about documents.

use crate::collection::{
    CollectionName, Content, DocumentPath, DocumentText, Metadata, MetadataValue, NewDocument,
    Step, Update,
};
use crate::error::{Error, Location, Violation};
use std::collections::BTreeMap;

/// Most paths of one deletion.
const MAX_DELETED: usize = 64;

/// Most documents of one list.
const MAX_LISTED: usize = 1024;

/// Attributes that nobody has checked.
pub(crate) type Attributes = BTreeMap<String, MetadataValue>;

/// The fields of a request for a new document in either protocol.
pub(crate) struct AddDocumentFields {
    pub(crate) collection_name: String,
    pub(crate) path: String,
    /// Or which rule it breaks.
    pub(crate) content: Result<Content, Error>,
    pub(crate) metadata: Attributes,
    pub(crate) overwrite: bool,
}

impl AddDocumentFields {
    /// Checks the limits; last: whether to replace the document that has the path.
    pub(crate) fn into_request(self) -> Result<(CollectionName, NewDocument, bool), Error> {
        let Self { collection_name, path, content, metadata, overwrite } = self;
        let document = |content| {
            let path = DocumentPath::new(path)?;
            let metadata = Metadata::new(metadata)?;
            Ok::<_, Error>(NewDocument { path, content, metadata })
        };
        Ok((CollectionName::new(collection_name)?, document(content?)?, overwrite))
    }
}

/// Content in pages: at least one.
pub(crate) fn paged(pages: &[String], ordered: bool) -> Result<Content, Error> {
    if pages.is_empty() {
        let message = "`content.pages` is empty; a document in pages has at least one".to_owned();
        return Err(Error::Invalid { message });
    }
    Ok(Content::Text(DocumentText::paged(pages, ordered)))
}

/// The fields of a change to a document in either protocol.
pub(crate) struct UpdateDocumentFields {
    pub(crate) collection_name: String,
    pub(crate) path: String,
    pub(crate) metadata: Option<Attributes>,
    /// The step to do again.
    pub(crate) index_status: Option<Step>,
}

impl UpdateDocumentFields {
    /// Checks the limits; without any field there is nothing to change.
    pub(crate) fn into_request(
        self,
    ) -> Result<(CollectionName, DocumentPath, Option<Update>), Error> {
        let Self { collection_name, path, metadata, index_status } = self;
        let (collection, path) = located(collection_name, path)?;
        let update = match (metadata, index_status) {
            (Some(_), Some(_)) => {
                let message = "`metadata` and `index_status` cannot change in one request; send \
                               one after the other";
                return Err(Error::Invalid { message: message.to_owned() });
            }
            (Some(metadata), None) => Some(Update::Metadata(Metadata::new(metadata)?)),
            (None, Some(Step::Parse)) => Some(Update::Parse),
            (None, Some(Step::Index)) => Some(Update::Index),
            (None, None) => None,
        };
        Ok((collection, path, update))
    }
}

/// The words of `index_status` that a request may have.
pub(crate) const INDEX_STATUSES: [(&str, Step); 2] =
    [("not_parsed", Step::Parse), ("not_indexed", Step::Index)];

/// What a wrong `index_status` is told.
pub(crate) fn index_status_violation() -> Violation {
    Violation {
        kind: "literal_error",
        location: vec![Location::Field("index_status")],
        message: "Input should be 'not_parsed' or 'not_indexed'",
    }
}

/// Which documents to delete.
pub(crate) fn deletion(
    collection_name: String,
    paths: Vec<String>,
) -> Result<(CollectionName, Vec<DocumentPath>), Error> {
    let collection = CollectionName::new(collection_name)?;
    if paths.is_empty() || paths.len() > MAX_DELETED {
        let message =
            format!("`path` has {} paths; one request may delete 1 to {MAX_DELETED}", paths.len());
        return Err(Error::Invalid { message });
    }
    let paths = paths.into_iter().map(DocumentPath::new).collect::<Result<_, _>>()?;
    Ok((collection, paths))
}

/// What a deletion that found nothing is told: like any other request for a path that is not there.
pub(crate) fn nothing_deleted(collection: &CollectionName, paths: &[DocumentPath]) -> Error {
    Error::DocumentNotFound {
        collection: collection.to_string(),
        path: paths.first().map(ToString::to_string).unwrap_or_default(),
    }
}

/// How many documents to list.
pub(crate) fn list_limit(limit: Option<i64>) -> Result<usize, Error> {
    let limit = limit.unwrap_or(MAX_LISTED as i64);
    let checked = usize::try_from(limit).ok().filter(|limit| (1..=MAX_LISTED).contains(limit));
    checked.ok_or_else(|| Error::Invalid {
        message: format!("`limit` is {limit}; it may be 1 to {MAX_LISTED}"),
    })
}

/// Which page to give.
pub(crate) fn page_index(index: i64) -> Result<u64, Error> {
    u64::try_from(index).map_err(|_| Error::Invalid {
        message: format!("`page_index` is {index}; pages count from 0"),
    })
}

/// Where a document is.
pub(crate) fn located(
    collection_name: String,
    path: String,
) -> Result<(CollectionName, DocumentPath), Error> {
    Ok((CollectionName::new(collection_name)?, DocumentPath::new(path)?))
}
