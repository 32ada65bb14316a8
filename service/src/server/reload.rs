//! Files that are read again when they change: keys and certificates.
//!
//! Their contents are looked at every few seconds, because the paths lead through symbolic links
//! that a mounted Secret swaps, which no modification time and not every notification shows.

use super::Ended;
use sha2::{Digest, Sha256};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;

/// How often the files are looked at: a key that leaked is shut out so soon.
const EVERY: Duration = Duration::from_secs(2);

/// The task that keeps what was read true to the files.
pub(super) struct Reload {
    what: &'static str,
    paths: Vec<PathBuf>,
    seen: Fingerprint,
    apply: Apply,
}

/// Takes the files' contents, or says what is wrong with them.
type Apply = Box<dyn FnMut(&[Vec<u8>]) -> Result<(), String> + Send>;

/// Of the contents, or of the error that reading them gave.
type Fingerprint = [u8; 32];

impl Reload {
    /// Reads the files, in this order, into a value that follows them once [`run`](Self::run) runs.
    ///
    /// # Errors
    /// What `parse` says, or the file that cannot be read.
    pub(super) fn start<T: Send + Sync + 'static>(
        what: &'static str,
        paths: Vec<PathBuf>,
        parse: impl Fn(&[Vec<u8>]) -> Result<T, String> + Send + 'static,
    ) -> Result<(Self, watch::Receiver<Arc<T>>), String> {
        let contents = read(&paths)?;
        let (sender, receiver) = watch::channel(Arc::new(parse(&contents)?));
        let apply = move |contents: &[Vec<u8>]| {
            sender.send_replace(Arc::new(parse(contents)?));
            Ok(())
        };
        let seen = fingerprint(&Ok(contents));
        Ok((Self { what, paths, seen, apply: Box::new(apply) }, receiver))
    }

    /// Follows the files for ever; what is wrong with a change goes to the log, and the old stays.
    pub(super) async fn run(mut self) -> Ended {
        let mut every = tokio::time::interval(EVERY);
        every.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            every.tick().await;
            let paths = self.paths.clone();
            let contents = tokio::task::spawn_blocking(move || read(&paths)).await?;
            let now = fingerprint(&contents);
            if now == self.seen {
                continue;
            }
            self.seen = now;
            let what = self.what;
            match contents.and_then(|contents| (self.apply)(&contents)) {
                Ok(()) => tracing::info!(what, "read again"),
                Err(error) => {
                    tracing::error!(what, %error, "not read again: what was read before stays");
                }
            }
        }
    }
}

fn read(paths: &[PathBuf]) -> Result<Vec<Vec<u8>>, String> {
    let read = |path: &PathBuf| {
        std::fs::read(path).map_err(|error| format!("cannot read `{}`: {error}", path.display()))
    };
    paths.iter().map(read).collect()
}

fn fingerprint(contents: &Result<Vec<Vec<u8>>, String>) -> Fingerprint {
    let mut hash = Sha256::new();
    match contents {
        Ok(files) => {
            for file in files {
                hash.update((file.len() as u64).to_le_bytes());
                hash.update(file);
            }
        }
        Err(error) => hash.update(error),
    }
    hash.finalize().into()
}
