//! What the engine does without a service around it: tokenising, and requests of the demo model.
//!
//! `cargo bench -p reranker-engine --bench throughput -- FILE [SECONDS]`; FILE holds a request a line,
//! `{"query": ..., "documents": [...]}`, as `reranker bench --file` takes. `tests/bench/load.py` runs
//! both on the same file.

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
    let seconds = arguments.get(1).map_or(Ok(10.0), |seconds| seconds.parse())?;
    let requests = BufReader::new(std::fs::File::open(file)?)
        .lines()
        .map(|line| Ok(serde_json::from_str(&line?)?))
        .collect::<Result<Vec<Request>, Box<dyn std::error::Error>>>()?;
    let spec = ModelSpec::find("demo").ok_or("the demo model is inside the library")?;
    let source = spec.source().ok_or("and has a source")?;
    let engine = Engine::load(spec, &source, &EngineOptions::default(), &mut |_| {})?;
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

    let documents = AtomicUsize::new(0);
    let end = Instant::now() + Duration::from_secs_f64(seconds);
    let start = Instant::now();
    std::thread::scope(|scope| {
        for client in 0..CLIENTS {
            let (engine, documents) = (&engine, &documents);
            let mut mine = requests.iter().cycle().skip(client);
            scope.spawn(move || {
                while Instant::now() < end {
                    let request = mine.next().expect("a cycle has no end");
                    let scores = engine.score(&request.query, &request.documents);
                    let pairs = scores.expect("an idle engine takes everything").pairs;
                    documents.fetch_add(pairs.len(), Ordering::Relaxed);
                }
            });
        }
    });
    let rate = documents.into_inner() as f64 / start.elapsed().as_secs_f64();
    writeln!(
        out,
        "engine: {rate:.0} documents/s, batches of {} tokens",
        engine.info().max_batch_tokens
    )?;
    Ok(())
}
