use super::*;
use crate::model::{Batch, EncodedDocument, ScoreFailure};
use std::sync::mpsc;

mod overload;

/// Gives each document the sum of its prefix's and its own ids; waits at `gate` before each batch.
struct Sums {
    gate: Mutex<mpsc::Receiver<()>>,
    batches: Mutex<Vec<usize>>,
}

/// Ids that make a batch panic, fail, lose the device, and fit it alone only.
const PANICS: u32 = 666;
const FAILS: u32 = 999;
const LOST: u32 = 404;
const LARGE: u32 = 507;

impl Scorer for Sums {
    fn score(&self, batch: &Batch) -> Result<Vec<f32>, ScoreFailure> {
        // A closed gate is open for good.
        let _ = self.gate.lock().unwrap().recv();
        self.batches.lock().unwrap().push(batch.tokens());
        assert!(!batch.ids().contains(&PANICS), "a batch that panics");
        if batch.ids().contains(&FAILS) {
            return Err(ScoreFailure::Batch("unlucky".to_owned()));
        }
        if batch.ids().contains(&LOST) {
            return Err(ScoreFailure::Device("unplugged".to_owned()));
        }
        let spans = batch.last_spans();
        if batch.ids().contains(&LARGE) && spans.len() > 1 {
            return Err(ScoreFailure::Memory("full".to_owned()));
        }
        let sum = |rows: &std::ops::Range<usize>| batch.ids()[rows.clone()].iter().sum::<u32>();
        Ok(spans.iter().map(|span| (sum(&span.prefix) + sum(&span.own)) as f32).collect())
    }
}

const ROOMY: Limits = Limits {
    max_batch_tokens: 8,
    max_queued_tokens: 1000,
    max_queue: Duration::from_secs(1000),
    interactive: Duration::from_secs(1000),
    tokens_per_second: 0.0,
};

struct Bench {
    scheduler: Scheduler,
    scorer: Arc<Sums>,
    /// Holds the batches back until it is dropped.
    gate: Option<mpsc::Sender<()>>,
}

fn start(limits: Limits) -> Bench {
    let (open, gate) = mpsc::channel();
    let scorer = Arc::new(Sums { gate: Mutex::new(gate), batches: Mutex::default() });
    let scheduler = Scheduler::start(vec![scorer.clone() as Arc<dyn Scorer>], limits);
    Bench { scheduler, scorer, gate: Some(open) }
}

fn encoded(documents: &[&[u32]]) -> Vec<EncodedDocument> {
    let document = |ids: &&[u32]| EncodedDocument { ids: Arc::from(*ids), truncated: false };
    documents.iter().map(document).collect()
}

impl Bench {
    fn submit(&self, prefix: &[u32], documents: &[&[u32]]) -> Result<Scored, ScoreError> {
        let own: usize = documents.iter().map(|ids| ids.len()).sum();
        let (feed, scored) = self.scheduler.admit(None, Some(prefix.len() + own), None)?;
        feed.push(&Arc::from(prefix), &encoded(documents), 0)?;
        feed.finish();
        Ok(scored)
    }

    /// Waits until the worker has taken a batch.
    fn until_running(&self) {
        while self.scheduler.stats().inflight_tokens == 0 {
            std::thread::yield_now();
        }
    }
}

fn wait(mut scored: Scored) -> Result<Vec<f32>, ScoreError> {
    futures::executor::block_on(async {
        let mut logits = Vec::new();
        while let Some(scores) = scored.next().await {
            for score in scores? {
                logits.resize(logits.len().max(score.index + 1), f32::NAN);
                logits[score.index] = score.logit;
            }
        }
        Ok(logits)
    })
}

/// Scores must reach their own documents, whatever batches they rode in.
#[test]
fn answers_reach_their_documents_across_batches() {
    let mut bench = start(ROOMY);
    let first = bench.submit(&[100], &[&[1], &[2, 2], &[3, 3, 3], &[4; 9]]).unwrap();
    let second = bench.submit(&[200], &[&[5], &[6], &[5]]).unwrap();
    let empty = bench.submit(&[300], &[]).unwrap();
    bench.gate = None;
    assert_eq!(wait(first).unwrap(), [101.0, 104.0, 109.0, 136.0]);
    assert_eq!(wait(second).unwrap(), [205.0, 206.0, 205.0]);
    assert!(wait(empty).unwrap().is_empty());
    // The pair of ten tokens is over the budget of eight and runs alone; of two equal documents one
    // runs.
    let batches = bench.scorer.batches.lock().unwrap().clone();
    assert!(batches.iter().all(|tokens| *tokens <= 8 || *tokens == 10), "{batches:?}");
    let stats = bench.scheduler.stats();
    assert_eq!(
        (stats.batches, stats.batch_tokens),
        (batches.len() as u64, batches.iter().sum::<usize>() as u64)
    );
    assert_eq!(stats.queued_requests + stats.queued_fast_tokens + stats.queued_slow_tokens, 0);
}

/// One bad request must not take its neighbours or the server with it.
#[test]
fn a_failing_or_panicking_request_fails_alone() {
    let mut bench = start(ROOMY);
    // The gate holds these two in one batch behind the first.
    let running = bench.submit(&[1], &[&[1; 6]]).unwrap();
    bench.until_running();
    let failed = bench.submit(&[1], &[&[FAILS]]).unwrap();
    let panicked = bench.submit(&[1], &[&[PANICS]]).unwrap();
    let fine = bench.submit(&[1], &[&[2], &[3]]).unwrap();
    bench.gate = None;
    assert_eq!(wait(running).unwrap(), [7.0]);
    assert_eq!(wait(failed).unwrap_err(), ScoreError::Failed("unlucky".to_owned()));
    assert!(matches!(wait(panicked), Err(ScoreError::Failed(_))));
    assert_eq!(wait(fine).unwrap(), [3.0, 4.0]);
    assert!(bench.scheduler.is_healthy());
    // The three runs that failed did so in no time: the rate is not that of a miracle.
    assert_eq!(bench.scheduler.stats().batches, 2);
}

/// Memory that somebody else takes meanwhile must not fail requests that fit in parts.
#[test]
fn a_batch_over_the_memory_is_split() {
    let mut bench = start(ROOMY);
    let large = bench.submit(&[1], &[&[2], &[LARGE], &[3], &[4], &[5]]).unwrap();
    let fine = bench.submit(&[1], &[&[6]]).unwrap();
    bench.gate = None;
    assert_eq!(wait(large).unwrap(), [3.0, 508.0, 4.0, 5.0, 6.0]);
    assert_eq!(wait(fine).unwrap(), [7.0]);
}

/// Without its device the process must say so and end, not answer errors for ever.
#[test]
fn a_lost_device_ends_the_worker_and_every_request() {
    let mut bench = start(Limits { max_batch_tokens: 2, ..ROOMY });
    let lost = bench.submit(&[1], &[&[LOST]]).unwrap();
    let behind = bench.submit(&[1], &[&[2]]).unwrap();
    bench.gate = None;
    assert_eq!(wait(lost).unwrap_err(), ScoreError::Failed("unplugged".to_owned()));
    assert!(matches!(wait(behind), Err(ScoreError::Failed(_))));
    while bench.scheduler.is_healthy() {
        std::thread::yield_now();
    }
    assert!(matches!(bench.submit(&[1], &[&[2]]), Err(ScoreError::Closing)));
    bench.scheduler.close();
}

/// A full queue is an answer, not a wait.
#[test]
fn a_full_queue_refuses_whole_requests() {
    let mut bench = start(Limits { max_batch_tokens: 4, max_queued_tokens: 10, ..ROOMY });
    // Larger than the bound, but nothing else is there.
    let large = bench.submit(&[1; 3], &[&[1; 20], &[2; 20]]).unwrap();
    let refused = bench.submit(&[1], &[&[1]]);
    assert!(matches!(refused, Err(ScoreError::Overloaded { bound: crate::Bound::Memory, .. })));
    bench.gate = None;
    assert_eq!(wait(large).unwrap(), [23.0, 43.0]);
    while bench.scheduler.stats().inflight_tokens > 0 {
        std::thread::yield_now();
    }
    assert!(wait(bench.submit(&[1], &[&[1]]).unwrap()).is_ok());
}

/// Streams bring more than anybody knew at admission; many of them must not fill the memory.
#[test]
fn a_stream_waits_for_room_and_others_are_not_refused_for_it() {
    let mut bench = start(Limits { max_queued_tokens: 10, ..ROOMY });
    let (feed, scored) = bench.scheduler.admit(None, None, None).unwrap();
    let push = |ids: &[u32]| feed.push(&Arc::from([1]), &encoded(&[ids]), 0);
    assert_eq!(push(&[1; 6]), Ok(()));
    let full = ScoreError::Overloaded { bound: crate::Bound::Memory, retry_after: Duration::ZERO };
    assert_eq!(push(&[2; 6]), Err(full));
    bench.gate = None;
    while push(&[2; 6]).is_err() {
        std::thread::yield_now();
    }
    feed.finish();
    assert_eq!(wait(scored).unwrap(), [7.0, 13.0]);
}

/// A request of several queries that is let in by half would be paid for and not answered.
#[test]
fn parts_are_admitted_together_or_not_at_all() {
    let mut bench = start(Limits { max_queued_tokens: 10, ..ROOMY });
    let parts = |tokens: &[usize]| bench.scheduler.admit_parts(None, tokens.to_vec(), None);
    let admitted = parts(&[4, 4]).unwrap();
    assert!(parts(&[1, 2]).is_err());
    assert_eq!(bench.scheduler.stats().queued_requests, 2);
    let scored: Vec<Scored> = (1..)
        .zip(admitted)
        .map(|(id, (feed, scored))| {
            feed.push(&Arc::from([id]), &encoded(&[&[id; 3]]), 4).unwrap();
            feed.finish();
            scored
        })
        .collect();
    bench.gate = None;
    assert_eq!(
        scored.into_iter().map(|part| wait(part).unwrap()).collect::<Vec<_>>(),
        [[4.0], [8.0]]
    );
    while bench.scheduler.stats().inflight_tokens > 0 {
        std::thread::yield_now();
    }
    drop(bench.scheduler.admit_parts(None, vec![4, 4], None).unwrap());
    assert_eq!(bench.scheduler.stats().queued_requests, 0);
}

/// What an estimate took of the queue must come back, whatever the real size is.
#[test]
fn an_estimate_is_settled() {
    let mut bench = start(ROOMY);
    let (feed, scored) = bench.scheduler.admit(None, Some(500), None).unwrap();
    assert_eq!(bench.scheduler.stats().queued_fast_tokens, 500);
    feed.push(&Arc::from([1]), &encoded(&[&[1, 1], &[2]]), 300).unwrap();
    let queued = bench.scheduler.stats();
    assert_eq!(queued.queued_fast_tokens + queued.inflight_tokens, 204);
    feed.finish();
    let queued = bench.scheduler.stats();
    assert_eq!(queued.queued_fast_tokens + queued.inflight_tokens, 4);
    bench.gate = None;
    assert_eq!(wait(scored).unwrap(), [3.0, 3.0]);
    // Whichever half goes first, nothing of the request stays.
    let (feed, scored) = bench.scheduler.admit(None, Some(500), None).unwrap();
    drop(scored);
    drop(feed);
    let (feed, scored) = bench.scheduler.admit(None, Some(500), None).unwrap();
    drop(feed);
    assert_eq!(wait(scored).unwrap_err(), ScoreError::Cancelled);
    let stats = bench.scheduler.stats();
    assert_eq!((stats.queued_requests, stats.cancelled_requests), (0, 2));
}

/// Work for a caller who has hung up is work taken from the others.
#[test]
fn a_dropped_request_leaves_the_queue_at_once() {
    let mut bench = start(Limits { max_batch_tokens: 3, ..ROOMY });
    let running = bench.submit(&[1], &[&[1, 1]]).unwrap();
    bench.until_running();
    let dropped = bench.submit(&[7], &[&[7, 7], &[8, 8], &[9, 9]]).unwrap();
    let kept = bench.submit(&[2], &[&[2]]).unwrap();
    drop(dropped);
    let stats = bench.scheduler.stats();
    assert_eq!((stats.queued_fast_tokens, stats.cancelled_requests), (2, 1));
    bench.gate = None;
    assert_eq!(wait(running).unwrap(), [3.0]);
    assert_eq!(wait(kept).unwrap(), [4.0]);
    assert_eq!(bench.scorer.batches.lock().unwrap().len(), 2);
    assert_eq!(bench.scheduler.stats().cancelled_requests, 1);
}

/// A caller that hangs up mid-way costs the slice that runs, no more.
#[test]
fn a_request_dropped_while_it_runs_costs_one_slice() {
    let mut bench = start(Limits { max_batch_tokens: 3, ..ROOMY });
    let dropped = bench.submit(&[7], &[&[7, 7], &[8, 8], &[9, 9]]).unwrap();
    bench.until_running();
    drop(dropped);
    let kept = bench.submit(&[2], &[&[2]]).unwrap();
    bench.gate = None;
    assert_eq!(wait(kept).unwrap(), [4.0]);
    assert_eq!(*bench.scorer.batches.lock().unwrap(), [3, 2]);
}

/// A caller whose time is over must be told, and cost nothing more.
#[test]
fn a_deadline_ends_a_request_at_the_next_slice() {
    let mut bench = start(Limits { max_batch_tokens: 2, ..ROOMY });
    let late = bench.scheduler.admit(None, Some(1), Some(Instant::now()));
    assert!(matches!(late, Err(ScoreError::DeadlineExceeded)));
    let running = bench.submit(&[1], &[&[1]]).unwrap();
    bench.until_running();
    let deadline = Instant::now() + Duration::from_millis(1);
    let (feed, scored) = bench.scheduler.admit(None, Some(1), Some(deadline)).unwrap();
    feed.push(&Arc::from([1]), &encoded(&[&[5]]), 1).unwrap();
    while Instant::now() < deadline {
        std::thread::yield_now();
    }
    bench.gate = None;
    assert_eq!(wait(scored).unwrap_err(), ScoreError::DeadlineExceeded);
    assert_eq!(wait(running).unwrap(), [2.0]);
    assert_eq!(bench.scorer.batches.lock().unwrap().len(), 1);
}

/// Scores of a stream go out while its later documents are still on their way.
#[test]
fn scores_come_as_batches_finish() {
    let mut bench = start(Limits { max_batch_tokens: 3, ..ROOMY });
    bench.gate = None;
    let (feed, mut scored) = bench.scheduler.admit(Some(Latency::Slow), None, None).unwrap();
    assert_eq!(scored.latency(), Latency::Slow);
    let mut next = || futures::executor::block_on(scored.next());
    for (index, id) in [5, 6, 5].into_iter().enumerate() {
        feed.push(&Arc::from([1, 1]), &encoded(&[&[id]]), 0).unwrap();
        let scores = next().unwrap().unwrap();
        assert_eq!(scores, [Score { index, tokens: 3, truncated: false, logit: 2.0 + id as f32 }]);
    }
    feed.finish();
    assert_eq!(next(), None);
    assert_eq!(bench.scorer.batches.lock().unwrap().len(), 2);
}

/// Shutdown loses nothing that was admitted.
#[test]
fn close_answers_what_is_admitted_and_refuses_the_rest() {
    let mut bench = start(Limits { max_batch_tokens: 2, ..ROOMY });
    let queued: Vec<_> = (0..20).map(|i| bench.submit(&[i], &[&[1], &[2]]).unwrap()).collect();
    bench.gate = None;
    bench.scheduler.close();
    let refused = bench.scheduler.admit(None, Some(1), None);
    assert!(matches!(refused, Err(ScoreError::Closing)));
    assert!(bench.scheduler.is_healthy(), "it was closed, it has not failed");
    for (i, scored) in queued.into_iter().enumerate() {
        assert_eq!(wait(scored).unwrap(), [i as f32 + 1.0, i as f32 + 2.0]);
    }
}
