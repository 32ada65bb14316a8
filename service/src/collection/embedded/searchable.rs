//! The search indexes by collection, and what makes them agree with the database.

use super::index::{Analyzer, CollectionIndex, IndexError, IndexSearcher, IndexedDocument};
use super::readers::Readers;
use super::writer::Writer;
use super::{reads, rows, writes};
use crate::collection::{DocumentText, Passages, Version, passages};
use crate::error::Error;
use rusqlite::Connection;
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, RwLock};

/// Versions that one commit of the index forgets beside what it adds.
const GARBAGE: usize = 10_000;
/// Collections that are ready to be written to: each takes a dozen threads and up to 128 MB.
const WRITABLE: usize = 4;
/// Bytes of text that are added in one commit while an index is made anew.
const REBUILD_BYTES: usize = 64 << 20;

impl From<IndexError> for Error {
    fn from(error: IndexError) -> Self {
        match error {
            IndexError::Full => Self::StorageFull { reason: "full" },
            IndexError::ReadOnly => Self::StorageFull { reason: "read-only" },
            other @ IndexError::Broken(_) => {
                Self::Internal { cause: format!("search index: {other}") }
            }
        }
    }
}

/// A collection's index.
#[derive(Debug)]
pub(super) struct Searchable {
    index: CollectionIndex,
    /// Held to read while a search takes hold of the database, then of the index; to write while the index
    /// shows what was written to it.
    ///
    /// What the database says is indexed was shown by the index before, and what the index shows as removed
    /// was garbage in the database before: so whichever side of a change the search takes hold on, the index
    /// has at least what the database says.
    view: RwLock<()>,
    /// Held while the index is written: commits come one after the other.
    writing: Mutex<()>,
}

/// The indexes of all collections.
#[derive(Debug)]
pub(super) struct Indexes {
    folder: PathBuf,
    analyzer: Analyzer,
    open: Mutex<HashMap<i64, Arc<Searchable>>>,
    /// Those that were written to last, the latest at the end.
    written: Mutex<VecDeque<Arc<Searchable>>>,
}

impl Indexes {
    pub(super) fn new(folder: PathBuf, analyzer: Analyzer) -> Self {
        Self { folder, analyzer, open: Mutex::default(), written: Mutex::default() }
    }

    fn folder(&self, collection: i64) -> PathBuf {
        self.folder.join(collection.to_string())
    }

    /// The index of a collection, opened or made.
    pub(super) fn get(&self, collection: i64) -> Result<Arc<Searchable>, Error> {
        let mut open = self.open.lock().expect("nothing panics with the lock");
        if let Some(searchable) = open.get(&collection) {
            return Ok(Arc::clone(searchable));
        }
        let index = CollectionIndex::open(&self.folder(collection), &self.analyzer)?;
        let searchable = Searchable { index, view: RwLock::default(), writing: Mutex::default() };
        Ok(Arc::clone(open.entry(collection).or_insert(Arc::new(searchable))))
    }

    /// Deletes a collection's index.
    pub(super) fn remove(&self, collection: i64) -> std::io::Result<()> {
        let removed = self.open.lock().expect("nothing panics with the lock").remove(&collection);
        if let Some(removed) = &removed {
            let mut written = self.written.lock().expect("nothing panics with the lock");
            written.retain(|other| !Arc::ptr_eq(other, removed));
        }
        // Whoever writes to it finishes first: a folder that is being deleted is no place for files.
        let _writing = removed.as_ref().map(|removed| {
            let writing = removed.writing.lock().expect("nothing panics with the lock");
            removed.index.release();
            writing
        });
        remove_folder(&self.folder(collection))
    }

    /// The index of a collection, to write to it. Others give back what writing takes if there are too many.
    pub(super) fn to_write(&self, collection: i64) -> Result<Arc<Searchable>, Error> {
        let searchable = self.get(collection)?;
        let surplus = {
            let mut written = self.written.lock().expect("nothing panics with the lock");
            written.retain(|other| !Arc::ptr_eq(other, &searchable));
            written.push_back(Arc::clone(&searchable));
            if written.len() > WRITABLE { written.pop_front() } else { None }
        };
        if let Some(surplus) = surplus {
            surplus.release();
        }
        Ok(searchable)
    }

    /// Gives back what writing takes.
    pub(super) fn release(&self) {
        let written =
            std::mem::take(&mut *self.written.lock().expect("nothing panics with the lock"));
        for searchable in written {
            searchable.release();
        }
    }

    /// Deletes folders of collections that are gone.
    pub(super) fn remove_orphans(&self, living: &BTreeSet<i64>) -> std::io::Result<()> {
        for entry in std::fs::read_dir(&self.folder)? {
            let entry = entry?;
            let number = entry.file_name().to_str().and_then(|name| name.parse().ok());
            if !number.is_some_and(|number| living.contains(&number)) {
                remove_folder(&entry.path())?;
            }
        }
        Ok(())
    }
}

fn remove_folder(folder: &Path) -> std::io::Result<()> {
    match std::fs::remove_dir_all(folder) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        done => done,
    }
}

/// A version to index: with its text, and its passages unless they failed.
pub(super) struct Prepared {
    pub(super) version: Version,
    pub(super) text: Arc<DocumentText>,
    pub(super) passages: Option<Passages>,
}

impl Searchable {
    fn release(&self) {
        let _writing = self.writing.lock().expect("nothing panics with the lock");
        self.index.release();
    }

    /// Takes hold of the database and the index as they belong together.
    pub(super) fn consistent<T>(
        &self,
        readers: &Readers,
        read: impl FnOnce(&Connection, &IndexSearcher) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let view = self.view.read().expect("nothing panics with the lock");
        readers.read(|connection| {
            // The first read decides what the transaction sees.
            connection.query_row("SELECT max(id) FROM collections", [], |_| Ok(()))?;
            let searcher = self.index.searcher();
            drop(view);
            read(connection, &searcher)
        })
    }

    /// Indexes versions and makes them what searches find; forgets garbage on the way.
    pub(super) fn add(
        &self,
        collection: i64,
        prepared: &[Prepared],
        readers: &Readers,
        writer: &Writer,
    ) -> Result<(), Error> {
        let _writing = self.writing.lock().expect("nothing panics with the lock");
        let (metadata, garbage) = readers.read(|connection| {
            let metadata: Result<Vec<_>, Error> = prepared
                .iter()
                .map(|prepared| reads::version_metadata(connection, prepared.version))
                .collect();
            Ok((metadata?, reads::garbage(connection, collection, GARBAGE)?))
        })?;
        let metadata: Vec<_> =
            metadata.iter().map(|json| json.as_deref().map(rows::metadata)).collect();
        // An attempt that the database did not take may have left them in the index.
        let gone = prepared.iter().zip(&metadata).filter(|(_, metadata)| metadata.is_none());
        let removed: Vec<_> =
            gone.map(|(prepared, _)| prepared.version).chain(garbage.iter().copied()).collect();
        let documents: Vec<_> = prepared
            .iter()
            .zip(&metadata)
            .filter_map(|(prepared, metadata)| {
                Some(IndexedDocument {
                    version: prepared.version,
                    text: &prepared.text,
                    metadata: metadata.as_ref()?,
                    passages: prepared.passages.as_ref()?,
                })
            })
            .collect();
        self.index.write(&documents, &removed)?;
        let written: Vec<_> = documents.iter().map(|document| document.version).collect();
        let failed = prepared.iter().filter(|prepared| prepared.passages.is_none());
        let failed: Vec<_> = failed.map(|prepared| prepared.version).collect();
        self.show()?;
        writer.write(move |connection| {
            writes::indexed(connection, collection, &written, &failed, &garbage)
        })
    }

    /// Adds what searches should find and the index lacks, and removes what it should not hold; gives how
    /// many versions that were.
    pub(super) fn converge(
        &self,
        collection: i64,
        readers: &Readers,
        mut progress: impl FnMut(usize, usize),
    ) -> Result<usize, Error> {
        let _writing = self.writing.lock().expect("nothing panics with the lock");
        let held = self.index.searcher().versions()?;
        let wanted = readers.read(|connection| reads::indexed_versions(connection, collection))?;
        let known: BTreeSet<_> = wanted.iter().map(|(version, _)| *version).collect();
        let mut surplus: Vec<_> = held.any.difference(&known).copied().collect();
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
            let documents: Vec<_> = batch
                .iter()
                .map(|(version, text, metadata, passages)| IndexedDocument {
                    version: *version,
                    text,
                    metadata,
                    passages,
                })
                .collect();
            self.index.write(&documents, &std::mem::take(&mut surplus))?;
            progress(done, missing.len());
        }
        self.show()?;
        Ok(changed)
    }

    fn show(&self) -> Result<(), Error> {
        let _view = self.view.write().expect("nothing panics with the lock");
        Ok(self.index.reload()?)
    }
}

#[cfg(test)]
impl Indexes {
    /// How many hold what writing takes.
    pub(super) fn writable(&self) -> usize {
        self.open.lock().unwrap().values().filter(|one| one.index.is_writable()).count()
    }
}
