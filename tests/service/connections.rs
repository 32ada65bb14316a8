//! Clients that are slow, half gone or too many, and a system that is short of descriptors: nothing
//! hangs, nobody else notices.

use anyhow::Result;
use reranker::server::{ConnectionLimits, Edge, Protocol};
use reranker_proto::v1::RerankRequest;
use reranker_tests::process::Process;
use reranker_tests::raw::Connection;
use reranker_tests::server::{Running, Settings, random};
use reranker_tests::until;
use serde_json::json;
use std::net::TcpStream;
use std::time::Duration;

const PATH: &str = "/v1/models/rerank";
const BODY: &str = r#"{"query":"q","documents":["a","b"]}"#;

async fn server(limits: ConnectionLimits) -> Result<Running> {
    let edge = Edge { limits, ..Edge::default() };
    let settings = Settings { edge, ..Settings::default() };
    Running::start_with(vec![random("m", 1).await?], settings).await
}

/// Seconds are enough for loopback, and few enough to wait for.
fn impatient() -> ConnectionLimits {
    ConnectionLimits {
        header_timeout: Duration::from_secs(1),
        body_timeout: Duration::from_secs(1),
        ..ConnectionLimits::default()
    }
}

async fn all_closed(server: &Running, protocol: Protocol) {
    until("every connection is closed", async || server.connections.open(protocol) == 0).await;
}

/// A few idle clients would hold every connection there is.
#[tokio::test(flavor = "multi_thread")]
async fn a_head_that_does_not_come_ends_the_connection() -> Result<()> {
    let server = server(impatient()).await?;
    // A client of gRPC may be idle for hours once it has begun.
    let mut patient = server.grpc().await?;
    let base = server.http();
    let grpc = format!("http://{}", server.addresses.grpc);
    for (base, bytes) in [
        (&base, ""),
        (&base, "P"),
        (&base, "POST /v1/models/rerank HTTP/1.1\r\nhost: test\r\nx-slow: "),
        (&base, "PRI * HTTP/2.0\r\n\r\nS"),
        (&grpc, ""),
        (&grpc, "PRI * HT"),
    ] {
        let mut connection = Connection::open(base)?;
        connection.send(bytes.as_bytes())?;
        assert!(connection.is_closed(), "{bytes:?}");
    }
    all_closed(&server, Protocol::Http).await;
    until("only the patient one is left", async || server.connections.open(Protocol::Grpc) == 1)
        .await;
    patient.rerank(RerankRequest::default()).await?;
    Ok(())
}

/// A client that trickles would hold its request, and the end of the server, for ever.
#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_trickles_is_answered_408() -> Result<()> {
    let server = server(impatient()).await?;
    let mut connection = Connection::open(&server.http())?;
    connection.post(PATH, &["content-length: 100000"])?;
    let mut writer = connection.writer()?;
    let trickle = std::thread::spawn(move || {
        use std::io::Write;
        while writer.write_all(b" ").is_ok() {
            std::thread::sleep(Duration::from_millis(50));
        }
    });
    let answer = connection.answer()?;
    let text = "the request's body did not arrive within 1 s";
    assert_eq!(answer.status, 408);
    assert_eq!(answer.json()?, json!({"detail": text, "message": text}));
    until("the request is over", async || server.app.in_flight() == 0).await;
    drop(connection);
    all_closed(&server, Protocol::Http).await;
    trickle.join().expect("the trickle ends");
    Ok(())
}

/// What a client that has gone had asked for must not stay: requests, connections, descriptors.
#[tokio::test(flavor = "multi_thread")]
async fn half_closed_connections_are_let_go() -> Result<()> {
    let server = server(ConnectionLimits::default()).await?;
    let mut connections = Vec::new();
    for sent in [0, 10, BODY.len()] {
        let mut connection = Connection::open(&server.http())?;
        connection.post(PATH, &[&format!("content-length: {}", BODY.len())])?;
        connection.send(&BODY.as_bytes()[..sent])?;
        connection.half_close()?;
        connections.push(connection);
    }
    for connection in &mut connections {
        assert!(connection.is_closed());
    }
    all_closed(&server, Protocol::Http).await;
    until("no request is left", async || server.app.in_flight() == 0).await;
    Ok(())
}

/// Answers that nobody takes would pile up in memory.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_never_reads_is_cut_off() -> Result<()> {
    let server = server(impatient()).await?;
    let connection = Connection::open(&server.http())?;
    let mut writer = connection.writer()?;
    let flood = std::thread::spawn(move || {
        use std::io::Write;
        // Until the buffers on both sides are full and the server gives up.
        let requests = "GET /nothing HTTP/1.1\r\nhost: test\r\n\r\n".repeat(1_000);
        while writer.write_all(requests.as_bytes()).is_ok() {}
    });
    until("the connection is there", async || server.connections.open(Protocol::Http) == 1).await;
    all_closed(&server, Protocol::Http).await;
    flood.join().expect("the flood ends");
    Ok(())
}

/// Without a bound the process runs out of memory; with a queue the client waits without an end.
#[tokio::test(flavor = "multi_thread")]
async fn one_connection_too_many_is_closed_at_once() -> Result<()> {
    let server = server(ConnectionLimits { connections: 2, ..ConnectionLimits::default() }).await?;
    let base = server.http();
    let mut open = [Connection::open(&base)?, Connection::open(&base)?];
    for connection in &mut open {
        assert_eq!(connection.post_json(PATH, &[], BODY)?.status, 200);
    }
    assert!(Connection::open(&base)?.is_closed());
    // The other listeners have their own bound.
    assert_eq!(server.admin("/readyz").await?.0, 200);
    server.grpc().await?.rerank(RerankRequest::default()).await?;

    let [first, mut second] = open;
    drop(first);
    until("the closed one is gone", async || server.connections.open(Protocol::Http) == 1).await;
    assert_eq!(Connection::open(&base)?.post_json(PATH, &[], BODY)?.status, 200);
    assert_eq!(second.post_json(PATH, &[], BODY)?.status, 200);
    Ok(())
}

/// Clients keep a connection for ever: new replicas would see no traffic. A request under way must
/// not be lost for it.
#[tokio::test(flavor = "multi_thread")]
async fn connections_have_an_age() -> Result<()> {
    let age = Some(Duration::from_secs(1));
    let server = server(ConnectionLimits { age, ..ConnectionLimits::default() }).await?;
    let mut client = server.grpc().await?;
    client.rerank(RerankRequest::default()).await?;
    let mut idle = Connection::open(&server.http())?;
    assert_eq!(idle.post_json(PATH, &[], BODY)?.status, 200);
    // Its own limit of connections would keep the probes out.
    let mut probe = Connection::open(&format!("http://{}", server.addresses.admin))?;
    probe.send(b"GET /livez HTTP/1.1\r\nhost: test\r\n\r\n")?;
    assert_eq!(probe.answer()?.status, 200);
    let mut busy = Connection::open(&server.http())?;
    busy.post(PATH, &[&format!("content-length: {}", BODY.len()), "expect: 100-continue"])?;
    assert_eq!(busy.answer()?.status, 100);
    // Closed while it sends, it would lose a request.
    let mut kept = Connection::open(&server.http())?;
    let mut answer = kept.post_json(PATH, &[], BODY)?;
    while answer.headers.get("connection").is_none_or(|it| it != "close") {
        tokio::time::sleep(Duration::from_millis(50)).await;
        answer = kept.post_json(PATH, &[], BODY)?;
        assert_eq!(answer.status, 200);
    }
    assert!(kept.is_closed());

    assert!(idle.is_closed());
    assert!(probe.is_closed());
    all_closed(&server, Protocol::Grpc).await;
    client.rerank(RerankRequest::default()).await?;
    let mut late = Connection::open(&server.http())?;
    assert!(late.is_closed());
    busy.send(BODY.as_bytes())?;
    let answer = busy.answer()?;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.headers.get("connection").map(String::as_str), Some("close"));
    assert!(busy.is_closed());
    Ok(())
}

/// A burst of connections would end the server, or make it spin, long after the burst.
#[tokio::test]
async fn descriptors_may_run_out() -> Result<()> {
    let process = Process::serve_with_descriptors(64, &["--model", "demo"])?.ready()?;
    let address = process.http.replace("http://", "");
    let taken: Vec<TcpStream> =
        (0..100).map(|_| TcpStream::connect(&address)).collect::<Result<_, _>>()?;
    let entry = process.wait_for("cannot accept connections: trying on")?;
    assert_eq!(entry["level"], "ERROR", "{entry}");
    drop(taken);
    until("the server serves again", async || {
        let answer = Connection::open(&process.http)
            .and_then(|mut connection| connection.post_json(PATH, &[], BODY));
        answer.is_ok_and(|answer| answer.status == 200)
    })
    .await;
    process.terminate()?;
    let (status, log) = process.end()?;
    assert!(status.success(), "{status}: {log}");
    // One line for the burst, not one for each try.
    assert!(!log.contains("cannot accept"), "{log}");
    Ok(())
}

/// Containers run as any user, with nothing to write to.
#[test]
fn no_folder_is_needed_to_serve() -> Result<()> {
    let nowhere = "/nonexistent";
    let variables =
        [("HOME", nowhere), ("XDG_CACHE_HOME", nowhere), ("HF_HOME", nowhere), ("TMPDIR", nowhere)];
    let process = Process::serve(&["--model", "demo"], &variables)?.ready()?;
    let answer = Connection::open(&process.http)?.post_json(PATH, &[], BODY)?;
    assert_eq!(answer.status, 200);
    process.terminate()?;
    assert!(process.end()?.0.success());
    Ok(())
}
