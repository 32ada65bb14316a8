//! A node without a machine: its kubelet makes pods ready, and they all answer for their load at one address.

use axum::Json;
use axum::extract::State;
use axum::routing::get;
use futures::StreamExt;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Node as NodeObject, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff::Timestamp;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, ResourceExt};
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// The load of all pods of a test together.
pub(crate) struct Load {
    /// The admin port of every pod.
    pub(crate) port: u16,
    /// Thousandths of a pod that the load keeps busy.
    work: AtomicU32,
    /// Pods that share it.
    pods: AtomicU32,
}

impl Load {
    pub(crate) async fn start() -> Arc<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let port = listener.local_addr().expect("an address").port();
        let load = Arc::new(Self { port, work: AtomicU32::new(0), pods: AtomicU32::new(1) });
        let router = axum::Router::new().route("/load", get(answer)).with_state(load.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        load
    }

    /// Sets the load to what keeps so many pods busy, shared by so many.
    pub(crate) fn set(&self, work: f64, pods: u32) {
        self.work.store((work * 1000.0) as u32, Ordering::Relaxed);
        self.pods.store(pods, Ordering::Relaxed);
    }
}

async fn answer(State(load): State<Arc<Load>>) -> Json<Value> {
    let pods = f64::from(load.pods.load(Ordering::Relaxed));
    let share = f64::from(load.work.load(Ordering::Relaxed)) / 1000.0 / pods;
    let waiting = if share > 1.0 { 5_000.0 * (share - 1.0) } else { 0.0 };
    Json(json!({
        "queued_tokens": waiting as u64,
        "inflight_tokens": 0,
        "tokens_per_second": 1000.0,
        "busy_ratio": share.min(1.0),
        "draining": false,
    }))
}

/// Time between the signs of life of a node, after four of which it counts as lost.
const HEARTBEAT: Duration = Duration::from_secs(10);

/// A node and its kubelet.
pub(crate) struct Node {
    nodes: Api<NodeObject>,
    leases: Api<Lease>,
    name: String,
    kubelet: [JoinHandle<()>; 2],
}

impl Node {
    pub(crate) async fn start(client: &Client, namespace: &str, gpus: u32) -> Self {
        let nodes: Api<NodeObject> = Api::all(client.clone());
        let name = namespace.to_owned();
        let object = json!({
            "metadata": {"name": name, "labels": {"hollow": namespace}},
            "spec": {"taints": [{"key": "hollow", "effect": "NoSchedule"}]},
        });
        let object: NodeObject = serde_json::from_value(object).expect("is a node");
        nodes.create(&PostParams::default(), &object).await.expect("a node");
        let amounts = json!({
            "cpu": "100", "memory": "100Gi", "pods": "1000", "nvidia.com/gpu": gpus.to_string(),
        });
        let ready = json!({"type": "Ready", "status": "True", "reason": "Hollow", "message": ""});
        let status =
            json!({"status": {"capacity": amounts, "allocatable": amounts, "conditions": [ready]}});
        let params = PatchParams::default();
        nodes.patch_status(&name, &params, &Patch::Strategic(status)).await.expect("a status");
        let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
        let leases: Api<Lease> = Api::namespaced(client.clone(), "kube-node-lease");
        let kubelet = [
            tokio::spawn(run_pods(pods, name.clone())),
            tokio::spawn(beat(leases.clone(), name.clone())),
        ];
        Self { nodes, leases, name, kubelet }
    }

    pub(crate) async fn end(&self) {
        for task in &self.kubelet {
            task.abort();
        }
        let _ = self.nodes.delete(&self.name, &DeleteParams::default()).await;
        let _ = self.leases.delete(&self.name, &DeleteParams::default()).await;
    }
}

async fn beat(leases: Api<Lease>, node: String) {
    let params = PatchParams::apply("hollow").force();
    loop {
        let now = MicroTime(Timestamp::now());
        let lease = json!({
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {"name": node},
            "spec": {"holderIdentity": node, "leaseDurationSeconds": 40, "renewTime": now},
        });
        let _ = leases.patch(&node, &params, &Patch::Apply(lease)).await;
        tokio::time::sleep(HEARTBEAT).await;
    }
}

async fn run_pods(pods: Api<Pod>, node: String) {
    let bound = watcher::Config::default().fields(&format!("spec.nodeName={node}"));
    let mut seen = watcher(pods.clone(), bound).default_backoff().applied_objects().boxed();
    while let Some(pod) = seen.next().await {
        let Ok(pod) = pod else { continue };
        let name = pod.name_any();
        if pod.metadata.deletion_timestamp.is_some() {
            let _ = pods.delete(&name, &DeleteParams::default().grace_period(0)).await;
            continue;
        }
        let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
        if phase != Some("Pending") {
            continue;
        }
        let image = pod.spec.as_ref().and_then(|spec| spec.containers[0].image.clone());
        let status = status(&image.unwrap_or_default());
        let _ = pods.patch_status(&name, &PatchParams::default(), &Patch::Strategic(status)).await;
    }
}

/// Ready, or broken if the image's tag says so.
fn status(image: &str) -> Value {
    let is_broken = image.ends_with(":broken");
    let state = if is_broken {
        json!({"waiting": {"reason": "CrashLoopBackOff", "message": "back-off"}})
    } else {
        json!({"running": {}})
    };
    let last = if is_broken {
        let message = "loading\nerror: the model is not there\n";
        json!({"terminated": {"exitCode": 1, "reason": "Error", "message": message}})
    } else {
        json!({})
    };
    let ready = if is_broken { "False" } else { "True" };
    json!({"status": {
        "phase": "Running",
        "podIP": "127.0.0.1",
        "podIPs": [{"ip": "127.0.0.1"}],
        "conditions": [
            {"type": "Ready", "status": ready},
            {"type": "ContainersReady", "status": ready},
        ],
        "containerStatuses": [{
            "name": "server", "ready": !is_broken, "started": !is_broken, "restartCount": u8::from(is_broken),
            "image": image, "imageID": image, "state": state, "lastState": last,
        }],
    }})
}
