//! What `serve` and the one-shot commands can be told, and what contradicts itself.
//!
//! A flag's documentation is `--help` and the manual; every flag is an environment variable too.

mod collections;
mod effective;
mod limits;
mod mock;
mod security;
mod traces;

use crate::app::{Alias, RequestLimits};
use crate::rate_limit::Rates;
use crate::server::{Addresses, Edge};
use clap::{Args, ValueEnum};
use limits::LimitsArgs;
use reranker_engine::{
    Device, Dtype, EngineOptions, MAX_BATCH_TOKENS, ModelSpec, Source, SpecialTokens,
};
use security::SecurityArgs;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::str::FromStr;
use std::time::Duration;

pub use collections::{CollectionsArgs, CollectionsConfig, CollectionsStore};
pub use effective::effective;
pub use mock::MockArgs;
pub use traces::{TraceProtocol, Traces};

/// A model to load.
#[derive(Clone, Debug)]
pub struct ModelChoice {
    /// Its name, prompt and limits.
    pub spec: ModelSpec,
    /// Where its files come from.
    pub source: Source,
}

impl FromStr for ModelChoice {
    type Err = String;

    /// `NAME` of a known model, or `NAME=SOURCE`.
    fn from_str(text: &str) -> Result<Self, String> {
        let (name, source) = match text.split_once('=') {
            Some((name, source)) => (name, Some(source)),
            None => (text, None),
        };
        if name.is_empty() {
            return Err("a model needs a name".to_owned());
        }
        let source = source.map(Source::from_str).transpose().map_err(|error| error.to_string())?;
        let spec = ModelSpec::find(name).cloned();
        match (spec, source) {
            (spec, Some(source)) => {
                Ok(Self { spec: spec.unwrap_or_else(|| ModelSpec::custom(name)), source })
            }
            (Some(spec), None) => {
                let source = spec.source().ok_or_else(|| needs_source(name))?;
                Ok(Self { spec, source })
            }
            (None, None) => Err(needs_source(name)),
        }
    }
}

fn needs_source(name: &str) -> String {
    let known: Vec<&str> = ModelSpec::known().iter().map(|spec| &*spec.name).collect();
    format!(
        "`{name}` is not one of {}; give a source with it: {name}=DIRECTORY or \
         {name}=hf:ORGANISATION/REPOSITORY[@REVISION]",
        known.join(", ")
    )
}

impl FromStr for Alias {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once('=') {
            Some((name, model)) if !name.is_empty() && !model.is_empty() => {
                Ok(Self { name: name.to_owned(), model: model.to_owned() })
            }
            _ => Err(format!("`{text}` is not NAME=MODEL")),
        }
    }
}

/// How a model runs.
#[derive(Args, Clone, Debug)]
pub struct ComputeArgs {
    /// Device that computes: `auto` (the best this build supports) or `cpu`
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
            device: self.device,
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

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Flags {
        #[command(flatten)]
        serve: ServeArgs,
    }

    fn config(flags: &str) -> Result<Config, String> {
        let flags = Flags::try_parse_from(std::iter::once("serve").chain(flags.split_whitespace()));
        flags.map_err(|error| error.to_string())?.serve.try_into()
    }

    /// `make run` and the README's first example start without a flag.
    #[test]
    fn the_defaults_serve_the_demo_model() {
        let config = config("").expect("is consistent");
        assert_eq!(config.models.len(), 1);
        assert_eq!(config.models[0].spec.name, "demo");
        assert_eq!(config.models[0].source, Source::Embedded);
        assert_eq!(config.listen.http.port(), 8080);
    }

    /// A server that starts with half of what it was told answers 404 in production.
    #[test]
    fn contradictions_are_refused_with_what_contradicts() {
        for (flags, part) in [
            ("--model nope", "`nope` is not one of demo, zerank-1-small"),
            ("--model demo --model demo", "--model `demo` is given twice"),
            ("--model =x", "a model needs a name"),
            ("--model x=hf:", "is not a model source"),
            ("--alias demo=demo", "--alias `demo` is the name of a model"),
            ("--alias a=b", "`b` is not served; served: demo"),
            ("--alias a=demo,a=demo", "--alias `a` is given twice"),
            ("--alias a", "`a` is not NAME=MODEL"),
            (
                "--max-queued-tokens 5 --max-batch-tokens 6",
                "--max-queued-tokens 5 is below --max-batch-tokens 6",
            ),
            ("--max-queue-seconds 0", "`0` is not a number of seconds above 0"),
            ("--interactive-seconds NaN", "`NaN` is not a number of seconds above 0"),
            ("--mock --model demo", "--mock loads no model: leave out --model demo or --mock"),
            ("--mock --alias a=demo", "--mock takes any model's name: leave out --alias a=demo"),
            (
                "--mock --api-keys-file k",
                "--mock takes any key: leave out --api-keys-file k or --mock",
            ),
            ("--mock --data-dir d", "--mock keeps no collections: leave out --data-dir d"),
            ("--collections embedded", "--collections embedded needs a --data-dir"),
            ("--language klingon", "`klingon` is not one of none, arabic"),
            ("--candidates 0", "1..=10000"),
            ("--ingest-workers 65", "1..=64"),
            ("--public-url here", "`here` is not https://HOST"),
            ("--max-batch-tokens 0", "`0` is not a number from 1 to 32768"),
            ("--max-batch-tokens 32769", "`32769` is not a number from 1 to 32768"),
            ("--device gpu", "`gpu` is not one of auto, cpu"),
            ("--http-listen here", "--http-listen"),
            (
                "--max-inflight-bytes 1000",
                "--max-inflight-bytes 1000 is below --max-body-bytes 16777216",
            ),
            (
                "--max-inflight-bytes 16777216 --max-document-bytes 16777217",
                "--max-inflight-bytes 16777216 is below --max-document-bytes 16777217",
            ),
            ("--max-document-bytes 2000000000", "1..=1073741824"),
            ("--fast-bytes-per-minute 100", "--fast-bytes-per-minute 100 is below 150"),
            ("--max-header-bytes 100", "8192"),
            ("--header-timeout-seconds 0", "--header-timeout-seconds"),
            ("--tls-cert c", "--tls-cert `c` needs --tls-key"),
            ("--tls-key k", "--tls-key `k` needs --tls-cert"),
            ("--tls-client-ca a", "--tls-client-ca `a` needs --tls-cert and --tls-key"),
            ("--cors-allow-origin a.example", "`a.example` is not an origin"),
        ] {
            let error = config(flags).err().unwrap_or_else(|| panic!("{flags} is taken"));
            assert!(error.contains(part), "{flags}: {error}");
        }
    }

    /// A query counts once for each document and is sent once: what counts more than a body may be long
    /// is no contradiction.
    #[test]
    fn requests_may_count_more_than_they_send() {
        let config =
            config("--max-request-bytes 5000 --max-body-bytes 1000").expect("is consistent");
        assert_eq!((config.limits.bytes, config.limits.body_bytes), (5_000, 1_000));
    }

    /// Clients that fix a name, and several models in one process, need both flags together.
    #[test]
    fn models_and_aliases_are_read() {
        let flags =
            "--model zerank-1-small --model own=/models/own --alias zerank-1=zerank-1-small";
        let config = config(flags).expect("is consistent");
        let sources: Vec<String> =
            config.models.iter().map(|model| model.source.to_string()).collect();
        assert!(sources[0].starts_with("hf:zeroentropy/zerank-1-small-reranker@"), "{sources:?}");
        assert_eq!(sources[1], "/models/own");
        let alias = Alias { name: "zerank-1".into(), model: "zerank-1-small".into() };
        assert_eq!(config.aliases, [alias]);
    }
}
