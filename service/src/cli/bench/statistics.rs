//! What became of the requests, as counts and percentiles.
//!
//! Pure: times come in as durations since the beginning of the run.
//!
//! **Coordinated omission.** A client that waits for a slow answer before it asks again leaves out
//! the requests that would have met the same slowness. In an open loop each latency runs from the
//! time at which the request was due, whenever it was sent. A closed loop has no schedule, so its
//! service times are corrected as `HdrHistogram` does, with the median service time as the interval
//! at which a client would have asked: an answer that took ten medians stands for nine more
//! requests, each a median shorter than the one before. The service times as they were measured are
//! reported beside it.

use hdrhistogram::Histogram;
use std::collections::BTreeMap;
use std::time::Duration;

/// Distinct reasons for errors that are kept; more say little and take memory.
const MAX_REASONS: usize = 10;
/// What the rest is counted under.
const OTHER_REASONS: &str = "other reasons";

/// What became of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Scores came back.
    Answered {
        /// In the request.
        documents: u64,
        /// As the answer counts them.
        tokens: u64,
    },
    /// The server said no, with this status: `429`, `RESOURCE_EXHAUSTED`.
    Refused(String),
    /// No answer within the timeout.
    TimedOut,
    /// No answer for another reason: no connection, a broken one, an answer that cannot be read.
    Failed(String),
    /// The run was stopped first.
    Abandoned,
}

/// One request; times are since the beginning of the run.
#[derive(Clone, Debug)]
pub(super) struct Sample {
    /// When it was due.
    pub(super) due: Duration,
    /// When it was sent.
    pub(super) sent: Duration,
    /// When its outcome was known.
    pub(super) finished: Duration,
    pub(super) outcome: Outcome,
}

/// Counts of the requests that were due in the measured period, which begins with the end of the
/// warm-up; rates of what was answered in that period.
#[derive(Debug)]
pub(super) struct Statistics {
    begin: Duration,
    /// None: when the last request has its outcome.
    end: Option<Duration>,
    counts: Counts,
    refused: BTreeMap<String, u64>,
    errors: BTreeMap<String, u64>,
    latency: Histogram<u64>,
    service_time: Histogram<u64>,
    refusal: Histogram<u64>,
    /// Answers that came in the period, whenever they were asked for.
    done: Done,
}

/// Requests by outcome. Every request that was sent has one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) answered: u64,
    pub(super) refused: u64,
    pub(super) timeouts: u64,
    pub(super) errors: u64,
    pub(super) abandoned: u64,
    /// Due, but as many requests as allowed were outstanding.
    pub(super) not_sent: u64,
    /// Of the answered requests.
    pub(super) documents: u64,
    /// Of the answered requests.
    pub(super) tokens: u64,
}

impl Counts {
    pub(super) fn sent(&self) -> u64 {
        self.answered + self.refused + self.timeouts + self.errors + self.abandoned
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct Done {
    requests: u64,
    documents: u64,
    tokens: u64,
}

/// How clients ask.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Pace {
    /// At random times, so many a second, whatever the server does.
    Open {
        /// Above 0.
        per_second: f64,
    },
    /// So many clients, each again as soon as it is answered.
    Closed {
        /// At least 1.
        clients: usize,
    },
}

/// The figures of a run.
#[derive(Debug)]
pub(super) struct Summary {
    /// Length of the measured period.
    pub(super) seconds: f64,
    pub(super) counts: Counts,
    /// By status.
    pub(super) refused: BTreeMap<String, u64>,
    /// By reason.
    pub(super) errors: BTreeMap<String, u64>,
    pub(super) requests_per_second: f64,
    pub(super) documents_per_second: f64,
    pub(super) tokens_per_second: f64,
    /// Of answered requests, corrected for coordinated omission.
    pub(super) latency: Option<Percentiles>,
    /// Of answered requests, from when each was sent.
    pub(super) service_time: Option<Percentiles>,
    /// Of refused requests, from when each was due; not corrected in a closed loop.
    pub(super) refusal: Option<Percentiles>,
}

/// In milliseconds, to three digits.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Percentiles {
    pub(super) p50: f64,
    pub(super) p90: f64,
    pub(super) p99: f64,
    pub(super) p99_9: f64,
    pub(super) max: f64,
}

impl Statistics {
    /// Measures from `begin`, the end of the warm-up, to `end`.
    pub(super) fn new(begin: Duration, end: Option<Duration>) -> Self {
        Self {
            begin,
            end,
            counts: Counts::default(),
            refused: BTreeMap::new(),
            errors: BTreeMap::new(),
            latency: histogram(),
            service_time: histogram(),
            refusal: histogram(),
            done: Done::default(),
        }
    }

    /// Takes one request in.
    pub(super) fn record(&mut self, sample: Sample) {
        let Sample { due, sent, finished, outcome } = sample;
        if let Outcome::Answered { documents, tokens } = outcome
            && finished >= self.begin
            && self.end.is_none_or(|end| finished <= end)
        {
            self.done.requests += 1;
            self.done.documents += documents;
            self.done.tokens += tokens;
        }
        if due < self.begin {
            return;
        }
        let latency = micros(finished.saturating_sub(due));
        match outcome {
            Outcome::Answered { documents, tokens } => {
                self.counts.answered += 1;
                self.counts.documents += documents;
                self.counts.tokens += tokens;
                self.latency.saturating_record(latency);
                self.service_time.saturating_record(micros(finished.saturating_sub(sent)));
            }
            Outcome::Refused(status) => {
                self.counts.refused += 1;
                *self.refused.entry(status).or_default() += 1;
                self.refusal.saturating_record(latency);
            }
            Outcome::TimedOut => self.counts.timeouts += 1,
            Outcome::Failed(reason) => {
                self.counts.errors += 1;
                let known = self.errors.len() < MAX_REASONS || self.errors.contains_key(&reason);
                let reason = if known { reason } else { OTHER_REASONS.to_owned() };
                *self.errors.entry(reason).or_default() += 1;
            }
            Outcome::Abandoned => self.counts.abandoned += 1,
        }
    }

    /// Takes in a request that was due and could not be sent.
    pub(super) fn skip(&mut self, due: Duration) {
        if due >= self.begin {
            self.counts.not_sent += 1;
        }
    }

    /// The counts so far.
    pub(super) fn counts(&self) -> Counts {
        self.counts
    }

    /// The figures of a run whose period ended at `end`.
    pub(super) fn summary(&self, pace: Pace, end: Duration) -> Summary {
        let seconds = end.saturating_sub(self.begin).as_secs_f64();
        let rate = |count: u64| if seconds > 0.0 { count as f64 / seconds } else { 0.0 };
        let latency = match pace {
            Pace::Open { .. } => percentiles(&self.latency),
            Pace::Closed { .. } => {
                let interval = self.service_time.value_at_quantile(0.5);
                percentiles(&self.service_time.clone_correct(interval))
            }
        };
        Summary {
            seconds,
            counts: self.counts,
            refused: self.refused.clone(),
            errors: self.errors.clone(),
            requests_per_second: rate(self.done.requests),
            documents_per_second: rate(self.done.documents),
            tokens_per_second: rate(self.done.tokens),
            latency,
            service_time: percentiles(&self.service_time),
            refusal: percentiles(&self.refusal),
        }
    }
}

/// Microseconds up to an hour, to three digits; 200 KB.
fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 3_600_000_000, 3).expect("the bounds are valid")
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

fn percentiles(histogram: &Histogram<u64>) -> Option<Percentiles> {
    let at = |quantile| histogram.value_at_quantile(quantile) as f64 / 1e3;
    (!histogram.is_empty()).then(|| Percentiles {
        p50: at(0.5),
        p90: at(0.9),
        p99: at(0.99),
        p99_9: at(0.999),
        max: histogram.max() as f64 / 1e3,
    })
}

#[cfg(test)]
mod tests;
