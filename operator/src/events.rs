//! Events on the objects: what happened, where `kubectl describe` shows it.

use crate::crd::RerankerDeployment;
use crate::resources::MANAGER;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use kube::{Client, Resource};

/// Writes events; a failure is logged, because nothing depends on them.
#[derive(Clone)]
pub struct Events {
    client: Client,
    reporter: Reporter,
    recorder: Recorder,
}

impl Events {
    /// In the name of `instance`.
    pub fn new(client: Client, instance: &str) -> Self {
        let reporter =
            Reporter { controller: MANAGER.to_owned(), instance: Some(instance.to_owned()) };
        let recorder = Recorder::new(client.clone(), reporter.clone());
        Self { client, reporter, recorder }
    }

    /// The number of pods was changed.
    pub async fn scaled(&self, object: &RerankerDeployment, from: i32, to: i32, why: &str) {
        let reason = if to > from { "ScaledUp" } else { "ScaledDown" };
        let note = format!("from {from} to {to} replicas: {why}");
        // One that knows of no other: a second change within minutes would only count as a repetition of the first.
        let recorder = Recorder::new(self.client.clone(), self.reporter.clone());
        publish(&recorder, object, EventType::Normal, reason, "Scale", &note).await;
    }

    /// A condition has another status or reason.
    pub async fn condition(
        &self,
        object: &RerankerDeployment,
        good: bool,
        reason: &str,
        note: &str,
    ) {
        let kind = if good { EventType::Normal } else { EventType::Warning };
        publish(&self.recorder, object, kind, reason, "Reconcile", note).await;
    }
}

async fn publish(
    recorder: &Recorder,
    object: &RerankerDeployment,
    kind: EventType,
    reason: &str,
    action: &str,
    note: &str,
) {
    let event = Event {
        type_: kind,
        reason: reason.to_owned(),
        note: Some(note.chars().take(1000).collect()),
        action: action.to_owned(),
        secondary: None,
    };
    if let Err(error) = recorder.publish(&event, &object.object_ref(&())).await {
        tracing::debug!(%error, reason, "the event was not written");
    }
}
