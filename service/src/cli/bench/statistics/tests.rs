use super::*;

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const ANSWERED: Outcome = Outcome::Answered { documents: 2, tokens: 30 };

fn sample(due: Duration, sent: Duration, finished: Duration) -> Sample {
    Sample { due, sent, finished, outcome: ANSWERED }
}

/// A server that answers one request at a time in 1 ms and stalls for a second at `stall`.
fn answer_at(free: Duration, sent: Duration, stall: Duration) -> Duration {
    let start = sent.max(free);
    let start = if start >= stall && start < stall + SECOND { stall + SECOND } else { start };
    start + MS
}

/// A stall that every user met would look like one slow request in a thousand.
#[test]
fn a_stalled_server_shows_in_an_open_loop() {
    let mut statistics = Statistics::new(Duration::ZERO, None);
    let mut free = Duration::ZERO;
    // 100 requests/s for 10 s; those due within the stall wait for its end.
    for due in (0..1_000).map(|i| MS * 10 * i) {
        let finished = answer_at(free, due, 5 * SECOND);
        // A client with one connection sends late; the latency counts from when it was due.
        statistics.record(sample(due, due.max(free), finished));
        free = finished;
    }
    let summary = statistics.summary(Pace::Open { per_second: 100.0 }, 10 * SECOND);
    let latency = summary.latency.expect("there are answers");
    assert!(latency.p99 > 900.0 && latency.max > 1_000.0, "{latency:?}");
    assert!(latency.p50 < 1.1, "{latency:?}");
    let service_time = summary.service_time.expect("there are answers");
    assert!(service_time.p99 < 1.1, "uncorrected, the stall is hidden: {service_time:?}");
    assert!((summary.requests_per_second - 100.0).abs() < 1e-9);
}

/// As above, for clients that wait for their answers.
#[test]
fn a_stalled_server_shows_in_a_closed_loop() {
    let mut statistics = Statistics::new(Duration::ZERO, None);
    let mut now = Duration::ZERO;
    while now < 10 * SECOND {
        let finished = answer_at(now, now, 5 * SECOND);
        statistics.record(sample(now, now, finished));
        now = finished;
    }
    let summary = statistics.summary(Pace::Closed { clients: 1 }, now);
    let latency = summary.latency.expect("there are answers");
    assert!(latency.p99 > 850.0 && latency.p50 < 1.1, "{latency:?}");
    let service_time = summary.service_time.expect("there are answers");
    assert!(service_time.p99_9 < 1.1 && service_time.max > 1_000.0, "{service_time:?}");
}

/// The first requests open connections and wake the server: they say nothing about it.
#[test]
fn the_warm_up_counts_only_for_the_rate_of_what_it_leaves_behind() {
    let mut statistics = Statistics::new(SECOND, Some(3 * SECOND));
    for (due, finished) in [(100, 200), (900, 1_100), (1_500, 2_000), (2_900, 3_001)] {
        statistics.record(sample(MS * due, MS * due, MS * finished));
    }
    statistics.skip(MS * 999);
    statistics.skip(SECOND);
    let summary = statistics.summary(Pace::Open { per_second: 1.0 }, 3 * SECOND);
    let Counts { answered, not_sent, documents, tokens, .. } = summary.counts;
    assert_eq!((answered, not_sent, documents, tokens), (2, 1, 4, 60));
    // Answers at 1.1 s and 2.0 s, in two seconds.
    assert!((summary.requests_per_second - 1.0).abs() < 1e-9);
    assert!((summary.tokens_per_second - 30.0).abs() < 1e-9);
    assert!((summary.latency.expect("there are answers").max - 500.0).abs() < 1.0);
}

/// Without the reason nobody knows what to do about a refusal or an error; without a bound, a
/// server that says something else each time fills the memory.
#[test]
fn outcomes_are_counted_by_reason() {
    let mut statistics = Statistics::new(Duration::ZERO, None);
    let mut record = |outcome| {
        statistics.record(Sample { due: MS, sent: MS, finished: 3 * MS, outcome });
    };
    for i in 0..20 {
        record(Outcome::Failed(format!("reason {i}")));
        record(Outcome::Refused(if i % 2 == 0 { "429" } else { "503" }.to_owned()));
    }
    record(Outcome::Failed("reason 3".to_owned()));
    record(Outcome::TimedOut);
    record(Outcome::Abandoned);
    let summary = statistics.summary(Pace::Closed { clients: 1 }, SECOND);
    assert_eq!(summary.counts.sent(), 43);
    assert_eq!(summary.refused, BTreeMap::from([("429".into(), 10), ("503".into(), 10)]));
    assert_eq!(summary.errors.len(), MAX_REASONS + 1);
    assert_eq!((summary.errors["reason 3"], summary.errors[OTHER_REASONS]), (2, 10));
    assert!(summary.latency.is_none() && summary.service_time.is_none());
    assert!((summary.refusal.expect("there are refusals").p50 - 2.0).abs() < 0.01);
}
