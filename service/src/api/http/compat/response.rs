//! Answers that the clients of other APIs read.

use super::Route;
use crate::rerank::{RerankResponse, RerankResult};
use serde::Serialize;
use uuid::Uuid;

/// One answer for Cohere, Jina, Voyage and vLLM: each finds the members it reads.
#[derive(Serialize)]
pub(super) struct UnionBody<'a> {
    id: String,
    object: &'static str,
    model: &'a str,
    /// Cohere, Jina, vLLM.
    results: Vec<ResultBody<Text<'a>>>,
    /// Voyage.
    data: Vec<ResultBody<&'a str>>,
    usage: Usage,
    /// Cohere.
    meta: Meta,
}

#[derive(Serialize)]
struct ResultBody<D> {
    index: usize,
    relevance_score: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    document: Option<D>,
}

#[derive(Serialize)]
struct Text<'a> {
    text: &'a str,
}

#[derive(Serialize)]
pub(super) struct Usage {
    prompt_tokens: u64,
    total_tokens: u64,
}

#[derive(Serialize)]
struct Meta {
    api_version: ApiVersion,
    billed_units: BilledUnits,
}

#[derive(Serialize)]
struct ApiVersion {
    version: &'static str,
}

#[derive(Serialize)]
struct BilledUnits {
    search_units: usize,
}

/// Cohere counts a search for up to so many documents.
const DOCUMENTS_PER_SEARCH_UNIT: usize = 100;

impl<'a> UnionBody<'a> {
    pub(super) fn new(
        response: &'a RerankResponse,
        documents: &'a [String],
        route: Route,
        return_documents: Option<bool>,
        raw_scores: bool,
    ) -> Self {
        let in_results = return_documents.unwrap_or(route != Route::V2);
        let in_data = return_documents.unwrap_or(false);
        let text = |result: &RerankResult| documents[result.index].as_str();
        let results = response.results.iter().map(|result| ResultBody {
            index: result.index,
            relevance_score: score(result, raw_scores),
            document: in_results.then(|| Text { text: text(result) }),
        });
        let data = response.results.iter().map(|result| ResultBody {
            index: result.index,
            relevance_score: score(result, raw_scores),
            document: in_data.then(|| text(result)),
        });
        Self {
            id: format!("rerank-{}", Uuid::new_v4()),
            object: "list",
            model: &response.model,
            results: results.collect(),
            data: data.collect(),
            usage: Usage::new(response.total_tokens),
            meta: Meta {
                api_version: ApiVersion { version: if route == Route::V2 { "2" } else { "1" } },
                billed_units: BilledUnits {
                    search_units: documents.len().div_ceil(DOCUMENTS_PER_SEARCH_UNIT),
                },
            },
        }
    }
}

impl Usage {
    pub(super) fn new(total_tokens: u64) -> Self {
        Self { prompt_tokens: total_tokens, total_tokens }
    }
}

/// An item of TEI's list.
#[derive(Serialize)]
pub(super) struct TeiResult<'a> {
    index: usize,
    score: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<&'a str>,
}

impl<'a> TeiResult<'a> {
    pub(super) fn list(
        response: &RerankResponse,
        texts: Option<&'a [String]>,
        raw_scores: bool,
    ) -> Vec<Self> {
        let results = response.results.iter().map(|result| Self {
            index: result.index,
            score: score(result, raw_scores),
            text: texts.map(|texts| texts[result.index].as_str()),
        });
        results.collect()
    }
}

pub(super) fn score(result: &RerankResult, raw: bool) -> f64 {
    if raw { result.raw_score } else { result.relevance_score }
}
