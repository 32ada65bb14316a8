//! Everything that is read from the database, each on a connection of its own.

use super::rows::{self, DOCUMENT, FOUND, code, collection};
use crate::collection::filter::Filter;
use crate::collection::{
    ClaimedWork, CollectionName, Document, DocumentPath, DocumentStatus, DocumentText, Found,
    Original, Statistics, Step, Version,
};
use crate::error::Error;
use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, params, params_from_iter};
use std::collections::BTreeSet;
use std::sync::Arc;
use uuid::Uuid;

const JOINED: &str =
    "documents d JOIN versions v ON v.id = d.current JOIN contents c ON c.id = v.content";
const JOINED_INDEXED: &str =
    "documents d JOIN versions v ON v.id = d.indexed JOIN contents c ON c.id = v.content";

/// Versions that one claim takes or passes over at most.
const MOST_CLAIMED: usize = 8192;
/// Bytes of text after which a list of documents with their texts ends: all of them are in memory.
const MATCHING_BYTES: usize = 4 << 20;

pub(super) fn collections(connection: &Connection) -> Result<Vec<CollectionName>, Error> {
    let sql = "SELECT name FROM collections WHERE name IS NOT NULL ORDER BY name";
    let mut statement = connection.prepare_cached(sql)?;
    let names = statement.query_map([], |row| row.get::<_, String>(0))?;
    names.map(|name| CollectionName::new(name?)).collect()
}

/// Numbers of the collections that are not deleted.
pub(super) fn collection_numbers(connection: &Connection) -> Result<BTreeSet<i64>, Error> {
    let mut statement =
        connection.prepare_cached("SELECT id FROM collections WHERE name IS NOT NULL")?;
    let ids = statement.query_map([], |row| row.get(0))?;
    Ok(ids.collect::<Result<_, _>>()?)
}

fn found_document(
    connection: &Connection,
    name: &CollectionName,
    path: &DocumentPath,
) -> Result<(Document, i64), Error> {
    let collection = collection(connection, name)?;
    let sql = format!("SELECT {DOCUMENT} FROM {JOINED} WHERE d.collection = ?1 AND d.path = ?2");
    let mut statement = connection.prepare_cached(&sql)?;
    let found =
        statement.query_row(params![collection, path.as_str()], rows::document).optional()?;
    found.ok_or_else(|| Error::DocumentNotFound {
        collection: name.to_string(),
        path: path.to_string(),
    })
}

pub(super) fn document(
    connection: &Connection,
    name: &CollectionName,
    path: &DocumentPath,
    with_text: bool,
) -> Result<(Document, Option<String>), Error> {
    let (document, content) = found_document(connection, name, path)?;
    let text = if with_text { rows::text(connection, content)? } else { None };
    Ok((document, text))
}

pub(super) fn documents(
    connection: &Connection,
    name: &CollectionName,
    prefix: &str,
    after: Option<&str>,
    limit: usize,
) -> Result<Vec<Document>, Error> {
    let collection = collection(connection, name)?;
    // All that begin with the prefix stand together, from the prefix itself on.
    let (bound, start) = match after {
        Some(after) if after >= prefix => (">", after),
        _ => (">=", prefix),
    };
    let sql = format!(
        "SELECT {DOCUMENT} FROM {JOINED} WHERE d.collection = ?1 AND d.path {bound} ?2 \
         ORDER BY d.path LIMIT ?3"
    );
    let mut statement = connection.prepare_cached(&sql)?;
    let found = statement.query_map(params![collection, start, limit as i64], rows::document)?;
    let mut documents = Vec::new();
    for row in found {
        let (document, _) = row?;
        if !document.path.as_str().starts_with(prefix) {
            break;
        }
        documents.push(document);
    }
    Ok(documents)
}

pub(super) fn page(
    connection: &Connection,
    name: &CollectionName,
    path: &DocumentPath,
    index: u64,
    with_text: bool,
) -> Result<(Document, Option<String>), Error> {
    let (document, content) = found_document(connection, name, path)?;
    let missing = |reason| Err(Error::PageNotFound { reason });
    if !document.status.is_parsed() {
        let status = document.status.word();
        return missing(format!("document `{path}` is `{status}`; it has pages once it is parsed"));
    }
    let pages = rows::content_pages(connection, content)?;
    let count = u64::from(pages.count().unwrap_or(1));
    if index >= count {
        return missing(format!("document `{path}` has no page {index}; it has {count}, from 0"));
    }
    let text = if with_text {
        Some(rows::page_text(connection, content, &pages, index as u32)?)
    } else {
        None
    };
    Ok((document, text))
}

pub(super) fn statistics(
    connection: &Connection,
    name: Option<&CollectionName>,
) -> Result<Statistics, Error> {
    let collection = name.map(|name| collection(connection, name)).transpose()?;
    let scope = match collection {
        Some(_) => "= ?1",
        None => "IN (SELECT id FROM collections WHERE name IS NOT NULL)",
    };
    let sql = format!(
        "SELECT status, count(*), sum(text_bytes) FROM documents WHERE collection {scope} \
         GROUP BY collection, status"
    );
    let mut statement = connection.prepare_cached(&sql)?;
    let mut statistics = Statistics::default();
    let mut rows = statement.query(params_from_iter(collection))?;
    while let Some(row) = rows.next()? {
        let (count, bytes) = (row.get::<_, i64>(1)? as u64, row.get::<_, i64>(2)? as u64);
        match rows::status(row.get(0)?) {
            DocumentStatus::NotParsed | DocumentStatus::Parsing => statistics.parsing += count,
            DocumentStatus::NotIndexed | DocumentStatus::Indexing => statistics.indexing += count,
            DocumentStatus::ParsingFailed | DocumentStatus::IndexingFailed => {
                statistics.failed += count;
            }
            DocumentStatus::Indexed => {
                statistics.indexed += count;
                statistics.indexed_bytes += bytes;
            }
        }
    }
    Ok(statistics)
}

/// When the version was made that waits for a step, or is in it, and comes first.
pub(super) fn waiting_since(connection: &Connection) -> Result<Option<Timestamp>, Error> {
    // In the order in which claims take them, so that one row of each status is read.
    let sql = "SELECT v.since_ms FROM documents d JOIN versions v ON v.id = d.current \
               JOIN collections n ON n.id = d.collection AND n.name IS NOT NULL \
               WHERE d.status = ?1 AND d.status <> 6 ORDER BY d.current LIMIT 1";
    let mut statement = connection.prepare_cached(sql)?;
    let mut oldest = None;
    for status in [
        DocumentStatus::NotParsed,
        DocumentStatus::Parsing,
        DocumentStatus::NotIndexed,
        DocumentStatus::Indexing,
    ] {
        let since: Option<i64> =
            statement.query_row([code(status)], |row| row.get(0)).optional()?;
        oldest = oldest.into_iter().chain(since).min();
    }
    Ok(oldest.and_then(|since| Timestamp::from_millisecond(since).ok()))
}

pub(super) fn original(connection: &Connection, id: Uuid) -> Result<Option<Original>, Error> {
    let sql = format!(
        "SELECT d.path, c.is_auto, c.id FROM {JOINED} \
         JOIN collections n ON n.id = d.collection AND n.name IS NOT NULL WHERE d.uuid = ?1"
    );
    let mut statement = connection.prepare_cached(&sql)?;
    let row = |row: &rusqlite::Row<'_>| Ok((rows::path(row.get(0)?), row.get(1)?, row.get(2)?));
    let found = statement.query_row([id.into_bytes()], row).optional()?;
    let Some((path, is_auto, content)) = found else { return Ok(None) };
    let bytes = if is_auto {
        original_bytes(connection, content)?
    } else {
        rows::text(connection, content)?.map(String::into_bytes)
    };
    Ok(bytes.map(|bytes| Original { path, bytes, is_auto }))
}

/// The document that a version is found by, and its content; none if searches find another version.
pub(super) fn found(
    connection: &Connection,
    version: Version,
) -> Result<Option<(Found, i64)>, Error> {
    let sql = format!(
        "SELECT {FOUND} FROM versions v JOIN documents d ON d.id = v.document AND d.indexed = v.id \
         JOIN contents c ON c.id = v.content WHERE v.id = ?1"
    );
    let mut statement = connection.prepare_cached(&sql)?;
    Ok(statement.query_row([version.0 as i64], rows::found).optional()?)
}

pub(super) fn matching(
    connection: &Connection,
    name: &CollectionName,
    filter: &Filter,
    after: Option<&DocumentPath>,
    limit: usize,
    with_text: bool,
) -> Result<Vec<(Found, Option<DocumentText>)>, Error> {
    let collection = collection(connection, name)?;
    let sql = format!(
        "SELECT {FOUND} FROM {JOINED_INDEXED} WHERE d.collection = ?1 AND d.path > ?2 ORDER BY d.path"
    );
    let mut statement = connection.prepare_cached(&sql)?;
    let after = after.map_or("", DocumentPath::as_str);
    let rows = statement.query_map(params![collection, after], rows::found)?;
    let (mut matching, mut bytes) = (Vec::new(), 0);
    for row in rows {
        if matching.len() == limit || bytes > MATCHING_BYTES {
            break;
        }
        let (found, content) = row?;
        if filter.keeps(&found.metadata) {
            let text = if with_text { rows::document_text(connection, content)? } else { None };
            bytes += text.as_ref().map_or(0, |text| text.text.len());
            matching.push((found, text));
        }
    }
    Ok(matching)
}

/// A version that waits for a step.
pub(super) struct ClaimedRow {
    pub(super) version: Version,
    pub(super) collection: i64,
    pub(super) path: DocumentPath,
    pub(super) content: i64,
}

/// See [`writes::claim`](super::writes::claim).
pub(super) fn waiting(
    connection: &Connection,
    step: Step,
    bytes: u64,
) -> Result<Vec<ClaimedRow>, Error> {
    let (status, size) = match step {
        Step::Parse => (DocumentStatus::NotParsed, "c.size"),
        Step::Index => (DocumentStatus::NotIndexed, "d.text_bytes"),
    };
    let sql = format!(
        "SELECT d.current, d.collection, d.path, c.id, {size} FROM {JOINED} \
         JOIN collections n ON n.id = d.collection AND n.name IS NOT NULL \
         WHERE d.status = ?1 AND d.status <> 6 ORDER BY d.current LIMIT {MOST_CLAIMED}"
    );
    let mut statement = connection.prepare_cached(&sql)?;
    let mut rows = statement.query([code(status)])?;
    let (mut claimed, mut taken) = (Vec::<ClaimedRow>::new(), 0);
    while let Some(row) = rows.next()? {
        let collection = row.get(1)?;
        let first = claimed.first().map_or(collection, |first| first.collection);
        if step == Step::Index && first != collection {
            continue;
        }
        taken += row.get::<_, i64>(4)? as u64;
        if !claimed.is_empty() && taken > bytes {
            break;
        }
        let version = Version(row.get::<_, i64>(0)? as u64);
        let path = rows::path(row.get(2)?);
        claimed.push(ClaimedRow { version, collection, path, content: row.get(3)? });
    }
    Ok(claimed)
}

/// What there is to do about a content; none if it is gone.
pub(super) fn work(
    connection: &Connection,
    step: Step,
    content: i64,
) -> Result<Option<ClaimedWork>, Error> {
    Ok(match step {
        Step::Parse => original_bytes(connection, content)?.map(ClaimedWork::Parse),
        Step::Index => {
            rows::document_text(connection, content)?.map(Arc::new).map(ClaimedWork::Index)
        }
    })
}

pub(super) fn original_bytes(
    connection: &Connection,
    content: i64,
) -> Result<Option<Vec<u8>>, Error> {
    let mut statement =
        connection.prepare_cached("SELECT bytes FROM originals WHERE content = ?1")?;
    Ok(statement.query_row([content], |row| row.get(0)).optional()?)
}

/// A version's metadata; none if it is gone.
pub(super) fn version_metadata(
    connection: &Connection,
    version: Version,
) -> Result<Option<String>, Error> {
    let mut statement = connection.prepare_cached("SELECT metadata FROM versions WHERE id = ?1")?;
    Ok(statement.query_row([version.0 as i64], |row| row.get(0)).optional()?)
}

/// Versions of a collection that searches find, with their contents.
pub(super) fn indexed_versions(
    connection: &Connection,
    collection: i64,
) -> Result<Vec<(Version, i64)>, Error> {
    let sql = "SELECT v.id, v.content FROM documents d JOIN versions v ON v.id = d.indexed \
               WHERE d.collection = ?1 ORDER BY v.id";
    let mut statement = connection.prepare_cached(sql)?;
    let rows = statement
        .query_map([collection], |row| Ok((Version(row.get::<_, i64>(0)? as u64), row.get(1)?)))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Versions that a collection's index may hold.
pub(super) fn known_versions(
    connection: &Connection,
    collection: i64,
) -> Result<BTreeSet<Version>, Error> {
    let sql = "SELECT v.id FROM documents d JOIN versions v ON v.document = d.id \
               WHERE d.collection = ?1 \
               UNION ALL SELECT version FROM garbage WHERE collection = ?1";
    let mut statement = connection.prepare_cached(sql)?;
    let rows =
        statement.query_map([collection], |row| Ok(Version(row.get::<_, i64>(0)? as u64)))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Versions that a collection's index should forget.
pub(super) fn garbage(
    connection: &Connection,
    collection: i64,
    most: usize,
) -> Result<Vec<Version>, Error> {
    let sql = "SELECT version FROM garbage WHERE collection = ?1 LIMIT ?2";
    let mut statement = connection.prepare_cached(sql)?;
    let rows = statement.query_map(params![collection, most as i64], |row| {
        Ok(Version(row.get::<_, i64>(0)? as u64))
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Collections whose indexes hold garbage.
pub(super) fn with_garbage(connection: &Connection) -> Result<Vec<i64>, Error> {
    let sql = "SELECT DISTINCT g.collection FROM garbage g \
               JOIN collections n ON n.id = g.collection AND n.name IS NOT NULL";
    let mut statement = connection.prepare_cached(sql)?;
    let rows = statement.query_map([], |row| row.get(0))?;
    Ok(rows.collect::<Result<_, _>>()?)
}
