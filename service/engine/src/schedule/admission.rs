//! Who is let in. Pure: time and rate come in as arguments.
//!
//! A request is admitted whole or refused at once, on an estimate of its tokens. Tokens become
//! seconds by the measured rate of the device.

use super::Latency;
use super::queue::SLOW_ONE_IN;
use crate::error::{Bound, ScoreError};
use std::time::{Duration, Instant};

/// Bounds of the wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Policy {
    /// Budget of one batch, which is also what a request may run in one turn.
    pub(super) max_batch_tokens: usize,
    /// Most tokens that may be queued or running; a larger request is taken when there are none.
    pub(super) max_queued_tokens: usize,
    /// Longest wait before a request's own work.
    pub(super) max_queue: Duration,
    /// Longest time to the answer of a request that asks for the fast class.
    pub(super) interactive: Duration,
}

/// What a request wants.
#[derive(Clone, Copy, Debug)]
pub(super) struct Demand {
    /// The class it asks for; none: fast if possible, else slow.
    pub(super) latency: Option<Latency>,
    /// Its own tokens.
    pub(super) tokens: usize,
    /// How long its caller still waits.
    pub(super) patience: Option<Duration>,
}

/// The work that is ahead.
#[derive(Debug, Default)]
pub(super) struct Work {
    pub(super) fast: Backlog,
    pub(super) slow: Backlog,
    /// Tokens on the device.
    pub(super) running: usize,
    /// Fast tokens that went to the device.
    pub(super) fast_lately: Lately,
    /// Measured rate; 0 while unknown.
    pub(super) tokens_per_second: f64,
}

impl Work {
    pub(super) fn backlog(&mut self, latency: Latency) -> &mut Backlog {
        match latency {
            Latency::Fast => &mut self.fast,
            Latency::Slow => &mut self.slow,
        }
    }

    /// Tokens queued, promised and running.
    pub(super) fn tokens(&self) -> usize {
        self.fast.tokens() + self.slow.tokens() + self.running
    }

    /// The time the device needs for `tokens`; none while the rate is unknown.
    pub(super) fn time(&self, tokens: usize) -> Duration {
        if self.tokens_per_second > 0.0 {
            Duration::try_from_secs_f64(tokens as f64 / self.tokens_per_second)
                .unwrap_or(Duration::MAX)
        } else {
            Duration::ZERO
        }
    }

    /// Tokens that run before a new request of `tokens` has run as if alone, and before its last has.
    ///
    /// Others of its class get as much as it gets and one turn more, and those that come later and
    /// take turns with it as much again; the other class gets its share. Without the part of those to
    /// come, a server that gets twice what it can do admits what it answers too late.
    fn ahead(&self, now: Instant, latency: Latency, tokens: usize, turn: usize) -> Ahead {
        let own = 2 * self.of(latency).up_to(tokens + turn);
        let other = |own: usize| match latency {
            Latency::Fast => self.slow.tokens().min(own / (SLOW_ONE_IN - 1) + turn),
            Latency::Slow => {
                let most = (own + turn).saturating_mul(SLOW_ONE_IN - 1);
                self.fast_during(now, own).min(most)
            }
        };
        let others = own + self.running;
        Ahead { own_work: others + other(own), answer: others + tokens + other(own + tokens) }
    }

    /// Fast tokens that run before so many slow ones have, if as many come as did lately.
    fn fast_during(&self, now: Instant, slow: usize) -> usize {
        let most = 1.0 - 1.0 / SLOW_ONE_IN as f64;
        let lately = self.fast_lately.per_second(now) / self.tokens_per_second.max(1.0);
        let share = lately.min(most);
        ((self.fast.tokens() as f64 + share * slow as f64) / (1.0 - share)) as usize
    }

    fn of(&self, latency: Latency) -> &Backlog {
        match latency {
            Latency::Fast => &self.fast,
            Latency::Slow => &self.slow,
        }
    }
}

/// What runs before a new request, in tokens.
struct Ahead {
    /// Before its own work, were that done in one go.
    own_work: usize,
    /// Before its answer, itself included.
    answer: usize,
}

/// Tokens that ran lately: a sum in which each counts less the longer ago it was.
#[derive(Debug, Default)]
pub(super) struct Lately {
    tokens: f64,
    at: Option<Instant>,
}

impl Lately {
    /// In so long a token's weight falls to 1/e. Shorter than the longest wait, so that what is
    /// admitted meanwhile is little; longer than the gaps between the requests of one busy client.
    const MEMORY: Duration = Duration::from_secs(2);

    pub(super) fn add(&mut self, now: Instant, tokens: usize) {
        self.tokens = self.weighted(now) + tokens as f64;
        self.at = Some(now);
    }

    fn per_second(&self, now: Instant) -> f64 {
        self.weighted(now) / Self::MEMORY.as_secs_f64()
    }

    fn weighted(&self, now: Instant) -> f64 {
        let age = self.at.map_or(Duration::ZERO, |at| now.saturating_duration_since(at));
        self.tokens * (-age.as_secs_f64() / Self::MEMORY.as_secs_f64()).exp()
    }
}

/// Decides the class a request runs in.
///
/// # Errors
/// [`ScoreError::Overloaded`] with the bound that it would break and when to come back.
pub(super) fn admit(
    policy: &Policy,
    work: &Work,
    now: Instant,
    demand: &Demand,
) -> Result<Latency, ScoreError> {
    match demand.latency {
        Some(latency) => admit_as(policy, work, now, demand, latency, demand.latency),
        None => admit_as(policy, work, now, demand, Latency::Fast, Some(Latency::Fast))
            .or_else(|_| admit_as(policy, work, now, demand, Latency::Slow, None)),
    }
}

fn admit_as(
    policy: &Policy,
    work: &Work,
    now: Instant,
    demand: &Demand,
    latency: Latency,
    asked: Option<Latency>,
) -> Result<Latency, ScoreError> {
    has_room(policy, work, demand.tokens)?;
    let ahead = work.ahead(now, latency, demand.tokens, policy.max_batch_tokens);
    let (wait, answer) = (work.time(ahead.own_work), work.time(ahead.answer));
    if asked == Some(Latency::Fast) {
        let limit = policy.interactive;
        within(answer, limit, Bound::Interactive { expected: answer, limit })?;
    }
    let limit = policy.max_queue;
    within(wait, limit, Bound::Queue { expected: wait, limit })?;
    if let Some(limit) = demand.patience {
        within(answer, limit, Bound::Deadline { expected: answer, limit })?;
    }
    Ok(latency)
}

/// Whether the queue takes so many more tokens.
///
/// # Errors
/// [`ScoreError::Overloaded`] if it has other tokens and no room for these.
pub(super) fn has_room(policy: &Policy, work: &Work, tokens: usize) -> Result<(), ScoreError> {
    let queued = work.tokens();
    if queued > 0 && queued + tokens > policy.max_queued_tokens {
        let retry_after = work.time(queued + tokens - policy.max_queued_tokens);
        return Err(ScoreError::Overloaded { bound: Bound::Memory, retry_after });
    }
    Ok(())
}

fn within(expected: Duration, limit: Duration, bound: Bound) -> Result<(), ScoreError> {
    let retry_after = expected.saturating_sub(limit);
    if retry_after.is_zero() { Ok(()) } else { Err(ScoreError::Overloaded { bound, retry_after }) }
}

/// Tokens outstanding by request, kept so that [`up_to`](Self::up_to) does not look at each.
#[derive(Debug)]
pub(super) struct Backlog {
    /// Requests and their tokens, by the number of binary digits of a request's tokens.
    sizes: [Size; usize::BITS as usize + 1],
}

impl Default for Backlog {
    fn default() -> Self {
        Self { sizes: [Size::default(); usize::BITS as usize + 1] }
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct Size {
    requests: usize,
    tokens: usize,
}

impl Backlog {
    /// Changes what one request has outstanding.
    pub(super) fn change(&mut self, from: usize, to: usize) {
        if from > 0 {
            let size = &mut self.sizes[digits(from)];
            size.requests -= 1;
            size.tokens -= from;
        }
        if to > 0 {
            let size = &mut self.sizes[digits(to)];
            size.requests += 1;
            size.tokens += to;
        }
    }

    /// Tokens of all requests.
    pub(super) fn tokens(&self) -> usize {
        self.sizes.iter().map(|size| size.tokens).sum()
    }

    /// Requests with tokens outstanding.
    pub(super) fn requests(&self) -> usize {
        self.sizes.iter().map(|size| size.requests).sum()
    }

    /// The sum over requests of their tokens, each counted up to `limit`; at most the requests of
    /// `limit`'s own size are counted too high, by less than twice.
    fn up_to(&self, limit: usize) -> usize {
        self.sizes.iter().map(|size| size.tokens.min(size.requests.saturating_mul(limit))).sum()
    }
}

fn digits(tokens: usize) -> usize {
    (usize::BITS - tokens.leading_zeros()) as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const POLICY: Policy = Policy {
        max_batch_tokens: 100,
        max_queued_tokens: 1_000_000,
        max_queue: Duration::from_secs(30),
        interactive: Duration::from_secs(2),
    };

    /// A device of 1,000 tokens a second with these requests before it.
    fn work(fast: &[usize], slow: &[usize]) -> Work {
        let mut work = Work { tokens_per_second: 1_000.0, ..Work::default() };
        for (backlog, requests) in [(&mut work.fast, fast), (&mut work.slow, slow)] {
            for &tokens in requests {
                backlog.change(0, tokens);
            }
        }
        work
    }

    fn demand(latency: Option<Latency>, tokens: usize) -> Demand {
        Demand { latency, tokens, patience: None }
    }

    fn admitted(work: &Work, demand: &Demand) -> Result<Latency, ScoreError> {
        admit(&POLICY, work, Instant::now(), demand)
    }

    /// A small request must not be refused because one large one is there: it does not wait for it.
    #[test]
    fn a_large_request_does_not_shut_small_ones_out() {
        let busy = work(&[40_000], &[]);
        assert_eq!(admitted(&busy, &demand(Some(Latency::Fast), 300)), Ok(Latency::Fast));
        assert_eq!(admitted(&busy, &demand(None, 300)), Ok(Latency::Fast));
        assert_eq!(admitted(&busy, &demand(None, 3_000)), Ok(Latency::Slow));
    }

    /// Each refusal names the bound it would break and when there is room.
    #[test]
    fn each_bound_refuses() {
        let seconds = Duration::from_secs_f64;
        let refused =
            |bound, after| Err(ScoreError::Overloaded { bound, retry_after: seconds(after) });
        let idle = work(&[], &[]);
        let limit = POLICY.interactive;
        let bound = Bound::Interactive { expected: seconds(2.5), limit };
        assert_eq!(admitted(&idle, &demand(Some(Latency::Fast), 2_500)), refused(bound, 0.5));
        let limit = POLICY.max_queue;
        let bound = Bound::Queue { expected: seconds(62.0), limit };
        assert_eq!(admitted(&work(&[], &[1_000; 31]), &demand(None, 5_000)), refused(bound, 32.0));
        let full = work(&[], &[999_000]);
        assert_eq!(admitted(&full, &demand(None, 3_000)), refused(Bound::Memory, 2.0));
        let limit = seconds(4.0);
        let late = Demand { patience: Some(limit), ..demand(None, 5_000) };
        let bound = Bound::Deadline { expected: seconds(5.0), limit };
        assert_eq!(admitted(&idle, &late), refused(bound, 1.0));
    }

    /// Whatever is sent alone is taken, however large: it would be refused for ever.
    #[test]
    fn an_idle_device_takes_anything_without_a_deadline() {
        assert_eq!(admitted(&work(&[], &[]), &demand(None, usize::MAX / 8)), Ok(Latency::Slow));
        let unknown = Work::default();
        assert_eq!(admitted(&unknown, &demand(None, 1_000_000)), Ok(Latency::Fast));
    }

    proptest! {
        /// The short cut must not say less than is there, or requests are let in to miss their
        /// deadlines; nor much more, or they are refused without need.
        #[test]
        fn the_backlog_is_close_to_the_sum_over_requests(
            requests in prop::collection::vec(1..100_000usize, 0..50),
            changed in prop::collection::vec(0..100_000usize, 0..50),
            limit in 1..200_000usize,
        ) {
            let mut backlog = Backlog::default();
            for &tokens in &requests {
                backlog.change(0, tokens);
            }
            let mut now = requests.clone();
            for (tokens, &to) in now.iter_mut().zip(&changed) {
                backlog.change(*tokens, to);
                *tokens = to;
            }
            let exact: usize = now.iter().map(|&tokens| tokens.min(limit)).sum();
            prop_assert_eq!(backlog.tokens(), now.iter().sum::<usize>());
            prop_assert_eq!(backlog.requests(), now.iter().filter(|&&tokens| tokens > 0).count());
            prop_assert!((exact..=2 * exact).contains(&backlog.up_to(limit)));
        }
    }
}
