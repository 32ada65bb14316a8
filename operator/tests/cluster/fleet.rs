//! Many objects.

use crate::harness::{CLUSTER, World, condition, shown};
use futures::{StreamExt, stream};
use k8s_openapi::api::apps::v1::Deployment;
use kube::ResourceExt;
use kube::api::ListParams;
use serde_json::json;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

const OBJECTS: usize = 300;
/// Bytes that the operator may hold with all of them.
const MEMORY: u64 = 60 << 20;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_hundred_objects_come_to_rest() {
    // So many objects slow down what others wait for.
    let _cluster = CLUSTER.write().await;
    let Some(world) = World::alone("fleet", 0).await else { return };
    let operator = world.operator();
    let started = Instant::now();
    let here = &world;
    stream::iter(0..OBJECTS)
        .for_each_concurrent(8, async |number| {
            let spec = json!({"replicas": 0, "autoscaling": {"mode": "none"}});
            here.create(&format!("small-{number}"), &spec).await;
        })
        .await;
    let seen = async || {
        let objects = world.objects().list(&ListParams::default()).await.expect("a list").items;
        objects.iter().filter(|it| condition(it, "Available") == "False ScaledToZero").count()
    };
    let end = Instant::now() + Duration::from_mins(10);
    while seen().await < OBJECTS {
        assert!(Instant::now() < end, "only {} objects\n{}", seen().await, operator.log());
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    shown(&format!("{OBJECTS} objects reconciled in {:.0} s", started.elapsed().as_secs_f64()));
    let memory = operator.memory();
    shown(&format!("{} MB of memory with {OBJECTS} objects", memory >> 20));

    let versions = async || -> BTreeMap<String, Option<String>> {
        let deployments = world.api::<Deployment>().list(&ListParams::default()).await;
        let objects = world.objects().list(&ListParams::default()).await.expect("a list").items;
        let deployments = deployments.expect("a list").items.into_iter();
        let deployments =
            deployments.map(|it| (format!("deployment {}", it.name_any()), it.resource_version()));
        deployments
            .chain(
                objects
                    .into_iter()
                    .map(|it| (it.name_any(), serde_json::to_string(&it.status).ok())),
            )
            .collect()
    };
    drop(operator);
    let before = versions().await;
    // Another operator passes over all of them from the start.
    let second = world.operator();
    let end = Instant::now() + Duration::from_mins(10);
    while second.log().matches("reconciled").count() < OBJECTS {
        assert!(Instant::now() < end, "{}", second.log());
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    assert!(before == versions().await, "a second pass has written");
    shown("a second operator passes over all of them and changes nothing");
    assert!(memory <= MEMORY, "{memory} bytes");
    // Taking them away slows down the others as much.
    drop(second);
    world.end_and_wait().await;
}
