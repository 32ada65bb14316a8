//! `reranker collections`: what an operator does with a data folder.

mod export;
mod import;
mod list;

use super::Failure;
use crate::collection::CollectionName;
use crate::collection::embedded::{Language, OpenError, maintenance};
use crate::config::LogFormat;
use crate::error::Error;
use crate::telemetry;
use clap::{Args, Subcommand};
use std::io::Write;
use std::path::PathBuf;

const CHECK_CODES: &str = "Exit codes: 0 nothing is wrong, 1 something is, with a line for each on \
                           standard output, 2 there is nothing to check.";

/// What to do.
#[derive(Args, Debug)]
#[command(after_help = super::EXIT_CODES)]
pub(super) struct CollectionsArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// List the collections with counts of their documents. A server may be running
    #[command(after_help = super::EXIT_CODES)]
    List(list::ListArgs),
    /// Write all documents as JSON Lines, as they are at one moment. A server may be running
    ///
    /// Each line is the body of a request of the API: `add-collection` for a collection, then
    /// `add-document` for each of its documents, by path. So `import` reads it, and any server of this
    /// API takes it line by line. Documents have what was sent: text, pages or the file, and metadata;
    /// ids and times of creation are made anew where they are imported.
    #[command(after_help = super::EXIT_CODES)]
    Export(export::ExportArgs),
    /// Add documents from JSON Lines, into a folder that no server has open
    ///
    /// Each line is the body of an `add-document` request, `{"collection_name": "c", "path": "a.txt",
    /// "content": {"type": "text", "text": "..."}, "metadata": {}}`, and checked as the API checks it;
    /// `content` may also be a string. A line with neither path nor content makes a collection; one that
    /// is missing is made too. Other fields are ignored.
    ///
    /// What has been reported as imported is on disk. The next server that opens the folder parses and
    /// indexes it. After an interruption, import the same file again with `--if-exists skip`.
    #[command(after_help = super::EXIT_CODES)]
    Import(import::ImportArgs),
    /// Copy the collections, as they are at one moment, to another folder. A server may be running
    ///
    /// The copy is a data folder for `serve`, without search indexes: they are made when it is opened.
    #[command(after_help = super::EXIT_CODES)]
    Backup(BackupArgs),
    /// Read everything and tell what is wrong. A server may be running
    #[command(after_help = CHECK_CODES)]
    Check(FolderArgs),
    /// Make the search indexes anew, in a folder that no server has open
    #[command(after_help = super::EXIT_CODES)]
    Rebuild(RebuildArgs),
}

/// Which folder.
#[derive(Args, Debug)]
struct FolderArgs {
    /// Folder of the collections, as `serve` has it
    #[arg(long, env = "RERANKER_DATA_DIR", value_name = "DIRECTORY")]
    data_dir: PathBuf,
}

#[derive(Args, Debug)]
struct BackupArgs {
    #[command(flatten)]
    folder: FolderArgs,

    /// Folder for the copy, without collections; made if it is missing
    #[arg(value_name = "DIRECTORY")]
    to: PathBuf,
}

#[derive(Args, Debug)]
struct RebuildArgs {
    #[command(flatten)]
    folder: FolderArgs,

    /// Language as `serve` has it; with another one it makes them anew once more
    #[arg(long, env = "RERANKER_LANGUAGE", value_name = "LANGUAGE", default_value_t = Language::default())]
    language: Language,
}

pub(super) fn run(args: CollectionsArgs) -> Result<(), Failure> {
    telemetry::init(LogFormat::Text);
    match args.command {
        Command::List(args) => list::run(&args),
        Command::Export(args) => export::run(&args),
        Command::Import(args) => import::run(&args),
        Command::Backup(BackupArgs { folder, to }) => {
            Ok(maintenance::backup(&folder.data_dir, &to)?)
        }
        Command::Check(folder) => check(&folder),
        Command::Rebuild(RebuildArgs { folder, language }) => {
            Ok(maintenance::rebuild(&folder.data_dir, language)?)
        }
    }
}

impl From<OpenError> for Failure {
    fn from(error: OpenError) -> Self {
        Self::Failed(error.to_string())
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Failed(reason(&error))
    }
}

/// An error as whoever sits at the disk is told.
fn reason(error: &Error) -> String {
    match error {
        Error::Internal { cause } => cause.clone(),
        Error::StorageFull { reason } => format!("the disk takes no writes: {reason}"),
        other => other.to_string(),
    }
}

fn check(folder: &FolderArgs) -> Result<(), Failure> {
    let problems = maintenance::check(&folder.data_dir);
    let problems = problems.map_err(|error| Failure::Usage(error.to_string()))?;
    let mut out = std::io::stdout().lock();
    for problem in &problems {
        writeln!(out, "{problem}")?;
    }
    match problems.len() {
        0 => Ok(()),
        count => Err(Failure::Failed(format!(
            "problems found: {count}; `collections rebuild` mends search indexes, a backup the rest"
        ))),
    }
}

fn collection_name(text: &str) -> Result<CollectionName, String> {
    CollectionName::new(text.to_owned()).map_err(|error| error.to_string())
}
