//! What people read first: the reason, in the words of who knows it.

use super::*;
use crate::autoscale::policy::Limit;
use crate::crd::RerankerDeployment;
use crate::validate::validate;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use serde_json::{Value, json};

fn reranker(spec: &Value) -> Reranker {
    let mut object = json!({
        "apiVersion": "reranker.dev/v1alpha1",
        "kind": "RerankerDeployment",
        "metadata": {"name": "small", "namespace": "search", "uid": "u"},
        "spec": {
            "image": {"repository": "r", "tag": "1"},
            "models": [{"name": "demo", "source": {"baked": {}}}],
        },
    });
    for (name, value) in spec.as_object().expect("is one") {
        object["spec"][name] = value.clone();
    }
    let object: RerankerDeployment = serde_json::from_value(object).expect("is an object");
    validate(&object).expect("is valid")
}

fn at(seconds: i64) -> Time {
    Time(k8s_openapi::jiff::Timestamp::from_second(seconds).expect("is a time"))
}

fn pod(name: &str, status: &Value) -> Pod {
    serde_json::from_value(json!({"metadata": {"name": name}, "status": status})).expect("is a pod")
}

fn ready() -> Pod {
    pod("ready", &json!({"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}))
}

fn unscheduled(message: &str) -> Pod {
    let condition = json!({"type": "PodScheduled", "status": "False", "message": message});
    pod("waits", &json!({"phase": "Pending", "conditions": [condition]}))
}

fn container(state: &Value, last: &Value) -> Pod {
    let container = json!({
        "name": "server", "ready": false, "restartCount": 2, "image": "i", "imageID": "",
        "state": state, "lastState": last,
    });
    pod("p", &json!({"phase": "Running", "containerStatuses": [container]}))
}

fn see(spec: &Value, observed: &Observed) -> RerankerDeploymentStatus {
    status(&reranker(spec), 7, observed, &RerankerDeploymentStatus::default(), &at(1))
}

fn condition<'a>(status: &'a RerankerDeploymentStatus, kind: &str) -> &'a Condition {
    let found = status.conditions.iter().find(|condition| condition.type_ == kind);
    found.unwrap_or_else(|| panic!("no {kind}"))
}

fn brief(status: &RerankerDeploymentStatus, kind: &str) -> String {
    let Condition { status, reason, .. } = condition(status, kind);
    format!("{status} {reason}")
}

/// A pod that waits for a device said only "Creating" elsewhere.
#[test]
fn the_reason_is_the_root_cause() {
    let running = json!({"running": {}});
    let crashed = json!({"terminated": {"exitCode": 1, "reason": "Error", "message": "loading\nerror: no such model\n\n"}});
    let full = "0/1 nodes are available: 1 Insufficient nvidia.com/gpu.";
    for (pods, reason, part) in [
        (vec![], "PodStarting", "no pod"),
        (vec![unscheduled(full)], "InsufficientGPU", full),
        (vec![unscheduled("0/1 nodes: 1 Insufficient cpu.")], "Unschedulable", "Insufficient cpu"),
        (
            vec![container(
                &json!({"waiting": {"reason": "ImagePullBackOff", "message": "no such image"}}),
                &json!({}),
            )],
            "ImagePullFailed",
            "no such image",
        ),
        (
            vec![container(
                &json!({"waiting": {"reason": "CreateContainerConfigError", "message": "secret \"hub\" not found"}}),
                &json!({}),
            )],
            "ConfigMissing",
            "secret \"hub\" not found",
        ),
        (vec![container(&running, &json!({}))], "ModelLoading", "pod `p`"),
        (
            vec![
                container(&json!({"waiting": {"reason": "CrashLoopBackOff"}}), &crashed),
                unscheduled(full),
            ],
            "CrashLooping",
            "ended with code 1 (Error): error: no such model",
        ),
        (vec![container(&running, &crashed)], "CrashLooping", "no such model"),
    ] {
        let status = see(&json!({}), &Observed { pods, ..Observed::default() });
        assert_eq!(brief(&status, "Available"), format!("False {reason}"));
        let message = &condition(&status, "Available").message;
        assert!(message.contains(part), "{message}");
        assert_eq!(condition(&status, "Available").observed_generation, Some(7));
    }
}

/// A download of gigabytes would look like a pod that hangs.
#[test]
fn what_a_pod_says_of_its_loading_is_shown() {
    let pods = vec![container(&json!({"running": {}}), &json!({}))];
    let loading = [("p".to_owned(), "downloads `m`: 35 % of 3.4 GB".to_owned())].into();
    let status = see(&json!({}), &Observed { pods, loading, ..Observed::default() });
    for kind in ["Available", "ModelReady"] {
        let message = &condition(&status, kind).message;
        assert_eq!(message, "pod `p`: downloads `m`: 35 % of 3.4 GB");
    }
}

#[test]
fn a_service_that_is_short_of_pods_is_available_and_degraded() {
    let full = unscheduled("1 Insufficient nvidia.com/gpu.");
    let observed = Observed {
        pods: vec![ready(), ready(), full],
        scaler: Scaler::Known(Some(Limit::InsufficientDevices)),
        ..Observed::default()
    };
    let status = see(&json!({"replicas": 3}), &observed);
    assert_eq!((status.ready.as_str(), status.replicas, status.ready_replicas), ("2/3", 3, 2));
    assert_eq!(brief(&status, "Available"), "True MinimumReplicasAvailable");
    assert_eq!(brief(&status, "Degraded"), "True SomeReplicasUnavailable");
    assert_eq!(brief(&status, "Schedulable"), "False InsufficientGPU");
    assert_eq!(brief(&status, "ModelReady"), "True ModelsReady");
    assert_eq!(brief(&status, "ScalingLimited"), "True InsufficientGPU");
    assert_eq!(status.url, "http://small.search.svc:8080");
    assert_eq!(status.grpc_url, "dns:///small-headless.search.svc:50051");
}

#[test]
fn pods_that_cannot_be_created_say_why() {
    for (message, reason) in [
        ("pods \"x\" is forbidden: exceeded quota: gpus", "QuotaExceeded"),
        (
            "pods \"x\" is forbidden: error looking up service account search/x: not found",
            "ServiceAccountMissing",
        ),
        ("admission webhook denied the request", "ReplicaFailure"),
    ] {
        let condition = json!({"type": "ReplicaFailure", "status": "True", "message": message});
        let deployment = json!({"status": {"conditions": [condition]}});
        let deployment = Some(serde_json::from_value(deployment).expect("is one"));
        let status = see(&json!({}), &Observed { deployment, ..Observed::default() });
        assert_eq!(brief(&status, "Available"), format!("False {reason}"));
        assert_eq!(brief(&status, "Schedulable"), format!("False {reason}"));
    }
}

#[test]
fn what_is_switched_off_says_so() {
    let none = Observed::default();
    let stopped = see(&json!({"stopped": true}), &none);
    assert_eq!(brief(&stopped, "Available"), "False Stopped");
    assert_eq!(brief(&stopped, "ScalingActive"), "False ScalingDisabled");
    assert_eq!(brief(&see(&json!({"paused": true}), &none), "Progressing"), "False Paused");
    let fixed = see(&json!({"autoscaling": {"mode": "none"}, "replicas": 0}), &none);
    assert_eq!(brief(&fixed, "Available"), "False ScaledToZero");
}

#[test]
fn a_download_that_failed_says_where_to_look() {
    let job = |kind: &str| {
        let status = json!({"conditions": [{"type": kind, "status": "True"}], "failed": 7});
        Some(
            serde_json::from_value(json!({"metadata": {"name": "j"}, "status": status}))
                .expect("is a job"),
        )
    };
    let seen = |job| see(&json!({}), &Observed { job, ..Observed::default() });
    assert_eq!(brief(&seen(job("Failed")), "ModelReady"), "False DownloadFailed");
    assert!(condition(&seen(job("Failed")), "ModelReady").message.contains("kubectl logs job/j"));
    assert_eq!(brief(&seen(job("Suspended")), "ModelReady"), "False Downloading");
    assert_eq!(brief(&seen(job("Complete")), "ModelReady"), "Unknown NoPods");
}

/// Times that move with every look make a condition's age useless and write status for ever.
#[test]
fn times_move_only_with_the_status() {
    let none = Observed::default();
    let some = Observed { pods: vec![ready()], ..Observed::default() };
    let reranker = reranker(&json!({}));
    let first = status(&reranker, 1, &none, &RerankerDeploymentStatus::default(), &at(1));
    let same = status(&reranker, 1, &none, &first, &at(2));
    assert_eq!(first, same);
    let other = status(&reranker, 1, &some, &same, &at(3));
    assert_eq!(condition(&other, "Available").last_transition_time, at(3));
    assert_eq!(condition(&other, "Degraded").last_transition_time, at(1));
}

/// A slip in an edit must not look like an outage.
#[test]
fn an_invalid_spec_leaves_what_runs_as_it_is() {
    let some = Observed { pods: vec![ready()], ..Observed::default() };
    let good = see(&json!({}), &some);
    let bad = invalid(8, "pod.env[0].name: taken", &good, &at(2));
    assert_eq!(brief(&bad, "Available"), "True MinimumReplicasAvailable");
    assert_eq!(brief(&bad, "Degraded"), "True InvalidSpec");
    assert_eq!((bad.observed_generation, bad.ready_replicas), (8, 1));
    let new = invalid(1, "m", &RerankerDeploymentStatus::default(), &at(2));
    assert_eq!(brief(&new, "Available"), "False InvalidSpec");
}
