//! `top-documents`: the best documents, each by its best passage.

use super::rank::Reranker;
use super::rest::Rest;
use super::{DocumentResult, Query, Searcher, SnippetResult, documents_of, snippets, unit_score};
use crate::collection::{Granularity, Unit};
use crate::error::Error;
use std::collections::HashSet;

/// The `k` best documents; without a query all that the filter keeps, by path, whatever the reranker.
///
/// # Errors
/// [`Error::CollectionNotFound`], [`Error::ModelNotFound`], those of reranking.
pub(crate) async fn top_documents(
    searcher: &Searcher<'_>,
    query: &Query,
) -> Result<Vec<DocumentResult>, Error> {
    let mut results = match &query.text {
        None => Vec::new(),
        Some(_) => match searcher.reranker(query)? {
            None => by_words(searcher, query).await?,
            Some(reranker) => by_model(searcher, query, reranker).await?,
        },
    };
    results.truncate(query.k);
    let found: HashSet<_> = results.iter().map(|result| result.document.path.clone()).collect();
    let mut rest = Rest::new(searcher, query, false);
    while results.len() < query.k {
        let missing = query.k - results.len();
        let documents = rest.next(missing).await?;
        if documents.is_empty() {
            break;
        }
        let others = documents
            .into_iter()
            .filter(|(document, _)| !found.contains(&document.path))
            .map(|(document, _)| DocumentResult { document, score: 0.0 });
        results.extend(others.take(missing));
    }
    Ok(results)
}

async fn by_words(searcher: &Searcher<'_>, query: &Query) -> Result<Vec<DocumentResult>, Error> {
    let hits = searcher.search(query, Unit::Document, query.k, false).await?;
    let results = hits
        .into_iter()
        .map(|hit| DocumentResult { document: hit.document, score: unit_score(hit.score) });
    Ok(results.collect())
}

async fn by_model(
    searcher: &Searcher<'_>,
    query: &Query,
    reranker: Reranker<'_, '_>,
) -> Result<Vec<DocumentResult>, Error> {
    let depth = searcher.depth(query);
    let mut candidates = snippets::candidates(searcher, query, Granularity::Coarse, depth).await?;
    let documents: HashSet<_> =
        candidates.iter().map(|snippet| snippet.document.path.clone()).collect();
    if candidates.len() == depth && documents.len() < query.k {
        // Passages of a few long documents have taken all places: the others come with their best.
        let best = searcher.search(query, Unit::Document, query.k, true).await?;
        let others = best.into_iter().filter(|hit| !documents.contains(&hit.document.path));
        candidates.extend(others.map(SnippetResult::from));
    }
    let ranked = reranker.rank(candidates).await?;
    Ok(documents_of(&ranked, |snippet| (&snippet.document, snippet.score)))
}
