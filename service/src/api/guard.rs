//! What stands in front of every handler of both protocols: the caller's key, and bounds on the
//! bytes, the time and the memory of a body.

use crate::auth::{Keys, Principal};
use crate::error::Error;
use bytes::Bytes;
use http::HeaderMap;
use http::header::AUTHORIZATION;
use http_body::{Body, Frame, SizeHint};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Sleep;

/// The keys of the moment; none: everybody may call.
pub(crate) type CurrentKeys = Option<watch::Receiver<Arc<Keys>>>;

/// Clones share the keys and the budget.
#[derive(Clone, Debug)]
pub(crate) struct Guard {
    keys: CurrentKeys,
    budget: Arc<Budget>,
    body_bytes: usize,
    body_timeout: Duration,
}

/// What the bodies that are being read and answered may hold together.
#[derive(Debug)]
struct Budget {
    limit: usize,
    used: AtomicUsize,
}

/// Which time a body is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pace {
    /// For all of it.
    Whole,
    /// For each next piece: the body is a stream that may go on for long.
    Piece,
}

impl Guard {
    /// A body may be `body_bytes` long and take `body_timeout`; all together hold `inflight_bytes`.
    pub(crate) fn new(
        keys: CurrentKeys,
        body_bytes: usize,
        body_timeout: Duration,
        inflight_bytes: usize,
    ) -> Self {
        let budget = Arc::new(Budget { limit: inflight_bytes, used: AtomicUsize::new(0) });
        Self { keys, budget, body_bytes, body_timeout }
    }

    /// One that refuses nobody.
    #[cfg(test)]
    pub(crate) fn open() -> Self {
        Self::new(None, usize::MAX, Duration::from_hours(1), usize::MAX)
    }

    /// Most bytes of a body.
    pub(crate) fn body_bytes(&self) -> usize {
        self.body_bytes
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
        pace: Pace,
        framing: usize,
        wrap: fn(Error) -> E,
    ) -> (Metered<B, E>, Held) {
        let held =
            Held(Arc::new(Charge { budget: Arc::clone(&self.budget), bytes: AtomicUsize::new(0) }));
        let metered = Metered {
            body,
            pace,
            wrap,
            limit: if pace == Pace::Whole { self.body_bytes } else { usize::MAX },
            framing,
            timeout: self.body_timeout,
            waiting: None,
            seen: None,
            charge: Arc::clone(&held.0),
        };
        (metered, held)
    }
}

/// The bytes of one request; they return to the budget when the last clone is dropped.
#[derive(Clone, Debug)]
#[must_use = "the bytes are free once this is dropped"]
pub(crate) struct Held(Arc<Charge>);

#[derive(Debug)]
struct Charge {
    budget: Arc<Budget>,
    bytes: AtomicUsize,
}

impl Charge {
    fn has_room_for(&self, bytes: usize) -> bool {
        let used = self.budget.used.load(Ordering::Relaxed);
        used.checked_add(bytes).is_some_and(|sum| sum <= self.budget.limit)
    }

    fn take(&self, bytes: usize) -> bool {
        let sum = |used: usize| used.checked_add(bytes).filter(|&sum| sum <= self.budget.limit);
        let taken =
            self.budget.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, sum).is_ok();
        if taken {
            self.bytes.fetch_add(bytes, Ordering::Relaxed);
        }
        taken
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.budget.used.fetch_sub(*self.bytes.get_mut(), Ordering::Relaxed);
    }
}

/// A body within its bounds.
pub(crate) struct Metered<B, E> {
    body: B,
    pace: Pace,
    wrap: fn(Error) -> E,
    limit: usize,
    framing: usize,
    timeout: Duration,
    /// Runs while the client is waited for.
    waiting: Option<Pin<Box<Sleep>>>,
    /// None before the first look.
    seen: Option<usize>,
    charge: Arc<Charge>,
}

impl<B: Body<Data = Bytes> + Unpin, E> Metered<B, E> {
    fn check(&mut self, next: Option<usize>) -> Result<(), Error> {
        let most = self.limit.saturating_add(self.framing);
        let (length, fits) = match (self.seen, next) {
            // A length that is announced is refused before a byte of it is asked for.
            (None, None) => {
                let lower = usize::try_from(self.body.size_hint().lower()).unwrap_or(usize::MAX);
                self.seen = Some(0);
                (lower, self.charge.has_room_for(lower))
            }
            (seen, next) => {
                let next = next.unwrap_or(0);
                let length = seen.unwrap_or(0).saturating_add(next);
                self.seen = Some(length);
                (length, length > most || self.charge.take(next))
            }
        };
        if length > most {
            Err(Error::BodyTooLarge { limit_bytes: self.limit })
        } else if fits {
            Ok(())
        } else {
            Err(Error::MemoryFull { limit_bytes: self.charge.budget.limit })
        }
    }

    fn poll_time(&mut self, context: &mut Context<'_>) -> Poll<Error> {
        let timeout = self.timeout;
        let waiting = self.waiting.get_or_insert_with(|| Box::pin(tokio::time::sleep(timeout)));
        waiting.as_mut().poll(context).map(|()| Error::BodyTimeout { timeout })
    }
}

impl<B, E> Body for Metered<B, E>
where
    B: Body<Data = Bytes> + Unpin,
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
                if this.pace == Pace::Piece {
                    this.waiting = None;
                }
                match this.check(Some(frame.data_ref().map_or(0, Bytes::len))) {
                    Ok(()) => return Poll::Ready(Some(Ok(frame))),
                    Err(error) => error,
                }
            }
            Poll::Ready(Some(Err(error))) => return Poll::Ready(Some(Err(error.into()))),
            Poll::Ready(None) => return Poll::Ready(None),
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
