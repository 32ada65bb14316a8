//! What the tests share: servers in the test's process, the real binary as a child process, raw
//! HTTP, scrapes, and small checkpoints.
//!
//! Loopback and free ports only. Nothing sleeps for a fixed time: [`until`] waits for a condition
//! and gives up after [`LIMIT`].

pub mod certificates;
pub mod checkpoint;
pub mod library;
pub mod process;
pub mod raw;
pub mod scrape;
pub mod server;

use std::future::Future;
use std::time::{Duration, Instant};

/// How long a test waits for what must happen: generous, because machines are loaded.
pub const LIMIT: Duration = Duration::from_mins(2);

/// Waits until `condition` holds.
///
/// # Panics
/// After [`LIMIT`], with `what`.
pub async fn until<F: Future<Output = bool>>(what: &str, mut condition: impl FnMut() -> F) {
    let start = Instant::now();
    while !condition().await {
        assert!(start.elapsed() < LIMIT, "waited {} s for: {what}", LIMIT.as_secs());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
