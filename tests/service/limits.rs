//! Limits that are configured: what one request may bring, and what all may hold.

use crate::http2::{Driver, connect_with, post};
use anyhow::Result;
use h2::client::Builder;
use http::Response;
use prost::Message as _;
use reranker::app::RequestLimits;
use reranker::server::{ConnectionLimits, Edge};
use reranker_proto::v1::rerank_stream_request::Message;
use reranker_proto::v1::{
    RerankRequest, RerankStreamDocuments, RerankStreamHeader, RerankStreamRequest,
};
use reranker_tests::LIMIT;
use reranker_tests::raw::Connection;
use reranker_tests::server::{Running, Settings, random};
use reranker_tests::until;
use serde_json::json;
use std::net::SocketAddr;
use std::time::Duration;
use tonic::Code;
use tonic_types::StatusExt;

const PATH: &str = "/v1/models/rerank";

fn documents(count: usize, bytes: usize) -> RerankRequest {
    let documents = vec!["x".repeat(bytes); count];
    RerankRequest { query: "q".into(), documents, ..RerankRequest::default() }
}

/// An operator's limits would hold for one protocol only, or not at all.
#[tokio::test]
async fn a_request_keeps_to_the_configured_limits() -> Result<()> {
    let limits = RequestLimits {
        bytes: 1_000,
        documents: Some(3),
        body_bytes: 2_000,
        ..RequestLimits::default()
    };
    let settings = Settings { limits, ..Settings::default() };
    let server = Running::start_with(vec![random("m", 1).await?], settings).await?;
    let mut client = server.grpc().await?;
    for (count, bytes, status, code, text) in [
        (3, 1, 200, Code::Ok, ""),
        (4, 1, 400, Code::InvalidArgument, "4 documents; the limit is 3 a request"),
        (1, 849, 200, Code::Ok, ""),
        (1, 850, 400, Code::InvalidArgument, "the limit is 1000"),
        (1, 3_000, 413, Code::OutOfRange, "the request is over 2000 bytes"),
    ] {
        let request = documents(count, bytes);
        let body = json!({"query": request.query, "documents": request.documents});
        let http = server.post(PATH, &body).await?;
        assert_eq!(http.status, status, "{}", http.body);
        let grpc = client.rerank(request).await;
        let (is, message) = match &grpc {
            Ok(_) => (Code::Ok, ""),
            Err(status) => (status.code(), status.message()),
        };
        assert_eq!(is, code, "{message}");
        if status != 200 {
            assert_eq!(http.body["message"], message);
            assert!(message.contains(text), "{message}");
        }
    }
    Ok(())
}

/// All requests together hold 100,000 bytes, one 90,000.
async fn with_a_small_budget() -> Result<Running> {
    with_a_small_budget_and(ConnectionLimits::default()).await
}

async fn with_a_small_budget_and(limits: ConnectionLimits) -> Result<Running> {
    let limits = ConnectionLimits { inflight_bytes: 100_000, ..limits };
    let request = RequestLimits {
        bytes: 900_000,
        documents: None,
        body_bytes: 90_000,
        ..RequestLimits::default()
    };
    let edge = Edge { limits, ..Edge::default() };
    let settings = Settings { edge, limits: request, ..Settings::default() };
    Running::start_with(vec![random("m", 1).await?], settings).await
}

/// Many large requests at once would take all of the machine's memory.
#[tokio::test(flavor = "multi_thread")]
async fn bodies_share_one_budget() -> Result<()> {
    let server = with_a_small_budget().await?;
    let mut client = server.grpc().await?;
    let large = documents(1, 60_000);
    let body = json!({"query": large.query, "documents": large.documents}).to_string();
    assert_eq!(server.post_bytes(PATH, body.clone()).await?.status, 200);

    let mut holder = Connection::open(&server.http())?;
    holder.post(PATH, &["content-length: 80000", "expect: 100-continue"])?;
    assert_eq!(holder.answer()?.status, 100);
    holder.send(&vec![b' '; 70_000])?;
    // The bytes count once they are read. A body that is announced and not sent takes none of the room.
    until("the first body is read", async || {
        let probe = || -> Result<u16> {
            let mut probe = Connection::open(&server.http())?;
            probe.post(PATH, &["content-length: 60000", "expect: 100-continue"])?;
            Ok(probe.answer()?.status)
        };
        probe().is_ok_and(|status| status == 429)
    })
    .await;
    let refused = async || Ok::<_, anyhow::Error>(server.post_bytes(PATH, body.clone()).await?);
    let http = refused().await?;
    assert_eq!((http.status, &http.headers["retry-after"]), (429, &"1".parse()?));
    let status = client.rerank(large.clone()).await.expect_err("there is no room");
    assert_eq!(status.code(), Code::ResourceExhausted);
    assert_eq!(http.body["message"], status.message());
    assert!(status.message().contains("hold the 100000 bytes"), "{}", status.message());
    assert!(status.get_details_retry_info().is_some());
    let mut stream = client.rerank_stream(tokio_stream::iter(stream_of(1, 60_000))).await?;
    let late = loop {
        match stream.get_mut().message().await {
            Ok(answer) => assert!(answer.is_some(), "the stream is refused"),
            Err(status) => break status,
        }
    };
    assert_eq!((late.code(), late.message()), (status.code(), status.message()));
    // Small ones still fit.
    assert_eq!(server.post(PATH, &json!({"query": "q", "documents": ["d"]})).await?.status, 200);

    drop(holder);
    until("the bytes have returned", async || {
        refused().await.is_ok_and(|answer| answer.status == 200)
    })
    .await;
    until("the call has room too", async || client.clone().rerank(large.clone()).await.is_ok())
        .await;
    Ok(())
}

/// A call over gRPC that is sent but whose answer is not taken.
async fn unread_call(
    address: SocketAddr,
    path: &str,
    messages: Vec<u8>,
) -> Result<(Response<h2::RecvStream>, Driver)> {
    let (client, driver) = connect_with(address, Builder::new().initial_window_size(0)).await?;
    let request =
        post(address, path).header("content-type", "application/grpc").header("te", "trailers");
    let (answer, mut send) = client.ready().await?.send_request(request.body(())?, false)?;
    send.send_data(messages.into(), true)?;
    Ok((tokio::time::timeout(LIMIT, answer).await??, driver))
}

/// Probes need no key: a stranger who says much to them would leave no room for anybody's requests.
#[tokio::test]
async fn what_is_said_to_the_health_is_bounded_and_takes_no_room() -> Result<()> {
    let server = with_a_small_budget().await?;
    let address = server.addresses.grpc;
    let empty = [0; 5];
    // Further messages are read and of no use.
    for path in ["/grpc.health.v1.Health/Watch", "/grpc.health.v1.Health/Check"] {
        let (answer, _driver) = unread_call(address, path, empty.repeat(12_000)).await?;
        assert_eq!(answer.headers()["grpc-status"], "11", "{path}");
        let message = answer.headers()["grpc-message"].to_str()?;
        assert!(message.contains("over%204096%20bytes"), "{message}");
        server.grpc().await?.rerank(documents(1, 80_000)).await?;
    }
    let mut watches = Vec::new();
    for _ in 0..30 {
        let path = "/grpc.health.v1.Health/Watch";
        let watch = unread_call(address, path, empty.repeat(800)).await?;
        assert_eq!(watch.0.status(), 200);
        watches.push(watch);
    }
    server.grpc().await?.rerank(documents(1, 80_000)).await?;
    Ok(())
}

fn stream_of(count: usize, bytes: usize) -> Vec<RerankStreamRequest> {
    let header = RerankStreamHeader { query: "q".into(), ..RerankStreamHeader::default() };
    let documents = RerankStreamDocuments { documents: vec!["x".repeat(bytes)] };
    let mut messages = vec![Message::Header(header)];
    messages.extend(vec![Message::Documents(documents); count]);
    messages.into_iter().map(|message| RerankStreamRequest { message: Some(message) }).collect()
}

/// A stream would bring what a request may not, piece by piece.
#[tokio::test]
async fn a_stream_is_as_long_as_a_request() -> Result<()> {
    let server = with_a_small_budget().await?;
    let mut client = server.grpc().await?;
    for (count, code) in [(2, Code::Ok), (4, Code::OutOfRange)] {
        let messages = tokio_stream::iter(stream_of(count, 30_000));
        let mut answers = client.rerank_stream(messages).await?.into_inner();
        let end = loop {
            match answers.message().await {
                Ok(Some(_)) => {}
                Ok(None) => break Ok(()),
                Err(status) => break Err(status),
            }
        };
        assert_eq!(end.as_ref().err().map_or(Code::Ok, tonic::Status::code), code, "{end:?}");
        if let Err(status) = end {
            assert!(status.message().contains("over 90000 bytes"), "{}", status.message());
        }
    }
    Ok(())
}

/// A stream whose answers nobody takes would keep the room of its documents, which are long scored.
#[tokio::test]
async fn the_bytes_of_a_stream_return_when_it_is_scored() -> Result<()> {
    let server = with_a_small_budget().await?;
    let mut messages = Vec::new();
    for message in stream_of(1, 60_000) {
        let length = u32::try_from(message.encoded_len())?;
        messages.extend([&[0], &length.to_be_bytes()[..], &message.encode_to_vec()].concat());
    }
    let path = "/reranker.v1.Reranker/RerankStream";
    let (answer, _driver) = unread_call(server.addresses.grpc, path, messages).await?;
    assert_eq!(answer.status(), 200);
    let mut client = server.grpc().await?;
    until("the bytes have returned", async || {
        client.clone().rerank(documents(1, 60_000)).await.is_ok()
    })
    .await;
    client.rerank(documents(1, 80_000)).await?;
    Ok(())
}

/// A client that asks and takes nothing of the answers would fill the memory with them.
#[tokio::test]
async fn an_answer_that_is_not_taken_takes_room() -> Result<()> {
    let server = with_a_small_budget().await?;
    let address = server.addresses.http;
    // The server has handed over all of the answer, and one byte of it is on its way.
    let (client, driver) = connect_with(address, Builder::new().initial_window_size(1)).await?;
    let (answer, mut send) =
        client.ready().await?.send_request(post(address, PATH).body(())?, false)?;
    let large = documents(1, 60_000);
    let body = json!({"query": large.query, "documents": large.documents}).to_string();
    send.send_data(body.clone().into(), true)?;
    let answer = tokio::time::timeout(LIMIT, answer).await??;
    assert_eq!(answer.status(), 200);
    assert_eq!(server.post_bytes(PATH, body.clone()).await?.status, 429);
    drop((answer, send));
    driver.abort();
    until("the bytes have returned", async || {
        server.post_bytes(PATH, body.clone()).await.is_ok_and(|answer| answer.status == 200)
    })
    .await;
    Ok(())
}

/// A client that asks on and on and never opens its window would keep the room until everybody is
/// refused, for as long as it likes to stay.
#[tokio::test]
async fn a_client_that_takes_nothing_is_cut_off() -> Result<()> {
    let body_timeout = Duration::from_secs(1);
    let limits = ConnectionLimits { body_timeout, ..ConnectionLimits::default() };
    let server = with_a_small_budget_and(limits).await?;
    let large = documents(1, 60_000);
    let json = json!({"query": large.query, "documents": large.documents}).to_string();
    let message = large.encode_to_vec();
    let length = u32::try_from(message.len())?.to_be_bytes();
    let message = [&[0], &length[..], &message].concat();
    for (address, path, body) in [
        (server.addresses.http, PATH, json.clone().into_bytes()),
        (server.addresses.grpc, "/reranker.v1.Reranker/Rerank", message),
    ] {
        // Nothing at all of the answer's body may be sent.
        let (_answer, driver) = unread_call(address, path, body).await?;
        // The server ends the connection, with an error or without.
        drop(tokio::time::timeout(LIMIT, driver).await??);
        let answer = server.post_bytes(PATH, json.clone()).await?;
        assert_eq!(answer.status, 200, "the bytes have returned");
    }
    Ok(())
}
