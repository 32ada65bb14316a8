//! The schema as the API server evaluates it: its CEL is another implementation than the one of the unit tests.

use crate::cases::{accepted, merge, minimal, refused, transitions};
use crate::harness::{World, shown};
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use reranker_operator::crd::RerankerDeployment;
use serde_json::{Value, json};

fn object(world: &World, spec: &Value) -> Value {
    let mut object = minimal();
    object["metadata"]["namespace"] = json!(world.namespace);
    merge(&mut object["spec"], spec);
    object
}

fn typed(object: Value) -> RerankerDeployment {
    serde_json::from_value(object).expect("is an object")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_api_server_takes_what_is_right_and_says_what_is_wrong() {
    let Some(world) = World::new("schema", 0).await else { return };
    let dry = PostParams { dry_run: true, ..PostParams::default() };
    for spec in accepted() {
        let created = world.objects().create(&dry, &typed(object(&world, &spec))).await;
        assert!(created.is_ok(), "{spec}: {created:?}");
    }
    for (spec, part) in refused() {
        let created = world.objects().create(&dry, &typed(object(&world, &spec))).await;
        let error = created.expect_err(&spec.to_string()).to_string();
        assert!(error.contains(part), "{spec}: {error}");
    }
    shown("every rule of the schema accepts and refuses on the real API server");

    let objects = world.objects();
    for (old, new, part) in transitions() {
        let first = typed(object(&world, &old));
        let first = objects.create(&PostParams::default(), &first).await.expect("is accepted");
        let mut second = typed(object(&world, &new));
        second.metadata.resource_version = first.metadata.resource_version;
        let changed = world.objects().replace("small", &PostParams::default(), &second).await;
        match changed {
            Ok(_) => assert_eq!(part, "", "{new}"),
            Err(error) => {
                assert!(!part.is_empty() && error.to_string().contains(part), "{new}: {error}");
            }
        }
        world.objects().delete("small", &DeleteParams::default()).await.expect("is deleted");
    }
    shown("changes that would lose data are refused");

    // Another scaler could give the embedded store a second pod otherwise.
    let embedded = json!({
        "replicas": 1,
        "collections": {"store": "embedded", "embedded": {}},
        "autoscaling": {"maxReplicas": 1},
    });
    let embedded = typed(object(&world, &embedded));
    world.objects().create(&PostParams::default(), &embedded).await.expect("is accepted");
    let patch = Patch::Merge(json!({"spec": {"replicas": 2}}));
    let scaled = world.objects().patch_scale("small", &PatchParams::default(), &patch).await;
    let error = scaled.expect_err("two pods on one store").to_string();
    assert!(error.contains("belongs to one pod"), "{error}");
    shown("the rules hold for writes through the scale subresource too");
    world.end().await;
}
