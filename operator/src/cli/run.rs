//! `reranker-operator run`

use crate::apply::Applier;
use crate::autoscale::scaling::{Reference, Scaling};
use crate::autoscale::signal::Signal;
use crate::controller::{Context, Written, controller, forget, run as reconcile};
use crate::crd::RerankerDeployment;
use crate::events::Events;
use crate::leader::Leadership;
use crate::metrics::Metrics;
use crate::resources::Surroundings;
use crate::scaler::{self, Scaler};
use crate::server::{Readiness, serve};
use crate::watches::scoped;
use anyhow::Context as _;
use clap::{Args, ValueEnum};
use futures::StreamExt;
use k8s_openapi::api::core::v1::Pod;
use kube::api::ListParams;
use kube::runtime::reflector::Store;
use kube::runtime::{WatchStreamExt, reflector, watcher};
use kube::{Client, ResourceExt};
use std::io::IsTerminal;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

/// Objects whose autoscaling has news, until reconcile takes them.
const NEWS: usize = 1024;

/// How logs are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum LogFormat {
    /// Lines for people.
    Text,
    /// One JSON object a line.
    Json,
}

/// What the operator is told.
#[derive(Args, Debug)]
pub(super) struct RunArgs {
    /// Namespace to watch; repeat it, or separate several by commas. Without it all are watched
    #[arg(
        long = "watch-namespace",
        env = "RERANKER_OPERATOR_WATCH_NAMESPACE",
        value_name = "NAMESPACE",
        value_delimiter = ','
    )]
    watch_namespaces: Vec<String>,

    /// Namespace of the operator, where its lease is
    #[arg(
        long,
        env = "RERANKER_OPERATOR_NAMESPACE",
        value_name = "NAMESPACE",
        default_value = "default"
    )]
    namespace: String,

    /// Name of this process among the operators that want the lease; without it the host's name
    #[arg(long, env = "RERANKER_OPERATOR_IDENTITY", value_name = "NAME")]
    identity: Option<String>,

    /// Address for /livez, /readyz and /metrics; port 0 takes a free one
    #[arg(
        long,
        env = "RERANKER_OPERATOR_LISTEN",
        value_name = "ADDRESS",
        default_value = "0.0.0.0:8081"
    )]
    listen: SocketAddr,

    /// Address for KEDA's external scaler, over gRPC; port 0 takes a free one
    #[arg(
        long,
        env = "RERANKER_OPERATOR_SCALER_LISTEN",
        value_name = "ADDRESS",
        default_value = "0.0.0.0:9443"
    )]
    scaler_listen: SocketAddr,

    /// HOST:PORT at which KEDA reaches the operator, for objects with `autoscaling.mode: keda`
    #[arg(
        long,
        env = "RERANKER_OPERATOR_SCALER_ADDRESS",
        value_name = "HOST:PORT",
        default_value = "reranker-operator:9443"
    )]
    scaler_address: String,

    /// Logs on standard error as `text`, or as `json` with one object a line; `RUST_LOG` filters them
    #[arg(
        long,
        env = "RERANKER_OPERATOR_LOG_FORMAT",
        value_name = "FORMAT",
        default_value = "text"
    )]
    log_format: LogFormat,
}

pub(super) fn run(args: RunArgs) -> anyhow::Result<()> {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let lines = tracing_subscriber::fmt().with_writer(std::io::stderr).with_target(false);
    let lines = lines.with_env_filter(filter).with_ansi(std::io::stderr().is_terminal());
    match args.log_format {
        LogFormat::Text => lines.init(),
        LogFormat::Json => lines.json().flatten_event(true).init(),
    }
    // Two threads are enough to wait on an API server, and each has memory of its own.
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(operate(args))
}

async fn operate(args: RunArgs) -> anyhow::Result<()> {
    let stop = CancellationToken::new();
    let mut term = signal(SignalKind::terminate())?;
    let mut int = signal(SignalKind::interrupt())?;
    let metrics = Arc::new(Metrics::default());
    let readiness = Readiness::default();
    let listener = TcpListener::bind(args.listen).await;
    let listener = listener.with_context(|| format!("--listen `{}`", args.listen))?;
    tracing::info!(address = %listener.local_addr()?, "listening");
    let mut tasks = JoinSet::new();
    tasks.spawn({
        let (metrics, readiness, stop) = (metrics.clone(), readiness.clone(), stop.clone());
        async move { serve(listener, metrics, readiness, stop).await.context("the listener") }
    });
    tasks.spawn(lead(args, metrics, readiness, stop.clone()));
    let ended = tokio::select! {
        _ = term.recv() => None,
        _ = int.recv() => None,
        ended = tasks.join_next() => ended,
    };
    stop.cancel();
    let mut result = ended.map_or(Ok(()), |ended| ended.context("a task")?);
    while let Some(ended) = tasks.join_next().await {
        result = result.and(ended.context("a task")?);
    }
    result
}

/// Waits for the lease and works while it is held.
async fn lead(
    args: RunArgs,
    metrics: Arc<Metrics>,
    readiness: Readiness,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    // Said once: the error's own text has its causes.
    let client = Client::try_default().await.map_err(|error| {
        anyhow::anyhow!("no cluster: run it in a pod, or set KUBECONFIG ({error})")
    })?;
    let objects =
        scoped::<RerankerDeployment>(&client, args.watch_namespaces.first().map(String::as_str));
    objects.list(&ListParams::default().limit(1)).await.context(
        "RerankerDeployments cannot be listed: is the definition installed, and may the operator?",
    )?;
    readiness.set(true);
    let identity = args.identity.clone().map_or_else(host_name, Ok)?;
    let mut lease =
        Leadership::new(client.clone(), &args.namespace, "reranker-operator", &identity);
    tokio::select! {
        () = stop.cancelled() => return Ok(()),
        () = lease.acquire() => {}
    }
    tracing::info!(identity, "leads");
    metrics.leads(true);
    let events = Events::new(client.clone(), &identity);
    let mut work = JoinSet::new();
    let working = stop.child_token();
    let scopes: Vec<Option<String>> = if args.watch_namespaces.is_empty() {
        vec![None]
    } else {
        args.watch_namespaces.iter().cloned().map(Some).collect()
    };
    let mut watched = Vec::new();
    for scope in scopes {
        let surroundings = Surroundings {
            operator_namespace: args.namespace.clone(),
            scaler_address: args.scaler_address.clone(),
        };
        let scope = scope.as_deref();
        let both = work_on(&mut work, &client, scope, surroundings, &events, &metrics, &working)?;
        watched.push(both);
    }
    let listener = TcpListener::bind(args.scaler_listen).await;
    let listener = listener.with_context(|| format!("--scaler-listen `{}`", args.scaler_listen))?;
    let answering = scaler::serve(listener, Scaler::new(watched), working.clone());
    work.spawn(async move {
        if let Err(error) = answering.await {
            tracing::error!(%error, "the external scaler");
        }
    });
    let lost = tokio::select! {
        () = lease.hold(&stop) => !stop.is_cancelled(),
        _ = work.join_next() => !stop.is_cancelled(),
    };
    metrics.leads(false);
    if lost {
        // Another may lead already: what is under way must not write any more.
        work.shutdown().await;
        anyhow::bail!("the lease or a watch was lost: start again");
    }
    working.cancel();
    let drained = async { while work.join_next().await.is_some() {} };
    let _ = tokio::time::timeout(std::time::Duration::from_secs(10), drained).await;
    work.shutdown().await;
    lease.release().await;
    Ok(())
}

/// In a pod, the pod's name.
fn host_name() -> anyhow::Result<String> {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname");
    let name = name.context("the host's name cannot be read: set --identity")?;
    Ok(name.trim().to_owned())
}

/// Starts the watches, the autoscaler and the passes of one namespace, or of all.
fn work_on(
    work: &mut JoinSet<()>,
    client: &Client,
    scope: Option<&str>,
    surroundings: Surroundings,
    events: &Events,
    metrics: &Arc<Metrics>,
    stop: &CancellationToken,
) -> anyhow::Result<(Arc<Scaling>, Store<RerankerDeployment>)> {
    let (pods, writer) = reflector::store();
    let watched = watcher::Config::default().labels("app.kubernetes.io/name=reranker");
    let watching = watcher(scoped::<Pod>(client, scope), watched)
        .default_backoff()
        .modify(slim)
        .reflect(writer)
        .for_each(async |seen| {
            if let Err(error) = seen {
                tracing::warn!(%error, "the watch of pods");
            }
        });
    let (news, received) = mpsc::channel::<Reference>(NEWS);
    let signal = Signal::new().context("no TLS")?;
    let scaling = Scaling::new(client.clone(), signal, events.clone(), metrics.clone(), pods, news);
    let scaling = Arc::new(scaling);
    let controller = controller(client, scope);
    let objects = controller.store();
    let both = (scaling.clone(), objects.clone());
    let context = Arc::new(Context {
        client: client.clone(),
        applier: Applier::new(client.clone(), metrics.clone()),
        scaling: scaling.clone(),
        events: events.clone(),
        metrics: metrics.clone(),
        written: Written::default(),
        surroundings,
    });
    spawn(work, stop, watching);
    spawn(work, stop, async move { scaling.run(objects).await });
    spawn(work, stop, forget(context.clone(), both.1.clone()));
    work.spawn(reconcile(controller, context, received, stop.clone()));
    Ok(both)
}

/// Runs a task that would never end until `stop`.
fn spawn(
    work: &mut JoinSet<()>,
    stop: &CancellationToken,
    task: impl Future<Output = ()> + Send + 'static,
) {
    let stop = stop.clone();
    work.spawn(async move {
        stop.run_until_cancelled(task).await;
    });
}

/// Keeps of a pod what the autoscaler reads.
fn slim(pod: &mut Pod) {
    pod.managed_fields_mut().clear();
    pod.spec = None;
    if let Some(status) = &mut pod.status {
        status.container_statuses = None;
        status.init_container_statuses = None;
    }
}
