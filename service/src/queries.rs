//! What is asked of a collection: snippets, pages, documents.
//!
//! `request -> candidates of the store -> (rerank) -> the k best -> what fills up to k`
//!
//! Without a reranker the score is BM25 `s` as `s / (1 + s)`; with one the model's. If fewer than `k`
//! share a word with the query, what else the filter keeps follows by path, with score 0.

mod documents;
mod pages;
mod rank;
mod rest;
mod snippets;

use crate::app::App;
use crate::auth::Principal;
use crate::collection::filter::Filter;
use crate::collection::{CollectionName, Found, Granularity, Hit, Search, Store, Unit};
use crate::error::Error;
pub(crate) use documents::top_documents;
pub(crate) use pages::top_pages;
use rank::Reranker;
pub(crate) use snippets::top_snippets;
use std::collections::HashSet;
use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

/// What all three ask.
#[derive(Clone, Debug)]
pub struct Query {
    /// Where.
    pub collection: CollectionName,
    /// What for; none lists documents by path, where that is allowed.
    pub text: Option<String>,
    /// Most results.
    pub k: usize,
    /// Which documents count.
    pub filter: Filter,
    /// The model that scores the candidates; none: BM25.
    pub reranker: Option<String>,
    /// Whether to look at more candidates (`latency_mode: "high"`).
    pub deep: bool,
    /// When the request arrived.
    pub received: Instant,
    /// When the caller stops waiting.
    pub deadline: Option<Instant>,
    /// Who calls.
    pub principal: Principal,
}

/// A document with its score.
#[derive(Clone, Debug)]
pub struct DocumentResult {
    /// Which.
    pub document: Arc<Found>,
    /// In 0..1.
    pub score: f64,
}

/// A page with its score.
#[derive(Clone, Debug)]
pub struct PageResult {
    /// Whose page.
    pub document: Arc<Found>,
    /// From 0.
    pub index: u32,
    /// In 0..1.
    pub score: f64,
    /// Its text, if asked for.
    pub text: Option<String>,
}

/// A snippet with its score.
#[derive(Clone, Debug)]
pub struct SnippetResult {
    /// Whose text it is from.
    pub document: Arc<Found>,
    /// Where in the text, in code points.
    pub chars: Range<u32>,
    /// Pages that it lies in.
    pub pages: Range<u32>,
    /// That part of the text.
    pub text: String,
    /// In 0..1.
    pub score: f64,
}

/// Results and the documents they are from, each once with its best score, as they first appear.
#[derive(Clone, Debug)]
pub struct Results<T> {
    /// Best first.
    pub results: Vec<T>,
    /// The documents of the results.
    pub documents: Vec<DocumentResult>,
}

/// What answers a query.
pub(crate) struct Searcher<'a> {
    /// Where candidates come from.
    pub(crate) store: &'a dyn Store,
    /// What scores pairs.
    pub(crate) app: &'a App,
    /// Candidates that a reranker sees at least.
    pub(crate) depth: usize,
}

impl Searcher<'_> {
    /// The reranker that a query names, if it is there.
    fn reranker<'q>(&self, query: &'q Query) -> Result<Option<Reranker<'_, 'q>>, Error> {
        let Some(name) = &query.reranker else { return Ok(None) };
        self.app.check_model(name)?;
        Ok(Some(Reranker { app: self.app, query }))
    }

    /// Candidates to look at before the `k` best are chosen by a reranker.
    fn depth(&self, query: &Query) -> usize {
        let depth = self.depth.max(query.k);
        if query.deep { depth.saturating_mul(DEEPER) } else { depth }
    }

    /// The best hits for the words of a query.
    async fn search(
        &self,
        query: &Query,
        unit: Unit,
        limit: usize,
        with_text: bool,
    ) -> Result<Vec<Hit>, Error> {
        let search = Search {
            query: query.text.clone().unwrap_or_default(),
            filter: query.filter.clone(),
            unit,
            limit,
            with_text,
        };
        let started = Instant::now();
        let hits = self.store.search(&query.collection, search).await?;
        self.app.metrics().searched(unit, started.elapsed());
        Ok(hits)
    }
}

/// How many times as many candidates `latency_mode: "high"` looks at.
const DEEPER: usize = 4;

/// BM25 in 0..1: it grows with the score, and compares within one answer.
fn unit_score(bm25: f32) -> f64 {
    let score = f64::from(bm25);
    score / (1.0 + score)
}

/// The documents of results as they first appear, each with its best score. Results are best first.
fn documents_of<T>(results: &[T], of: impl Fn(&T) -> (&Arc<Found>, f64)) -> Vec<DocumentResult> {
    let mut seen = HashSet::new();
    let results = results.iter().map(of).filter(|(document, _)| seen.insert(&document.path));
    results
        .map(|(document, score)| DocumentResult { document: Arc::clone(document), score })
        .collect()
}

/// What a snippet is cut to.
pub fn granularity(precise: bool) -> Granularity {
    if precise { Granularity::Fine } else { Granularity::Coarse }
}
