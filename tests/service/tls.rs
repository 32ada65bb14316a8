//! TLS on all listeners, with and without certificates of the clients.

use anyhow::{Context, Result};
use reqwest::{Certificate, Client, ClientBuilder, Version};
use reranker::server::{ConnectionLimits, Edge, TlsFiles};
use reranker_proto::v1::RerankRequest;
use reranker_proto::v1::reranker_client::RerankerClient;
use reranker_tests::certificates::{Authority, Files, Identity};
use reranker_tests::process::{Process, run, stderr};
use reranker_tests::raw::Connection;
use reranker_tests::server::{Running, Settings, random};
use reranker_tests::until;
use serde_json::Value;
use std::time::Duration;
use tonic::transport::{Channel, ClientTlsConfig};

const BODY: &str = r#"{"query":"q","documents":["a","b"]}"#;

fn files(server: &Identity, more: &[(&str, &str)]) -> Result<Files> {
    let own = [("cert", server.cert.as_str()), ("key", server.key.as_str())];
    Files::new(&[&own, more].concat())
}

async fn server(files: &Files, client_ca: Option<&str>) -> Result<Running> {
    let client_ca = client_ca.map(|name| files.path(name));
    let tls = TlsFiles { cert: files.path("cert"), key: files.path("key"), client_ca };
    let limits =
        ConnectionLimits { header_timeout: Duration::from_secs(2), ..ConnectionLimits::default() };
    let edge = Edge { tls: Some(tls), limits, ..Edge::default() };
    let settings = Settings { edge, ..Settings::default() };
    Running::start_with(vec![random("m", 1).await?], settings).await
}

fn trusting(authority: &Authority, identity: Option<&Identity>) -> Result<ClientBuilder> {
    let root = Certificate::from_pem(authority.cert().as_bytes())?;
    let builder = Client::builder().tls_certs_only([root]).pool_max_idle_per_host(0);
    Ok(match identity {
        None => builder,
        Some(Identity { cert, key }) => {
            builder.identity(reqwest::Identity::from_pem(format!("{cert}{key}").as_bytes())?)
        }
    })
}

async fn rerank(client: &Client, address: impl std::fmt::Display) -> Result<(Version, Value)> {
    let url = format!("https://{address}/v1/models/rerank");
    let answer = client.post(url).body(BODY).send().await?.error_for_status()?;
    let version = answer.version();
    Ok((version, serde_json::from_slice(&answer.bytes().await?)?))
}

async fn grpc(
    address: impl std::fmt::Display,
    authority: &Authority,
    identity: Option<&Identity>,
) -> Result<usize> {
    let root = tonic::transport::Certificate::from_pem(authority.cert());
    let mut tls = ClientTlsConfig::new().ca_certificate(root).domain_name("localhost");
    if let Some(Identity { cert, key }) = identity {
        tls = tls.identity(tonic::transport::Identity::from_pem(cert, key));
    }
    let channel = Channel::from_shared(format!("https://{address}"))?.tls_config(tls)?;
    let documents = vec!["a".to_owned(), "b".to_owned()];
    let request = RerankRequest { query: "q".into(), documents, ..RerankRequest::default() };
    let answer = RerankerClient::new(channel.connect().await?).rerank(request).await?;
    Ok(answer.into_inner().results.len())
}

/// Keys and texts would cross the network in the clear on the listener that was forgotten.
#[tokio::test]
async fn every_listener_speaks_tls() -> Result<()> {
    let authority = Authority::new()?;
    let files = files(&authority.sign()?, &[])?;
    let server = server(&files, None).await?;
    let addresses = server.addresses;

    let client = trusting(&authority, None)?.build()?;
    let (version, body) = rerank(&client, addresses.http).await?;
    assert_eq!(version, Version::HTTP_2);
    assert_eq!(body["results"].as_array().map(Vec::len), Some(2));
    let old = trusting(&authority, None)?.http1_only().build()?;
    assert_eq!(rerank(&old, addresses.http).await?.0, Version::HTTP_11);
    assert_eq!(grpc(addresses.grpc, &authority, None).await?, 2);
    let ready = client.get(format!("https://{}/readyz", addresses.admin)).send().await?;
    assert_eq!(ready.status(), 200);

    let stranger = trusting(&Authority::new()?, None)?.build()?;
    assert!(rerank(&stranger, addresses.http).await.is_err());
    for address in [addresses.http, addresses.grpc, addresses.admin] {
        let plain = Client::new().get(format!("http://{address}/readyz")).send().await;
        assert!(plain.is_err(), "{address}");
    }
    Ok(())
}

/// A client without the right certificate would be let in, or the cluster's probes kept out.
#[tokio::test]
async fn clients_show_a_certificate_if_told_to() -> Result<()> {
    let (authority, clients) = (Authority::new()?, Authority::new()?);
    let files = files(&authority.sign()?, &[("ca", &clients.cert())])?;
    let server = server(&files, Some("ca")).await?;
    let addresses = server.addresses;

    let right = clients.sign()?;
    let client = trusting(&authority, Some(&right))?.build()?;
    assert_eq!(rerank(&client, addresses.http).await?.0, Version::HTTP_2);
    assert_eq!(grpc(addresses.grpc, &authority, Some(&right)).await?, 2);

    for wrong in [None, Some(&authority.sign()?)] {
        let client = trusting(&authority, wrong)?.build()?;
        assert!(rerank(&client, addresses.http).await.is_err());
        assert!(grpc(addresses.grpc, &authority, wrong).await.is_err());
        let ready = client.get(format!("https://{}/readyz", addresses.admin)).send().await?;
        assert_eq!(ready.status(), 200);
    }
    Ok(())
}

/// Certificates live for weeks and processes for longer; a mistake in the new files must not end the
/// service.
#[tokio::test]
async fn certificates_follow_their_files() -> Result<()> {
    let (first, second) = (Authority::new()?, Authority::new()?);
    let files = files(&first.sign()?, &[])?;
    let flags = ["--tls-cert", &files.flag("cert"), "--tls-key", &files.flag("key")];
    let process = Process::serve(&flags, &[])?.ready()?;
    let address = process.http.strip_prefix("http://").context("an address")?;
    let [old, new] = [&first, &second].map(|root| trusting(root, None));
    let (old, new) = (old?.build()?, new?.build()?);
    rerank(&old, address).await?;
    assert!(rerank(&new, address).await.is_err());

    let next = second.sign()?;
    // The key of another certificate, half a file, no file.
    files.write("cert", &next.cert)?;
    let stays = "not read again: what was read before stays";
    let entry = process.wait_for(stays)?;
    let error = entry["error"].as_str().context("an error")?;
    assert!(error.starts_with("--tls-cert and --tls-key: "), "{error}");
    rerank(&old, address).await?;
    files.write("cert", &next.cert[..100])?;
    assert!(process.wait_for(stays)?["error"].as_str().is_some_and(|e| e.contains("--tls-cert")));
    std::fs::remove_file(files.path("cert"))?;
    process.wait_for(stays)?;
    rerank(&old, address).await?;

    files.write("key", &next.key)?;
    files.write("cert", &next.cert)?;
    process.wait_for("read again")?;
    rerank(&new, address).await?;
    assert!(rerank(&old, address).await.is_err());
    process.terminate()?;
    assert!(process.end()?.0.success());
    Ok(())
}

/// One client that connects and says nothing would keep all others out.
#[tokio::test]
async fn a_slow_handshake_blocks_nobody() -> Result<()> {
    let authority = Authority::new()?;
    let files = files(&authority.sign()?, &[])?;
    let server = server(&files, None).await?;
    let base = server.http();
    let mut slow = Vec::new();
    for first_bytes in [&b""[..], b"\x16", b"\x16\x03\x01\x02\x00\x01\x00"] {
        let mut connection = Connection::open(&base)?;
        connection.send(first_bytes)?;
        slow.push(connection);
    }
    let client = trusting(&authority, None)?.build()?;
    rerank(&client, server.addresses.http).await?;
    for mut connection in slow {
        let closed = tokio::task::spawn_blocking(move || connection.is_closed());
        assert!(closed.await?);
    }
    drop(client);
    let http = reranker::server::Protocol::Http;
    until("every connection is closed", async || server.connections.open(http) == 0).await;
    Ok(())
}

/// What is wrong must be said by the file that it is wrong with, before traffic comes.
#[test]
fn broken_files_are_refused_at_start() -> Result<()> {
    let authority = Authority::new()?;
    let own = authority.sign()?;
    let other = authority.sign()?.key;
    let files = files(&own, &[("other", &other), ("empty", "")])?;
    for (cert, key, ca, code, part) in [
        ("cert", "other", None, 1, "--tls-cert and --tls-key: "),
        ("empty", "key", None, 1, "--tls-cert: no certificate in PEM"),
        ("cert", "empty", None, 1, "--tls-key: no private key in PEM"),
        ("cert", "key", Some("empty"), 1, "--tls-client-ca: no certificate in PEM"),
        ("cert", "key", Some("missing"), 1, "cannot read `"),
    ] {
        let (cert, key) = (files.flag(cert), files.flag(key));
        let mut flags = vec!["serve", "--tls-cert", &cert, "--tls-key", &key];
        let ca = ca.map(|ca| files.flag(ca));
        flags.extend(ca.iter().flat_map(|ca| ["--tls-client-ca", ca]));
        let output = run(&flags);
        let text = stderr(&output);
        assert_eq!(output.status.code(), Some(code), "{text}");
        assert!(text.contains(part), "{part}: {text}");
    }
    let cert = files.flag("cert");
    let output = run(["serve", "--tls-cert", &cert]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("needs --tls-key"));
    Ok(())
}
