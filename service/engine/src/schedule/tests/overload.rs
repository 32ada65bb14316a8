//! More than the device can do, in virtual time: the scheduler is the real one, the device is
//! arithmetic.

use super::*;
use crate::schedule::worker::{self, Work};
use proptest::prelude::*;
use std::collections::HashMap;

/// Tokens a second, and what starting a batch costs: the demo model on two cores.
const RATE: f64 = 15_000.0;
const START: Duration = Duration::from_millis(2);
const LIMITS: Limits = Limits {
    max_batch_tokens: 768,
    max_queued_tokens: 1_500_000,
    max_queue: Duration::from_secs(10),
    interactive: Duration::from_secs(2),
    tokens_per_second: RATE,
};
const PREFIX: usize = 30;
const DOCUMENTS: usize = 10;
const DOCUMENT: usize = 125;
const REQUEST: usize = PREFIX + DOCUMENTS * DOCUMENT;

/// A scheduler without threads, whose batches take virtual time.
struct Simulation {
    scheduler: Scheduler,
    epoch: Instant,
    now: Duration,
    /// The batch on the device and when it ends.
    running: Option<(Vec<Work>, Duration)>,
    /// Who waits, since when.
    waiting: HashMap<u64, (Duration, Scored)>,
    /// Whose scores are complete: class and time.
    answered: Vec<(Latency, Duration)>,
    /// Tokens that ran, and when the last of them had.
    tokens: usize,
    last: Duration,
}

impl Simulation {
    fn new() -> Self {
        Self {
            scheduler: Scheduler::start(Vec::new(), LIMITS),
            epoch: Instant::now(),
            now: Duration::ZERO,
            running: None,
            waiting: HashMap::new(),
            answered: Vec::new(),
            tokens: 0,
            last: Duration::ZERO,
        }
    }

    /// A request of [`DOCUMENTS`] documents; its id if it is admitted.
    fn send(&mut self, latency: Option<Latency>) -> Option<u64> {
        let now = self.epoch + self.now;
        let size = Size::Parts(vec![REQUEST]);
        let (feed, scored) = self.scheduler.admit_at(now, latency, &size, None).ok()?.pop()?;
        let ids: Vec<Vec<u32>> = (0..DOCUMENTS as u32).map(|id| vec![id; DOCUMENT]).collect();
        let ids: Vec<&[u32]> = ids.iter().map(Vec::as_slice).collect();
        feed.push(&Arc::from([0; PREFIX]), &encoded(&ids), REQUEST).unwrap();
        let id = feed.id;
        feed.finish();
        self.waiting.insert(id, (self.now, scored));
        self.start_batch();
        Some(id)
    }

    fn start_batch(&mut self) {
        if self.running.is_none() {
            let work = self.scheduler.shared.lock().take(self.epoch + self.now);
            let tokens: usize = work.iter().map(|work| work.slice.tokens).sum();
            let time = START + Duration::from_secs_f64(tokens as f64 / RATE);
            self.running = (tokens > 0).then_some((work, self.now + time));
        }
    }

    /// Lets the device work until `until`, or until the batch that answers `id` has ended.
    fn run(&mut self, until: Duration, id: Option<u64>) {
        while let Some((work, end)) = self.running.take_if(|(_, end)| *end <= until) {
            (self.now, self.last) = (end, end);
            let tokens: usize = work.iter().map(|work| work.slice.tokens).sum();
            let documents = work.iter().map(|work| work.documents.len()).sum();
            worker::answer(&self.scheduler.shared, &work, &vec![1.0; documents], Duration::ZERO);
            self.scheduler.shared.lock().work.running -= tokens;
            self.tokens += tokens;
            self.settle();
            self.start_batch();
            if id.is_some_and(|id| !self.waiting.contains_key(&id)) {
                return;
            }
        }
        if until < Duration::MAX {
            self.now = until;
        }
    }

    fn settle(&mut self) {
        let Self { scheduler, now, waiting, answered, .. } = self;
        let state = scheduler.shared.lock();
        let (open, done) = std::mem::take(waiting)
            .into_iter()
            .partition(|(id, _)| state.requests.contains_key(id));
        drop(state);
        *waiting = open;
        let done: HashMap<u64, (Duration, Scored)> = done;
        answered.extend(
            done.values().map(|(sent, scored)| (scored.latency(), now.saturating_sub(*sent))),
        );
    }

    /// The times of a client that sends one request after the other for so long.
    fn client(&mut self, latency: Option<Latency>, length: Duration) -> Vec<Duration> {
        let end = self.now + length;
        let mut times = Vec::new();
        while self.now < end {
            let sent = self.now;
            if let Some(id) = self.send(latency) {
                self.run(Duration::MAX, Some(id));
                times.push(self.now.saturating_sub(sent));
            } else {
                self.run(sent + Duration::from_millis(10), None);
            }
        }
        times.sort();
        times
    }

    /// Tokens a second while there is always work.
    fn capacity(&mut self) -> f64 {
        for _ in 0..50 {
            self.send(Some(Latency::Slow));
        }
        let (start, tokens) = (self.now, self.tokens);
        self.run(Duration::MAX, None);
        (self.tokens - tokens) as f64 / self.last.saturating_sub(start).as_secs_f64()
    }

    fn took(&self, latency: Latency) -> impl Iterator<Item = Duration> {
        self.answered.iter().filter(move |answer| answer.0 == latency).map(|answer| answer.1)
    }
}

fn median(times: &[Duration]) -> Duration {
    times[times.len() / 2]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    /// A minute of too much work must not throw work away, keep its callers waiting longer than
    /// admission promised, nor be felt once it is over.
    #[test]
    fn an_overload_is_over_when_it_ends(
        gaps in prop::collection::vec(1e-9..1.0f64, 1_000..1_600).no_shrink(),
        factor in 1.5..4.0f64,
    ) {
        let mut simulation = Simulation::new();
        let capacity = simulation.capacity();
        let before = simulation.client(None, Duration::from_secs(2));
        simulation.answered.clear();
        let (start, tokens) = (simulation.now, simulation.tokens);
        let mut at = start;
        for gap in gaps {
            // Exponential: arrivals of many who know nothing of each other.
            at += Duration::from_secs_f64(-gap.ln() * REQUEST as f64 / (factor * capacity));
            simulation.run(at, None);
            simulation.send(None);
        }
        let completed = (simulation.tokens - tokens) as f64 / at.saturating_sub(start).as_secs_f64();
        prop_assert!(completed >= 0.95 * capacity, "{completed} of {capacity} tokens a second");

        simulation.client(None, Duration::from_secs(2));
        let after = simulation.client(None, Duration::from_secs(2));
        prop_assert!(median(&after) <= median(&before).mul_f64(1.05), "{after:?}");

        simulation.run(Duration::MAX, None);
        let longest = |latency| simulation.took(latency).max();
        prop_assert!(longest(Latency::Fast) <= Some(LIMITS.interactive), "{:?}", longest(Latency::Fast));
        // A slow request's own work takes as long as a fifth of the device needs for it.
        let own = Duration::from_secs_f64(queue::SLOW_ONE_IN as f64 * REQUEST as f64 / capacity);
        prop_assert!(longest(Latency::Slow) <= Some(LIMITS.max_queue + own), "{:?}", longest(Latency::Slow));
        prop_assert!(simulation.took(Latency::Slow).count() > 50, "slow work does not starve");
    }
}

/// Those who wait for an answer must not feel a batch job: at most the batch that runs, and room that
/// their own last batch leaves.
#[test]
fn slow_work_costs_a_fast_request_at_most_two_slices() {
    let mut simulation = Simulation::new();
    let slice = START + Duration::from_secs_f64(LIMITS.max_batch_tokens as f64 / RATE);
    let alone = simulation.client(Some(Latency::Fast), Duration::from_secs(2));
    for _ in 0..50 {
        simulation.send(Some(Latency::Slow));
    }
    let beside = simulation.client(Some(Latency::Fast), Duration::from_secs(2));
    assert!(beside.last() <= Some(&(alone[0] + 2 * slice)), "{beside:?}");
}
