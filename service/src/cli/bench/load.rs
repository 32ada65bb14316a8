//! Puts the load on: sends requests when they are due, and notes what becomes of them.
//!
//! Memory is bounded by the number of outstanding requests, each a task that its permit and the
//! tracker own; a run has ended when all of them have.

use super::arrivals::Arrivals;
use super::grpc::Grpc;
use super::http::Http;
use super::statistics::{Counts, Outcome, Pace, Sample, Statistics, Summary};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Between two looks at the progress.
const PROGRESS: Duration = Duration::from_secs(1);

/// How much load, for how long.
#[derive(Clone, Copy, Debug)]
pub(super) struct Plan {
    pub(super) pace: Pace,
    pub(super) seed: u64,
    pub(super) warmup: Duration,
    pub(super) length: Length,
    pub(super) timeout: Duration,
    pub(super) max_outstanding: usize,
}

/// What ends the sending, after the warm-up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Length {
    Time(Duration),
    Requests(u64),
}

/// Where the requests go.
#[derive(Debug)]
pub(super) enum Target {
    Http(Http),
    Grpc(Grpc),
}

impl Target {
    async fn send(&self, index: usize) -> Outcome {
        match self {
            Self::Http(http) => http.send(index).await,
            Self::Grpc(grpc) => grpc.send(index).await,
        }
    }
}

/// How far a run is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Progress {
    pub(super) elapsed: Duration,
    pub(super) counts: Counts,
    pub(super) outstanding: usize,
}

#[derive(Debug)]
struct Run {
    plan: Plan,
    target: Target,
    start: Instant,
    statistics: Mutex<Statistics>,
    /// Requests of the measured period that are sent or about to be.
    measured: AtomicU64,
    /// Requests that are sent or about to be; decides whose turn it is.
    next: AtomicU64,
    permits: Arc<Semaphore>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

/// Puts `plan` on `target` until it is done or `stop` is cancelled; calls `observe` now and then.
pub(super) async fn run(
    plan: Plan,
    target: Target,
    stop: CancellationToken,
    mut observe: impl FnMut(Progress),
) -> Summary {
    let planned_end = match plan.length {
        Length::Time(length) => Some(plan.warmup + length),
        Length::Requests(_) => None,
    };
    let run = Arc::new(Run {
        plan,
        target,
        start: Instant::now(),
        statistics: Mutex::new(Statistics::new(plan.warmup, planned_end)),
        measured: AtomicU64::new(0),
        next: AtomicU64::new(0),
        permits: Arc::new(Semaphore::new(plan.max_outstanding)),
        tasks: TaskTracker::new(),
        stop,
    });
    let sending = match plan.pace {
        Pace::Open { per_second } => tokio::spawn(send_on_schedule(run.clone(), per_second)),
        Pace::Closed { clients } => {
            for _ in 0..clients {
                run.tasks.spawn(ask_again_and_again(run.clone()));
            }
            tokio::spawn(std::future::ready(()))
        }
    };
    let done = async {
        // A panic has been reported where it happened.
        let _ = sending.await;
        run.tasks.close();
        run.tasks.wait().await;
    };
    tokio::pin!(done);
    loop {
        tokio::select! {
            () = &mut done => break,
            () = tokio::time::sleep(PROGRESS) => observe(run.progress()),
        }
    }
    let now = run.start.elapsed();
    let end = planned_end.filter(|_| !run.stop.is_cancelled()).unwrap_or(now);
    run.statistics().summary(plan.pace, end)
}

/// An open loop's sender is a thread: the runtime's timers count whole milliseconds, which would all
/// be in the latencies.
async fn send_on_schedule(run: Arc<Run>, per_second: f64) {
    let (keep, stopped) = mpsc::sync_channel::<()>(0);
    let stop = run.stop.clone();
    let runtime = Handle::current();
    let mut sender = tokio::task::spawn_blocking(move || {
        for due in Arrivals::new(per_second, run.plan.seed) {
            if !run.takes(due) {
                break;
            }
            let wait = due.saturating_sub(run.start.elapsed());
            // Nothing is ever received: either the time is over or the run is stopped.
            if stopped.recv_timeout(wait) != Err(RecvTimeoutError::Timeout) {
                break;
            }
            match run.permits.clone().try_acquire_owned() {
                Ok(permit) => {
                    let request = run.clone();
                    let task = async move {
                        request.send(due).await;
                        drop(permit);
                    };
                    run.tasks.spawn_on(task, &runtime);
                }
                Err(_) => run.statistics().skip(due),
            }
        }
    });
    tokio::select! {
        // A panic has been reported where it happened.
        _ = &mut sender => {}
        () = stop.cancelled() => {
            drop(keep);
            let _ = sender.await;
        }
    }
}

/// One client of a closed loop.
async fn ask_again_and_again(run: Arc<Run>) {
    while !run.stop.is_cancelled() {
        let due = run.start.elapsed();
        if !run.takes(due) {
            break;
        }
        // There are at least as many permits as clients.
        let Ok(permit) = run.permits.acquire().await else { break };
        run.send(due).await;
        drop(permit);
    }
}

impl Run {
    /// Whether a request that is due then belongs to the run; counts it if so.
    fn takes(&self, due: Duration) -> bool {
        let Plan { warmup, length, .. } = self.plan;
        match length {
            Length::Time(length) => due < warmup + length,
            Length::Requests(_) if due < warmup => true,
            Length::Requests(requests) => self.measured.fetch_add(1, Ordering::Relaxed) < requests,
        }
    }

    async fn send(&self, due: Duration) {
        let index = self.next.fetch_add(1, Ordering::Relaxed);
        let sent = self.start.elapsed();
        let answer = tokio::time::timeout(self.plan.timeout, self.target.send(index as usize));
        let outcome = match self.stop.run_until_cancelled(answer).await {
            Some(Ok(outcome)) => outcome,
            Some(Err(_)) => Outcome::TimedOut,
            None => Outcome::Abandoned,
        };
        let finished = self.start.elapsed();
        self.statistics().record(Sample { due, sent, finished, outcome });
    }

    fn statistics(&self) -> MutexGuard<'_, Statistics> {
        self.statistics.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn progress(&self) -> Progress {
        Progress {
            elapsed: self.start.elapsed(),
            counts: self.statistics().counts(),
            outstanding: self.plan.max_outstanding - self.permits.available_permits(),
        }
    }
}
