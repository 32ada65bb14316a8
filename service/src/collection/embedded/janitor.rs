//! What nobody waits for: deleted collections, versions that no search finds, memory of idle indexes.

use super::{Inner, cause, reads, writes};
use crate::error::Error;
use std::io;
use std::sync::mpsc::{RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

/// After this long without work the indexes give their memory back.
const IDLE: Duration = Duration::from_secs(10);

/// A thread that tidies up whenever it is woken.
#[derive(Debug)]
pub(super) struct Janitor {
    wake: Mutex<Option<SyncSender<()>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Janitor {
    /// Starts it; there may be something to do already.
    pub(super) fn start(inner: &Arc<Inner>) -> io::Result<Self> {
        let (wake, woken) = sync_channel(1);
        let inner = Arc::clone(inner);
        let run = move || {
            let mut is_idle = false;
            tidy(&inner);
            loop {
                match woken.recv_timeout(IDLE) {
                    Ok(()) => is_idle = false,
                    Err(RecvTimeoutError::Disconnected) => return,
                    Err(RecvTimeoutError::Timeout) if is_idle => continue,
                    Err(RecvTimeoutError::Timeout) => {
                        is_idle = true;
                        inner.indexes.release();
                    }
                }
                tidy(&inner);
            }
        };
        let thread = std::thread::Builder::new().name("collections-tidy".into()).spawn(run)?;
        Ok(Self { wake: Mutex::new(Some(wake)), thread: Mutex::new(Some(thread)) })
    }

    pub(super) fn wake(&self) {
        if let Some(wake) = &*self.wake.lock().expect("nothing panics with the lock")
            && let Err(TrySendError::Disconnected(())) = wake.try_send(())
        {
            tracing::error!("collections: the tidying thread has ended");
        }
    }

    pub(super) fn close(&self) {
        drop(self.wake.lock().expect("nothing panics with the lock").take());
        if let Some(thread) = self.thread.lock().expect("nothing panics with the lock").take() {
            let _ = thread.join();
        }
    }
}

fn tidy(inner: &Inner) {
    let done = purge_collections(inner).and_then(|()| forget_garbage(inner));
    match done {
        // The next wake tries again; a full disk has been told to whoever writes.
        Ok(()) | Err(Error::StorageFull { .. } | Error::Draining) => {}
        Err(error) => tracing::error!(cause = cause(&error), "collections: tidying failed"),
    }
}

fn purge_collections(inner: &Inner) -> Result<(), Error> {
    for collection in inner.readers.read(writes::deleted_collections)? {
        while !inner.writer.write(move |connection| writes::purge(connection, collection))? {}
        let removed = inner.indexes.remove(collection);
        removed.map_err(|error| Error::Internal { cause: format!("search index: {error}") })?;
    }
    Ok(())
}

fn forget_garbage(inner: &Inner) -> Result<(), Error> {
    for collection in inner.readers.read(reads::with_garbage)? {
        inner.indexes.to_write(collection).add(&[], &inner.readers, &inner.writer)?;
    }
    Ok(())
}
