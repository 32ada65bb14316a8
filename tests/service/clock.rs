//! Clocks that lie to the real binary: a time of day that jumps, which nothing but what shows it may notice;
//! and none at all, which ends the worker.

use anyhow::{Context, Result, ensure};
use reqwest::{Certificate, Client, Response};
use reranker_tests::certificates::{Authority, Files};
use reranker_tests::checkpoint::Checkpoint;
use reranker_tests::process::Process;
use reranker_tests::raw::Connection;
use reranker_tests::scrape::Scrape;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::process::Command;
use std::time::{Duration, Instant};
use tokio_util::task::AbortOnDropHandle;

const HOUR: i64 = 3_600;
/// How far the time of day is off, one after the other.
const SHIFTS: [i64; 5] = [3 * HOUR, -5 * HOUR, 0, 24 * 365 * HOUR, -24 * 365 * HOUR];

/// Clocks of a process that lie.
struct FalseClock {
    library: String,
    path: String,
    lies: File,
}

impl FalseClock {
    fn new(files: &Files) -> Result<Self> {
        let (source, library) = (files.flag("false_clock.c"), files.flag("false_clock.so"));
        files.write("false_clock.c", include_str!("false_clock.c"))?;
        let compiler =
            Command::new("cc").args(["-shared", "-fPIC", "-o", &library, &source]).status();
        ensure!(compiler.context("cc, which also links this test")?.success());
        let lies = File::create_new(files.path("lies"))?;
        lies.write_all_at(&[0; 16], 0)?;
        Ok(Self { library, path: files.flag("lies"), lies })
    }

    fn variables(&self) -> [(&str, &str); 2] {
        [("LD_PRELOAD", &self.library), ("FALSE_CLOCK", &self.path)]
    }

    /// Makes the time of day jump from now on.
    fn jump(&self) -> Result<AbortOnDropHandle<std::io::Result<()>>> {
        let lies = self.lies.try_clone()?;
        Ok(AbortOnDropHandle::new(tokio::spawn(async move {
            for seconds in SHIFTS.into_iter().cycle() {
                lies.write_all_at(&seconds.to_ne_bytes(), 0)?;
                tokio::time::sleep(Duration::from_millis(3)).await;
            }
            Ok(())
        })))
    }

    /// Makes the worker threads panic, outside of any batch.
    fn stop_workers(&self) -> Result<()> {
        Ok(self.lies.write_all_at(&1_i64.to_ne_bytes(), 8)?)
    }
}

/// Who trusts this authority. Every request has a connection of its own.
fn trusting(authority: &Authority) -> Result<Client> {
    let root = Certificate::from_pem(authority.cert().as_bytes())?;
    Ok(Client::builder().tls_certs_only([root]).pool_max_idle_per_host(0).build()?)
}

async fn post(
    client: &Client,
    base: &str,
    path: &str,
    key: &str,
    body: &Value,
) -> Result<Response> {
    let url = base.replace("http:", "https:") + path;
    let request = client.post(url).bearer_auth(key).header("x-stainless-timeout", "100");
    Ok(request.body(body.to_string()).send().await?)
}

/// A virtual machine that wakes up, or a clock that is set, would end waits, fill quotas, keep
/// certificates from being read again, or put hours into the metrics.
#[tokio::test(flavor = "multi_thread")]
async fn a_time_of_day_that_jumps_disturbs_nothing() -> Result<()> {
    let start = Instant::now();
    let (first, second) = (Authority::new()?, Authority::new()?);
    let own = first.sign()?;
    let files = Files::new(&[("cert", &own.cert), ("key", &own.key), ("keys", "a\nb\n")])?;
    let clock = FalseClock::new(&files)?;
    let _jumping = clock.jump()?;
    let checkpoint = Checkpoint::new(1);
    let (model, cert, key) = (checkpoint.model("m"), files.flag("cert"), files.flag("key"));
    let keys = files.flag("keys");
    let flags = [
        ["--model", &model],
        ["--tls-cert", &cert],
        ["--tls-key", &key],
        ["--api-keys-file", &keys],
        ["--slow-requests-per-minute", "1"],
        // The machine may be slow.
        ["--interactive-seconds", "600"],
        ["--max-queue-seconds", "600"],
    ];
    let process = Process::serve(flags.as_flattened(), &clock.variables())?.ready()?;
    let (client, base) = (trusting(&first)?, &process.http);

    // The one answer that shows the time of day says that it jumps.
    let pair = json!({"text_1": "q", "text_2": "d"});
    let mut hours = BTreeSet::new();
    while hours.len() < SHIFTS.len() {
        let answer = post(&client, base, "/score", "a", &pair).await?.bytes().await?;
        let created = serde_json::from_slice::<Value>(&answer)?["created"].as_i64();
        hours.insert(created.context("a time")? / HOUR);
        ensure!(start.elapsed() < reranker_tests::LIMIT, "only these hours: {hours:?}");
    }

    let documents: Vec<String> =
        (0..300).map(|i| format!("{i} {}", "so many words ".repeat(100))).collect();
    let long = json!({"query": "q", "documents": documents, "latency": "fast"});
    let answer = post(&client, base, "/v1/models/rerank", "a", &long).await?;
    assert_eq!(answer.status(), 200, "{}", answer.text().await?);

    let slow = json!({"query": "q", "documents": ["d"], "latency": "slow"});
    assert_eq!(post(&client, base, "/v1/models/rerank", "b", &slow).await?.status(), 200);
    for _ in 0..2 * SHIFTS.len() {
        let refused = post(&client, base, "/v1/models/rerank", "b", &slow).await?;
        assert_eq!(refused.status(), 429);
        let seconds: u64 = refused.headers()["retry-after"].to_str()?.parse()?;
        assert!((1..=60).contains(&seconds), "{seconds}");
    }

    let next = second.sign()?;
    files.write("key", &next.key)?;
    files.write("cert", &next.cert)?;
    process.wait_for("read again")?;
    let client = trusting(&second)?;
    assert_eq!(post(&client, base, "/score", "a", &pair).await?.status(), 200);

    let url = process.admin.replace("http:", "https:") + "/metrics";
    let scrape = Scrape::parse(&client.get(url).send().await?.text().await?)?;
    let elapsed = start.elapsed().as_secs_f64();
    for name in
        ["request_duration", "queue", "inference"].map(|name| format!("reranker_{name}_seconds"))
    {
        let sum = scrape.sum(&format!("{name}_sum"), &[]);
        let count = scrape.sum(&format!("{name}_count"), &[]);
        assert!(count > 0.0 && sum >= 0.0 && sum <= count * elapsed, "{name}: {sum} s of {count}");
    }
    let busy = scrape.sum("reranker_busy_seconds_total", &[]);
    assert!(busy > 0.0 && busy <= elapsed, "{busy} s of {elapsed}");
    process.terminate()?;
    assert!(process.end()?.0.success());
    Ok(())
}

/// A process without its worker takes requests and answers none: only a restart helps, so it must end by
/// itself and say why.
#[test]
fn a_worker_that_is_lost_ends_the_process() -> Result<()> {
    let files = Files::new(&[])?;
    let clock = FalseClock::new(&files)?;
    let checkpoint = Checkpoint::new(1);
    let flags = ["--model", &checkpoint.model("m")];
    let process = Process::serve(&flags, &clock.variables())?.ready()?;
    let body = r#"{"query":"q","documents":["d"]}"#;
    let mut connection = Connection::open(&process.http)?;
    assert_eq!(connection.post_json("/v1/models/rerank", &[], body)?.status, 200);
    clock.stop_workers()?;
    let lost = connection.post_json("/v1/models/rerank", &[], body)?;
    assert!([500, 503].contains(&lost.status), "{}", lost.status);
    let (status, log) = process.end()?;
    assert_eq!(status.code(), Some(1), "{log}");
    assert!(log.contains("worker"), "{log}");
    Ok(())
}
