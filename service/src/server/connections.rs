//! Connections: accepted, counted, bounded in number, time and headers, and closed in good order.
//!
//! ```text
//! accept ──> TLS handshake ──> first request's head ──> requests ──> GOAWAY or `connection: close`
//!            └── within the header timeout ──────────┘              └── age, shutdown, answers not taken
//! ```

use super::tls::Tls;
use super::wire::{Signs, Wire};
use super::{ConnectionLimits, Ended};
use crate::api::guard::Untaken;
use axum::Router;
use axum::body::Body;
use hyper::body::Incoming;
use hyper::header::{CONNECTION, HeaderValue};
use hyper::service::service_fn;
use hyper::{Request, Version};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use std::convert::Infallible;
use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

/// How long a connection of HTTP/1.1 may be idle, or take for the head of another request: longer
/// than the 60 s of the usual load balancers, which must be the ones to close.
const IDLE: Duration = Duration::from_secs(75);
/// How often a silent client of HTTP/2 is asked whether it is still there.
const DEAD_PEER: Duration = Duration::from_secs(30);
/// How long it has to answer.
const DEAD_PEER_ANSWER: Duration = Duration::from_secs(20);
/// Requests at a time on one connection of HTTP/2.
const MAX_STREAMS: u32 = 1_000;
/// Bytes of a request that wait for the server to read them: a stream held back must not come to so
/// many small frames that the connection, with every other call on it, is taken for an attack.
const STREAM_WINDOW: u32 = 64 * 1024;
/// The same for all requests on a connection.
const CONNECTION_WINDOW: u32 = 4 * 1024 * 1024;
/// Bytes of an answer that wait for an HTTP/2 client to take them.
const SEND_BUFFER: usize = 64 * 1024;
/// Requests that a client has reset before they were looked at; more end the connection. Honest
/// clients reset after a timeout, not thousands at once.
const MAX_PENDING_RESETS: usize = 100;
/// Requests that the server has reset because the client broke the protocol, as above.
const MAX_ERROR_RESETS: usize = 100;
/// Time that requests have to finish on a connection that has come to its age.
const AGE_GRACE: Duration = Duration::from_mins(10);
/// When a connection of the admin listener is told to go at the latest. Its own limit of connections
/// would keep the probes out if others stayed for ever.
const ADMIN_AGE: Duration = Duration::from_mins(5);
/// How long a client of HTTP/1.1 that is to go has for one more request, whose answer tells it so: it could have sent
/// one at the moment that an idle connection is closed, and would lose it.
pub(super) const FAREWELL: Duration = Duration::from_secs(2);
/// How long a connection may be quiet while the listener closes, and how often that is looked at.
const QUIET: Duration = Duration::from_secs(5);
const LOOK: Duration = Duration::from_millis(250);
/// Pauses after a failed accept, from the first to the longest.
const PAUSES: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(1));

/// Between two lines in the log about connections that were not taken.
const SILENCE: Duration = Duration::from_secs(10);

/// What a listener is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// gRPC.
    Grpc,
    /// The public HTTP API.
    Http,
    /// Probes and metrics.
    Admin,
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Grpc => "gRPC",
            Self::Http => "HTTP",
            Self::Admin => "admin",
        })
    }
}

/// How many connections are open. Clones share the counts.
#[derive(Clone, Debug, Default)]
pub struct Connections(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    grpc: AtomicU64,
    http: AtomicU64,
    admin: AtomicU64,
}

impl Connections {
    /// Connections that are accepted and not closed, TLS handshakes included.
    pub fn open(&self, protocol: Protocol) -> u64 {
        self.count(protocol).load(Ordering::Relaxed)
    }

    fn count(&self, protocol: Protocol) -> &AtomicU64 {
        match protocol {
            Protocol::Grpc => &self.0.grpc,
            Protocol::Http => &self.0.http,
            Protocol::Admin => &self.0.admin,
        }
    }

    fn enter(&self, protocol: Protocol) -> Open {
        self.count(protocol).fetch_add(1, Ordering::Relaxed);
        Open { connections: self.clone(), protocol }
    }
}

/// One open connection.
struct Open {
    connections: Connections,
    protocol: Protocol,
}

impl Drop for Open {
    fn drop(&mut self) {
        self.connections.count(self.protocol).fetch_sub(1, Ordering::Relaxed);
    }
}

/// How listeners come to their end.
#[derive(Clone, Default)]
pub(super) struct Closing {
    /// No more connections are taken, and those there are told to go.
    pub(super) leave: CancellationToken,
    /// Nothing more is answered: whoever keeps a connection open is dropped.
    pub(super) end: CancellationToken,
}

impl Closing {
    /// For a listener that stays until all requests of the others are answered.
    pub(super) fn at_the_end(&self) -> Self {
        Self { leave: self.end.clone(), end: self.end.clone() }
    }
}

/// A bound socket and how its connections are treated.
pub(super) struct Listener {
    pub(super) socket: TcpListener,
    pub(super) protocol: Protocol,
    pub(super) limits: ConnectionLimits,
    pub(super) tls: Option<watch::Receiver<Arc<Tls>>>,
    pub(super) connections: Connections,
}

impl Listener {
    /// Serves until it is told to leave, then takes no more connections and returns once those there are
    /// closed: each after the requests that it is working on.
    pub(super) async fn serve(self, router: Router, closing: Closing) -> Ended {
        let Self { socket, protocol, limits, tls, connections } = self;
        let server =
            Server { protocol, limits, tls, router, closing, builder: builder(protocol, limits) };
        let server = Arc::new(server);
        let mut tasks = JoinSet::new();
        let take = |tasks: &mut JoinSet<()>, stream, peer| {
            let open = connections.enter(protocol);
            let server = Arc::clone(&server);
            tasks.spawn(async move {
                server.connection(stream, peer).await;
                drop(open);
            });
        };
        let mut trouble = Trouble::default();
        loop {
            let accepted = tokio::select! {
                accepted = socket.accept() => accepted,
                Some(_) = tasks.join_next() => continue,
                () = server.closing.leave.cancelled() => break,
            };
            // Those that have ended do not count.
            while tasks.try_join_next().is_some() {}
            match accepted {
                Ok((stream, peer)) if tasks.len() < limits.connections => {
                    trouble.pause = None;
                    take(&mut tasks, stream, peer);
                }
                Ok((stream, _)) => {
                    drop(stream);
                    trouble.full(protocol, limits.connections, Instant::now());
                }
                Err(error) if is_of_the_client(&error) => {}
                Err(error) => {
                    let pause = trouble.failed(protocol, &error, Instant::now());
                    let pause = tokio::time::sleep(pause);
                    if server.closing.leave.run_until_cancelled(pause).await.is_none() {
                        break;
                    }
                }
            }
        }
        // The system would reset those who have connected already. Asked itself, it knows of all of them.
        let socket = socket.into_std()?;
        while tasks.try_join_next().is_some() {}
        while tasks.len() < limits.connections {
            match socket.accept() {
                Ok((stream, peer)) => {
                    stream.set_nonblocking(true)?;
                    take(&mut tasks, TcpStream::from_std(stream)?, peer);
                }
                Err(error) if is_of_the_client(&error) => {}
                Err(_) => break,
            }
        }
        // It refuses new connections from here on.
        drop(socket);
        while tasks.join_next().await.is_some() {}
        Ok(())
    }
}

/// The connection is gone already; the next one may be well.
fn is_of_the_client(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}

/// Connections that are not taken: said in the log now and then, not for each.
#[derive(Default)]
struct Trouble {
    said: Option<Instant>,
    pause: Option<Duration>,
}

impl Trouble {
    /// Whether it is time to say something.
    fn is_news(&mut self, now: Instant) -> bool {
        let is_news = self.said.is_none_or(|said| now.duration_since(said) > SILENCE);
        if is_news {
            self.said = Some(now);
        }
        is_news
    }

    fn full(&mut self, protocol: Protocol, limit: usize, now: Instant) {
        if self.is_news(now) {
            tracing::warn!(%protocol, limit, "too many connections: new ones are closed");
        }
    }

    /// How long to wait: the system is out of descriptors or memory, and trying on would not help.
    fn failed(&mut self, protocol: Protocol, error: &io::Error, now: Instant) -> Duration {
        if self.is_news(now) {
            tracing::error!(%protocol, %error, "cannot accept connections: trying on");
        }
        let (first, longest) = PAUSES;
        let pause = self.pause.map_or(first, |pause| (pause * 2).min(longest));
        self.pause = Some(pause);
        pause
    }
}

fn builder(protocol: Protocol, limits: ConnectionLimits) -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    if protocol == Protocol::Grpc {
        builder = builder.http2_only();
    }
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(IDLE.max(limits.header_timeout))
        .max_buf_size(limits.header_bytes as usize);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_header_list_size(limits.header_bytes)
        .max_concurrent_streams(MAX_STREAMS)
        .max_send_buf_size(SEND_BUFFER)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_pending_accept_reset_streams(MAX_PENDING_RESETS)
        .max_local_error_reset_streams(MAX_ERROR_RESETS)
        .keep_alive_interval(DEAD_PEER)
        .keep_alive_timeout(DEAD_PEER_ANSWER);
    builder
}

/// What the connections of a listener share.
struct Server {
    protocol: Protocol,
    limits: ConnectionLimits,
    tls: Option<watch::Receiver<Arc<Tls>>>,
    router: Router,
    closing: Closing,
    builder: Builder<TokioExecutor>,
}

impl Server {
    async fn connection(&self, stream: TcpStream, peer: SocketAddr) {
        // Answers are small and whole: waiting for more to send only delays them.
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "no TCP_NODELAY");
        }
        let begin_by = Instant::now() + self.limits.header_timeout;
        let Some(tls) = &self.tls else {
            return self.requests(stream, peer, begin_by).await;
        };
        let config = tls.borrow().of(self.protocol);
        let handshake = TlsAcceptor::from(config).accept(stream);
        let handshake = tokio::time::timeout_at(begin_by, handshake);
        match self.closing.end.run_until_cancelled(handshake).await {
            Some(Ok(Ok(stream))) => self.requests(stream, peer, begin_by).await,
            Some(Ok(Err(error))) => tracing::debug!(%peer, %error, "no TLS handshake"),
            Some(Err(_)) => tracing::debug!(%peer, "the TLS handshake took too long"),
            None => {}
        }
    }

    async fn requests<I>(&self, io: I, peer: SocketAddr, begin_by: Instant)
    where
        I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (signs, untaken) = (Signs::default(), Untaken::default());
        let io = TokioIo::new(Wire::new(io, signs.clone(), self.limits.body_timeout));
        let leave = self.closing.leave.child_token();
        let service = service_fn({
            let (signs, untaken) = (signs.clone(), untaken.clone());
            let (router, leave) = (self.router.clone(), leave.clone());
            move |mut request: Request<Incoming>| {
                signs.begin();
                request.extensions_mut().insert(untaken.clone());
                let is_http1 = request.version() < Version::HTTP_2;
                let (router, leave) = (router.clone(), leave.clone());
                async move {
                    let mut answer = router.oneshot(request.map(Body::new)).await?;
                    if is_http1 && leave.is_cancelled() {
                        answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
                    }
                    Ok::<_, Infallible>(answer)
                }
            }
        });
        let mut connection = pin!(self.builder.serve_connection(io, service));
        let mut begin = pin!(tokio::time::sleep_until(begin_by));
        let age = self.age(peer);
        let has_age = age.is_some();
        let age_grace = match self.protocol {
            Protocol::Admin => self.limits.body_timeout,
            Protocol::Grpc | Protocol::Http => AGE_GRACE,
        };
        let mut age = pin!(tokio::time::sleep(age.unwrap_or_default()));
        let (mut is_new, mut is_old) = (true, false);
        let mut quiet = pin!(quiet(&self.closing.end, &signs));
        let mut stalled = pin!(untaken.stalled(self.limits.body_timeout));
        let mut farewell = pin!(self.farewell(&leave));
        let mut is_told = false;
        loop {
            tokio::select! {
                // In this order: what has come is taken before the connection is told to go.
                biased;
                ended = connection.as_mut() => {
                    if let Err(error) = ended {
                        tracing::debug!(%peer, error, "connection failed");
                    }
                    return;
                }
                () = &mut begin, if is_new => {
                    if !signs.has_begun() {
                        tracing::debug!(%peer, "no request in time");
                        return;
                    }
                    is_new = false;
                }
                () = &mut age, if has_age => {
                    if is_old {
                        tracing::debug!(%peer, "requests outlived their connection");
                        return;
                    }
                    is_old = true;
                    leave.cancel();
                    age.as_mut().reset(Instant::now() + age_grace);
                }
                () = &mut farewell, if !is_told => {
                    is_told = true;
                    connection.as_mut().graceful_shutdown();
                }
                () = &mut stalled => {
                    tracing::debug!(%peer, "an answer was not taken");
                    return;
                }
                () = &mut quiet => {
                    tracing::debug!(%peer, "left open by its client");
                    return;
                }
            }
        }
    }

    /// Returns when a connection that is to leave takes no more requests.
    async fn farewell(&self, leave: &CancellationToken) {
        leave.cancelled().await;
        // GOAWAY says which requests of HTTP/2 were not taken.
        if self.protocol != Protocol::Grpc {
            tokio::time::sleep(FAREWELL).await;
        }
    }

    /// The age at which this connection is closed: within a tenth of the configured one, so that
    /// clients that came together do not come back together.
    fn age(&self, peer: SocketAddr) -> Option<Duration> {
        let age = match self.protocol {
            Protocol::Admin => Some(self.limits.age.map_or(ADMIN_AGE, |age| age.min(ADMIN_AGE))),
            Protocol::Grpc | Protocol::Http => self.limits.age,
        }?;
        let random = RandomState::new().hash_one(peer) as f64 / u64::MAX as f64;
        Some(age.mul_f64(0.9 + 0.2 * random))
    }
}

/// Returns once the listener ends and the client has taken nothing for [`QUIET`], with nothing to
/// take: it keeps a stream or a half-sent head, and would cost the rest of the grace.
async fn quiet(end: &CancellationToken, signs: &Signs) {
    end.cancelled().await;
    let mut looks = tokio::time::interval(LOOK);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut seen, mut since) = (signs.writes(), Instant::now());
    loop {
        looks.tick().await;
        let (writes, now) = (signs.writes(), Instant::now());
        if writes != seen || signs.has_to_take() {
            (seen, since) = (writes, now);
        } else if now.duration_since(since) >= QUIET {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A log that fills the disk, or a loop that burns a core, while descriptors are short.
    #[test]
    fn pauses_grow_and_the_log_stays_short() {
        let mut trouble = Trouble::default();
        let error = io::Error::from_raw_os_error(24);
        assert!(!is_of_the_client(&error));
        let now = Instant::now();
        let mut pause = || trouble.failed(Protocol::Http, &error, now).as_millis();
        let pauses: Vec<_> = (0..8).map(|_| pause()).collect();
        assert_eq!(pauses, [20, 40, 80, 160, 320, 640, 1_000, 1_000]);
        assert!(!trouble.is_news(now + SILENCE));
        assert!(trouble.is_news(now + SILENCE + Duration::from_secs(1)));
    }
}
