//! The search indexes of all collections: opened when they are needed, closed when others are needed more.

use super::index::Analyzer;
use super::searchable::Searchable;
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Collections that are ready to be written to: each takes a dozen threads and up to 128 MB.
const WRITABLE: usize = 4;
/// Collections whose files are held open, unless more are at work at once. Each takes some hundred mapped files,
/// of which Linux allows a process 65,530.
pub(super) const OPEN: usize = 64;

/// The indexes of all collections.
#[derive(Debug)]
pub(super) struct Indexes {
    folder: PathBuf,
    analyzer: Analyzer,
    used: Mutex<Used>,
}

#[derive(Debug, Default)]
struct Used {
    known: HashMap<i64, Arc<Searchable>>,
    /// Those that may be open, the last used at the end.
    open: VecDeque<i64>,
    /// Those that may be ready to be written to, the last written at the end.
    written: VecDeque<i64>,
}

impl Indexes {
    pub(super) fn new(folder: PathBuf, analyzer: Analyzer) -> Self {
        Self { folder, analyzer, used: Mutex::default() }
    }

    fn folder(&self, collection: i64) -> PathBuf {
        self.folder.join(collection.to_string())
    }

    fn used(&self) -> MutexGuard<'_, Used> {
        self.used.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The index of a collection. Others are closed if there are too many.
    pub(super) fn get(&self, collection: i64) -> Arc<Searchable> {
        let mut used = self.used();
        let searchable = Arc::clone(used.known.entry(collection).or_insert_with(|| {
            let (folder, analyzer) = (self.folder(collection), self.analyzer.clone());
            Arc::new(Searchable::new(collection, folder, analyzer))
        }));
        touch(&mut used.open, collection);
        // Of those that are at work now none is closed, and each is looked at once.
        for _ in OPEN..used.open.len() {
            let Some(oldest) = used.open.pop_front() else { break };
            let is_open = used.known.get(&oldest).is_some_and(|oldest| !oldest.close_idle());
            if is_open {
                used.open.push_back(oldest);
            }
        }
        searchable
    }

    /// Deletes a collection's index.
    pub(super) fn remove(&self, collection: i64) -> std::io::Result<()> {
        let removed = {
            let mut used = self.used();
            used.open.retain(|other| *other != collection);
            used.written.retain(|other| *other != collection);
            used.known.remove(&collection)
        };
        match removed {
            Some(removed) => removed.delete(),
            None => remove_folder(&self.folder(collection)),
        }
    }

    /// The index of a collection, to write to it. Others give back what writing takes if there are too many.
    pub(super) fn to_write(&self, collection: i64) -> Arc<Searchable> {
        let searchable = self.get(collection);
        let surplus = {
            let mut used = self.used();
            touch(&mut used.written, collection);
            let surplus =
                if used.written.len() > WRITABLE { used.written.pop_front() } else { None };
            surplus.and_then(|surplus| used.known.get(&surplus).cloned())
        };
        if let Some(surplus) = surplus {
            surplus.release();
        }
        searchable
    }

    /// Gives back what writing takes.
    pub(super) fn release(&self) {
        let written: Vec<_> = {
            let mut used = self.used();
            let written = std::mem::take(&mut used.written);
            written.iter().filter_map(|written| used.known.get(written).cloned()).collect()
        };
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

/// Makes a collection the last used.
fn touch(used: &mut VecDeque<i64>, collection: i64) {
    used.retain(|other| *other != collection);
    used.push_back(collection);
}

/// Deletes a folder, if it is there.
pub(super) fn remove_folder(folder: &Path) -> std::io::Result<()> {
    match std::fs::remove_dir_all(folder) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        done => done,
    }
}

#[cfg(test)]
impl Indexes {
    /// How many hold what writing takes.
    pub(super) fn writable(&self) -> usize {
        self.used().known.values().filter(|one| one.is_writable()).count()
    }

    /// How many are open.
    pub(super) fn open(&self) -> usize {
        self.used().known.values().filter(|one| one.is_open()).count()
    }
}
