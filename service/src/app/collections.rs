//! Collections as the protocols see them.

use super::{Admission, App};
use crate::collection::ingest::Ingest;
use crate::collection::{Granularity, Statistics, Store};
use crate::downloads::UrlSigner;
use crate::error::Error;
use crate::metrics::CollectionFigures;
use crate::queries::{self, DocumentResult, PageResult, Query, Results, Searcher, SnippetResult};
use futures::future::try_join;
use jiff::Timestamp;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::time::{timeout, timeout_at};

/// What a service with collections has.
#[derive(Debug)]
pub struct Collections {
    /// What keeps them.
    pub store: Arc<dyn Store>,
    /// What takes documents in.
    pub ingest: Ingest,
    /// Links to what they hold.
    pub urls: UrlSigner,
    /// Candidates that a reranker sees at least.
    pub candidates: usize,
}

/// Documents as they were counted.
#[derive(Clone, Copy, Debug)]
pub(super) struct Counted {
    at: Instant,
    statistics: Statistics,
    /// Of what is searchable next.
    waiting_since: Option<Timestamp>,
}

/// Documents are counted for metrics no more often: a store may look at each.
const RECOUNT: Duration = Duration::from_secs(5);
/// A scrape waits no longer for the count and goes on with the last one.
const COUNTING: Duration = Duration::from_secs(5);

impl Admission {
    /// What a store answers, if it is there by the caller's deadline. A write that is under way then may
    /// still be made.
    pub(crate) async fn within<T>(
        &self,
        answer: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        by(self.deadline, answer).await
    }
}

async fn by<T>(
    deadline: Option<Instant>,
    answer: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    match deadline {
        None => answer.await,
        Some(deadline) => {
            timeout_at(deadline.into(), answer).await.unwrap_or(Err(Error::DeadlineExceeded))
        }
    }
}

impl App {
    /// Gives the service its collections.
    ///
    /// # Panics
    /// If it has some already.
    pub fn serve_collections(&self, collections: Collections) {
        assert!(self.0.collections.set(collections).is_ok(), "collections are opened once");
    }

    /// Ends what works on collections, once nothing is asked any more.
    pub async fn close_collections(&self) {
        if let Ok(collections) = self.collections() {
            collections.ingest.close().await;
            collections.store.close().await;
        }
    }

    /// What keeps collections.
    ///
    /// # Errors
    /// [`Error::CollectionsOff`]
    pub(crate) fn store(&self) -> Result<Arc<dyn Store>, Error> {
        Ok(Arc::clone(&self.collections()?.store))
    }

    /// Links to what collections hold.
    ///
    /// # Errors
    /// [`Error::CollectionsOff`]
    pub(crate) fn urls(&self) -> Result<&UrlSigner, Error> {
        Ok(&self.collections()?.urls)
    }

    /// The best snippets.
    ///
    /// # Errors
    /// [`Error::CollectionsOff`], [`Error::CollectionNotFound`], [`Error::ModelNotFound`], those of
    /// [`rerank`](Self::rerank).
    pub async fn top_snippets(
        &self,
        query: Query,
        granularity: Granularity,
    ) -> Result<Results<SnippetResult>, Error> {
        let searcher = self.searcher()?;
        by(query.deadline, Box::pin(queries::top_snippets(&searcher, &query, granularity))).await
    }

    /// The best pages, with their texts if `with_text`.
    ///
    /// # Errors
    /// [`Error::CollectionsOff`], [`Error::CollectionNotFound`].
    pub async fn top_pages(
        &self,
        query: Query,
        with_text: bool,
    ) -> Result<Results<PageResult>, Error> {
        let searcher = self.searcher()?;
        by(query.deadline, Box::pin(queries::top_pages(&searcher, &query, with_text))).await
    }

    /// The best documents.
    ///
    /// # Errors
    /// As [`top_snippets`](Self::top_snippets).
    pub async fn top_documents(&self, query: Query) -> Result<Vec<DocumentResult>, Error> {
        let searcher = self.searcher()?;
        by(query.deadline, Box::pin(queries::top_documents(&searcher, &query))).await
    }

    /// What collections hold and what was taken in; none: they are off.
    pub(super) async fn collection_figures(&self) -> Option<CollectionFigures> {
        let Collections { store, ingest, .. } = self.collections().ok()?;
        let mut counted = self.0.counted.lock().await;
        if counted.is_none_or(|counted| counted.at.elapsed() >= RECOUNT) {
            let counting = try_join(store.statistics(None), store.waiting_since());
            if let Ok(Ok((statistics, waiting_since))) = timeout(COUNTING, counting).await {
                *counted = Some(Counted { at: Instant::now(), statistics, waiting_since });
            }
        }
        let counted = counted.map(|Counted { statistics, waiting_since, .. }| {
            let lag = waiting_since.map(|since| Timestamp::now().duration_since(since));
            // A clock that was set back makes it negative.
            let lag = lag.and_then(|lag| Duration::try_from(lag).ok()).unwrap_or_default();
            (statistics, lag)
        });
        Some(CollectionFigures { counted, tally: ingest.tally() })
    }

    fn searcher(&self) -> Result<Searcher<'_>, Error> {
        let Collections { store, candidates, .. } = self.collections()?;
        Ok(Searcher { store: &**store, app: self, depth: *candidates })
    }

    fn collections(&self) -> Result<&Collections, Error> {
        self.0.collections.get().ok_or(Error::CollectionsOff)
    }
}
