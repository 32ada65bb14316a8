//! `reranker-operator simulate`

use super::print;
use crate::autoscale::policy::Settings;
use crate::autoscale::simulator::{Hardware, read_trace, simulate, svg, table};
use crate::crd::RerankerDeployment;
use crate::validate::validate;
use anyhow::{Context, anyhow};
use clap::Args;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// What to simulate.
#[derive(Args, Debug)]
pub(super) struct SimulateArgs {
    /// Trace of the load: lines of `SECONDS,TOKENS_PER_SECOND`; the last one ends it
    trace: PathBuf,

    /// `RerankerDeployment` in YAML, for its `autoscaling`; without it the defaults
    #[arg(long, value_name = "FILE")]
    object: Option<PathBuf>,

    /// Tokens that a pod computes in a second, as its metric `reranker_tokens_per_second` shows
    #[arg(long, value_name = "TOKENS", default_value_t = 20_000.0)]
    tokens_per_second: f64,

    /// Seconds from a pod's creation until it serves
    #[arg(long, value_name = "SECONDS", default_value_t = 60.0)]
    load_seconds: f64,

    /// Pods that the cluster has devices for
    #[arg(long, value_name = "PODS", default_value_t = 1000)]
    room: i32,

    /// Write a picture to this file too, as SVG
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
}

pub(super) fn run(args: &SimulateArgs) -> anyhow::Result<()> {
    let trace = read(&args.trace)?;
    let trace = read_trace(&trace).map_err(|error| anyhow!("{}: {error}", args.trace.display()))?;
    anyhow::ensure!(args.tokens_per_second > 0.0, "--tokens-per-second must be above 0");
    let object = match &args.object {
        Some(path) => serde_saphyr::from_str(&read(path)?)
            .with_context(|| format!("{} is no object", path.display()))?,
        None => default_object(),
    };
    let sample_seconds = f64::from(object.spec.autoscaling.sample_seconds);
    let reranker = validate(&with_uid(object))?;
    let hardware = Hardware {
        tokens_per_second: args.tokens_per_second,
        load_seconds: args.load_seconds,
        sample_seconds,
        room: args.room,
    };
    let rows = simulate(&Settings::of(&reranker), &hardware, &trace);
    if let Some(path) = &args.svg {
        std::fs::write(path, svg(&rows, &hardware))
            .with_context(|| format!("{} cannot be written", path.display()))?;
    }
    print(&table(&rows, 60.0))
}

fn read(path: &Path) -> anyhow::Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("{} cannot be read", path.display()))
}

fn default_object() -> RerankerDeployment {
    let object: Value = json!({
        "apiVersion": "reranker.dev/v1alpha1",
        "kind": "RerankerDeployment",
        "metadata": {"name": "simulated"},
        "spec": {
            "image": {"repository": "none", "tag": "none"},
            "models": [{"name": "none", "source": {"baked": {}}}],
        },
    });
    serde_json::from_value(object).expect("is an object")
}

/// A file has none yet.
fn with_uid(mut object: RerankerDeployment) -> RerankerDeployment {
    object.metadata.uid.get_or_insert_with(|| "none".to_owned());
    object
}
