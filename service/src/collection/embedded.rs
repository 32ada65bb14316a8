//! The store of one process: `SQLite` holds the truth, a search index a collection is derived from it.
//!
//! `writer` is the one thread that changes the database; `readers` lend connections to the blocking pool;
//! `searchable` keeps what searches see of both consistent. Everything here blocks but [`Embedded`]'s own
//! methods, which hand it to the blocking pool, some calls at a time.

mod failure;
mod folder;
pub(crate) mod index;
mod indexes;
mod janitor;
pub mod maintenance;
mod readers;
mod reads;
mod rows;
mod schema;
mod search;
mod searchable;
#[cfg(test)]
mod tests;
pub mod transfer;
mod writer;
mod writes;

use super::filter::Filter;
use super::{
    Added, Claimed, ClaimedWork, CollectionName, Content, Document, DocumentPath, DocumentText,
    Found, Hit, NewDocument, Original, Passages, Search, Statistics, Step, Store, Update, Version,
};
use crate::error::Error;
use async_trait::async_trait;
pub use folder::OpenError;
use folder::{DATABASE, INDEXES};
pub use index::{Analyzer, Language};
use indexes::Indexes;
use janitor::Janitor;
use jiff::Timestamp;
use readers::Readers;
use rusqlite::Connection;
use searchable::Prepared;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::sync::{Notify, Semaphore};
use uuid::Uuid;
use writer::Writer;

/// Reads at work at once, each on a thread; further ones wait.
const READS: usize = 16;
/// The same for writes, apart, so that no read waits behind them: most wait for one commit, together.
const WRITES: usize = 64;

/// Collections in a folder of this process's own.
#[derive(Debug)]
pub struct Embedded {
    inner: Arc<Inner>,
    reads: Semaphore,
    writes: Semaphore,
    janitor: Arc<Janitor>,
}

#[derive(Debug)]
struct Inner {
    readers: Readers,
    writer: Writer,
    indexes: Indexes,
    parse: Notify,
    index: Notify,
    folder: PathBuf,
    /// Released when dropped.
    _lock: File,
}

impl Embedded {
    /// Opens the collections in `folder`, which is made if it is missing. Blocks while indexes that are
    /// missing or damaged are made anew.
    ///
    /// # Errors
    /// If another process has it open, it is not writable, or its data is of a later version or damaged.
    pub fn open(folder: &Path, language: Language) -> Result<Self, OpenError> {
        let failed = |error: io::Error| OpenError::new(folder, error);
        let lock = folder::lock(folder)?;
        let indexes = folder.join(INDEXES);
        std::fs::create_dir_all(&indexes).map_err(failed)?;
        let file = folder.join(DATABASE);
        let connection =
            schema::open_for_writing(&file).map_err(|reason| OpenError::new(folder, reason))?;
        writes::restart_steps(&connection)
            .map_err(|error| OpenError::new(folder, cause(&error)))?;
        let inner = Arc::new(Inner {
            readers: Readers::new(file),
            writer: Writer::start(connection, folder).map_err(failed)?,
            indexes: Indexes::new(indexes, Analyzer::new(language)),
            folder: folder.to_owned(),
            parse: Notify::new(),
            index: Notify::new(),
            _lock: lock,
        });
        inner.recover().map_err(|error| OpenError::new(folder, cause(&error)))?;
        let janitor = Arc::new(Janitor::start(&inner).map_err(failed)?);
        let (reads, writes) = (Semaphore::new(READS), Semaphore::new(WRITES));
        Ok(Self { inner, reads, writes, janitor })
    }

    async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Connection) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        self.call(&self.reads, |inner| inner.readers.read(read)).await
    }

    async fn write<T: Send + 'static>(
        &self,
        write: impl FnOnce(&Connection) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        self.call(&self.writes, |inner| inner.writer.write(write)).await
    }

    async fn call<T: Send + 'static>(
        &self,
        turns: &Semaphore,
        call: impl FnOnce(&Inner) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let _turn = turns.acquire().await.expect("the semaphore is never closed");
        let inner = Arc::clone(&self.inner);
        match tokio::task::spawn_blocking(move || call(&inner)).await {
            Ok(done) => done,
            Err(error) => match error.try_into_panic() {
                Ok(payload) => Err(Error::panicked(payload.as_ref())),
                Err(_) => Err(Error::Draining),
            },
        }
    }

    /// As [`Store::close`], where there is no runtime.
    fn close_now(&self) {
        end(&self.inner, &self.janitor);
    }

    fn notify(&self, step: Step) -> &Notify {
        match step {
            Step::Parse => &self.inner.parse,
            Step::Index => &self.inner.index,
        }
    }
}

/// Ends the threads after what they have been given.
fn end(inner: &Inner, janitor: &Janitor) {
    janitor.close();
    inner.indexes.release();
    inner.writer.close();
}

/// What went wrong, in the words for the log.
fn cause(error: &Error) -> String {
    match error {
        Error::Internal { cause } => cause.clone(),
        other => other.to_string(),
    }
}

impl Inner {
    /// Makes the indexes agree with the database after whatever ended the last process.
    fn recover(&self) -> Result<(), Error> {
        let collections = self.readers.read(reads::collection_numbers)?;
        self.indexes
            .remove_orphans(&collections)
            .map_err(|error| Error::Internal { cause: format!("search index: {error}") })?;
        for collection in collections {
            self.indexes.to_write(collection).converge(&self.readers)?;
        }
        self.indexes.release();
        Ok(())
    }

    fn claim(&self, step: Step, bytes: u64) -> Result<Vec<Claimed>, Error> {
        let claimed =
            self.writer.write(move |connection| writes::claim(connection, step, bytes))?;
        let read = self.readers.read(|connection| {
            let read = claimed.iter().map(|row| reads::work(connection, step, row.content));
            Ok(read.collect::<Vec<_>>())
        })?;
        let mut works = Vec::with_capacity(claimed.len());
        for (row, work) in claimed.into_iter().zip(read) {
            let reads::ClaimedRow { version, collection, path, .. } = row;
            match work {
                Ok(Some(work)) => {
                    works.push(Claimed { version, collection: collection as u64, path, work });
                }
                // Deleted meanwhile.
                Ok(None) => {}
                // One that cannot be read must not keep those behind it waiting for ever.
                Err(error) => {
                    tracing::error!(%path, cause = cause(&error), "a document is broken");
                    self.writer
                        .write(move |connection| writes::failed(connection, step, version))?;
                }
            }
        }
        Ok(works)
    }

    fn indexed(&self, versions: Vec<(Claimed, Option<Passages>)>) -> Result<(), Error> {
        let Some(collection) = versions.first().map(|(claimed, _)| claimed.collection as i64)
        else {
            return Ok(());
        };
        let is_there = self
            .readers
            .read(|connection| Ok(reads::collection_numbers(connection)?.contains(&collection)))?;
        if !is_there {
            return Ok(());
        }
        let prepared = versions.into_iter().filter_map(|(claimed, passages)| match claimed.work {
            ClaimedWork::Index(text) => Some(Prepared { version: claimed.version, text, passages }),
            ClaimedWork::Parse(_) => None,
        });
        let prepared: Vec<_> = prepared.collect();
        self.indexes.to_write(collection).add(&prepared, &self.readers, &self.writer)
    }
}

#[async_trait]
impl Store for Embedded {
    async fn add_collection(&self, name: &CollectionName, num_shards: u32) -> Result<(), Error> {
        let name = name.clone();
        self.write(move |connection| writes::add_collection(connection, &name, num_shards)).await
    }

    async fn collections(&self) -> Result<Vec<CollectionName>, Error> {
        self.read(reads::collections).await
    }

    async fn delete_collection(&self, name: &CollectionName) -> Result<(), Error> {
        let name = name.clone();
        self.write(move |connection| writes::delete_collection(connection, &name)).await?;
        self.janitor.wake();
        Ok(())
    }

    async fn add_document(
        &self,
        collection: &CollectionName,
        document: NewDocument,
        overwrite: bool,
    ) -> Result<Added, Error> {
        let name = collection.clone();
        let step = match document.content {
            Content::Text(_) => Step::Index,
            Content::Auto(_) => Step::Parse,
        };
        let now = Timestamp::now();
        let add = move |connection: &Connection| {
            writes::add_document(connection, &name, &document, overwrite, now)
        };
        let added = self.write(add).await?;
        self.notify(step).notify_one();
        Ok(added)
    }

    async fn update_document(
        &self,
        collection: &CollectionName,
        path: &DocumentPath,
        update: Update,
    ) -> Result<(), Error> {
        let (name, path) = (collection.clone(), path.clone());
        let step = match update {
            Update::Parse => Step::Parse,
            Update::Metadata(_) | Update::Index => Step::Index,
        };
        let now = Timestamp::now();
        let change = move |connection: &Connection| {
            writes::update_document(connection, &name, &path, &update, now)
        };
        self.write(change).await?;
        self.notify(step).notify_one();
        Ok(())
    }

    async fn delete_documents(
        &self,
        collection: &CollectionName,
        paths: &[DocumentPath],
    ) -> Result<Vec<DocumentPath>, Error> {
        let (name, paths) = (collection.clone(), paths.to_vec());
        let deleted = self
            .write(move |connection| writes::delete_documents(connection, &name, &paths))
            .await?;
        self.janitor.wake();
        Ok(deleted)
    }

    async fn document(
        &self,
        collection: &CollectionName,
        path: &DocumentPath,
        with_text: bool,
    ) -> Result<(Document, Option<String>), Error> {
        let (name, path) = (collection.clone(), path.clone());
        self.read(move |connection| reads::document(connection, &name, &path, with_text)).await
    }

    async fn documents(
        &self,
        collection: &CollectionName,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<Document>, Error> {
        let (name, prefix) = (collection.clone(), prefix.to_owned());
        let after = after.map(str::to_owned);
        let list = move |connection: &Connection| {
            reads::documents(connection, &name, &prefix, after.as_deref(), limit)
        };
        self.read(list).await
    }

    async fn page(
        &self,
        collection: &CollectionName,
        path: &DocumentPath,
        index: u64,
        with_text: bool,
    ) -> Result<(Document, Option<String>), Error> {
        let (name, path) = (collection.clone(), path.clone());
        self.read(move |connection| reads::page(connection, &name, &path, index, with_text)).await
    }

    async fn statistics(&self, collection: Option<&CollectionName>) -> Result<Statistics, Error> {
        let name = collection.cloned();
        self.read(move |connection| reads::statistics(connection, name.as_ref())).await
    }

    async fn waiting_since(&self) -> Result<Option<Timestamp>, Error> {
        self.read(reads::waiting_since).await
    }

    async fn original(&self, id: Uuid) -> Result<Option<Original>, Error> {
        self.read(move |connection| reads::original(connection, id)).await
    }

    async fn search(&self, collection: &CollectionName, search: Search) -> Result<Vec<Hit>, Error> {
        let name = collection.clone();
        self.call(&self.reads, move |inner| search::search(inner, &name, &search)).await
    }

    async fn matching(
        &self,
        collection: &CollectionName,
        filter: &Filter,
        after: Option<&DocumentPath>,
        limit: usize,
        with_text: bool,
    ) -> Result<Vec<(Found, Option<DocumentText>)>, Error> {
        let (name, filter, after) = (collection.clone(), filter.clone(), after.cloned());
        let list = move |connection: &Connection| {
            reads::matching(connection, &name, &filter, after.as_ref(), limit, with_text)
        };
        self.read(list).await
    }

    async fn claim(&self, step: Step, bytes: u64) -> Result<Vec<Claimed>, Error> {
        let claimed = self.call(&self.writes, move |inner| inner.claim(step, bytes)).await?;
        if !claimed.is_empty() {
            // There may be more, for another worker.
            self.notify(step).notify_one();
        }
        Ok(claimed)
    }

    async fn parsed(&self, version: Version, outcome: Option<DocumentText>) -> Result<(), Error> {
        self.write(move |connection| writes::parsed(connection, version, outcome.as_ref())).await?;
        self.inner.index.notify_one();
        Ok(())
    }

    async fn indexed(&self, versions: Vec<(Claimed, Option<Passages>)>) -> Result<(), Error> {
        let index = move |inner: &Inner| {
            inner.indexed(versions).map_err(|error| failure::explain(&inner.folder, error))
        };
        self.call(&self.writes, index).await?;
        self.janitor.wake();
        Ok(())
    }

    async fn wait_for_work(&self, step: Step) {
        self.notify(step).notified().await;
    }

    async fn close(&self) {
        let (inner, janitor) = (Arc::clone(&self.inner), Arc::clone(&self.janitor));
        // A panic has been reported where it happened.
        let _ = tokio::task::spawn_blocking(move || end(&inner, &janitor)).await;
    }
}
