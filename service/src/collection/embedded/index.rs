//! The search index of a collection: derived from the database, may be deleted and made anew.
//!
//! Two tantivy indexes, one a granularity, so that each has statistics of its own. A document of theirs is a
//! passage: its words, the terms of its document's metadata, and as columns the version and where in the text
//! it lies. The text itself stays in the database.

mod analyzer;
mod filter;
mod passage_index;

use crate::collection::filter::Filter;
use crate::collection::{DocumentText, Granularity, Metadata, Passage, Passages, Version};
pub use analyzer::{Analyzer, Language};
use passage_index::{PassageIndex, PassageSearcher};
use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use tantivy::TantivyError;
use tantivy::directory::error::{LockError, OpenDirectoryError, OpenReadError, OpenWriteError};

/// Of the fields and of what the analyser makes of text; another one makes every index anew.
const FORMAT: &str = "1";
const FORMAT_FILE: &str = "format";

/// Why the index did not do what it should.
#[derive(Debug, thiserror::Error)]
pub(super) enum IndexError {
    /// The disk is full.
    #[error("the disk is full")]
    Full,
    /// The disk takes no writes.
    #[error("the disk is read-only")]
    ReadOnly,
    /// Anything else.
    #[error("{0}")]
    Broken(String),
}

impl From<io::Error> for IndexError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::Full,
            io::ErrorKind::ReadOnlyFilesystem => Self::ReadOnly,
            _ => Self::Broken(error.to_string()),
        }
    }
}

impl From<TantivyError> for IndexError {
    fn from(error: TantivyError) -> Self {
        let io = match &error {
            TantivyError::IoError(io)
            | TantivyError::LockFailure(LockError::IoError(io), _)
            | TantivyError::OpenWriteError(OpenWriteError::IoError { io_error: io, .. })
            | TantivyError::OpenReadError(OpenReadError::IoError { io_error: io, .. })
            | TantivyError::OpenDirectoryError(OpenDirectoryError::IoError {
                io_error: io, ..
            }) => Some(Self::from(io::Error::from(io.kind()))),
            _ => None,
        };
        match io {
            Some(known @ (Self::Full | Self::ReadOnly)) => known,
            _ => Self::of_text(error.to_string()),
        }
    }
}

impl IndexError {
    /// What an error's text says of the disk: what fails in another thread comes as text alone, and a full
    /// disk must not look like an index, or a document, that is at fault.
    fn of_text(text: String) -> Self {
        let says = |words: &[&str]| words.iter().any(|word| text.contains(word));
        if says(&["os error 28", "StorageFull", "os error 122", "QuotaExceeded"]) {
            Self::Full
        } else if says(&["os error 30", "ReadOnlyFilesystem"]) {
            Self::ReadOnly
        } else {
            Self::Broken(text)
        }
    }
}

/// A version to add.
pub(super) struct IndexedDocument<'a> {
    pub(super) version: Version,
    pub(super) text: &'a DocumentText,
    pub(super) metadata: &'a Metadata,
    pub(super) passages: &'a Passages,
}

/// A passage that has words of the query.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct RawHit {
    pub(super) version: Version,
    pub(super) passage: Passage,
    /// BM25, above 0.
    pub(super) score: f32,
}

/// The search index of one collection. All calls block.
#[derive(Debug)]
pub(super) struct CollectionIndex {
    coarse: PassageIndex,
    fine: PassageIndex,
}

/// What searches see until the next one is taken.
pub(super) struct IndexSearcher {
    coarse: PassageSearcher,
    fine: PassageSearcher,
}

/// The versions in an index.
pub(super) struct Held {
    /// At both granularities.
    pub(super) whole: BTreeSet<Version>,
    /// At one at least: a process that ends between the two commits leaves such.
    pub(super) any: BTreeSet<Version>,
}

impl CollectionIndex {
    /// Looks at all of an index, and changes nothing of it.
    pub(super) fn inspect(folder: &Path, analyzer: &Analyzer) -> Result<Held, IndexError> {
        let index = Self::open_parts(folder, analyzer, PassageIndex::open)?;
        index.coarse.check()?;
        index.fine.check()?;
        index.searcher().versions()
    }

    /// Opens the index in a folder; one that is missing, damaged or of another format is made, empty.
    pub(super) fn open(folder: &Path, analyzer: &Analyzer) -> Result<Self, IndexError> {
        let format = format!("{FORMAT} {}", analyzer.language());
        let is_known =
            std::fs::read_to_string(folder.join(FORMAT_FILE)).is_ok_and(|is| is == format);
        if is_known {
            match Self::open_parts(folder, analyzer, PassageIndex::open) {
                Ok(index) => return Ok(index),
                // Not the index's fault.
                Err(error @ (IndexError::Full | IndexError::ReadOnly)) => return Err(error),
                Err(error) => {
                    tracing::warn!(folder = %folder.display(), %error, "a search index is damaged and is made anew");
                }
            }
        }
        if folder.exists() {
            std::fs::remove_dir_all(folder)?;
        }
        std::fs::create_dir_all(folder)?;
        let index = Self::open_parts(folder, analyzer, PassageIndex::create)?;
        std::fs::write(folder.join(FORMAT_FILE), format)?;
        Ok(index)
    }

    fn open_parts(
        folder: &Path,
        analyzer: &Analyzer,
        open: fn(PathBuf, &Analyzer) -> Result<PassageIndex, IndexError>,
    ) -> Result<Self, IndexError> {
        let coarse = open(folder.join("coarse"), analyzer)?;
        Ok(Self { coarse, fine: open(folder.join("fine"), analyzer)? })
    }

    /// Adds versions, in place of what is there of them, and removes others; durable, and not seen before
    /// [`reload`](Self::reload). Not for two callers at a time.
    pub(super) fn write(
        &self,
        add: &[IndexedDocument<'_>],
        remove: &[Version],
    ) -> Result<(), IndexError> {
        std::thread::scope(|scope| {
            let fine = scope.spawn(|| self.fine.write(add, remove, |passages| &passages.fine));
            let coarse = self.coarse.write(add, remove, |passages| &passages.coarse);
            fine.join()
                .unwrap_or_else(|_| Err(IndexError::Broken("a writer panicked".to_owned())))?;
            coarse
        })
    }

    /// Shows what was written to searchers taken from now on.
    pub(super) fn reload(&self) -> Result<(), IndexError> {
        self.coarse.reload()?;
        self.fine.reload()
    }

    /// What searches see now.
    pub(super) fn searcher(&self) -> IndexSearcher {
        IndexSearcher { coarse: self.coarse.searcher(), fine: self.fine.searcher() }
    }

    /// Gives back the memory that writing takes. Not while another writes.
    pub(super) fn release(&self) {
        self.coarse.release();
        self.fine.release();
    }
}

#[cfg(test)]
impl CollectionIndex {
    /// Whether it holds what writing takes.
    pub(super) fn is_writable(&self) -> bool {
        self.coarse.is_writable() || self.fine.is_writable()
    }
}

impl IndexSearcher {
    /// The best passages for the words of a query, best first; the filter may keep too many, see
    /// [`filter`]. Without words there are none.
    pub(super) fn top(
        &self,
        query: &str,
        filter: &Filter,
        granularity: Granularity,
        limit: usize,
    ) -> Result<Vec<RawHit>, IndexError> {
        match granularity {
            Granularity::Coarse => self.coarse.top(query, filter, limit),
            Granularity::Fine => self.fine.top(query, filter, limit),
        }
    }

    /// Which versions it holds.
    pub(super) fn versions(&self) -> Result<Held, IndexError> {
        let (coarse, fine) = (self.coarse.versions()?, self.fine.versions()?);
        Ok(Held {
            whole: coarse.intersection(&fine).copied().collect(),
            any: coarse.union(&fine).copied().collect(),
        })
    }
}

#[cfg(test)]
mod tests;
