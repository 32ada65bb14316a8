//! How fast the number of pods may change: the rules of the `HorizontalPodAutoscaler`. Pure.

use super::window::{History, Seconds};
use crate::crd::{PolicyType, ScalingRules, SelectPolicy};

/// Most pods that `rules` allow now, at least `current`.
pub fn most(rules: &ScalingRules, history: &History, now: Seconds, current: i32) -> i32 {
    let limits = rules.policies.iter().map(|policy| {
        let start = at_start(history, now, policy.period_seconds, current);
        match policy.kind {
            PolicyType::Pods => start.saturating_add(policy.value),
            PolicyType::Percent => {
                (f64::from(start) * (1.0 + f64::from(policy.value) / 100.0)).ceil() as i32
            }
        }
    });
    let limit = match rules.select_policy {
        SelectPolicy::Max => limits.max(),
        SelectPolicy::Min => limits.min(),
        SelectPolicy::Disabled => None,
    };
    limit.unwrap_or(current).max(current)
}

/// Fewest pods that `rules` allow now, at most `current`.
pub fn fewest(rules: &ScalingRules, history: &History, now: Seconds, current: i32) -> i32 {
    let limits = rules.policies.iter().map(|policy| {
        let start = at_start(history, now, policy.period_seconds, current);
        match policy.kind {
            PolicyType::Pods => start - policy.value,
            PolicyType::Percent => {
                (f64::from(start) * (1.0 - f64::from(policy.value) / 100.0)).floor() as i32
            }
        }
    });
    let limit = match rules.select_policy {
        SelectPolicy::Max => limits.min(),
        SelectPolicy::Min => limits.max(),
        SelectPolicy::Disabled => None,
    };
    limit.unwrap_or(current).min(current)
}

fn at_start(history: &History, now: Seconds, period_seconds: i32, current: i32) -> i32 {
    let (added, taken) = history.changed(now, f64::from(period_seconds));
    current - added + taken
}
