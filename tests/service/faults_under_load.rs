//! Crowds, and clients that stop in the middle: nothing is lost, memory stays bounded, nobody else
//! waits, and the end of the server does not either.

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use http::Request;
use prost::Message;
use reranker::app::RequestLimits;
use reranker::server::{ConnectionLimits, Edge, Protocol};
use reranker_proto::v1::rerank_stream_request::Message as Sent;
use reranker_proto::v1::reranker_client::RerankerClient;
use reranker_proto::v1::{
    RerankRequest, RerankStreamDocuments, RerankStreamHeader, RerankStreamRequest,
    RerankStreamResponse,
};
use reranker_tests::checkpoint::Checkpoint;
use reranker_tests::process::{Process, descriptors_or_rerun};
use reranker_tests::raw::Connection;
use reranker_tests::scrape::Scrape;
use reranker_tests::server::{Running, Settings, random};
use reranker_tests::until;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, JoinSet};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use tonic::transport::Channel;

const PATH: &str = "/v1/models/rerank";
const BODY: &str = r#"{"query":"q","documents":["a","b"]}"#;

/// Half of them over each protocol.
const CROWD: usize = 2_000;
/// A client of HTTP here takes two.
const DESCRIPTORS: usize = 2 * CROWD;

const REQUESTS: usize = 20;
const DOCUMENTS: usize = 10_000;
const DOCUMENT_BYTES: usize = 2_048;
/// What the queued documents may take: their text comes twice, raw and parsed, and as tokens.
const QUEUE_MEMORY: u64 = 200_000_000;

async fn client(base: &str) -> Result<RerankerClient<Channel>> {
    let channel = Channel::from_shared(base.to_owned())?.connect().await?;
    Ok(RerankerClient::new(channel).max_encoding_message_size(usize::MAX))
}

fn request(documents: Vec<String>) -> RerankRequest {
    RerankRequest { query: "which one".into(), documents, ..RerankRequest::default() }
}

/// Relevance scores by index.
async fn scores(client: &mut RerankerClient<Channel>, documents: Vec<String>) -> Result<Vec<f64>> {
    let count = documents.len();
    let answer = client.rerank(request(documents)).await?.into_inner();
    let scores = answer.results.iter().map(|result| (result.index, result.relevance_score));
    in_order(scores.collect(), count)
}

fn scores_of_json(answer: &Value, count: usize) -> Result<Vec<f64>> {
    let results = answer["results"].as_array().context("results")?;
    let score =
        |result: &Value| Some((result["index"].as_i64()?, result["relevance_score"].as_f64()?));
    let scores = results.iter().map(score).collect::<Option<_>>().context("index and score")?;
    in_order(scores, count)
}

fn in_order(scores: BTreeMap<i64, f64>, count: usize) -> Result<Vec<f64>> {
    ensure!(scores.keys().copied().eq(0..i64::try_from(count)?), "not every document has a score");
    Ok(scores.into_values().collect())
}

/// A burst of clients, or a proxy without a pool, would get the answers of others, or none.
#[tokio::test(flavor = "multi_thread")]
async fn two_thousand_connections_get_their_own_answers() -> Result<()> {
    let name = "faults_under_load::two_thousand_connections_get_their_own_answers";
    if !descriptors_or_rerun(name, DESCRIPTORS)? {
        return Ok(());
    }
    let checkpoint = Checkpoint::new(1);
    // The first to connect say what they want once the last has connected.
    let flags = ["--model", &checkpoint.model("m"), "--header-timeout-seconds", "120"];
    let process =
        Process::serve(&flags, &[("RUST_LOG", "info,reranker::metrics=error")])?.ready()?;
    let documents: Vec<String> = (0..CROWD).map(|i| format!("document {i}")).collect();
    let body =
        |documents: &[String]| json!({"query": "which one", "documents": documents}).to_string();
    let whole = Connection::open(&process.http)?.post_json(PATH, &[], &body(&documents))?;
    let expected_http = scores_of_json(&whole.json()?, CROWD)?;
    let expected_grpc = scores(&mut client(&process.grpc).await?, documents.clone()).await?;

    let (over_http, over_grpc) = (0..CROWD).partition::<Vec<_>, _>(|i| i.is_multiple_of(2));
    let mut http = Vec::new();
    for _ in &over_http {
        http.push(Connection::open(&process.http)?);
    }
    let mut grpc = Vec::new();
    for _ in &over_grpc {
        grpc.push(client(&process.grpc).await?);
    }
    for (connection, &i) in http.iter_mut().zip(&over_http) {
        let body = body(&documents[i..=i]);
        connection.post(PATH, &[&format!("content-length: {}", body.len())])?;
        connection.send(body.as_bytes())?;
    }
    let mut calls = JoinSet::new();
    for (client, &i) in grpc.iter().zip(&over_grpc) {
        let (mut client, document) = (client.clone(), documents[i].clone());
        calls.spawn(async move { anyhow::Ok((i, scores(&mut client, vec![document]).await?)) });
    }
    while let Some(call) = calls.join_next().await {
        let (i, score) = call??;
        assert_eq!(score, expected_grpc[i..=i], "document {i}");
    }
    for (connection, &i) in http.iter_mut().zip(&over_http) {
        let answer = connection.answer()?;
        assert_eq!(answer.status, 200);
        assert_eq!(scores_of_json(&answer.json()?, 1)?, expected_http[i..=i], "document {i}");
    }
    let scrape = Scrape::at(&process.admin)?;
    for protocol in ["http", "grpc"] {
        let open = scrape.sum("reranker_connections", &[("protocol", protocol)]);
        assert!(open >= CROWD as f64 / 2.0, "{protocol}: {open} are open");
    }
    Ok(())
}

/// Distinct texts of the same length.
fn long_documents(request: usize) -> Vec<String> {
    let words = "the river rises in the hills and falls into the sea past the old mill ".repeat(40);
    let document = |i| {
        let mut text = format!("{request} {i} {words}");
        text.truncate(DOCUMENT_BYTES);
        text
    };
    (0..DOCUMENTS / REQUESTS).map(document).collect()
}

/// A batch job that sends all it has would take the memory of everybody.
#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_queued_documents_fit_in_memory() -> Result<()> {
    let checkpoint = Checkpoint::least(1);
    let model = checkpoint.model("m");
    let flags =
        ["--model", &model, "--max-queued-tokens", "100000000", "--max-queue-seconds", "100000"];
    let process = Process::serve(&flags, &[])?.ready()?;
    let mut single = client(&process.grpc).await?;
    scores(&mut single, vec!["warm".to_owned()]).await?;
    let idle = process.memory("VmRSS")?;
    let mut calls = JoinSet::new();
    for number in 0..REQUESTS {
        let (http, grpc) = (process.http.clone(), process.grpc.clone());
        if number % 2 == 0 {
            calls.spawn(async move {
                let scores = scores(&mut client(&grpc).await?, long_documents(number)).await?;
                anyhow::Ok((number, scores))
            });
        } else {
            calls.spawn_blocking(move || {
                let documents = long_documents(number);
                let body = json!({"query": "which one", "documents": documents}).to_string();
                let answer = Connection::open(&http)?.post_json(PATH, &[], &body)?;
                ensure!(answer.status == 200, "{}", answer.json()?);
                Ok((number, scores_of_json(&answer.json()?, documents.len())?))
            });
        }
    }
    until("all requests are queued", async || {
        Scrape::at(&process.admin)
            .is_ok_and(|scrape| scrape.sum("reranker_queued_requests", &[]) >= REQUESTS as f64)
    })
    .await;
    while let Some(call) = calls.join_next().await {
        let (number, answered) = call??;
        let alone = scores(&mut single, long_documents(number)[..1].to_vec()).await?;
        assert!((answered[0] - alone[0]).abs() < 1e-15, "{} and {alone:?}", answered[0]);
    }
    let peak = process.memory("VmHWM")?;
    eprintln!("memory {idle} -> {peak}");
    assert!(peak < idle + QUEUE_MEMORY, "{idle} bytes when idle, {peak} at most");
    Ok(())
}

/// A stream whose client sends and never reads.
struct Unread {
    sent: Arc<AtomicUsize>,
    sending: JoinHandle<()>,
    _answers: Streaming<RerankStreamResponse>,
    _client: RerankerClient<Channel>,
}

fn message(message: Sent) -> RerankStreamRequest {
    RerankStreamRequest { message: Some(message) }
}

impl Unread {
    async fn open(base: &str) -> Result<Self> {
        let (send, messages) = mpsc::channel(1);
        send.send(message(Sent::Header(RerankStreamHeader::default()))).await?;
        let mut client = client(base).await?;
        let answers = client.rerank_stream(ReceiverStream::new(messages)).await?;
        let sent = Arc::new(AtomicUsize::new(0));
        let counter = sent.clone();
        let sending = tokio::spawn(async move {
            // Pieces of a few bytes that pile up would end the connection of HTTP/2.
            let documents = vec!["x".to_owned(); 100];
            let message = message(Sent::Documents(RerankStreamDocuments { documents }));
            while send.send(message.clone()).await.is_ok() {
                counter.fetch_add(100, Ordering::Relaxed);
            }
        });
        Ok(Self { sent, sending, _answers: answers.into_inner(), _client: client })
    }
}

/// Limits that no stream of the tests comes to.
const ROOMY: [&str; 6] = [
    "--max-request-bytes",
    "1000000000",
    "--max-body-bytes",
    "1000000000",
    "--max-inflight-bytes",
    "1000000000",
];
/// More than what the server may hold for a client that does not read: windows and buffers of HTTP/2,
/// and 1,024 documents.
const UNREAD_MEMORY: u64 = 30_000_000;

/// One client that hangs would take memory without end, the device, and the end of the server.
#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_nobody_reads_is_held_back_and_ends_with_the_grace() -> Result<()> {
    let checkpoint = Checkpoint::new(1);
    let model = checkpoint.model("m");
    let flags = [&["--model", &model, "--shutdown-grace-seconds", "1"], &ROOMY[..]].concat();
    let process = Process::serve(&flags, &[])?.ready()?;
    let mut other = client(&process.grpc).await?;
    scores(&mut other, vec!["warm".to_owned()]).await?;
    let idle = process.memory("VmRSS")?;
    let stream = Unread::open(&process.grpc).await?;
    let mut before = 0;
    loop {
        for _ in 0..200 {
            scores(&mut other, vec!["another client's".to_owned()]).await?;
        }
        let sent = stream.sent.load(Ordering::Relaxed);
        if sent > 0 && sent == before {
            break;
        }
        before = sent;
    }
    let peak = process.memory("VmHWM")?;
    eprintln!("{before} documents sent, memory {idle} -> {peak}");
    assert!(peak < idle + UNREAD_MEMORY, "{idle} bytes when idle, {peak} at most");
    assert!(!stream.sending.is_finished(), "is held back, not refused");

    process.terminate()?;
    assert_eq!(process.wait_for("draining")?["in_flight"], 1);
    let (status, log) = process.end()?;
    assert_eq!(status.code(), Some(1), "{log}");
    assert!(log.contains("1 requests were still running after the grace of 1 s"), "{log}");
    Ok(())
}

/// As above; but the request is answered, so the end is a clean one.
#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_nobody_reads_holds_nobody_up() -> Result<()> {
    let checkpoint = Checkpoint::new(1);
    let model = checkpoint.model("m");
    let flags = [&["--model", &model, "--shutdown-grace-seconds", "1"], &ROOMY[..]].concat();
    let process = Process::serve(&flags, &[])?.ready()?;
    // An answer of 20 MB, far more than the sockets' buffers.
    let body = json!({"query": "q", "documents": vec!["x"; 400_000]}).to_string();
    let mut stuck = Connection::open(&process.http)?;
    stuck.post(PATH, &[&format!("content-length: {}", body.len())])?;
    stuck.send(body.as_bytes())?;
    let answered = [("route", PATH), ("code", "ok")];
    until("the request is answered", async || {
        let scrape = Scrape::at(&process.admin);
        scrape.is_ok_and(|scrape| scrape.sum("reranker_requests_total", &answered) > 0.0)
    })
    .await;
    for _ in 0..20 {
        let answer = Connection::open(&process.http)?.post_json(PATH, &[], BODY)?;
        assert_eq!(answer.status, 200);
    }
    process.terminate()?;
    assert_eq!(process.wait_for("draining")?["in_flight"], 0);
    let (status, log) = process.end()?;
    assert!(status.success(), "{status}: {log}");
    assert!(log.contains("connections that their clients keep open are dropped"), "{log}");
    drop(stuck);
    Ok(())
}

/// How a client stops.
#[derive(Clone, Copy, Debug)]
enum Stop {
    /// It sends no more, and listens.
    HalfClose,
    /// It closes its connection.
    Close,
    /// It is silent, as after a cut in the network.
    Silence,
}

const STOPS: [Stop; 3] = [Stop::HalfClose, Stop::Close, Stop::Silence];

async fn impatient_server() -> Result<Running> {
    let patience = Duration::from_secs(1);
    let connections = ConnectionLimits { body_timeout: patience, ..ConnectionLimits::default() };
    let edge = Edge { limits: connections, ..Edge::default() };
    let limits = RequestLimits { patience, ..RequestLimits::default() };
    let settings = Settings { edge, limits, ..Settings::default() };
    Running::start_with(vec![random("m", 1).await?], settings).await
}

async fn begun(server: &Running) {
    until("the request has begun", async || server.app.in_flight() == 1).await;
}

async fn over(server: &Running, how: &str) {
    until(&format!("the request is over: {how}"), async || server.app.in_flight() == 0).await;
}

/// Each of them would be counted as in flight for ever, and hold the end of the server.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_stops_within_a_body_is_let_go() -> Result<()> {
    let server = impatient_server().await?;
    for stop in STOPS {
        let mut connection = Connection::open(&server.http())?;
        connection.post(PATH, &["content-length: 1000", "expect: 100-continue"])?;
        begun(&server).await;
        // With the server's word unread, a close is a reset.
        connection.writer()?.peek(&mut [0])?;
        connection.send(BODY.as_bytes())?;
        let connection = match stop {
            Stop::HalfClose => {
                connection.half_close()?;
                Some(connection)
            }
            Stop::Close => None,
            Stop::Silence => Some(connection),
        };
        over(&server, &format!("{stop:?}")).await;
        drop(connection);
    }
    until("no connection is left", async || server.connections.open(Protocol::Http) == 0).await;
    Ok(())
}

/// A connection of HTTP/2 and a second handle of its socket.
async fn h2c(
    address: SocketAddr,
) -> Result<(h2::client::SendRequest<Bytes>, JoinHandle<()>, TcpStream)> {
    let socket = TcpStream::connect(address)?;
    socket.set_nonblocking(true)?;
    let second = socket.try_clone()?;
    let stream = tokio::net::TcpStream::from_std(socket)?;
    let (client, connection) = h2::client::handshake(stream).await?;
    let driver = tokio::spawn(async { drop(connection.await) });
    Ok((client, driver, second))
}

/// As above, for calls and for streams.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_stops_within_a_message_is_let_go() -> Result<()> {
    let server = impatient_server().await?;
    let address = server.addresses.grpc;
    let header = message(Sent::Header(RerankStreamHeader::default())).encode_to_vec();
    let whole = [&[0, 0, 0, 0, u8::try_from(header.len())?][..], &header].concat();
    // The flag, a length, and a beginning.
    let broken = b"\0\0\0\x01\0\x12\x01q".to_vec();
    for (method, sent) in [
        ("Rerank", broken.clone()),
        ("RerankStream", broken.clone()),
        ("RerankStream", [whole, broken].concat()),
    ] {
        for stop in STOPS {
            let (client, driver, socket) = h2c(address).await?;
            let uri = format!("http://{address}/reranker.v1.Reranker/{method}");
            let request = Request::post(uri)
                .header("content-type", "application/grpc")
                .header("te", "trailers")
                .body(())?;
            let mut client = client.ready().await?;
            let (answer, mut send) = client.send_request(request, false)?;
            send.send_data(sent.clone().into(), false)?;
            begun(&server).await;
            match stop {
                Stop::HalfClose => socket.shutdown(Shutdown::Write)?,
                Stop::Close => {
                    driver.abort();
                    drop(socket);
                }
                Stop::Silence => {}
            }
            over(&server, &format!("{method}, {} bytes, {stop:?}", sent.len())).await;
            drop((answer, send, client));
        }
    }
    until("no connection is left", async || server.connections.open(Protocol::Grpc) == 0).await;
    Ok(())
}
