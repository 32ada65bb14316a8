//! `reranker rerank`

mod documents;

use super::progress::Progress;
use super::{Failure, load};
use crate::config::{ComputeArgs, ModelChoice};
use crate::rerank::{self, RerankResult};
use clap::Args;
use reranker_engine::{Engine, PairScore, ScoreError, Scores};
use std::io::{self, Write};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

/// Documents that are scored between two steps of the progress bar.
const CHUNK: usize = 256;

/// What to score.
#[derive(Args, Debug)]
pub(super) struct RerankArgs {
    /// The text the documents are scored against
    query: String,

    /// The texts to score
    #[arg(value_name = "DOC")]
    documents: Vec<String>,

    /// File of further documents, one a line, or JSON Lines of objects with a `text`; `-` is
    /// standard input. Empty lines are skipped
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,

    /// Print one JSON object instead of a table
    #[arg(long)]
    json: bool,

    /// Print only the best N documents
    #[arg(long, value_name = "N")]
    top_n: Option<NonZeroUsize>,

    /// Model, see `reranker models`; SOURCE is a directory or
    /// `hf:ORGANISATION/REPOSITORY[@REVISION]`
    #[arg(long, env = "RERANKER_MODEL", value_name = "NAME[=SOURCE]", default_value = "demo")]
    model: ModelChoice,

    #[command(flatten)]
    compute: ComputeArgs,
}

pub(super) fn run(args: RerankArgs) -> Result<(), Failure> {
    let RerankArgs { query, mut documents, file, json, top_n, model, compute } = args;
    if let Some(file) = file {
        documents.extend(documents::read(&file).map_err(Failure::Failed)?);
    } else if documents.is_empty() {
        return Err(Failure::Usage("no documents: give some, or a --file".to_owned()));
    }
    let engine = load(&model, &compute.options())?;
    let scores =
        score(&engine, &query, &documents).map_err(|error| Failure::Failed(error.to_string()))?;
    let results = rerank::rank(&scores.pairs, top_n);
    let mut out = io::stdout().lock();
    if json {
        let answer = json_answer(&engine, &query, &documents, &scores, &results);
        writeln!(out, "{answer:#}")?;
    } else {
        write_table(&mut out, &documents, &results)?;
    }
    Ok(())
}

fn score(engine: &Engine, query: &str, documents: &[String]) -> Result<Scores, ScoreError> {
    let mut progress = Progress::new();
    let mut pairs = Vec::with_capacity(documents.len());
    let mut inference = Duration::ZERO;
    for chunk in documents.chunks(CHUNK) {
        let scores = engine.score(query, chunk)?;
        pairs.extend(scores.pairs);
        inference += scores.inference;
        progress.count("scoring: documents", pairs.len(), documents.len());
    }
    progress.finish();
    Ok(Scores { pairs, inference })
}

fn json_answer(
    engine: &Engine,
    query: &str,
    documents: &[String],
    scores: &Scores,
    results: &[RerankResult],
) -> serde_json::Value {
    let results: Vec<_> = results
        .iter()
        .map(|result| {
            let mut entry = serde_json::json!({
                "index": result.index,
                "relevance_score": result.relevance_score,
                "document": documents[result.index],
            });
            if result.truncated {
                entry["truncated"] = true.into();
            }
            entry
        })
        .collect();
    let total_tokens: usize = scores.pairs.iter().map(|pair: &PairScore| pair.tokens).sum();
    serde_json::json!({
        "model": engine.spec().name,
        "results": results,
        "total_bytes": rerank::total_bytes(query, documents),
        "total_tokens": total_tokens,
        "inference_latency": scores.inference.as_secs_f64(),
    })
}

/// Writes a line a document: score, bar, position and the text's beginning.
fn write_table(
    out: &mut impl Write,
    documents: &[String],
    results: &[RerankResult],
) -> io::Result<()> {
    const BAR: usize = 20;
    const TEXT: usize = 60;
    let width = documents.len().saturating_sub(1).to_string().len();
    for result in results {
        let filled = (result.relevance_score * BAR as f64).round() as usize;
        let bar = "█".repeat(filled.min(BAR));
        let (index, score) = (result.index, result.relevance_score);
        let text = beginning(&documents[index], TEXT);
        let cut = if result.truncated { "  (cut to the model's length)" } else { "" };
        writeln!(out, "{score:.4}  {bar:BAR$}  [{index:width$}] {text}{cut}")?;
    }
    Ok(())
}

/// At most `limit` characters on one line; what would move the cursor becomes a space.
fn beginning(text: &str, limit: usize) -> String {
    let mut characters = text.trim().chars().map(|c| if c.is_control() { ' ' } else { c });
    let mut line: String = characters.by_ref().take(limit).collect();
    if characters.next().is_some() {
        line.push('…');
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The table is what people judge a model by.
    #[test]
    fn the_table_shows_score_bar_position_and_text() {
        let documents = ["No.".to_owned(), format!("  Yes,\n\u{1b}[1m{}", "x".repeat(80))];
        let result = |index, relevance_score, truncated| RerankResult {
            index,
            relevance_score,
            raw_score: 0.0,
            truncated,
        };
        let results = [result(1, 1.0, true), result(0, 0.07, false)];
        let mut shown = Vec::new();
        write_table(&mut shown, &documents, &results).unwrap();
        let long = format!("Yes,  [1m{}…", "x".repeat(51));
        let bars = ["█".repeat(20), format!("█{}", " ".repeat(19))];
        assert_eq!(
            String::from_utf8(shown).unwrap(),
            format!(
                "1.0000  {}  [1] {long}  (cut to the model's length)\n0.0700  {}  [0] No.\n",
                bars[0], bars[1]
            )
        );
    }
}
