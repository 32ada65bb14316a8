//! The bytes that requests and their answers hold: counted together, returned one request at a time.

use super::untaken::{Taking, Untaken};
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

/// What all requests may hold together.
#[derive(Debug)]
pub(super) struct Budget {
    limit: usize,
    used: AtomicUsize,
}

impl Budget {
    pub(super) fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self { limit, used: AtomicUsize::new(0) })
    }

    /// An account of one request.
    pub(super) fn open(self: &Arc<Self>) -> Held {
        Held(Arc::new(Charge { budget: Arc::clone(self), bytes: AtomicUsize::new(0) }))
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

impl Held {
    /// Most bytes of all requests together.
    pub(super) fn limit(&self) -> usize {
        self.0.budget.limit
    }

    fn sum(&self, used: usize, bytes: usize) -> Option<usize> {
        used.checked_add(bytes).filter(|&sum| sum <= self.limit())
    }

    pub(super) fn has_room_for(&self, bytes: usize) -> bool {
        self.sum(self.0.budget.used.load(Ordering::Relaxed), bytes).is_some()
    }

    /// Takes bytes of a request, if there is room for them.
    pub(super) fn take(&self, bytes: usize) -> bool {
        let used = &self.0.budget.used;
        let sum = |used| self.sum(used, bytes);
        let taken = used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, sum).is_ok();
        if taken {
            self.0.bytes.fetch_add(bytes, Ordering::Relaxed);
        }
        taken
    }

    /// Takes bytes of an answer, with room or without: the work is done and the answer is there. It
    /// is the next request that finds no room.
    fn add(&self, bytes: usize) {
        self.0.budget.used.fetch_add(bytes, Ordering::Relaxed);
        self.0.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// An answer that keeps these bytes and its own counted until it is sent or dropped, and is one of
    /// its connection's `untaken` as long.
    pub(crate) fn through<B>(self, body: B, untaken: &Untaken) -> Answer<B>
    where
        B: Body<Data = Bytes> + Unpin,
    {
        let known = body.size_hint().exact();
        if let Some(bytes) = known {
            self.add(usize::try_from(bytes).unwrap_or(usize::MAX));
        }
        let counted = Counted { taking: untaken.begin(), _held: self.clone() };
        let is_counted = known.is_some();
        Answer { body, held: self, is_counted, rest: Bytes::new(), counted: Arc::new(counted) }
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.budget.used.fetch_sub(*self.bytes.get_mut(), Ordering::Relaxed);
    }
}

/// The most that is handed over at once: what the client takes shows in how these go.
pub(super) const PIECE: usize = 16 * 1024;

/// See [`Held::through`].
pub(crate) struct Answer<B> {
    body: B,
    held: Held,
    is_counted: bool,
    /// What the body has given and nobody has asked for yet.
    rest: Bytes,
    counted: Arc<Counted>,
}

/// What ends when the last piece of an answer is gone.
struct Counted {
    taking: Taking,
    _held: Held,
}

/// A piece of an answer. The server keeps it when the body has long ended: a client of HTTP/2 takes
/// as much as it likes and when it likes.
struct Piece {
    bytes: Bytes,
    counted: Arc<Counted>,
}

impl AsRef<[u8]> for Piece {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        self.counted.taking.goes_on();
    }
}

impl<B> Answer<B> {
    fn piece(&mut self) -> Frame<Bytes> {
        let bytes = self.rest.split_to(PIECE.min(self.rest.len()));
        self.counted.taking.goes_on();
        Frame::data(Bytes::from_owner(Piece { bytes, counted: Arc::clone(&self.counted) }))
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for Answer<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let this = &mut *self;
        if !this.rest.is_empty() {
            return Poll::Ready(Some(Ok(this.piece())));
        }
        Pin::new(&mut this.body).poll_frame(context).map_ok(|frame| match frame.into_data() {
            Ok(bytes) => {
                if !this.is_counted {
                    this.held.add(bytes.len());
                }
                this.rest = bytes;
                this.piece()
            }
            Err(trailers) => trailers,
        })
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let rest = self.rest.len() as u64;
        let body = self.body.size_hint();
        let mut hint = SizeHint::new();
        hint.set_lower(body.lower() + rest);
        if let Some(upper) = body.upper() {
            hint.set_upper(upper + rest);
        }
        hint
    }
}
