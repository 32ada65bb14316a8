//! The conditions of an object.

use super::diagnosis::{Cause, Diagnosis, diagnose};
use super::{Observed, Problem};
use crate::autoscale::policy::Limit;
use crate::crd::AutoscalingMode;
use crate::validate::Reranker;
use k8s_openapi::api::apps::v1::{Deployment, DeploymentCondition};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

/// What is known of the scaling.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Scaler {
    /// Nothing yet.
    #[default]
    Unknown,
    /// The load is known, and the number is limited so.
    Known(Option<Limit>),
    /// The load is not known, for this reason.
    NoMetrics(String),
    /// Another scaler says that it does not work.
    NotWorking {
        /// Reason of the condition.
        reason: &'static str,
        /// What it says.
        message: String,
    },
}

/// Conditions before they have times.
#[derive(Clone, Debug, Default)]
pub struct Findings(Vec<(&'static str, Option<bool>, String, String)>);

impl Findings {
    /// Adds a condition.
    pub fn set(&mut self, kind: &'static str, status: bool, reason: &str, message: &str) {
        self.put(kind, Some(status), reason, message);
    }

    fn put(&mut self, kind: &'static str, status: Option<bool>, reason: &str, message: &str) {
        // The API server refuses longer ones.
        let message: String = message.chars().take(1024).collect();
        self.0.push((kind, status, reason.to_owned(), message));
    }
}

pub(super) fn conditions(
    reranker: &Reranker,
    observed: &Observed,
    pods: &[&Pod],
    ready: i32,
) -> Findings {
    let mut found = Findings::default();
    let resource = &reranker.spec.accelerator.resource_name;
    let mut diagnoses: Vec<Diagnosis> =
        pods.iter().filter_map(|pod| diagnose(pod, resource, &observed.loading)).collect();
    diagnoses.sort_by_key(|diagnosis| std::cmp::Reverse(diagnosis.cause));
    let failure = replica_failure(observed.deployment.as_ref());
    available(&mut found, reranker, observed, &diagnoses, failure.as_ref(), ready);
    progressing(&mut found, reranker, observed.deployment.as_ref());
    degraded(&mut found, reranker, &observed.problems, &diagnoses, failure.as_ref(), ready);
    model_ready(&mut found, observed, &diagnoses, pods, ready);
    schedulable(&mut found, &diagnoses, failure.as_ref());
    scaling(&mut found, reranker, &observed.scaler);
    found
}

fn available(
    found: &mut Findings,
    reranker: &Reranker,
    observed: &Observed,
    diagnoses: &[Diagnosis],
    failure: Option<&Problem>,
    ready: i32,
) {
    let wanted = reranker.wanted();
    let mut set =
        |status, reason: &str, message: &str| found.set("Available", status, reason, message);
    if ready > 0 {
        set(true, "MinimumReplicasAvailable", &format!("{ready} of {wanted} replicas serve"));
    } else if reranker.spec.stopped {
        set(false, "Stopped", "`spec.stopped` is true: set it to false to serve");
    } else if wanted == 0 {
        set(false, "ScaledToZero", "no replicas are wanted");
    } else if let Some(problem) = failure {
        set(false, problem.reason, &problem.message);
    } else if let Some(Diagnosis { cause, message }) = diagnoses.first() {
        set(false, cause.reason(), message);
    } else if let Some((_, message)) = filling(observed) {
        set(false, "ModelDownloading", &message);
    } else if let Some(problem) = observed.problems.first() {
        set(false, problem.reason, &problem.message);
    } else {
        set(false, "PodStarting", "no pod has been created yet");
    }
}

/// Whether the Job that fills the cache has failed, and what is to say about it; none: it is done or there is none.
fn filling(observed: &Observed) -> Option<(bool, String)> {
    let job = observed.job.as_ref()?;
    let name = job.metadata.name.as_deref().unwrap_or_default();
    let status = job.status.as_ref();
    let is = |kind: &str| {
        let conditions = status.and_then(|status| status.conditions.as_ref());
        conditions.into_iter().flatten().any(|it| it.type_ == kind && it.status == "True")
    };
    if is("Complete") {
        None
    } else if is("Failed") {
        Some((
            true,
            format!(
                "job `{name}` failed: read `kubectl logs job/{name}`, then delete it to try again"
            ),
        ))
    } else {
        let failed = status.and_then(|status| status.failed).unwrap_or_default();
        Some((
            false,
            format!("job `{name}` downloads and checks the models; {failed} attempts failed"),
        ))
    }
}

fn progressing(found: &mut Findings, reranker: &Reranker, deployment: Option<&Deployment>) {
    if reranker.spec.paused {
        found.set(
            "Progressing",
            false,
            "Paused",
            "`spec.paused` is true: nothing is changed until it is false",
        );
        return;
    }
    match deployed(deployment, "Progressing") {
        Some(DeploymentCondition { status, reason, message, .. }) => {
            let reason = reason.as_deref().unwrap_or("ReplicaSetUpdated");
            found.set(
                "Progressing",
                status == "True",
                reason,
                message.as_deref().unwrap_or_default(),
            );
        }
        None => found.put("Progressing", None, "NoDeployment", "the deployment has no status yet"),
    }
}

fn deployed<'a>(deployment: Option<&'a Deployment>, kind: &str) -> Option<&'a DeploymentCondition> {
    let conditions = deployment?.status.as_ref()?.conditions.as_ref()?;
    conditions.iter().find(|condition| condition.type_ == kind)
}

/// Why pods cannot even be created, in the words of who refused them.
fn replica_failure(deployment: Option<&Deployment>) -> Option<Problem> {
    let condition = deployed(deployment, "ReplicaFailure").filter(|it| it.status == "True")?;
    let message = condition.message.clone().unwrap_or_default();
    let reason = if message.contains("exceeded quota") {
        "QuotaExceeded"
    } else if message.contains("error looking up service account") {
        "ServiceAccountMissing"
    } else {
        "ReplicaFailure"
    };
    Some(Problem { reason, message })
}

fn degraded(
    found: &mut Findings,
    reranker: &Reranker,
    problems: &[Problem],
    diagnoses: &[Diagnosis],
    failure: Option<&Problem>,
    ready: i32,
) {
    let wanted = reranker.wanted();
    if let Some(problem) = problems.first() {
        found.set("Degraded", true, problem.reason, &problem.message);
    } else if ready > 0 && ready < wanted {
        let because = failure.map(|failure| &failure.message);
        let because = because.or_else(|| diagnoses.first().map(|diagnosis| &diagnosis.message));
        let because = because.map_or_else(String::new, |because| format!(": {because}"));
        let message = format!("{} of {wanted} replicas do not serve{because}", wanted - ready);
        found.set("Degraded", true, "SomeReplicasUnavailable", &message);
    } else {
        found.set("Degraded", false, "AsExpected", "");
    }
}

fn model_ready(
    found: &mut Findings,
    observed: &Observed,
    diagnoses: &[Diagnosis],
    pods: &[&Pod],
    ready: i32,
) {
    let cause = |cause: Cause| diagnoses.iter().find(|diagnosis| diagnosis.cause == cause);
    if let Some((has_failed, message)) = filling(observed) {
        let reason = if has_failed { "DownloadFailed" } else { "Downloading" };
        found.set("ModelReady", false, reason, &message);
    } else if ready > 0 {
        found.set("ModelReady", true, "ModelsReady", "");
    } else if let Some(Diagnosis { message, .. }) = cause(Cause::CrashLooping) {
        found.set("ModelReady", false, "LoadFailed", message);
    } else if let Some(Diagnosis { message, .. }) = cause(Cause::ModelLoading) {
        found.set("ModelReady", false, "Loading", message);
    } else {
        let message = if pods.is_empty() { "there are no pods" } else { "no pod has started" };
        found.put("ModelReady", None, "NoPods", message);
    }
}

fn schedulable(found: &mut Findings, diagnoses: &[Diagnosis], failure: Option<&Problem>) {
    let unscheduled = diagnoses
        .iter()
        .find(|diagnosis| matches!(diagnosis.cause, Cause::Unschedulable | Cause::InsufficientGpu));
    if let Some(problem) = failure {
        found.set("Schedulable", false, problem.reason, &problem.message);
    } else if let Some(Diagnosis { cause, message }) = unscheduled {
        found.set("Schedulable", false, cause.reason(), message);
    } else {
        found.set("Schedulable", true, "AllPodsScheduled", "");
    }
}

fn scaling(found: &mut Findings, reranker: &Reranker, scaler: &Scaler) {
    let off = if reranker.spec.stopped {
        Some("`spec.stopped` is true")
    } else if reranker.spec.paused {
        Some("`spec.paused` is true")
    } else if reranker.spec.autoscaling.mode == AutoscalingMode::None {
        Some("`spec.autoscaling.mode` is `none`: whoever writes `spec.replicas` scales")
    } else {
        None
    };
    let disabled = off.map(|message| Scaler::NotWorking {
        reason: "ScalingDisabled",
        message: message.to_owned(),
    });
    let scaler = disabled.as_ref().unwrap_or(scaler);
    match scaler {
        Scaler::Unknown => {
            found.put("ScalingActive", None, "Starting", "no load has been read yet");
        }
        Scaler::Known(_) => found.set("ScalingActive", true, "ValidMetrics", ""),
        Scaler::NoMetrics(message) => {
            found.set("ScalingActive", false, "MetricsUnavailable", message);
        }
        Scaler::NotWorking { reason, message } => {
            found.set("ScalingActive", false, reason, message);
        }
    }
    let limit = if let Scaler::Known(limit) = scaler { *limit } else { None };
    let (reason, message) = match limit {
        None => ("DesiredWithinRange", ""),
        Some(Limit::TooManyReplicas) => {
            ("TooManyReplicas", "the load asks for more than `autoscaling.maxReplicas`: raise it")
        }
        Some(Limit::TooFewReplicas) => {
            ("TooFewReplicas", "the load asks for less than `autoscaling.minReplicas`")
        }
        Some(Limit::ScaleUpLimit) => (
            "ScaleUpLimit",
            "`autoscaling.behavior.scaleUp` or pods that are starting slow the raise",
        ),
        Some(Limit::InsufficientDevices) => {
            ("InsufficientGPU", "pods wait for nodes: no more are added until one is found")
        }
    };
    found.set("ScalingLimited", limit.is_some(), reason, message);
}

/// The conditions with times: those of conditions whose status stays, stay.
pub fn merge(
    old: &[Condition],
    Findings(found): Findings,
    generation: i64,
    now: &Time,
) -> Vec<Condition> {
    let mut merged: Vec<Condition> = found
        .into_iter()
        .map(|(kind, status, reason, message)| {
            let status = match status {
                Some(true) => "True",
                Some(false) => "False",
                None => "Unknown",
            };
            let before = old.iter().find(|it| it.type_ == kind && it.status == status);
            Condition {
                type_: kind.to_owned(),
                status: status.to_owned(),
                reason,
                message,
                observed_generation: Some(generation),
                last_transition_time: before
                    .map_or_else(|| now.clone(), |it| it.last_transition_time.clone()),
            }
        })
        .collect();
    for condition in old {
        if !merged.iter().any(|it| it.type_ == condition.type_) {
            merged.push(condition.clone());
        }
    }
    merged
}
