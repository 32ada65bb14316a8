//! The bytes of one connection: has the client begun, does it take what it is sent, is it sent anything?

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

/// What a client of HTTP/2 sends first.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// What is known of a client: shared by the wire and whoever waits for it.
#[derive(Clone, Debug, Default)]
pub(super) struct Signs(Arc<Seen>);

#[derive(Debug, Default)]
struct Seen {
    begun: AtomicBool,
    /// The last write has not been taken yet.
    waits: AtomicBool,
    writes: AtomicU64,
}

impl Signs {
    /// Notes that the client has said what it wants.
    pub(super) fn begin(&self) {
        self.0.begun.store(true, Ordering::Relaxed);
    }

    pub(super) fn has_begun(&self) -> bool {
        self.0.begun.load(Ordering::Relaxed)
    }

    /// Whether something waits to be taken by the client.
    pub(super) fn has_to_take(&self) -> bool {
        self.0.waits.load(Ordering::Relaxed)
    }

    /// How often the client has taken something.
    pub(super) fn writes(&self) -> u64 {
        self.0.writes.load(Ordering::Relaxed)
    }
}

/// A stream that notes the preface of HTTP/2 and fails if the other side takes nothing for too long.
pub(super) struct Wire<I> {
    io: I,
    signs: Signs,
    /// How much of the preface has been seen; none once it is complete or something else came.
    preface: Option<usize>,
    patience: Duration,
    stalled: Option<Pin<Box<Sleep>>>,
}

impl<I> Wire<I> {
    pub(super) fn new(io: I, signs: Signs, patience: Duration) -> Self {
        Self { io, signs, preface: Some(0), patience, stalled: None }
    }

    fn note(&mut self, bytes: &[u8]) {
        let Some(seen) = self.preface else { return };
        let rest = &PREFACE[seen..];
        let length = rest.len().min(bytes.len());
        if rest[..length] != bytes[..length] {
            self.preface = None;
        } else if length == rest.len() {
            self.preface = None;
            self.signs.begin();
        } else {
            self.preface = Some(seen + length);
        }
    }

    fn count(&self, written: &Poll<io::Result<usize>>) {
        if matches!(written, Poll::Ready(Ok(1..))) {
            self.signs.0.writes.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Passes on what a write has come to, and bounds the time it comes to nothing.
    fn bounded<T>(
        &mut self,
        context: &mut Context<'_>,
        written: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        self.signs.0.waits.store(written.is_pending(), Ordering::Relaxed);
        if written.is_ready() {
            self.stalled = None;
            return written;
        }
        let patience = self.patience;
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(tokio::time::sleep(patience)));
        stalled.as_mut().poll(context).map(|()| Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<I: AsyncRead + Unpin> AsyncRead for Wire<I> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.io).poll_read(context, buffer);
        self.note(&buffer.filled()[before..]);
        read
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for Wire<I> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write(context, bytes);
        self.count(&written);
        self.bounded(context, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write_vectored(context, pieces);
        self.count(&written);
        self.bounded(context, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.io).poll_flush(context);
        self.bounded(context, flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let shut = Pin::new(&mut self.io).poll_shutdown(context);
        self.bounded(context, shut)
    }
}
