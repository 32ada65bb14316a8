//! Bodies at and over 16 MiB, also from clients that are still sending.

use anyhow::{Context, Result};
use reranker_tests::raw::Connection;
use reranker_tests::server::{Running, random};
use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};

const PATH: &str = "/v1/models/rerank";
const LIMIT: usize = 16 * 1024 * 1024;
const TEXT: &str = "the request is over 16777216 bytes; send less in one call";

async fn server() -> Result<Running> {
    Running::start(vec![random("m", 1).await?], &[]).await
}

fn padded(length: usize) -> String {
    let request = r#"{"query":"q","documents":["d"]}"#;
    request.to_owned() + &" ".repeat(length - request.len())
}

/// One byte off, and requests that the documentation allows are refused.
#[tokio::test]
async fn exactly_16_mib_pass() -> Result<()> {
    let server = server().await?;
    assert_eq!(server.post_bytes(PATH, padded(LIMIT)).await?.status, 200);
    let answer = server.post_bytes(PATH, padded(LIMIT + 1)).await?;
    assert_eq!(answer.status, 413);
    assert_eq!(answer.body["detail"], TEXT);
    assert_eq!(answer.body["message"], TEXT);
    Ok(())
}

/// Most clients write a whole body before they read: they would see "connection reset".
#[tokio::test]
async fn a_client_that_sends_first_reads_the_413() -> Result<()> {
    let server = server().await?;
    let base = server.http();
    let answer = tokio::task::spawn_blocking(move || {
        let mut connection = Connection::open(&base)?;
        let length = LIMIT + LIMIT / 2;
        connection.post(PATH, &[&format!("content-length: {length}")])?;
        connection.send(&vec![b' '; length])?;
        connection.answer()
    });
    let answer = answer.await??;
    assert_eq!((answer.status, answer.json()?["detail"].as_str()), (413, Some(TEXT)));
    Ok(())
}

/// A stream without an end must be stopped by the answer, not by running out of memory.
#[tokio::test]
async fn a_client_that_is_still_sending_reads_the_413() -> Result<()> {
    let server = server().await?;
    let base = server.http();
    let answer = tokio::task::spawn_blocking(move || {
        let mut connection = Connection::open(&base)?;
        connection.post(PATH, &["transfer-encoding: chunked"])?;
        let mut writer = connection.writer()?;
        let answered = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let sending = scope.spawn(|| {
                let chunk = format!("10000\r\n{}\r\n", " ".repeat(0x10000));
                // Over the limit, and on until the other side has its answer.
                let mut sent = 0;
                while sent < 2 * LIMIT || !answered.load(Ordering::Acquire) {
                    writer.write_all(chunk.as_bytes())?;
                    sent += 0x10000;
                }
                writer.write_all(b"0\r\n\r\n")
            });
            let answer = connection.answer();
            answered.store(true, Ordering::Release);
            sending.join().ok().context("the sender ends")??;
            // The body was read out, so the connection is good for the next request.
            connection.post("/v1/nothing", &["content-length: 0"])?;
            assert_eq!(connection.answer()?.status, 404);
            answer
        })
    });
    let answer = answer.await??;
    assert_eq!((answer.status, answer.json()?["detail"].as_str()), (413, Some(TEXT)));
    Ok(())
}

/// A client that asks first need not send anything.
#[tokio::test]
async fn a_client_that_expects_to_continue_is_told_at_once() -> Result<()> {
    let server = server().await?;
    let base = server.http();
    let answer = tokio::task::spawn_blocking(move || {
        let mut connection = Connection::open(&base)?;
        let length = format!("content-length: {}", LIMIT + 1);
        connection.post(PATH, &[&length, "expect: 100-continue"])?;
        connection.answer()
    });
    assert_eq!(answer.await??.status, 413);
    Ok(())
}
