//! `reranker collections list`

use super::FolderArgs;
use crate::cli::Failure;
use crate::cli::table::{aligned, short};
use crate::collection::embedded::transfer::{Snapshot, Summary};
use clap::Args;
use serde_json::{Value, json};
use std::io::Write;

#[derive(Args, Debug)]
pub(super) struct ListArgs {
    #[command(flatten)]
    folder: FolderArgs,

    /// Print one JSON object, with the counts that `get-status` gives
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &ListArgs) -> Result<(), Failure> {
    let snapshot = Snapshot::open(&args.folder.data_dir)?;
    let collections = snapshot.collections();
    let text = if args.json {
        let collections: Vec<Value> = collections.iter().map(object).collect();
        format!("{}\n", json!({"collections": collections}))
    } else {
        table(collections)
    };
    Ok(std::io::stdout().lock().write_all(text.as_bytes())?)
}

fn object(summary: &Summary) -> Value {
    let Summary { name, num_shards, statistics } = summary;
    json!({
        "collection_name": name.as_str(),
        "num_shards": num_shards,
        "num_documents": statistics.documents(),
        "num_parsing_documents": statistics.parsing,
        "num_indexing_documents": statistics.indexing,
        "num_indexed_documents": statistics.indexed,
        "num_failed_documents": statistics.failed,
        "num_indexed_bytes": statistics.indexed_bytes,
    })
}

fn table(collections: &[Summary]) -> String {
    let header = ["COLLECTION", "DOCUMENTS", "INDEXED", "WAITING", "FAILED", "INDEXED TEXT"];
    let mut rows = vec![header.map(str::to_owned)];
    rows.extend(collections.iter().map(|Summary { name, statistics, .. }| {
        [
            // A name may hold what would move the cursor.
            name.as_str().replace(char::is_control, "\u{fffd}"),
            statistics.documents().to_string(),
            statistics.indexed.to_string(),
            (statistics.parsing + statistics.indexing).to_string(),
            statistics.failed.to_string(),
            short(statistics.indexed_bytes, "B"),
        ]
    }));
    aligned(&rows)
}
