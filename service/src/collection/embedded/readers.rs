//! Connections that read, lent out one at a time.

use super::schema;
use crate::error::Error;
use rusqlite::Connection;
use std::path::PathBuf;
use std::sync::Mutex;

/// Connections that read the database; a new one is opened when all are lent.
#[derive(Debug)]
pub(super) struct Readers {
    file: PathBuf,
    idle: Mutex<Vec<Connection>>,
}

/// Connections that are kept while nobody reads: each has a cache of pages.
const KEPT: usize = 8;

impl Readers {
    pub(super) fn new(file: PathBuf) -> Self {
        Self { file, idle: Mutex::default() }
    }

    /// Reads what is consistent: nothing that is written meanwhile is seen.
    ///
    /// Blocks: for the blocking pool and threads.
    pub(super) fn read<T>(
        &self,
        read: impl FnOnce(&Connection) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let idle = self.idle.lock().expect("no reader panics with the lock").pop();
        let connection = match idle {
            Some(connection) => connection,
            None => schema::open_for_reading(&self.file)?,
        };
        // Dropping it ends the transaction, which has nothing to commit.
        let transaction = connection.unchecked_transaction()?;
        let result = read(&transaction);
        drop(transaction);
        let mut idle = self.idle.lock().expect("no reader panics with the lock");
        if idle.len() < KEPT {
            idle.push(connection);
        }
        result
    }
}
