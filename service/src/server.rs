//! Listeners, readiness and shutdown.
//!
//! ```text
//! bind ──> run: gRPC, HTTP, admin ──stop──> drain: refuse, wait ──> close listeners ──> end models
//! ```
//!
//! Three listeners because their readers differ. All answer from the first moment: while models
//! load, requests are refused with a hint to come back, and `/livez` is well.

mod admin;

use crate::api::grpc::reranker::RerankerApi;
use crate::api::http::{self, Lingering};
use crate::app::{App, Stage};
use axum::serve::ListenerExt;
use reranker_proto::v1::reranker_server::RerankerServer;
use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;
use tonic::server::NamedService;
use tonic::transport::server::TcpIncoming;
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;

/// Where each protocol listens; port 0 takes a free one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Addresses {
    /// gRPC, HTTP/2 without TLS.
    pub grpc: SocketAddr,
    /// The public HTTP API.
    pub http: SocketAddr,
    /// Probes of the cluster.
    pub admin: SocketAddr,
}

/// The bound listeners.
#[derive(Debug)]
pub struct Server {
    grpc: TcpListener,
    http: TcpListener,
    admin: TcpListener,
    addresses: Addresses,
}

/// Why serving ended otherwise than asked for.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The address is taken or not of this machine.
    #[error("cannot listen on {address} for {protocol}: {source}")]
    Bind {
        /// What was asked for.
        address: SocketAddr,
        /// `gRPC`, `HTTP` or `admin`.
        protocol: &'static str,
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
    /// Binds all three listeners; connections queue up until [`run`](Self::run).
    ///
    /// # Errors
    /// [`ServeError::Bind`]
    pub async fn bind(addresses: Addresses) -> Result<Self, ServeError> {
        let (grpc, grpc_address) = bind("gRPC", addresses.grpc).await?;
        let (http, http_address) = bind("HTTP", addresses.http).await?;
        let (admin, admin_address) = bind("admin", addresses.admin).await?;
        let addresses = Addresses { grpc: grpc_address, http: http_address, admin: admin_address };
        Ok(Self { grpc, http, admin, addresses })
    }

    /// What was bound, with the ports that were taken for 0.
    pub fn addresses(&self) -> Addresses {
        self.addresses
    }

    /// Serves until `stop`, then drains: new requests are refused, admitted ones finish, listeners
    /// close, the models' workers end; all within `grace`.
    ///
    /// # Errors
    /// See [`ServeError`]; whatever is left is dropped then.
    pub async fn run(
        self,
        app: App,
        stop: CancellationToken,
        grace: Duration,
    ) -> Result<(), ServeError> {
        let Self { grpc, http, admin, addresses: _ } = self;
        let close = CancellationToken::new();
        let lingering = Lingering::default();
        let mut listeners = JoinSet::new();
        let mut background = JoinSet::new();
        listeners.spawn(serve_grpc(grpc, app.clone(), close.clone(), &mut background).await);
        let router = http::router(app.clone(), lingering.clone());
        listeners.spawn(serve_http(http, router, close.clone()));
        background.spawn(serve_http(admin, admin::router(app.clone()), close.child_token()));
        tokio::select! {
            () = stop.cancelled() => {}
            ended = listeners.join_next() => return Err(ServeError::Ended(format!("{ended:?}"))),
            ended = background.join_next() => return Err(ServeError::Ended(format!("{ended:?}"))),
            () = worker_ended(&app) => return Err(ServeError::WorkerEnded),
        }
        tracing::info!(in_flight = app.in_flight(), grace_seconds = grace.as_secs(), "draining");
        let deadline = Instant::now() + grace;
        let drained = tokio::time::timeout_at(deadline, async {
            app.drain().await;
            close.cancel();
            let closed = async { while listeners.join_next().await.is_some() {} };
            if tokio::time::timeout(CLOSE, closed).await.is_err() {
                tracing::debug!("connections left open by their clients are dropped");
            }
            let closing = app.clone();
            // A panic of a worker has been reported where it happened.
            let _ = tokio::task::spawn_blocking(move || closing.close_models()).await;
        });
        let drained = drained.await;
        listeners.shutdown().await;
        lingering.end().await;
        background.shutdown().await;
        drained.map_err(|_| ServeError::GraceOver { in_flight: app.in_flight(), grace })
    }
}

/// Time for connections to close once every request is answered: what is still open then belongs
/// to clients that keep a stream or a half-sent head, and must not cost the rest of the grace.
const CLOSE: Duration = Duration::from_secs(5);

async fn bind(
    protocol: &'static str,
    address: SocketAddr,
) -> Result<(TcpListener, SocketAddr), ServeError> {
    let bound = async {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        Ok((listener, address))
    };
    bound.await.map_err(|source| ServeError::Bind { address, protocol, source })
}

/// How a listener ended.
type Ended = Result<(), Box<dyn std::error::Error + Send + Sync>>;

async fn serve_http(
    listener: TcpListener,
    router: axum::Router,
    close: CancellationToken,
) -> Ended {
    let listener = listener.tap_io(|stream| {
        // Answers are small and whole: waiting for more to send only delays them.
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "no TCP_NODELAY");
        }
    });
    axum::serve(listener, router)
        .with_graceful_shutdown(close.cancelled_owned())
        .await
        .map_err(Into::into)
}

/// Starts the tasks beside the gRPC listener and returns the listener's own.
async fn serve_grpc(
    listener: TcpListener,
    app: App,
    close: CancellationToken,
    background: &mut JoinSet<Ended>,
) -> impl Future<Output = Ended> + use<> {
    let (reporter, health) = tonic_health::server::health_reporter();
    // tonic's reporter calls the whole server "serving" from the start.
    report(&reporter, Stage::Loading).await;
    background.spawn(report_stages(app.clone(), reporter, close.clone()));
    let reranker = RerankerApi::service(app);
    async move {
        let reflection = tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(reranker_proto::FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
            .build_v1()?;
        tonic::transport::Server::builder()
            .http2_keepalive_interval(Some(DEAD_PEER))
            .add_service(health)
            .add_service(reflection)
            .add_service(reranker)
            .serve_with_incoming_shutdown(
                TcpIncoming::from(listener).with_nodelay(Some(true)),
                close.cancelled_owned(),
            )
            .await
            .map_err(Into::into)
    }
}

/// How often a silent client is asked whether it is still there: its requests would hold the drain.
const DEAD_PEER: Duration = Duration::from_secs(30);

/// What health is reported for; the empty name is the server as a whole.
const SERVICES: [&str; 2] = ["", RerankerServer::<RerankerApi>::NAME];

async fn report(reporter: &HealthReporter, stage: Stage) {
    let status = match stage {
        Stage::Ready => ServingStatus::Serving,
        Stage::Loading | Stage::Draining => ServingStatus::NotServing,
    };
    for service in SERVICES {
        reporter.set_service_status(service, status).await;
    }
}

/// Reports until `close`, then ends the streams of those who watch: they would hold the listener.
async fn report_stages(app: App, mut reporter: HealthReporter, close: CancellationToken) -> Ended {
    let mut stage = app.stage();
    let report = close.run_until_cancelled(async {
        loop {
            let now = *stage.borrow_and_update();
            report(&reporter, now).await;
            if let Err(error) = stage.changed().await {
                return error;
            }
        }
    });
    if let Some(error) = report.await {
        return Err(error.into());
    }
    self::report(&reporter, Stage::Draining).await;
    for service in SERVICES {
        reporter.clear_service_status(service).await;
    }
    Ok(())
}

/// Returns once a model has lost its worker: nothing but a restart brings it back.
async fn worker_ended(app: &App) {
    let mut every_second = tokio::time::interval(Duration::from_secs(1));
    every_second.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while app.is_healthy() {
        every_second.tick().await;
    }
}

impl fmt::Display for Addresses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "gRPC {}, HTTP {}, admin {}", self.grpc, self.http, self.admin)
    }
}
