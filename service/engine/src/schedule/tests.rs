use super::*;
use crate::model::{Batch, EncodedDocument};
use std::sync::mpsc;

/// Gives each document the sum of its prefix's and its own ids; waits at `gate` before each batch.
struct Sums {
    gate: Mutex<mpsc::Receiver<()>>,
    batches: Mutex<Vec<usize>>,
}

impl Scorer for Sums {
    fn score(&self, batch: &Batch) -> Result<Vec<f32>, String> {
        // A closed gate is open for good.
        let _ = self.gate.lock().unwrap().recv();
        self.batches.lock().unwrap().push(batch.tokens());
        assert!(!batch.ids().contains(&666), "a batch that panics");
        if batch.ids().contains(&999) {
            return Err("unlucky".to_owned());
        }
        let spans = batch.last_spans();
        let sum = |rows: &std::ops::Range<usize>| batch.ids()[rows.clone()].iter().sum::<u32>();
        Ok(spans.iter().map(|span| (sum(&span.prefix) + sum(&span.own)) as f32).collect())
    }
}

fn start(limits: Limits) -> (Scheduler, Arc<Sums>, mpsc::Sender<()>) {
    let (open, gate) = mpsc::channel();
    let scorer = Arc::new(Sums { gate: Mutex::new(gate), batches: Mutex::default() });
    (Scheduler::start(scorer.clone(), limits), scorer, open)
}

fn pairs(prefix: &[u32], documents: &[&[u32]]) -> EncodedPairs {
    EncodedPairs {
        prefix: prefix.to_vec(),
        documents: documents
            .iter()
            .map(|ids| EncodedDocument { ids: ids.to_vec(), truncated: false })
            .collect(),
    }
}

const ROOMY: Limits = Limits { max_batch_tokens: 8, max_queued_tokens: 1000 };

/// Scores must reach their own documents, whatever batches they rode in.
#[test]
fn answers_reach_their_documents_across_batches() {
    let (scheduler, scorer, open) = start(ROOMY);
    let first = scheduler.submit(pairs(&[100], &[&[1], &[2, 2], &[3, 3, 3], &[4; 9]])).unwrap();
    let second = scheduler.submit(pairs(&[200], &[&[5], &[6]])).unwrap();
    let empty = scheduler.submit(pairs(&[300], &[])).unwrap();
    drop(open);
    assert_eq!(first.wait().unwrap().logits, [101.0, 104.0, 109.0, 136.0]);
    assert_eq!(second.wait().unwrap().logits, [205.0, 206.0]);
    assert!(empty.wait().unwrap().logits.is_empty());
    // The pair of ten tokens is over the budget of eight and runs alone.
    let batches = scorer.batches.lock().unwrap().clone();
    assert!(batches.iter().all(|tokens| *tokens <= 8 || *tokens == 10), "{batches:?}");
}

/// One bad request must not take its neighbours or the server with it.
#[test]
fn a_failing_or_panicking_batch_fails_only_its_own_requests() {
    let (scheduler, _, open) = start(Limits { max_batch_tokens: 2, ..ROOMY });
    drop(open);
    let failed = scheduler.submit(pairs(&[1], &[&[999], &[2]])).unwrap();
    assert_eq!(failed.wait().unwrap_err(), ScoreError::Failed("unlucky".to_owned()));
    let panicked = scheduler.submit(pairs(&[1], &[&[666]])).unwrap();
    assert!(matches!(panicked.wait(), Err(ScoreError::Failed(_))));
    let fine = scheduler.submit(pairs(&[1], &[&[2]])).unwrap();
    assert_eq!(fine.wait().unwrap().logits, [3.0]);
    assert!(scheduler.is_healthy());
}

/// A full queue is an answer, not a wait.
#[test]
fn a_full_queue_refuses_whole_requests() {
    let (scheduler, _, open) = start(Limits { max_batch_tokens: 4, max_queued_tokens: 10 });
    // Larger than the bound, but the queue is empty.
    let large = scheduler.submit(pairs(&[1; 3], &[&[1; 20], &[1; 20]])).unwrap();
    let refused = scheduler.submit(pairs(&[1], &[&[1]]));
    assert!(matches!(refused, Err(ScoreError::Overloaded { .. })));
    drop(open);
    assert_eq!(large.wait().unwrap().logits, [23.0, 23.0]);
    assert!(scheduler.submit(pairs(&[1], &[&[1]])).unwrap().wait().is_ok());
}

/// Work for a caller who has hung up is work taken from the others.
#[test]
fn a_dropped_request_leaves_the_queue() {
    let (scheduler, scorer, open) = start(Limits { max_batch_tokens: 3, ..ROOMY });
    let running = scheduler.submit(pairs(&[1], &[&[1, 1]])).unwrap();
    let dropped = scheduler.submit(pairs(&[7], &[&[7, 7], &[7, 7], &[7, 7]])).unwrap();
    let kept = scheduler.submit(pairs(&[2], &[&[2]])).unwrap();
    drop(dropped);
    drop(open);
    assert_eq!(running.wait().unwrap().logits, [3.0]);
    assert_eq!(kept.wait().unwrap().logits, [4.0]);
    assert_eq!(scorer.batches.lock().unwrap().len(), 2);
}

/// Shutdown loses nothing that was admitted.
#[test]
fn close_answers_what_is_queued_and_refuses_the_rest() {
    let (scheduler, _, open) = start(Limits { max_batch_tokens: 2, ..ROOMY });
    let queued: Vec<_> =
        (0..20).map(|i| scheduler.submit(pairs(&[i], &[&[1], &[2]])).unwrap()).collect();
    drop(open);
    scheduler.close();
    assert!(matches!(scheduler.submit(pairs(&[1], &[&[1]])), Err(ScoreError::Closing)));
    assert!(!scheduler.is_healthy());
    for (i, pending) in queued.into_iter().enumerate() {
        assert_eq!(pending.wait().unwrap().logits, [i as f32 + 1.0, i as f32 + 2.0]);
    }
}
