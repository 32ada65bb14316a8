//! What stands in front of every handler of both protocols: the caller's key, and bounds on the
//! bytes, the time and the memory of a body.

mod budget;
mod untaken;

use crate::app::RequestLimits;
use crate::auth::{Keys, Principal};
use crate::error::Error;
use crate::metrics::note_cancelled;
use budget::Budget;
use bytes::Bytes;
use http::header::AUTHORIZATION;
use http::{HeaderMap, Version};
use http_body::{Body, Frame, SizeHint};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Sleep;

pub(crate) use budget::Held;
pub(crate) use untaken::Untaken;

/// The keys of the moment; none: everybody may call.
pub(crate) type CurrentKeys = Option<watch::Receiver<Arc<Keys>>>;

/// Clones share the keys and the budget.
#[derive(Clone, Debug)]
pub(crate) struct Guard {
    keys: CurrentKeys,
    budget: Arc<Budget>,
    body_bytes: usize,
    document_bytes: usize,
    body_timeout: Duration,
}

/// What a body is for, and so which bounds it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A request: has the bounds of one, and a time for all of it.
    Whole,
    /// A request that adds a document: as [`Whole`](Self::Whole) but for the length.
    Document,
    /// A stream of pieces that are answered as they come: all together are bounded as one request is.
    /// Its reader knows when its client is late, which may be waiting for the answers.
    Stream,
    /// Talk beside the API, of at most so many bytes; a time for each next piece. It is not charged:
    /// the window of HTTP/2 takes more memory, for any stream.
    Aside(usize),
}

impl Guard {
    /// A body may be as long as `limits` say and take `body_timeout`; all together hold
    /// `inflight_bytes`.
    pub(crate) fn new(
        keys: CurrentKeys,
        limits: RequestLimits,
        body_timeout: Duration,
        inflight_bytes: usize,
    ) -> Self {
        let RequestLimits { body_bytes, document_bytes, .. } = limits;
        let budget = Budget::new(inflight_bytes);
        Self { keys, budget, body_bytes, document_bytes, body_timeout }
    }

    /// One that refuses nobody.
    #[cfg(test)]
    pub(crate) fn open() -> Self {
        let limits = RequestLimits { body_bytes: usize::MAX, ..RequestLimits::default() };
        Self::new(None, limits, Duration::from_hours(1), usize::MAX)
    }

    /// Most bytes of a body of this kind.
    pub(crate) fn limit(&self, kind: Kind) -> usize {
        match kind {
            Kind::Whole | Kind::Stream => self.body_bytes,
            Kind::Document => self.document_bytes,
            Kind::Aside(bytes) => bytes,
        }
    }

    /// Who calls.
    ///
    /// # Errors
    /// [`Error::NoKey`], [`Error::WrongKey`].
    pub(crate) fn principal(&self, headers: &HeaderMap) -> Result<Principal, Error> {
        let Some(keys) = &self.keys else {
            return Ok(Principal::anonymous());
        };
        let keys = Arc::clone(&keys.borrow());
        let mut given = headers.get_all(AUTHORIZATION).iter();
        let found = keys.check(given.next().map(http::HeaderValue::as_bytes))?;
        // A proxy in front may have looked at another of two.
        if given.next().is_some() { Err(Error::WrongKey) } else { Ok(found) }
    }

    /// Bounds a body, which may be `framing` bytes longer than its content; refusals are its errors,
    /// made by `wrap`. The bytes return to the budget when the [`Held`] is dropped as well as the body.
    pub(crate) fn meter<B, E>(
        &self,
        body: B,
        kind: Kind,
        version: Version,
        framing: usize,
        wrap: fn(Error) -> E,
    ) -> (Metered<B, E>, Held) {
        let held = self.budget.open();
        let metered = Metered {
            body,
            kind,
            version,
            wrap,
            limit: self.limit(kind),
            framing,
            timeout: self.body_timeout,
            waiting: None,
            seen: None,
            held: held.clone(),
        };
        (metered, held)
    }
}

/// A body within its bounds.
pub(crate) struct Metered<B, E> {
    body: B,
    kind: Kind,
    version: Version,
    wrap: fn(Error) -> E,
    limit: usize,
    framing: usize,
    timeout: Duration,
    /// Runs while the client is waited for.
    waiting: Option<Pin<Box<Sleep>>>,
    /// None before the first look.
    seen: Option<usize>,
    held: Held,
}

/// Whether the client ended its connection or stream before the body's end.
fn is_cut_short(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut causes = std::iter::successors(Some(error), |error| error.source());
    causes.any(|cause| {
        // hyper says with one of these that a chunk is malformed.
        let is_malformed =
            |kind| matches!(kind, io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData);
        let in_http1 = |error: &io::Error| !is_malformed(error.kind());
        let in_http2 = |error: &h2::Error| error.is_io() || error.is_remote();
        cause.downcast_ref().is_some_and(in_http1) || cause.downcast_ref().is_some_and(in_http2)
    })
}

impl<B: Body<Data = Bytes> + Unpin, E> Metered<B, E> {
    fn check(&mut self, next: Option<usize>) -> Result<(), Error> {
        let most = self.limit.saturating_add(self.framing);
        let is_charged = !matches!(self.kind, Kind::Aside(_));
        let (length, fits) = match (self.seen, next) {
            // A length that is announced is refused before a byte of it is asked for.
            (None, None) => {
                let lower = usize::try_from(self.body.size_hint().lower()).unwrap_or(usize::MAX);
                self.seen = Some(0);
                (lower, !is_charged || self.held.has_room_for(lower))
            }
            (seen, next) => {
                let next = next.unwrap_or(0);
                let length = seen.unwrap_or(0).saturating_add(next);
                self.seen = Some(length);
                (length, length > most || !is_charged || self.held.take(next))
            }
        };
        if length > most {
            Err(Error::BodyTooLarge { limit_bytes: self.limit })
        } else if fits {
            Ok(())
        } else {
            Err(Error::MemoryFull { limit_bytes: self.held.limit() })
        }
    }

    fn poll_time(&mut self, context: &mut Context<'_>) -> Poll<Error> {
        if self.kind == Kind::Stream {
            return Poll::Pending;
        }
        let timeout = self.timeout;
        let waiting = self.waiting.get_or_insert_with(|| Box::pin(tokio::time::sleep(timeout)));
        waiting.as_mut().poll(context).map(|()| Error::BodyTimeout { timeout })
    }
}

impl<B, E> Body for Metered<B, E>
where
    B: Body<Data = Bytes, Error: std::error::Error + 'static> + Unpin,
    E: From<B::Error>,
{
    type Data = Bytes;
    type Error = E;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, E>>> {
        let this = &mut *self;
        if this.seen.is_none()
            && let Err(error) = this.check(None)
        {
            return Poll::Ready(Some(Err((this.wrap)(error))));
        }
        let refusal = match Pin::new(&mut this.body).poll_frame(context) {
            Poll::Pending => match this.poll_time(context) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(error) => error,
            },
            Poll::Ready(Some(Ok(frame))) => {
                if matches!(this.kind, Kind::Aside(_)) {
                    this.waiting = None;
                }
                match this.check(Some(frame.data_ref().map_or(0, Bytes::len))) {
                    Ok(()) => return Poll::Ready(Some(Ok(frame))),
                    Err(error) => error,
                }
            }
            Poll::Ready(Some(Err(error))) => {
                if is_cut_short(&error) {
                    note_cancelled();
                }
                return Poll::Ready(Some(Err(error.into())));
            }
            Poll::Ready(None) => {
                // hyper makes an end of some resets of a stream.
                if this.version == Version::HTTP_2 && !this.body.is_end_stream() {
                    note_cancelled();
                }
                return Poll::Ready(None);
            }
        };
        Poll::Ready(Some(Err((this.wrap)(refusal))))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::{BodyExt, StreamBody};

    /// A client that waits for the scores of what it has sent looks silent, and would be cut off.
    #[tokio::test]
    async fn a_stream_may_be_silent_for_longer_than_a_body() {
        let limits = RequestLimits { body_bytes: 100, ..RequestLimits::default() };
        let guard = Guard::new(None, limits, Duration::from_millis(1), 100);
        let silent = || StreamBody::new(futures::stream::pending::<Result<Frame<Bytes>, Error>>());
        let meter =
            |kind| guard.meter(Box::pin(silent()), kind, Version::HTTP_2, 0, |error| error).0;
        let (mut stream, mut whole) = (meter(Kind::Stream), meter(Kind::Whole));
        tokio::select! {
            biased;
            frame = stream.frame() => panic!("the stream ended: {frame:?}"),
            frame = whole.frame() => {
                assert!(matches!(frame, Some(Err(Error::BodyTimeout { .. }))), "{frame:?}");
            }
        }
    }
}
