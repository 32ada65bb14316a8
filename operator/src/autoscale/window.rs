//! What the policy remembers: wishes and changes. Pure.

use std::collections::VecDeque;

/// A time in seconds, on a scale whose zero is the caller's.
pub type Seconds = f64;

/// Longest that any rule looks back.
const MEMORY: Seconds = 3600.0;

/// Wishes and changes of the last hour, oldest first.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct History {
    wishes: VecDeque<(Seconds, i32)>,
    changes: VecDeque<Change>,
}

/// A change of the number of pods.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Change {
    /// When.
    pub at: Seconds,
    /// Pods before.
    pub from: i32,
    /// Pods after.
    pub to: i32,
}

impl History {
    /// What is remembered of earlier wishes and changes, oldest first.
    pub fn restore(wishes: &[(Seconds, i32)], changes: &[Change]) -> Self {
        Self {
            wishes: wishes.iter().copied().collect(),
            changes: changes.iter().copied().collect(),
        }
    }

    /// Whether nothing is remembered.
    pub fn is_empty(&self) -> bool {
        self.wishes.is_empty()
    }

    /// Remembers what the load at `now` asks for.
    pub fn wish(&mut self, now: Seconds, replicas: i32) {
        while self.wishes.front().is_some_and(|(at, _)| now - at > MEMORY) {
            self.wishes.pop_front();
        }
        self.wishes.push_back((now, replicas));
    }

    /// Remembers that the number was changed.
    pub fn change(&mut self, change: Change) {
        while self.changes.front().is_some_and(|first| change.at - first.at > MEMORY) {
            self.changes.pop_front();
        }
        self.changes.push_back(change);
    }

    /// The lowest wish of the last `window` seconds.
    pub fn lowest(&self, now: Seconds, window: Seconds) -> Option<i32> {
        self.within(now, window).min()
    }

    /// The highest wish of the last `window` seconds.
    pub fn highest(&self, now: Seconds, window: Seconds) -> Option<i32> {
        self.within(now, window).max()
    }

    fn within(&self, now: Seconds, window: Seconds) -> impl Iterator<Item = i32> {
        let recent = self.wishes.iter().rev().take_while(move |(at, _)| now - at <= window);
        recent.map(|(_, replicas)| *replicas)
    }

    /// Pods added and pods taken away in the last `period` seconds.
    pub fn changed(&self, now: Seconds, period: Seconds) -> (i32, i32) {
        let recent = self.changes.iter().rev().take_while(|change| now - change.at < period);
        recent.fold((0, 0), |(added, taken), change| {
            (added + (change.to - change.from).max(0), taken + (change.from - change.to).max(0))
        })
    }

    /// The wishes of the last `window` seconds as at most `entries` highest ones of equal parts of it, oldest
    /// first: what a restarted operator needs so as not to shrink too early.
    pub fn summary(&self, now: Seconds, window: Seconds, entries: usize) -> Vec<(Seconds, i32)> {
        let part = (window / entries as f64).max(1.0);
        let mut summary: Vec<(Seconds, i32)> = Vec::new();
        let mut last = None;
        for (at, replicas) in self.wishes.iter().filter(|(at, _)| now - at <= window) {
            let bucket = (at / part).floor();
            match summary.last_mut() {
                Some(entry) if last == Some(bucket) => entry.1 = entry.1.max(*replicas),
                _ => summary.push((*at, *replicas)),
            }
            last = Some(bucket);
        }
        let surplus = summary.len().saturating_sub(entries);
        summary.split_off(surplus)
    }
}
