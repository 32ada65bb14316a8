//! `top-snippets`: the best passages.

use super::rest::Rest;
use super::{Query, Results, Searcher, SnippetResult, documents_of, unit_score};
use crate::collection::{DocumentPath, DocumentText, Found, Granularity, Hit, Unit, passages};
use crate::error::Error;
use std::collections::HashSet;
use std::sync::Arc;

/// The `k` best passages at a granularity.
///
/// # Errors
/// [`Error::CollectionNotFound`], [`Error::ModelNotFound`], those of reranking.
pub(crate) async fn top_snippets(
    searcher: &Searcher<'_>,
    query: &Query,
    granularity: Granularity,
) -> Result<Results<SnippetResult>, Error> {
    let mut results = match searcher.reranker(query)? {
        None => candidates(searcher, query, granularity, query.k).await?,
        Some(reranker) => {
            let depth = searcher.depth(query);
            reranker.rank(candidates(searcher, query, granularity, depth).await?).await?
        }
    };
    results.truncate(query.k);
    let documents = documents_of(&results, |snippet| (&snippet.document, snippet.score));
    Ok(Results { results, documents })
}

/// Documents and where passages of them start.
type Places = HashSet<(DocumentPath, u32)>;

/// The best passages by words, then, if those are too few, all others by path.
pub(super) async fn candidates(
    searcher: &Searcher<'_>,
    query: &Query,
    granularity: Granularity,
    wanted: usize,
) -> Result<Vec<SnippetResult>, Error> {
    let hits = searcher.search(query, Unit::Passage(granularity), wanted, true).await?;
    let mut results: Vec<_> = hits.into_iter().map(SnippetResult::from).collect();
    if results.len() == wanted {
        return Ok(results);
    }
    let place = |snippet: &SnippetResult| (snippet.document.path.clone(), snippet.chars.start);
    let found: Arc<Places> = Arc::new(results.iter().map(place).collect());
    let mut rest = Rest::new(searcher, query, true);
    loop {
        let missing = wanted - results.len();
        let documents = if missing > 0 { rest.next(missing).await? } else { Vec::new() };
        if documents.is_empty() {
            return Ok(results);
        }
        let found = Arc::clone(&found);
        // A text may be long.
        let split = tokio::task::spawn_blocking(move || {
            let snippets = documents.iter().flat_map(|(document, text)| {
                text.iter().flat_map(|text| split(document, text, granularity))
            });
            snippets.filter(|snippet| !found.contains(&place(snippet))).take(missing).collect()
        });
        let split: Result<Vec<_>, _> = split.await;
        let failed = |error| Error::Internal { cause: format!("splitting texts: {error}") };
        results.extend(split.map_err(failed)?);
    }
}

/// The passages of a document that no word of the query has found.
fn split(
    document: &Arc<Found>,
    text: &DocumentText,
    granularity: Granularity,
) -> impl Iterator<Item = SnippetResult> {
    let passages = passages::split(text);
    let passages = match granularity {
        Granularity::Coarse => passages.coarse,
        Granularity::Fine => passages.fine,
    };
    passages.into_iter().map(|passage| SnippetResult {
        document: Arc::clone(document),
        chars: passage.chars,
        pages: passage.pages,
        text: text.text[passage.bytes.start as usize..passage.bytes.end as usize].to_owned(),
        score: 0.0,
    })
}

impl From<Hit> for SnippetResult {
    fn from(hit: Hit) -> Self {
        let Hit { document, passage, score, text } = hit;
        Self {
            document,
            chars: passage.chars,
            pages: passage.pages,
            text: text.unwrap_or_default(),
            score: unit_score(score),
        }
    }
}
