//! How loaded the service is, for those that scale it. Pure: samples and the time come in.

use super::ModelFigures;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// How far back the busy ratio looks: long enough that a batch of a second does not make it jump.
const WINDOW: Duration = Duration::from_secs(10);

/// Samples of the engines' busy time over the last [`WINDOW`], oldest first.
#[derive(Debug, Default)]
pub(super) struct BusyWindow(VecDeque<(Instant, Vec<Duration>)>);

impl BusyWindow {
    pub(super) fn push(&mut self, now: Instant, busy: Vec<Duration>) {
        if self.0.back().is_some_and(|(_, last)| last.len() != busy.len()) {
            // The models came: what was before is not about them.
            self.0.clear();
        }
        self.0.push_back((now, busy));
        // One sample as old as the window stays, so that the ratio is over the whole of it.
        while self.0.get(1).is_some_and(|(at, _)| now.saturating_duration_since(*at) >= WINDOW) {
            self.0.pop_front();
        }
    }

    /// The share of the time since the oldest sample that engine `index` was busy, in [0, 1].
    fn ratio(&self, index: usize, now: Instant, busy: Duration) -> f64 {
        let Some((at, Some(then))) = self.0.front().map(|(at, busy)| (at, busy.get(index))) else {
            return 0.0;
        };
        let elapsed = now.saturating_duration_since(*at).as_secs_f64();
        let worked = busy.saturating_sub(*then).as_secs_f64();
        // The device's time is added when a batch ends, so a short window can hold more than its length.
        if elapsed > 0.0 { (worked / elapsed).min(1.0) } else { 0.0 }
    }
}

/// The load of all models together and of each.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Load {
    /// Sums, but for the ratio and the backlog: there the model with the most decides, because
    /// another's idle device does not help it.
    pub(crate) total: ModelLoad,
    pub(crate) models: Vec<(String, ModelLoad)>,
}

/// The load of a model.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct ModelLoad {
    pub(crate) queued_fast_tokens: u64,
    pub(crate) queued_slow_tokens: u64,
    pub(crate) queued_requests: u64,
    pub(crate) inflight_tokens: u64,
    /// The measured rate while busy; 0 before the first measurement.
    pub(crate) tokens_per_second: f64,
    /// Over the last ten seconds.
    pub(crate) busy_ratio: f64,
    /// Queued and running tokens over the measured rate; none: there is work and no rate yet.
    pub(crate) backlog_seconds: Option<f64>,
}

impl Load {
    pub(super) fn new(window: &BusyWindow, now: Instant, engines: &[ModelFigures]) -> Self {
        let models: Vec<(String, ModelLoad)> = engines
            .iter()
            .enumerate()
            .map(|(index, ModelFigures { name, stats })| {
                let busy_ratio = window.ratio(index, now, stats.busy);
                let waiting =
                    stats.queued_fast_tokens + stats.queued_slow_tokens + stats.inflight_tokens;
                let load = ModelLoad {
                    queued_fast_tokens: stats.queued_fast_tokens,
                    queued_slow_tokens: stats.queued_slow_tokens,
                    queued_requests: stats.queued_requests,
                    inflight_tokens: stats.inflight_tokens,
                    tokens_per_second: stats.tokens_per_second,
                    busy_ratio,
                    backlog_seconds: backlog(waiting, stats.tokens_per_second),
                };
                (name.clone(), load)
            })
            .collect();
        let none = ModelLoad { backlog_seconds: Some(0.0), ..ModelLoad::default() };
        let total = models.iter().fold(none, |total, (_, model)| ModelLoad {
            queued_fast_tokens: total.queued_fast_tokens + model.queued_fast_tokens,
            queued_slow_tokens: total.queued_slow_tokens + model.queued_slow_tokens,
            queued_requests: total.queued_requests + model.queued_requests,
            inflight_tokens: total.inflight_tokens + model.inflight_tokens,
            tokens_per_second: total.tokens_per_second + model.tokens_per_second,
            busy_ratio: total.busy_ratio.max(model.busy_ratio),
            backlog_seconds: total
                .backlog_seconds
                .zip(model.backlog_seconds)
                .map(|(one, other)| one.max(other)),
        });
        Self { total, models }
    }
}

fn backlog(tokens: u64, tokens_per_second: f64) -> Option<f64> {
    match tokens {
        0 => Some(0.0),
        _ => (tokens_per_second > 0.0).then(|| tokens as f64 / tokens_per_second),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use reranker_engine::Stats;

    fn model(busy_seconds: u64, queued: u64, rate: f64) -> ModelFigures {
        let stats = Stats {
            queued_fast_tokens: queued,
            inflight_tokens: 100,
            tokens_per_second: rate,
            busy: Duration::from_secs(busy_seconds),
            ..Stats::default()
        };
        ModelFigures { name: format!("m{queued}"), stats }
    }

    /// An autoscaler would act on what was the case long ago, or on a single batch.
    #[test]
    fn the_busy_ratio_is_over_the_last_ten_seconds() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut window = BusyWindow::default();
        // Busy all the time for 100 s, then idle.
        for second in 0..=100 {
            window.push(at(second), vec![Duration::from_secs(second)]);
        }
        let busy = Duration::from_secs(100);
        assert!((window.ratio(0, at(100), busy) - 1.0).abs() < 1e-9);
        assert!((window.ratio(0, at(110), busy) - 0.5).abs() < 1e-9);
        for second in 101..=111 {
            window.push(at(second), vec![busy]);
        }
        assert!(window.ratio(0, at(111), busy) < 1e-9);
        assert!(window.0.len() <= 12, "{} samples", window.0.len());
    }

    /// The models' arrival would look like a jump of work.
    #[test]
    fn samples_from_before_the_models_came_do_not_count() {
        let start = Instant::now();
        let mut window = BusyWindow::default();
        assert!(window.ratio(0, start, Duration::ZERO) < 1e-9);
        window.push(start, Vec::new());
        window.push(start + Duration::from_secs(1), vec![Duration::from_secs(50)]);
        assert_eq!(window.0.len(), 1);
        let now = start + Duration::from_secs(2);
        assert!(window.ratio(0, now, Duration::from_secs(50)) < 1e-9);
        // A batch of 3 s that ended within the last second.
        assert!((window.ratio(0, now, Duration::from_secs(53)) - 1.0).abs() < 1e-9);
    }

    /// A full model beside an idle one would look half full and never be given a second replica; a
    /// load that is not known yet would look like none.
    #[test]
    fn the_fullest_model_decides_and_unknown_is_not_zero() {
        let now = Instant::now();
        let load = |models: &[ModelFigures]| Load::new(&BusyWindow::default(), now, models).total;
        let both = load(&[model(0, 900, 100.0), model(0, 0, 50.0)]);
        assert_eq!(both.backlog_seconds, Some(10.0));
        assert_eq!((both.queued_fast_tokens, both.inflight_tokens), (900, 200));
        assert_eq!(load(&[model(0, 900, 100.0), model(0, 5, 0.0)]).backlog_seconds, None);
        assert_eq!(load(&[]).backlog_seconds, Some(0.0));
    }
}
