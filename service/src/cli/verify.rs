//! `reranker verify`

use super::{Failure, load};
use crate::config::{ComputeArgs, ModelChoice};
use clap::Args;
use reranker_engine::{Engine, Published, ScoreError};
use std::io::{self, Write};

/// What to check.
#[derive(Args, Debug)]
pub(super) struct VerifyArgs {
    /// Model, see `reranker models`; SOURCE is a directory or
    /// `hf:ORGANISATION/REPOSITORY[@REVISION]`
    #[arg(long, env = "RERANKER_MODEL", value_name = "NAME[=SOURCE]", default_value = "demo")]
    model: ModelChoice,

    #[command(flatten)]
    compute: ComputeArgs,
}

pub(super) fn run(args: &VerifyArgs) -> Result<(), Failure> {
    let engine = load(&args.model, &args.compute.options())?;
    let name = &engine.spec().name;
    let mut out = io::stdout().lock();
    let sound = match engine.spec().published {
        Some(published) => check_published(&engine, published, &mut out)?,
        None => check_soundness(&engine, &mut out)?,
    };
    if sound {
        writeln!(out, "{name}: verified")?;
        Ok(())
    } else {
        Err(Failure::Failed(format!("{name}: not verified")))
    }
}

impl From<ScoreError> for Failure {
    fn from(error: ScoreError) -> Self {
        Self::Failed(error.to_string())
    }
}

/// Holds the model against scores that somebody else has published.
fn check_published(
    engine: &Engine,
    published: &Published,
    out: &mut impl Write,
) -> Result<bool, Failure> {
    let documents: Vec<&str> = published.scores.iter().map(|(document, _)| *document).collect();
    let scores = engine.score(published.query, &documents)?;
    writeln!(out, "published: {}", published.origin)?;
    writeln!(out, "tolerance: {}", published.tolerance)?;
    writeln!(out, "query:     {}\n", published.query)?;
    writeln!(out, "expected      got  difference")?;
    let mut sound = true;
    for ((document, expected), pair) in published.scores.iter().zip(&scores.pairs) {
        let got = pair.relevance_score;
        let difference = got - expected;
        let ok = difference.abs() <= published.tolerance;
        sound &= ok;
        let mark = if ok { "" } else { "  TOO FAR" };
        writeln!(out, " {expected:.5}  {got:.5}    {difference:+.5}  {document}{mark}")?;
    }
    writeln!(out)?;
    Ok(sound)
}

const QUERY: &str = "Which planet is known as the Red Planet?";

/// Texts of several lengths and scripts, so that batches are uneven.
const DOCUMENTS: [&str; 8] = [
    "Mars, known for its reddish appearance, is often referred to as the Red Planet.",
    "",
    "4",
    "Saturn, famous for its rings, is sometimes mistaken for the Red Planet.",
    "火星は赤い惑星と呼ばれる。",
    "The quick brown fox jumps over the lazy dog, and the dog, who has seen many foxes in his long \
     life, does not so much as lift his head, for the sun is warm and the grass is soft.",
    "\u{301}combining 🦊 \u{5d0}\u{5d1}",
    "Which planet is known as the Red Planet?",
];

/// Checks what holds for every model: scores are finite, the same every time, and do not depend on
/// what else is in the batch.
fn check_soundness(engine: &Engine, out: &mut impl Write) -> Result<bool, Failure> {
    // Sums are f32 whatever the weights are, and their order does not depend on the batch.
    let tolerance = 1e-6;
    let scores = |documents: &[&str]| -> Result<Vec<f64>, ScoreError> {
        let pairs = engine.score(QUERY, documents)?.pairs;
        Ok(pairs.iter().map(|pair| pair.relevance_score).collect())
    };
    let together = scores(&DOCUMENTS)?;
    let again = scores(&DOCUMENTS)?;
    let mut alone = Vec::new();
    for document in DOCUMENTS {
        alone.extend(scores(&[document])?);
    }
    let mut reversed = DOCUMENTS;
    reversed.reverse();
    let mut reversed = scores(&reversed)?;
    reversed.reverse();

    let finite = together.iter().all(|score| score.is_finite());
    let mut sound = finite;
    writeln!(out, "scores are finite: {}", if finite { "ok" } else { "FAILED" })?;
    for (what, other) in [
        ("the same twice", &again),
        ("the same alone and together", &alone),
        ("the same in reverse order", &reversed),
    ] {
        let difference = largest_difference(&together, other);
        let ok = difference <= tolerance;
        sound &= ok;
        let verdict = if ok { "ok" } else { "FAILED" };
        writeln!(
            out,
            "scores are {what}: {verdict}, largest difference {difference:.1e} (at most {tolerance:.0e})"
        )?;
    }
    Ok(sound)
}

fn largest_difference(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max)
}
