//! Tens of thousands of requests of every kind against the real binary: nothing grows, nothing is lost,
//! nothing is counted twice.

mod job;
mod tally;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use h2::client::SendRequest;
use http::Request;
use job::Job;
use prost::Message;
use reranker_proto::v1::rerank_stream_request::Message as Sent;
use reranker_proto::v1::rerank_stream_response::Message as Received;
use reranker_proto::v1::reranker_client::RerankerClient;
use reranker_proto::v1::{RerankStreamDocuments, RerankStreamHeader, RerankStreamRequest};
use reranker_tests::certificates::Files;
use reranker_tests::checkpoint::Checkpoint;
use reranker_tests::process::Process;
use reranker_tests::raw::Connection;
use reranker_tests::scrape::Scrape;
use reranker_tests::until;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tally::Tally;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Code, Status};

const HTTP: &str = "/v1/models/rerank";
const GRPC: &str = "reranker.v1.Reranker/Rerank";
const STREAM: &str = "reranker.v1.Reranker/RerankStream";
const KEY: &str = "Bearer good";

/// Clients at a time of each kind: HTTP/1.1, HTTP/2, gRPC, streams.
const LANES: usize = 12;
/// Until pools, caches and the allocator have what they need.
const WARM_UP: usize = 8_000;
/// What the memory may grow by: for 30,000 requests 200 bytes each, less than a request's head or span,
/// so that one that stays is seen; and room for the allocator, which keeps what a busy moment took.
const GROWTH: f64 = 6e6;

/// How many requests: `RERANKER_SOAK_REQUESTS`, else as many as every run has time for.
fn requests() -> Result<usize> {
    match std::env::var("RERANKER_SOAK_REQUESTS") {
        Ok(text) => text.parse().with_context(|| format!("RERANKER_SOAK_REQUESTS `{text}`")),
        Err(_) => Ok(30_000),
    }
}

/// What all clients share: the server, and how many requests are still to be sent.
#[derive(Clone)]
struct Work {
    http: String,
    grpc: String,
    next: Arc<AtomicUsize>,
    end: usize,
}

impl Work {
    fn next(&self) -> Option<usize> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        (number < self.end).then_some(number)
    }

    /// Whether the client of this job goes away.
    fn leaves(number: usize) -> bool {
        number % 20 >= 17
    }
}

/// HTTP/1.1: a connection kept alive, and dropped by those who leave.
fn http1(work: &Work) -> Result<Tally> {
    let route = ("http", HTTP);
    let mut tally = Tally::default();
    let mut connection = Connection::open(&work.http)?;
    while let Some(number) = work.next() {
        let mut job = Job::new(number);
        if number % 20 == 16 {
            job = job.hurried();
        }
        let headers: Vec<String> =
            job.headers().iter().map(|(name, value)| format!("{name}: {value}")).collect();
        let headers: Vec<&str> = headers.iter().map(String::as_str).collect();
        let body = job.body.to_string();
        if Work::leaves(number) {
            let length = format!("content-length: {}", body.len());
            connection.post(HTTP, &[&headers[..], &[&length, "expect: 100-continue"]].concat())?;
            // The server asks for the body once it has begun.
            ensure!(connection.answer()?.status == 100);
            connection.send(&body.as_bytes()[..body.len() * (number % 20 - 17) / 2])?;
            tally.left(route);
            connection = Connection::open(&work.http)?;
            continue;
        }
        let answer = connection.post_json(HTTP, &headers, &body)?;
        let status = answer.status;
        tally.answered(route, job.word(status == 200, |http, _| status == http)?);
        if answer.headers.get("connection").is_some_and(|value| value == "close") {
            connection = Connection::open(&work.http)?;
        }
    }
    Ok(tally)
}

/// A connection of HTTP/2 without TLS that several clients share; it ends with the last of them.
async fn h2c(base: &str, drivers: &mut JoinSet<()>) -> Result<SendRequest<Bytes>> {
    let address = base.strip_prefix("http://").context("an http address")?;
    let stream = tokio::net::TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let (client, connection) = h2::client::handshake(stream).await?;
    // An error is for those who use it.
    drivers.spawn(async { drop(connection.await) });
    Ok(client)
}

/// One whole request; its HTTP status, or its status of gRPC where there is one.
async fn h2_call(
    client: SendRequest<Bytes>,
    request: Request<()>,
    body: Bytes,
) -> Result<(u16, Option<i32>)> {
    let (answer, mut send) = client.ready().await?.send_request(request, false)?;
    send.send_data(body, true)?;
    let answer = answer.await?;
    let status = answer.status().as_u16();
    let mut grpc = answer.headers().get("grpc-status").cloned();
    let mut body = answer.into_body();
    while let Some(data) = body.data().await {
        let length = data?.len();
        body.flow_control().release_capacity(length)?;
    }
    if let Some(trailers) = body.trailers().await? {
        grpc = trailers.get("grpc-status").cloned().or(grpc);
    }
    Ok((status, grpc.map(|status| status.to_str().map(str::parse)).transpose()?.transpose()?))
}

/// A request that its client resets: at its head, in the middle of its body, or at its end.
///
/// Another that follows it and is answered shows that the server has begun with it.
async fn h2_leave(
    client: &SendRequest<Bytes>,
    request: &Request<()>,
    body: Bytes,
    how: usize,
) -> Result<()> {
    let mut ready = client.clone().ready().await?;
    let (answer, mut send) = ready.send_request(request.clone(), false)?;
    let next = h2_call(ready, request.clone(), body.clone()).await?;
    ensure!(next.0 == 200 && next.1.unwrap_or(0) == 0, "{next:?}");
    let cut = body.len() * how / 2;
    if cut > 0 {
        send.send_data(body.slice(..cut), cut == body.len())?;
        tokio::task::yield_now().await;
    }
    send.send_reset(h2::Reason::CANCEL);
    drop(answer);
    Ok(())
}

/// HTTP/2 over the public API.
async fn http2(work: Work, client: SendRequest<Bytes>) -> Result<Tally> {
    let route = ("http", HTTP);
    let mut tally = Tally::default();
    while let Some(number) = work.next() {
        let mut job = Job::new(number);
        if number % 20 == 16 {
            job = job.hurried();
        }
        let body = Bytes::from(job.body.to_string());
        let mut request = Request::post(format!("{}{HTTP}", work.http));
        for (name, value) in job.headers() {
            request = request.header(name, value);
        }
        let request = request.body(())?;
        if Work::leaves(number) {
            h2_leave(&client, &request, body, number % 20 - 17).await?;
            tally.answered(route, "ok");
            tally.left(route);
            continue;
        }
        let (status, _) = h2_call(client.clone(), request, body).await?;
        tally.answered(route, job.word(status == 200, |http, _| status == http)?);
    }
    Ok(tally)
}

/// gRPC by its own client; those who leave do it by hand.
async fn grpc(
    work: Work,
    mut client: RerankerClient<Channel>,
    raw: SendRequest<Bytes>,
) -> Result<Tally> {
    let route = ("grpc", GRPC);
    let mut tally = Tally::default();
    while let Some(number) = work.next() {
        let job = Job::new(number);
        if Work::leaves(number) {
            let message = job.message.encode_to_vec();
            let length = u32::try_from(message.len())?.to_be_bytes();
            let frame = Bytes::from([&[0], &length[..], &message].concat());
            let request = Request::post(format!("{}/{GRPC}", work.grpc))
                .header("content-type", "application/grpc")
                .header("te", "trailers")
                .header("authorization", KEY)
                .body(())?;
            h2_leave(&raw, &request, frame, number % 20 - 17).await?;
            tally.answered(route, "ok");
            tally.left(route);
            continue;
        }
        let mut request = tonic::Request::new(job.message.clone());
        request.metadata_mut().insert("authorization", job.key.parse()?);
        let code = match client.rerank(request).await {
            Ok(answer) => {
                ensure!(answer.get_ref().results.len() == 2);
                Code::Ok
            }
            Err(status) => status.code(),
        };
        tally.answered(route, job.word(code == Code::Ok, |_, grpc| code == grpc)?);
    }
    Ok(tally)
}

/// Streams: whole ones, wrong ones, and those whose client leaves with some of the scores.
async fn streams(work: Work, mut client: RerankerClient<Channel>) -> Result<Tally> {
    let route = ("grpc", STREAM);
    let message = |message| RerankStreamRequest { message: Some(message) };
    let mut tally = Tally::default();
    while let Some(number) = work.next() {
        let documents = vec![format!("document {number}"), "another".to_owned()];
        let documents = message(Sent::Documents(RerankStreamDocuments { documents }));
        let model = if number % 20 == 11 { "nope" } else { "" };
        let header = RerankStreamHeader {
            query: "which one".into(),
            model: model.into(),
            ..RerankStreamHeader::default()
        };
        let header = message(Sent::Header(header));
        let (send, messages) = mpsc::channel(4);
        if number % 20 != 10 {
            send.send(header).await?;
        }
        send.send(documents.clone()).await?;
        let mut request = tonic::Request::new(ReceiverStream::new(messages));
        request.metadata_mut().insert("authorization", KEY.parse()?);
        let mut answers = client.rerank_stream(request).await?.into_inner();
        let first = answers.message().await;
        let is_scored = |first: &Result<_, Status>| matches!(first, Ok(Some(_)));
        match number % 20 {
            10 | 11 => {
                let code = first.err().context("is refused")?.code();
                let (expected, word) = if number % 20 == 10 {
                    (Code::InvalidArgument, "invalid_request")
                } else {
                    (Code::NotFound, "not_found")
                };
                ensure!(code == expected, "{code:?}");
                tally.answered(route, word);
            }
            _ if Work::leaves(number) => {
                ensure!(is_scored(&first), "{first:?}");
                // Still at work, or waiting for more.
                if number.is_multiple_of(2) {
                    send.send(documents).await?;
                }
                tally.left(route);
            }
            _ => {
                ensure!(is_scored(&first), "{first:?}");
                send.send(documents).await?;
                drop(send);
                let mut summary = None;
                while let Some(answer) = answers.message().await? {
                    if let Some(Received::Summary(last)) = answer.message {
                        summary = Some(last.documents);
                    }
                }
                ensure!(summary == Some(4), "{summary:?}");
                tally.answered(route, "ok");
            }
        }
    }
    Ok(tally)
}

/// Sends this many requests over all protocols and closes every connection.
async fn send(process: &Process, count: usize) -> Result<Tally> {
    let next = Arc::default();
    let work = Work { http: process.http.clone(), grpc: process.grpc.clone(), next, end: count };
    let mut drivers = JoinSet::new();
    let mut clients = JoinSet::new();
    let channel = async || -> Result<_> {
        let channel = Channel::from_shared(process.grpc.clone())?.connect().await?;
        Ok(RerankerClient::new(channel))
    };
    for _ in 0..3 {
        let (over_http, over_grpc) =
            (h2c(&work.http, &mut drivers).await?, h2c(&work.grpc, &mut drivers).await?);
        let client = channel().await?;
        for _ in 0..LANES / 3 {
            clients.spawn_blocking({
                let work = work.clone();
                move || http1(&work)
            });
            clients.spawn(http2(work.clone(), over_http.clone()));
            clients.spawn(grpc(work.clone(), client.clone(), over_grpc.clone()));
            clients.spawn(streams(work.clone(), client.clone()));
        }
    }
    let mut tally = Tally::default();
    while let Some(client) = clients.join_next().await {
        tally.add(client??);
    }
    drivers.join_all().await;
    Ok(tally)
}

/// A scrape of a server that has nothing left to do.
async fn idle(process: &Process) -> Result<Scrape> {
    let nothing = |scrape: &Scrape| {
        ["reranker_queued_tokens", "reranker_queued_requests", "reranker_inflight_tokens"]
            .iter()
            .all(|name| scrape.sum(name, &[]) == 0.0)
            && ["http", "grpc"].iter().all(|protocol| {
                scrape.sum("reranker_connections", &[("protocol", protocol)]) == 0.0
            })
    };
    until("the server is idle", async || {
        Scrape::at(&process.admin).is_ok_and(|scrape| nothing(&scrape))
    })
    .await;
    Scrape::at(&process.admin)
}

/// A server that keeps a little of each request ends some night, and the others with it.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_grows_and_everything_is_counted() -> Result<()> {
    let checkpoint = Checkpoint::new(1);
    let keys = Files::new(&[("keys", "good\n")])?;
    let flags = [
        "--model",
        &checkpoint.model("m"),
        "--api-keys-file",
        &keys.flag("keys"),
        "--max-request-bytes",
        "20000",
        "--max-body-bytes",
        "24000",
        "--slow-requests-per-minute",
        "1",
    ];
    // A line a refusal would be most of the work.
    let quiet = [("RUST_LOG", "info,reranker::metrics=error")];
    let process = Process::serve(&flags, &quiet)?.ready()?;
    let mut tally = send(&process, WARM_UP).await?;
    let before = idle(&process).await?;
    tally.add(send(&process, requests()?).await?);
    let after = idle(&process).await?;
    tally.assert_is_in(&after);
    let figure = |name| (before.sum(name, &[]), after.sum(name, &[]));
    let (memory_before, memory_after) = figure("reranker_process_resident_memory_bytes");
    let (descriptors_before, descriptors_after) = figure("reranker_process_open_fds");
    eprintln!(
        "memory {memory_before} -> {memory_after}, descriptors {descriptors_before} -> {descriptors_after}"
    );
    // The scrape itself may find a descriptor more or less; a leak would be thousands.
    assert!(
        (descriptors_after - descriptors_before).abs() < 4.0,
        "{descriptors_before} descriptors, then {descriptors_after}"
    );
    assert!(
        memory_after < memory_before + GROWTH,
        "{memory_before} bytes of memory, then {memory_after}"
    );
    process.terminate()?;
    assert_eq!(process.wait_for("draining")?["in_flight"], 0);
    let (status, log) = process.end()?;
    assert!(status.success(), "{status}: {log}");
    Ok(())
}
