//! What follows an add: parse, passages, index, by a bounded number of workers.
//!
//! All state is the store's: a worker claims what waits, works on it and ends the step. So a restart goes on
//! where the last process stopped, and what was replaced or deleted meanwhile is passed over by the store.

use super::{Claimed, ClaimedWork, DocumentText, Passages, Step, Store, Version, passages};
use crate::error::Error;
use crate::parse::{self, ParseLimits};
use std::panic::catch_unwind;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Files that one worker takes at a time, if there are several: small ones are parsed faster than they are
/// taken.
const PARSE_BYTES: u64 = 1 << 20;
/// Text that one commit of the search index takes in.
const INDEX_BYTES: u64 = 16 << 20;
/// Waits between attempts while the store takes no writes.
const FIRST_RETRY: Duration = Duration::from_millis(200);
const LAST_RETRY: Duration = Duration::from_secs(10);

/// How documents are taken in.
#[derive(Clone, Copy, Debug)]
pub struct IngestOptions {
    /// Workers of each step.
    pub workers: usize,
    /// What one file may cost.
    pub limits: ParseLimits,
}

/// What the workers of one store have done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Documents whose text was found.
    pub parsed: u64,
    /// Documents that could not be parsed.
    pub parsing_failed: u64,
    /// Documents that were indexed.
    pub indexed: u64,
    /// Documents that could not be indexed.
    pub indexing_failed: u64,
    /// Passages that were indexed, at both granularities.
    pub passages: u64,
    /// UTF-8 bytes of text that were indexed.
    pub bytes: u64,
}

impl Tally {
    fn add_indexed(&mut self, batch: &[(Claimed, Option<Passages>)]) {
        for (claimed, passages) in batch {
            match (passages, &claimed.work) {
                (Some(passages), ClaimedWork::Index(text)) => {
                    self.indexed += 1;
                    self.passages += (passages.coarse.len() + passages.fine.len()) as u64;
                    self.bytes += text.text.len() as u64;
                }
                _ => self.indexing_failed += 1,
            }
        }
    }
}

/// The workers of one store.
#[derive(Debug)]
pub struct Ingest {
    stop: CancellationToken,
    workers: TaskTracker,
    tally: Arc<Mutex<Tally>>,
}

impl Ingest {
    /// Starts the workers, on what waits already too. Needs a tokio runtime.
    pub fn start(store: &Arc<dyn Store>, options: IngestOptions) -> Self {
        let stop = CancellationToken::new();
        let workers = TaskTracker::new();
        let tally = Arc::<Mutex<Tally>>::default();
        for step in [Step::Parse, Step::Index] {
            for _ in 0..options.workers {
                let (store, tally) = (Arc::clone(store), Arc::clone(&tally));
                let worker = Worker { store, step, options, stop: stop.clone(), tally };
                workers.spawn(worker.run());
            }
        }
        workers.close();
        Self { stop, workers, tally }
    }

    /// What has been done since the start.
    pub fn tally(&self) -> Tally {
        *self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Stops the workers after what they are at.
    pub async fn close(&self) {
        self.stop.cancel();
        self.workers.wait().await;
    }
}

struct Worker {
    store: Arc<dyn Store>,
    step: Step,
    options: IngestOptions,
    stop: CancellationToken,
    tally: Arc<Mutex<Tally>>,
}

impl Worker {
    async fn run(self) {
        let mut retry = FIRST_RETRY;
        while !self.stop.is_cancelled() {
            let bytes = match self.step {
                Step::Parse => PARSE_BYTES,
                Step::Index => INDEX_BYTES,
            };
            match self.store.claim(self.step, bytes).await {
                Ok(claimed) if claimed.is_empty() => {
                    tokio::select! {
                        () = self.store.wait_for_work(self.step) => {}
                        () = self.stop.cancelled() => {}
                    }
                }
                Ok(claimed) => {
                    retry = FIRST_RETRY;
                    match self.step {
                        Step::Parse => self.parse(claimed).await,
                        Step::Index => self.index(claimed).await,
                    }
                }
                Err(error) => self.pause(&error, &mut retry).await,
            }
        }
    }

    fn count(&self, add: impl FnOnce(&mut Tally)) {
        add(&mut self.tally.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Waits before the next attempt, longer each time.
    async fn pause(&self, error: &Error, retry: &mut Duration) {
        match error {
            Error::Internal { cause } => {
                tracing::error!(cause, step = ?self.step, "ingestion failed");
            }
            error => tracing::warn!(%error, step = ?self.step, "ingestion waits"),
        }
        tokio::select! {
            () = tokio::time::sleep(*retry) => {}
            () = self.stop.cancelled() => {}
        }
        *retry = (*retry * 2).min(LAST_RETRY);
    }

    async fn parse(&self, claimed: Vec<Claimed>) {
        let mut outcomes = Vec::with_capacity(claimed.len());
        for Claimed { version, path, work, .. } in claimed {
            let ClaimedWork::Parse(bytes) = work else { continue };
            let limits = self.options.limits;
            let name = path.clone();
            let parsed =
                tokio::task::spawn_blocking(move || parse::parse(name.as_str(), &bytes, &limits));
            let outcome = match parsed.await {
                Ok(Ok(text)) => Some(text),
                Ok(Err(reason)) => {
                    tracing::warn!(%path, %reason, "a document could not be parsed");
                    None
                }
                Err(error) => {
                    tracing::error!(%path, %error, "the parser failed");
                    None
                }
            };
            outcomes.push((version, outcome));
        }
        // Together, for one commit.
        let ends = outcomes.into_iter().map(|(version, outcome)| self.end_parse(version, outcome));
        futures::future::join_all(ends).await;
    }

    async fn end_parse(&self, version: Version, outcome: Option<DocumentText>) {
        let mut retry = FIRST_RETRY;
        while let Err(error) = self.store.parsed(version, outcome.clone()).await {
            self.pause(&error, &mut retry).await;
            if self.stop.is_cancelled() {
                return;
            }
        }
        self.count(|tally| match outcome {
            Some(_) => tally.parsed += 1,
            None => tally.parsing_failed += 1,
        });
    }

    async fn index(&self, claimed: Vec<Claimed>) {
        let split = tokio::task::spawn_blocking(move || {
            let split = claimed.into_iter().map(|claimed| {
                let passages = match &claimed.work {
                    // A text that makes the splitter panic must not take the others with it.
                    ClaimedWork::Index(text) => catch_unwind(|| passages::split(text)).ok(),
                    ClaimedWork::Parse(_) => None,
                };
                if passages.is_none() {
                    tracing::error!(path = %claimed.path, "splitting a text into passages failed");
                }
                (claimed, passages)
            });
            split.collect::<Vec<_>>()
        });
        let batch = match split.await {
            Ok(batch) => batch,
            Err(error) => {
                tracing::error!(%error, "splitting texts into passages failed");
                return;
            }
        };
        match self.store.indexed(batch.clone()).await {
            Ok(()) => self.count(|tally| tally.add_indexed(&batch)),
            Err(Error::StorageFull { .. }) => self.index_again(batch).await,
            // One document may be at fault: it alone shall fail.
            Err(_) => {
                for one in batch {
                    self.index_again(vec![one]).await;
                }
            }
        }
    }

    /// Tries until the store takes it; what it cannot take, though there is room, has failed.
    async fn index_again(&self, mut batch: Vec<(Claimed, Option<Passages>)>) {
        let mut retry = FIRST_RETRY;
        while let Err(error) = self.store.indexed(batch.clone()).await {
            if let Error::Internal { .. } = &error {
                for (claimed, passages) in &mut batch {
                    tracing::error!(path = %claimed.path, "a document could not be indexed");
                    *passages = None;
                }
            }
            self.pause(&error, &mut retry).await;
            if self.stop.is_cancelled() {
                return;
            }
        }
        self.count(|tally| tally.add_indexed(&batch));
    }
}
