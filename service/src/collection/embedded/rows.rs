//! Rows to domain types.

use crate::collection::{
    CollectionName, Document, DocumentPath, DocumentStatus, DocumentText, Found, Metadata, Pages,
};
use crate::error::Error;
use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, Row};
use std::ops::{Range, RangeInclusive};
use uuid::Uuid;

/// The columns that [`document`] reads, of documents `d`, versions `v` and contents `c`.
pub(super) const DOCUMENT: &str = "d.uuid, d.path, v.metadata, d.status, d.created_at_ms, c.size, \
                                   iif(c.page_kind = 0, NULL, length(c.page_ends) / 4), \
                                   c.is_auto AND c.page_kind = 1, v.content";

/// A row of [`DOCUMENT`], and where its content is.
pub(super) fn document(row: &Row<'_>) -> rusqlite::Result<(Document, i64)> {
    let document = Document {
        id: Uuid::from_bytes(row.get(0)?),
        path: path(row.get(1)?),
        metadata: metadata(&row.get::<_, String>(2)?),
        status: status(row.get(3)?),
        created_at: Timestamp::from_millisecond(row.get(4)?).unwrap_or_default(),
        size: row.get::<_, i64>(5)? as u64,
        num_pages: row.get(6)?,
        has_images: row.get(7)?,
    };
    Ok((document, row.get(8)?))
}

/// The columns that [`found`] reads. Images are made of the bytes of the current version, so there are none of
/// another one's pages.
pub(super) const FOUND: &str = "d.path, d.uuid, v.metadata, c.is_auto AND c.page_kind = 1 \
     AND v.content = (SELECT content FROM versions WHERE id = d.current), v.content";

/// A row of [`FOUND`], and where its content is.
pub(super) fn found(row: &Row<'_>) -> rusqlite::Result<(Found, i64)> {
    let found = Found {
        path: path(row.get(0)?),
        id: Uuid::from_bytes(row.get(1)?),
        metadata: metadata(&row.get::<_, String>(2)?),
        has_images: row.get(3)?,
    };
    Ok((found, row.get(4)?))
}

/// A path that was checked before it was stored.
pub(super) fn path(text: String) -> DocumentPath {
    DocumentPath::new(text).expect("paths are checked before they are stored")
}

/// Metadata that this program stored.
pub(super) fn metadata(json: &str) -> Metadata {
    Metadata::from_json(json).expect("metadata is stored as it is read")
}

/// The number of a status: its place among all.
pub(super) fn code(status: DocumentStatus) -> i64 {
    let place = DocumentStatus::ALL.iter().position(|&other| other == status);
    place.expect("every status is among all") as i64
}

/// The status of a number.
pub(super) fn status(code: i64) -> DocumentStatus {
    let status = usize::try_from(code).ok().and_then(|code| DocumentStatus::ALL.get(code));
    *status.expect("only codes of statuses are stored")
}

/// Pages as they are stored: a kind and the ends.
pub(super) fn stored_pages(pages: &Pages) -> (i64, Option<Vec<u8>>) {
    let bytes = |ends: &[u32]| ends.iter().flat_map(|end| end.to_le_bytes()).collect();
    match pages {
        Pages::None => (0, None),
        Pages::Ordered(ends) => (1, Some(bytes(ends))),
        Pages::Unordered(ends) => (2, Some(bytes(ends))),
    }
}

/// What [`stored_pages`] gave.
pub(super) fn pages(kind: i64, ends: Option<Vec<u8>>) -> Pages {
    let ends = ends.unwrap_or_default();
    let ends = ends.as_chunks().0.iter().map(|&bytes| u32::from_le_bytes(bytes)).collect();
    match kind {
        1 => Pages::Ordered(ends),
        2 => Pages::Unordered(ends),
        _ => Pages::None,
    }
}

/// A collection's number.
pub(super) fn collection(connection: &Connection, name: &CollectionName) -> Result<i64, Error> {
    let mut statement = connection.prepare_cached("SELECT id FROM collections WHERE name = ?1")?;
    let found = statement.query_row([name.as_str()], |row| row.get(0)).optional()?;
    found.ok_or_else(|| Error::CollectionNotFound { name: name.to_string() })
}

/// Bytes of a part of a text, but for the last.
const PART: usize = 16 << 10;

/// A text as it is stored, the parts with their numbers: at least one.
pub(super) fn parts(text: &str) -> impl Iterator<Item = (i64, &[u8])> {
    let whole = if text.is_empty() { Some(text.as_bytes()) } else { None };
    let parts = text.as_bytes().chunks(PART).chain(whole);
    parts.enumerate().map(|(number, part)| (number as i64, part))
}

/// The whole text of a content; none before it is parsed.
pub(super) fn text(connection: &Connection, content: i64) -> Result<Option<String>, Error> {
    let mut whole: Option<Vec<u8>> = None;
    each_part(connection, content, 0..=i64::MAX as u64, |part| {
        whole.get_or_insert_default().extend_from_slice(part);
    })?;
    whole.map(utf8).transpose()
}

/// Part of a content's text.
pub(super) fn text_range(
    connection: &Connection,
    content: i64,
    bytes: Range<u32>,
) -> Result<String, Error> {
    let part = |byte: u32| u64::from(byte) / PART as u64;
    let (first, last) = (part(bytes.start), part(bytes.end.saturating_sub(1).max(bytes.start)));
    let mut read = Vec::with_capacity(bytes.len());
    let mut start = bytes.start as usize - first as usize * PART;
    each_part(connection, content, first..=last, |part| {
        let wanted = part.get(start..).unwrap_or_default();
        read.extend_from_slice(&wanted[..wanted.len().min(bytes.len() - read.len())]);
        start = 0;
    })?;
    if read.len() < bytes.len() {
        return Err(Error::Internal { cause: "a text is shorter than its passages".to_owned() });
    }
    utf8(read)
}

fn each_part(
    connection: &Connection,
    content: i64,
    parts: RangeInclusive<u64>,
    mut take: impl FnMut(&[u8]),
) -> Result<(), Error> {
    let sql = "SELECT bytes FROM texts WHERE content = ?1 AND part BETWEEN ?2 AND ?3 ORDER BY part";
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query([content, *parts.start() as i64, *parts.end() as i64])?;
    while let Some(row) = rows.next()? {
        take(row.get_ref(0)?.as_blob().map_err(rusqlite::Error::from)?);
    }
    Ok(())
}

/// The text of one of a content's pages, which has that page.
pub(super) fn page_text(
    connection: &Connection,
    content: i64,
    pages: &Pages,
    index: u32,
) -> Result<String, Error> {
    match pages.bytes(index) {
        Some(bytes) => text_range(connection, content, bytes),
        // Text without pages is one page.
        None => Ok(text(connection, content)?.unwrap_or_default()),
    }
}

/// A content's text with its pages.
pub(super) fn document_text(
    connection: &Connection,
    content: i64,
) -> Result<Option<DocumentText>, Error> {
    let Some(text) = text(connection, content)? else { return Ok(None) };
    Ok(Some(DocumentText { text, pages: content_pages(connection, content)? }))
}

/// A content's pages.
pub(super) fn content_pages(connection: &Connection, content: i64) -> Result<Pages, Error> {
    let sql = "SELECT page_kind, page_ends FROM contents WHERE id = ?1";
    let mut statement = connection.prepare_cached(sql)?;
    Ok(statement.query_row([content], |row| Ok(pages(row.get(0)?, row.get(1)?)))?)
}

fn utf8(bytes: Vec<u8>) -> Result<String, Error> {
    let broken = |error| Error::Internal { cause: format!("a text is not UTF-8: {error}") };
    String::from_utf8(bytes).map_err(broken)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// A snippet or page of a long text would be other text than the search found.
        #[test]
        fn every_range_of_a_text_is_read_as_it_was_stored(
            length in 0_usize..400_000, ranges in prop::collection::vec((any::<prop::sample::Index>(), 0_usize..100_000), 8)
        ) {
            let text: String = "añb🦦c".chars().cycle().take(length / 2).collect();
            let connection = Connection::open_in_memory().unwrap();
            connection.execute_batch("CREATE TABLE texts (content INTEGER, part INTEGER, bytes BLOB)").unwrap();
            prop_assert_eq!(super::text(&connection, 1).unwrap(), None);
            for (part, bytes) in parts(&text) {
                connection.execute("INSERT INTO texts VALUES (1, ?1, ?2)", rusqlite::params![part, bytes]).unwrap();
            }
            let boundary = |mut byte: usize| { while !text.is_char_boundary(byte) { byte += 1 } byte };
            let edges = [(0, 0), (0, PART), (PART, PART), (text.len(), 0)];
            let ranges = ranges.iter().map(|(start, length)| (start.index(text.len() + 1), *length)).chain(edges);
            for (start, length) in ranges {
                let start = boundary(start.min(text.len()));
                let end = boundary((start + length).min(text.len()));
                let read = text_range(&connection, 1, start as u32..end as u32).unwrap();
                prop_assert!(read == text[start..end], "{start}..{end} of {}", text.len());
            }
            prop_assert!(super::text(&connection, 1).unwrap().as_ref() == Some(&text));
        }
    }
}
