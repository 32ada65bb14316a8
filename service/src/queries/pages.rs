//! `top-pages`: the best pages, each by its best passage.

use super::rest::Rest;
use super::{PageResult, Query, Results, Searcher, documents_of, unit_score};
use crate::collection::Unit;
use crate::error::Error;
use std::collections::HashSet;

/// The `k` best pages; with their texts if `with_text`.
///
/// # Errors
/// [`Error::CollectionNotFound`]
pub(crate) async fn top_pages(
    searcher: &Searcher<'_>,
    query: &Query,
    with_text: bool,
) -> Result<Results<PageResult>, Error> {
    let hits = searcher.search(query, Unit::Page, query.k, with_text).await?;
    let mut results: Vec<_> = hits
        .into_iter()
        .map(|hit| PageResult {
            document: hit.document,
            index: hit.passage.pages.start,
            score: unit_score(hit.score),
            text: hit.text,
        })
        .collect();
    let place = |page: &PageResult| (page.document.path.clone(), page.index);
    let found: HashSet<_> = results.iter().map(place).collect();
    // The text also tells how many pages there are.
    let mut rest = Rest::new(searcher, query, true);
    while results.len() < query.k {
        let missing = query.k - results.len();
        let documents = rest.next(missing).await?;
        if documents.is_empty() {
            break;
        }
        let pages = documents.iter().flat_map(|(document, text)| {
            text.iter().flat_map(move |text| {
                (0..text.pages.count().unwrap_or(1)).map(move |index| (document, text, index))
            })
        });
        let pages = pages
            .filter(|(document, _, index)| !found.contains(&(document.path.clone(), *index)))
            .map(|(document, text, index)| {
                let text = text.page(index.into()).filter(|_| with_text).map(str::to_owned);
                PageResult { document: document.clone(), index, score: 0.0, text }
            });
        results.extend(pages.take(missing));
    }
    let documents = documents_of(&results, |page| (&page.document, page.score));
    Ok(Results { results, documents })
}
