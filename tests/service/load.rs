//! What the autoscaler and the operator ask of the admin listener.

use anyhow::Result;
use reranker::auth::Principal;
use reranker_engine::LoadEvent;
use reranker_proto::v1::RerankRequest;
use reranker_tests::checkpoint::Checkpoint;
use reranker_tests::process::Process;
use reranker_tests::raw::Connection;
use reranker_tests::scrape::Scrape;
use reranker_tests::server::{Running, random};
use reranker_tests::until;
use serde_json::{Value, json};
use std::cell::RefCell;

async fn load(server: &Running) -> Result<Value> {
    let (status, text) = server.admin("/load").await?;
    assert_eq!(status, 200, "{text}");
    Ok(serde_json::from_str(&text)?)
}

/// An autoscaler would take a server that loads or drains for an idle one and remove another.
#[tokio::test]
async fn the_load_says_whether_the_server_takes_work() -> Result<()> {
    let server = Running::start(Vec::new(), &[]).await?;
    let idle = json!({
        "queued_tokens": 0, "queued_fast_tokens": 0, "queued_slow_tokens": 0, "queued_requests": 0,
        "inflight_tokens": 0, "busy_ratio": 0.0, "backlog_seconds": 0.0, "tokens_per_second": 0.0,
        "ready": false, "draining": false, "loading": null, "models": [],
    });
    assert_eq!(load(&server).await?, idle);
    let download = LoadEvent::Download { repository: "o/m", bytes: 3, total: 9 };
    server.app.note_loading("m", download);
    let loading = json!({"model": "m", "step": "download", "done": 3, "total": 9});
    assert_eq!(load(&server).await?["loading"], loading);
    server.app.serve_models(vec![random("m", 1).await?]);
    let ready = load(&server).await?;
    assert_eq!((&ready["ready"], &ready["draining"]), (&json!(true), &json!(false)));
    assert_eq!(ready["loading"], Value::Null);
    assert_eq!(ready["models"][0]["name"], "m");

    let admission = server.app.admit(None, Principal::anonymous())?;
    server.stop.cancel();
    let stage = server.app.stage();
    until("the server drains", async || *stage.borrow() == reranker::app::Stage::Draining).await;
    let draining = load(&server).await?;
    assert_eq!((&draining["ready"], &draining["draining"]), (&json!(false), &json!(true)));
    drop(admission);
    server.ended().await
}

/// A cluster scales by these figures, and a dashboard is drawn from them.
#[tokio::test]
async fn waiting_and_running_work_is_in_the_load_and_on_the_scrape() -> Result<()> {
    let server = Running::start(vec![random("m", 1).await?], &[]).await?;
    let documents = (0..150).map(|i| format!("{i} {}", "so many words ".repeat(200))).collect();
    let request = RerankRequest { query: "q".into(), documents, ..RerankRequest::default() };
    let mut client = server.grpc().await?;
    let call = tokio::spawn(async move { client.rerank(request).await });
    let busy = RefCell::default();
    until("work waits and runs", async || {
        let now = load(&server).await.unwrap_or_default();
        let works = ["inflight_tokens", "queued_tokens"].map(|key| now[key].as_u64() > Some(0));
        busy.replace(now);
        works == [true; 2]
    })
    .await;
    let busy: Value = busy.take();
    assert_eq!(busy["models"][0]["inflight_tokens"], busy["inflight_tokens"]);
    let tokens = call.await??.get_ref().total_tokens as f64;

    until("nothing waits or runs", async || {
        let scrape = Scrape::of(&server).await;
        let waiting = ["reranker_inflight_tokens", "reranker_queued_tokens"];
        scrape.is_ok_and(|scrape| waiting.iter().all(|name| scrape.sum(name, &[]) == 0.0))
    })
    .await;
    let scrape = Scrape::of(&server).await?;
    assert!(scrape.sum("reranker_batches_total", &[("model", "m")]) >= 2.0);
    // A prefix that documents share runs once a batch.
    let ran = scrape.sum("reranker_batch_tokens_total", &[]);
    assert!(ran > 0.0 && ran <= tokens, "{ran} of {tokens}");
    // A pair over the budget runs alone, so the fill may be over one.
    assert!(scrape.sum("reranker_batch_capacity_tokens_total", &[]) > 0.0);
    assert!(scrape.sum("reranker_busy_seconds_total", &[]) > 0.0);
    assert!(scrape.sum("reranker_tokens_per_second", &[]) > 0.0);
    let after = load(&server).await?;
    assert!(after["busy_ratio"].as_f64() > Some(0.0), "{after}");
    assert_eq!(after["backlog_seconds"], 0.0);
    Ok(())
}

/// Who looks for the reason of a behaviour sees what is in effect, and never a secret.
#[test]
fn the_configuration_in_effect_is_shown() -> Result<()> {
    let checkpoint = Checkpoint::new(1);
    let model = checkpoint.model("m");
    let flags = ["--model", &model, "--max-batch-tokens", "512"];
    let variables = [
        ("RERANKER_SHUTDOWN_GRACE_SECONDS", "7"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://user:hunter2@127.0.0.1:9"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "authorization=hunter2"),
        ("HF_TOKEN", "hunter2"),
    ];
    let process = Process::serve(&flags, &variables)?.ready()?;
    let mut connection = Connection::open(&process.admin)?;
    connection.send(b"GET /debug/config HTTP/1.1\r\nhost: test\r\n\r\n")?;
    let answer = connection.answer()?;
    assert!(!String::from_utf8_lossy(&answer.body).contains("hunter2"));
    let body = answer.json()?;
    let flag = |value: &str, source: &str| json!({"value": value, "source": source});
    assert_eq!(body["flags"]["max-batch-tokens"], flag("512", "command line"));
    assert_eq!(body["flags"]["shutdown-grace-seconds"], flag("7", "environment"));
    assert_eq!(body["flags"]["device"], flag("auto", "default"));
    assert_eq!(body["traces"], "http/protobuf");
    assert_eq!(body["models"][0]["name"], "m");
    assert_eq!(body["models"][0]["device"], "cpu");
    Ok(())
}
