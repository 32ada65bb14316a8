//! Checkpoints from the Hugging Face hub, in the cache that its Python library shares.
//!
//! Small files come through the hub client's snapshot. Weights come as one stream a file into
//! `NAME.incomplete` beside their place, so that a download that broke off, in this process or an
//! earlier one, goes on where it stopped.

use super::super::weights::{INDEX_FILE, weight_files};
use crate::{LoadError, LoadEvent};
use futures::StreamExt;
use hf_hub::repository::{HFRepository, RepoTypeModel};
use hf_hub::{HFClient, HFError};
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A hub that sends nothing for so long is asked again.
const SILENCE: Duration = Duration::from_mins(1);
/// Times a file is asked for again without a byte of progress.
const ATTEMPTS: usize = 5;

/// The folder of the cache that holds the files of a repository at a revision.
///
/// A pinned commit that the cache holds whole is taken without asking the hub.
pub(super) fn download(
    repository: &str,
    revision: &str,
    observe: &mut dyn FnMut(LoadEvent<'_>),
) -> Result<PathBuf, LoadError> {
    let failed = |reason: String| LoadError::Hub {
        repository: repository.to_owned(),
        revision: revision.to_owned(),
        reason,
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| failed(error.to_string()))?;
    runtime.block_on(async {
        let client = HFClient::new().map_err(|error| failed(explain(&error)))?;
        let (owner, name) = repository.split_once('/').unwrap_or(("", repository));
        let model = client.model(owner, name);
        let cached = model.snapshot_download().revision(revision).local_files_only(true).send();
        let cached = cached.await.ok().filter(|directory| is_complete(directory));
        match cached {
            Some(directory) if is_commit(revision) || is_offline() => return Ok(directory),
            None if is_offline() => {
                return Err(failed(
                    "HF_HUB_OFFLINE is set and the cache does not hold it; unset it, or fill the \
                     cache first"
                        .to_owned(),
                ));
            }
            _ => {}
        }
        let small_files = ["config.json", "tokenizer.json", INDEX_FILE].map(str::to_owned);
        let directory = model
            .snapshot_download()
            .revision(revision)
            .allow_patterns(small_files.to_vec())
            .send()
            .await
            .map_err(|error| failed(explain(&error)))?;
        let files = weight_files(&directory)?;
        fetch_weights(&model, &directory, &files, &mut |bytes, total| {
            observe(LoadEvent::Download { repository, bytes, total });
        })
        .await
        .map_err(failed)?;
        Ok(directory)
    })
}

fn is_commit(revision: &str) -> bool {
    revision.len() == 40 && revision.bytes().all(|b| b.is_ascii_hexdigit())
}

fn is_offline() -> bool {
    std::env::var("HF_HUB_OFFLINE")
        .is_ok_and(|value| matches!(value.to_lowercase().as_str(), "1" | "true" | "yes" | "on"))
}

/// Whether a folder holds everything that loading reads.
fn is_complete(directory: &Path) -> bool {
    ["config.json", "tokenizer.json"].iter().all(|name| directory.join(name).is_file())
        && weight_files(directory).is_ok_and(|files| files.iter().all(|file| file.is_file()))
}

/// Fetches those of `files` that are not in `directory` yet; the folder's name is the commit.
async fn fetch_weights(
    model: &HFRepository<RepoTypeModel>,
    directory: &Path,
    files: &[PathBuf],
    observe: &mut dyn FnMut(u64, u64),
) -> Result<(), String> {
    let commit = directory.file_name().and_then(|name| name.to_str()).ok_or("no commit")?;
    let mut missing = Vec::new();
    let mut total = 0;
    for path in files.iter().filter(|path| !path.is_file()) {
        let name = path.file_name().and_then(|name| name.to_str()).ok_or("no file name")?;
        let metadata = model.get_file_metadata().filepath(name).revision(commit).send().await;
        let size = metadata.map_err(|error| format!("{name}: {}", explain(&error)))?.file_size;
        total += size;
        missing.push(Transfer { model, name, commit, path, size });
    }
    let mut before = 0;
    for transfer in missing {
        let result = transfer.run(&mut |bytes| observe(before + bytes, total)).await;
        result.map_err(|reason| format!("{}: {reason}", transfer.name))?;
        before += transfer.size;
    }
    Ok(())
}

/// One file on its way to `path`.
struct Transfer<'a> {
    model: &'a HFRepository<RepoTypeModel>,
    name: &'a str,
    commit: &'a str,
    path: &'a Path,
    size: u64,
}

impl Transfer<'_> {
    /// Goes on with what an earlier attempt left until the file is whole, then puts it in place.
    async fn run(&self, observe: &mut dyn FnMut(u64)) -> Result<(), String> {
        let partial = PathBuf::from(format!("{}.incomplete", self.path.display()));
        let cannot = |error: io::Error| format!("cannot write `{}`: {error}", partial.display());
        let mut file =
            OpenOptions::new().create(true).append(true).open(&partial).map_err(cannot)?;
        // Processes that share the cache take turns; the second finds the first one's file.
        file.lock().map_err(cannot)?;
        if self.path.is_file() {
            return Ok(());
        }
        if file.metadata().map_err(cannot)?.len() > self.size {
            file.set_len(0).map_err(cannot)?;
        }
        let mut failures = 0;
        loop {
            let before = file.metadata().map_err(cannot)?.len();
            if before == self.size {
                break;
            }
            let reason = match self.append(&mut file, before, observe).await {
                Ok(()) => "the hub ended the file early".to_owned(),
                Err(Broken::Disk(error)) => return Err(cannot(error)),
                Err(Broken::Hub(reason)) => reason,
            };
            let after = file.metadata().map_err(cannot)?.len();
            if after > self.size {
                file.set_len(0).map_err(cannot)?;
            }
            let progress = (before + 1..=self.size).contains(&after);
            failures = if progress { 0 } else { failures + 1 };
            if failures == ATTEMPTS {
                return Err(reason);
            }
            if after < self.size {
                tracing::warn!(file = self.name, reason, bytes = after, "download broke off");
                tokio::time::sleep(Duration::from_secs(failures as u64)).await;
            }
        }
        file.sync_all().map_err(cannot)?;
        std::fs::rename(&partial, self.path).map_err(cannot)
    }

    /// Appends bytes from `start` on until the stream ends or breaks.
    async fn append(
        &self,
        file: &mut File,
        start: u64,
        observe: &mut dyn FnMut(u64),
    ) -> Result<(), Broken> {
        let request = self
            .model
            .download_file_stream()
            .filename(self.name)
            .revision(self.commit)
            .range(start..self.size)
            .send();
        let (_, mut stream) = in_time(request).await?.map_err(|error| Broken::hub(&error))?;
        let mut bytes = start;
        while let Some(chunk) = in_time(stream.next()).await? {
            let chunk = chunk.map_err(|error| Broken::hub(&error))?;
            file.write_all(&chunk).map_err(Broken::Disk)?;
            bytes += chunk.len() as u64;
            observe(bytes);
        }
        Ok(())
    }
}

/// Why a stream ended early.
enum Broken {
    Disk(io::Error),
    Hub(String),
}

impl Broken {
    fn hub(error: &HFError) -> Self {
        Self::Hub(explain(error))
    }
}

async fn in_time<T>(work: impl Future<Output = T>) -> Result<T, Broken> {
    tokio::time::timeout(SILENCE, work)
        .await
        .map_err(|_| Broken::Hub(format!("nothing came for {} s", SILENCE.as_secs())))
}

/// What a hub error means to the person who starts the server.
fn explain(error: &HFError) -> String {
    const NO_REPOSITORY: &str =
        "no such repository, or it is private: check the name, or set HF_TOKEN";
    match error {
        HFError::RepoNotFound { .. } => NO_REPOSITORY.to_owned(),
        // The client calls every 404 of a revision's page so; the hub says what it meant.
        HFError::RevisionNotFound { context: Some(context), .. }
            if context.error_code.as_deref() == Some("RepoNotFound") =>
        {
            NO_REPOSITORY.to_owned()
        }
        HFError::RevisionNotFound { .. } => "no such revision".to_owned(),
        HFError::AuthRequired { .. } | HFError::Forbidden { .. } => {
            format!("access denied: set HF_TOKEN to a token that may read it ({error})")
        }
        error => {
            let mut text = error.to_string();
            let mut cause = std::error::Error::source(error);
            while let Some(error) = cause {
                text = format!("{text}: {error}");
                cause = error.source();
            }
            text
        }
    }
}
