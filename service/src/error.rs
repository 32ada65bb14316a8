//! What can go wrong with a request, and what each protocol says about it.
//!
//! A leaf: knows no protocol crate. `Error -> ErrorCode -> Wire`: the table in
//! [`ErrorCode::wire`] is the only place where a gRPC code meets an HTTP status.

mod code;
#[cfg(test)]
mod tests;
mod violation;

use reranker_engine::Bound;
use std::any::Any;
use std::time::Duration;

pub use code::{ErrorCode, Wire};
use violation::Violations;
pub use violation::{Location, Violation};

/// Why a request has no answer. The text is for the caller and the same in both protocols.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// Fields that are missing, of the wrong type or out of range: all of them at once.
    #[error("{}", Violations(.0))]
    InvalidRequest(Vec<Violation>),
    /// A parameter of the query string is missing.
    #[error("query.{name}: Field required")]
    MissingParameter {
        /// Which.
        name: &'static str,
    },
    /// Query and documents together are longer than a request may be.
    #[error(
        "query and documents count {total_bytes} bytes (per document: 150 + query + document); \
         the limit is {limit_bytes}"
    )]
    InputTooLarge {
        /// By the formula of `total_bytes`.
        total_bytes: u64,
        /// The most that is accepted.
        limit_bytes: u64,
    },
    /// More documents than one request may bring.
    #[error("{documents} documents; the limit is {limit} a request")]
    TooManyDocuments {
        /// In the request.
        documents: usize,
        /// The most that is accepted.
        limit: usize,
    },
    /// Keys are configured and the request brought none.
    #[error("Not authenticated")]
    NoKey,
    /// The request's key is not one of those configured.
    #[error("invalid API key")]
    WrongKey,
    /// The key may only read.
    #[error("this API key is read-only")]
    ReadOnlyKey,
    /// The caller's time was over before the answer was there.
    #[error("the deadline passed before the answer was ready")]
    DeadlineExceeded,
    /// The caller's key has used up its rate.
    #[error("rate limit: {limit} per minute for this key; retry in {} s", retry_seconds(*retry_after))]
    RateLimited {
        /// What is limited, such as `500000 bytes of fast requests`.
        limit: String,
        /// When there is room again.
        retry_after: Duration,
    },
    /// One request is more than the caller's key may send in a whole minute.
    #[error(
        "the request counts {bytes} bytes; a key may send {limit} bytes of {class} requests per \
         minute: send fewer documents a call"
    )]
    OverQuota {
        /// By the formula of `total_bytes`.
        bytes: u64,
        /// The quota.
        limit: u64,
        /// `fast` or `slow`.
        class: &'static str,
    },
    /// The requests that are being read and answered hold all the memory there is for them.
    #[error(
        "overloaded: requests in flight hold the {limit_bytes} bytes there are for them; \
             retry in {} s",
        retry_seconds(MEMORY_RETRY)
    )]
    MemoryFull {
        /// What all together may hold.
        limit_bytes: usize,
    },
    /// The client began a body and did not send the rest.
    #[error("the request's body did not arrive within {} s", timeout.as_secs())]
    BodyTimeout {
        /// How long the server waited.
        timeout: Duration,
    },
    /// The raw request is longer than the server reads.
    #[error("the request is over {limit_bytes} bytes; send less in one call")]
    BodyTooLarge {
        /// The most that is accepted.
        limit_bytes: usize,
    },
    /// No model or alias of this name is loaded.
    #[error("model `{name}` not found; available: {}", available.join(", "))]
    ModelNotFound {
        /// What the caller asked for.
        name: String,
        /// Models, then aliases.
        available: Vec<String>,
    },
    /// No collection of this name.
    #[error("collection `{name}` not found")]
    CollectionNotFound {
        /// What the caller asked for.
        name: String,
    },
    /// No document of this path in the collection.
    #[error("document `{path}` not found in collection `{collection}`")]
    DocumentNotFound {
        /// Where the caller looked.
        collection: String,
        /// What the caller asked for.
        path: String,
    },
    /// The document has no such page, or is not parsed yet.
    #[error("{reason}")]
    PageNotFound {
        /// Which page of what, and why it is not there.
        reason: String,
    },
    /// A download's token is wrong, expired or of a document that is gone.
    #[error("the download link is wrong or has expired; ask for the document again")]
    DownloadNotFound,
    /// Collections are not kept by this server.
    #[error("collections are off; start the server with --data-dir to have them")]
    CollectionsOff,
    /// There is a collection of this name.
    #[error("collection `{name}` exists already")]
    CollectionExists {
        /// What the caller asked for.
        name: String,
    },
    /// There is a document of this path.
    #[error(
        "document `{path}` exists already in collection `{collection}`; set `overwrite` to replace it"
    )]
    DocumentExists {
        /// Where.
        collection: String,
        /// What the caller asked for.
        path: String,
    },
    /// The document's status does not allow the change.
    #[error("document `{path}` is `{status}`; {needs}")]
    WrongStatus {
        /// Which document.
        path: String,
        /// Its status.
        status: &'static str,
        /// What the change needs.
        needs: &'static str,
    },
    /// Well formed, and against a limit or rule that the message names.
    #[error("{message}")]
    Invalid {
        /// What is wrong, the limit and what would be right.
        message: String,
    },
    /// The disk is full or takes no writes.
    #[error("the server's disk takes no writes: {reason}; reads go on")]
    StorageFull {
        /// `full` or `read-only`.
        reason: &'static str,
    },
    /// No such path.
    #[error("route `{path}` not found")]
    RouteNotFound {
        /// As the caller wrote it.
        path: String,
    },
    /// The path exists for another method.
    #[error("method `{method}` not allowed for `{path}`")]
    MethodNotAllowed {
        /// As the caller wrote it.
        method: String,
        /// As the caller wrote it.
        path: String,
    },
    /// The request would wait too long, or the queue has no room for it.
    #[error("overloaded: {bound}; retry in {} s", retry_seconds(*retry_after))]
    Overloaded {
        /// What it would break.
        bound: Bound,
        /// When there is likely room again.
        retry_after: Duration,
    },
    /// The models are not loaded yet.
    #[error("loading the model; retry in {} s", retry_seconds(LOADING_RETRY))]
    Loading,
    /// The server is shutting down.
    #[error("the server is shutting down; retry in {} s", retry_seconds(DRAINING_RETRY))]
    Draining,
    /// A bug or a broken device. The cause goes to the log, not to the caller.
    #[error("internal error")]
    Internal {
        /// For the log.
        cause: String,
    },
}

/// A load takes seconds for a small model and minutes for a large one.
const LOADING_RETRY: Duration = Duration::from_secs(5);
/// Bodies come and go within a second or so.
const MEMORY_RETRY: Duration = Duration::from_secs(1);
/// Another replica is there at once.
const DRAINING_RETRY: Duration = Duration::from_secs(1);

impl Error {
    /// The row of the table this error belongs to.
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::InvalidRequest(_) | Self::MissingParameter { .. } => ErrorCode::InvalidRequest,
            Self::InputTooLarge { .. }
            | Self::TooManyDocuments { .. }
            | Self::OverQuota { .. }
            | Self::Invalid { .. } => ErrorCode::LimitExceeded,
            Self::WrongStatus { .. } => ErrorCode::FailedPrecondition,
            Self::CollectionExists { .. } | Self::DocumentExists { .. } => ErrorCode::AlreadyExists,
            Self::StorageFull { .. } => ErrorCode::StorageFull,
            Self::BodyTimeout { .. } => ErrorCode::BodyTimeout,
            Self::NoKey | Self::WrongKey => ErrorCode::Unauthenticated,
            Self::ReadOnlyKey => ErrorCode::PermissionDenied,
            Self::DeadlineExceeded => ErrorCode::DeadlineExceeded,
            Self::BodyTooLarge { .. } => ErrorCode::PayloadTooLarge,
            Self::ModelNotFound { .. }
            | Self::CollectionNotFound { .. }
            | Self::DocumentNotFound { .. }
            | Self::PageNotFound { .. }
            | Self::DownloadNotFound
            | Self::CollectionsOff => ErrorCode::NotFound,
            Self::RouteNotFound { .. } => ErrorCode::RouteNotFound,
            Self::MethodNotAllowed { .. } => ErrorCode::MethodNotAllowed,
            Self::Overloaded { .. } | Self::RateLimited { .. } | Self::MemoryFull { .. } => {
                ErrorCode::Overloaded
            }
            Self::Loading | Self::Draining => ErrorCode::Unavailable,
            Self::Internal { .. } => ErrorCode::Internal,
        }
    }

    /// Whole seconds from 1 to 60 until a retry makes sense, for errors that pass.
    pub fn retry_after_seconds(&self) -> Option<u64> {
        match self {
            Self::Overloaded { retry_after, .. } | Self::RateLimited { retry_after, .. } => {
                Some(retry_seconds(*retry_after))
            }
            Self::MemoryFull { .. } => Some(retry_seconds(MEMORY_RETRY)),
            Self::Loading => Some(retry_seconds(LOADING_RETRY)),
            Self::Draining => Some(retry_seconds(DRAINING_RETRY)),
            _ => None,
        }
    }

    /// Why the service turned away a request that is well formed, in one word for metrics; none if
    /// the request itself is at fault, or the service broke.
    pub fn refusal(&self) -> Option<&'static str> {
        match self {
            Self::Overloaded { bound, .. } => Some(match bound {
                Bound::Memory => "queue_full",
                Bound::Queue { .. } => "queue_wait",
                Bound::Deadline { .. } => "deadline_too_near",
                Bound::Interactive { .. } => "too_slow_for_fast",
            }),
            Self::RateLimited { .. } => Some("rate_limit"),
            Self::Loading => Some("loading"),
            Self::Draining => Some("draining"),
            other => other.code().refusal(),
        }
    }

    /// An internal error from a caught panic.
    pub(crate) fn panicked(payload: &(dyn Any + Send)) -> Self {
        let text = payload
            .downcast_ref::<&str>()
            .copied()
            .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
            .unwrap_or("no message");
        Self::Internal { cause: format!("panicked: {text}") }
    }
}

/// The official clients ignore values outside 1..=60.
fn retry_seconds(after: Duration) -> u64 {
    after.as_millis().div_ceil(1000).clamp(1, 60) as u64
}
