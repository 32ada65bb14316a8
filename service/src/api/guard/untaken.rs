//! Answers that a client has not taken yet: on HTTP/2 it decides by its window when it takes what.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// The answers of one connection that are not taken yet. Clones are of the same connection.
#[derive(Clone, Debug, Default)]
pub(crate) struct Untaken(Arc<Mutex<Answers>>);

#[derive(Debug, Default)]
struct Answers {
    next: u64,
    /// When the client last took something of each.
    taken: HashMap<u64, Instant>,
}

impl Untaken {
    /// Notes an answer.
    pub(super) fn begin(&self) -> Taking {
        let mut answers = self.lock();
        let number = answers.next;
        answers.next += 1;
        answers.taken.insert(number, Instant::now());
        Taking { answers: self.clone(), number }
    }

    /// Returns once the client has taken nothing of some answer for `patience`, or up to twice that.
    pub(crate) async fn stalled(&self, patience: Duration) {
        loop {
            let oldest = self.lock().taken.values().min().copied();
            let left = oldest.map_or(patience, |taken| patience.saturating_sub(taken.elapsed()));
            if left.is_zero() {
                return;
            }
            tokio::time::sleep(left).await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Answers> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An answer until all of it is taken.
pub(super) struct Taking {
    answers: Untaken,
    number: u64,
}

impl Taking {
    /// The client has taken something.
    pub(super) fn goes_on(&self) {
        self.answers.lock().taken.insert(self.number, Instant::now());
    }
}

impl Drop for Taking {
    fn drop(&mut self) {
        self.answers.lock().taken.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::super::budget::{Budget, PIECE};
    use super::*;
    use http_body_util::{BodyExt, Full};
    use std::task::{Context, Poll, Waker};

    /// A client on a bad line would never get its answer; one that stopped would keep it for ever.
    #[tokio::test(start_paused = true)]
    async fn what_is_taken_slowly_is_not_stalled() {
        let patience = Duration::from_mins(1);
        let untaken = Untaken::default();
        let body = Full::new(vec![0; 5 * PIECE].into());
        let mut answer = Budget::new(0).open().through(body, &untaken);
        let mut stalled = std::pin::pin!(untaken.stalled(patience));
        for _ in 0..5 {
            let wait = tokio::time::timeout(patience.mul_f64(0.9), stalled.as_mut());
            assert!(wait.await.is_err());
            assert!(answer.frame().await.is_some_and(|frame| frame.is_ok()));
        }
        let last = Full::new(vec![0].into());
        let mut last = Budget::new(0).open().through(last, &untaken);
        let piece = last.frame().await;
        drop((answer, last));
        assert!(tokio::time::timeout(2 * patience, stalled.as_mut()).await.is_ok());
        drop(piece);
        let mut stalled = std::pin::pin!(untaken.stalled(patience));
        tokio::time::sleep(10 * patience).await;
        assert_eq!(stalled.as_mut().poll(&mut Context::from_waker(Waker::noop())), Poll::Pending);
    }
}
