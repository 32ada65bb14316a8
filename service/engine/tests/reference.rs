//! Scores against the published definition, run by `transformers` on random checkpoints of awkward shapes.
//!
//! The golden files are made by `tests/reference/make_reference.py` (`make bless`); the checkpoints come from
//! `fixture::write`, here and there with the options of `tests/reference/checkpoints.json`.

use std::{error::Error, fs, path::Path};

use reranker_engine::{
    Cuts, Device, Dtype, Engine, EngineOptions, LoadError, ModelSpec, PairScore, Source,
    SpecialTokens,
    fixture::{self, FixtureOptions},
};
use serde::{Deserialize, de::DeserializeOwned};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// Largest deviation of an f32 score from the published definition in f32.
const F32_TOLERANCE: f64 = 1e-5;
/// The same on a card, whose products are summed in another order.
const CARD_TOLERANCE: f64 = 1e-3;
/// Spread of the published model's own bf16; a small random checkpoint's own can be larger.
const BF16_TOLERANCE: f64 = 6e-3;
/// Largest influence of other pairs on an f32 score.
const BATCH_TOLERANCE: f64 = 1e-6;
/// Pairs that are scored together where independence of the batch is tested.
const BATCH: usize = 64;

#[derive(Deserialize)]
struct Checkpoint {
    name: String,
    seed: u64,
    layers: usize,
    hidden: usize,
    heads: usize,
    kv_heads: usize,
    head_dim: usize,
    intermediate: usize,
    untied: bool,
    shards: usize,
    dtype: String,
}

#[derive(Deserialize)]
struct Group {
    pairs: Vec<(Text, Text)>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Text {
    Written(String),
    Repeated {
        repeat: String,
        times: usize,
        #[serde(default)]
        then: String,
    },
}

impl Text {
    fn expand(self) -> String {
        match self {
            Self::Written(text) => text,
            Self::Repeated { repeat, times, then } => repeat.repeat(times) + &then,
        }
    }
}

/// One golden file: values for all pairs in the reading `plain`, and `parse` where it differs.
#[derive(Deserialize)]
struct Golden {
    crc32: u32,
    tokens: Vec<usize>,
    f32: Vec<f64>,
    bf16_spread: f64,
    parse: Parsed,
}

#[derive(Deserialize)]
struct Parsed {
    pairs: Vec<usize>,
    tokens: Vec<usize>,
    f32: Vec<f64>,
}

/// A checkpoint on disk with its golden values.
struct Case {
    name: String,
    directory: tempfile::TempDir,
    golden: Golden,
}

fn load(directory: &Path, dtype: Dtype, special_tokens: SpecialTokens) -> Result<Engine> {
    Ok(load_on(Device::Cpu, directory, dtype, special_tokens)?)
}

fn load_on(
    device: Device,
    directory: &Path,
    dtype: Dtype,
    special_tokens: SpecialTokens,
) -> std::result::Result<Engine, LoadError> {
    let source = Source::Directory(directory.to_path_buf());
    let options = EngineOptions { device, dtype, special_tokens, ..EngineOptions::default() };
    Engine::load(&ModelSpec::custom("reference"), &source, &options, &mut |_| {})
}

fn read<T: DeserializeOwned>(path: &str) -> Result<T> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests").join(path);
    let name = path.display().to_string();
    let text = fs::read(path).map_err(|error| format!("{name}: {error}"))?;
    serde_json::from_slice(&text).map_err(|error| format!("{name}: {error}").into())
}

fn pairs() -> Result<Vec<(String, String)>> {
    let groups: Vec<Group> = read("reference/texts.json")?;
    let pairs = groups.into_iter().flat_map(|group| group.pairs);
    Ok(pairs.map(|(query, document)| (query.expand(), document.expand())).collect())
}

fn cases() -> Result<Vec<Case>> {
    let checkpoints: Vec<Checkpoint> = read("reference/checkpoints.json")?;
    checkpoints.into_iter().map(write_case).collect()
}

fn write_case(checkpoint: Checkpoint) -> Result<Case> {
    let Checkpoint {
        name,
        seed,
        layers,
        hidden,
        heads,
        kv_heads,
        head_dim,
        intermediate,
        untied,
        shards,
        dtype,
    } = checkpoint;
    let golden: Golden = read(&format!("golden/scores-{name}.json"))?;
    let directory = tempfile::tempdir()?;
    let options = FixtureOptions {
        seed,
        layers,
        hidden,
        heads,
        kv_heads,
        head_dim,
        intermediate,
        tied: !untied,
        shards,
        bf16: dtype == "bf16",
        ..FixtureOptions::default()
    };
    fixture::write(directory.path(), &options)?;
    assert!(
        checksum(directory.path())? == golden.crc32,
        "`{name}`: the fixture's bytes are not those of the golden scores; run `make bless`"
    );
    Ok(Case { name, directory, golden })
}

/// CRC-32 over the weight files and the tokenizer, by name.
fn checksum(directory: &Path) -> Result<u32> {
    let mut paths =
        fs::read_dir(directory)?.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
    paths.retain(|path| {
        path.ends_with("tokenizer.json") || path.extension().is_some_and(|end| end == "safetensors")
    });
    paths.sort();
    let mut crc = flate2::Crc::new();
    for path in paths {
        crc.update(&fs::read(path)?);
    }
    Ok(crc.sum())
}

fn score_alone(engine: &Engine, query: &str, document: &str) -> Result<PairScore> {
    let mut scores = engine.score(query, &[document])?;
    Ok(scores.pairs.pop().ok_or("one document has one score")?)
}

fn max_deviation(ours: &[f64], golden: &[f64]) -> f64 {
    ours.iter().zip(golden).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max)
}

/// Number of score pairs that differ by more than `bound` in `golden` and stand in the other order in `ours`.
fn inversions(ours: &[f64], golden: &[f64], bound: f64) -> usize {
    let above = |i: usize| {
        (0..golden.len()).filter(move |&j| golden[i] - golden[j] > bound && ours[i] <= ours[j])
    };
    (0..golden.len()).map(|i| above(i).count()).sum()
}

/// Scores `pairs` one by one in one data type and reading; returns the scores after comparing the token counts.
fn score_each<'a>(
    case: &Case,
    dtype: Dtype,
    reading: SpecialTokens,
    pairs: impl Iterator<Item = &'a (String, String)>,
    tokens: &[usize],
) -> Result<Vec<f64>> {
    let engine = load(case.directory.path(), dtype, reading)?;
    let scores = pairs
        .map(|(query, document)| score_alone(&engine, query, document))
        .collect::<Result<Vec<_>>>()?;
    let counts: Vec<usize> = scores.iter().map(|score| score.tokens).collect();
    assert!(counts == tokens, "`{}`: token counts differ from the tokenizer's", case.name);
    assert!(scores.iter().all(|score| !score.truncated), "`{}`: a pair was truncated", case.name);
    Ok(scores.iter().map(|score| score.relevance_score).collect())
}

/// If this fails, users get other scores than the published model's.
#[test]
fn scores_match_the_published_definition() -> Result<()> {
    let pairs = pairs()?;
    let mut failures = Vec::new();
    for case in cases()? {
        let Golden { tokens, f32: golden, bf16_spread, parse, .. } = &case.golden;
        let special = || parse.pairs.iter().map(|&index| &pairs[index]);
        let bound = BF16_TOLERANCE.max(1.25 * bf16_spread);

        let ours = score_each(&case, Dtype::F32, SpecialTokens::Plain, pairs.iter(), tokens)?;
        let exact = max_deviation(&ours, golden);
        let ours = score_each(&case, Dtype::F32, SpecialTokens::Parse, special(), &parse.tokens)?;
        let parsed = max_deviation(&ours, &parse.f32);
        let ours = score_each(&case, Dtype::Bf16, SpecialTokens::Plain, pairs.iter(), tokens)?;
        let rounded = max_deviation(&ours, golden);
        let inverted = inversions(&ours, golden, bound);
        let line = format!(
            "{:>16}: f32 {exact:.1e} (parsed {parsed:.1e}), bf16 {rounded:.4} of {bound:.4} (transformers {bf16_spread:.4}), {inverted} inverted",
            case.name
        );
        eprintln!("{line}");
        if exact.max(parsed) > F32_TOLERANCE || rounded > bound || inverted > 0 {
            failures.push(line);
        }
    }
    assert!(
        failures.is_empty(),
        "{} pairs; out of tolerance:\n{}",
        pairs.len(),
        failures.join("\n")
    );
    Ok(())
}

/// If this fails, a server with a card gives other scores than the published model. Pairs run together, as
/// they do under load.
#[test]
fn scores_on_a_card_match_the_published_definition() -> Result<()> {
    let pairs = pairs()?;
    let mut failures = Vec::new();
    for case in cases()? {
        let Golden { f32: golden, bf16_spread, .. } = &case.golden;
        let rounded = BF16_TOLERANCE.max(1.25 * bf16_spread);
        for (dtype, bound) in [(Dtype::F32, CARD_TOLERANCE), (Dtype::Bf16, rounded)] {
            let card = Device::Cuda(vec![0]);
            let engine = match load_on(card, case.directory.path(), dtype, SpecialTokens::Plain) {
                Err(error @ LoadError::NoDevice { .. }) => {
                    eprintln!("skipped: {error}");
                    return Ok(());
                }
                engine => engine?,
            };
            let submit = |(query, document): &(String, String)| {
                engine.submit(engine.encode(query, &[document], Cuts::default()))
            };
            let tickets = pairs.iter().map(submit).collect::<std::result::Result<Vec<_>, _>>()?;
            let ours = tickets
                .into_iter()
                .map(|ticket| Ok(ticket.wait()?.pairs[0].relevance_score))
                .collect::<Result<Vec<f64>>>()?;
            let (found, inverted) =
                (max_deviation(&ours, golden), inversions(&ours, golden, bound));
            let line = format!(
                "{:>16}: {dtype} {found:.1e} of {bound:.1e}, {inverted} inverted",
                case.name
            );
            eprintln!("{line}");
            if found > bound || inverted > 0 {
                failures.push(line);
            }
        }
    }
    assert!(failures.is_empty(), "out of tolerance:\n{}", failures.join("\n"));
    Ok(())
}

/// If this fails, `--dtype q8` changes what users see first by more than the documentation says.
#[test]
fn the_order_of_documents_is_kept_by_q8() -> Result<()> {
    /// Of the pairs of scores that differ by more than 0.01.
    const KEPT: f64 = 0.99;
    let mut pairs = pairs()?;
    pairs.retain(|(query, document)| query.len() + document.len() < 3_000);
    let documents: Vec<&str> = pairs.iter().map(|(_, document)| document.as_str()).collect();
    let spec = ModelSpec::find("demo").ok_or("the demo model is inside the library")?;
    let source = spec.source().ok_or("and has a source")?;
    let [exact, ours] = [Dtype::F32, Dtype::Q8].map(|dtype| -> Result<Vec<Vec<f64>>> {
        let options = EngineOptions { dtype, ..EngineOptions::default() };
        let engine = Engine::load(spec, &source, &options, &mut |_| {})?;
        let queries = pairs.iter().step_by(50);
        queries
            .map(|(query, _)| {
                let scores = engine.score(query, &documents)?;
                Ok(scores.pairs.iter().map(|score| score.relevance_score).collect())
            })
            .collect()
    });
    let (exact, ours) = (exact?, ours?);
    let (mut compared, mut inverted, mut deviation) = (0, 0, 0.0f64);
    for (exact, ours) in exact.iter().zip(&ours) {
        inverted += inversions(ours, exact, 0.01);
        compared += inversions(&vec![0.0; exact.len()], exact, 0.01);
        deviation = deviation.max(max_deviation(ours, exact));
    }
    let kept = 1.0 - inverted as f64 / compared as f64;
    eprintln!("q8, demo model: {kept:.5} of {compared} orders kept, scores within {deviation:.4}");
    assert!(kept >= KEPT, "only {kept:.4} of {compared} orders are kept");
    Ok(())
}

/// If this fails, a score depends on what other users send at the same time, or on the other
/// documents of a request.
#[test]
fn scores_do_not_depend_on_the_batch() -> Result<()> {
    let mut pairs = pairs()?;
    pairs.retain(|(query, document)| query.len() + document.len() < 3_000);
    let documents: Vec<&str> = pairs.iter().map(|(_, document)| document.as_str()).collect();
    let mut failures = Vec::new();
    for case in cases()? {
        let engine = load(case.directory.path(), Dtype::F32, SpecialTokens::Plain)?;
        let deviation = |query: &str, document: &str, together: &PairScore| -> Result<f64> {
            let alone = score_alone(&engine, query, document)?;
            Ok((alone.relevance_score - together.relevance_score).abs())
        };

        // Other requests at the same time, each with its own query.
        let mut others: f64 = 0.0;
        for batch in pairs.chunks(BATCH) {
            let submit = |(query, document): &(String, String)| {
                engine.submit(engine.encode(query, &[document], Cuts::default()))
            };
            let tickets = batch.iter().map(submit).collect::<std::result::Result<Vec<_>, _>>()?;
            for ((query, document), ticket) in batch.iter().zip(tickets) {
                others = others.max(deviation(query, document, &ticket.wait()?.pairs[0])?);
            }
        }

        // Other documents of the same request: the query's prefix is shared.
        let mut shared: f64 = 0.0;
        for (documents, (query, _)) in documents.chunks(BATCH).zip(&pairs) {
            let scores = engine.score(query, documents)?;
            for (document, together) in documents.iter().zip(&scores.pairs) {
                shared = shared.max(deviation(query, document, together)?);
            }
        }

        let line = format!(
            "{:>16}: with {BATCH} other requests {others:.1e}, with a shared prefix {shared:.1e}",
            case.name
        );
        eprintln!("{line}");
        if others.max(shared) > BATCH_TOLERANCE {
            failures.push(line);
        }
    }
    assert!(failures.is_empty(), "scores moved:\n{}", failures.join("\n"));
    Ok(())
}
