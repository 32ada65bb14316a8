//! Which pairs run next. Pure: no clock, no channel, no thread.

use std::collections::VecDeque;
use std::ops::Range;

/// Requests in order of arrival, bounded in tokens.
#[derive(Debug)]
pub(super) struct Queue {
    waiting: VecDeque<Waiting>,
    /// Tokens of all pairs that wait, each pair with its prefix counted once a request.
    tokens: usize,
    max_tokens: usize,
}

#[derive(Debug)]
struct Waiting {
    id: u64,
    prefix: usize,
    /// Tokens of each document.
    lengths: Vec<usize>,
    /// The first document that has not been taken.
    next: usize,
}

/// Consecutive documents of one request, to run in one batch behind their prefix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Slice {
    pub(super) id: u64,
    pub(super) documents: Range<usize>,
    /// The request has no further documents in the queue.
    pub(super) last: bool,
}

impl Queue {
    pub(super) fn new(max_tokens: usize) -> Self {
        Self { waiting: VecDeque::new(), tokens: 0, max_tokens }
    }

    pub(super) fn tokens(&self) -> usize {
        self.tokens
    }

    #[cfg(test)]
    fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Queues a request whole; false if the queue has no room for it. An empty queue takes
    /// anything, so that no request is refused for ever.
    pub(super) fn push(&mut self, id: u64, prefix: usize, lengths: Vec<usize>) -> bool {
        // Nothing is packed for a request without documents, not even its prefix.
        let prefix = if lengths.is_empty() { 0 } else { prefix };
        let tokens = prefix + lengths.iter().sum::<usize>();
        if !self.waiting.is_empty() && self.tokens + tokens > self.max_tokens {
            return false;
        }
        self.tokens += tokens;
        self.waiting.push_back(Waiting { id, prefix, lengths, next: 0 });
        true
    }

    /// Takes work of at most `budget` tokens from the front, several requests if they fit.
    ///
    /// A first pair over the budget is taken alone. Requests that `is_gone` leave without running.
    pub(super) fn take(
        &mut self,
        budget: usize,
        mut is_gone: impl FnMut(u64) -> bool,
    ) -> Vec<Slice> {
        let mut slices = Vec::new();
        let mut used = 0;
        while let Some(front) = self.waiting.front_mut() {
            if is_gone(front.id) {
                self.tokens -= front.remaining();
                self.waiting.pop_front();
                continue;
            }
            let start = front.next;
            let mut cost = front.prefix;
            while let Some(length) = front.lengths.get(front.next) {
                let fits = used + cost + length <= budget;
                if !fits && (!slices.is_empty() || front.next > start) {
                    break;
                }
                cost += length;
                front.next += 1;
            }
            let last = front.next == front.lengths.len();
            if front.next == start && !last {
                break;
            }
            used += cost;
            self.tokens -= cost - if last { 0 } else { front.prefix };
            slices.push(Slice { id: front.id, documents: start..front.next, last });
            if !last {
                break;
            }
            self.waiting.pop_front();
        }
        slices
    }
}

impl Waiting {
    fn remaining(&self) -> usize {
        self.prefix + self.lengths[self.next..].iter().sum::<usize>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn requests() -> impl Strategy<Value = Vec<(usize, Vec<usize>)>> {
        let request = (1..20usize, prop::collection::vec(1..60usize, 0..12));
        prop::collection::vec(request, 0..8)
    }

    proptest! {
        /// A document lost or run twice is a wrong answer; a batch over its budget may not fit
        /// the device.
        #[test]
        fn every_document_runs_once_in_order_within_the_budget(
            requests in requests(),
            budget in 1..100usize,
            gone in prop::collection::vec(any::<bool>(), 8),
        ) {
            let mut queue = Queue::new(usize::MAX);
            for (id, (prefix, lengths)) in requests.iter().enumerate() {
                prop_assert!(queue.push(id as u64, *prefix, lengths.clone()));
            }
            let mut taken = vec![Vec::new(); requests.len()];
            let mut finished = vec![0; requests.len()];
            while !queue.is_empty() {
                let slices = queue.take(budget, |id| gone[id as usize]);
                let tokens: usize = slices
                    .iter()
                    .filter(|slice| !slice.documents.is_empty())
                    .map(|slice| {
                        let (prefix, lengths) = &requests[slice.id as usize];
                        prefix + lengths[slice.documents.clone()].iter().sum::<usize>()
                    })
                    .sum();
                let documents: usize = slices.iter().map(|slice| slice.documents.len()).sum();
                prop_assert!(tokens <= budget || documents <= 1, "{tokens} tokens in {slices:?}");
                prop_assert!(!slices.is_empty() || queue.is_empty());
                for slice in slices {
                    taken[slice.id as usize].extend(slice.documents);
                    finished[slice.id as usize] += usize::from(slice.last);
                }
            }
            prop_assert_eq!(queue.tokens(), 0);
            for (id, (_, lengths)) in requests.iter().enumerate() {
                let expected = if gone[id] { 0 } else { lengths.len() };
                prop_assert_eq!(&taken[id], &(0..expected).collect::<Vec<_>>());
                prop_assert_eq!(finished[id], usize::from(!gone[id]));
            }
        }

        /// The bound is what keeps memory bounded.
        #[test]
        fn a_queue_that_holds_work_never_passes_its_bound(
            requests in requests(),
            bound in 1..200usize,
        ) {
            let mut queue = Queue::new(bound);
            for (id, (prefix, lengths)) in requests.into_iter().enumerate() {
                let before = queue.tokens();
                let was_empty = queue.is_empty();
                let prefix = if lengths.is_empty() { 0 } else { prefix };
                let tokens = prefix + lengths.iter().sum::<usize>();
                let admitted = queue.push(id as u64, prefix, lengths);
                prop_assert_eq!(admitted, was_empty || before + tokens <= bound);
                prop_assert_eq!(queue.tokens(), before + if admitted { tokens } else { 0 });
            }
        }
    }
}
