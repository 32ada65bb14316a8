//! The cases that other autoscalers got wrong, and properties over traces in virtual time.

use super::*;
use crate::autoscale::simulator::{Hardware, Row, Step, simulate};
use crate::autoscale::window::Change;
use proptest::prelude::*;

fn settings() -> Settings {
    Settings {
        bounds: Bounds { min: 1, max: 10 },
        target_backlog: 0.5,
        target_busy: 0.8,
        tolerance: 0.1,
        initial_cooldown: 60.0,
        behavior: Behavior::default(),
    }
}

fn ready(backlog: f64, busy: f64) -> Pod {
    Pod::Ready(Some(Load { tokens: (backlog * 1000.0) as u64, tokens_per_second: 1000.0, busy }))
}

fn sample(pods: &[Pod]) -> Sample {
    Sample { pods: pods.to_vec(), active: Some(1e6), ..Sample::default() }
}

/// What the policy wants after it saw the same sample for `seconds`, every five.
fn after(seconds: i32, sample: &Sample, current: i32) -> Decision {
    let mut history = History::default();
    history.wish(-5.0, current);
    let mut decision = None;
    for step in 0..=seconds / 5 {
        decision = Some(decide(&settings(), &mut history, sample, f64::from(step * 5), current));
    }
    decision.expect("one sample at least")
}

#[test]
fn a_moment_of_load_adds_nothing_and_a_lasting_one_does() {
    let full = sample(&[ready(10.0, 1.0)]);
    assert_eq!(after(10, &full, 1).desired, 1);
    assert_eq!(after(20, &full, 1).desired, 3);
    assert_eq!(after(20, &full, 1).limit, Some(Limit::ScaleUpLimit));
}

/// Pods that still load would be joined by more and more of them.
#[test]
fn loading_pods_hold_back_a_raise_and_broken_ones_do_not() {
    let with = |pod| sample(&[ready(10.0, 1.0), pod]);
    assert_eq!(after(20, &with(Pod::Starting(30.0)), 2).desired, 2);
    assert!(after(20, &with(Pod::Starting(3600.0)), 2).desired > 2);
}

#[test]
fn a_cluster_without_devices_is_not_asked_for_more() {
    let short = sample(&[ready(10.0, 1.0), Pod::Unscheduled(61.0)]);
    let decision = after(20, &short, 2);
    assert_eq!((decision.desired, decision.limit), (2, Some(Limit::InsufficientDevices)));
}

/// An error that is read as no load scales a busy service to its least.
#[test]
fn unknown_load_is_not_zero() {
    let unknown = Pod::Ready(None);
    let none = after(600, &sample(&[unknown, unknown]), 2);
    assert_eq!((none.desired, none.figures), (2, None));
    assert_eq!(after(600, &sample(&[]), 3).desired, 3);
    // One of three is known and idle: the others count as full.
    assert_eq!(after(600, &sample(&[ready(0.0, 0.0), unknown, unknown]), 3).desired, 2);
    // One of three is known and full: the others count as idle.
    assert_eq!(after(600, &sample(&[ready(0.0, 0.9), unknown, unknown]), 3).desired, 3);
}

#[test]
fn a_pod_without_a_rate_has_that_of_its_peers() {
    let new = Pod::Ready(Some(Load { tokens: 1000, tokens_per_second: 0.0, busy: 0.0 }));
    let figures = after(0, &sample(&[ready(0.0, 0.0), new]), 2).figures.expect("is known");
    assert!((figures.backlog - 1.0).abs() < 1e-9 && figures.sampled == 2, "{figures:?}");
    assert_eq!(after(0, &sample(&[new]), 1).figures, None);
    let known = Sample { known_rate: Some(500.0), ..sample(&[new]) };
    assert!((after(0, &known, 1).figures.expect("is known").backlog - 2.0).abs() < 1e-9);
}

#[test]
fn bounds_hold_without_samples() {
    assert_eq!(after(0, &sample(&[]), 50).desired, 10);
    assert_eq!(after(0, &sample(&[]), 0).desired, 1);
}

#[test]
fn pods_are_taken_away_one_a_minute_after_five_quiet_ones() {
    let idle = sample(&[ready(0.0, 0.0); 4]);
    assert_eq!(after(295, &idle, 4).desired, 4);
    assert_eq!(after(310, &idle, 4).desired, 3);
    let mut history =
        History::restore(&[(0.0, 1), (400.0, 1)], &[Change { at: 380.0, from: 4, to: 3 }]);
    assert_eq!(decide(&settings(), &mut history, &idle, 410.0, 3).desired, 3);
    assert_eq!(decide(&settings(), &mut history, &idle, 445.0, 3).desired, 2);
}

#[test]
fn nothing_shrinks_in_a_rollout_or_just_after_the_start() {
    let idle = sample(&[ready(0.0, 0.0); 4]);
    let rolling = Sample { is_rolling_out: true, ..idle.clone() };
    assert_eq!(after(600, &rolling, 4).desired, 4);
    assert_eq!(after(600, &Sample { active: Some(30.0), ..idle.clone() }, 4).desired, 4);
    assert_eq!(after(600, &Sample { active: None, ..idle }, 4).desired, 4);
}

/// An operator that starts anew must neither shrink at once nor never again.
#[test]
fn a_restart_goes_on_from_the_summary() {
    let mut history = History::default();
    for step in 0..60 {
        history.wish(f64::from(step * 5), if step < 40 { 4 } else { 1 });
    }
    let summary = history.summary(295.0, 300.0, 10);
    assert!(summary.len() <= 10, "{summary:?}");
    let idle = sample(&[ready(0.0, 0.0); 4]);
    let mut restored = History::restore(&summary, &[]);
    assert_eq!(decide(&settings(), &mut restored, &idle, 300.0, 4).desired, 4);
    assert_eq!(decide(&settings(), &mut restored, &idle, 505.0, 4).desired, 3);
}

const HARDWARE: Hardware =
    Hardware { tokens_per_second: 1000.0, load_seconds: 40.0, sample_seconds: 5.0, room: 100 };

fn steady(pods: f64, seconds: f64) -> Vec<Step> {
    let step = |at| Step { at, tokens_per_second: pods * 1000.0 };
    vec![step(0.0), step(seconds)]
}

fn changes(rows: &[Row]) -> usize {
    rows.windows(2).filter(|pair| pair[0].desired != pair[1].desired).count()
}

/// Four pods at 60 % must not become three, then four, then three.
#[test]
fn a_steady_load_keeps_its_pods() {
    let rows = simulate(&settings(), &HARDWARE, &steady(2.4, 3600.0));
    assert_eq!(rows.first().map(|row| row.desired), Some(3));
    assert_eq!(changes(&rows), 0);
}

#[test]
fn a_step_is_served_and_forgotten() {
    let step = |at, pods: f64| Step { at, tokens_per_second: pods * 1000.0 };
    let trace = [step(0.0, 0.5), step(300.0, 4.0), step(1500.0, 0.5), step(4000.0, 0.0)];
    let rows = simulate(&settings(), &HARDWARE, &trace);
    let first = rows.iter().find(|row| row.desired > 1).expect("more pods");
    assert!(first.at - 300.0 <= 20.0, "the first new pod came after {} s", first.at - 300.0);
    let served = rows.iter().filter(|row| row.at > 1000.0 && row.at < 1500.0);
    assert!(served.clone().all(|row| row.wait < 0.5 && (5..=10).contains(&row.desired)));
    assert_eq!(rows.last().map(|row| row.desired), Some(1));
}

proptest! {
    /// Whatever the load and the bounds, the number stays within them and comes to rest.
    #[test]
    fn it_converges_within_bounds(pods in 0.0_f64..12.0, before in 0.0_f64..12.0, min in 1..4, more in 0..10) {
        let settings = Settings { bounds: Bounds { min, max: min + more }, ..settings() };
        let mut trace = steady(pods, 7200.0);
        trace[0] = Step { at: 600.0, ..trace[0] };
        trace.insert(0, Step { at: 0.0, tokens_per_second: before * 1000.0 });
        let rows = simulate(&settings, &HARDWARE, &trace);
        prop_assert!(rows.iter().all(|row| (min..=min + more).contains(&row.desired)));
        let last: Vec<Row> = rows.iter().filter(|row| row.at > 5400.0).copied().collect();
        prop_assert_eq!(changes(&last), 0);
        // At rest there are enough: within what may be ignored, or all that are allowed.
        let desired = f64::from(last[0].desired);
        prop_assert!(last[0].desired == min + more || pods / 0.8 <= desired * 1.1 + 1e-6);
    }

    /// Noise around a steady load does not move the number to and fro, as long as its highest and its lowest are
    /// within the tolerance of each other: 1.047 / 0.953 < 1.1.
    #[test]
    fn noise_does_not_flap(pods in 0.5_f64..6.0, noise in prop::collection::vec(-0.047_f64..0.047, 200)) {
        let trace: Vec<Step> = noise.iter().enumerate().map(|(index, noise)| Step {
            at: index as f64 * 30.0,
            tokens_per_second: pods * (1.0 + noise) * 1000.0,
        }).collect();
        let rows = simulate(&settings(), &HARDWARE, &trace);
        let mut directions: Vec<bool> = Vec::new();
        for pair in rows.windows(2) {
            if pair[0].desired != pair[1].desired {
                directions.push(pair[1].desired > pair[0].desired);
            }
        }
        directions.dedup();
        prop_assert!(directions.len() <= 2, "{directions:?}");
    }

    /// More load never asks for fewer pods.
    #[test]
    fn more_load_never_asks_for_less(
        loads in prop::collection::vec((0.0_f64..20.0, 0.0_f64..1.0), 1..6),
        more in (0.0_f64..5.0, 0.0_f64..0.5),
        seconds in 0..400,
    ) {
        let pods = |extra: (f64, f64)| -> Vec<Pod> {
            loads.iter().map(|(backlog, busy)| ready(backlog + extra.0, busy + extra.1)).collect()
        };
        let current = loads.len() as i32;
        let less = after(seconds, &sample(&pods((0.0, 0.0))), current).desired;
        let more = after(seconds, &sample(&pods(more)), current).desired;
        prop_assert!(less <= more, "{less} > {more}");
    }
}
