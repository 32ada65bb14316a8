//! The policy over a trace of load, in virtual time: what it would have done, before it does it.
//!
//! Pods are queues that empty at a constant rate, load is split evenly over the ready ones, and what waits in a
//! pod stays there. That leaves out the shape of requests and what clients do when they are refused.

mod plot;

pub use plot::svg;

use super::policy::{Load, Pod, Sample, Settings, decide};
use super::window::{Change, History, Seconds};
use std::fmt::Write as _;

/// What pods are like.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Hardware {
    /// Tokens that a pod computes in a second.
    pub tokens_per_second: f64,
    /// Seconds from a pod's creation until it serves.
    pub load_seconds: Seconds,
    /// Seconds between two readings of the load.
    pub sample_seconds: Seconds,
    /// Pods that the cluster has room for.
    pub room: i32,
}

/// A load that begins at a time and lasts until the next.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Step {
    /// When it begins.
    pub at: Seconds,
    /// Tokens that arrive in a second.
    pub tokens_per_second: f64,
}

/// What there was at one reading.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Row {
    /// When.
    pub at: Seconds,
    /// Tokens that arrive in a second.
    pub tokens_per_second: f64,
    /// Pods wanted.
    pub desired: i32,
    /// Pods that serve.
    pub ready: i32,
    /// Mean time that what arrives now waits.
    pub wait: Seconds,
}

/// Reads a trace: lines of `SECONDS,TOKENS_PER_SECOND` in the order of time; words before the first one and
/// lines that begin with `#` are passed over. The last line ends the trace.
///
/// # Errors
/// What is wrong, and in which line.
pub fn read_trace(text: &str) -> Result<Vec<Step>, String> {
    let mut steps: Vec<Step> = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        let is_heading = steps.is_empty() && line.starts_with(|first: char| first.is_alphabetic());
        if line.is_empty() || line.starts_with('#') || is_heading {
            continue;
        }
        let wrong = |what: &str| format!("line {}: `{line}` {what}", index + 1);
        let (at, load) = line
            .split_once(',')
            .and_then(|(at, load)| Some((at.trim().parse().ok()?, load.trim().parse().ok()?)))
            .filter(|(at, load): &(f64, f64)| at.is_finite() && load.is_finite() && *load >= 0.0)
            .ok_or_else(|| wrong("is not SECONDS,TOKENS_PER_SECOND"))?;
        if steps.last().is_some_and(|last| last.at >= at) {
            return Err(wrong("is not after the line before it"));
        }
        steps.push(Step { at, tokens_per_second: load });
    }
    match steps.len() {
        0 | 1 => Err("a trace needs two lines at least: the last one ends it".to_owned()),
        _ => Ok(steps),
    }
}

/// A pod of the simulation.
struct Replica {
    since: Seconds,
    tokens: f64,
    /// The last ten seconds, newest last.
    busy: [f64; 10],
}

/// Runs the policy over the trace, from as many pods as its first load needs.
pub fn simulate(settings: &Settings, hardware: &Hardware, trace: &[Step]) -> Vec<Row> {
    let (Some(first), Some(last)) = (trace.first(), trace.last()) else { return Vec::new() };
    let needed = first.tokens_per_second / hardware.tokens_per_second / settings.target_busy;
    let mut desired = settings.bounds.clamp(needed.ceil() as i32);
    let ready_since = first.at - hardware.load_seconds;
    let busy = (first.tokens_per_second / hardware.tokens_per_second / f64::from(desired)).min(1.0);
    let new = |since, busy| Replica { since, tokens: 0.0, busy: [busy; 10] };
    let mut pods: Vec<Replica> = (0..desired).map(|_| new(ready_since, busy)).collect();
    let mut history = History::default();
    let mut rows = Vec::new();
    let mut next_sample = first.at;
    let mut now = first.at;
    while now < last.at {
        let load = trace
            .iter()
            .rev()
            .find(|step| step.at <= now)
            .map_or(0.0, |step| step.tokens_per_second);
        work(&mut pods, hardware, load, now);
        if now >= next_sample {
            next_sample = now + hardware.sample_seconds;
            let sample = observe(&pods, hardware, now, first.at);
            let decision = decide(settings, &mut history, &sample, now, desired);
            if decision.desired != desired {
                history.change(Change { at: now, from: desired, to: decision.desired });
                desired = decision.desired;
            }
            while (pods.len() as i32) < desired {
                pods.push(new(now, 0.0));
            }
            // The one with the least work goes first, as its deletion cost says.
            pods.sort_by(|one, other| other.tokens.total_cmp(&one.tokens));
            pods.truncate(desired.max(0) as usize);
            rows.push(row(&pods, hardware, load, now, desired));
        }
        now += 1.0;
    }
    rows
}

fn is_ready(index: usize, pod: &Replica, hardware: &Hardware, now: Seconds) -> bool {
    (index as i32) < hardware.room && now - pod.since >= hardware.load_seconds
}

/// One second of arrivals and work.
fn work(pods: &mut [Replica], hardware: &Hardware, load: f64, now: Seconds) {
    let ready = |index: usize, pod: &Replica| is_ready(index, pod, hardware, now);
    let count = pods.iter().enumerate().filter(|(index, pod)| ready(*index, pod)).count();
    for (index, pod) in pods.iter_mut().enumerate() {
        if !ready(index, pod) {
            continue;
        }
        pod.tokens += load / count as f64;
        let done = pod.tokens.min(hardware.tokens_per_second);
        pod.tokens -= done;
        pod.busy.rotate_left(1);
        pod.busy[9] = done / hardware.tokens_per_second;
    }
}

fn observe(pods: &[Replica], hardware: &Hardware, now: Seconds, start: Seconds) -> Sample {
    let pods = pods.iter().enumerate().map(|(index, pod)| {
        if (index as i32) >= hardware.room {
            Pod::Unscheduled(now - pod.since)
        } else if is_ready(index, pod, hardware, now) {
            Pod::Ready(Some(Load {
                tokens: pod.tokens as u64,
                tokens_per_second: hardware.tokens_per_second,
                busy: pod.busy.iter().sum::<f64>() / 10.0,
            }))
        } else {
            Pod::Starting(now - pod.since)
        }
    });
    Sample { pods: pods.collect(), active: Some(now - start), ..Sample::default() }
}

fn row(pods: &[Replica], hardware: &Hardware, load: f64, now: Seconds, desired: i32) -> Row {
    let ready: Vec<&Replica> = pods
        .iter()
        .enumerate()
        .filter(|(index, pod)| is_ready(*index, pod, hardware, now))
        .map(|(_, pod)| pod)
        .collect();
    let waiting: f64 = ready.iter().map(|pod| pod.tokens).sum();
    let capacity = ready.len() as f64 * hardware.tokens_per_second;
    let wait = if capacity > 0.0 { waiting / capacity } else { f64::INFINITY };
    Row { at: now, tokens_per_second: load, desired, ready: ready.len() as i32, wait }
}

/// The rows as a table, one line whenever a number of pods changed and at least every `every` seconds.
pub fn table(rows: &[Row], every: Seconds) -> String {
    let mut text = format!(
        "{:>8}  {:>10}  {:>7}  {:>5}  {:>7}\n",
        "SECONDS", "TOKENS/S", "DESIRED", "READY", "WAIT"
    );
    let mut last: Option<&Row> = None;
    for row in rows {
        let is_news = last.is_none_or(|last| {
            (last.desired, last.ready) != (row.desired, row.ready) || row.at - last.at >= every
        });
        if is_news {
            let Row { at, tokens_per_second, desired, ready, wait } = row;
            writeln!(
                text,
                "{at:>8.0}  {tokens_per_second:>10.0}  {desired:>7}  {ready:>5}  {wait:>6.1}s"
            )
            .expect("strings grow");
            last = Some(row);
        }
    }
    text
}
