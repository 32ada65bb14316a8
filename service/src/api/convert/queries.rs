//! Queries of a collection.

use crate::app::Admission;
use crate::collection::CollectionName;
use crate::collection::filter::Filter;
use crate::error::{Error, Location, Violation};
use crate::queries::Query;

/// Most bytes of a query for documents or pages, and most code points of one for snippets.
const MAX_QUERY: usize = 4096;

/// What a query is for, and so which limits it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sought {
    /// Whole documents.
    Documents,
    /// Pages.
    Pages,
    /// Parts of the text.
    Snippets,
}

/// The fields that all queries have in either protocol.
pub(crate) struct QueryFields {
    pub(crate) collection_name: String,
    /// None lists documents.
    pub(crate) query: Option<String>,
    pub(crate) k: i64,
    /// Or which rule it breaks.
    pub(crate) filter: Result<Filter, Error>,
    pub(crate) reranker: Option<String>,
    /// Whether `latency_mode` is `high`.
    pub(crate) deep: bool,
}

impl QueryFields {
    /// Checks the limits.
    pub(crate) fn into_request(
        self,
        sought: Sought,
        admission: &Admission,
    ) -> Result<Query, Error> {
        let Self { collection_name, query: text, k, filter, reranker, deep } = self;
        let collection = CollectionName::new(collection_name)?;
        let (length, unit) = match (&text, sought) {
            (None, _) => (0, ""),
            (Some(text), Sought::Snippets) => (text.chars().count(), "characters"),
            (Some(text), Sought::Documents | Sought::Pages) => (text.len(), "bytes"),
        };
        if length > MAX_QUERY {
            let message = format!("`query` is {length} {unit} long; the limit is {MAX_QUERY}");
            return Err(Error::Invalid { message });
        }
        let most = sought.most();
        let k = usize::try_from(k).ok().filter(|k| (1..=most).contains(k)).ok_or_else(|| {
            Error::Invalid { message: format!("`k` is {k}; it may be 1 to {most}") }
        })?;
        let &Admission { received, deadline, ref principal, .. } = admission;
        let (filter, principal) = (filter?, principal.clone());
        Ok(Query { collection, text, k, filter, reranker, deep, received, deadline, principal })
    }
}

impl Sought {
    /// Most results.
    fn most(self) -> usize {
        match self {
            Self::Documents => 2048,
            Self::Pages => 1024,
            Self::Snippets => 128,
        }
    }
}

/// What a wrong `latency_mode` is told.
pub(crate) fn latency_mode_violation() -> Violation {
    Violation {
        kind: "literal_error",
        location: vec![Location::Field("latency_mode")],
        message: "Input should be 'low' or 'high'",
    }
}
