//! Bodies that an early answer leaves unread.
//!
//! A server that closes a connection while its client still sends resets it, and the client may
//! never see the answer: "413" or "draining" become "connection reset". So what is left of a body
//! is read and thrown away, within bounds, while the answer is already on its way.

use axum::body::{Body, Bytes};
use http_body::{Body as _, Frame, SizeHint};
use http_body_util::BodyExt;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// How much of a body is thrown away before the connection is given up: 16 times what is read.
const MAX_BYTES: usize = 256 * 1024 * 1024;
/// How long.
const MAX_TIME: Duration = Duration::from_secs(10);

/// The tasks that read such bodies.
#[derive(Clone, Debug, Default)]
pub(crate) struct Lingering {
    tasks: TaskTracker,
    end: CancellationToken,
}

impl Lingering {
    /// Ends the tasks and waits for them.
    pub(crate) async fn end(&self) {
        self.end.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

/// A request's body that reads itself to its end when it is dropped early.
pub(super) struct Linger {
    body: Body,
    lingering: Lingering,
}

impl Linger {
    pub(super) fn wrap(body: Body, lingering: Lingering) -> Body {
        Body::new(Self { body, lingering })
    }
}

impl http_body::Body for Linger {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Linger {
    fn drop(&mut self) {
        if !self.body.is_end_stream() && tokio::runtime::Handle::try_current().is_ok() {
            let body = std::mem::take(&mut self.body);
            let end = self.lingering.end.clone();
            self.lingering.tasks.spawn(async move {
                // However it ends, nobody is left to tell.
                let read = tokio::time::timeout(MAX_TIME, read_out(body));
                end.run_until_cancelled(read).await;
            });
        }
    }
}

async fn read_out(mut body: Body) {
    let mut left = MAX_BYTES;
    while let Some(Ok(frame)) = body.frame().await {
        let length = frame.data_ref().map_or(0, Bytes::len);
        match left.checked_sub(length) {
            Some(rest) => left = rest,
            None => return,
        }
    }
}
