//! `reranker bench` against a server in this process.

use anyhow::{Context, Result};
use reranker_tests::process::{command, stderr};
use reranker_tests::server::{Running, random};
use serde_json::{Value, json};
use std::process::Output;

/// Both protocols: the name and the address of a server.
fn protocols(server: &Running) -> [(&'static str, String); 2] {
    [("http", server.http()), ("grpc", format!("http://{}", server.addresses.grpc))]
}

/// Runs `bench` without a warm-up, so that every request counts, and without certificates of authorities, as in a small
/// image.
async fn bench(protocol: &str, url: &str, flags: &str) -> Result<Output> {
    let flags: Vec<String> =
        format!("bench --protocol {protocol} --url {url} --warmup-seconds 0 {flags}")
            .split_whitespace()
            .map(str::to_owned)
            .collect();
    let mut bench = command(flags);
    bench.env("SSL_CERT_FILE", "/dev/null").env("SSL_CERT_DIR", "/dev/null");
    Ok(tokio::task::spawn_blocking(move || bench.output()).await??)
}

fn report(output: &Output) -> Result<Value> {
    serde_json::from_slice(&output.stdout).with_context(|| stderr(output))
}

/// Whoever sizes a deployment multiplies these figures: a request counted twice or tokens made up
/// give the wrong number of machines.
#[tokio::test]
async fn requests_and_tokens_are_counted_as_the_server_does() -> Result<()> {
    let server = Running::start(vec![random("m", 1).await?], &[]).await?;
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("requests.jsonl");
    let requests = [
        json!({"query": "What is 2+2?", "documents": ["4", "The answer is definitely 1 million."]}),
        json!({"query": "q", "documents": ["one", "two", "three"], "top_n": 1, "latency": "slow"}),
    ];
    std::fs::write(&file, format!("{}\n{}\n", requests[0], requests[1]))?;
    let mut tokens = 0;
    for request in &requests {
        let answer = server.post("/v1/models/rerank", request).await?;
        tokens += 25 * answer.body["total_tokens"].as_u64().context("tokens")?;
    }
    for (protocol, url) in protocols(&server) {
        for pace in ["--clients 3", "--rate 200"] {
            let flags = format!("--json --requests 50 --file {} --model m {pace}", file.display());
            let output = bench(protocol, &url, &flags).await?;
            assert!(output.status.success(), "{}", stderr(&output));
            let report = report(&output)?;
            let none = json!({"sent": 50, "answered": 50, "refused": 0, "timeouts": 0, "errors": 0,
                "abandoned": 0, "not_sent": 0});
            assert_eq!(report["requests"], none, "{protocol} {pace}");
            assert_eq!(report["total_tokens"], tokens, "{protocol} {pace}");
            assert_eq!(report["total_documents"], 125, "{protocol} {pace}");
            for times in ["latency_ms", "service_time_ms"] {
                let at = |name: &str| report[times][name].as_f64().context("a time");
                let ordered = [at("p50")?, at("p90")?, at("p99")?, at("p99_9")?, at("max")?];
                assert!(ordered[0] > 0.0 && ordered.is_sorted(), "{protocol} {pace}: {report}");
            }
            assert_eq!(report["refused_latency_ms"], Value::Null);
            let rate = |name: &str| report[name].as_f64().context("a rate");
            let documents = rate("documents_per_second")? / rate("requests_per_second")?;
            assert!((documents - 2.5).abs() < 1e-6, "{report}");
        }
    }
    Ok(())
}

/// Refusals that pass for answers make an overloaded server look fast; and a script must not go on
/// with figures of nothing.
#[tokio::test]
async fn refusals_are_counted_by_status() -> Result<()> {
    let server = Running::start(Vec::new(), &[]).await?;
    for ((protocol, url), status) in protocols(&server).into_iter().zip(["503", "UNAVAILABLE"]) {
        let output = bench(protocol, &url, "--json --requests 50 --clients 2").await?;
        assert_eq!(output.status.code(), Some(1));
        assert!(stderr(&output).contains("error: nothing was answered"), "{}", stderr(&output));
        let report = report(&output)?;
        assert_eq!(report["requests"]["sent"], 50);
        assert_eq!(report["requests"]["refused"], 50);
        assert_eq!(report["refused_by_status"], json!({status: 50}), "{protocol}");
        assert!(report["refused_latency_ms"]["p99"].as_f64().is_some_and(|p99| p99 > 0.0));
        assert_eq!(report["latency_ms"], Value::Null);
    }
    Ok(())
}

/// A server that is gone or silent is neither an answer nor a refusal, and the run must end.
#[tokio::test]
async fn silence_and_absence_are_told_apart() -> Result<()> {
    // Accepts connections, by the backlog of the system, and never says anything.
    let silent = std::net::TcpListener::bind("127.0.0.1:0")?;
    let gone = std::net::TcpListener::bind("127.0.0.1:0")?;
    let (silent_url, gone_url) =
        (format!("http://{}", silent.local_addr()?), format!("http://{}", gone.local_addr()?));
    drop(gone);
    for protocol in ["http", "grpc"] {
        let flags = "--json --requests 6 --rate 100 --timeout-seconds 1.5 --max-outstanding 4";
        let requests = report(&bench(protocol, &silent_url, flags).await?)?["requests"].clone();
        assert_eq!(requests["timeouts"], 4, "{protocol}: {requests}");
        assert_eq!(requests["not_sent"], 2, "{protocol}: {requests}");

        let output = bench(protocol, &gone_url, "--requests 3 --clients 1").await?;
        let table = String::from_utf8_lossy(&output.stdout).into_owned();
        let errors = table.lines().find(|line| line.starts_with("errors ")).context("a row")?;
        assert!(errors.contains("refused (os error") && errors.ends_with(": 3"), "{table}");
    }
    Ok(())
}

/// People stop a run when they have seen enough, and want what it has seen.
#[tokio::test]
async fn an_interrupted_run_reports() -> Result<()> {
    let server = Running::start(vec![random("m", 1).await?], &[]).await?;
    for (protocol, url) in protocols(&server) {
        let args = ["bench", "--protocol", protocol, "--url", &url, "--warmup-seconds", "0"];
        let mut run = command(args);
        run.args(["--json", "--clients", "1", "--duration-seconds", "3600", "--documents", "1"]);
        let run = run.stdout(std::process::Stdio::piped()).spawn()?;
        let pid = run.id().to_string();
        // An answered request shows that the run is under way.
        reranker_tests::until("a request to be answered", async || server.app.in_flight() > 0)
            .await;
        std::process::Command::new("kill").args(["-INT", &pid]).status()?;
        let output = tokio::task::spawn_blocking(move || run.wait_with_output()).await??;
        let report = report(&output)?;
        let requests = &report["requests"];
        let count = |name: &str| requests[name].as_u64().context("a count");
        assert_eq!(count("sent")?, count("answered")? + count("abandoned")?, "{requests}");
        assert!(count("abandoned")? <= 1, "{requests}");
    }
    Ok(())
}
