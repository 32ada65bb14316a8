//! What the autoscaler keeps of an object between two looks, and how status shows it. Pure: times come in.

use super::policy::{Decision, Figures, Limit};
use super::window::{Change, History, Seconds};
use crate::crd::{AutoscalingStatus, Scaling, WindowEntry};
use crate::status::Scaler;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::{SignedDuration, Timestamp};

/// Entries of the window in status.
const WINDOW: usize = 10;
/// Changes in status.
const CHANGES: usize = 5;
/// Least time between two writes of figures that only vary.
const QUIET: Seconds = 30.0;

/// What is kept of an object.
#[derive(Clone, Debug)]
pub struct Record {
    /// Wishes and changes, from which the policy decides.
    pub history: History,
    /// What was last decided.
    pub decision: Option<Decision>,
    /// Why the load is not known, if it is not.
    pub silence: Option<String>,
    known_rate: Option<f64>,
    changes: Vec<Scaling>,
    shown: AutoscalingStatus,
    shown_at: Option<(Seconds, Scaler)>,
}

impl Record {
    /// Goes on from what status holds.
    pub fn restore(old: Option<&AutoscalingStatus>, now: Seconds, time: Timestamp) -> Self {
        let old = old.cloned().unwrap_or_default();
        // A time in the future is a clock that was set: it counts as now.
        let at = |then: &Time| now - time.duration_since(then.0).as_secs_f64().max(0.0);
        let wishes: Vec<_> = old.window.iter().map(|it| (at(&it.at), it.replicas)).collect();
        let changes: Vec<_> = old
            .history
            .iter()
            .map(|it| Change { at: at(&it.at), from: it.from, to: it.to })
            .collect();
        Self {
            history: History::restore(&wishes, &changes),
            decision: None,
            silence: None,
            known_rate: old.tokens_per_second.map(|rate| rate as f64),
            changes: old.history.clone(),
            shown: old,
            shown_at: None,
        }
    }

    /// The rate that was last seen.
    pub fn known_rate(&self) -> Option<f64> {
        self.known_rate
    }

    /// Takes in a decision.
    pub fn decided(&mut self, decision: Decision, silence: Option<String>) {
        if let Some(rate) = decision.figures.and_then(|figures| figures.tokens_per_second) {
            self.known_rate = Some(rate);
        }
        self.decision = Some(decision);
        self.silence = silence;
    }

    /// Takes in that the number was changed.
    pub fn changed(&mut self, change: Change, time: Timestamp, reason: String) {
        self.history.change(change);
        let Change { from, to, .. } = change;
        self.changes.push(Scaling { at: Time(time), from, to, reason });
        let surplus = self.changes.len().saturating_sub(CHANGES);
        self.changes.drain(..surplus);
    }

    /// What conditions say of the scaling.
    pub fn scaler(&self) -> Scaler {
        match (&self.decision, &self.silence) {
            (None, _) => Scaler::Unknown,
            (Some(Decision { figures: Some(_), limit, .. }), _) => Scaler::Known(*limit),
            (Some(_), silence) => {
                let reason = silence.clone();
                Scaler::NoMetrics(reason.unwrap_or_else(|| "no pod serves yet".to_owned()))
            }
        }
    }

    /// What status shows.
    pub fn shown(&self) -> &AutoscalingStatus {
        &self.shown
    }

    /// Makes the next [`Record::show`] show, whatever it is.
    pub fn show_again(&mut self) {
        self.shown_at = None;
    }

    /// Renews what status shows if that is worth a write: a change at once, figures that vary now and then.
    /// Whether it did.
    pub fn show(&mut self, now: Seconds, time: Timestamp, window: Seconds) -> bool {
        let status = self.status(now, time, window);
        let scaler = self.scaler();
        let figures =
            |status: &AutoscalingStatus| AutoscalingStatus { window: Vec::new(), ..status.clone() };
        let is_due = match &self.shown_at {
            None => true,
            Some((_, shown)) if *shown != scaler => true,
            Some(_)
                if self.shown.desired != status.desired || self.shown.history != status.history =>
            {
                true
            }
            Some((at, _)) => now - at >= QUIET && figures(&self.shown) != figures(&status),
        };
        if is_due {
            self.shown_at = Some((now, scaler));
            // The window alone is worth no write: what it held before a restart is as good.
            if figures(&self.shown) != figures(&status) {
                self.shown = status;
            }
        }
        is_due
    }

    fn status(&self, now: Seconds, time: Timestamp, window: Seconds) -> AutoscalingStatus {
        let when = |at: Seconds| {
            // Whole seconds, as Kubernetes writes them.
            let ago = SignedDuration::from_secs((now - at) as i64);
            let then = time.checked_sub(ago).unwrap_or(time);
            Time(Timestamp::from_second(then.as_second()).unwrap_or(then))
        };
        let figures = self.decision.and_then(|decision| decision.figures);
        let summary = self.history.summary(now, window, WINDOW);
        AutoscalingStatus {
            desired: self.decision.map_or(self.shown.desired, |decision| decision.desired),
            backlog_millis: figures.map(|it| (it.backlog * 1000.0) as i64),
            busy_percent: figures.map(busy_percent),
            tokens_per_second: self.known_rate.map(|rate| rate as i64),
            pods_sampled: figures.map_or(0, |it| it.sampled),
            last_scale_time: self.changes.last().map(|it| it.at.clone()),
            window: summary
                .into_iter()
                .map(|(at, replicas)| WindowEntry { at: when(at), replicas })
                .collect(),
            history: self.changes.clone(),
        }
    }
}

fn busy_percent(figures: Figures) -> i32 {
    (figures.busy / f64::from(figures.sampled.max(1)) * 100.0) as i32
}

/// The numbers behind a change, for people.
pub fn reason(decision: &Decision) -> String {
    let Some(figures) = decision.figures else {
        return "kept within minReplicas and maxReplicas".to_owned();
    };
    let limit = match decision.limit {
        None => "",
        Some(Limit::ScaleUpLimit) => ", slowed by scaleUp",
        Some(Limit::TooManyReplicas) => ", at maxReplicas",
        Some(Limit::TooFewReplicas) => ", at minReplicas",
        Some(Limit::InsufficientDevices) => ", no devices left",
    };
    format!(
        "{:.1} s of work wait in {} pods, which are {} % busy{limit}",
        figures.backlog,
        figures.sampled,
        busy_percent(figures)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decision(desired: i32, backlog: f64) -> Decision {
        let figures = Figures { backlog, busy: 1.0, tokens_per_second: Some(900.0), sampled: 2 };
        Decision { desired, figures: Some(figures), limit: None }
    }

    fn time(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).expect("is a time")
    }

    /// Figures that vary with every look would write status for ever.
    #[test]
    fn changes_are_shown_at_once_and_noise_seldom() {
        let mut record = Record::restore(None, 0.0, time(1000));
        let mut shown = Vec::new();
        for step in 0..20 {
            let now = f64::from(step * 5);
            record.decided(decision(if step < 10 { 1 } else { 2 }, now), None);
            if record.show(now, time(1000 + i64::from(step) * 5), 300.0) {
                shown.push((step, record.shown().desired));
            }
        }
        assert_eq!(shown, [(0, 1), (6, 1), (10, 2), (16, 2)]);
    }

    #[test]
    fn a_restart_goes_on() {
        let mut record = Record::restore(None, 0.0, time(1000));
        record.history.wish(0.0, 4);
        record.decided(decision(4, 1.5), None);
        record.changed(Change { at: 10.0, from: 3, to: 4 }, time(1010), reason(&decision(4, 1.5)));
        assert!(record.show(20.0, time(1020), 300.0));
        let status = record.shown().clone();
        assert_eq!(status.history[0].reason, "1.5 s of work wait in 2 pods, which are 50 % busy");
        let restored = Record::restore(Some(&status), 500.0, time(1040));
        assert_eq!(restored.history.highest(500.0, 60.0), Some(4));
        assert_eq!(restored.history.highest(500.0, 30.0), None);
        assert_eq!(restored.history.changed(500.0, 60.0), (1, 0));
        assert_eq!(restored.known_rate(), Some(900.0));
    }

    #[test]
    fn silence_is_said() {
        let mut record = Record::restore(None, 0.0, time(0));
        assert_eq!(record.scaler(), Scaler::Unknown);
        let silent = Decision { desired: 2, figures: None, limit: None };
        record.decided(silent, Some("http://10.0.0.1:9090/load: timed out".to_owned()));
        let Scaler::NoMetrics(message) = record.scaler() else { panic!("not silent") };
        assert!(message.contains("timed out"), "{message}");
        assert!(record.show(0.0, time(0), 300.0));
        assert_eq!(record.shown().desired, 2);
    }
}
