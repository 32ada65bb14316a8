//! How much each key may ask for in a minute.
//!
//! A token bucket for each key, class and unit: it holds a minute's quota and fills evenly, so that a
//! caller may use its minute at once and then goes on at the quota's rate. Pure: time comes in as an
//! argument.

use crate::auth::{KeyId, Principal};
use crate::error::Error;
use crate::rerank::Latency;
use std::collections::HashMap;
use std::time::{Duration, Instant};

const MINUTE: Duration = Duration::from_mins(1);

/// More callers than this are not told apart for long: the one that asked longest ago is forgotten.
const MAX_CALLERS: usize = 20_000;

/// What a key may ask for in a minute in one class; none: as much as it likes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Quota {
    /// Bytes as [`total_bytes`](crate::rerank::total_bytes) counts them.
    pub bytes: Option<u64>,
    /// Requests.
    pub requests: Option<u64>,
}

/// The quotas of every key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rates {
    /// Of requests in the interactive class.
    pub fast: Quota,
    /// Of requests in the batch class.
    pub slow: Quota,
}

impl Rates {
    fn of(&self, class: Latency) -> Quota {
        match class {
            Latency::Fast => self.fast,
            Latency::Slow => self.slow,
        }
    }
}

/// What a caller is about to use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Charge {
    /// Bytes as [`total_bytes`](crate::rerank::total_bytes) counts them.
    pub bytes: u64,
    /// Requests; 0 for a further message of a stream.
    pub requests: u64,
}

/// What the callers have used. Callers without a key share one account.
#[derive(Debug)]
pub struct RateLimiter {
    rates: Rates,
    callers: HashMap<Option<KeyId>, Account>,
}

/// How full a caller's buckets are, and when that was.
#[derive(Clone, Copy, Debug)]
struct Account {
    fast: Buckets,
    slow: Buckets,
    at: Instant,
}

/// What may still be taken; may be a fraction while it fills.
#[derive(Clone, Copy, Debug)]
struct Buckets {
    bytes: f64,
    requests: f64,
}

/// What a bucket counts.
#[derive(Clone, Copy, Debug)]
enum Unit {
    Bytes,
    Requests,
}

impl Buckets {
    fn full(quota: Quota) -> Self {
        Self {
            bytes: quota.bytes.unwrap_or(0) as f64,
            requests: quota.requests.unwrap_or(0) as f64,
        }
    }

    fn filled(self, quota: Quota, minutes: f64) -> Self {
        let full = Self::full(quota);
        Self {
            bytes: (self.bytes + full.bytes * minutes).min(full.bytes),
            requests: (self.requests + full.requests * minutes).min(full.requests),
        }
    }

    /// The quota that is short, and how long until there is room.
    fn lacks(&self, quota: Quota, charge: Charge) -> Option<(u64, Unit, Duration)> {
        let lack = |quota: Option<u64>, held: f64, needed: f64, unit| {
            let quota = quota?;
            let missing = needed - held;
            // A rounding error of the refill must not refuse what is there.
            (missing > 1e-6)
                .then(|| (quota, unit, MINUTE.mul_f64((missing / quota as f64).clamp(0.0, 1.0))))
        };
        let lacks = [
            lack(quota.bytes, self.bytes, charge.bytes as f64, Unit::Bytes),
            lack(quota.requests, self.requests, charge.requests as f64, Unit::Requests),
        ];
        lacks.into_iter().flatten().max_by_key(|&(_, _, wait)| wait)
    }

    fn take(&mut self, charge: Charge) {
        self.bytes -= charge.bytes as f64;
        self.requests -= charge.requests as f64;
    }
}

impl Account {
    fn full(rates: &Rates, at: Instant) -> Self {
        Self { fast: Buckets::full(rates.fast), slow: Buckets::full(rates.slow), at }
    }

    fn fill(&mut self, rates: &Rates, now: Instant) {
        let minutes = now.saturating_duration_since(self.at).as_secs_f64() / MINUTE.as_secs_f64();
        self.fast = self.fast.filled(rates.fast, minutes);
        self.slow = self.slow.filled(rates.slow, minutes);
        self.at = self.at.max(now);
    }

    fn buckets(&mut self, class: Latency) -> &mut Buckets {
        match class {
            Latency::Fast => &mut self.fast,
            Latency::Slow => &mut self.slow,
        }
    }
}

impl RateLimiter {
    /// Nobody has asked for anything yet.
    pub fn new(rates: Rates) -> Self {
        Self { rates, callers: HashMap::new() }
    }

    /// Charges `principal` and returns the class it may run in: the one asked
    /// for, or without one fast, and slow once the fast quota is used up.
    ///
    /// # Errors
    /// [`Error::RateLimited`] with the time until there is room, [`Error::OverQuota`] where there
    /// never is. Nothing is charged then.
    pub fn check(
        &mut self,
        principal: &Principal,
        class: Option<Latency>,
        charge: Charge,
        now: Instant,
    ) -> Result<Latency, Error> {
        let rates = self.rates;
        if rates == Rates::default() {
            return Ok(class.unwrap_or(Latency::Fast));
        }
        let account = self.account(principal.key, now);
        let classes = match class {
            Some(Latency::Fast) => &[Latency::Fast][..],
            Some(Latency::Slow) => &[Latency::Slow],
            None => &[Latency::Fast, Latency::Slow],
        };
        let mut refusal: Option<(Option<Duration>, Error)> = None;
        for &class in classes {
            let quota = rates.of(class);
            let buckets = account.buckets(class);
            let Some((limit, unit, wait)) = buckets.lacks(quota, charge) else {
                buckets.take(charge);
                return Ok(class);
            };
            let name = match class {
                Latency::Fast => "fast",
                Latency::Slow => "slow",
            };
            let new = if let Some(limit) = quota.bytes.filter(|&most| charge.bytes > most) {
                (None, Error::OverQuota { bytes: charge.bytes, limit, class: name })
            } else {
                let limit = match unit {
                    Unit::Bytes => format!("{limit} bytes of {name} requests"),
                    Unit::Requests => format!("{limit} {name} requests"),
                };
                (Some(wait), Error::RateLimited { limit, retry_after: wait })
            };
            // Of two refusals the one that ends first, and never before always.
            let sooner = refusal.as_ref().is_none_or(|(earlier, _)| match (new.0, *earlier) {
                (Some(new), Some(earlier)) => new < earlier,
                (new, earlier) => new.is_some() || earlier.is_none(),
            });
            if sooner {
                refusal = Some(new);
            }
        }
        Err(refusal.expect("every class has refused").1)
    }

    /// Gives back what [`check`](Self::check) has charged: the request was refused for no fault of its
    /// caller.
    pub fn refund(&mut self, principal: &Principal, class: Latency, charge: Charge) {
        let quota = self.rates.of(class);
        if let Some(account) = self.callers.get_mut(&principal.key) {
            let buckets = account.buckets(class);
            buckets.bytes += charge.bytes as f64;
            buckets.requests += charge.requests as f64;
            *buckets = buckets.filled(quota, 0.0);
        }
    }

    /// The caller's account, filled up to `now`.
    fn account(&mut self, key: Option<KeyId>, now: Instant) -> &mut Account {
        if !self.callers.contains_key(&key) && self.callers.len() >= MAX_CALLERS {
            // Accounts untouched for a minute are full: forgetting them changes nothing.
            self.callers.retain(|_, account| now.saturating_duration_since(account.at) < MINUTE);
            let oldest = self.callers.iter().min_by_key(|(_, account)| account.at);
            if let Some(key) = oldest.map(|(&key, _)| key)
                && self.callers.len() >= MAX_CALLERS
            {
                self.callers.remove(&key);
            }
        }
        let rates = self.rates;
        let account = self.callers.entry(key).or_insert_with(|| Account::full(&rates, now));
        account.fill(&rates, now);
        account
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::{ProptestConfig, prop_assert, proptest};

    fn one(bytes: u64) -> Charge {
        Charge { bytes, requests: 1 }
    }

    const RATES: Rates = Rates {
        fast: Quota { bytes: Some(500_000), requests: Some(3) },
        slow: Quota { bytes: Some(5_000_000), requests: None },
    };

    fn key(name: &str) -> Principal {
        let key = Some(KeyId::of(name.as_bytes()));
        Principal { name: name.into(), read_only: false, key }
    }

    fn retry_after(error: &Error) -> Duration {
        match error {
            Error::RateLimited { retry_after, .. } => *retry_after,
            other => panic!("{other}"),
        }
    }

    /// Callers could neither use what they have nor know when to come back.
    #[test]
    fn a_quota_is_used_up_and_fills_again() {
        let (mut limiter, start) = (RateLimiter::new(RATES), Instant::now());
        let mut fast = |bytes, seconds| {
            let now = start + Duration::from_secs(seconds);
            limiter.check(&key("a"), Some(Latency::Fast), one(bytes), now)
        };
        assert_eq!(fast(400_000, 0).ok(), Some(Latency::Fast));
        let refused = fast(200_000, 0).expect_err("100,000 are left");
        assert_eq!(retry_after(&refused), Duration::from_secs(12));
        assert_eq!(
            refused.to_string(),
            "rate limit: 500000 bytes of fast requests per minute for this key; retry in 12 s"
        );
        assert!(fast(200_000, 11).is_err());
        assert!(fast(200_000, 12).is_ok());
        // Three requests at once, the third on credit of the time gone by; then one every 20 s.
        assert!(fast(1, 13).is_ok());
        let refused = fast(1, 13).expect_err("three requests were made");
        assert!(refused.to_string().contains("3 fast requests per minute"), "{refused}");
        assert!(fast(1, 20).is_ok());
        // A clock that jumps back refills nothing and breaks nothing.
        assert!(fast(400_000, 0).is_err());
    }

    /// One caller's load would be another's refusal.
    #[test]
    fn keys_do_not_share() {
        let (mut limiter, now) = (RateLimiter::new(RATES), Instant::now());
        assert!(limiter.check(&key("a"), Some(Latency::Fast), one(500_000), now).is_ok());
        assert!(limiter.check(&key("a"), Some(Latency::Fast), one(1), now).is_err());
        assert!(limiter.check(&key("b"), Some(Latency::Fast), one(500_000), now).is_ok());
        assert!(limiter.check(&Principal::anonymous(), Some(Latency::Fast), one(1), now).is_ok());
    }

    /// Programs that set no class would be refused although the batch class has room.
    #[test]
    fn without_a_class_slow_takes_what_fast_cannot() {
        let (mut limiter, now) = (RateLimiter::new(RATES), Instant::now());
        let mut auto = |bytes| limiter.check(&key("a"), None, one(bytes), now);
        assert_eq!(auto(500_000).ok(), Some(Latency::Fast));
        assert_eq!(auto(1_000_000).ok(), Some(Latency::Slow));
        assert_eq!(auto(4_000_000).ok(), Some(Latency::Slow));
        // Fast has room for one byte long before slow has.
        let refused = auto(1).expect_err("both are used up");
        assert!(refused.to_string().contains("5000000 bytes of slow requests"), "{refused}");
        let refused = auto(600_000).expect_err("never fits fast");
        assert!(refused.to_string().contains("5000000 bytes of slow requests"), "{refused}");
    }

    /// A retry would be refused for ever.
    #[test]
    fn what_never_fits_is_told_so() {
        let (mut limiter, now) = (RateLimiter::new(RATES), Instant::now());
        let error =
            limiter.check(&key("a"), Some(Latency::Fast), one(500_001), now).expect_err("is over");
        assert_eq!(error.retry_after_seconds(), None);
        assert_eq!(
            error.to_string(),
            "the request counts 500001 bytes; a key may send 500000 bytes of fast requests per \
             minute: send fewer documents a call"
        );
        assert!(limiter.check(&key("a"), None, one(5_000_001), now).is_err());
        assert!(limiter.check(&key("a"), None, one(5_000_000), now).is_ok());
    }

    /// Clients that repeat what the full queue refused would lose their quota for nothing.
    #[test]
    fn what_was_refused_elsewhere_is_given_back() {
        let (mut limiter, now) = (RateLimiter::new(RATES), Instant::now());
        for _ in 0..10 {
            assert!(limiter.check(&key("a"), Some(Latency::Fast), one(400_000), now).is_ok());
            limiter.refund(&key("a"), Latency::Fast, one(400_000));
        }
        limiter.refund(&key("a"), Latency::Fast, one(400_000));
        assert!(limiter.check(&key("a"), Some(Latency::Fast), one(500_000), now).is_ok());
        assert!(limiter.check(&key("a"), Some(Latency::Fast), one(1), now).is_err());
    }

    /// Memory would grow with every key that was ever seen.
    #[test]
    fn callers_are_forgotten() {
        let (mut limiter, now) = (RateLimiter::new(RATES), Instant::now());
        for index in 0..MAX_CALLERS + 50 {
            let _ = limiter.check(&key(&index.to_string()), None, one(1), now);
        }
        assert_eq!(limiter.callers.len(), MAX_CALLERS);
        let _ = limiter.check(&key("new"), None, one(1), now + MINUTE);
        assert_eq!(limiter.callers.len(), 1);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// In `t` minutes nobody gets more than `1 + t` quotas, and who comes back when told is let in.
        #[test]
        fn the_rate_holds(steps in proptest::collection::vec((0_u64..20_000, 1_u64..300_000), 1..60)) {
            let (mut limiter, start) = (RateLimiter::new(RATES), Instant::now());
            let (mut now, mut sent) = (start, 0);
            for (millis, bytes) in steps {
                now += Duration::from_millis(millis);
                match limiter.check(&key("a"), Some(Latency::Slow), one(bytes * 10), now) {
                    Ok(_) => sent += bytes * 10,
                    Err(error) => {
                        now += retry_after(&error) + Duration::from_millis(1);
                        let again = limiter.check(&key("a"), Some(Latency::Slow), one(bytes * 10), now);
                        prop_assert!(again.is_ok());
                        sent += bytes * 10;
                    }
                }
                let minutes = (now - start).as_secs_f64() / 60.0;
                prop_assert!(sent as f64 <= 5e6 * (1.0 + minutes) + 1.0);
            }
        }
    }
}
