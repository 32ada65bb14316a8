//! Figures of a forward on a card: a random checkpoint of the 1.7B shape against its bare matrix products.
//!
//! `cargo bench --features cuda -p reranker-engine --bench cards [-- LAYERS]` (28 layers unless given), or
//! `make bench-gpu`. Says that it was skipped where there is no card.

use candle_core::{DType, Device as Place, Tensor};
use reranker_engine::fixture::{self, FixtureOptions};
use reranker_engine::{
    Cuts, Device, Dtype, EncodedRequest, Engine, EngineOptions, LoadError, ModelSpec, Source,
};
use std::io::Write;
use std::time::{Duration, Instant};

type Failure = Box<dyn std::error::Error>;

const SHAPE: FixtureOptions = FixtureOptions {
    layers: 28,
    hidden: 2048,
    heads: 16,
    kv_heads: 8,
    head_dim: 128,
    intermediate: 6144,
    vocab: 151_936,
    positions: 32_768,
    tied: true,
    shards: 1,
    bf16: true,
    seed: 0,
};

fn main() -> Result<(), Failure> {
    let layers =
        std::env::args().find_map(|argument| argument.parse().ok()).unwrap_or(SHAPE.layers);
    let mut out = std::io::stdout().lock();
    let directory = tempfile::tempdir()?;
    fixture::write(directory.path(), &FixtureOptions { layers, ..SHAPE })?;
    // Every request in one class, whatever the card makes of it.
    let [max_queue, interactive] = [Duration::from_hours(1); 2];
    let options = EngineOptions {
        device: Device::Cuda(vec![0]),
        dtype: Dtype::Bf16,
        max_queue,
        interactive,
        ..EngineOptions::default()
    };
    let source = Source::Directory(directory.path().to_owned());
    let start = Instant::now();
    let engine = match Engine::load(&ModelSpec::custom("bench"), &source, &options, &mut |_| {}) {
        Err(LoadError::NoDevice { reason, .. }) => {
            writeln!(out, "skipped: {reason}")?;
            return Ok(());
        }
        engine => engine?,
    };
    let info = engine.info();
    writeln!(
        out,
        "{}, {layers} layers, {} tokens a batch, ready in {:.1} s\n",
        info.device,
        info.max_batch_tokens,
        start.elapsed().as_secs_f64()
    )?;
    let ceiling = Ceiling::new(layers)?;
    forwards(&mut out, &engine, &ceiling)?;
    sharing(&mut out, &engine)?;
    requests(&mut out, &engine)
}

/// Tokens per second of a request of equal pairs, against the products alone.
fn forwards(out: &mut dyn Write, engine: &Engine, ceiling: &Ceiling) -> Result<(), Failure> {
    writeln!(out, "| pairs | tokens | tokens/s | products alone | of it |")?;
    writeln!(out, "| ---: | ---: | ---: | ---: | ---: |")?;
    for tokens in [64, 256, 1024] {
        for pairs in [1, 8, 64] {
            let request = || request(engine, "q", pairs, tokens);
            let count = request().tokens();
            let rate = count as f64 / median(9, || time(engine, request()))?.as_secs_f64();
            let batch = count.min(engine.info().max_batch_tokens);
            let bare = batch as f64 / ceiling.seconds(batch)?;
            writeln!(
                out,
                "| {pairs} | {} | {rate:.0} | {bare:.0} | {:.0} % |",
                count / pairs,
                rate / bare * 100.0
            )?;
        }
    }
    Ok(())
}

/// 32 documents of 128 tokens with a query of 100: as one request, and as one each.
fn sharing(out: &mut dyn Write, engine: &Engine) -> Result<(), Failure> {
    let query = "word ".repeat(92);
    let shared = median(9, || time(engine, request(engine, &query, 32, 128)))?;
    let alone = median(9, || {
        let requests: Vec<_> = (0..32)
            .map(|index| {
                let document = format!("{index} ") + &"word ".repeat(122);
                engine.encode(&query, &[document], Cuts::default())
            })
            .collect();
        let start = Instant::now();
        let tickets: Vec<_> =
            requests.into_iter().map(|request| engine.submit(request)).collect::<Result<_, _>>()?;
        for ticket in tickets {
            ticket.wait()?;
        }
        Ok(start.elapsed())
    })?;
    let tokens = request(engine, &query, 32, 128).tokens();
    let unshared = tokens + 31 * 100;
    writeln!(
        out,
        "\nshared query, 32 documents of 128 tokens: {:.2} of the time without; {:.2} of its tokens",
        shared.as_secs_f64() / alone.as_secs_f64(),
        tokens as f64 / unshared as f64
    )?;
    Ok(())
}

/// Requests of 12 KB and 150 KB, one at a time, from text to scores.
fn requests(out: &mut dyn Write, engine: &Engine) -> Result<(), Failure> {
    writeln!(out, "\n| request | p50 | p99 |\n| --- | ---: | ---: |")?;
    for (name, documents) in [("12 KB", 12), ("150 KB", 150)] {
        let mut times = Vec::new();
        for round in 0..100 {
            let texts: Vec<String> = (0..documents)
                .map(|index| format!("{round} {index} ") + &"some words ".repeat(90))
                .collect();
            let start = Instant::now();
            engine.score("what is it about", &texts)?;
            times.push(start.elapsed());
        }
        times.sort();
        let [p50, p99] = [times[49], times[98]].map(|time| time.as_secs_f64() * 1e3);
        writeln!(out, "| {name}, {documents} documents | {p50:.1} ms | {p99:.1} ms |")?;
    }
    Ok(())
}

/// A request of `pairs` different documents, each pair of about `tokens` tokens.
fn request(engine: &Engine, query: &str, pairs: usize, tokens: usize) -> EncodedRequest {
    // Equal documents are scored once. Beside the words a document has its number and the prompt.
    let documents: Vec<String> =
        (0..pairs).map(|index| format!("{index} ") + &"word ".repeat(tokens - 16)).collect();
    engine.encode(query, &documents, Cuts::default())
}

fn time(engine: &Engine, request: EncodedRequest) -> Result<Duration, Failure> {
    let start = Instant::now();
    engine.submit(request)?.wait()?;
    Ok(start.elapsed())
}

fn median(
    runs: usize,
    mut run: impl FnMut() -> Result<Duration, Failure>,
) -> Result<Duration, Failure> {
    let mut times = (0..runs).map(|_| run()).collect::<Result<Vec<_>, _>>()?;
    times.sort();
    Ok(times[runs / 2])
}

/// The matrix products of a forward, and nothing else.
struct Ceiling {
    weights: Vec<Tensor>,
    layers: usize,
    card: Place,
}

impl Ceiling {
    fn new(layers: usize) -> Result<Self, Failure> {
        let card = Place::new_cuda(0)?;
        let (hidden, inner) = (SHAPE.hidden, SHAPE.intermediate);
        let heads = SHAPE.heads * SHAPE.head_dim;
        let merged = heads + 2 * SHAPE.kv_heads * SHAPE.head_dim;
        let shapes = [(merged, hidden), (hidden, heads), (2 * inner, hidden), (hidden, inner)];
        // Random, because a card draws less power on zeros and clocks higher.
        let weights = shapes
            .into_iter()
            .map(|shape| Tensor::randn(0f32, 0.02, shape, &card)?.to_dtype(DType::BF16));
        Ok(Self { weights: weights.collect::<Result<_, _>>()?, layers, card })
    }

    /// Seconds for a batch of `tokens`.
    fn seconds(&self, tokens: usize) -> Result<f64, Failure> {
        let inputs = self.weights.iter().map(|weight| {
            let shape = (tokens, weight.dim(1)?);
            Tensor::randn(0f32, 1.0, shape, &self.card)?.to_dtype(DType::BF16)
        });
        let inputs = inputs.collect::<Result<Vec<_>, _>>()?;
        let time = median(9, || {
            self.card.synchronize()?;
            let start = Instant::now();
            for _ in 0..self.layers {
                for (x, weight) in inputs.iter().zip(&self.weights) {
                    x.matmul(&weight.t()?)?;
                }
            }
            self.card.synchronize()?;
            Ok(start.elapsed())
        })?;
        Ok(time.as_secs_f64())
    }
}
