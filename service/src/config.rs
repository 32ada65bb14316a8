//! What `serve` and the one-shot commands can be told, and what contradicts itself.
//!
//! A flag's documentation is `--help` and the manual; every flag is an environment variable too.

mod collections;
mod effective;
mod limits;
mod mock;
mod models;
mod security;
#[cfg(test)]
mod tests;
mod traces;

use crate::app::{Alias, RequestLimits};
use crate::rate_limit::Rates;
use crate::server::{Addresses, Edge};
use clap::{Args, ValueEnum};
use limits::LimitsArgs;
pub use limits::MAX_DOCUMENT_BYTES;
use reranker_engine::{Device, Dtype, EngineOptions, MAX_BATCH_TOKENS, SpecialTokens};
use security::SecurityArgs;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::time::Duration;

pub use collections::{CollectionsArgs, CollectionsConfig, CollectionsStore};
pub use effective::effective;
pub use mock::MockArgs;
pub use models::ModelChoice;
pub use traces::{TraceProtocol, Traces};

/// How a model runs.
#[derive(Args, Clone, Debug)]
pub struct ComputeArgs {
    /// Device that computes: `cpu`; `cuda` (all NVIDIA cards that the process sees) or `cuda:0,1` (these), in
    /// a build with the feature `cuda`; `auto` (cards if there are any that this build supports, else the CPU)
    #[arg(long, env = "RERANKER_DEVICE", default_value_t = Device::Auto)]
    pub device: Device,

    /// Type of the weights in memory: `auto` (as in the file), `f32`, `bf16`, or `q8` (8 bits: the fastest
    /// and smallest; scores differ a little, see tests/bench/README.md)
    #[arg(long, env = "RERANKER_DTYPE", default_value_t = Dtype::Auto)]
    pub dtype: Dtype,

    /// What a special token spelled in a query or document means: `plain` (text like any other, so a
    /// document cannot write itself a better score) or `parse` (the token, as the published code
    /// does)
    #[arg(long, env = "RERANKER_SPECIAL_TOKENS", default_value_t = SpecialTokens::Plain)]
    pub special_tokens: SpecialTokens,

    /// Most tokens in one run of the model, up to 32768; a longer pair runs alone. More is faster for
    /// large requests, takes more memory and makes others wait longer. Found at start, for runs of
    /// about 50 ms but of at least 512 tokens, unless given
    #[arg(long, env = "RERANKER_MAX_BATCH_TOKENS", value_name = "TOKENS",
          value_parser = batch_tokens)]
    pub max_batch_tokens: Option<NonZeroUsize>,
}

fn batch_tokens(text: &str) -> Result<NonZeroUsize, String> {
    text.parse()
        .ok()
        .filter(|tokens: &NonZeroUsize| tokens.get() <= MAX_BATCH_TOKENS)
        .ok_or_else(|| format!("`{text}` is not a number from 1 to {MAX_BATCH_TOKENS}"))
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.parse().ok().filter(|seconds: &f64| *seconds > 0.0);
    seconds
        .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
        .ok_or_else(|| format!("`{text}` is not a number of seconds above 0"))
}

fn default_queued_tokens() -> usize {
    EngineOptions::default().max_queued_tokens
}

impl ComputeArgs {
    /// The engine's options, with its default queue.
    pub fn options(&self) -> EngineOptions {
        EngineOptions {
            device: self.device.clone(),
            dtype: self.dtype,
            special_tokens: self.special_tokens,
            max_batch_tokens: self.max_batch_tokens.map(NonZeroUsize::get),
            ..EngineOptions::default()
        }
    }
}

/// Served unless something else is asked for.
const DEFAULT_MODEL: &str = "demo";

/// How logs are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// Lines for people.
    Text,
    /// One JSON object a line.
    Json,
}

/// The flags of `serve`.
#[derive(Args, Clone, Debug)]
pub struct ServeArgs {
    /// Model to serve; repeat it, or separate several by commas, to serve more than one. The first
    /// answers requests that name none. NAME is one that `reranker models` lists, or any other with
    /// a SOURCE: a directory, or `hf:ORGANISATION/REPOSITORY[@REVISION]` on the Hugging Face hub
    /// (`HF_TOKEN`, `HF_HOME`, `HF_ENDPOINT` and `HF_HUB_OFFLINE` are honoured) [default: demo]
    #[arg(
        long = "model",
        env = "RERANKER_MODEL",
        value_name = "NAME[=SOURCE]",
        value_delimiter = ','
    )]
    pub models: Vec<ModelChoice>,

    #[command(flatten)]
    #[expect(missing_docs, reason = "a comment here would become the heading of --help")]
    pub mock: MockArgs,

    /// Another name for a served model, such as `zerank-1=zerank-1-small` for clients that fix the
    /// name; repeat it, or separate several by commas
    #[arg(
        long = "alias",
        env = "RERANKER_ALIAS",
        value_name = "NAME=MODEL",
        value_delimiter = ','
    )]
    pub aliases: Vec<Alias>,

    #[command(flatten)]
    #[expect(missing_docs, reason = "a comment here would become the heading of --help")]
    pub compute: ComputeArgs,

    /// Most tokens that wait for each model or run; what does not fit is refused with 429 or
    /// `RESOURCE_EXHAUSTED`. A request larger than this is taken when there is nothing else
    #[arg(long, env = "RERANKER_MAX_QUEUED_TOKENS", value_name = "TOKENS",
          default_value_t = default_queued_tokens())]
    pub max_queued_tokens: usize,

    /// Longest time that a request may be expected to wait before its own work; over it the request is
    /// refused at once with 429 or `RESOURCE_EXHAUSTED`
    #[arg(long, env = "RERANKER_MAX_QUEUE_SECONDS", value_name = "SECONDS", default_value = "10",
          value_parser = seconds)]
    pub max_queue_seconds: Duration,

    /// Longest time that a `fast` request may be expected to take; over it one that asks for `fast`
    /// is refused, and one that asks for neither class runs as `slow`
    #[arg(long, env = "RERANKER_INTERACTIVE_SECONDS", value_name = "SECONDS", default_value = "2",
          value_parser = seconds)]
    pub interactive_seconds: Duration,

    /// Address for gRPC; port 0 takes a free one
    #[arg(
        long,
        env = "RERANKER_GRPC_LISTEN",
        value_name = "ADDRESS",
        default_value = "0.0.0.0:50051"
    )]
    pub grpc_listen: SocketAddr,

    /// Address for the HTTP API; port 0 takes a free one
    #[arg(
        long,
        env = "RERANKER_HTTP_LISTEN",
        value_name = "ADDRESS",
        default_value = "0.0.0.0:8080"
    )]
    pub http_listen: SocketAddr,

    /// Address for /livez, /readyz, /metrics, /load and /debug/config; port 0 takes a free one
    #[arg(
        long,
        env = "RERANKER_ADMIN_LISTEN",
        value_name = "ADDRESS",
        default_value = "0.0.0.0:9090"
    )]
    pub admin_listen: SocketAddr,

    #[command(flatten)]
    #[expect(missing_docs, reason = "a comment here would become the heading of --help")]
    pub security: SecurityArgs,

    #[command(flatten)]
    #[expect(missing_docs, reason = "a comment here would become the heading of --help")]
    pub limits: LimitsArgs,

    #[command(flatten)]
    #[expect(missing_docs, reason = "a comment here would become the heading of --help")]
    pub collections: CollectionsArgs,

    /// Logs on standard error as `text`, or as `json` with one object a line; `RUST_LOG` filters
    /// them
    #[arg(long, env = "RERANKER_LOG_FORMAT", value_name = "FORMAT", default_value = "text")]
    pub log_format: LogFormat,

    /// Time that requests in flight have after SIGTERM or SIGINT; new ones are refused meanwhile
    #[arg(
        long,
        env = "RERANKER_SHUTDOWN_GRACE_SECONDS",
        value_name = "SECONDS",
        default_value_t = 30
    )]
    pub shutdown_grace_seconds: u64,
}

/// What a server runs with; consistent in itself.
#[derive(Clone, Debug)]
pub struct Config {
    /// Answers are canned, and `models` is empty.
    pub mock: bool,
    /// The default model first.
    pub models: Vec<ModelChoice>,
    /// Each names one of `models`.
    pub aliases: Vec<Alias>,
    /// How each model runs.
    pub options: EngineOptions,
    /// Where to listen.
    pub listen: Addresses,
    /// Who may connect, and what a connection may cost.
    pub edge: Edge,
    /// What one request may bring.
    pub limits: RequestLimits,
    /// What each key may ask for in a minute.
    pub rates: Rates,
    /// None: collections are off.
    pub collections: Option<CollectionsConfig>,
    /// Time to finish requests after the signal.
    pub shutdown_grace: Duration,
}

impl TryFrom<ServeArgs> for Config {
    type Error = String;

    fn try_from(mut args: ServeArgs) -> Result<Self, String> {
        let mock = args.mock.mock;
        let keys = args.security.api_keys_file.as_deref();
        args.mock.check(&args.models, &args.aliases, keys)?;
        if args.models.is_empty() && !mock {
            args.models.push(DEFAULT_MODEL.parse()?);
        }
        let names: Vec<&str> = args.models.iter().map(|model| &*model.spec.name).collect();
        for (index, name) in names.iter().enumerate() {
            if names[..index].contains(name) {
                return Err(format!("--model `{name}` is given twice"));
            }
        }
        for (index, Alias { name, model }) in args.aliases.iter().enumerate() {
            if names.contains(&name.as_str()) {
                return Err(format!("--alias `{name}` is the name of a model"));
            }
            if args.aliases[..index].iter().any(|earlier| earlier.name == *name) {
                return Err(format!("--alias `{name}` is given twice"));
            }
            if !names.contains(&model.as_str()) {
                let names = names.join(", ");
                return Err(format!("--alias `{name}`: `{model}` is not served; served: {names}"));
            }
        }
        if let Some(max_batch_tokens) = args.compute.max_batch_tokens
            && args.max_queued_tokens < max_batch_tokens.get()
        {
            return Err(format!(
                "--max-queued-tokens {} is below --max-batch-tokens {max_batch_tokens}: batches \
                 would never fill",
                args.max_queued_tokens
            ));
        }
        let limits = args.limits.request();
        let rates = args.limits.rates(limits)?;
        let edge = args.security.edge(args.limits.connections(limits)?)?;
        let collections = args.collections.config(mock)?;
        Ok(Self {
            collections,
            edge,
            limits,
            rates,
            mock,
            options: EngineOptions {
                max_queued_tokens: args.max_queued_tokens,
                max_queue: args.max_queue_seconds,
                interactive: args.interactive_seconds,
                ..args.compute.options()
            },
            listen: Addresses {
                grpc: args.grpc_listen,
                http: args.http_listen,
                admin: args.admin_listen,
            },
            shutdown_grace: Duration::from_secs(args.shutdown_grace_seconds),
            models: args.models,
            aliases: args.aliases,
        })
    }
}
