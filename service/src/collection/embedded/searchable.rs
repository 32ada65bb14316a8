//! A collection's search index, and what makes it agree with the database.

use super::index::{
    AnalyzedText, Analyzer, CollectionIndex, IndexError, IndexSearcher, IndexedDocument,
};
use super::indexes::remove_folder;
use super::readers::Readers;
use super::writer::Writer;
use super::{reads, rows, writes};
use crate::collection::{DocumentText, Passages, Version, passages};
use crate::error::Error;
use rusqlite::Connection;
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

/// Versions that one commit of the index forgets beside what it adds.
const GARBAGE: usize = 10_000;
/// Bytes of text that are added in one commit while an index is made anew.
const REBUILD_BYTES: usize = 64 << 20;

impl From<IndexError> for Error {
    fn from(error: IndexError) -> Self {
        match error {
            IndexError::Full => Self::StorageFull { reason: "full" },
            IndexError::ReadOnly => Self::StorageFull { reason: "read-only" },
            IndexError::Damaged(cause) | IndexError::Broken(cause) => {
                Self::Internal { cause: format!("search index: {cause}") }
            }
        }
    }
}

/// Why a search failed: the index may be made anew, the database may not.
#[derive(Debug)]
pub(super) enum SearchError {
    Index(IndexError),
    Store(Error),
}

impl From<IndexError> for SearchError {
    fn from(error: IndexError) -> Self {
        Self::Index(error)
    }
}

impl From<Error> for SearchError {
    fn from(error: Error) -> Self {
        Self::Store(error)
    }
}

impl From<SearchError> for Error {
    fn from(error: SearchError) -> Self {
        match error {
            SearchError::Index(error) => error.into(),
            SearchError::Store(error) => error,
        }
    }
}

/// A collection's index.
#[derive(Debug)]
pub(super) struct Searchable {
    collection: i64,
    folder: PathBuf,
    analyzer: Analyzer,
    /// None while nobody needs it. Whoever holds the index keeps it from being closed.
    index: Mutex<Option<Arc<CollectionIndex>>>,
    /// Held to read while a search takes hold of the database, then of the index; to write while the index
    /// shows what was written to it.
    ///
    /// What the database says is indexed was shown by the index before, and what the index shows as removed
    /// was garbage in the database before: so whichever side of a change the search takes hold on, the index
    /// has at least what the database says.
    view: RwLock<()>,
    /// Held while the index is written, before `index`: commits come one after the other. Versions that the
    /// index may hold although the database did not take that they are indexed.
    writing: Mutex<BTreeSet<Version>>,
}

/// A version to index: with its text, and its passages unless they failed.
pub(super) struct Prepared {
    pub(super) version: Version,
    pub(super) text: Arc<DocumentText>,
    pub(super) passages: Option<Passages>,
}

impl Searchable {
    pub(super) fn new(collection: i64, folder: PathBuf, analyzer: Analyzer) -> Self {
        let (index, view, writing) = (Mutex::default(), RwLock::default(), Mutex::default());
        Self { collection, folder, analyzer, index, view, writing }
    }

    /// Waits until nobody writes.
    fn writing(&self) -> MutexGuard<'_, BTreeSet<Version>> {
        self.writing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn slot(&self) -> MutexGuard<'_, Option<Arc<CollectionIndex>>> {
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The index, opened; one that had to be made has what the database says before anybody sees it.
    fn index(&self, readers: &Readers) -> Result<Arc<CollectionIndex>, Error> {
        let mut slot = self.slot();
        if let Some(index) = &*slot {
            return Ok(Arc::clone(index));
        }
        let (index, is_new) = CollectionIndex::open(&self.folder, &self.analyzer)?;
        if is_new {
            self.converge_index(&index, readers)?;
        }
        Ok(Arc::clone(slot.insert(Arc::new(index))))
    }

    /// Gives back what writing takes.
    pub(super) fn release(&self) {
        let _writing = self.writing();
        let index = self.slot().clone();
        if let Some(index) = index {
            index.release();
        }
    }

    /// Closes the index unless somebody is at it or was just now; gives whether it is closed.
    pub(super) fn close_idle(&self) -> bool {
        let Ok(_writing) = self.writing.try_lock() else { return false };
        let Ok(mut slot) = self.index.try_lock() else { return false };
        // Giving back what writing takes may last.
        slot.take_if(|index| Arc::strong_count(index) == 1 && !index.is_writable());
        slot.is_none()
    }

    /// Deletes the index once nobody writes to it: a folder that is being deleted is no place for files.
    pub(super) fn delete(&self) -> std::io::Result<()> {
        let _writing = self.writing();
        if let Some(index) = self.slot().take() {
            index.release();
        }
        remove_folder(&self.folder)
    }

    /// Takes hold of the database and the index as they belong together. An index that turns out to be damaged
    /// is made anew, and `read` is called again.
    pub(super) fn consistent<T>(
        &self,
        readers: &Readers,
        read: impl Fn(&Connection, &IndexSearcher) -> Result<T, SearchError>,
    ) -> Result<T, Error> {
        let index = self.index(readers)?;
        match self.read(&index, readers, &read) {
            Err(SearchError::Index(IndexError::Damaged(cause))) => {
                self.repair(&index, cause, readers, &self.writing())?;
                drop(index);
                let index = self.index(readers)?;
                self.read(&index, readers, &read)
            }
            done => done,
        }
        .map_err(Error::from)
    }

    fn read<T>(
        &self,
        index: &CollectionIndex,
        readers: &Readers,
        read: impl Fn(&Connection, &IndexSearcher) -> Result<T, SearchError>,
    ) -> Result<T, SearchError> {
        let view = self.view.read().expect("nothing panics with the lock");
        let done = readers.read(|connection| {
            // The first read decides what the transaction sees.
            connection.query_row("SELECT max(id) FROM collections", [], |_| Ok(()))?;
            let searcher = index.searcher();
            drop(view);
            Ok(read(connection, &searcher))
        });
        done?
    }

    /// Makes a damaged index anew from the database.
    ///
    /// # Errors
    /// `cause`, if its files are as they were written; those of making it.
    fn repair(
        &self,
        damaged: &Arc<CollectionIndex>,
        cause: String,
        readers: &Readers,
        _writing: &BTreeSet<Version>,
    ) -> Result<(), Error> {
        let mut slot = self.slot();
        if slot.as_ref().is_none_or(|index| !Arc::ptr_eq(index, damaged)) {
            // Another one has done it.
            return Ok(());
        }
        if damaged.check().is_ok() {
            return Err(IndexError::Damaged(cause).into());
        }
        let folder = self.folder.display();
        tracing::error!(%folder, cause, "a search index is damaged and is made anew");
        *slot = None;
        drop(slot);
        damaged.release();
        CollectionIndex::discard(&self.folder).map_err(IndexError::from)?;
        self.index(readers).map(drop)
    }

    /// Indexes versions and makes them what searches find; forgets garbage on the way.
    pub(super) fn add(
        &self,
        prepared: &[Prepared],
        readers: &Readers,
        writer: &Writer,
    ) -> Result<(), Error> {
        // Before the lock: while one batch is written, the next one becomes words.
        let words = self.words(prepared.iter().map(|prepared| &*prepared.text));
        let mut writing = self.writing();
        let collection = self.collection;
        let (metadata, garbage) = readers.read(|connection| {
            let metadata: Result<Vec<_>, Error> = prepared
                .iter()
                .map(|prepared| reads::version_metadata(connection, prepared.version))
                .collect();
            Ok((metadata?, reads::garbage(connection, collection, GARBAGE)?))
        })?;
        let metadata: Vec<_> =
            metadata.iter().map(|json| json.as_deref().map(rows::metadata)).collect();
        let versions = prepared.iter().map(|prepared| prepared.version);
        let doubtful = versions.filter(|version| writing.contains(version));
        let removed: Vec<_> = doubtful.chain(garbage.iter().copied()).collect();
        let documents: Vec<_> = prepared
            .iter()
            .zip(&metadata)
            .zip(&words)
            .filter_map(|((prepared, metadata), words)| {
                Some(IndexedDocument {
                    version: prepared.version,
                    text: &prepared.text,
                    words,
                    metadata: metadata.as_ref()?,
                    passages: prepared.passages.as_ref()?,
                })
            })
            .collect();
        let written: Vec<_> = documents.iter().map(|document| document.version).collect();
        let failed = prepared.iter().filter(|prepared| prepared.passages.is_none());
        let failed: Vec<_> = failed.map(|prepared| prepared.version).collect();
        writing.extend(&written);
        let index = self.index(readers)?;
        match index.write(&documents, &removed).and_then(|()| self.show(&index)) {
            Err(IndexError::Damaged(cause)) => {
                self.repair(&index, cause, readers, &writing)?;
                drop(index);
                let index = self.index(readers)?;
                index.write(&documents, &removed)?;
                self.show(&index)?;
            }
            done => done?,
        }
        let settled: Vec<_> = prepared.iter().map(|prepared| prepared.version).collect();
        writer.write(move |connection| {
            writes::indexed(connection, collection, &written, &failed, &garbage)
        })?;
        for version in settled {
            writing.remove(&version);
        }
        Ok(())
    }

    fn words<'a>(&self, texts: impl Iterator<Item = &'a DocumentText>) -> Vec<AnalyzedText> {
        let mut words = self.analyzer.texts();
        texts.map(|text| words.analyze(&text.text)).collect()
    }

    /// Adds what searches should find and the index lacks, and removes what it should not hold.
    pub(super) fn converge(&self, readers: &Readers) -> Result<(), Error> {
        let writing = self.writing();
        let index = self.index(readers)?;
        match self.converge_index(&index, readers) {
            Err(SearchError::Index(IndexError::Damaged(cause))) => {
                self.repair(&index, cause, readers, &writing)
            }
            done => Ok(done?),
        }
    }

    fn converge_index(
        &self,
        index: &CollectionIndex,
        readers: &Readers,
    ) -> Result<(), SearchError> {
        let collection = self.collection;
        let held = index.searcher().versions()?;
        let wanted = readers.read(|connection| reads::indexed_versions(connection, collection))?;
        let known: BTreeSet<_> = wanted.iter().map(|(version, _)| *version).collect();
        let is_right = |version: &Version| held.whole.contains(version) && known.contains(version);
        let mut surplus: Vec<_> =
            held.any.iter().filter(|version| !is_right(version)).copied().collect();
        let missing: Vec<_> =
            wanted.into_iter().filter(|(version, _)| !held.whole.contains(version)).collect();
        let (mut done, mut changed) = (0, surplus.len());
        while done < missing.len() || !surplus.is_empty() {
            let (mut batch, mut bytes) = (Vec::new(), 0);
            while let Some(&(version, content)) = missing.get(done)
                && bytes < REBUILD_BYTES
            {
                done += 1;
                let read = readers.read(|connection| {
                    let text = rows::document_text(connection, content)?;
                    Ok(text.zip(reads::version_metadata(connection, version)?))
                })?;
                if let Some((text, metadata)) = read {
                    bytes += text.text.len();
                    let passages = passages::split(&text);
                    // Text of white space alone has no passages and is never in the index.
                    changed += usize::from(!passages.fine.is_empty());
                    batch.push((version, text, rows::metadata(&metadata), passages));
                }
            }
            let words = self.words(batch.iter().map(|(_, text, ..)| text));
            let documents: Vec<_> = batch
                .iter()
                .zip(&words)
                .map(|((version, text, metadata, passages), words)| IndexedDocument {
                    version: *version,
                    text,
                    words,
                    metadata,
                    passages,
                })
                .collect();
            index.write(&documents, &std::mem::take(&mut surplus))?;
            if done < missing.len() {
                let total = missing.len();
                tracing::info!(collection, done, total, "adding documents to the search index");
            }
        }
        if changed > 0 {
            tracing::info!(
                collection,
                versions = changed,
                "the search index was brought up to date"
            );
        }
        Ok(self.show(index)?)
    }

    fn show(&self, index: &CollectionIndex) -> Result<(), IndexError> {
        let _view = self.view.write().expect("nothing panics with the lock");
        index.reload()
    }
}

#[cfg(test)]
impl Searchable {
    /// Whether it holds what writing takes.
    pub(super) fn is_writable(&self) -> bool {
        self.slot().as_ref().is_some_and(|index| index.is_writable())
    }

    /// Whether its files are held open.
    pub(super) fn is_open(&self) -> bool {
        self.slot().is_some()
    }
}
