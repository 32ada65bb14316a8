//! `reranker fixture`

use super::Failure;
use clap::{Args, ValueEnum};
use reranker_engine::fixture::{self, FixtureOptions};
use std::path::PathBuf;

/// The shape of the checkpoint.
#[derive(Args, Debug)]
pub(super) struct FixtureArgs {
    /// Decoder layers
    #[arg(long, default_value_t = FixtureOptions::default().layers)]
    layers: usize,
    /// Width of the residual stream
    #[arg(long, default_value_t = FixtureOptions::default().hidden)]
    hidden: usize,
    /// Query heads
    #[arg(long, default_value_t = FixtureOptions::default().heads)]
    heads: usize,
    /// Key/value heads; divides the query heads
    #[arg(long, default_value_t = FixtureOptions::default().kv_heads)]
    kv_heads: usize,
    /// Size of a head; even
    #[arg(long, default_value_t = FixtureOptions::default().head_dim)]
    head_dim: usize,
    /// Width of the MLP
    #[arg(long, default_value_t = FixtureOptions::default().intermediate)]
    intermediate: usize,
    /// A head of its own instead of the embedding
    #[arg(long)]
    untied: bool,
    /// Weights files; more than one come with an index
    #[arg(long, default_value_t = FixtureOptions::default().shards)]
    shards: usize,
    /// Type of the weights
    #[arg(long, value_name = "TYPE", default_value = "bf16")]
    dtype: FixtureDtype,
    /// Same seed, same weights
    #[arg(long, default_value_t = FixtureOptions::default().seed)]
    seed: u64,
    /// Where to write config.json, tokenizer.json and the weights; made if it is not there
    #[arg(value_name = "DIR")]
    directory: PathBuf,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum FixtureDtype {
    F32,
    Bf16,
}

pub(super) fn run(args: &FixtureArgs) -> Result<(), Failure> {
    let FixtureArgs { layers, hidden, heads, kv_heads, head_dim, intermediate, shards, .. } = *args;
    let sizes = [
        ("--layers", layers),
        ("--hidden", hidden),
        ("--heads", heads),
        ("--kv-heads", kv_heads),
        ("--head-dim", head_dim),
        ("--intermediate", intermediate),
        ("--shards", shards),
    ];
    if let Some((flag, _)) = sizes.iter().find(|(_, size)| *size == 0) {
        return Err(Failure::Usage(format!("{flag} must be at least 1")));
    }
    if heads % kv_heads != 0 {
        return Err(Failure::Usage(format!(
            "--kv-heads {kv_heads} does not divide --heads {heads}"
        )));
    }
    if head_dim % 2 != 0 {
        return Err(Failure::Usage(format!("--head-dim {head_dim} is odd")));
    }
    let options = FixtureOptions {
        layers,
        hidden,
        heads,
        kv_heads,
        head_dim,
        intermediate,
        tied: !args.untied,
        shards,
        bf16: args.dtype == FixtureDtype::Bf16,
        seed: args.seed,
        ..FixtureOptions::default()
    };
    fixture::write(&args.directory, &options).map_err(|error| {
        Failure::Failed(format!("cannot write to `{}`: {error}", args.directory.display()))
    })
}
