//! What the cluster shows of an object: its Deployment, pods, Job and other scaler. Secrets are not read: what the
//! kubelet says about a missing one is on the pod.

use crate::crd::AutoscalingMode;
use crate::resources::{Child, selector_text};
use crate::status::{Observed, Problem, Scaler};
use crate::validate::Reranker;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use kube::api::ListParams;
use kube::{Api, Client, Error};

/// The Job that fills the cache of an object, if one of its children does.
///
/// # Errors
/// If the API server does not answer.
pub async fn filling(
    client: &Client,
    reranker: &Reranker,
    children: &[Child],
) -> Result<Option<Job>, Error> {
    let Some(child) = children.iter().find(|child| child.kind.kind == "Job") else {
        return Ok(None);
    };
    let jobs: Api<Job> = Api::namespaced(client.clone(), &reranker.namespace);
    // One that is not there yet counts as one that has not begun.
    Ok(Some(jobs.get_opt(&child.name).await?.unwrap_or_default()))
}

/// Whether pods may start: there is no Job, or it is done.
pub fn is_filled(job: Option<&Job>) -> bool {
    job.is_none_or(|job| {
        let conditions = job.status.as_ref().and_then(|status| status.conditions.as_ref());
        conditions.into_iter().flatten().any(|it| it.type_ == "Complete" && it.status == "True")
    })
}

/// What there is after the children were applied.
///
/// # Errors
/// If the API server does not answer.
pub async fn observe(
    client: &Client,
    reranker: &Reranker,
    job: Option<Job>,
    problems: Vec<Problem>,
    scaler: Scaler,
) -> Result<Observed, Error> {
    let namespace = &reranker.namespace;
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), namespace);
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let mine = ListParams::default().labels(&selector_text(&reranker.name));
    let scaler = match reranker.spec.autoscaling.mode {
        AutoscalingMode::Hpa => hpa(client, reranker).await?,
        AutoscalingMode::Keda => keda(&problems).unwrap_or(scaler),
        AutoscalingMode::Builtin | AutoscalingMode::None => scaler,
    };
    Ok(Observed {
        deployment: deployments.get_opt(&reranker.name).await?,
        pods: pods.list(&mine).await?.items,
        job,
        problems,
        scaler,
        ..Observed::default()
    })
}

fn keda(problems: &[Problem]) -> Option<Scaler> {
    let missing = problems.iter().find(|it| it.message.contains("keda.sh"))?;
    Some(Scaler::NotWorking { reason: "KedaNotInstalled", message: missing.message.clone() })
}

async fn hpa(client: &Client, reranker: &Reranker) -> Result<Scaler, Error> {
    let autoscalers: Api<HorizontalPodAutoscaler> =
        Api::namespaced(client.clone(), &reranker.namespace);
    let found = autoscalers.get_opt(&reranker.name).await?;
    let conditions = found.and_then(|found| found.status).and_then(|status| status.conditions);
    let broken = conditions.into_iter().flatten().find(|it| {
        matches!(it.type_.as_str(), "AbleToScale" | "ScalingActive") && it.status == "False"
    });
    Ok(match broken {
        None => Scaler::Known(None),
        Some(condition) => Scaler::NotWorking {
            reason: "HpaNotReady",
            message: format!(
                "{}: {}",
                condition.reason.unwrap_or_default(),
                condition.message.unwrap_or_default()
            ),
        },
    })
}
