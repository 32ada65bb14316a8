//! `reranker collections import`

use super::{FolderArgs, collection_name, reason};
use crate::api::http::lines;
use crate::cli::Failure;
use crate::cli::progress::Progress;
use crate::collection::embedded::transfer::{Entry, Import};
use crate::collection::{Added, CollectionName};
use crate::config::MAX_DOCUMENT_BYTES;
use crate::error::Error;
use clap::{Args, ValueEnum};
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};

/// Lines and bytes of one commit, but for a longer line.
const BATCH_LINES: usize = 256;
const BATCH_BYTES: usize = 16 << 20;
/// Wrong lines that are told; a file of another kind has nothing else.
const TOLD: u64 = 100;

#[derive(Args, Debug)]
pub(super) struct ImportArgs {
    #[command(flatten)]
    folder: FolderArgs,

    /// Collection that all lines go to, whatever they say; without it each line names its own
    #[arg(long, value_name = "NAME", value_parser = collection_name)]
    collection: Option<CollectionName>,

    /// What becomes of a line whose path is taken already
    #[arg(long, value_name = "WHAT", default_value = "error")]
    if_exists: IfExists,

    /// File to read; `-` is standard input
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum IfExists {
    /// It is reported as wrong
    Error,
    /// It is passed over
    Skip,
    /// It replaces the document
    Overwrite,
}

pub(super) fn run(args: &ImportArgs) -> Result<(), Failure> {
    let failed = |error| Failure::Failed(format!("cannot read `{}`: {error}", args.file.display()));
    let (reader, total) = open(&args.file).map_err(failed)?;
    let import = Import::open(&args.folder.data_dir)?;
    let mut importer = Importer {
        args,
        import: &import,
        progress: Progress::new(),
        total,
        waiting: Vec::new(),
        numbers: Vec::new(),
        waiting_bytes: 0,
        read: 0,
        tally: Tally::default(),
    };
    let done = importer.read(reader);
    importer.progress.finish();
    let tally = importer.tally;
    import.close();
    let Tally { created, replaced, skipped, wrong } = tally;
    writeln!(
        io::stdout().lock(),
        "documents: {created} added, {replaced} replaced, {skipped} skipped; wrong lines: {wrong}"
    )?;
    done?;
    match wrong {
        0 => Ok(()),
        wrong => Err(Failure::Failed(format!(
            "{wrong} lines were not imported; mend them and import the file again with --if-exists skip"
        ))),
    }
}

/// A reader and how many bytes it has, 0 if nobody knows.
fn open(file: &Path) -> io::Result<(Box<dyn BufRead>, u64)> {
    if file == Path::new("-") {
        return Ok((Box::new(io::stdin().lock()), 0));
    }
    let file = File::open(file)?;
    let bytes = file.metadata()?.len();
    Ok((Box::new(BufReader::with_capacity(1 << 20, file)), bytes))
}

#[derive(Clone, Copy, Default)]
struct Tally {
    created: u64,
    replaced: u64,
    skipped: u64,
    wrong: u64,
}

struct Importer<'a> {
    args: &'a ImportArgs,
    import: &'a Import,
    progress: Progress,
    /// Bytes of the file.
    total: u64,
    /// Entries for the next commit, with the numbers of their lines and their bytes.
    waiting: Vec<Entry>,
    numbers: Vec<u64>,
    waiting_bytes: usize,
    /// Bytes that have been read.
    read: u64,
    tally: Tally,
}

impl Importer<'_> {
    fn read(&mut self, mut reader: impl BufRead) -> Result<(), Failure> {
        let mut line = Vec::new();
        for number in 1.. {
            let bytes = match read_line(&mut reader, &mut line) {
                Ok(0) => break,
                Ok(bytes) => bytes,
                Err(error) => {
                    self.commit()?;
                    return Err(Failure::Failed(format!("line {number}: reading: {error}")));
                }
            };
            self.read += bytes;
            if bytes > line.len() as u64 {
                self.tell(number, &format!("over {MAX_DOCUMENT_BYTES} bytes long; cut it"));
                continue;
            }
            let text = if number == 1 { without_mark(&line) } else { &line[..] };
            if !text.trim_ascii().is_empty() {
                match lines::read(text, self.args.collection.as_ref()) {
                    Ok(entry) => {
                        self.waiting.push(entry);
                        self.numbers.push(number);
                        self.waiting_bytes += line.len();
                    }
                    Err(error) => self.tell(number, &error.to_string()),
                }
            }
            if self.waiting.len() >= BATCH_LINES || self.waiting_bytes >= BATCH_BYTES {
                self.commit()?;
            }
        }
        self.commit()
    }

    fn commit(&mut self) -> Result<(), Failure> {
        let entries = std::mem::take(&mut self.waiting);
        let numbers = std::mem::take(&mut self.numbers);
        self.waiting_bytes = 0;
        let Some(first) = numbers.first() else { return Ok(()) };
        let overwrite = self.args.if_exists == IfExists::Overwrite;
        let outcomes = self.import.take(&entries, overwrite).map_err(|error| {
            Failure::Failed(format!(
                "lines from {first} on were not imported: {}; mend that and import the file again with \
                 --if-exists skip",
                reason(&error)
            ))
        })?;
        for (number, outcome) in numbers.into_iter().zip(outcomes) {
            match outcome {
                Ok(None) => {}
                Ok(Some(Added::Created)) => self.tally.created += 1,
                Ok(Some(Added::Replaced)) => self.tally.replaced += 1,
                Err(Error::DocumentExists { .. }) if self.args.if_exists == IfExists::Skip => {
                    self.tally.skipped += 1;
                }
                Err(Error::DocumentExists { collection, path }) => self.tell(
                    number,
                    &format!(
                        "document `{path}` exists already in collection `{collection}`; choose \
                         --if-exists skip or overwrite"
                    ),
                ),
                Err(error) => self.tell(number, &error.to_string()),
            }
        }
        let Tally { created, replaced, .. } = self.tally;
        let figures = format!("{} documents", created + replaced);
        self.progress.show("importing", &figures, self.read, self.total);
        Ok(())
    }

    fn tell(&mut self, number: u64, reason: &str) {
        self.tally.wrong += 1;
        match self.tally.wrong {
            ..=TOLD => eprintln!("line {number}: {reason}"),
            wrong if wrong == TOLD + 1 => eprintln!("further wrong lines are only counted"),
            _ => {}
        }
    }
}

/// Reads a line, and of one that is too long the beginning; gives how many bytes it had, 0 at the end.
fn read_line(reader: &mut impl BufRead, line: &mut Vec<u8>) -> io::Result<u64> {
    line.clear();
    line.shrink_to(BATCH_BYTES);
    let read = reader.by_ref().take(MAX_DOCUMENT_BYTES as u64).read_until(b'\n', line)? as u64;
    if read < MAX_DOCUMENT_BYTES as u64 || line.ends_with(b"\n") {
        return Ok(read);
    }
    Ok(read + reader.skip_until(b'\n')? as u64)
}

/// Programs of some systems begin a file with a byte order mark.
fn without_mark(line: &[u8]) -> &[u8] {
    line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(line)
}
