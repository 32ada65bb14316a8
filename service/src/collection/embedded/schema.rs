//! The database's shape, and how a connection is set up.

use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags, TransactionBehavior};
use std::path::Path;
use std::time::Duration;

/// What [`migrate`] brings a database to; `user_version` holds it.
pub(super) const VERSION: i64 = MIGRATIONS.len() as i64;

/// The n-th brings a database of version n to version n + 1. They are never changed once released.
const MIGRATIONS: [&str; 3] = ["
-- Deleted collections have no name and are purged bit by bit.
CREATE TABLE collections (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    name TEXT UNIQUE,
    num_shards INTEGER NOT NULL
) STRICT;

-- What was sent as a document; versions of different metadata share it.
CREATE TABLE contents (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    is_auto INTEGER NOT NULL,
    size INTEGER NOT NULL,
    -- As of Pages: 0 none, 1 ordered, 2 unordered; with the end of each as a little-endian u32.
    page_kind INTEGER NOT NULL DEFAULT 0,
    page_ends BLOB
) STRICT;
CREATE TABLE originals (content INTEGER PRIMARY KEY REFERENCES contents ON DELETE CASCADE, bytes BLOB NOT NULL) STRICT;
-- Absent until the content is parsed. In parts, because of a long value SQLite reads all that is before.
CREATE TABLE texts (
    content INTEGER NOT NULL REFERENCES contents ON DELETE CASCADE,
    part INTEGER NOT NULL,
    bytes BLOB NOT NULL,
    PRIMARY KEY (content, part)
) STRICT;

-- `current` is the newest version, whose status this is; searches find the version `indexed`.
CREATE TABLE documents (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    collection INTEGER NOT NULL REFERENCES collections,
    path TEXT NOT NULL,
    uuid BLOB NOT NULL UNIQUE,
    created_at_ms INTEGER NOT NULL,
    status INTEGER NOT NULL,
    text_bytes INTEGER NOT NULL DEFAULT 0,
    current INTEGER NOT NULL,
    indexed INTEGER,
    UNIQUE (collection, path)
) STRICT;
CREATE INDEX documents_by_status ON documents (collection, status, text_bytes);
CREATE INDEX documents_by_work ON documents (status, current) WHERE status <> 6;

CREATE TABLE versions (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    document INTEGER NOT NULL REFERENCES documents ON DELETE CASCADE,
    content INTEGER NOT NULL REFERENCES contents,
    metadata TEXT NOT NULL
) STRICT;
CREATE INDEX versions_by_document ON versions (document);
CREATE INDEX versions_by_content ON versions (content);

-- Versions that the search index may still hold and nobody finds any more.
CREATE TABLE garbage (version INTEGER PRIMARY KEY, collection INTEGER NOT NULL) STRICT;
CREATE INDEX garbage_by_collection ON garbage (collection);
", "
-- When it was made or last sent back to a step.
ALTER TABLE versions ADD COLUMN since_ms INTEGER NOT NULL DEFAULT 0;
UPDATE versions SET since_ms = (SELECT created_at_ms FROM documents WHERE id = versions.document);
", "
-- A snippet is a few kilobytes: parts of 64 KiB become four of 16.
ALTER TABLE texts RENAME TO long_texts;
CREATE TABLE texts (
    content INTEGER NOT NULL REFERENCES contents ON DELETE CASCADE,
    part INTEGER NOT NULL,
    bytes BLOB NOT NULL,
    PRIMARY KEY (content, part)
) STRICT;
-- Of an empty value there is no part, which is NULL.
INSERT INTO texts SELECT content, part * 4 + quarter, coalesce(substr(bytes, quarter * 16384 + 1, 16384), x'')
    FROM long_texts, (SELECT 0 AS quarter UNION SELECT 1 UNION SELECT 2 UNION SELECT 3)
    WHERE quarter = 0 OR length(bytes) > quarter * 16384;
DROP TABLE long_texts;
"];

/// A statement's plan is kept for this many different ones.
const STATEMENTS: usize = 64;

/// Opens the connection that writes, and makes the database what this version knows.
///
/// # Errors
/// One sentence.
pub(super) fn open_for_writing(file: &Path) -> Result<Connection, String> {
    let failed = |error: rusqlite::Error| format!("{}: {error}", file.display());
    let mut connection = Connection::open(file).map_err(failed)?;
    set_up(&connection).map_err(failed)?;
    let begun = || -> rusqlite::Result<()> {
        connection.pragma_update(None, "journal_mode", "WAL")?;
        // An acknowledged write survives a power cut.
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection.pragma_update(None, "foreign_keys", true)?;
        connection.pragma_update(None, "journal_size_limit", 64 << 20)
    };
    begun().map_err(failed)?;
    migrate(&mut connection).map_err(|reason| format!("{}: {reason}", file.display()))?;
    Ok(connection)
}

/// Opens a connection that only reads.
pub(super) fn open_for_reading(file: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(file, flags)?;
    set_up(&connection)?;
    Ok(connection)
}

/// Opens a database that could not be read because its disk takes no writes, not even the small file by which
/// processes agree on what they see. None if it is not that, or its log holds more than the database.
pub(super) fn open_unchanging(
    file: &Path,
    error: &rusqlite::Error,
) -> Option<rusqlite::Result<Connection>> {
    let is_refused =
        matches!(error.sqlite_error_code(), Some(ErrorCode::CannotOpen | ErrorCode::ReadOnly));
    let log = file.with_extension("sqlite-wal").metadata().map_or(0, |log| log.len());
    let path = file.to_str().filter(|_| is_refused && log == 0)?;
    let path = path.replace('%', "%25").replace('?', "%3f").replace('#', "%23");
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI;
    let connection = Connection::open_with_flags(format!("file:{path}?immutable=1"), flags);
    Some(connection.and_then(|connection| set_up(&connection).map(|()| connection)))
}

/// The version of a database's shape; 0 if it is empty.
pub(super) fn version(connection: &Connection) -> rusqlite::Result<i64> {
    connection.query_row("PRAGMA user_version", [], |row| row.get(0))
}

fn set_up(connection: &Connection) -> rusqlite::Result<()> {
    connection.busy_timeout(Duration::from_secs(10))?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    // Plans do not depend on parameters, for each of which SQLite would make them anew.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    Ok(())
}

fn migrate(connection: &mut Connection) -> Result<(), String> {
    let failed = |error: rusqlite::Error| error.to_string();
    let begun = connection.transaction_with_behavior(TransactionBehavior::Immediate);
    let transaction = begun.map_err(failed)?;
    let found = version(&transaction).map_err(failed)?;
    let Some(missing) = usize::try_from(found).ok().and_then(|found| MIGRATIONS.get(found..))
    else {
        return Err(format!(
            "the data is of version {found}, from a later program; this one knows up to {VERSION}"
        ));
    };
    if missing.is_empty() {
        // Nothing is written: a server must come up again while its disk is full.
        return Ok(());
    }
    for migration in missing {
        transaction.execute_batch(migration).map_err(failed)?;
    }
    transaction.pragma_update(None, "user_version", VERSION).map_err(failed)?;
    transaction.commit().map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::super::rows;
    use super::*;

    /// Texts of data from before would be read in the wrong places, or be gone.
    #[test]
    fn texts_are_the_same_in_parts_of_another_size() {
        let mut connection = Connection::open_in_memory().unwrap();
        for migration in &MIGRATIONS[..2] {
            connection.execute_batch(migration).unwrap();
        }
        connection.pragma_update(None, "user_version", 2).unwrap();
        let texts: Vec<String> = [0, 1, 16_384, 16_385, 65_536, 65_537, 300_000]
            .map(|length| "abcdefg".chars().cycle().take(length).collect())
            .into();
        for (content, text) in (1..).zip(&texts) {
            let sql = "INSERT INTO contents (id, is_auto, size) VALUES (?1, 0, 0)";
            connection.execute(sql, [content]).unwrap();
            let whole = if text.is_empty() { Some(text.as_bytes()) } else { None };
            for (part, bytes) in (0..).zip(text.as_bytes().chunks(65_536).chain(whole)) {
                let sql = "INSERT INTO texts VALUES (?1, ?2, ?3)";
                connection.execute(sql, rusqlite::params![content, part, bytes]).unwrap();
            }
        }
        migrate(&mut connection).unwrap();
        for (content, text) in (1..).zip(&texts) {
            assert!(rows::text(&connection, content).unwrap().as_ref() == Some(text));
            let end = text.len() as u32;
            let last = end.saturating_sub(9)..end;
            let expected = &text[last.start as usize..];
            assert_eq!(rows::text_range(&connection, content, last).unwrap(), expected);
        }
    }
}
