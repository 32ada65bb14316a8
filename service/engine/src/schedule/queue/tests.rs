use super::*;
use proptest::prelude::*;
use std::time::Duration;

fn header(id: u64, latency: Latency, prefix: usize) -> Header {
    Header { id, latency, prefix, deadline: None }
}

fn tokens(slices: &[Slice], wanted: impl Fn(u64) -> bool) -> usize {
    slices.iter().filter(|slice| wanted(slice.id)).map(|slice| slice.tokens).sum()
}

#[derive(Clone, Debug)]
struct Arrival {
    latency: Latency,
    prefix: usize,
    lengths: Vec<usize>,
    /// The batch before which it arrives.
    batch: usize,
}

fn latency() -> impl Strategy<Value = Latency> {
    prop_oneof![Just(Latency::Fast), Just(Latency::Slow)]
}

fn arrivals() -> impl Strategy<Value = Vec<Arrival>> {
    let arrival = (latency(), 1..20usize, prop::collection::vec(1..60usize, 1..12), 0..10usize)
        .prop_map(|(latency, prefix, lengths, batch)| Arrival { latency, prefix, lengths, batch });
    prop::collection::vec(arrival, 1..10)
}

proptest! {
    /// A document lost or run twice is a wrong answer; a batch over its budget may not fit the
    /// device; a document of a caller who has gone takes time from the others.
    #[test]
    fn every_document_runs_once_in_order_within_the_budget(
        arrivals in arrivals(),
        budget in 1..100usize,
        leaves in prop::collection::vec(prop::option::weighted(0.2, 0..12usize), 10),
    ) {
        let mut queue = Queue::default();
        let mut taken = vec![Vec::new(); arrivals.len()];
        let mut gone = vec![false; arrivals.len()];
        for batch in 0.. {
            for (id, arrival) in arrivals.iter().enumerate() {
                if arrival.batch == batch {
                    let header = header(id as u64, arrival.latency, arrival.prefix);
                    queue.push(&header, 0, arrival.lengths.iter().copied());
                }
                if leaves[id] == Some(batch) && arrival.batch <= batch {
                    queue.remove(id as u64);
                    gone[id] = true;
                }
            }
            let slices = queue.take(budget);
            let total = tokens(&slices, |_| true);
            let documents: usize = slices.iter().map(|slice| slice.documents.len()).sum();
            prop_assert!(total <= budget || documents == 1, "{total} tokens in {slices:?}");
            for slice in slices {
                let id = slice.id as usize;
                prop_assert!(!gone[id]);
                let lengths = &arrivals[id].lengths[slice.documents.clone()];
                prop_assert_eq!(slice.tokens, arrivals[id].prefix + lengths.iter().sum::<usize>());
                taken[id].extend(slice.documents);
            }
            if batch > 12 && queue.is_empty() {
                break;
            }
            prop_assert!(batch < 5_000, "work stays in the queue");
        }
        for (id, arrival) in arrivals.iter().enumerate() {
            let all = if gone[id] { taken[id].len() } else { arrival.lengths.len() };
            prop_assert_eq!(&taken[id], &(0..all).collect::<Vec<_>>());
        }
    }

    /// The promise to small requests: one that comes behind a large one, at whatever moment, has
    /// run after two batches at most, so it waits for no more than two slices of the large one.
    #[test]
    fn a_small_request_waits_at_most_two_slices_of_a_large_one(
        lengths in prop::collection::vec(1..300usize, 150..400),
        small in prop::collection::vec(1..300usize, 1..12),
        budget in 4_000..8_000usize,
        before in 0..20usize,
        class in latency(),
    ) {
        let mut queue = Queue::default();
        queue.push(&header(0, class, 30), 0, lengths);
        for _ in 0..before {
            queue.take(budget);
        }
        queue.push(&header(1, class, 30), 0, small.iter().copied());
        let mut ran = 0;
        for batch in 0..2 {
            let slices = queue.take(budget);
            ran += slices.iter().filter(|slice| slice.id == 1).map(|slice| slice.documents.len()).sum::<usize>();
            prop_assert!(batch < 1 || ran == small.len(), "{ran} of {} documents", small.len());
        }
    }

    /// Nobody gets more of the device by sending longer documents or larger requests.
    #[test]
    fn requests_that_wait_get_equal_shares(
        lengths in prop::collection::vec((1..50usize, 1..500usize), 2..6),
        budget in 100..2_000usize,
    ) {
        let mut queue = Queue::default();
        for (id, &(prefix, length)) in lengths.iter().enumerate() {
            queue.push(&header(id as u64, Latency::Fast, prefix), 0, vec![length; 100_000 / length]);
        }
        let mut served = vec![0; lengths.len()];
        let longest = lengths.iter().map(|(prefix, length)| prefix + length).max().unwrap_or(0);
        for _ in 0..30 {
            for slice in queue.take(budget) {
                served[slice.id as usize] += slice.tokens;
            }
            let (least, most) = (served.iter().min(), served.iter().max());
            let gap = most.unwrap_or(&0) - least.unwrap_or(&0);
            prop_assert!(gap <= 2 * (budget + longest), "{served:?}");
        }
    }

    /// Batch work would never end on a busy server, or would hold up those who wait for an answer.
    #[test]
    fn slow_work_gets_its_fifth_and_no_more(
        fast in 1..100usize,
        slow in 1..10_000usize,
        budget in 500..3_000usize,
    ) {
        let mut queue = Queue::default();
        queue.push(&header(0, Latency::Fast, 1), 0, vec![fast; 900_000 / fast]);
        queue.push(&header(1, Latency::Slow, 1), 0, vec![slow; 900_000 / slow]);
        let (mut all, mut of_slow) = (0, 0);
        while all < 60 * budget.max(slow) {
            let slices = queue.take(budget);
            all += tokens(&slices, |_| true);
            of_slow += tokens(&slices, |id| id == 1);
        }
        let share = of_slow as f64 / all as f64;
        prop_assert!((0.15..0.25).contains(&share), "{share}");
    }

    /// Slow work that filled up the batches of an idle hour would pay for it when the server gets busy:
    /// it would stand still for minutes. In any stretch it gets its fifth, less three batches.
    #[test]
    fn slow_work_does_not_pay_for_room_that_nobody_wanted(
        trickle in prop::collection::vec(1..50usize, 0..200),
        slow in 1..400usize,
        budget in 500..3_000usize,
    ) {
        let mut queue = Queue::default();
        queue.push(&header(0, Latency::Slow, 1), 0, vec![slow; 1_500_000 / slow]);
        for (id, fast) in (1..).zip(trickle) {
            queue.push(&header(id, Latency::Fast, 1), 0, [fast]);
            queue.take(budget);
        }
        queue.push(&header(999, Latency::Fast, 1), 0, vec![9; 20_000]);
        let (mut all, mut of_slow) = (0, 0);
        while all < 30 * budget {
            let slices = queue.take(budget);
            all += tokens(&slices, |_| true);
            of_slow += tokens(&slices, |id| id == 0);
            prop_assert!(of_slow + 3 * budget >= all / SLOW_ONE_IN, "{of_slow} of {all}");
        }
    }
}

/// A lone class gets the whole device.
#[test]
fn one_class_alone_fills_batches() {
    for latency in [Latency::Fast, Latency::Slow] {
        let mut queue = Queue::default();
        queue.push(&header(0, latency, 1), 0, vec![9; 100]);
        assert_eq!(tokens(&queue.take(91), |_| true), 91);
    }
}

/// A pair over the budget would block the queue for ever.
#[test]
fn a_pair_over_the_budget_runs_alone() {
    let mut queue = Queue::default();
    queue.push(&header(0, Latency::Fast, 5), 0, [100]);
    queue.push(&header(1, Latency::Fast, 5), 0, [5; 4]);
    let batches: Vec<Vec<u64>> = std::iter::from_fn(|| {
        let slices = queue.take(10);
        (!slices.is_empty()).then(|| slices.iter().map(|slice| slice.id).collect())
    })
    .collect();
    assert!(batches.contains(&vec![0]), "{batches:?}");
    assert_eq!(batches.concat().len(), 5, "{batches:?}");
}

/// Work that nobody waits for any more must not run.
#[test]
fn what_is_late_leaves() {
    let now = Instant::now();
    let mut queue = Queue::default();
    let deadline = |seconds| now.checked_add(Duration::from_secs(seconds));
    queue.push(&Header { deadline: deadline(1), ..header(0, Latency::Fast, 1) }, 0, [1; 3]);
    queue.push(&Header { deadline: deadline(2), ..header(1, Latency::Slow, 1) }, 0, [1; 3]);
    queue.push(&header(2, Latency::Fast, 1), 0, [1; 3]);
    assert_eq!(queue.expire(now), [] as [u64; 0]);
    assert_eq!(queue.expire(now + Duration::from_secs(1)), [0]);
    assert_eq!(queue.take(100).iter().map(|slice| slice.id).collect::<Vec<_>>(), [2, 1]);
}

/// A stream adds documents while earlier ones run.
#[test]
fn documents_can_follow() {
    let mut queue = Queue::default();
    queue.push(&header(0, Latency::Fast, 2), 0, [3, 3]);
    assert_eq!(queue.take(5), [Slice { id: 0, documents: 0..1, tokens: 5 }]);
    queue.push(&header(0, Latency::Fast, 2), 2, [4]);
    assert_eq!(queue.take(50), [Slice { id: 0, documents: 1..3, tokens: 9 }]);
    assert!(queue.is_empty());
    queue.push(&header(0, Latency::Fast, 2), 3, [1]);
    assert_eq!(queue.take(50), [Slice { id: 0, documents: 3..4, tokens: 3 }]);
}
