//! Events on the objects: what happened, where `kubectl describe` shows it.

use crate::crd::RerankerDeployment;
use crate::resources::MANAGER;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use kube::{Client, Resource};

/// Writes events; a failure is logged, because nothing depends on them.
#[derive(Clone)]
pub struct Events {
    recorder: Recorder,
}

impl Events {
    /// In the name of `instance`.
    pub fn new(client: Client, instance: &str) -> Self {
        let reporter =
            Reporter { controller: MANAGER.to_owned(), instance: Some(instance.to_owned()) };
        Self { recorder: Recorder::new(client, reporter) }
    }

    /// The number of pods was changed.
    pub async fn scaled(&self, object: &RerankerDeployment, from: i32, to: i32, why: &str) {
        let reason = if to > from { "ScaledUp" } else { "ScaledDown" };
        let note = format!("from {from} to {to} replicas: {why}");
        self.publish(object, EventType::Normal, reason, "Scale", note).await;
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
        self.publish(object, kind, reason, "Reconcile", note.to_owned()).await;
    }

    async fn publish(
        &self,
        object: &RerankerDeployment,
        kind: EventType,
        reason: &str,
        action: &str,
        note: String,
    ) {
        let event = Event {
            type_: kind,
            reason: reason.to_owned(),
            note: Some(note.chars().take(1000).collect()),
            action: action.to_owned(),
            secondary: None,
        };
        if let Err(error) = self.recorder.publish(&event, &object.object_ref(&())).await {
            tracing::debug!(%error, reason, "the event was not written");
        }
    }
}
