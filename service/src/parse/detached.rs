//! Work that cannot be told to stop, on a thread that can be left behind.
//!
//! Nobody joins a thread that was given up; it ends when its work does. There are never more than
//! a few of them: after that, work is refused until one has ended.

use super::{Budget, ParseError, panicked};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;

/// Readers of PDF recurse into forms, patterns and fonts; only what is touched of it becomes memory.
const STACK_BYTES: usize = 256 << 20;

/// Each that is stuck may hold a core and what one file may expand to.
static READERS: Threads = Threads { most_stuck: 4, stuck: AtomicUsize::new(0) };

/// Runs `work` and waits for it as long as the budget has time.
pub(super) fn run<T: Send + 'static>(
    budget: &Budget,
    work: impl FnOnce() -> Result<T, ParseError> + Send + 'static,
) -> Result<T, ParseError> {
    READERS.run(budget, work)
}

struct Threads {
    most_stuck: usize,
    /// Threads that were given up and still run.
    stuck: AtomicUsize,
}

impl Threads {
    fn run<T: Send + 'static>(
        &'static self,
        budget: &Budget,
        work: impl FnOnce() -> Result<T, ParseError> + Send + 'static,
    ) -> Result<T, ParseError> {
        let stuck = self.stuck.load(Ordering::SeqCst);
        if stuck >= self.most_stuck {
            return Err(ParseError(format!(
                "`{stuck}` earlier files still keep the reader busy; parse this one later"
            )));
        }
        // Whoever comes second, the end of the work or of the patience, takes back what the other did.
        let is_over = Arc::new(AtomicBool::new(false));
        let (answer, answers) = mpsc::sync_channel(1);
        let thread = thread::Builder::new().name("parse".to_owned()).stack_size(STACK_BYTES);
        let started = thread.spawn({
            let is_over = Arc::clone(&is_over);
            move || {
                let outcome = catch_unwind(AssertUnwindSafe(work));
                // Nobody may wait for it any more.
                let _ = answer.send(outcome.unwrap_or_else(|panic| Err(panicked(&*panic))));
                if is_over.swap(true, Ordering::SeqCst) {
                    self.stuck.fetch_sub(1, Ordering::SeqCst);
                }
            }
        });
        let thread =
            started.map_err(|error| ParseError(format!("no thread to read it: {error}")))?;
        if let Ok(outcome) = answers.recv_timeout(budget.left()) {
            // It has nothing left to do but to end.
            let _ = thread.join();
            return outcome;
        }
        self.stuck.fetch_add(1, Ordering::SeqCst);
        if is_over.swap(true, Ordering::SeqCst) {
            self.stuck.fetch_sub(1, Ordering::SeqCst);
        }
        Err(budget.late())
    }
}

#[cfg(test)]
mod tests {
    use super::super::ParseLimits;
    use super::*;
    use std::time::{Duration, Instant};

    /// Files that hang the reader would hold up the parser for ever, or pile up threads until the process
    /// has none.
    #[test]
    fn work_that_hangs_is_left_behind_and_bounded() {
        static THREADS: Threads = Threads { most_stuck: 1, stuck: AtomicUsize::new(0) };
        let budget = |time| Budget::new(ParseLimits { time, ..ParseLimits::default() });
        let (release, released) = mpsc::channel();
        let hangs = move || {
            let _ = released.recv();
            Ok(())
        };
        let patience = Duration::from_millis(10);
        let error = THREADS.run(&budget(patience), hangs).unwrap_err();
        assert_eq!(error.0, "reading it takes longer than `0.01` s; split the file");
        let minute = Duration::from_mins(1);
        let error = THREADS.run(&budget(minute), || Ok(())).unwrap_err();
        assert_eq!(error.0, "`1` earlier files still keep the reader busy; parse this one later");

        release.send(()).unwrap();
        let started = Instant::now();
        while THREADS.stuck.load(Ordering::SeqCst) > 0 {
            assert!(started.elapsed() < minute, "the thread that ended still counts");
            thread::yield_now();
        }
        assert_eq!(THREADS.run(&budget(minute), || Ok(1)), Ok(1));
        let panics = || -> Result<(), _> { panic!("boom") };
        let error = THREADS.run(&budget(minute), panics).unwrap_err();
        assert_eq!(error.0, "the file is malformed; its reader panicked: boom");
    }
}
