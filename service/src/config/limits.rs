//! What requests, connections and keys may cost.

use crate::app::RequestLimits;
use crate::rate_limit::{Quota, Rates};
use crate::server::ConnectionLimits;
use clap::Args;
use std::num::{NonZeroU64, NonZeroUsize};
use std::time::Duration;

/// Flags of limits.
#[derive(Args, Clone, Debug)]
pub struct LimitsArgs {
    /// Most bytes of a request, counted as 150 + bytes of the query + bytes of the document, for each
    /// document; more is refused with 400 or `INVALID_ARGUMENT`. The query counts once for each document
    /// and is sent once, so this may be over --max-body-bytes
    #[arg(long, env = "RERANKER_MAX_REQUEST_BYTES", value_name = "BYTES",
          default_value_t = request().bytes)]
    pub max_request_bytes: u64,

    /// Most documents of a request; more are refused with 400 or `INVALID_ARGUMENT`. Without it as many
    /// as the bytes allow
    #[arg(long, env = "RERANKER_MAX_REQUEST_DOCUMENTS", value_name = "DOCUMENTS")]
    pub max_request_documents: Option<NonZeroUsize>,

    /// Most bytes of a request as it is sent: the HTTP body, the gRPC message, or all messages of a
    /// stream with 5 bytes of framing each; more is refused with 413 or `OUT_OF_RANGE`
    #[arg(long, env = "RERANKER_MAX_BODY_BYTES", value_name = "BYTES",
          default_value_t = request().body_bytes)]
    pub max_body_bytes: usize,

    /// The same for a request that adds a document to a collection; files are sent in base64, which
    /// takes a third more than they have. Without it 67108864, or --max-inflight-bytes if that is less
    #[arg(long, env = "RERANKER_MAX_DOCUMENT_BYTES", value_name = "BYTES",
          value_parser = clap::value_parser!(u32).range(1..=MAX_DOCUMENT_BYTES))]
    pub max_document_bytes: Option<u32>,

    /// Most bytes of bodies that all requests hold together while they are read and answered, and of
    /// answers until they are sent; a request that does not fit is refused with 429 or
    /// `RESOURCE_EXHAUSTED`
    #[arg(long, env = "RERANKER_MAX_INFLIGHT_BYTES", value_name = "BYTES",
          default_value_t = connections().inflight_bytes)]
    pub max_inflight_bytes: usize,

    /// Most open connections of each listener; one more is closed at once, so that its client can turn
    /// to another replica. Each takes a file descriptor (`ulimit -n`)
    #[arg(long, env = "RERANKER_MAX_CONNECTIONS", value_name = "CONNECTIONS",
          default_value_t = NonZeroUsize::new(connections().connections).expect("is not zero"))]
    pub max_connections: NonZeroUsize,

    /// Most bytes of a request's head, at least 8192; more is refused with 431
    #[arg(long, env = "RERANKER_MAX_HEADER_BYTES", value_name = "BYTES",
          default_value_t = connections().header_bytes,
          value_parser = clap::value_parser!(u32).range(8192..=1_048_576))]
    pub max_header_bytes: u32,

    /// Time from a connection to the head of its first request, TLS handshake included; then the
    /// connection is closed. An idle connection of HTTP/1.1 is closed after this or 75 s, whichever
    /// is longer
    #[arg(long, env = "RERANKER_HEADER_TIMEOUT_SECONDS", value_name = "SECONDS",
          default_value_t = seconds(connections().header_timeout))]
    pub header_timeout_seconds: NonZeroU64,

    /// Time for the body of a request, then 408 or `DEADLINE_EXCEEDED`. A client that takes nothing of what it is sent for so long is cut off
    #[arg(long, env = "RERANKER_BODY_TIMEOUT_SECONDS", value_name = "SECONDS",
          default_value_t = seconds(connections().body_timeout))]
    pub body_timeout_seconds: NonZeroU64,

    /// Age at which a gRPC or HTTP connection is told to go (GOAWAY; `connection: close`), give or take
    /// a tenth, so that clients spread over new replicas; its requests have 10 minutes to finish. 0:
    /// never. Those of the admin listener go after 5 minutes or earlier
    #[arg(long, env = "RERANKER_MAX_CONNECTION_AGE_SECONDS", value_name = "SECONDS",
          default_value_t = connections().age.map_or(0, |age| age.as_secs()))]
    pub max_connection_age_seconds: u64,

    /// Most bytes, counted as for --max-request-bytes, that each key may send a minute in requests with
    /// `latency: "fast"`; more is refused with 429 or `RESOURCE_EXHAUSTED`. The hosted API had
    /// 500000. A request without `latency` counts as slow once this is used up. Callers without a
    /// key share one account. Without this flag, as with the next three, there is no such limit
    #[arg(long, env = "RERANKER_FAST_BYTES_PER_MINUTE", value_name = "BYTES")]
    pub fast_bytes_per_minute: Option<NonZeroU64>,

    /// Most such requests. The hosted API had 1000
    #[arg(long, env = "RERANKER_FAST_REQUESTS_PER_MINUTE", value_name = "REQUESTS")]
    pub fast_requests_per_minute: Option<NonZeroU64>,

    /// Most bytes that each key may send a minute in requests with `latency: "slow"`. The hosted API had
    /// 5000000
    #[arg(long, env = "RERANKER_SLOW_BYTES_PER_MINUTE", value_name = "BYTES")]
    pub slow_bytes_per_minute: Option<NonZeroU64>,

    /// Most such requests
    #[arg(long, env = "RERANKER_SLOW_REQUESTS_PER_MINUTE", value_name = "REQUESTS")]
    pub slow_requests_per_minute: Option<NonZeroU64>,
}

/// Most bytes of a request that adds a document. Offsets in a text are 32 bits; a gibibyte leaves room for what JSON and base64 add.
pub const MAX_DOCUMENT_BYTES: i64 = 1 << 30;

fn request() -> RequestLimits {
    RequestLimits::default()
}

fn connections() -> ConnectionLimits {
    ConnectionLimits::default()
}

fn seconds(duration: Duration) -> NonZeroU64 {
    NonZeroU64::new(duration.as_secs()).expect("a default is not zero")
}

impl LimitsArgs {
    /// What one request may bring.
    pub(super) fn request(&self) -> RequestLimits {
        RequestLimits {
            bytes: self.max_request_bytes,
            documents: self.max_request_documents.map(NonZeroUsize::get),
            body_bytes: self.max_body_bytes,
            document_bytes: match self.max_document_bytes {
                Some(bytes) => bytes as usize,
                None => request().document_bytes.min(self.max_inflight_bytes),
            },
            patience: Duration::from_secs(self.body_timeout_seconds.get()),
        }
    }

    /// What connections and bodies may cost.
    ///
    /// # Errors
    /// Limits that contradict each other.
    pub(super) fn connections(&self, request: RequestLimits) -> Result<ConnectionLimits, String> {
        for (flag, bytes) in [
            ("--max-body-bytes", request.body_bytes),
            ("--max-document-bytes", request.document_bytes),
        ] {
            if self.max_inflight_bytes < bytes {
                return Err(format!(
                    "--max-inflight-bytes {} is below {flag} {bytes}: the largest request would \
                     never fit",
                    self.max_inflight_bytes
                ));
            }
        }
        let age = self.max_connection_age_seconds;
        Ok(ConnectionLimits {
            connections: self.max_connections.get(),
            header_bytes: self.max_header_bytes,
            header_timeout: Duration::from_secs(self.header_timeout_seconds.get()),
            body_timeout: Duration::from_secs(self.body_timeout_seconds.get()),
            age: (age > 0).then(|| Duration::from_secs(age)),
            inflight_bytes: self.max_inflight_bytes,
        })
    }

    /// What each key may ask for in a minute.
    ///
    /// # Errors
    /// A quota of bytes that no request of the allowed size fits.
    pub(super) fn rates(&self, request: RequestLimits) -> Result<Rates, String> {
        // A request without documents counts 0 bytes, the smallest other one 150.
        for (flag, quota) in [
            ("--fast-bytes-per-minute", self.fast_bytes_per_minute),
            ("--slow-bytes-per-minute", self.slow_bytes_per_minute),
        ] {
            if let Some(quota) = quota.filter(|quota| quota.get() < 150) {
                return Err(format!(
                    "{flag} {quota} is below 150, what an empty document counts: every request of \
                     up to --max-request-bytes {} would be refused",
                    request.bytes
                ));
            }
        }
        let quota = |bytes: Option<NonZeroU64>, requests: Option<NonZeroU64>| Quota {
            bytes: bytes.map(NonZeroU64::get),
            requests: requests.map(NonZeroU64::get),
        };
        Ok(Rates {
            fast: quota(self.fast_bytes_per_minute, self.fast_requests_per_minute),
            slow: quota(self.slow_bytes_per_minute, self.slow_requests_per_minute),
        })
    }
}
