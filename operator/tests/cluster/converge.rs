//! From an object to what runs, and back to nothing.

use crate::harness::{World, condition, names, shown};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Service;
use kube::ResourceExt;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use reranker_operator::resources::KINDS;
use serde_json::json;
use std::time::Instant;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_object_becomes_a_service_and_stays_one() {
    let Some(world) = World::new("converge", 2).await else { return };
    let _operator = world.operator();
    let started = Instant::now();
    world.create("small", &json!({})).await;
    let object = world
        .until("small", "is available", |it| {
            condition(it, "Available") == "True MinimumReplicasAvailable"
        })
        .await;
    shown(&format!("created -> Available in {:.1} s", started.elapsed().as_secs_f64()));
    assert_eq!(object.spec.replicas, Some(1));
    let status = object.status.expect("a status");
    assert_eq!((status.ready.as_str(), status.replicas), ("1/1", 1));

    stays_as_it_is(&world).await;
    repairs(&world).await;
    prunes(&world).await;
    takes_a_change(&world).await;

    world.objects().delete("small", &DeleteParams::default()).await.expect("is deleted");
    world
        .eventually("all is deleted", async || {
            for kind in KINDS {
                if !names(&world, kind).await.is_empty() {
                    return false;
                }
            }
            true
        })
        .await;
    shown("a deleted object leaves nothing");
    world.end().await;
}

async fn versions(world: &World) -> Vec<Option<String>> {
    let deployment = world.api::<Deployment>().get("small").await.expect("is there");
    let service = world.api::<Service>().get("small").await.expect("is there");
    let object = world.objects().get("small").await.expect("is there");
    let status = serde_json::to_string(&object.status).ok();
    vec![deployment.resource_version(), service.resource_version(), status]
}

async fn stays_as_it_is(world: &World) {
    // The numbers of the autoscaler come once.
    world
        .until("small", "knows its load", |it| {
            condition(it, "ScalingActive") == "True ValidMetrics"
        })
        .await;
    let before = versions(world).await;
    world.nudge("small", 10).await;
    assert_eq!(before, versions(world).await);
    shown("ten passes over an unchanged object write nothing");
}

async fn repairs(world: &World) {
    let services = world.api::<Service>();
    services.delete("small-headless", &DeleteParams::default()).await.expect("is deleted");
    world
        .eventually("the service is back", async || {
            services.get_opt("small-headless").await.is_ok_and(|it| it.is_some())
        })
        .await;
    let deployments = world.api::<Deployment>();
    let patch = Patch::Merge(json!({"spec": {"replicas": 3, "minReadySeconds": 77}}));
    deployments.patch("small", &PatchParams::default(), &patch).await.expect("is changed");
    world
        .eventually("the deployment is set back", async || {
            let spec = deployments.get("small").await.expect("is there").spec.expect("a spec");
            (spec.replicas, spec.min_ready_seconds.unwrap_or_default()) == (Some(1), 0)
        })
        .await;
    shown("what others delete or change is set back");
}

async fn prunes(world: &World) {
    // Somebody else's, with labels like ours.
    let foreign = json!({"metadata": {"name": "foreign", "labels": {
        "app.kubernetes.io/managed-by": "reranker-operator", "app.kubernetes.io/instance": "small",
    }}, "spec": {"ports": [{"port": 80}]}});
    let foreign: Service = serde_json::from_value(foreign).expect("is one");
    let services = world.api::<Service>();
    services.create(&PostParams::default(), &foreign).await.expect("is created");
    world
        .change("small", &json!({"service": {"headless": false}, "disruption": {"enabled": false}}))
        .await;
    world
        .eventually("what is not wanted is gone", async || {
            let budgets = KINDS.iter().find(|it| it.kind == "PodDisruptionBudget").expect("is one");
            services.get_opt("small-headless").await.is_ok_and(|it| it.is_none())
                && names(world, budgets).await.is_empty()
        })
        .await;
    assert!(services.get_opt("foreign").await.expect("is asked").is_some());
    services.delete("foreign", &DeleteParams::default()).await.expect("is deleted");
    shown("children that are no longer wanted go, and nobody else's");
}

async fn takes_a_change(world: &World) {
    let started = Instant::now();
    world.change("small", &json!({"server": {"maxQueueMillis": 2500}})).await;
    let deployments = world.api::<Deployment>();
    world
        .eventually("the template has the change", async || {
            let deployment = deployments.get("small").await.expect("is there");
            serde_json::to_string(&deployment.spec).is_ok_and(|spec| spec.contains("\"2.5\""))
        })
        .await;
    shown(&format!("a changed spec is applied in {:.1} s", started.elapsed().as_secs_f64()));
    world
        .until("small", "is rolled out", |it| {
            let status = it.status.as_ref().expect("a status");
            status.updated_replicas == 1 && status.replicas == 1 && status.ready == "1/1"
        })
        .await;
}
