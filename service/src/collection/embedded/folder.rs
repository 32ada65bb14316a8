//! The data folder: what is in it, and that one process has it.

use std::fs::{DirBuilder, File, TryLockError};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

/// The database's file.
pub(super) const DATABASE: &str = "store.sqlite";
/// The folder with a search index a collection, by its number.
pub(super) const INDEXES: &str = "index";
/// The file that a process locks while it has the folder.
const LOCK: &str = "lock";

/// Why a folder of collections could not be opened.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct OpenError(String);

impl OpenError {
    pub(super) fn new(folder: &Path, reason: impl std::fmt::Display) -> Self {
        Self(format!("collections in {}: {reason}", folder.display()))
    }
}

/// Makes a folder if it is missing: what users send is for this process's user alone.
pub(super) fn make(folder: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

/// Makes a folder this process's own until the file is dropped.
pub(super) fn lock(folder: &Path) -> Result<File, OpenError> {
    let failed = |error: io::Error| OpenError::new(folder, error);
    make(folder).map_err(failed)?;
    let file = File::options().create(true).append(true).open(folder.join(LOCK));
    let file = file.map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(OpenError::new(
            folder,
            "another process has the folder open, and a folder belongs to one: end that one first, or name \
             another --data-dir",
        )),
        Err(TryLockError::Error(error)) => Err(failed(error)),
    }
}

/// Keeps others from locking a folder until the file is dropped, and tells whether nobody has locked it.
/// Writes nothing.
pub(super) fn keep_off(folder: &Path) -> (bool, Option<File>) {
    let Ok(file) = File::open(folder.join(LOCK)) else { return (true, None) };
    match file.try_lock() {
        Err(TryLockError::WouldBlock) => (false, None),
        _ => (true, Some(file)),
    }
}
