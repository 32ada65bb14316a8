//! What `--mock` says of collections, in both protocols: they hold one document, which is indexed.

use jiff::Timestamp;

/// The document's text.
pub(crate) const TEXT: &str = "This document is canned.";
/// The name of what a request does not name.
pub(crate) const COLLECTION: &str = "collection";
/// The same of a document.
pub(crate) const PATH: &str = "document.txt";
pub(crate) const ID: &str = "01890000-0000-7000-8000-000000000000";
/// Every result's.
pub(crate) const SCORE: f64 = 0.5;
/// The first second of 2026.
pub(crate) const CREATED_AT: Timestamp = Timestamp::constant(1_767_225_600, 0);

/// Links below the server's address, `""` for relative ones.
pub(crate) struct Links<'a>(pub(crate) &'a str);

impl Links<'_> {
    /// To the document.
    pub(crate) fn document(&self) -> String {
        format!("{}/v1/documents/get-document?token=mock", self.0)
    }

    /// To the image of any of its pages.
    pub(crate) fn page_image(&self) -> String {
        format!("{}/v1/documents/get-page-image?token=mock", self.0)
    }
}
