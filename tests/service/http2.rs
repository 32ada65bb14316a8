//! HTTP/2 by hand: heads that are too large, floods of resets, calls that trickle.

use anyhow::Result;
use bytes::Bytes;
use h2::client::SendRequest;
use http::{HeaderMap, Request, Response};
use reranker::server::{ConnectionLimits, Edge};
use reranker_proto::v1::RerankRequest;
use reranker_tests::LIMIT;
use reranker_tests::raw::Connection;
use reranker_tests::server::{Running, Settings, random};
use std::net::SocketAddr;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

const PATH: &str = "/v1/models/rerank";

async fn server() -> Result<Running> {
    let limits =
        ConnectionLimits { body_timeout: Duration::from_secs(1), ..ConnectionLimits::default() };
    let edge = Edge { limits, ..Edge::default() };
    let settings = Settings { edge, ..Settings::default() };
    Running::start_with(vec![random("m", 1).await?], settings).await
}

pub(crate) type Driver = JoinHandle<Result<(), h2::Error>>;

/// HTTP/2 without TLS, as clients with prior knowledge speak it.
pub(crate) async fn connect(address: SocketAddr) -> Result<(SendRequest<Bytes>, Driver)> {
    connect_with(address, &h2::client::Builder::new()).await
}

/// The same with settings of one's own.
pub(crate) async fn connect_with(
    address: SocketAddr,
    settings: &h2::client::Builder,
) -> Result<(SendRequest<Bytes>, Driver)> {
    let stream = TcpStream::connect(address).await?;
    let (client, connection) = settings.handshake(stream).await?;
    Ok((client, tokio::spawn(connection)))
}

pub(crate) fn post(address: SocketAddr, path: &str) -> http::request::Builder {
    Request::post(format!("http://{address}{path}"))
}

pub(crate) async fn body(
    response: Response<h2::RecvStream>,
) -> Result<(Vec<u8>, Option<HeaderMap>)> {
    let mut body = response.into_body();
    let mut bytes = Vec::new();
    while let Some(data) = body.data().await {
        let data = data?;
        body.flow_control().release_capacity(data.len())?;
        bytes.extend_from_slice(&data);
    }
    Ok((bytes, body.trailers().await?))
}

/// Proxies and clients that speak HTTP/2 from the first byte would not work.
#[tokio::test]
async fn prior_knowledge_works() -> Result<()> {
    let server = server().await?;
    let address = server.addresses.http;
    let (client, _driver) = connect(address).await?;
    let (answer, mut send) =
        client.ready().await?.send_request(post(address, PATH).body(())?, false)?;
    send.send_data(Bytes::from_static(br#"{"query":"q","documents":["d"]}"#), true)?;
    let answer = answer.await?;
    assert_eq!(answer.status(), 200);
    let (bytes, _) = body(answer).await?;
    let answer: serde_json::Value = serde_json::from_slice(&bytes)?;
    assert_eq!(answer["results"].as_array().map(Vec::len), Some(1));
    Ok(())
}

/// Heads are kept in memory before anybody has looked at the key.
#[tokio::test(flavor = "multi_thread")]
async fn heads_over_the_limit_are_refused() -> Result<()> {
    let server = server().await?;
    let large = "x".repeat(20_000);
    let mut connection = Connection::open(&server.http())?;
    connection.post(PATH, &[&format!("x-large: {large}"), "content-length: 0"])?;
    assert_eq!(connection.answer()?.status, 431);
    let many: Vec<String> = (0..2_000).map(|i| format!("x-{i}: y")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let mut connection = Connection::open(&server.http())?;
    connection.post(PATH, &many)?;
    assert_eq!(connection.answer()?.status, 431);

    for (address, path) in
        [(server.addresses.http, PATH), (server.addresses.grpc, "/reranker.v1.Reranker/Rerank")]
    {
        let (client, _driver) = connect(address).await?;
        let request = post(address, path).header("x-large", &large).body(())?;
        let (answer, _) = client.clone().ready().await?.send_request(request, true)?;
        assert_eq!(answer.await?.status(), 431, "{address}");
        // The connection is still good.
        let request = post(address, "/nothing").body(())?;
        let (answer, _) = client.ready().await?.send_request(request, true)?;
        assert!([200, 404].contains(&answer.await?.status().as_u16()));
    }
    Ok(())
}

/// The "rapid reset": one client that opens and drops requests keeps a server busy for nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_resets_ends_its_connection_only() -> Result<()> {
    let server = server().await?;
    for (address, path) in
        [(server.addresses.http, PATH), (server.addresses.grpc, "/reranker.v1.Reranker/Rerank")]
    {
        let (client, driver) = connect(address).await?;
        let flood = async {
            loop {
                let mut client = client.clone().ready().await?;
                for _ in 0..50 {
                    let request = post(address, path).body(())?;
                    let Ok((answer, mut send)) = client.send_request(request, false) else { break };
                    send.send_reset(h2::Reason::CANCEL);
                    drop(answer);
                }
                tokio::task::yield_now().await;
            }
        };
        let ended: Result<()> = tokio::time::timeout(LIMIT, flood).await?;
        assert!(ended.is_err());
        assert!(driver.await?.is_err());
    }
    let body = serde_json::json!({"query": "q", "documents": ["d"]});
    assert_eq!(server.post(PATH, &body).await?.status, 200);
    server.grpc().await?.rerank(RerankRequest::default()).await?;
    Ok(())
}

/// A call whose message never comes whole would be counted as in flight for ever.
#[tokio::test]
async fn a_call_that_trickles_is_refused() -> Result<()> {
    let server = server().await?;
    let address = server.addresses.grpc;
    let (client, _driver) = connect(address).await?;
    let request = post(address, "/reranker.v1.Reranker/Rerank")
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(())?;
    let (answer, mut send) = client.ready().await?.send_request(request, false)?;
    // The flag, a length, and a beginning.
    send.send_data(Bytes::from_static(b"\0\0\0\x01\0\x12\x01q"), false)?;
    let answer = tokio::time::timeout(LIMIT, answer).await??;
    let mut headers = answer.headers().clone();
    if let Some(trailers) = body(answer).await?.1 {
        headers.extend(trailers);
    }
    assert_eq!(headers["grpc-status"], "4");
    let message = headers["grpc-message"].to_str()?;
    assert!(message.contains("did%20not%20arrive%20within%201%20s"), "{message}");
    assert_eq!(server.app.in_flight(), 0);
    Ok(())
}
