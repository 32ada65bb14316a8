//! What the clients know of their requests, against what the server has counted.

use reranker_tests::scrape::Scrape;
use std::collections::BTreeMap;

/// Protocol and route.
pub(super) type Route = (&'static str, &'static str);

/// What the clients know.
#[derive(Debug, Default)]
pub(super) struct Tally {
    /// Requests that were answered, by what with.
    answered: BTreeMap<(Route, &'static str), u64>,
    /// Requests that the server had begun when their client went away.
    left: BTreeMap<Route, u64>,
}

impl Tally {
    pub(super) fn answered(&mut self, route: Route, word: &'static str) {
        *self.answered.entry((route, word)).or_default() += 1;
    }

    pub(super) fn left(&mut self, route: Route) {
        *self.left.entry(route).or_default() += 1;
    }

    pub(super) fn add(&mut self, other: Self) {
        for (key, count) in other.answered {
            *self.answered.entry(key).or_default() += count;
        }
        for (key, count) in other.left {
            *self.left.entry(key).or_default() += count;
        }
    }

    /// Every answered request is counted as what it was answered; those whose clients left are counted
    /// once each, as cancelled, or as what they would have been answered.
    pub(super) fn assert_is_in(&self, scrape: &Scrape) {
        let mut left = self.left.clone();
        let mut answered = self.answered.clone();
        let mut cancelled: BTreeMap<&str, f64> = BTreeMap::new();
        for (key, count) in
            scrape.by("reranker_requests_total", &["protocol", "route", "model", "class", "code"])
        {
            let [protocol, route, _, _, code] = &key[..] else { unreachable!("five labels") };
            let find = |known: &Route| known.0 == protocol && known.1 == route;
            let known = answered.iter_mut().find(|((known, word), _)| find(known) && word == code);
            let mut count = count as u64;
            if code == "cancelled" {
                *cancelled.entry(if protocol == "http" { "http" } else { "grpc" }).or_default() +=
                    count as f64;
            }
            if let Some((_, expected)) = known {
                let taken = count.min(*expected);
                *expected -= taken;
                count -= taken;
            }
            if count > 0 {
                assert!(
                    ["cancelled", "ok", "invalid_request"].contains(&&**code),
                    "{key:?}: {count}"
                );
                let left = left.iter_mut().find(|(known, _)| find(known));
                let (_, left) = left.unwrap_or_else(|| panic!("{key:?} was never sent"));
                assert!(*left >= count, "{key:?}: {count} too many, {left} of clients that left");
                *left -= count;
            }
        }
        assert!(answered.values().all(|count| *count == 0), "answered, not counted: {answered:?}");
        assert!(left.values().all(|count| *count == 0), "begun, not counted: {left:?}");
        for (protocol, count) in cancelled {
            let counted = scrape.sum("reranker_cancelled_total", &[("protocol", protocol)]);
            assert!((counted - count).abs() < 0.5, "{protocol}: {counted}, {count} by code");
        }
        let all = scrape.sum("reranker_requests_total", &[]);
        let timed = scrape.sum("reranker_request_duration_seconds_count", &[]);
        assert!((all - timed).abs() < 0.5, "{all} requests, {timed} durations");
    }
}
