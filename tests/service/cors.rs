//! Calls from web pages: off unless an origin is configured.

use anyhow::Result;
use reranker::server::{Edge, Origin};
use reranker_tests::raw::{Answer, Connection};
use reranker_tests::server::{Running, Settings, random};

const PATH: &str = "/v1/models/rerank";

async fn server(origins: &[&str]) -> Result<Running> {
    let cors = origins.iter().map(|origin| origin.parse().expect("is an origin")).collect();
    let edge = Edge { cors, ..Edge::default() };
    let settings = Settings { edge, ..Settings::default() };
    Running::start_with(vec![random("m", 1).await?], settings).await
}

fn preflight(server: &Running, origin: &str) -> Result<Answer> {
    let mut connection = Connection::open(&server.http())?;
    let head = format!(
        "OPTIONS {PATH} HTTP/1.1\r\nhost: test\r\norigin: {origin}\r\n\
         access-control-request-method: POST\r\n\
         access-control-request-headers: authorization,x-stainless-lang\r\n\r\n"
    );
    connection.send(head.as_bytes())?;
    connection.answer()
}

fn post(server: &Running, origin: &str) -> Result<Answer> {
    let origin = format!("origin: {origin}");
    let body = r#"{"query":"q","documents":["d"]}"#;
    Connection::open(&server.http())?.post_json(PATH, &[&origin], body)
}

const ALLOWED: &str = "access-control-allow-origin";

/// Any page that a colleague opens could use a server that is open inside the network.
#[tokio::test(flavor = "multi_thread")]
async fn pages_may_not_call_unless_told() -> Result<()> {
    let server = server(&[]).await?;
    assert_eq!(preflight(&server, "https://a.example")?.status, 405);
    assert!(!post(&server, "https://a.example")?.headers.contains_key(ALLOWED));
    Ok(())
}

/// The page that was allowed would not work, or every other would.
#[tokio::test(flavor = "multi_thread")]
async fn configured_origins_may_call() -> Result<()> {
    let server = server(&["https://a.example", "http://localhost:3000"]).await?;
    for origin in ["https://a.example", "http://localhost:3000"] {
        let answer = preflight(&server, origin)?;
        assert_eq!((answer.status, answer.headers[ALLOWED].as_str()), (200, origin));
        assert!(answer.headers["access-control-allow-headers"].contains("x-stainless-lang"));
        let answer = post(&server, origin)?;
        assert_eq!((answer.status, answer.headers[ALLOWED].as_str()), (200, origin));
    }
    let other = preflight(&server, "https://b.example")?;
    assert!(!other.headers.contains_key(ALLOWED));
    assert!(!post(&server, "https://a.example.evil")?.headers.contains_key(ALLOWED));
    Ok(())
}

/// An origin with a path or a capital never matches what browsers send: the page would not work.
#[test]
fn an_origin_is_written_as_browsers_do() {
    for text in ["a.example", "https://a.example/", "https://A.example", "null", "", "https://"] {
        assert!(text.parse::<Origin>().is_err(), "{text}");
    }
    for text in ["*", "https://a.example", "http://127.0.0.1:80"] {
        assert!(text.parse::<Origin>().is_ok(), "{text}");
    }
}
