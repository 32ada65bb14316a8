//! When the requests of an open loop are due.
//!
//! Pure: a rate and a seed in, times out. Nothing that the server does moves them, which is what
//! keeps a slow server from being asked less.

use super::random::Random;
use std::time::Duration;

/// A Poisson process: the times since the beginning at which requests are due, without end.
#[derive(Clone, Debug)]
pub(super) struct Arrivals {
    random: Random,
    per_second: f64,
    seconds: f64,
}

impl Arrivals {
    /// `per_second` is above 0.
    pub(super) fn new(per_second: f64, seed: u64) -> Self {
        Self { random: Random::new(seed), per_second, seconds: 0.0 }
    }
}

impl Iterator for Arrivals {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        self.seconds -= self.random.unit().ln() / self.per_second;
        Some(Duration::try_from_secs_f64(self.seconds).unwrap_or(Duration::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Another distribution (even gaps, say) would flatter every server: real users come in bursts.
    #[test]
    fn arrivals_are_a_poisson_process() {
        const RATE: f64 = 50.0;
        const SECONDS: usize = 4_000;
        let mut counts = vec![0.0_f64; SECONDS];
        let mut gaps = Vec::new();
        let mut last = 0.0;
        for at in Arrivals::new(RATE, 7).map(|at| at.as_secs_f64()) {
            let Some(count) = counts.get_mut(at as usize) else { break };
            *count += 1.0;
            gaps.push(at - last);
            last = at;
        }
        let moments = |values: &[f64]| {
            let n = values.len() as f64;
            let mean = values.iter().sum::<f64>() / n;
            (mean, values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / n)
        };
        // The count of a second has the rate as its mean and as its variance.
        let (mean, variance) = moments(&counts);
        assert!((mean / RATE - 1.0).abs() < 0.01, "{mean}");
        assert!((variance / RATE - 1.0).abs() < 0.07, "{variance}");
        // A gap has the mean 1 / rate and the variance of its square.
        let (mean, variance) = moments(&gaps);
        assert!((mean * RATE - 1.0).abs() < 0.01, "{mean}");
        assert!((variance * RATE * RATE - 1.0).abs() < 0.05, "{variance}");
    }

    /// Two runs could not be compared.
    #[test]
    fn a_seed_gives_the_same_times() {
        let times = |seed| Arrivals::new(3.0, seed).take(100).collect::<Vec<_>>();
        assert_eq!(times(1), times(1));
        assert_ne!(times(1), times(2));
        assert!(times(1).is_sorted());
    }
}
