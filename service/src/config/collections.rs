//! Where collections are kept, and how documents get into them.

use crate::collection::embedded::Language;
use crate::collection::ingest::IngestOptions;
use crate::parse::ParseLimits;
use clap::{Args, ValueEnum};
use std::path::PathBuf;

/// Flags of collections.
#[derive(Args, Clone, Debug)]
pub struct CollectionsArgs {
    /// Folder for collections, of this server alone; made if it is missing. Without it collections are
    /// off and their routes answer 404
    #[arg(long, env = "RERANKER_DATA_DIR", value_name = "DIRECTORY")]
    pub data_dir: Option<PathBuf>,

    /// What keeps collections: `embedded` (files in --data-dir) or `off` [default: embedded if there is a
    /// --data-dir]
    #[arg(long, env = "RERANKER_COLLECTIONS", value_name = "STORE", hide_possible_values = true)]
    pub collections: Option<CollectionsStore>,

    /// Language whose endings words lose for the search: none, arabic, danish, dutch, english, finnish,
    /// french, german, greek, hungarian, italian, norwegian, portuguese, romanian, russian, spanish,
    /// swedish, tamil or turkish. Another one than before makes the search indexes anew at start
    #[arg(long, env = "RERANKER_LANGUAGE", value_name = "LANGUAGE", default_value_t = Language::default())]
    pub language: Language,

    /// Passages that a query's reranker scores, 1 to 10000; more find more and cost more. A query with a
    /// larger `k` has as many as that, one with `latency_mode: "high"` four times as many
    #[arg(long, env = "RERANKER_CANDIDATES", value_name = "PASSAGES", default_value = "100",
          value_parser = clap::value_parser!(u16).range(1..=MAX_CANDIDATES))]
    pub candidates: u16,

    /// Workers that parse documents, and as many that index them, 1 to 64
    #[arg(long, env = "RERANKER_INGEST_WORKERS", value_name = "WORKERS", default_value = "2",
          value_parser = clap::value_parser!(u16).range(1..=MAX_WORKERS))]
    pub ingest_workers: u16,

    /// Address that links to documents and page images begin with, such as `https://rerank.example`;
    /// without it the one that the client has called; over gRPC a path then
    #[arg(long, env = "RERANKER_PUBLIC_URL", value_name = "URL", value_parser = public_url)]
    pub public_url: Option<String>,
}

/// Texts of so many candidates, and of four times as many, fit in memory beside those of other requests.
const MAX_CANDIDATES: i64 = 10_000;
/// More would wait for each other's commits.
const MAX_WORKERS: i64 = 64;

/// What keeps collections.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum CollectionsStore {
    /// Files of this process.
    Embedded,
    /// Nothing.
    Off,
}

fn public_url(text: &str) -> Result<String, String> {
    let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    match rest {
        Some(rest) if !rest.is_empty() && !rest.contains(['?', '#', ' ']) => Ok(text.to_owned()),
        _ => Err(format!("`{text}` is not https://HOST or http://HOST, with a path or without")),
    }
}

/// What a server with collections runs with.
#[derive(Clone, Debug)]
pub struct CollectionsConfig {
    /// The folder.
    pub folder: PathBuf,
    /// See [`CollectionsArgs::language`].
    pub language: Language,
    /// See [`CollectionsArgs::candidates`].
    pub candidates: usize,
    /// How documents are taken in.
    pub ingest: IngestOptions,
    /// See [`CollectionsArgs::public_url`].
    pub public_url: Option<String>,
}

impl CollectionsArgs {
    /// None: collections are off.
    pub(super) fn config(&self, mock: bool) -> Result<Option<CollectionsConfig>, String> {
        let folder = match (&self.data_dir, self.collections) {
            (None, Some(CollectionsStore::Embedded)) => {
                return Err("--collections embedded needs a --data-dir to keep them in".to_owned());
            }
            (None, _) | (_, Some(CollectionsStore::Off)) => return Ok(None),
            (Some(folder), _) if mock => {
                let folder = folder.display();
                return Err(format!(
                    "--mock keeps no collections: leave out --data-dir {folder} or --mock"
                ));
            }
            (Some(folder), _) => folder.clone(),
        };
        Ok(Some(CollectionsConfig {
            folder,
            language: self.language,
            candidates: self.candidates.into(),
            ingest: IngestOptions {
                workers: self.ingest_workers.into(),
                limits: ParseLimits::default(),
            },
            public_url: self.public_url.clone(),
        }))
    }
}
