//! What the filter keeps and no word of the query is in, by path: it fills results up to `k`.

use super::{Query, Searcher};
use crate::collection::{DocumentPath, DocumentText, Found, Store};
use crate::error::Error;
use std::sync::Arc;

/// Documents that are read at a time: fewer cost a call each, more are read for nothing.
const AT_A_TIME: std::ops::RangeInclusive<usize> = 16..=256;

/// The filtered set, as it is read.
pub(super) struct Rest<'a> {
    store: &'a dyn Store,
    query: &'a Query,
    with_text: bool,
    after: Option<DocumentPath>,
}

impl<'a> Rest<'a> {
    pub(super) fn new(searcher: &'a Searcher<'_>, query: &'a Query, with_text: bool) -> Self {
        Self { store: searcher.store, query, with_text, after: None }
    }

    /// The next documents, where so many results are missing; none: that was all.
    pub(super) async fn next(
        &mut self,
        missing: usize,
    ) -> Result<Vec<(Arc<Found>, Option<DocumentText>)>, Error> {
        let Query { collection, filter, .. } = self.query;
        let limit = missing.clamp(*AT_A_TIME.start(), *AT_A_TIME.end());
        let after = self.after.as_ref();
        let found = self.store.matching(collection, filter, after, limit, self.with_text).await?;
        if let Some((last, _)) = found.last() {
            self.after = Some(last.path.clone());
        }
        Ok(found.into_iter().map(|(found, text)| (Arc::new(found), text)).collect())
    }
}
