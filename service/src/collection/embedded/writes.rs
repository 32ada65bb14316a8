//! Every change to the database, each inside the transaction of the writer.

use super::reads::{self, ClaimedRow};
use super::rows::{self, code, collection};
use crate::collection::{
    Added, CollectionName, Content, DocumentPath, DocumentStatus, DocumentText, Event, Metadata,
    NewDocument, Step, Update, Version,
};
use crate::error::Error;
use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, params};
use uuid::Uuid;

/// Documents that one purge takes, and bytes after which it takes no more: other writes go in between.
const PURGE: usize = 200;
const PURGE_BYTES: i64 = 64 << 20;

pub(super) fn add_collection(
    connection: &Connection,
    name: &CollectionName,
    num_shards: u32,
) -> Result<(), Error> {
    let sql = "INSERT INTO collections (name, num_shards) VALUES (?1, ?2) ON CONFLICT DO NOTHING";
    if connection.prepare_cached(sql)?.execute(params![name.as_str(), num_shards])? == 0 {
        return Err(Error::CollectionExists { name: name.to_string() });
    }
    Ok(())
}

/// Takes a collection's name away, which hides all of it; gives its number.
pub(super) fn delete_collection(
    connection: &Connection,
    name: &CollectionName,
) -> Result<i64, Error> {
    let id = collection(connection, name)?;
    connection.execute("UPDATE collections SET name = NULL WHERE id = ?1", [id])?;
    Ok(id)
}

/// Deletes some documents of a deleted collection, at last the collection; true once that is done.
pub(super) fn purge(connection: &Connection, collection: i64) -> Result<bool, Error> {
    let sql = "SELECT d.id, d.text_bytes + ifnull(c.size, 0) FROM documents d \
               LEFT JOIN versions v ON v.id = d.current LEFT JOIN contents c ON c.id = v.content \
               WHERE d.collection = ?1 LIMIT ?2";
    let mut statement = connection.prepare_cached(sql)?;
    let row = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?));
    let documents = statement.query_map(params![collection, PURGE as i64], row)?;
    let documents = documents.collect::<Result<Vec<(i64, i64)>, _>>()?;
    let mut purged = 0;
    for &(document, bytes) in &documents {
        remove_document(connection, document)?;
        purged += bytes;
        if purged > PURGE_BYTES {
            return Ok(false);
        }
    }
    if documents.len() < PURGE {
        connection.execute("DELETE FROM garbage WHERE collection = ?1", [collection])?;
        connection.execute("DELETE FROM collections WHERE id = ?1", [collection])?;
    }
    Ok(documents.len() < PURGE)
}

/// Deleted collections that are not purged yet.
pub(super) fn deleted_collections(connection: &Connection) -> Result<Vec<i64>, Error> {
    let mut statement =
        connection.prepare_cached("SELECT id FROM collections WHERE name IS NULL")?;
    let ids = statement.query_map([], |row| row.get(0))?;
    Ok(ids.collect::<Result<_, _>>()?)
}

/// Where a document stands.
struct Standing {
    id: i64,
    status: DocumentStatus,
    current: i64,
    indexed: Option<i64>,
}

fn standing(
    connection: &Connection,
    collection: i64,
    path: &DocumentPath,
) -> Result<Option<Standing>, Error> {
    let sql =
        "SELECT id, status, current, indexed FROM documents WHERE collection = ?1 AND path = ?2";
    let mut statement = connection.prepare_cached(sql)?;
    let standing = statement.query_row(params![collection, path.as_str()], |row| {
        Ok(Standing {
            id: row.get(0)?,
            status: rows::status(row.get(1)?),
            current: row.get(2)?,
            indexed: row.get(3)?,
        })
    });
    Ok(standing.optional()?)
}

pub(super) fn add_document(
    connection: &Connection,
    name: &CollectionName,
    document: &NewDocument,
    overwrite: bool,
    created_at: Timestamp,
) -> Result<Added, Error> {
    let collection = collection(connection, name)?;
    let NewDocument { path, content, metadata } = document;
    let old = standing(connection, collection, path)?;
    if old.is_some() && !overwrite {
        return Err(Error::DocumentExists { collection: name.to_string(), path: path.to_string() });
    }
    let (content, status, text_bytes) = insert_content(connection, content)?;
    let uuid = Uuid::now_v7().into_bytes();
    let created_ms = created_at.as_millisecond();
    let id = if let Some(old) = &old {
        let sql = "UPDATE documents SET uuid = ?2, created_at_ms = ?3, status = ?4, text_bytes = ?5 \
                       WHERE id = ?1";
        let values = params![old.id, uuid, created_ms, code(status), text_bytes];
        connection.prepare_cached(sql)?.execute(values)?;
        old.id
    } else {
        let sql = "INSERT INTO documents (collection, path, uuid, created_at_ms, status, text_bytes, \
                       current) VALUES (?1, ?2, ?3, ?4, ?5, ?6, 0)";
        let values = params![collection, path.as_str(), uuid, created_ms, code(status), text_bytes];
        connection.prepare_cached(sql)?.execute(values)?;
        connection.last_insert_rowid()
    };
    insert_version(connection, id, content, metadata, created_at)?;
    if let Some(old) = old.as_ref().filter(|old| Some(old.current) != old.indexed) {
        remove_version(connection, old.current)?;
    }
    Ok(if old.is_some() { Added::Replaced } else { Added::Created })
}

/// Gives the content's number, the status that it begins with and the bytes of its text.
fn insert_content(
    connection: &Connection,
    content: &Content,
) -> Result<(i64, DocumentStatus, i64), Error> {
    let (is_auto, size) = match content {
        Content::Text(text) => (false, text.text.len()),
        Content::Auto(bytes) => (true, bytes.len()),
    };
    let sql = "INSERT INTO contents (is_auto, size) VALUES (?1, ?2)";
    connection.prepare_cached(sql)?.execute(params![is_auto, size as i64])?;
    let id = connection.last_insert_rowid();
    Ok(match content {
        Content::Text(text) => {
            insert_text(connection, id, text)?;
            (id, DocumentStatus::NotIndexed, text.text.len() as i64)
        }
        Content::Auto(bytes) => {
            let sql = "INSERT INTO originals (content, bytes) VALUES (?1, ?2)";
            connection.prepare_cached(sql)?.execute(params![id, bytes])?;
            (id, DocumentStatus::NotParsed, 0)
        }
    })
}

fn insert_text(connection: &Connection, content: i64, text: &DocumentText) -> Result<(), Error> {
    let mut statement = connection
        .prepare_cached("INSERT INTO texts (content, part, bytes) VALUES (?1, ?2, ?3)")?;
    for (part, bytes) in rows::parts(&text.text) {
        statement.execute(params![content, part, bytes])?;
    }
    let (kind, ends) = rows::stored_pages(&text.pages);
    let sql = "UPDATE contents SET page_kind = ?2, page_ends = ?3 WHERE id = ?1";
    connection.prepare_cached(sql)?.execute(params![content, kind, ends])?;
    Ok(())
}

/// Makes a new version the current one.
fn insert_version(
    connection: &Connection,
    document: i64,
    content: i64,
    metadata: &Metadata,
    now: Timestamp,
) -> Result<(), Error> {
    let sql =
        "INSERT INTO versions (document, content, metadata, since_ms) VALUES (?1, ?2, ?3, ?4)";
    let values = params![document, content, metadata.to_json(), now.as_millisecond()];
    connection.prepare_cached(sql)?.execute(values)?;
    let sql = "UPDATE documents SET current = ?2 WHERE id = ?1";
    connection.prepare_cached(sql)?.execute([document, connection.last_insert_rowid()])?;
    Ok(())
}

/// Removes a version that is neither current nor found, with its content if nothing else has it.
fn remove_version(connection: &Connection, version: i64) -> Result<(), Error> {
    let sql = "DELETE FROM versions WHERE id = ?1 RETURNING content";
    let content: i64 = connection.prepare_cached(sql)?.query_row([version], |row| row.get(0))?;
    let sql = "DELETE FROM contents WHERE id = ?1 \
               AND NOT EXISTS (SELECT 1 FROM versions WHERE content = ?1)";
    connection.prepare_cached(sql)?.execute([content])?;
    Ok(())
}

fn remove_document(connection: &Connection, document: i64) -> Result<(), Error> {
    let sql = "INSERT OR IGNORE INTO garbage (version, collection) \
               SELECT indexed, collection FROM documents WHERE id = ?1 AND indexed IS NOT NULL";
    connection.prepare_cached(sql)?.execute([document])?;
    let mut statement = connection.prepare_cached("SELECT id FROM versions WHERE document = ?1")?;
    let versions = statement.query_map([document], |row| row.get(0))?;
    for version in versions.collect::<Result<Vec<i64>, _>>()? {
        remove_version(connection, version)?;
    }
    connection.prepare_cached("DELETE FROM documents WHERE id = ?1")?.execute([document])?;
    Ok(())
}

pub(super) fn update_document(
    connection: &Connection,
    name: &CollectionName,
    path: &DocumentPath,
    update: &Update,
    now: Timestamp,
) -> Result<(), Error> {
    let collection = collection(connection, name)?;
    let Some(old) = standing(connection, collection, path)? else {
        return Err(Error::DocumentNotFound {
            collection: name.to_string(),
            path: path.to_string(),
        });
    };
    let (event, needs) = match update {
        Update::Metadata(_) => (Event::MetadataReplaced, "new metadata needs `indexed`"),
        Update::Parse => (Event::ParseAgain, "`not_parsed` needs `parsing_failed`"),
        Update::Index => (Event::IndexAgain, "`not_indexed` needs `indexing_failed`"),
    };
    let Some(next) = old.status.after(event) else {
        let status = old.status.word();
        return Err(Error::WrongStatus { path: path.to_string(), status, needs });
    };
    if let Update::Metadata(metadata) = update {
        let sql = "SELECT content FROM versions WHERE id = ?1";
        let content = connection.prepare_cached(sql)?.query_row([old.current], |row| row.get(0))?;
        insert_version(connection, old.id, content, metadata, now)?;
    } else {
        let sql = "UPDATE versions SET since_ms = ?2 WHERE id = ?1";
        connection.prepare_cached(sql)?.execute([old.current, now.as_millisecond()])?;
    }
    set_status(connection, old.id, next)
}

fn set_status(connection: &Connection, document: i64, status: DocumentStatus) -> Result<(), Error> {
    let sql = "UPDATE documents SET status = ?2 WHERE id = ?1";
    connection.prepare_cached(sql)?.execute([document, code(status)])?;
    Ok(())
}

pub(super) fn delete_documents(
    connection: &Connection,
    name: &CollectionName,
    paths: &[DocumentPath],
) -> Result<Vec<DocumentPath>, Error> {
    let collection = collection(connection, name)?;
    let mut deleted = Vec::new();
    for path in paths {
        if let Some(document) = standing(connection, collection, path)? {
            remove_document(connection, document.id)?;
            deleted.push(path.clone());
        }
    }
    Ok(deleted)
}

/// Takes versions that wait for a step, oldest first; of the oldest's collection where it is indexing, and
/// no more than fit `bytes` but one.
pub(super) fn claim(
    connection: &Connection,
    step: Step,
    bytes: u64,
) -> Result<Vec<ClaimedRow>, Error> {
    let claimed = reads::waiting(connection, step, bytes)?;
    let (waiting, begun) = match step {
        Step::Parse => (DocumentStatus::NotParsed, Event::ParseBegun),
        Step::Index => (DocumentStatus::NotIndexed, Event::IndexBegun),
    };
    for row in &claimed {
        advance(connection, row.version, waiting, begun)?;
    }
    Ok(claimed)
}

/// Ends a step that failed; a version that is not current any more is passed over.
pub(super) fn failed(connection: &Connection, step: Step, version: Version) -> Result<(), Error> {
    let (begun, event) = match step {
        Step::Parse => (DocumentStatus::Parsing, Event::ParseFailed),
        Step::Index => (DocumentStatus::Indexing, Event::IndexFailed),
    };
    advance(connection, version, begun, event)
}

/// Moves a document on, if this is its current version and it is in that status still.
fn advance(
    connection: &Connection,
    version: Version,
    from: DocumentStatus,
    event: Event,
) -> Result<(), Error> {
    let to = from.after(event).expect("the event happens in that status");
    let sql = "UPDATE documents SET status = ?2 WHERE current = ?1 AND status = ?3 AND status <> 6";
    let values = [version.0 as i64, code(to), code(from)];
    connection.prepare_cached(sql)?.execute(values)?;
    Ok(())
}

/// Ends a parse; a version that is not current any more is passed over.
pub(super) fn parsed(
    connection: &Connection,
    version: Version,
    outcome: Option<&DocumentText>,
) -> Result<(), Error> {
    let sql = "SELECT d.id, v.content FROM documents d JOIN versions v ON v.id = d.current \
               WHERE d.current = ?1 AND d.status = ?2 AND d.status <> 6";
    let mut statement = connection.prepare_cached(sql)?;
    let values = [version.0 as i64, code(DocumentStatus::Parsing)];
    let row = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?));
    let Some((document, content)) = statement.query_row(values, row).optional()? else {
        return Ok(());
    };
    let Some(text) = outcome else {
        return set_status(connection, document, DocumentStatus::ParsingFailed);
    };
    insert_text(connection, content, text)?;
    let sql = "UPDATE documents SET text_bytes = ?2 WHERE id = ?1";
    connection.prepare_cached(sql)?.execute([document, text.text.len() as i64])?;
    set_status(connection, document, DocumentStatus::NotIndexed)
}

/// Makes versions that stand in the search index the ones that are found, and forgets what was removed from
/// it. Those that are not current any more become garbage.
pub(super) fn indexed(
    connection: &Connection,
    collection: i64,
    written: &[Version],
    failed: &[Version],
    removed: &[Version],
) -> Result<(), Error> {
    for version in removed {
        let sql = "DELETE FROM garbage WHERE version = ?1";
        connection.prepare_cached(sql)?.execute([version.0 as i64])?;
    }
    for &Version(version) in written {
        let version = version as i64;
        let sql =
            "SELECT id, indexed FROM documents WHERE current = ?1 AND status = ?2 AND status <> 6";
        let row = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?));
        let values = [version, code(DocumentStatus::Indexing)];
        let found = connection.prepare_cached(sql)?.query_row(values, row).optional()?;
        let Some((document, old)): Option<(i64, Option<i64>)> = found else {
            add_garbage(connection, collection, version)?;
            continue;
        };
        let sql = "UPDATE documents SET status = ?2, indexed = ?3 WHERE id = ?1";
        let values = [document, code(DocumentStatus::Indexed), version];
        connection.prepare_cached(sql)?.execute(values)?;
        if let Some(old) = old.filter(|&old| old != version) {
            add_garbage(connection, collection, old)?;
            remove_version(connection, old)?;
        }
    }
    failed.iter().try_for_each(|&version| self::failed(connection, Step::Index, version))
}

fn add_garbage(connection: &Connection, collection: i64, version: i64) -> Result<(), Error> {
    let sql = "INSERT OR IGNORE INTO garbage (version, collection) VALUES (?1, ?2)";
    connection.prepare_cached(sql)?.execute([version, collection])?;
    Ok(())
}

/// Sends what a process that ended had begun back to where it waits.
pub(super) fn restart_steps(connection: &Connection) -> Result<(), Error> {
    for begun in [DocumentStatus::Parsing, DocumentStatus::Indexing] {
        let waiting =
            begun.after(Event::Restarted).expect("work that was begun can be begun again");
        let sql = "UPDATE documents SET status = ?2 WHERE status = ?1 AND status <> 6";
        connection.execute(sql, [code(begun), code(waiting)])?;
    }
    Ok(())
}
