//! `reranker collections export`

use super::{FolderArgs, collection_name};
use crate::api::http::lines::{CollectionLine, DocumentLine};
use crate::cli::Failure;
use crate::cli::progress::Progress;
use crate::collection::CollectionName;
use crate::collection::embedded::transfer::{Snapshot, Summary};
use clap::Args;
use serde::Serialize;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

#[derive(Args, Debug)]
pub(super) struct ExportArgs {
    #[command(flatten)]
    folder: FolderArgs,

    /// Export this collection alone [default: all]
    #[arg(long, value_name = "NAME", value_parser = collection_name)]
    collection: Option<CollectionName>,

    /// File to write, in place of what it holds once all is written [default: standard output]
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
}

pub(super) fn run(args: &ExportArgs) -> Result<(), Failure> {
    let ExportArgs { folder, collection, output } = args;
    let snapshot = Snapshot::open(&folder.data_dir)?;
    let is_asked =
        |summary: &&Summary| collection.as_ref().is_none_or(|name| summary.name == *name);
    let collections: Vec<&Summary> = snapshot.collections().iter().filter(is_asked).collect();
    if let (Some(name), true) = (collection, collections.is_empty()) {
        let names = snapshot.collections().iter().map(|summary| summary.name.as_str());
        let names = names.collect::<Vec<_>>().join(", ");
        return Err(Failure::Failed(format!("collection `{name}` not found; there are: {names}")));
    }
    let broken = match output {
        None => write(&snapshot, &collections, io::stdout().lock())?,
        Some(file) => into_file(file, |out| write(&snapshot, &collections, out))?,
    };
    match broken {
        0 => Ok(()),
        broken => Err(Failure::Failed(format!(
            "{broken} documents cannot be read and were left out; add them again from where they came"
        ))),
    }
}

/// Writes a file that takes its name once it is whole: half an export must not look like one.
fn into_file<T>(
    file: &Path,
    write: impl FnOnce(&mut File) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let failed = |error: io::Error| Failure::Failed(format!("`{}`: {error}", file.display()));
    let mut part = file.as_os_str().to_owned();
    part.push(".part");
    let part = PathBuf::from(part);
    let mut out = File::create(&part).map_err(failed)?;
    let written = write(&mut out)?;
    out.sync_all().and_then(|()| fs::rename(&part, file)).map_err(failed)?;
    Ok(written)
}

/// Gives how many documents could not be read.
fn write(snapshot: &Snapshot, collections: &[&Summary], out: impl Write) -> Result<u64, Failure> {
    let mut out = BufWriter::new(out);
    let mut progress = Progress::new();
    let total: usize =
        collections.iter().map(|summary| summary.statistics.documents() as usize).sum();
    let (mut done, mut broken) = (0, 0);
    for Summary { name, num_shards, .. } in collections {
        line(&mut out, &CollectionLine::new(name, *num_shards))?;
        snapshot.documents::<Failure>(name, |document| {
            match document {
                Ok(document) => line(&mut out, &DocumentLine::new(name, &document))?,
                Err((path, cause)) => {
                    broken += 1;
                    tracing::error!(collection = %name, path, cause, "a document cannot be read");
                }
            }
            done += 1;
            progress.count("exporting: documents", done, total);
            Ok(())
        })?;
    }
    out.flush()?;
    progress.finish();
    Ok(broken)
}

fn line(out: &mut impl Write, line: &impl Serialize) -> Result<(), Failure> {
    serde_json::to_writer(&mut *out, line).map_err(io::Error::from)?;
    Ok(out.write_all(b"\n")?)
}
