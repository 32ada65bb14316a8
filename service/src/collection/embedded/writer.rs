//! The one thread that writes: what has piled up is one transaction, committed once.

use super::failure;
use crate::error::Error;
use rusqlite::Connection;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;
use tokio::sync::oneshot;

/// Writes that may wait; a caller over it waits to hand in its own.
const QUEUE: usize = 256;
/// Writes in one transaction: more would make the first wait for the last.
const BATCH: usize = 64;

/// Does a write and gives what tells its caller, once it is known whether the commit succeeded.
type Write = Box<dyn FnOnce(&mut Batch<'_>) -> Reply + Send>;
type Reply = Box<dyn FnOnce(Result<(), Error>) + Send>;

/// A handle to the thread.
#[derive(Debug)]
pub(super) struct Writer {
    /// None once closed.
    writes: Mutex<Option<SyncSender<Write>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Writer {
    /// Starts it on the database of a folder.
    pub(super) fn start(connection: Connection, folder: &Path) -> std::io::Result<Self> {
        let (writes, queue) = sync_channel(QUEUE);
        let folder = folder.to_owned();
        let run = move || run(&connection, &folder, &queue);
        let thread = std::thread::Builder::new().name("collections-write".into()).spawn(run)?;
        Ok(Self { writes: Mutex::new(Some(writes)), thread: Mutex::new(Some(thread)) })
    }

    /// Runs `write` in a transaction and waits until it is on disk. An error undoes this write alone.
    ///
    /// Blocks: for the blocking pool and threads.
    pub(super) fn write<T: Send + 'static>(
        &self,
        write: impl FnOnce(&Connection) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        self.send(write)?.blocking_recv().unwrap_or(Err(Error::Draining))
    }

    fn send<T: Send + 'static>(
        &self,
        write: impl FnOnce(&Connection) -> Result<T, Error> + Send + 'static,
    ) -> Result<oneshot::Receiver<Result<T, Error>>, Error> {
        let (sender, receiver) = oneshot::channel();
        let write: Write = Box::new(move |batch| {
            let done = batch.apart(write);
            Box::new(move |committed| {
                // A caller that has gone away does not undo what is done.
                let _ = sender.send(committed.and(done));
            })
        });
        let writes = self.writes.lock().expect("no writer panics").clone();
        let sent = writes.and_then(|writes| writes.send(write).ok());
        sent.map(|()| receiver).ok_or(Error::Draining)
    }

    /// Ends the thread after what was handed in.
    pub(super) fn close(&self) {
        drop(self.writes.lock().expect("no writer panics").take());
        if let Some(thread) = self.thread.lock().expect("no writer panics").take() {
            let _ = thread.join();
        }
    }
}

/// Writes in one transaction.
struct Batch<'a> {
    connection: &'a Connection,
    folder: &'a Path,
    /// Why there is no transaction any more: `SQLite` ends it by itself where a disk is full or broken.
    state: Result<(), Error>,
}

impl Batch<'_> {
    /// Runs one write so that its failure leaves nothing of it behind.
    fn apart<T>(
        &mut self,
        write: impl FnOnce(&Connection) -> Result<T, Error>,
    ) -> Result<T, Error> {
        self.state.clone()?;
        let done = self.savepoint(write).map_err(|error| failure::explain(self.folder, error));
        if let Err(error) = &done
            && self.connection.is_autocommit()
        {
            self.state = Err(error.clone());
        }
        done
    }

    fn savepoint<T>(
        &self,
        write: impl FnOnce(&Connection) -> Result<T, Error>,
    ) -> Result<T, Error> {
        self.connection.execute_batch("SAVEPOINT write")?;
        let done = catch_unwind(AssertUnwindSafe(|| write(self.connection)))
            .unwrap_or_else(|payload| Err(Error::panicked(payload.as_ref())));
        if !self.connection.is_autocommit() {
            if done.is_err() {
                self.connection.execute_batch("ROLLBACK TO write")?;
            }
            self.connection.execute_batch("RELEASE write")?;
        }
        done
    }

    fn commit(self) -> Result<(), Error> {
        self.state?;
        let committed = self.connection.execute_batch("COMMIT");
        if committed.is_err() && !self.connection.is_autocommit() {
            self.connection.execute_batch("ROLLBACK")?;
        }
        committed.map_err(|error| failure::explain(self.folder, error.into()))
    }
}

fn run(connection: &Connection, folder: &Path, queue: &Receiver<Write>) {
    while let Ok(first) = queue.recv() {
        let begun = connection.execute_batch("BEGIN IMMEDIATE");
        let state = begun.map_err(|error| failure::explain(folder, error.into()));
        let mut batch = Batch { connection, folder, state };
        let writes = std::iter::once(first).chain(queue.try_iter().take(BATCH - 1));
        let replies: Vec<Reply> = writes.map(|write| write(&mut batch)).collect();
        let outcome = batch.commit();
        if let Err(Error::Internal { cause }) = &outcome {
            tracing::error!(cause, "collections: a commit failed");
        }
        for reply in replies {
            reply(outcome.clone());
        }
    }
    // So that the database is one file while nobody has it open; if not now, then at the next start.
    let _ = connection.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)");
}

#[cfg(test)]
mod tests;
