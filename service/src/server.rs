//! Listeners, readiness and shutdown.
//!
//! ```text
//! bind ──> run: gRPC, HTTP, admin ──stop──> no more connections, those there are told to go and
//!          answered until they have gone ──> end models
//!
//! connections: TLS, bounds ──> api::guard: key, body ──> routes
//! ```
//!
//! Three listeners because their readers differ. All answer from the first moment: while models
//! load, requests are refused with a hint to come back, and `/livez` is well.

mod admin;
mod connections;
mod grpc;
mod reload;
mod tls;
mod wire;

use crate::api::guard::{CurrentKeys, Guard};
use crate::api::http::{self, Lingering, Scheme};
use crate::app::App;
use crate::auth::Keys;
use connections::{Closing, Listener};
use reload::Reload;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tls::Tls;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

pub use crate::api::http::Origin;
pub use connections::{Connections, Protocol};
pub use tls::TlsFiles;

/// Where each protocol listens; port 0 takes a free one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Addresses {
    /// gRPC, HTTP/2 without TLS.
    pub grpc: SocketAddr,
    /// The public HTTP API.
    pub http: SocketAddr,
    /// Probes, metrics and load, for the cluster.
    pub admin: SocketAddr,
}

/// Who may connect, and what a connection may cost.
#[derive(Clone, Debug, Default)]
pub struct Edge {
    /// Bounds of connections and bodies.
    pub limits: ConnectionLimits,
    /// The file of API keys, see [`Keys::parse`]; read again when it changes. None: everybody may call.
    pub keys_file: Option<PathBuf>,
    /// TLS for all listeners; none: plain text.
    pub tls: Option<TlsFiles>,
    /// Origins whose pages may call the HTTP API.
    pub cors: Vec<Origin>,
}

/// Bounds of connections and bodies; those of each listener are its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectionLimits {
    /// Most open connections of a listener; one more is closed at once.
    pub connections: usize,
    /// Most bytes of a request's head.
    pub header_bytes: u32,
    /// From the connection to the first request's head, TLS included.
    pub header_timeout: Duration,
    /// For a request's body, and for a client that takes nothing of its answer.
    pub body_timeout: Duration,
    /// When a connection is told to go, give or take a tenth; none: never.
    pub age: Option<Duration>,
    /// Most bytes of bodies that all requests hold together.
    pub inflight_bytes: usize,
}

impl Default for ConnectionLimits {
    fn default() -> Self {
        Self {
            connections: 4_096,
            header_bytes: 16 * 1024,
            header_timeout: Duration::from_secs(10),
            body_timeout: Duration::from_mins(1),
            age: Some(Duration::from_mins(30)),
            inflight_bytes: 256 * 1024 * 1024,
        }
    }
}

/// The bound listeners.
pub struct Server {
    grpc: TcpListener,
    http: TcpListener,
    admin: TcpListener,
    addresses: Addresses,
    limits: ConnectionLimits,
    cors: Vec<Origin>,
    keys: CurrentKeys,
    tls: Option<watch::Receiver<Arc<Tls>>>,
    reloads: Vec<Reload>,
    connections: Connections,
}

/// Why serving ended otherwise than asked for.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// A file of keys or certificates is missing or broken.
    #[error("{0}")]
    File(String),
    /// The address is taken or not of this machine.
    #[error("cannot listen on {address} for {protocol}: {source}")]
    Bind {
        /// What was asked for.
        address: SocketAddr,
        /// Which listener it is for.
        protocol: Protocol,
        /// The system's reason.
        source: std::io::Error,
    },
    /// A listener ended by itself.
    #[error("a listener ended: {0}")]
    Ended(String),
    /// A model's worker thread ended.
    #[error("a model's worker ended; the log says why")]
    WorkerEnded,
    /// Requests were still running when the grace was over.
    #[error("{in_flight} requests were still running after the grace of {} s", grace.as_secs())]
    GraceOver {
        /// How many.
        in_flight: usize,
        /// `--shutdown-grace-seconds`
        grace: Duration,
    },
}

impl Server {
    /// Reads keys and certificates and binds all three listeners; connections queue up until
    /// [`run`](Self::run).
    ///
    /// # Errors
    /// [`ServeError::File`], [`ServeError::Bind`]
    pub async fn bind(addresses: Addresses, edge: Edge) -> Result<Self, ServeError> {
        let Edge { limits, keys_file, tls, cors } = edge;
        let mut reloads = Vec::new();
        let keys = match keys_file {
            None => None,
            Some(path) => {
                let (reload, keys) = load_keys(path).map_err(ServeError::File)?;
                reloads.push(reload);
                tracing::info!(keys = keys.borrow().count(), "callers need an API key");
                Some(keys)
            }
        };
        let tls = match tls {
            None => None,
            Some(files) => {
                let (reload, tls) = tls::load(&files).map_err(ServeError::File)?;
                reloads.push(reload);
                Some(tls)
            }
        };
        let (grpc, grpc_address) = bind(Protocol::Grpc, addresses.grpc).await?;
        let (http, http_address) = bind(Protocol::Http, addresses.http).await?;
        let (admin, admin_address) = bind(Protocol::Admin, addresses.admin).await?;
        let addresses = Addresses { grpc: grpc_address, http: http_address, admin: admin_address };
        let connections = Connections::default();
        Ok(Self { grpc, http, admin, addresses, limits, cors, keys, tls, reloads, connections })
    }

    /// What was bound, with the ports that were taken for 0.
    pub fn addresses(&self) -> Addresses {
        self.addresses
    }

    /// The counts of open connections, now and while it runs.
    pub fn connections(&self) -> Connections {
        self.connections.clone()
    }

    /// Serves until `stop`, then drains: new connections are refused, those there are told to go, what
    /// still comes on them is answered, the models' workers end; all within `grace`.
    ///
    /// # Errors
    /// See [`ServeError`]; whatever is left is dropped then.
    pub async fn run(
        self,
        app: App,
        stop: CancellationToken,
        grace: Duration,
    ) -> Result<(), ServeError> {
        let Self { grpc, http, admin, addresses: _, limits, cors, keys, tls, reloads, connections } =
            self;
        let closing = Closing::default();
        let lingering = Lingering::default();
        let mut listeners = JoinSet::new();
        let mut background = JoinSet::new();
        let listener = |socket, protocol| Listener {
            socket,
            protocol,
            limits,
            tls: tls.clone(),
            connections: connections.clone(),
        };
        let scheme = Scheme(if tls.is_some() { "https" } else { "http" });
        let ConnectionLimits { body_timeout, inflight_bytes, .. } = limits;
        let guard = Guard::new(keys, app.limits(), body_timeout, inflight_bytes);
        let router =
            grpc::router(app.clone(), guard.clone(), closing.end.clone(), &mut background).await;
        listeners.spawn(listener(grpc, Protocol::Grpc).serve(router, closing.clone()));
        let router = http::router(app.clone(), guard, lingering.clone(), &cors, scheme);
        listeners.spawn(listener(http, Protocol::Http).serve(router, closing.clone()));
        let router = admin::router(app.clone(), connections.clone());
        background.spawn(listener(admin, Protocol::Admin).serve(router, closing.at_the_end()));
        background.spawn(admin::sample_load(app.clone()));
        for reload in reloads {
            background.spawn(reload.run());
        }
        tokio::select! {
            () = stop.cancelled() => {}
            ended = listeners.join_next() => return Err(ServeError::Ended(format!("{ended:?}"))),
            ended = background.join_next() => return Err(ServeError::Ended(format!("{ended:?}"))),
            // Requests of other models are still answered.
            () = worker_ended(&app) => tracing::error!("a model's worker ended: shutting down"),
        }
        let deadline = Instant::now() + grace;
        app.leave();
        closing.leave.cancel();
        tracing::info!(in_flight = app.in_flight(), grace_seconds = grace.as_secs(), "draining");
        let drain = async {
            // Connections that are told to go at the end of their farewell may have been sent one more request.
            let _ = tokio::time::timeout(2 * connections::FAREWELL, all(&mut listeners)).await;
            app.drained().await;
        };
        let in_time = tokio::time::timeout_at(deadline, drain).await.is_ok();
        // What is dropped below is counted before.
        let in_flight = app.in_flight();
        let drained = in_time || in_flight == 0;
        closing.end.cancel();
        if drained {
            let ending = app.clone();
            // A panic of a worker has been reported where it happened.
            let _ = tokio::task::spawn_blocking(move || ending.close_models()).await;
            // Every request is answered; some answers may still be on their way.
            if tokio::time::timeout_at(deadline, all(&mut listeners)).await.is_err() {
                let open =
                    [Protocol::Grpc, Protocol::Http].map(|protocol| connections.open(protocol));
                let open: u64 = open.iter().sum();
                tracing::info!(open, "connections that their clients keep open are dropped");
            }
        }
        listeners.shutdown().await;
        lingering.end().await;
        background.shutdown().await;
        match (app.is_healthy(), drained) {
            (false, _) => Err(ServeError::WorkerEnded),
            (true, false) => Err(ServeError::GraceOver { in_flight, grace }),
            (true, true) => Ok(()),
        }
    }
}

async fn bind(
    protocol: Protocol,
    address: SocketAddr,
) -> Result<(TcpListener, SocketAddr), ServeError> {
    let bound = async {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        Ok((listener, address))
    };
    bound.await.map_err(|source| ServeError::Bind { address, protocol, source })
}

fn load_keys(path: PathBuf) -> Result<(Reload, watch::Receiver<Arc<Keys>>), String> {
    let shown = path.display().to_string();
    Reload::start("API keys", vec![path], move |contents| {
        let bytes = contents.concat();
        let parsed = match std::str::from_utf8(&bytes) {
            Ok(text) => Keys::parse(text),
            Err(_) => Err("not UTF-8".to_owned()),
        };
        parsed.map_err(|error| format!("--api-keys-file `{shown}`: {error}"))
    })
}

/// Returns once all of them have ended.
async fn all(tasks: &mut JoinSet<Ended>) {
    while tasks.join_next().await.is_some() {}
}

/// How a task ended.
type Ended = Result<(), Box<dyn std::error::Error + Send + Sync>>;

/// Returns once a model has lost its worker: nothing but a restart brings it back.
async fn worker_ended(app: &App) {
    let mut every_second = tokio::time::interval(Duration::from_secs(1));
    every_second.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while app.is_healthy() {
        every_second.tick().await;
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").field("addresses", &self.addresses).finish_non_exhaustive()
    }
}

impl fmt::Display for Addresses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "gRPC {}, HTTP {}, admin {}", self.grpc, self.http, self.admin)
    }
}
