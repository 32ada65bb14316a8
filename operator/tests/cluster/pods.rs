//! The demo model in real pods, on a node with two devices, under the load of real clients.

use crate::harness::{World, condition, names, shown};
use crate::serving::{Answered, Clients, Protocol};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::{DeleteParams, ListParams};
use reranker_operator::crd::RerankerDeployment;
use reranker_operator::resources::KINDS;
use serde_json::json;
use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};
use std::time::{Duration, Instant};
use tokio::sync::Mutex;

/// The node's devices are for one test at a time.
static DEVICES: Mutex<()> = Mutex::const_new(());

/// Rollouts; twice as often a pod is taken away.
const ROUNDS: &str = "RERANKER_TEST_ROUNDS";
/// Small requests at a pace that leaves the pods time.
const STEADY: &str = "--rate 4 --documents 2 --document-chars 100";
/// More than a pod can do; its clients wait for each other.
const HEAVY: &str = "--clients 8 --documents 10 --document-chars 200";

async fn pods(world: &World) -> Vec<Pod> {
    world.api::<Pod>().list(&ListParams::default()).await.expect("a list").items
}

fn is_ready(object: &RerankerDeployment, ready: &str) -> bool {
    object.status.as_ref().is_some_and(|status| status.ready == ready)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pods_are_replaced_without_losing_a_request() {
    let _devices = DEVICES.lock().await;
    let Some(world) = World::real("serve").await else { return };
    let operator = world.operator();
    let started = Instant::now();
    world.create("small", &json!({"autoscaling": {"minReplicas": 2, "maxReplicas": 2}})).await;
    world
        .until("small", "is available", |it| {
            condition(it, "Available") == "True MinimumReplicasAvailable"
        })
        .await;
    shown(&format!("created -> a real pod Available in {:.1} s", started.elapsed().as_secs_f64()));
    world.until("small", "has two ready pods", |it| is_ready(it, "2/2")).await;
    shown("pods run under the restricted pod security policy");

    let http = Clients::start(&world, "small", Protocol::Http, STEADY).await;
    let grpc = Clients::start(&world, "small", Protocol::Grpc, STEADY).await;
    let mut operator = Some(operator);
    let rounds = std::env::var(ROUNDS).map_or(2, |rounds| rounds.parse().expect("a number"));
    for round in 1..=rounds {
        rolls(&world, round, &mut operator).await;
    }
    for round in 1..=2 * rounds {
        shrinks(&world, round).await;
    }
    let (http, grpc) = (http.stop().await, grpc.stop().await);
    assert!(http.answered > 0 && grpc.answered > 0, "{http:?} {grpc:?}");
    shown(&format!(
        "{rounds} rollouts without a spare device, operators killed meanwhile, and {} scale-downs: {} calls over HTTP \
         and {} over gRPC, none failed ({} did not leave the client)",
        2 * rounds,
        http.answered,
        grpc.answered,
        grpc.unsent
    ));

    world.objects().delete("small", &DeleteParams::default()).await.expect("is deleted");
    world
        .eventually("all is gone", async || {
            for kind in KINDS {
                if !names(&world, kind).await.is_empty() {
                    return false;
                }
            }
            pods(&world).await.is_empty()
        })
        .await;
    shown("a deleted object leaves no pod");
    world.end().await;
}

/// Changes the object and waits until all pods are new, while operators are killed and follow each other.
async fn rolls(world: &World, round: u32, operator: &mut Option<crate::operator::Operator>) {
    let before: HashSet<String> = pods(world).await.iter().map(Pod::name_any).collect();
    world.change("small", &json!({"server": {"maxQueueMillis": 9000 + round}})).await;
    let mut next_kill = Instant::now() + at_random();
    world
        .eventually("all pods are new", async || {
            if Instant::now() > next_kill {
                if let Some(mut killed) = operator.replace(world.operator()) {
                    killed.kill();
                }
                next_kill = Instant::now() + Duration::from_secs(15) + at_random();
            }
            let pods = pods(world).await;
            let staying = || pods.iter().filter(|pod| pod.metadata.deletion_timestamp.is_none());
            assert!(staying().count() <= 2, "more pods than devices");
            staying().count() == 2
                && staying().all(|pod| !before.contains(&pod.name_any()) && is_serving(pod))
        })
        .await;
    world.until("small", "has two ready pods", |it| is_ready(it, "2/2")).await;
}

/// Takes a pod away, and another comes.
async fn shrinks(world: &World, round: u32) {
    for replicas in [1, 2] {
        let bounds = json!({"minReplicas": replicas, "maxReplicas": replicas});
        world.change("small", &json!({"autoscaling": bounds})).await;
        world
            .eventually(&format!("{replicas} pods, round {round}"), async || {
                let pods = pods(world).await;
                pods.len() == replicas && pods.iter().all(is_serving)
            })
            .await;
    }
}

/// Some time within ten seconds.
fn at_random() -> Duration {
    Duration::from_millis(RandomState::new().hash_one(()) % 10_000)
}

fn is_serving(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
    conditions.into_iter().flatten().any(|it| it.type_ == "Ready" && it.status == "True")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pods_follow_real_load_up_to_the_last_device_and_back() {
    let _devices = DEVICES.lock().await;
    let Some(world) = World::real("follow").await else { return };
    let _operator = world.operator();
    let quick = json!({"stabilizationWindowSeconds": 5, "selectPolicy": "Max",
        "policies": [{"type": "Pods", "value": 1, "periodSeconds": 1}]});
    world
        .create(
            "small",
            &json!({
                "autoscaling": {
                    "maxReplicas": 3,
                    "initialCooldownSeconds": 0,
                    "behavior": {"scaleUp": quick, "scaleDown": quick},
                },
                // Clients of a Service find new pods when they connect anew. No machine is too slow for this queue.
                "server": {"maxConnectionAgeSeconds": 5, "maxQueueMillis": 60_000},
                "drain": {"preStopSeconds": 5},
            }),
        )
        .await;
    world.until("small", "has a ready pod", |it| is_ready(it, "1/1")).await;

    let clients = Clients::start(&world, "small", Protocol::Grpc, HEAVY).await;
    let started = Instant::now();
    world.until("small", "has two replicas", |it| it.spec.replicas >= Some(2)).await;
    shown(&format!("real load -> a second replica in {:.1} s", started.elapsed().as_secs_f64()));
    let object = world
        .until("small", "lacks a device", |it| {
            is_ready(it, "2/3") && condition(it, "Schedulable") == "False InsufficientGPU"
        })
        .await;
    let conditions = object.status.expect("a status").conditions;
    let schedulable = conditions.iter().find(|it| it.type_ == "Schedulable").expect("is there");
    assert!(schedulable.message.contains("Insufficient nvidia.com/gpu"), "{}", schedulable.message);
    shown(&format!("a third pod waits: {}", schedulable.message));
    let first = clients.stop().await;

    let clients = Clients::start(&world, "small", Protocol::Grpc, STEADY).await;
    world.until("small", "has one pod", |it| is_ready(it, "1/1")).await;
    world.eventually("the others have ended", async || pods(&world).await.len() == 1).await;
    let Answered { answered, unsent } = first + clients.stop().await;
    shown(&format!(
        "and one replica again without load: {answered} calls over gRPC, none failed ({unsent} did not leave the client)"
    ));
    world.end().await;
}
