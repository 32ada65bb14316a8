//! Tokens per second and peak memory of the forward on a random checkpoint of the 1.7B shape.
//!
//! `cargo bench -p reranker-engine --bench forward [-- LAYERS]`; 2 layers unless given. Rates are
//! scaled to the 28 layers of zerank-1-small; memory beyond the weights does not depend on layers.

use reranker_engine::fixture::{self, FixtureOptions};
use reranker_engine::{Cuts, Engine, EngineOptions, ModelSpec, Source};
use std::io::Write;
use std::time::Instant;

const LAYERS_OF_THE_MODEL: usize = 28;
const MODEL_BYTES: usize = 3_441_149_952;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let layers = std::env::args().find_map(|argument| argument.parse().ok()).unwrap_or(2);
    let mut out = std::io::stdout().lock();
    let directory = tempfile::tempdir()?;
    let shape = FixtureOptions {
        layers,
        hidden: 2048,
        heads: 16,
        kv_heads: 8,
        head_dim: 128,
        intermediate: 6144,
        ..FixtureOptions::default()
    };
    writeln!(out, "writing a random checkpoint of {layers} layers of the 1.7B shape")?;
    fixture::write(directory.path(), &shape)?;
    let spec = ModelSpec::custom("bench");
    let source = Source::Directory(directory.path().to_owned());
    let options = EngineOptions { max_batch_tokens: Some(1 << 15), ..EngineOptions::default() };
    let engine = Engine::load(&spec, &source, &options, &mut |_| {})?;
    let weights = engine.info().parameters as usize * 2;
    writeln!(
        out,
        "peak memory after loading: {} MB of weights, {} MB in all",
        weights >> 20,
        peak()? >> 20
    )?;

    writeln!(out, "{:>6} {:>6} {:>10} {:>12}", "pairs", "tokens", "tok/s", "tok/s at 28")?;
    for (pairs, words) in [(1, 40), (8, 40), (8, 220), (2, 900), (64, 40)] {
        // All different: equal documents are scored once.
        let documents: Vec<String> =
            (0..pairs).map(|index| format!("{index} ") + &"word ".repeat(words)).collect();
        let request = engine.encode("what is it", &documents, Cuts::default());
        let tokens = request.tokens();
        let start = Instant::now();
        engine.submit(request)?.wait()?;
        let rate = tokens as f64 / start.elapsed().as_secs_f64();
        let scaled = rate * layers as f64 / LAYERS_OF_THE_MODEL as f64;
        writeln!(out, "{pairs:>6} {:>6} {rate:>10.0} {scaled:>12.0}", tokens / pairs)?;
    }

    // One pair of as many tokens as the model takes: four bytes a character, none in the vocabulary.
    let longest = "\u{1f9ff}".repeat(10_000);
    let scores = engine.score("what is it", &[longest])?;
    let beyond = peak()?.saturating_sub(weights);
    let allowed = MODEL_BYTES * 15 / 100 + (200 << 20);
    writeln!(
        out,
        "peak memory beyond the weights: {} MB at a batch of {} tokens; allowed for zerank-1-small: {} MB",
        beyond >> 20,
        scores.pairs[0].tokens,
        allowed >> 20
    )?;
    Ok(())
}

/// The process's largest resident set so far, in bytes.
fn peak() -> Result<usize, Box<dyn std::error::Error>> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).ok_or("no VmHWM")?;
    Ok(line.trim().trim_end_matches(" kB").parse::<usize>()? << 10)
}
