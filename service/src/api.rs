//! The protocols: everything that knows a wire format.
//!
//! A request is parsed and checked here, runs as a domain request in [`App`](crate::app::App), and
//! its answer is written here. Both protocols use the same checks (`convert`) and the same use-case.

mod canned;
pub(crate) mod convert;
pub(crate) mod fuzzing;
pub(crate) mod grpc;
pub(crate) mod guard;
pub(crate) mod http;
mod json;
pub(crate) mod links;

use crate::auth::Principal;
use crate::error::Error;
use ::http::Extensions;
use futures::FutureExt;
use std::panic::AssertUnwindSafe;

/// Tells the handlers who calls, and the logs of the request by which key.
pub(crate) fn admitted(principal: Principal, extensions: &mut Extensions) {
    if principal.key.is_some() {
        tracing::Span::current().record("key", &*principal.name);
    }
    extensions.insert(principal);
}

/// Who calls, as the [`Guard`](guard::Guard) in front of every handler has found.
pub(crate) fn principal(extensions: &Extensions) -> Principal {
    extensions.get().cloned().expect("the guard has let it in")
}

/// What a request does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    Read,
    /// Needs a key that may write.
    Write,
}

impl Access {
    /// Refuses those who may not.
    ///
    /// # Errors
    /// [`Error::ReadOnlyKey`]
    pub(crate) fn check(self, principal: &Principal) -> Result<(), Error> {
        if self == Self::Write && principal.read_only { Err(Error::ReadOnlyKey) } else { Ok(()) }
    }
}

/// Requests over this are decoded on the blocking pool: 64 KiB of JSON take about 0.1 ms, 16 MiB take 30.
const INLINE_BYTES: usize = 64 * 1024;

/// Does on the blocking pool what would hold up an async thread.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| Error::Internal { cause: format!("on the blocking pool: {error}") })?
}

/// Turns a panic of a handler into an internal error: one bad request must not end a connection
/// with other requests on it, or the process.
pub(crate) async fn catch_panic<T>(
    handler: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    // Nothing that a handler shares with other requests is left half-changed by an unwind: the
    // domain's state is behind short locks and atomics.
    match AssertUnwindSafe(handler).catch_unwind().await {
        Ok(result) => result,
        Err(payload) => Err(Error::panicked(payload.as_ref())),
    }
}
