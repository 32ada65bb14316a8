//! Collections out of a folder and into one, entry by entry: for exports and imports.
//!
//! Neither needs the search indexes: what is imported is indexed by the next server that opens the folder.

use super::folder::{self, DATABASE, OpenError};
use super::maintenance::{are_pages_of, open_database};
use super::{cause, failure, reads, rows, schema, writes};
use crate::collection::{
    Added, CollectionName, Content, DocumentPath, Metadata, NewDocument, Statistics,
};
use crate::error::Error;
use rusqlite::{Connection, Row};
use std::fs::File;
use std::path::{Path, PathBuf};

/// Something to import.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Entry {
    Collection { name: CollectionName, num_shards: u32 },
    Document { collection: CollectionName, document: NewDocument },
}

/// A collection and what is in it.
#[derive(Clone, Debug)]
pub struct Summary {
    /// Its name.
    pub name: CollectionName,
    /// As it was made with.
    pub num_shards: u32,
    /// Counts of its documents.
    pub statistics: Statistics,
}

/// The collections of a folder as they are at one moment; a server may have the folder open.
#[derive(Debug)]
pub struct Snapshot {
    /// In a transaction, which the first read began.
    connection: Connection,
    collections: Vec<Summary>,
}

impl Snapshot {
    /// Takes the moment.
    ///
    /// # Errors
    /// If there are no collections in the folder, or they cannot be read.
    pub fn open(folder: &Path) -> Result<Self, OpenError> {
        let connection = open_database(folder)?;
        let failed = |error: &Error| OpenError::new(folder, cause(error));
        connection.execute_batch("BEGIN").map_err(|error| failed(&error.into()))?;
        let collections = summaries(&connection).map_err(|error| failed(&error))?;
        Ok(Self { connection, collections })
    }

    /// All collections by name.
    pub fn collections(&self) -> &[Summary] {
        &self.collections
    }

    /// Gives all documents of a collection, by path, as they would be added again; in place of one that
    /// cannot be read, its path and why.
    ///
    /// # Errors
    /// [`Error::CollectionNotFound`], what `each` fails with, and if the database cannot be read on.
    pub fn documents<E: From<Error>>(
        &self,
        collection: &CollectionName,
        mut each: impl FnMut(Result<NewDocument, (String, String)>) -> Result<(), E>,
    ) -> Result<(), E> {
        let collection = rows::collection(&self.connection, collection)?;
        let sql = "SELECT d.path, v.metadata, c.is_auto, c.id FROM documents d \
                   JOIN versions v ON v.id = d.current JOIN contents c ON c.id = v.content \
                   WHERE d.collection = ?1 ORDER BY d.path";
        let mut statement = self.connection.prepare(sql).map_err(Error::from)?;
        let mut rows = statement.query([collection]).map_err(Error::from)?;
        while let Some(row) = rows.next().map_err(Error::from)? {
            let path: String = row.get(0).map_err(Error::from)?;
            let document = self.document(row, &path);
            each(document.map_err(|error| (path, cause(&error))))?;
        }
        Ok(())
    }

    fn document(&self, row: &Row<'_>, path: &str) -> Result<NewDocument, Error> {
        let broken = |what: &str| Error::Internal { cause: format!("its {what} cannot be read") };
        let metadata: String = row.get(1)?;
        let metadata = Metadata::from_json(&metadata).ok_or_else(|| broken("metadata"))?;
        let (is_auto, content) = (row.get(2)?, row.get(3)?);
        let content = if is_auto {
            reads::original_bytes(&self.connection, content)?.map(Content::Auto)
        } else {
            rows::document_text(&self.connection, content)?
                .filter(|text| are_pages_of(&text.pages, &text.text))
                .map(Content::Text)
        };
        let content = content.ok_or_else(|| broken("content"))?;
        Ok(NewDocument { path: DocumentPath::new(path.to_owned())?, content, metadata })
    }
}

fn summaries(connection: &Connection) -> Result<Vec<Summary>, Error> {
    let summary = |name: CollectionName| {
        let statistics = reads::statistics(connection, Some(&name))?;
        let sql = "SELECT num_shards FROM collections WHERE name = ?1";
        let num_shards = connection.query_row(sql, [name.as_str()], |row| row.get(0))?;
        Ok(Summary { name, num_shards, statistics })
    };
    reads::collections(connection)?.into_iter().map(summary).collect()
}

/// A folder that is imported into, and that nobody else has open meanwhile.
#[derive(Debug)]
pub struct Import {
    connection: Connection,
    folder: PathBuf,
    /// Released when dropped.
    _lock: File,
}

impl Import {
    /// Opens a folder, which is made if it is missing.
    ///
    /// # Errors
    /// If another process has it open, it is not writable, or its data is of a later version or damaged.
    pub fn open(folder: &Path) -> Result<Self, OpenError> {
        let lock = folder::lock(folder)?;
        let connection = schema::open_for_writing(&folder.join(DATABASE))
            .map_err(|reason| OpenError::new(folder, reason))?;
        Ok(Self { connection, folder: folder.to_owned(), _lock: lock })
    }

    /// Takes entries in, in their order and with one commit: they are on disk when this returns. A collection
    /// that is missing is made.
    ///
    /// The outer error is the disk's, and nothing of the entries was taken. Each entry has an outcome: none
    /// is a collection's, [`Error::DocumentExists`] that of a document whose path is taken, unless
    /// `overwrite`.
    pub fn take(
        &self,
        entries: &[Entry],
        overwrite: bool,
    ) -> Result<Vec<Result<Option<Added>, Error>>, Error> {
        self.in_transaction(entries, overwrite)
            .map_err(|error| failure::explain(&self.folder, error))
    }

    fn in_transaction(
        &self,
        entries: &[Entry],
        overwrite: bool,
    ) -> Result<Vec<Result<Option<Added>, Error>>, Error> {
        let transaction = self.connection.unchecked_transaction()?;
        let mut outcomes = Vec::with_capacity(entries.len());
        for entry in entries {
            match take_entry(&transaction, entry, overwrite) {
                Err(error @ (Error::StorageFull { .. } | Error::Internal { .. })) => {
                    return Err(error);
                }
                outcome => outcomes.push(outcome),
            }
        }
        transaction.commit()?;
        Ok(outcomes)
    }

    /// Leaves the database as one file.
    pub fn close(self) {
        // If not now, then when the folder is opened next.
        let _ = self.connection.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)");
    }
}

/// Takes one entry in, or nothing of it.
fn take_entry(
    connection: &Connection,
    entry: &Entry,
    overwrite: bool,
) -> Result<Option<Added>, Error> {
    match entry {
        Entry::Collection { name, num_shards } => {
            make_collection(connection, name, *num_shards)?;
            Ok(None)
        }
        Entry::Document { collection, document } => {
            make_collection(connection, collection, 1)?;
            let now = jiff::Timestamp::now();
            writes::add_document(connection, collection, document, overwrite, now).map(Some)
        }
    }
}

/// One that is there stays as it is.
fn make_collection(
    connection: &Connection,
    name: &CollectionName,
    num_shards: u32,
) -> Result<(), Error> {
    match writes::add_collection(connection, name, num_shards) {
        Err(Error::CollectionExists { .. }) => Ok(()),
        done => done,
    }
}
