//! What an operator does with a folder of collections: copies it, checks it, makes its search indexes anew.
//!
//! Copies and checks only read, and may be made while a server has the folder open.

use super::folder::{self, DATABASE, INDEXES, OpenError};
use super::index::{Analyzer, CollectionIndex, Language};
use super::{Embedded, cause, reads, rows, schema};
use crate::collection::{DocumentPath, Metadata, Pages};
use crate::error::Error;
use rusqlite::Connection;
use rusqlite::backup::{Backup, StepResult};
use std::fs::{self, File};
use std::io;
use std::path::Path;

/// Files beside the database that a copy needs.
const COPIED: &[&str] = &["url-secret"];

/// Something that is wrong with a folder of collections, in one line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Problem(String);

/// Copies the collections in a folder, as they are at one moment, to a folder that has none. The copy has no
/// search indexes: they are made when it is opened.
///
/// # Errors
/// If there is nothing to copy, the other folder has collections, or a disk refuses.
pub fn backup(folder: &Path, to: &Path) -> Result<(), OpenError> {
    let from_failed = |reason: String| OpenError::new(folder, reason);
    let to_failed = |error: io::Error| OpenError::new(to, error);
    let source = open_database(folder)?;
    folder::make(to).map_err(to_failed)?;
    let target = to.join(DATABASE);
    if target.exists() {
        let reason = format!("`{DATABASE}` is there already; name a folder without collections");
        return Err(OpenError::new(to, reason));
    }
    // Under another name until it is whole: half a copy must not look like one.
    let part = to.join(format!("{DATABASE}.part"));
    copy_database(&source, &part)
        .map_err(|error| from_failed(format!("copying to {}: {error}", part.display())))?;
    for name in COPIED {
        match fs::copy(folder.join(name), to.join(name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(to_failed(error)),
            _ => {}
        }
    }
    fs::rename(&part, &target).map_err(to_failed)?;
    File::open(to).and_then(|folder| folder.sync_all()).map_err(to_failed)
}

fn copy_database(source: &Connection, part: &Path) -> rusqlite::Result<()> {
    // What an earlier attempt left is overwritten.
    let mut target = Connection::open(part)?;
    let backup = Backup::new(source, &mut target)?;
    // All pages in one step: one snapshot, while writers go on; steps would begin again with every write.
    loop {
        match backup.step(-1)? {
            StepResult::Done => return Ok(()),
            _ => std::thread::sleep(std::time::Duration::from_millis(50)),
        }
    }
}

/// Deletes the search indexes of a folder that no server has open, and makes them anew.
///
/// # Errors
/// As [`Embedded::open`].
pub fn rebuild(folder: &Path, language: Language) -> Result<(), OpenError> {
    open_database(folder)?;
    let lock = folder::lock(folder)?;
    match fs::remove_dir_all(folder.join(INDEXES)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(OpenError::new(folder, error));
        }
        _ => {}
    }
    drop(lock);
    Embedded::open(folder, language)?.close_now();
    Ok(())
}

/// Looks for what is wrong in a folder; nothing is what it should find. Reads everything.
///
/// # Errors
/// If there is no database to look into.
pub fn check(folder: &Path) -> Result<Vec<Problem>, OpenError> {
    let connection = open_database(folder)?;
    // Held where no server has it, so that none begins to write meanwhile.
    let (is_alone, _lock) = folder::keep_off(folder);
    let mut check = Check { folder, connection, is_alone, problems: Vec::new() };
    if let Err(error) = check.run() {
        check.add(format!("the check cannot go on: {}", cause(&error)));
    }
    Ok(check.problems)
}

/// Opens the database of a folder that has one, to read.
pub(super) fn open_database(folder: &Path) -> Result<Connection, OpenError> {
    let file = folder.join(DATABASE);
    if !file.is_file() {
        let reason = format!("there is no `{DATABASE}`; name the --data-dir of a server");
        return Err(OpenError::new(folder, reason));
    }
    let failed = |reason: String| OpenError::new(folder, reason);
    let mut connection =
        schema::open_for_reading(&file).map_err(|error| failed(error.to_string()))?;
    let mut version = schema::version(&connection);
    if let Err(error) = &version
        && let Some(unchanging) = schema::open_unchanging(&file, error)
    {
        connection = unchanging.map_err(|error| failed(error.to_string()))?;
        version = schema::version(&connection);
    }
    match version {
        Ok(0) => Err(failed("nothing has been kept there yet".to_owned())),
        Ok(version) if version != schema::VERSION => Err(failed(format!(
            "the data is of version {version}, this program reads {}",
            schema::VERSION
        ))),
        // Whoever reads a damaged one tells what is damaged.
        Ok(_) | Err(_) => Ok(connection),
    }
}

struct Check<'a> {
    folder: &'a Path,
    connection: Connection,
    /// Whether no server has the folder open.
    is_alone: bool,
    problems: Vec<Problem>,
}

/// Each finds what must not be, as text.
const NEVER: &[(&str, &str)] = &[
    (
        "documents whose newest version is missing",
        "SELECT path FROM documents d WHERE NOT EXISTS \
         (SELECT 1 FROM versions WHERE id = d.current AND document = d.id)",
    ),
    (
        "documents whose indexed version is missing",
        "SELECT path FROM documents d WHERE indexed IS NOT NULL AND NOT EXISTS \
         (SELECT 1 FROM versions WHERE id = d.indexed AND document = d.id)",
    ),
    (
        "documents that are `indexed` by another version than their newest, or not and have it in the index",
        "SELECT path FROM documents WHERE (status = 6) <> (indexed IS current)",
    ),
    ("documents of no known status", "SELECT path FROM documents WHERE status NOT BETWEEN 0 AND 6"),
    (
        "documents that are parsed and have no text, or another length than is counted",
        "SELECT path FROM documents d JOIN versions v ON v.id = d.current WHERE status >= 3 AND \
         (SELECT sum(length(bytes)) FROM texts WHERE content = v.content) IS NOT d.text_bytes",
    ),
    (
        "files without their bytes",
        "SELECT id FROM contents c WHERE is_auto AND NOT EXISTS \
         (SELECT 1 FROM originals o WHERE o.content = c.id AND length(o.bytes) = c.size)",
    ),
    (
        "versions that no document has",
        "SELECT id FROM versions v WHERE NOT EXISTS (SELECT 1 FROM documents d \
         WHERE d.id = v.document AND (d.current = v.id OR d.indexed = v.id))",
    ),
    (
        "contents that no version has",
        "SELECT id FROM contents c WHERE NOT EXISTS (SELECT 1 FROM versions WHERE content = c.id)",
    ),
    (
        "versions that are garbage and indexed",
        "SELECT version FROM garbage g WHERE EXISTS \
         (SELECT 1 FROM documents WHERE indexed = g.version AND collection = g.collection)",
    ),
];

impl Check<'_> {
    fn add(&mut self, problem: String) {
        self.problems.push(Problem(problem));
    }

    fn run(&mut self) -> Result<(), Error> {
        self.integrity("PRAGMA integrity_check", |line| (line != "ok").then_some(line))?;
        if !self.problems.is_empty() {
            // What a damaged database says of its documents is not to be relied on.
            return Ok(());
        }
        self.integrity("PRAGMA foreign_key_check", |table| {
            Some(format!("a row of `{table}` refers to one that is missing"))
        })?;
        for (what, sql) in NEVER {
            self.never(what, sql)?;
        }
        self.contents()?;
        for collection in reads::collection_numbers(&self.connection)? {
            self.index(collection)?;
        }
        Ok(())
    }

    fn integrity(
        &mut self,
        pragma: &str,
        problem: impl Fn(String) -> Option<String>,
    ) -> Result<(), Error> {
        let mut statement = self.connection.prepare(pragma)?;
        let lines = statement.query_map([], |row| row.get(0))?;
        let lines = lines.collect::<Result<Vec<String>, _>>()?;
        let problems = lines.into_iter().filter_map(problem);
        self.problems.extend(problems.map(|problem| Problem(format!("database: {problem}"))));
        Ok(())
    }

    fn never(&mut self, what: &str, sql: &str) -> Result<(), Error> {
        let sql =
            format!("WITH f(found) AS ({sql}) SELECT count(*), CAST(min(found) AS TEXT) FROM f");
        let row = |row: &rusqlite::Row<'_>| Ok((row.get::<_, i64>(0)?, row.get(1)?));
        let (count, first): (i64, Option<String>) = self.connection.query_row(&sql, [], row)?;
        if let Some(first) = first {
            self.add(format!("{count} {what}, the first `{first}`"));
        }
        Ok(())
    }

    /// Whether what is stored can be read as what it should be.
    fn contents(&mut self) -> Result<(), Error> {
        let sql = "SELECT d.path, v.metadata, v.content FROM versions v \
                   JOIN documents d ON d.id = v.document ORDER BY v.id";
        let mut statement = self.connection.prepare(sql)?;
        let mut rows = statement.query([])?;
        let mut problems = Vec::new();
        while let Some(row) = rows.next()? {
            let (path, metadata, content): (String, String, i64) =
                (row.get(0)?, row.get(1)?, row.get(2)?);
            if Metadata::from_json(&metadata).is_none() {
                problems.push(format!("document `{path}` has metadata that cannot be read"));
            }
            match rows::document_text(&self.connection, content) {
                Ok(text)
                    if text.as_ref().is_none_or(|text| are_pages_of(&text.pages, &text.text)) => {}
                Ok(_) => problems.push(format!("document `{path}` has pages beyond its text")),
                Err(error) => problems.push(format!("document `{path}`: {}", cause(&error))),
            }
            if let Err(error) = DocumentPath::new(path) {
                problems.push(cause(&error));
            }
        }
        self.problems.extend(problems.into_iter().map(Problem));
        Ok(())
    }

    /// Whether a collection's index holds what the database says that it does.
    fn index(&mut self, collection: i64) -> Result<(), Error> {
        let folder = self.folder.join(INDEXES).join(collection.to_string());
        let wanted = reads::indexed_versions(&self.connection, collection)?;
        if !folder.exists() && (self.is_alone || wanted.is_empty()) {
            // It is made when the folder is opened.
            return Ok(());
        }
        let held = match CollectionIndex::inspect(&folder, &Analyzer::new(Language::default())) {
            Ok(held) => held,
            Err(error) => {
                self.add(format!("search index {}: {error}", folder.display()));
                return Ok(());
            }
        };
        // Read again: what has been replaced meanwhile may be gone from the index.
        let again = reads::indexed_versions(&self.connection, collection)?;
        let mut missing = 0;
        for entry in wanted.iter().filter(|entry| again.binary_search(entry).is_ok()) {
            missing += usize::from(!held.whole.contains(&entry.0) && self.has_words(entry.1)?);
        }
        if missing > 0 {
            self.add(format!(
                "search index {}: {missing} of {} indexed documents are missing",
                folder.display(),
                wanted.len()
            ));
        }
        let known = reads::known_versions(&self.connection, collection)?;
        let unknown = held.any.difference(&known).count();
        // Beside a server, one may be on its way in or out.
        if unknown > 0 && self.is_alone {
            self.add(format!(
                "search index {}: {unknown} versions are in no document",
                folder.display()
            ));
        }
        Ok(())
    }

    /// Whether a text has passages: text of white space alone is in no index.
    fn has_words(&self, content: i64) -> Result<bool, Error> {
        let text = rows::document_text(&self.connection, content)?;
        Ok(text.is_some_and(|text| !text.text.trim().is_empty()))
    }
}

/// Whether pages are those of a text.
pub(super) fn are_pages_of(pages: &Pages, text: &str) -> bool {
    let (Pages::Ordered(ends) | Pages::Unordered(ends)) = pages else { return true };
    let last = ends.last().is_some_and(|&end| end as usize == text.len());
    last && ends.is_sorted() && ends.iter().all(|&end| text.is_char_boundary(end as usize))
}
