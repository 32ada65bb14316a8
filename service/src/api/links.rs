//! Links in answers.

use crate::downloads::{Download, UrlSigner};
use jiff::Timestamp;
use uuid::Uuid;

/// Links for one answer, all of one moment.
pub(crate) struct Links {
    signer: UrlSigner,
    base: String,
    now: Timestamp,
}

impl Links {
    /// Links below `base`, unless the signer has an address of its own.
    pub(crate) fn new(signer: UrlSigner, base: String) -> Self {
        Self { signer, base, now: Timestamp::now() }
    }

    /// To what was sent as a document.
    pub(crate) fn document(&self, id: Uuid) -> String {
        self.signer.url(Download::Document(id), &self.base, self.now)
    }

    /// To the image of a page.
    pub(crate) fn page_image(&self, id: Uuid, index: u32) -> String {
        self.signer.url(Download::PageImage(id, index), &self.base, self.now)
    }
}
