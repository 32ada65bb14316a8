//! What goes wrong is said, and does not spread.

use crate::harness::{CLUSTER, World, condition, shown};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::ListParams;
use serde_json::json;
use std::process::Command;
use std::time::Instant;
use tokio::task::spawn_blocking;

const RESTART: &str = "RERANKER_TEST_RESTART";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_wrong_is_said_in_the_words_of_who_knows() {
    let Some(world) = World::new("wrong", 2).await else { return };
    let _operator = world.operator();
    world.create("broken", &json!({"image": {"tag": "broken"}})).await;
    let object = world
        .until("broken", "says why", |it| condition(it, "Available") == "False CrashLooping")
        .await;
    let conditions = object.status.expect("a status").conditions;
    let available = conditions.iter().find(|it| it.type_ == "Available").expect("is there");
    assert!(available.message.contains("error: the model is not there"), "{}", available.message);
    shown("a crash says the last line of the log");

    world.create("good", &json!({"accelerator": {"type": "cpu"}})).await;
    world.until("good", "is available", |it| condition(it, "Available").starts_with("True")).await;
    world.change("good", &json!({"pod": {"env": [{"name": "HF_HOME", "value": "/x"}]}})).await;
    let object = world
        .until("good", "is refused", |it| condition(it, "Degraded") == "True InvalidSpec")
        .await;
    assert!(condition(&object, "Available").starts_with("True"));
    world
        .change("good", &json!({"pod": {"env": [], "volumes": [{"name": "v", "emptyDirr": {}}]}}))
        .await;
    let object = world
        .until("good", "is refused", |it| condition(it, "Degraded") == "True InvalidPodOverrides")
        .await;
    assert!(condition(&object, "Available").starts_with("True"));
    world
        .change("good", &json!({"pod": {"volumes": []}, "monitoring": {"kind": "podMonitor"}}))
        .await;
    world
        .until("good", "lacks an API", |it| condition(it, "Degraded") == "True OptionalApiMissing")
        .await;
    world.change("good", &json!({"monitoring": {"kind": "none"}})).await;
    world
        .until("good", "is good again", |it| condition(it, "Degraded") == "False AsExpected")
        .await;
    shown("a spec that cannot be applied is said, and what runs goes on");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_operator_leads_and_another_takes_over() {
    let Some(world) = World::new("leader", 2).await else { return };
    let mut first = world.operator();
    world.create("small", &json!({})).await;
    world.until("small", "is available", |it| condition(it, "Available").starts_with("True")).await;
    let mut second = world.operator();
    let holder = async || {
        let lease = world.api::<Lease>().get("reranker-operator").await.expect("is there");
        lease.spec.and_then(|spec| spec.holder_identity).unwrap_or_default()
    };
    assert_eq!(holder().await, "operator-0");
    assert!(!second.log().contains("leads"), "{}", second.log());

    let started = Instant::now();
    assert!(first.stop(), "{}", first.log());
    world.eventually("the second leads", async || holder().await == "operator-1").await;
    shown(&format!(
        "an operator that ends is followed in {:.1} s",
        started.elapsed().as_secs_f64()
    ));

    let mut third = world.operator();
    second.kill();
    let started = Instant::now();
    world.eventually("the third leads", async || holder().await == "operator-2").await;
    shown(&format!("one that is killed is followed in {:.1} s", started.elapsed().as_secs_f64()));
    let before = world.api::<Deployment>().get("small").await.expect("is there").resource_version();
    world.change("small", &json!({"replicas": 2})).await;
    world
        .until("small", "has two", |it| it.status.as_ref().is_some_and(|it| it.replicas == 2))
        .await;
    let after = world.api::<Deployment>().get("small").await.expect("is there").resource_version();
    assert_ne!(before, after);
    third.kill();
    world.end().await;
}

/// An upgrade of the control plane: what runs goes on, and so does the operator.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_of_the_api_server_is_outlived() {
    let Ok(restart) = std::env::var(RESTART) else {
        return shown(&format!("restart is skipped: {RESTART} is not set"));
    };
    // Nobody else expects one.
    let _cluster = CLUSTER.write().await;
    let Some(world) = World::alone("restart", 2).await else { return };
    let mut operator = world.operator();
    let mut who = "the same operator";
    world.create("small", &json!({})).await;
    world.until("small", "is available", |it| condition(it, "Available").starts_with("True")).await;
    let before = pods(&world).await;
    let started = Instant::now();
    let restarted = spawn_blocking(|| Command::new("sh").arg("-c").arg(restart).status());
    assert!(restarted.await.expect("no panic").expect("a shell").success());
    let away = started.elapsed().as_secs_f64();
    assert_eq!(pods(&world).await, before, "what runs goes on");
    world.change("small", &json!({"replicas": 2})).await;
    let started = Instant::now();
    world
        .eventually("there are two", async || {
            if operator.has_ended() {
                // A kubelet would start it again.
                (operator, who) = (world.operator(), "its successor");
            }
            let found = world.objects().get("small").await.expect("is there");
            found.status.is_some_and(|status| status.ready == "2/2")
        })
        .await;
    shown(&format!(
        "the API server was away for {away:.1} s; a change after it was applied in {:.1} s by {who}",
        started.elapsed().as_secs_f64(),
    ));
    world.end().await;
}

async fn pods(world: &World) -> Vec<String> {
    let pods = world.api::<Pod>().list(&ListParams::default()).await.expect("a list");
    pods.items.iter().map(Pod::name_any).collect()
}

/// Killed at any point, the next one ends the work.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operator_that_is_killed_again_and_again_gets_there() {
    let Some(world) = World::new("killed", 4).await else { return };
    for round in 0..4_u32 {
        let mut operator = world.operator();
        let name = format!("small-{round}");
        world.create(&name, &json!({"accelerator": {"type": "cpu"}})).await;
        // The lease of the one before has to run out first: the kill comes early in this one's work.
        world
            .eventually("it has begun", async || {
                let found = world.objects().get(&name).await.expect("is there");
                found.status.is_some() || found.spec.replicas.is_some()
            })
            .await;
        operator.kill();
    }
    let _operator = world.operator();
    for round in 0..4_u32 {
        let name = format!("small-{round}");
        world
            .until(&name, "is available", |it| condition(it, "Available").starts_with("True"))
            .await;
    }
    shown("an operator killed in the middle of its work leaves nothing half done");
    world.end().await;
}
