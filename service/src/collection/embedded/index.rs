//! The search index of a collection: derived from the database, may be deleted and made anew.
//!
//! Two tantivy indexes, one a granularity, so that each has statistics of its own. A document of theirs is a
//! passage: its words, the terms of its document's metadata, and as columns the version and where in the text
//! it lies. The text itself stays in the database.

mod analyzer;
mod filter;
mod kept;
mod passage_index;
mod ranking;

use crate::collection::filter::Filter;
use crate::collection::{DocumentText, Granularity, Metadata, Passage, Passages, Version};
pub(super) use analyzer::AnalyzedText;
pub use analyzer::{Analyzer, Language};
use passage_index::{PassageIndex, PassageSearcher};
use std::collections::BTreeSet;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use tantivy::TantivyError;
use tantivy::directory::error::{LockError, OpenDirectoryError, OpenReadError, OpenWriteError};

/// Of the fields and of what the analyser makes of text; another one makes every index anew.
const FORMAT: &str = "2";
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
    /// Its files may be others than were written.
    #[error("{0}")]
    Damaged(String),
    /// Anything else that the system refused.
    #[error("{0}")]
    Broken(String),
}

impl From<io::Error> for IndexError {
    fn from(error: io::Error) -> Self {
        Self::of_io(&error)
    }
}

impl From<TantivyError> for IndexError {
    fn from(error: TantivyError) -> Self {
        match &error {
            TantivyError::IoError(io)
            | TantivyError::LockFailure(LockError::IoError(io), _)
            | TantivyError::OpenWriteError(OpenWriteError::IoError { io_error: io, .. })
            | TantivyError::OpenReadError(OpenReadError::IoError { io_error: io, .. })
            | TantivyError::OpenDirectoryError(OpenDirectoryError::IoError {
                io_error: io, ..
            }) => Self::of_io(io),
            TantivyError::LockFailure(..) | TantivyError::SystemError(_) => {
                Self::of_text(error.to_string(), Self::Broken)
            }
            _ => Self::of_text(error.to_string(), Self::Damaged),
        }
    }
}

impl IndexError {
    fn of_io(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::Full,
            io::ErrorKind::ReadOnlyFilesystem => Self::ReadOnly,
            io::ErrorKind::NotFound => Self::Damaged(error.to_string()),
            _ if error.raw_os_error().is_some() => Self::Broken(error.to_string()),
            _ => Self::of_text(error.to_string(), Self::Damaged),
        }
    }

    /// What an error's text says of the disk: what fails in another thread comes as text alone, and a full
    /// disk must not look like an index, or a document, that is at fault.
    fn of_text(text: String, otherwise: fn(String) -> Self) -> Self {
        let says = |words: &[&str]| words.iter().any(|word| text.contains(word));
        if says(&["os error 28", "StorageFull", "os error 122", "QuotaExceeded"]) {
            Self::Full
        } else if says(&["os error 30", "ReadOnlyFilesystem"]) {
            Self::ReadOnly
        } else {
            otherwise(text)
        }
    }
}

/// Calls into tantivy, which panics on some files that are not as it wrote them.
fn guarded<T>(call: impl FnOnce() -> Result<T, IndexError>) -> Result<T, IndexError> {
    catch_unwind(AssertUnwindSafe(call)).unwrap_or_else(|payload| {
        let message = payload.downcast_ref::<&str>().map(|text| (*text).to_owned());
        let message = message.or_else(|| payload.downcast_ref::<String>().cloned());
        Err(IndexError::Damaged(format!("it panicked: {}", message.unwrap_or_default())))
    })
}

/// A version to add.
pub(super) struct IndexedDocument<'a> {
    pub(super) version: Version,
    pub(super) text: &'a DocumentText,
    /// Of the text.
    pub(super) words: &'a AnalyzedText,
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
        index.check()?;
        index.searcher().versions()
    }

    /// Opens the index in a folder; one that is missing, damaged or of another format is made, empty. Gives
    /// whether it was made.
    pub(super) fn open(folder: &Path, analyzer: &Analyzer) -> Result<(Self, bool), IndexError> {
        let format = format!("{FORMAT} {}", analyzer.language());
        let is_known =
            std::fs::read_to_string(folder.join(FORMAT_FILE)).is_ok_and(|is| is == format);
        if is_known {
            match Self::open_parts(folder, analyzer, PassageIndex::open) {
                Ok(index) => return Ok((index, false)),
                Err(IndexError::Damaged(error)) => {
                    tracing::warn!(folder = %folder.display(), %error, "a search index is damaged and is made anew");
                }
                // Not the index's fault.
                Err(error) => return Err(error),
            }
        }
        if folder.exists() {
            std::fs::remove_dir_all(folder)?;
        }
        std::fs::create_dir_all(folder)?;
        let index = Self::open_parts(folder, analyzer, PassageIndex::create)?;
        std::fs::write(folder.join(FORMAT_FILE), format)?;
        Ok((index, true))
    }

    /// Lets the next [`open`](Self::open) make the index in a folder anew.
    pub(super) fn discard(folder: &Path) -> io::Result<()> {
        match std::fs::remove_file(folder.join(FORMAT_FILE)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Reads all of it and compares it with its checksums.
    pub(super) fn check(&self) -> Result<(), IndexError> {
        guarded(|| self.coarse.check())?;
        guarded(|| self.fine.check())
    }

    fn open_parts(
        folder: &Path,
        analyzer: &Analyzer,
        open: fn(PathBuf, &Analyzer) -> Result<PassageIndex, IndexError>,
    ) -> Result<Self, IndexError> {
        let coarse = guarded(|| open(folder.join("coarse"), analyzer))?;
        let fine = guarded(|| open(folder.join("fine"), analyzer))?;
        Ok(Self { coarse, fine })
    }

    /// Removes versions, then adds others; durable, and not seen before [`reload`](Self::reload). Not for two
    /// callers at a time.
    pub(super) fn write(
        &self,
        add: &[IndexedDocument<'_>],
        remove: &[Version],
    ) -> Result<(), IndexError> {
        let write = |index: &PassageIndex, passages: fn(&Passages) -> &Vec<Passage>| {
            guarded(|| index.write(add, remove, passages))
        };
        std::thread::scope(|scope| {
            let fine = scope.spawn(|| write(&self.fine, |passages| &passages.fine));
            let coarse = write(&self.coarse, |passages| &passages.coarse);
            fine.join().expect("panics are caught")?;
            coarse
        })
    }

    /// Shows what was written to searchers taken from now on.
    pub(super) fn reload(&self) -> Result<(), IndexError> {
        guarded(|| self.coarse.reload())?;
        guarded(|| self.fine.reload())
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
        let searcher = match granularity {
            Granularity::Coarse => &self.coarse,
            Granularity::Fine => &self.fine,
        };
        guarded(|| searcher.top(query, filter, limit))
    }

    /// Which versions it holds.
    pub(super) fn versions(&self) -> Result<Held, IndexError> {
        let coarse = guarded(|| self.coarse.versions())?;
        let fine = guarded(|| self.fine.versions())?;
        Ok(Held {
            whole: coarse.intersection(&fine).copied().collect(),
            any: coarse.union(&fine).copied().collect(),
        })
    }
}

#[cfg(test)]
mod tests;
