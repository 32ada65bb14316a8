//! From children to the cluster: server-side apply in order, then prune.
//!
//! An object is applied when it is not what it was after this process last applied it, and only then; so a pass
//! over what nobody changed writes nothing. The first pass of a process applies everything, which the API server
//! answers without a write where nothing differs.

use crate::crd::RerankerDeployment;
use crate::metrics::Metrics;
use crate::resources::{Child, KINDS, Kind, MANAGER, fingerprint, ownership};
use crate::status::Problem;
use crate::validate::Reranker;
use kube::api::{
    DeleteParams, DynamicObject, ListParams, Patch, PatchParams, Preconditions, ValidationDirective,
};
use kube::core::{ApiResource, ObjectMeta};
use kube::{Api, Client, Error};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Time for which a kind that the cluster does not serve is not asked for again.
const MISSING: Duration = Duration::from_mins(1);

/// Applies and prunes; remembers what it has applied.
pub struct Applier {
    client: Client,
    metrics: Arc<Metrics>,
    memory: Mutex<HashMap<Key, Applied>>,
    missing: Mutex<HashMap<&'static str, Instant>>,
}

/// The owner's uid, resource and name of a child.
type Key = (String, &'static str, String);

/// What was applied and what it became.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Applied {
    wanted: u64,
    became: u64,
}

/// What the cluster has of a kind.
struct Existing {
    name: String,
    uid: String,
    owner: Option<String>,
    state: u64,
}

impl Applier {
    /// An applier that has applied nothing yet.
    pub fn new(client: Client, metrics: Arc<Metrics>) -> Self {
        Self { client, metrics, memory: Mutex::default(), missing: Mutex::default() }
    }

    /// Applies `children` and deletes what the object owns beside them; `hold` is a kind that stays as it is.
    ///
    /// Returns what was refused, each as something a person can act on.
    ///
    /// # Errors
    /// What may go away by itself: no answer, a conflict, an overloaded API server.
    pub async fn apply(
        &self,
        reranker: &Reranker,
        children: &[Child],
        hold: Option<&'static Kind>,
    ) -> Result<Vec<Problem>, Error> {
        let mut existing: HashMap<&'static str, Vec<Existing>> = HashMap::new();
        for kind in KINDS {
            let is_wanted = children.iter().any(|child| child.kind == *kind);
            if (kind.builtin || is_wanted || !self.is_missing(kind))
                && let Some(found) = self.list(reranker, kind).await?
            {
                existing.insert(kind.plural, found);
            }
        }
        let mut problems = Vec::new();
        for child in children.iter().filter(|child| hold != Some(child.kind)) {
            let before = existing.get(child.kind.plural).into_iter().flatten();
            let before = before.into_iter().find(|it| it.name == child.name);
            if let Err(error) = self.apply_one(reranker, child, before).await {
                problems.push(problem(child, &error).ok_or(error)?);
            }
        }
        for (kind, found) in &existing {
            for extra in found {
                let is_wanted = children
                    .iter()
                    .any(|child| child.kind.plural == *kind && child.name == extra.name);
                if !is_wanted && extra.owner.as_ref() == Some(&reranker.owner.uid) {
                    self.delete(reranker, kind, extra).await?;
                }
            }
        }
        Ok(problems)
    }

    /// Forgets the children of objects that are gone.
    pub fn retain(&self, objects: &[Arc<RerankerDeployment>]) {
        let mut memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        memory.retain(|(owner, _, _), _| {
            objects.iter().any(|object| object.metadata.uid.as_ref() == Some(owner))
        });
    }

    fn is_missing(&self, kind: &Kind) -> bool {
        let missing = self.missing.lock().unwrap_or_else(PoisonError::into_inner);
        missing.get(kind.plural).is_some_and(|since| since.elapsed() < MISSING)
    }

    fn api(&self, namespace: &str, kind: &Kind) -> Api<DynamicObject> {
        Api::namespaced_with(self.client.clone(), namespace, &resource(kind))
    }

    /// What there is of a kind; none: the cluster does not serve it.
    async fn list(
        &self,
        reranker: &Reranker,
        kind: &'static Kind,
    ) -> Result<Option<Vec<Existing>>, Error> {
        let mine = ListParams::default().labels(&ownership(&reranker.name));
        let listed = self.api(&reranker.namespace, kind).list_metadata(&mine).await;
        let found = match listed {
            Ok(found) => found,
            // Without the right to see an optional kind there is none of ours. A group that is not served is answered
            // in plain text, without a reason.
            Err(Error::Api(status)) if !kind.builtin && matches!(status.code, 403 | 404) => {
                let mut missing = self.missing.lock().unwrap_or_else(PoisonError::into_inner);
                missing.insert(kind.plural, Instant::now());
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        let existing = found.items.into_iter().map(|object| existing(&object.metadata));
        Ok(Some(existing.collect()))
    }

    async fn apply_one(
        &self,
        reranker: &Reranker,
        child: &Child,
        before: Option<&Existing>,
    ) -> Result<(), Error> {
        let key = (reranker.owner.uid.clone(), child.kind.plural, child.name.clone());
        let wanted = fingerprint(&child.object);
        let known = {
            let memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
            memory.get(&key).copied()
        };
        if let (Some(known), Some(before)) = (known, before)
            && known == (Applied { wanted, became: before.state })
        {
            return Ok(());
        }
        let params = PatchParams {
            field_manager: Some(MANAGER.to_owned()),
            force: true,
            field_validation: Some(ValidationDirective::Strict),
            ..PatchParams::default()
        };
        let api = self.api(&reranker.namespace, child.kind);
        let applied = api.patch(&child.name, &params, &Patch::Apply(&child.object)).await?;
        self.metrics.applied(child.kind.kind);
        tracing::debug!(kind = child.kind.kind, name = child.name, "applied");
        let became = existing(&applied.metadata).state;
        let mut memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        memory.insert(key, Applied { wanted, became });
        Ok(())
    }

    async fn delete(
        &self,
        reranker: &Reranker,
        plural: &str,
        extra: &Existing,
    ) -> Result<(), Error> {
        let Some(kind) = KINDS.iter().find(|kind| kind.plural == plural) else { return Ok(()) };
        let params = DeleteParams::background().preconditions(Preconditions {
            uid: Some(extra.uid.clone()),
            ..Preconditions::default()
        });
        match self.api(&reranker.namespace, kind).delete(&extra.name, &params).await {
            Ok(_) => {
                tracing::info!(kind = kind.kind, name = extra.name, "deleted: no longer wanted");
                Ok(())
            }
            Err(Error::Api(status)) if status.is_not_found() => Ok(()),
            Err(error) => Err(error),
        }
    }
}

fn resource(kind: &Kind) -> ApiResource {
    ApiResource {
        group: kind.group.to_owned(),
        version: kind.version.to_owned(),
        api_version: kind.api_version(),
        kind: kind.kind.to_owned(),
        plural: kind.plural.to_owned(),
    }
}

fn existing(metadata: &ObjectMeta) -> Existing {
    let owners = metadata.owner_references.iter().flatten();
    let owner = owners.clone().find(|owner| owner.controller == Some(true));
    // Status has writers of its own, which change neither what was applied nor what it became.
    let managed = metadata.managed_fields.iter().flatten();
    let managed: Vec<Value> = managed
        .filter(|entry| entry.subresource.is_none())
        .map(|entry| json!([entry.manager, entry.operation, entry.time]))
        .collect();
    let state = json!([
        metadata.uid,
        metadata.generation,
        metadata.labels,
        metadata.annotations,
        metadata.owner_references,
        managed,
    ]);
    Existing {
        name: metadata.name.clone().unwrap_or_default(),
        uid: metadata.uid.clone().unwrap_or_default(),
        owner: owner.map(|owner| owner.uid.clone()),
        state: fingerprint(&state),
    }
}

/// What a person can do about a refusal; none: it may go away by itself.
fn problem(child: &Child, error: &Error) -> Option<Problem> {
    let Error::Api(status) = error else { return None };
    let Child { kind, name, .. } = child;
    let what = format!("{} `{name}`", kind.kind);
    let said = &status.message;
    // An unknown field is no object's fault for server-side apply, which answers 500.
    let is_refused =
        matches!(status.code, 400 | 422) || said.contains("failed to create typed patch object");
    let (reason, message) = match status.code {
        403 => ("ApplyForbidden", format!("{what}: {said}")),
        404 if !kind.builtin => (
            "OptionalApiMissing",
            format!(
                "the cluster does not serve {} of {}: install it, or take it out of the spec",
                kind.plural,
                kind.api_version()
            ),
        ),
        _ if is_refused && matches!(kind.kind, "Deployment" | "Job") => {
            ("InvalidPodOverrides", format!("{what} was refused: {said}"))
        }
        _ if is_refused => ("ApplyRefused", format!("{what} was refused: {said}")),
        _ => return None,
    };
    Some(Problem { reason, message })
}
