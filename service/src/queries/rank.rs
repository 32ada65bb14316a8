//! Candidates in the order of a model.

use super::{Query, SnippetResult};
use crate::app::App;
use crate::error::Error;
use crate::rerank::RerankRequest;
use reranker_engine::Cuts;

/// A model that is there, for one query.
pub(super) struct Reranker<'a, 'q> {
    pub(super) app: &'a App,
    pub(super) query: &'q Query,
}

impl Reranker<'_, '_> {
    /// Gives snippets the relevance that `models/rerank` gives for their texts, and puts the best first;
    /// equal ones by path, then start.
    pub(super) async fn rank(
        &self,
        mut snippets: Vec<SnippetResult>,
    ) -> Result<Vec<SnippetResult>, Error> {
        let Query { text, reranker, received, deadline, principal, .. } = self.query;
        let request = RerankRequest {
            model: reranker.clone(),
            query: text.clone().unwrap_or_default(),
            documents: snippets.iter().map(|snippet| snippet.text.clone()).collect(),
            top_n: None,
            latency: None,
            cuts: Cuts::default(),
            received: *received,
            deadline: *deadline,
            principal: principal.clone(),
        };
        for result in self.app.rerank(request).await?.results {
            snippets[result.index].score = result.relevance_score;
        }
        snippets.sort_by(|a, b| {
            let place = |snippet: &SnippetResult| snippet.chars.start;
            b.score
                .total_cmp(&a.score)
                .then_with(|| a.document.path.cmp(&b.document.path))
                .then_with(|| place(a).cmp(&place(b)))
        });
        Ok(snippets)
    }
}
