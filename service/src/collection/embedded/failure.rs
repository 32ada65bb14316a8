//! What a failing disk or database means to a caller.

use crate::error::Error;
use rusqlite::ErrorCode;
use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::path::Path;

impl From<rusqlite::Error> for Error {
    fn from(error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => Self::StorageFull { reason: "full" },
            Some(ErrorCode::ReadOnly) => Self::StorageFull { reason: "read-only" },
            _ => Self::Internal { cause: format!("database: {error}") },
        }
    }
}

/// What a file operation's error says of the disk; none if it is no matter of room.
pub(super) fn no_room(kind: ErrorKind) -> Option<Error> {
    let reason = match kind {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => "full",
        ErrorKind::ReadOnlyFilesystem => "read-only",
        _ => return None,
    };
    Some(Error::StorageFull { reason })
}

/// Tells a disk that takes no writes from one that is broken by writing to it: of a used-up quota, or a disk
/// that became read-only, `SQLite` says no more than that a write failed.
pub(super) fn explain(folder: &Path, error: Error) -> Error {
    let Error::Internal { .. } = error else { return error };
    let refused = probe(&folder.join("probe")).err().and_then(|error| no_room(error.kind()));
    refused.unwrap_or(error)
}

fn probe(file: &Path) -> io::Result<()> {
    let written = File::create(file).and_then(|mut probe| {
        probe.write_all(&[0; 4096])?;
        probe.sync_all()
    });
    match std::fs::remove_file(file) {
        Err(error) if error.kind() != ErrorKind::NotFound => written.and(Err(error)),
        _ => written,
    }
}
