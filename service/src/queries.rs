//! What is asked of a collection: snippets, pages, documents.
//!
//! `request -> candidates of the store -> (rerank) -> the k best -> what fills up to k`
//!
//! Without a reranker the score is BM25 `s` as `s / (1 + s)`; with one the model's. If fewer than `k`
//! share a word with the query, what else the filter keeps follows by path, with score 0.

use crate::auth::Principal;
use crate::collection::filter::Filter;
use crate::collection::{CollectionName, Found, Granularity};
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

/// What a snippet is cut to.
pub fn granularity(precise: bool) -> Granularity {
    if precise { Granularity::Fine } else { Granularity::Coarse }
}
