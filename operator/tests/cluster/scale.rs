//! The number of pods: the operator's, others', and what the cluster does not have.

use crate::harness::{World, condition, shown};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::events::v1::Event;
use kube::api::{ListParams, Patch, PatchParams};
use serde_json::json;
use std::time::Instant;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pods_follow_the_load_as_far_as_there_are_devices() {
    let Some(world) = World::new("scale", 2).await else { return };
    let _operator = world.operator();
    let quick = json!({"stabilizationWindowSeconds": 2, "selectPolicy": "Max",
        "policies": [{"type": "Pods", "value": 1, "periodSeconds": 1}]});
    world
        .create(
            "small",
            &json!({"autoscaling": {
                "maxReplicas": 3,
                "initialCooldownSeconds": 0,
                "behavior": {"scaleUp": quick, "scaleDown": quick},
            }}),
        )
        .await;
    world
        .until("small", "knows its load", |it| {
            condition(it, "ScalingActive") == "True ValidMetrics"
        })
        .await;
    let started = Instant::now();
    world.load.set(1.5, 1);
    world.until("small", "has two replicas", |it| it.spec.replicas == Some(2)).await;
    shown(&format!("a load step -> a new pod in {:.1} s", started.elapsed().as_secs_f64()));
    world.load.set(1.5, 2);
    world
        .until("small", "has two ready pods", |it| {
            it.status.as_ref().is_some_and(|it| it.ready == "2/2")
        })
        .await;

    world.load.set(3.0, 2);
    let object = world
        .until("small", "lacks a device", |it| {
            condition(it, "Schedulable") == "False InsufficientGPU"
        })
        .await;
    assert_eq!(condition(&object, "Available"), "True MinimumReplicasAvailable");
    assert_eq!(condition(&object, "Degraded"), "True SomeReplicasUnavailable");
    let conditions = object.status.expect("a status").conditions;
    let schedulable = conditions.iter().find(|it| it.type_ == "Schedulable").expect("is there");
    assert!(schedulable.message.contains("Insufficient nvidia.com/gpu"), "{}", schedulable.message);
    shown("a third pod waits and the conditions say InsufficientGPU in the scheduler's words");

    world.load.set(0.0, 1);
    let object = world.until("small", "has one replica", |it| it.spec.replicas == Some(1)).await;
    let history =
        object.status.and_then(|it| it.autoscaling).map(|it| it.history).unwrap_or_default();
    assert!(history.iter().any(|it| it.to > it.from), "{history:?}");
    let events = world.api::<Event>().list(&ListParams::default()).await.expect("a list").items;
    let notes: Vec<String> = events.into_iter().filter_map(|event| event.note).collect();
    for part in ["from 1 to 2 replicas: ", "from 2 to 3 replicas: "] {
        assert!(notes.iter().any(|note| note.starts_with(part)), "{part}: {notes:#?}");
    }
    shown("and goes when the load does; every change has an event that says why");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_number_that_another_scaler_writes_stays() {
    let Some(world) = World::new("owner", 3).await else { return };
    let _operator = world.operator();
    let metrics = json!([{"type": "External", "external": {
        "metric": {"name": "demand"}, "target": {"type": "AverageValue", "averageValue": "1"}}}]);
    world
        .create("small", &json!({"autoscaling": {"mode": "hpa", "hpa": {"metrics": metrics}}}))
        .await;
    world.until("small", "has a number", |it| it.spec.replicas == Some(1)).await;
    let patch = Patch::Merge(json!({"spec": {"replicas": 3}}));
    let as_another =
        PatchParams { field_manager: Some("hpa".to_owned()), ..PatchParams::default() };
    world.objects().patch_scale("small", &as_another, &patch).await.expect("is scaled");
    world
        .until("small", "has three ready pods", |it| {
            it.status.as_ref().is_some_and(|it| it.ready == "3/3")
        })
        .await;
    world.nudge("small", 10).await;
    let object = world.objects().get("small").await.expect("is there");
    let deployment = world.api::<Deployment>().get("small").await.expect("is there");
    assert_eq!(object.spec.replicas, Some(3));
    assert_eq!(deployment.spec.and_then(|spec| spec.replicas), Some(3));
    let scale = world.objects().get_scale("small").await.expect("a scale");
    let selector = scale.status.and_then(|it| it.selector).unwrap_or_default();
    assert!(selector.contains("app.kubernetes.io/instance=small"), "{selector}");
    shown("a number that another scaler wrote is the same after ten passes");

    world.change("small", &json!({"autoscaling": {"maxReplicas": 2}})).await;
    world
        .eventually("the bounds hold at once", async || {
            let deployment = world.api::<Deployment>().get("small").await.expect("is there");
            deployment.spec.and_then(|spec| spec.replicas) == Some(2)
        })
        .await;
    world.change("small", &json!({"stopped": true})).await;
    world
        .until("small", "is stopped", |it| {
            condition(it, "Available") == "False Stopped"
                && it.status.as_ref().is_some_and(|it| it.replicas == 0)
        })
        .await;
    shown("bounds hold at once, and a stopped object has no pods");
    world.end().await;
}
