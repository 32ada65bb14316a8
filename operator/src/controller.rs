//! One pass over an object: validate, render, apply, observe, status. And the stream of passes.

use crate::apply::Applier;
use crate::autoscale::scaling::{Reference, Scaling, Seen};
use crate::crd::{AutoscalingMode, RerankerDeployment, RerankerDeploymentStatus};
use crate::events::Events;
use crate::metrics::Metrics;
use crate::observe::{filling, is_filled, observe};
use crate::resources::{DEPLOYMENT, MANAGER, Surroundings, resources};
use crate::status;
use crate::validate::{Reranker, validate};
use crate::watches::{changes, scoped};
use futures::StreamExt;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::jiff::Timestamp;
use kube::api::{Patch, PatchParams};
use kube::runtime::controller::{Action, Config, Controller};
use kube::runtime::reflector::Store;
use kube::runtime::watcher;
use kube::{Api, Client, Resource, ResourceExt};
use serde_json::json;
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// Time between two passes over an object that nothing happens to.
const RESYNC: Duration = Duration::from_mins(5);
/// Time until something that was refused is tried again.
const RETRY: Duration = Duration::from_secs(30);
/// Between two looks at how far loading is.
const LOADING: Duration = Duration::from_secs(10);
/// Objects that are passed over at the same time.
const CONCURRENCY: u16 = 16;
/// Events of one object within this time are one pass.
const DEBOUNCE: Duration = Duration::from_millis(200);

/// What all passes share.
pub struct Context {
    /// The API server.
    pub client: Client,
    /// Applies and prunes.
    pub applier: Applier,
    /// Knows the load.
    pub scaling: Arc<Scaling>,
    /// Tells what happened.
    pub events: Events,
    /// Counts.
    pub metrics: Arc<Metrics>,
    /// What was written last.
    pub written: Written,
    /// The operator's own place.
    pub surroundings: Surroundings,
}

/// Statuses that this process wrote over others, by the object's uid.
///
/// A pass may begin before the watch has shown what the one before it wrote, and would give its conditions new times.
#[derive(Debug, Default)]
pub struct Written(
    Mutex<HashMap<String, (Option<RerankerDeploymentStatus>, RerankerDeploymentStatus)>>,
);

impl Written {
    /// The object's status, or what was written over it since.
    fn current(&self, object: &RerankerDeployment) -> Option<RerankerDeploymentStatus> {
        let written = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let written = object.metadata.uid.as_ref().and_then(|uid| written.get(uid));
        written
            .filter(|(before, _)| *before == object.status)
            .map(|(_, after)| after.clone())
            .or_else(|| object.status.clone())
    }

    fn wrote(&self, object: &RerankerDeployment, after: RerankerDeploymentStatus) {
        let mut written = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let uid = object.metadata.uid.clone().unwrap_or_default();
        written.insert(uid, (object.status.clone(), after));
    }

    fn retain(&self, objects: &[Arc<RerankerDeployment>]) {
        let mut written = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        written.retain(|uid, _| objects.iter().any(|it| it.metadata.uid.as_ref() == Some(uid)));
    }
}

/// The stream of passes over the objects of a namespace, or of all.
pub fn controller(client: &Client, namespace: Option<&str>) -> Controller<RerankerDeployment> {
    let config = Config::default().debounce(DEBOUNCE).concurrency(CONCURRENCY);
    Controller::new(scoped(client, namespace), watcher::Config::default())
        .with_config(config)
        .reconcile_on(changes(client, namespace))
}

/// Passes over the objects until `stop`.
pub async fn run(
    controller: Controller<RerankerDeployment>,
    context: Arc<Context>,
    news: mpsc::Receiver<Reference>,
    stop: CancellationToken,
) {
    let news = futures::stream::unfold(news, async |mut news| Some((news.recv().await?, news)));
    controller
        .reconcile_on(news)
        .graceful_shutdown_on(stop.cancelled_owned())
        .run(reconcile, on_error, context)
        .for_each(async |done| match done {
            Ok((object, _)) => tracing::debug!(%object, "reconciled"),
            // `on_error` has logged those of passes.
            Err(kube::runtime::controller::Error::ReconcilerFailed(..)) => {}
            Err(error) => tracing::warn!(%error, "the stream of changes"),
        })
        .await;
}

/// Forgets objects that are gone, now and then: no pass is made over them.
pub async fn forget(context: Arc<Context>, objects: Store<RerankerDeployment>) {
    loop {
        tokio::time::sleep(RETRY).await;
        let objects = objects.state();
        context.applier.retain(&objects);
        context.written.retain(&objects);
        let names: HashSet<String> =
            objects.iter().map(|object| Reference::from_obj(&**object).to_string()).collect();
        context.metrics.retain(|name| names.contains(name));
    }
}

#[expect(clippy::needless_pass_by_value, reason = "the controller hands it over so")]
fn on_error(object: Arc<RerankerDeployment>, error: &kube::Error, context: Arc<Context>) -> Action {
    context.metrics.failed(match error {
        kube::Error::Api(status) if status.is_conflict() => "conflict",
        kube::Error::Api(_) => "refused",
        _ => "unreachable",
    });
    tracing::warn!(%error, object = %Reference::from_obj(&*object), "a pass failed");
    Action::requeue(Duration::from_secs(5))
}

#[tracing::instrument(skip_all, fields(object = %Reference::from_obj(&*object)))]
async fn reconcile(
    object: Arc<RerankerDeployment>,
    context: Arc<Context>,
) -> Result<Action, kube::Error> {
    if object.metadata.deletion_timestamp.is_some() {
        return Ok(Action::await_change());
    }
    let started = Instant::now();
    let generation = object.metadata.generation.unwrap_or_default();
    let old = context.written.current(&object);
    let is_first = old.is_none();
    let old = old.unwrap_or_default();
    let now = Time(whole_seconds(Timestamp::now()));
    let (new, action) = match validate(&object) {
        Err(invalid) => {
            (status::invalid(generation, &invalid.to_string(), &old, &now), Action::await_change())
        }
        // On the heap: the future of all its steps is large.
        Ok(reranker) => Box::pin(pass(&object, reranker, &context, &old, &now)).await?,
    };
    if let Some(Condition { reason, .. }) = available(&new) {
        context.metrics.object(&Reference::from_obj(&*object).to_string(), reason);
    }
    if is_first || old != new {
        write_status(&object, &context, &old, new).await?;
    }
    context.metrics.reconciled(started.elapsed());
    Ok(action)
}

async fn pass(
    object: &RerankerDeployment,
    mut reranker: Reranker,
    context: &Context,
    old: &RerankerDeploymentStatus,
    now: &Time,
) -> Result<(RerankerDeploymentStatus, Action), kube::Error> {
    let client = &context.client;
    let children = resources(&reranker, &context.surroundings);
    let job = filling(client, &reranker, &children).await?;
    let mut problems = Vec::new();
    if !reranker.spec.paused {
        if reranker.replicas.is_none() && reranker.spec.autoscaling.mode != AutoscalingMode::None {
            reranker.replicas = Some(seed(client, &reranker).await?);
        }
        // What runs goes on until the files of what is to run are there.
        let hold = (!is_filled(job.as_ref())).then_some(&DEPLOYMENT);
        let children = resources(&reranker, &context.surroundings);
        problems = context.applier.apply(&reranker, &children, hold).await?;
    }
    let retry = if problems.is_empty() { RESYNC } else { RETRY };
    let Seen { scaler, status: autoscaling } = context.scaling.seen(&Reference::from_obj(object));
    let mut observed = observe(client, &reranker, job, problems, scaler).await?;
    observed.autoscaling = autoscaling.or_else(|| old.autoscaling.clone());
    observed.loading = context.scaling.loading(&reranker, &observed.pods).await;
    let retry = if observed.loading.is_empty() { retry } else { LOADING };
    let generation = object.metadata.generation.unwrap_or_default();
    let new = status::status(&reranker, generation, &observed, old, now);
    Ok((new, Action::requeue(retry)))
}

/// Writes the number of replicas that nobody has written: what runs, within the bounds. The scale subresource does
/// not exist until then.
async fn seed(client: &Client, reranker: &Reranker) -> Result<i32, kube::Error> {
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), &reranker.namespace);
    let running = deployments.get_opt(&reranker.name).await?;
    let running = running.and_then(|deployment| deployment.spec).and_then(|spec| spec.replicas);
    let replicas = reranker.bounds.clamp(running.unwrap_or(reranker.bounds.min));
    let objects: Api<RerankerDeployment> = Api::namespaced(client.clone(), &reranker.namespace);
    let params = PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
    let patch = Patch::Merge(json!({"spec": {"replicas": replicas}}));
    objects.patch(&reranker.name, &params, &patch).await?;
    Ok(replicas)
}

/// Writes the status, and an event if the object is available or degraded for another reason.
async fn write_status(
    object: &RerankerDeployment,
    context: &Context,
    old: &RerankerDeploymentStatus,
    new: RerankerDeploymentStatus,
) -> Result<(), kube::Error> {
    let api: Api<RerankerDeployment> =
        Api::namespaced(context.client.clone(), &object.namespace().unwrap_or_default());
    let params = PatchParams::apply(&format!("{MANAGER}-status")).force();
    let patch = json!({
        "apiVersion": RerankerDeployment::api_version(&()),
        "kind": RerankerDeployment::kind(&()),
        "status": new,
    });
    api.patch_status(&object.name_any(), &params, &Patch::Apply(patch)).await?;
    context.written.wrote(object, new.clone());
    for kind in ["Available", "Degraded"] {
        let find = |status: &RerankerDeploymentStatus| {
            status.conditions.iter().find(|it| it.type_ == kind).cloned()
        };
        let (before, after) = (find(old), find(&new));
        if let Some(Condition { status, reason, message, .. }) = after
            && before.map_or_else(
                || reason != "AsExpected",
                |before| (&before.status, &before.reason) != (&status, &reason),
            )
        {
            // What every object goes through before it serves is no fault.
            let passes = ["PodStarting", "ModelDownloading", "ModelLoading"].contains(&&*reason);
            let good = passes || (status == "True") == (kind == "Available");
            context.events.condition(object, good, &reason, &message).await;
        }
    }
    Ok(())
}

fn available(status: &RerankerDeploymentStatus) -> Option<&Condition> {
    status.conditions.iter().find(|condition| condition.type_ == "Available")
}

/// As Kubernetes writes times; a finer one would differ from what is read back.
fn whole_seconds(time: Timestamp) -> Timestamp {
    Timestamp::from_second(time.as_second()).unwrap_or(time)
}
