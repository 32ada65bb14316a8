//! What the engine does without a service around it: tokenising, and requests of the demo model.
//!
//! `cargo bench -p reranker-engine --bench throughput -- FILE [REQUESTS [MAX_BATCH_TOKENS]]`; FILE holds
//! a request a line, `{"query": ..., "documents": [...]}`, as `reranker bench --file` takes.
//! `tests/bench/load.py` runs both on the same file. CPU time needs Linux (/proc).

use reranker_engine::{Cuts, Engine, EngineOptions, ModelSpec};
use serde::Deserialize;
use std::io::{BufRead, BufReader, Write};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Requests at a time: enough to fill batches.
const CLIENTS: usize = 8;

#[derive(Deserialize)]
struct Request {
    query: String,
    documents: Vec<String>,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> =
        std::env::args().skip(1).filter(|argument| !argument.starts_with("--")).collect();
    let file = arguments.first().ok_or("give a file of requests")?;
    let count = arguments.get(1).map_or(Ok(200), |count| count.parse())?;
    let max_batch_tokens = arguments.get(2).map(|tokens| tokens.parse()).transpose()?;
    let requests = BufReader::new(std::fs::File::open(file)?)
        .lines()
        .map(|line| Ok(serde_json::from_str(&line?)?))
        .collect::<Result<Vec<Request>, Box<dyn std::error::Error>>>()?;
    let spec = ModelSpec::find("demo").ok_or("the demo model is inside the library")?;
    let source = spec.source().ok_or("and has a source")?;
    // Every request in one class, whatever the machine makes of it.
    let [max_queue, interactive] = [Duration::from_hours(1); 2];
    let options =
        EngineOptions { max_batch_tokens, max_queue, interactive, ..EngineOptions::default() };
    let engine = Engine::load(spec, &source, &options, &mut |_| {})?;
    let mut out = std::io::stdout().lock();

    let (mut bytes, mut elapsed) = (0, Duration::ZERO);
    for request in requests.iter().cycle().take(2_000) {
        let start = Instant::now();
        let tokens = engine.encode(&request.query, &request.documents, Cuts::default()).tokens();
        elapsed += start.elapsed();
        assert!(tokens > 0, "a request has tokens");
        bytes += request.documents.iter().map(String::len).sum::<usize>();
        if elapsed > Duration::from_secs(3) {
            break;
        }
    }
    let rate = bytes as f64 / elapsed.as_secs_f64();
    writeln!(
        out,
        "tokenising: {:.1} MB/s, 150 KB in {:.1} ms",
        rate / 1e6,
        150_000.0 / rate * 1e3
    )?;

    let (next, documents) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let (start, cpu, stats) = (Instant::now(), cpu_seconds(), engine.stats());
    std::thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| {
                loop {
                    let request = next.fetch_add(1, Ordering::Relaxed);
                    if request >= count {
                        return;
                    }
                    let Request { query, documents: texts } = &requests[request % requests.len()];
                    let scores = engine.score(query, texts).expect("an idle engine takes it");
                    documents.fetch_add(scores.pairs.len(), Ordering::Relaxed);
                }
            });
        }
    });
    let (elapsed, cpu) = (start.elapsed().as_secs_f64(), cpu_seconds() - cpu);
    let documents = documents.into_inner() as f64;
    let run = engine.stats();
    let batches = (run.batches - stats.batches) as f64;
    let tokens = (run.batch_tokens - stats.batch_tokens) as f64;
    writeln!(out, "documents per second: {:.1}", documents / elapsed)?;
    writeln!(out, "CPU ms per document: {:.4}", cpu / documents * 1e3)?;
    let busy = run.busy.as_secs_f64() - stats.busy.as_secs_f64();
    writeln!(out, "device busy: {:.4}", busy / elapsed)?;
    writeln!(out, "batch fill: {:.4}", tokens / batches / run.max_batch_tokens as f64)?;
    Ok(())
}

/// What this process has computed so far, in user and kernel mode.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // After the name, which may hold anything: state is the first field, the two times are the 12th
    // and 13th, in hundredths of a second.
    let fields = stat.rsplit(") ").next().unwrap_or_default().split(' ').skip(11).take(2);
    fields.filter_map(|ticks| ticks.parse::<f64>().ok()).sum::<f64>() / 100.0
}
