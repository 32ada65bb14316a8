//! Which documents run next. Pure: no clock, no channel, no thread.
//!
//! Two classes. Inside a class requests take turns by tokens: deficit round robin (Shreedhar and
//! Varghese 1995), so that a small request waits for slices of a large one, not for all of it.

use super::Latency;
use std::collections::{HashMap, VecDeque};
use std::ops::Range;
use std::time::Instant;

/// Share of the device that waiting slow work gets however much fast work there is: 1 in this many.
pub(super) const SLOW_ONE_IN: usize = 5;

/// Documents that wait, by request.
#[derive(Debug, Default)]
pub(super) struct Queue {
    flows: HashMap<u64, Flow>,
    fast: VecDeque<u64>,
    slow: VecDeque<u64>,
    /// Tokens that slow work has earned while it waited for fast work, less those it has run while
    /// fast work waited. What it owes for room that fast work left is at most a batch: such room cost
    /// nobody anything.
    slow_credit: i64,
}

/// The waiting documents of one request.
#[derive(Debug)]
struct Flow {
    latency: Latency,
    prefix: usize,
    /// The document that runs next.
    next: usize,
    /// Tokens of it and those after it.
    lengths: VecDeque<usize>,
    /// Tokens the request may still run: what earlier turns left, and this one.
    deficit: usize,
    has_turn: bool,
    deadline: Option<Instant>,
}

/// Consecutive documents of one request, to run in one batch behind their prefix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Slice {
    pub(super) id: u64,
    pub(super) documents: Range<usize>,
    /// Tokens of the prefix and the documents.
    pub(super) tokens: usize,
}

/// What a request's documents have in common.
#[derive(Clone, Copy, Debug)]
pub(super) struct Header {
    pub(super) id: u64,
    pub(super) latency: Latency,
    /// Tokens that all documents begin with.
    pub(super) prefix: usize,
    pub(super) deadline: Option<Instant>,
}

impl Queue {
    #[cfg(test)]
    fn is_empty(&self) -> bool {
        self.flows.is_empty()
    }

    /// Appends documents of `lengths` tokens to a request, the first of them being number `first`.
    pub(super) fn push(
        &mut self,
        header: &Header,
        first: usize,
        lengths: impl IntoIterator<Item = usize>,
    ) {
        let &Header { id, latency, prefix, deadline } = header;
        let mut lengths = lengths.into_iter().peekable();
        if lengths.peek().is_none() {
            return;
        }
        let flow = self.flows.entry(id).or_insert_with(|| {
            match latency {
                Latency::Fast => self.fast.push_back(id),
                Latency::Slow => self.slow.push_back(id),
            }
            Flow {
                latency,
                prefix,
                next: first,
                lengths: VecDeque::new(),
                deficit: 0,
                has_turn: false,
                deadline,
            }
        });
        flow.lengths.extend(lengths);
    }

    /// Takes a request's documents out.
    pub(super) fn remove(&mut self, id: u64) {
        if let Some(flow) = self.flows.remove(&id) {
            self.turns(flow.latency).retain(|&other| other != id);
        }
    }

    /// Takes out the requests whose deadline has passed and returns their ids.
    pub(super) fn expire(&mut self, now: Instant) -> Vec<u64> {
        let late = |flow: &Flow| flow.deadline.is_some_and(|deadline| deadline <= now);
        let expired: Vec<u64> =
            self.flows.iter().filter(|(_, flow)| late(flow)).map(|(&id, _)| id).collect();
        for &id in &expired {
            self.remove(id);
        }
        expired
    }

    /// Takes the next batch: at most `budget` tokens, or one longer pair alone.
    ///
    /// Fast work comes first, but for what slow work has earned by waiting; the other class fills
    /// what the first leaves.
    pub(super) fn take(&mut self, budget: usize) -> Vec<Slice> {
        let mut slices = Vec::new();
        let both_wait = !self.fast.is_empty() && !self.slow.is_empty();
        let earned = both_wait && self.slow_credit >= budget as i64;
        let order =
            if earned { [Latency::Slow, Latency::Fast] } else { [Latency::Fast, Latency::Slow] };
        let mut used = 0;
        for latency in order {
            let before = used;
            self.fill(latency, budget, &mut used, &mut slices);
            let taken = (used - before) as i64;
            if both_wait {
                let credit = self.slow_credit;
                self.slow_credit = match latency {
                    Latency::Fast => credit + taken / (SLOW_ONE_IN as i64 - 1),
                    Latency::Slow if earned => credit - taken,
                    Latency::Slow => (credit - taken).max(credit.min(-(budget as i64))),
                };
            }
        }
        if self.slow.is_empty() {
            self.slow_credit = 0;
        }
        slices
    }

    /// Gives the requests of one class their turns until the batch is full.
    fn fill(&mut self, latency: Latency, budget: usize, used: &mut usize, slices: &mut Vec<Slice>) {
        while let Some(&id) = self.turns(latency).front() {
            let flow = self.flows.get_mut(&id).expect("whoever has a turn has documents");
            let first = flow.prefix + flow.lengths[0];
            if !slices.is_empty() && *used + first > budget {
                return;
            }
            if !flow.has_turn {
                flow.has_turn = true;
                flow.deficit += budget;
            }
            if flow.deficit >= first {
                let slice = flow.take(id, budget.saturating_sub(*used));
                *used += slice.tokens;
                slices.push(slice);
            }
            match flow.lengths.front() {
                // The batch is full; the turn goes on in the next one.
                Some(next) if flow.deficit >= flow.prefix + next => return,
                Some(_) => {
                    flow.has_turn = false;
                    self.turns(latency).rotate_left(1);
                }
                None => {
                    self.flows.remove(&id);
                    self.turns(latency).pop_front();
                }
            }
        }
    }

    fn turns(&mut self, latency: Latency) -> &mut VecDeque<u64> {
        match latency {
            Latency::Fast => &mut self.fast,
            Latency::Slow => &mut self.slow,
        }
    }
}

impl Flow {
    /// Takes the first document and those after it that have room and are within the deficit.
    fn take(&mut self, id: u64, room: usize) -> Slice {
        let start = self.next;
        let mut tokens = self.prefix;
        while let Some(&length) = self.lengths.front() {
            let within = tokens + length <= room.min(self.deficit);
            if self.next > start && !within {
                break;
            }
            tokens += length;
            self.lengths.pop_front();
            self.next += 1;
        }
        self.deficit -= tokens;
        Slice { id, documents: start..self.next, tokens }
    }
}

#[cfg(test)]
mod tests;
