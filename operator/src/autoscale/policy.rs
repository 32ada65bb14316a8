//! How many pods the load asks for. Pure: samples, history and the time come in, a number goes out.
//!
//! Two figures decide. The *backlog* is the work that waits, in seconds of a pod at its own measured rate: it says
//! how far a number of pods is too small. Below saturation it is near zero whatever the number is, so the *busy
//! ratio* says how far the number may be lowered. A request holds 1 to 1000 documents and a device reads as busy
//! at any load, so neither requests nor the device's own figures would do.

use super::limits;
use super::window::{History, Seconds};
use crate::crd::{Autoscaling, Behavior};
use crate::validate::{Bounds, Reranker};

/// A pod that starts for longer than this is broken, not loading: it no longer holds back a raise.
const LOADING: Seconds = 600.0;
/// Time that a pod may wait for a node before that counts as a lack of devices.
const SCHEDULING: Seconds = 60.0;

/// What the policy is told once.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// Fewest and most pods.
    pub bounds: Bounds,
    /// Seconds of work that may wait in each pod.
    pub target_backlog: Seconds,
    /// Share of the time that each pod may be busy, in (0, 1].
    pub target_busy: f64,
    /// How far from 1 the ratio of the load to the pods may be.
    pub tolerance: f64,
    /// Time after the first ready pod in which none is taken away.
    pub initial_cooldown: Seconds,
    /// How fast the number may change.
    pub behavior: Behavior,
}

impl Settings {
    /// Those of an object.
    pub fn of(reranker: &Reranker) -> Self {
        let Autoscaling {
            target_busy_percent,
            tolerance_percent,
            initial_cooldown_seconds,
            behavior,
            ..
        } = &reranker.spec.autoscaling;
        Self {
            bounds: reranker.bounds,
            target_backlog: reranker.target_backlog.as_secs_f64(),
            target_busy: f64::from(*target_busy_percent) / 100.0,
            tolerance: f64::from(*tolerance_percent) / 100.0,
            initial_cooldown: f64::from(initial_cooldown_seconds.unwrap_or(60)),
            behavior: behavior.clone(),
        }
    }
}

/// The load of a ready pod.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Load {
    /// Tokens that wait or run.
    pub tokens: u64,
    /// Measured rate of the pod; 0: not measured yet.
    pub tokens_per_second: f64,
    /// Share of the last seconds that the pod computed, in [0, 1].
    pub busy: f64,
}

/// A pod, as far as the policy is concerned; those that drain are left out.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Pod {
    /// It serves; none: its load could not be read.
    Ready(Option<Load>),
    /// It does not serve yet, for so many seconds.
    Starting(Seconds),
    /// It finds no node, for so many seconds.
    Unscheduled(Seconds),
}

/// What is known at one time.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sample {
    /// All pods that are not ending.
    pub pods: Vec<Pod>,
    /// A rollout is under way: pods leave for another reason.
    pub is_rolling_out: bool,
    /// Seconds since the first pod was ready; none: none was yet.
    pub active: Option<Seconds>,
    /// The rate that was last seen, for pods that have none yet.
    pub known_rate: Option<f64>,
}

/// Why the number is not what the load asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// The load asks for more than the most.
    TooManyReplicas,
    /// It asks for less than the fewest.
    TooFewReplicas,
    /// The raise is slowed by the behavior, or by pods that are still starting.
    ScaleUpLimit,
    /// Pods wait for devices that the cluster does not have.
    InsufficientDevices,
}

/// What the load comes to.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Figures {
    /// Seconds of work that wait, summed over the pods.
    pub backlog: Seconds,
    /// Busy pods: their ratios, summed.
    pub busy: f64,
    /// Median of the measured rates.
    pub tokens_per_second: Option<f64>,
    /// Pods whose load is known.
    pub sampled: i32,
}

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Decision {
    /// Pods wanted.
    pub desired: i32,
    /// What the load comes to; none: it is not known, and the number stays as it is.
    pub figures: Option<Figures>,
    /// Why this is not what the load asks for.
    pub limit: Option<Limit>,
}

/// Decides from what is known now, and remembers the wish; the caller remembers the change once it is made.
pub fn decide(
    settings: &Settings,
    history: &mut History,
    sample: &Sample,
    now: Seconds,
    current: i32,
) -> Decision {
    let bounds = settings.bounds;
    let clamped = bounds.clamp(current);
    if history.is_empty() {
        // What runs is what was wanted until now.
        history.wish(now, clamped);
    }
    let Some(sums) = Sums::of(settings, sample) else {
        return Decision { desired: clamped, figures: None, limit: None };
    };
    let wish = wish(settings, &sums, clamped);
    history.wish(now, wish);
    let (desired, limit) = stabilise(settings, history, sample, now, clamped);
    let limit = limit.or(match wish {
        wish if wish > bounds.max => Some(Limit::TooManyReplicas),
        wish if wish < bounds.min => Some(Limit::TooFewReplicas),
        _ => None,
    });
    Decision { desired, figures: Some(sums.figures), limit }
}

/// The load twice: unknown pods count as idle for a raise and as full for a cut.
struct Sums {
    figures: Figures,
    /// Pods that the load asks for, if unknown pods are idle.
    low: f64,
    /// The same, if they are full.
    high: f64,
}

impl Sums {
    fn of(settings: &Settings, sample: &Sample) -> Option<Self> {
        let loads: Vec<Option<Load>> = sample
            .pods
            .iter()
            .filter_map(|pod| if let Pod::Ready(load) = pod { Some(*load) } else { None })
            .collect();
        let measured = loads.iter().flatten().map(|load| load.tokens_per_second);
        let rate = median(measured.filter(|rate| *rate > 0.0).collect());
        let mut figures = Figures { tokens_per_second: rate, ..Figures::default() };
        let mut unknown = 0.0;
        for load in &loads {
            match load.as_ref().and_then(|load| backlog(load, rate.or(sample.known_rate))) {
                Some((backlog, busy)) => {
                    figures.backlog += backlog;
                    figures.busy += busy;
                    figures.sampled += 1;
                }
                None => unknown += 1.0,
            }
        }
        if figures.sampled == 0 {
            return None;
        }
        let pods = |backlog: f64, busy: f64| {
            (backlog / settings.target_backlog).max(busy / settings.target_busy)
        };
        let low = pods(figures.backlog, figures.busy);
        let high = pods(
            figures.backlog + unknown * settings.target_backlog,
            figures.busy + unknown * settings.target_busy,
        );
        Some(Self { figures, low, high })
    }
}

/// Seconds of work and busy ratio of a pod; none: it has work and nobody knows a rate.
fn backlog(load: &Load, peers: Option<f64>) -> Option<(Seconds, f64)> {
    let busy = load.busy.clamp(0.0, 1.0);
    if load.tokens == 0 {
        return Some((0.0, busy));
    }
    let rate = Some(load.tokens_per_second).filter(|rate| *rate > 0.0).or(peers)?;
    Some((load.tokens as f64 / rate, busy))
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    values.get(values.len().checked_sub(1)? / 2).copied()
}

fn wish(settings: &Settings, sums: &Sums, current: i32) -> i32 {
    let pods = f64::from(current.max(1));
    // A number of pods that is right to a rounding error must not become one more.
    let whole = |pods: f64| (pods - 1e-6).ceil().clamp(0.0, 1e6) as i32;
    if sums.low / pods > 1.0 + settings.tolerance {
        whole(sums.low)
    } else if sums.high / pods < 1.0 - settings.tolerance {
        whole(sums.high).min(current)
    } else {
        current
    }
}

fn stabilise(
    settings: &Settings,
    history: &History,
    sample: &Sample,
    now: Seconds,
    current: i32,
) -> (i32, Option<Limit>) {
    let Behavior { scale_up, scale_down } = &settings.behavior;
    let window = |seconds: i32| f64::from(seconds);
    let up = history.lowest(now, window(scale_up.stabilization_window_seconds));
    let down = history.highest(now, window(scale_down.stabilization_window_seconds));
    let up = settings.bounds.clamp(up.unwrap_or(current));
    let down = settings.bounds.clamp(down.unwrap_or(current));
    if up > current {
        let waits = |limit: Seconds| {
            sample.pods.iter().any(|pod| matches!(pod, Pod::Unscheduled(time) if *time > limit))
        };
        if waits(SCHEDULING) {
            return (current, Some(Limit::InsufficientDevices));
        }
        let loads = sample.pods.iter().any(|pod| match pod {
            Pod::Starting(time) => *time <= LOADING,
            Pod::Unscheduled(_) => true,
            Pod::Ready(_) => false,
        });
        if loads {
            return (current, Some(Limit::ScaleUpLimit));
        }
        let most = limits::most(scale_up, history, now, current);
        return if most < up { (most, Some(Limit::ScaleUpLimit)) } else { (up, None) };
    }
    if down < current {
        let cooled = sample.active.is_some_and(|active| active >= settings.initial_cooldown);
        if sample.is_rolling_out || !cooled {
            return (current, None);
        }
        return (down.max(limits::fewest(scale_down, history, now, current)), None);
    }
    (current, None)
}

#[cfg(test)]
mod tests;
