//! Collections: named sets of documents that are searched and reranked.
//!
//! Owns the domain's types and [`Store`], what keeps them. Knows no wire and no library.
//!
//! ```text
//! add ──> Store (durable, `not_parsed` or `not_indexed`) ──> ingest: parse, passages, index ──> `indexed`
//! query ─> Store::search ─> hits ─> queries: rerank, cut
//! ```
//!
//! A document's *version* is what one add, overwrite or change of metadata made of it. Searches find the
//! last version that is indexed, as a whole, until the next one is.

mod document;
pub mod embedded;
pub mod filter;
pub mod ingest;
mod metadata;
pub mod passages;

use crate::error::Error;
use async_trait::async_trait;
pub use document::{
    CollectionName, Content, Document, DocumentPath, DocumentStatus, DocumentText, Event,
    NewDocument, Pages,
};
use filter::Filter;
use jiff::Timestamp;
pub(crate) use metadata::is_attribute;
pub use metadata::{Metadata, MetadataValue};
use std::ops::Range;
use std::sync::Arc;
use uuid::Uuid;

/// What keeps collections. Every call is atomic; what it has acknowledged survives the process.
///
/// All calls: [`Error::StorageFull`] where a disk takes no more, [`Error::Internal`] where it is broken.
/// Those that name a collection: [`Error::CollectionNotFound`].
#[async_trait]
pub trait Store: Send + Sync + std::fmt::Debug + 'static {
    /// Makes an empty collection. [`Error::CollectionExists`].
    async fn add_collection(&self, name: &CollectionName, num_shards: u32) -> Result<(), Error>;

    /// All names, sorted by their bytes.
    async fn collections(&self) -> Result<Vec<CollectionName>, Error>;

    /// Deletes a collection with its documents.
    async fn delete_collection(&self, name: &CollectionName) -> Result<(), Error>;

    /// Adds a document, or replaces the one of that path. [`Error::DocumentExists`] unless `overwrite`.
    async fn add_document(
        &self,
        collection: &CollectionName,
        document: NewDocument,
        overwrite: bool,
    ) -> Result<Added, Error>;

    /// Replaces metadata or sends a failed document back to the step that failed.
    /// [`Error::DocumentNotFound`], [`Error::WrongStatus`].
    async fn update_document(
        &self,
        collection: &CollectionName,
        path: &DocumentPath,
        update: Update,
    ) -> Result<(), Error>;

    /// Deletes documents; gives those that were there, in the order asked, each once.
    async fn delete_documents(
        &self,
        collection: &CollectionName,
        paths: &[DocumentPath],
    ) -> Result<Vec<DocumentPath>, Error>;

    /// One document; its text if `with_text` and it is parsed. [`Error::DocumentNotFound`].
    async fn document(
        &self,
        collection: &CollectionName,
        path: &DocumentPath,
        with_text: bool,
    ) -> Result<(Document, Option<String>), Error>;

    /// Documents by path, those after `after` and under `prefix`.
    async fn documents(
        &self,
        collection: &CollectionName,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<Document>, Error>;

    /// One page; its text if `with_text`. [`Error::DocumentNotFound`]; [`Error::PageNotFound`], also
    /// before the document is parsed. Text without pages is page 0.
    async fn page(
        &self,
        collection: &CollectionName,
        path: &DocumentPath,
        index: u64,
        with_text: bool,
    ) -> Result<(Document, Option<String>), Error>;

    /// Counts of one collection, or of all.
    async fn statistics(&self, collection: Option<&CollectionName>) -> Result<Statistics, Error>;

    /// When the version was made that is to be searchable next and is not yet; none: nothing waits.
    async fn waiting_since(&self) -> Result<Option<Timestamp>, Error>;

    /// The bytes that were sent as a document; none if no document has this id.
    async fn original(&self, id: Uuid) -> Result<Option<Original>, Error>;

    /// The best hits for the words of a query: higher scores first, then by path and start.
    async fn search(&self, collection: &CollectionName, search: Search) -> Result<Vec<Hit>, Error>;

    /// Indexed documents that a filter keeps, by path, those after `after`; with their texts if
    /// `with_text`, and then at least one, further ones up to some megabytes of text. None: that was all.
    async fn matching(
        &self,
        collection: &CollectionName,
        filter: &Filter,
        after: Option<&DocumentPath>,
        limit: usize,
        with_text: bool,
    ) -> Result<Vec<(Found, Option<DocumentText>)>, Error>;

    /// Takes versions that wait for a step, oldest first and of one collection where it is indexing,
    /// and marks them as in that step. At least one if any waits, further ones up to `bytes` of text.
    async fn claim(&self, step: Step, bytes: u64) -> Result<Vec<Claimed>, Error>;

    /// Ends a claimed version's parse. A version that has been replaced or deleted is passed over.
    async fn parsed(&self, version: Version, outcome: Option<DocumentText>) -> Result<(), Error>;

    /// Ends the indexing of claimed versions of one collection; those without passages of their own
    /// (`None`) have failed. Replaced or deleted ones are passed over.
    async fn indexed(&self, versions: Vec<(Claimed, Option<Passages>)>) -> Result<(), Error>;

    /// Returns once there may be something to claim.
    async fn wait_for_work(&self, step: Step);

    /// Ends the store's threads once everything acknowledged is on disk.
    async fn close(&self);
}

/// What [`Store::add_document`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Added {
    /// There was no document of this path.
    Created,
    /// There was one.
    Replaced,
}

/// A change to a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Update {
    /// New metadata, for a document that is `indexed`; it becomes `not_indexed`.
    Metadata(Metadata),
    /// Back to `not_parsed`, for a document that is `parsing_failed`.
    Parse,
    /// Back to `not_indexed`, for a document that is `indexing_failed`.
    Index,
}

/// A version of a document; larger is later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version(pub u64);

/// A step of ingestion.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Step {
    /// Bytes to text.
    Parse,
    /// Text to passages in the search index.
    Index,
}

/// A version that a worker has taken.
#[derive(Clone, Debug)]
pub struct Claimed {
    /// Which.
    pub version: Version,
    /// Its collection, as the store numbers them: names come back after a deletion.
    pub collection: u64,
    /// Its path, whose ending tells the type.
    pub path: DocumentPath,
    /// What to work on.
    pub work: ClaimedWork,
}

/// What a worker has to do.
#[derive(Clone, Debug)]
pub enum ClaimedWork {
    /// Find the text in these bytes.
    Parse(Vec<u8>),
    /// Find the passages of this text; the store keeps metadata.
    Index(Arc<DocumentText>),
}

/// Passages of a document at both granularities.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Passages {
    /// About 2000 characters each.
    pub coarse: Vec<Passage>,
    /// About 200 characters each; none crosses the end of a page.
    pub fine: Vec<Passage>,
}

/// Part of a document's text: not empty, without white space at its edges.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Passage {
    /// UTF-8 bytes of the text.
    pub bytes: Range<u32>,
    /// The same in code points.
    pub chars: Range<u32>,
    /// Pages that its characters lie in; `0..1` for text without pages.
    pub pages: Range<u32>,
}

/// How long passages are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Granularity {
    /// About 2000 characters.
    Coarse,
    /// About 200 characters.
    Fine,
}

/// What to search for.
#[derive(Clone, Debug)]
pub struct Search {
    /// Its words are looked for; without words nothing is found.
    pub query: String,
    /// Which documents count.
    pub filter: Filter,
    /// What a hit is.
    pub unit: Unit,
    /// Most hits.
    pub limit: usize,
    /// Whether hits bring their text.
    pub with_text: bool,
}

/// What a hit is, each once, with the score of its best passage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// A passage; its text is the passage.
    Passage(Granularity),
    /// A page, by its best fine passage; its text is the page.
    Page,
    /// A document, by its best coarse passage, which is also its text.
    Document,
}

/// Something found.
#[derive(Clone, Debug)]
pub struct Hit {
    /// The document that it is in.
    pub document: Arc<Found>,
    /// The passage that was found.
    pub passage: Passage,
    /// BM25, above 0.
    pub score: f32,
    /// As [`Search::with_text`] asks.
    pub text: Option<String>,
}

/// The indexed version of a document, as results show it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The document's path.
    pub path: DocumentPath,
    /// The current id: of the newest version, whose bytes a download gives.
    pub id: Uuid,
    /// Of the indexed version.
    pub metadata: Metadata,
    /// Whether the document has images of its pages.
    pub has_images: bool,
}

/// What `get-status` counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Statistics {
    /// `not_parsed` and `parsing`.
    pub parsing: u64,
    /// `not_indexed` and `indexing`.
    pub indexing: u64,
    /// `indexed`.
    pub indexed: u64,
    /// `parsing_failed` and `indexing_failed`.
    pub failed: u64,
    /// UTF-8 bytes of the text of indexed documents.
    pub indexed_bytes: u64,
}

impl Statistics {
    /// All documents.
    pub fn documents(&self) -> u64 {
        self.parsing + self.indexing + self.indexed + self.failed
    }
}

/// What was sent as a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Original {
    /// The document's path.
    pub path: DocumentPath,
    /// Text and joined pages in UTF-8, others as they came.
    pub bytes: Vec<u8>,
    /// Whether the type has to be found from path and bytes (`auto`); else it is plain text.
    pub is_auto: bool,
}
