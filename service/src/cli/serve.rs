//! `reranker serve`

use super::{Failure, load_model};
use crate::app::{App, Collections};
use crate::collection::Store;
use crate::collection::embedded::Embedded;
use crate::collection::ingest::Ingest;
use crate::config::{CollectionsConfig, Config, ModelChoice, ServeArgs, Traces};
use crate::downloads::{Secret, UrlSigner};
use crate::server::{ServeError, Server};
use crate::telemetry;
use reranker_engine::{Engine, EngineOptions};
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;
use tokio::task::JoinError;
use tokio_util::sync::CancellationToken;

pub(super) fn run(args: ServeArgs, flags: &serde_json::Value) -> Result<(), Failure> {
    let log_format = args.log_format;
    let config = Config::try_from(args).map_err(Failure::Usage)?;
    let traces = Traces::from_env().map_err(Failure::Usage)?;
    let protocol = traces.as_ref().map(|traces| traces.protocol.name());
    let told = serde_json::json!({"flags": flags, "traces": protocol});
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let served = runtime.block_on(async {
        let export = telemetry::start(log_format, traces).map_err(Failure::Usage)?;
        let mut signals = Signals::listen()?;
        let grace = config.shutdown_grace;
        let served = serve(config, told.to_string(), &mut signals).await;
        if let Some(export) = export {
            let limit = signals.left_of(grace).min(FLUSH);
            let flushed = tokio::task::spawn_blocking(move || export.end(limit));
            tokio::select! {
                // A panic has been reported where it happened.
                _ = flushed => {}
                () = signals.next() => {}
            }
        }
        served
    });
    // What still runs has had its grace.
    runtime.shutdown_background();
    served
}

/// Longest time for the last traces: a collector that is away must not hold a rollout.
const FLUSH: Duration = Duration::from_secs(5);

async fn serve(config: Config, told: String, signals: &mut Signals) -> Result<(), Failure> {
    let Config {
        mock,
        models,
        aliases,
        options,
        listen,
        edge,
        limits,
        rates,
        collections,
        shutdown_grace,
    } = config;
    let server = Server::bind(listen, edge).await;
    let server = server.map_err(|error| Failure::Failed(error.to_string()))?;
    let addresses = server.addresses();
    tracing::info!(
        grpc = %addresses.grpc, http = %addresses.http, admin = %addresses.admin, "listening"
    );
    let app = if mock { App::mock(limits) } else { App::limited(aliases, limits, rates) };
    app.set_configuration(told);
    app.announce_models(models.iter().map(|model| model.spec.name.to_string()).collect());
    let run = Run { app: app.clone(), server, models, options, collections, shutdown_grace };
    let served = run.until_stopped(signals).await;
    close_collections(&app, signals, shutdown_grace).await;
    served
}

/// A server that is about to run.
struct Run {
    app: App,
    server: Server,
    models: Vec<ModelChoice>,
    options: EngineOptions,
    collections: Option<CollectionsConfig>,
    shutdown_grace: Duration,
}

impl Run {
    /// Loads, serves and drains.
    async fn until_stopped(self, signals: &mut Signals) -> Result<(), Failure> {
        let Self { app, server, models, options, collections, shutdown_grace } = self;
        let stop = CancellationToken::new();
        let mut serving = tokio::spawn(server.run(app.clone(), stop.clone(), shutdown_grace));
        let loaded = tokio::select! {
            loaded = load(&app, models, options, collections) => Some(loaded),
            () = signals.next() => None,
            ended = &mut serving => return finished(ended),
        };
        match loaded {
            Some(Ok(engines)) => {
                if app.is_mock() {
                    tracing::warn!("--mock: answers are canned");
                } else {
                    app.serve_models(engines);
                }
                tracing::info!("ready");
                tokio::select! {
                    () = signals.next() => {}
                    ended = &mut serving => return finished(ended),
                }
            }
            Some(Err(error)) => {
                stop.cancel();
                // The reason to report is the load's.
                let _ = serving.await;
                return Err(Failure::Failed(error));
            }
            None => {}
        }
        stop.cancel();
        tokio::select! {
            ended = &mut serving => finished(ended),
            () = signals.next() => Err(Failure::Failed(format!(
                "second signal: stopped with {} requests unanswered", app.in_flight()
            ))),
        }
    }
}

/// Ends what works on collections, in what is left of the grace. What is cut off is done again by the next
/// process: all that was acknowledged is on disk.
async fn close_collections(app: &App, signals: &mut Signals, grace: Duration) {
    let left = signals.left_of(grace);
    tokio::select! {
        closed = tokio::time::timeout(left, app.close_collections()) => {
            if closed.is_err() {
                tracing::warn!("documents that are being parsed or indexed wait for the next start");
            }
        }
        () = signals.next() => {}
    }
}

fn finished(ended: Result<Result<(), ServeError>, JoinError>) -> Result<(), Failure> {
    match ended {
        Ok(served) => served.map_err(|error| Failure::Failed(error.to_string())),
        Err(error) => Err(Failure::Failed(format!("the server broke: {error}"))),
    }
}

/// Loads the models while collections are opened; whatever fails first ends both.
async fn load(
    app: &App,
    models: Vec<ModelChoice>,
    options: EngineOptions,
    collections: Option<CollectionsConfig>,
) -> Result<Vec<Engine>, String> {
    let open = async {
        if let Some(config) = collections {
            app.serve_collections(open_collections(config).await?);
        }
        Ok(())
    };
    let (engines, ()) = tokio::try_join!(load_models(app, models, options), open)?;
    Ok(engines)
}

async fn open_collections(config: CollectionsConfig) -> Result<Collections, String> {
    let CollectionsConfig { folder, language, candidates, ingest, public_url } = config;
    let opened = tokio::task::spawn_blocking(move || {
        let store = Embedded::open(&folder, language).map_err(|error| error.to_string())?;
        let secret = Secret::open(&folder).map_err(|error| error.to_string())?;
        tracing::info!(folder = %folder.display(), %language, "collections are open");
        Ok::<_, String>((store, secret))
    });
    let (store, secret) =
        opened.await.unwrap_or_else(|error| Err(format!("opening collections: {error}")))?;
    let store: Arc<dyn Store> = Arc::new(store);
    let ingest = Ingest::start(&store, ingest);
    let urls = UrlSigner::new(&secret, public_url.as_deref());
    Ok(Collections { store, ingest, urls, candidates })
}

/// Loads on a thread of its own: a download that nobody waits for any more must not hold the
/// process, which the runtime's blocking threads would.
async fn load_models(
    app: &App,
    models: Vec<ModelChoice>,
    options: EngineOptions,
) -> Result<Vec<Engine>, String> {
    let (sender, receiver) = oneshot::channel();
    let app = app.clone();
    let thread = std::thread::Builder::new().name("load".to_owned()).spawn(move || {
        let engines = models.iter().map(|choice| load_one(&app, choice, &options)).collect();
        // Nobody listens any more if the process is about to end.
        let _ = sender.send(engines);
    });
    thread.map_err(|error| format!("cannot start a thread: {error}"))?;
    receiver
        .await
        .unwrap_or_else(|_| Err("loading the model panicked; the log says why".to_owned()))
}

fn load_one(app: &App, choice: &ModelChoice, options: &EngineOptions) -> Result<Engine, String> {
    let ModelChoice { spec, source } = choice;
    tracing::info!(model = %spec.name, %source, "loading");
    let started = Instant::now();
    let engine = load_model(choice, options, |event| app.note_loading(&spec.name, event))
        .map_err(|error| format!("model `{}`: {error}", spec.name))?;
    let info = engine.info();
    tracing::info!(
        model = %spec.name,
        device = %info.device,
        dtype = %info.dtype,
        parameters = info.parameters,
        max_batch_tokens = info.max_batch_tokens,
        seconds = started.elapsed().as_secs_f64(),
        "loaded"
    );
    Ok(engine)
}

/// A signal so soon after another is the same one: `timeout` and some supervisors send it to the
/// process and to its group.
const SAME_SIGNAL: Duration = Duration::from_millis(500);

struct Signals {
    terminate: Signal,
    interrupt: Signal,
    last: Option<Instant>,
    /// When the first one came; the grace counts from there.
    first: Option<Instant>,
}

impl Signals {
    fn listen() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            last: None,
            first: None,
        })
    }

    /// What is left of the grace: all of it without a signal, nothing after a second one.
    fn left_of(&self, grace: Duration) -> Duration {
        match self.first {
            None => grace,
            Some(first) if self.last == Some(first) => grace.saturating_sub(first.elapsed()),
            Some(_) => Duration::ZERO,
        }
    }

    /// SIGTERM or SIGINT.
    async fn next(&mut self) {
        loop {
            let name = tokio::select! {
                _ = self.terminate.recv() => "SIGTERM",
                _ = self.interrupt.recv() => "SIGINT",
            };
            let now = Instant::now();
            if self.last.is_none_or(|last| now.duration_since(last) > SAME_SIGNAL) {
                tracing::info!("{name} received");
                self.last = Some(now);
                self.first.get_or_insert(now);
                return;
            }
        }
    }
}
