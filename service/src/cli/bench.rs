//! `reranker bench`: puts load on a running server and says how it did.
//!
//! ```text
//! bench ──> load ──> http, grpc ──> statistics ──> report
//!            └─> arrivals            payload ──> http, grpc
//! ```
//!
//! `arrivals` and `statistics` are pure. reqwest is named only in `http`, tonic and the contract
//! only in `grpc`.

mod arrivals;
mod grpc;
mod http;
mod load;
mod payload;
mod random;
mod report;
mod statistics;

use super::Failure;
use super::progress::Progress;
use crate::config::LogFormat;
use crate::telemetry;
use clap::{ArgGroup, Args, ValueEnum};
use grpc::Grpc;
use http::Http;
use load::{Length, Plan, Target};
use payload::{Class, Payload, Shape};
use statistics::Pace;
use std::fmt;
use std::io::{self, Write};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// What servers see in their logs.
const USER_AGENT: &str = concat!("reranker-bench/", env!("CARGO_PKG_VERSION"));

/// HTTP/2 connections of a gRPC run unless the user says otherwise: servers bound the requests that
/// share one.
const CONNECTIONS: u16 = 8;

/// The text below the flags.
pub(super) const MANUAL: &str = "\
Example: 30 requests a second for a minute, each with 50 documents of 500 characters

  reranker bench --rate 30 --duration-seconds 60 --documents 50 --document-chars 500

What is counted: requests that were due after the warm-up, each with one outcome: answered, refused \
(the server said no; by status), timeout, error (no connection, a broken answer; by reason), \
abandoned (Ctrl-C came first). `not sent` counts what --max-outstanding held back. Rates are of the \
answers that came within the measured time, whenever they were asked for.

Percentiles are of answered requests; those without an answer are in none, so look at the counts \
first. `latency` is corrected for coordinated omission: in an open loop it runs from the moment at \
which the schedule says that the request is due; in a closed loop, which has no schedule, a service \
time longer than the median stands also for the requests that its client would have sent meanwhile, \
one each median (HdrHistogram's correction). `service time` is from sending to answer, uncorrected. \
`refused` is the time to a refusal, from when the request was due.

For figures of capacity use --clients; for figures of latency use --rate, since users do not wait \
for each other. Run it on another machine than the server, or it takes the server's processor time.

Exit codes: 0 done, 1 failed or nothing was answered (the reason is on standard error), 2 wrong usage.";

/// How much load, of what, for how long.
#[derive(Args, Debug)]
#[command(group = ArgGroup::new("pace").required(true).args(["rate", "clients"]))]
pub(super) struct BenchArgs {
    /// Open loop: send so many requests a second at random times (a Poisson process), whatever the
    /// server does
    #[arg(long, value_name = "PER_SECOND", value_parser = rate)]
    rate: Option<f64>,

    /// Closed loop: so many clients, each of which sends its next request when it has the answer
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    clients: Option<u32>,

    /// `http`: the hosted API's /v1/models/rerank; `grpc`: reranker.v1.Reranker/Rerank
    #[arg(long, default_value = "http")]
    protocol: Protocol,

    /// Base address of the server; without it port 8080 of this machine, for gRPC 50051
    #[arg(long)]
    url: Option<String>,

    /// HTTP/2 connections that requests take in turn, gRPC only [default: 8]; over HTTP each
    /// outstanding request has a connection of its own (and a file: mind `ulimit -n`)
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    connections: Option<u16>,

    /// Measure for so long
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = seconds)]
    duration_seconds: Duration,

    /// Measure so many requests instead of a time
    #[arg(long, value_name = "N", conflicts_with = "duration_seconds",
          value_parser = clap::value_parser!(u64).range(1..))]
    requests: Option<u64>,

    /// Send for so long before measuring begins; 0 measures from the first request
    #[arg(long, value_name = "SECONDS", default_value = "2", value_parser = seconds)]
    warmup_seconds: Duration,

    /// Wait for so long for an answer; also told to the server, as the official clients do
    #[arg(long, value_name = "SECONDS", default_value = "60", value_parser = seconds)]
    timeout_seconds: Duration,

    /// Most requests that wait for an answer at once: what is due beyond is not sent but counted
    #[arg(long, value_name = "N", default_value_t = 10_000,
          value_parser = clap::value_parser!(u32).range(1..))]
    max_outstanding: u32,

    /// Documents of a made-up request, all different
    #[arg(long, value_name = "N", default_value_t = 50)]
    documents: usize,

    /// Characters of a made-up document; the text reads like English
    #[arg(long, value_name = "N", default_value_t = 500)]
    document_chars: usize,

    /// Characters of a made-up query
    #[arg(long, value_name = "N", default_value_t = 50)]
    query_chars: usize,

    /// Same seed, same requests at the same times
    #[arg(long, default_value_t = 1)]
    seed: u64,

    /// Requests to send in turn instead of made-up ones: JSON Lines of objects as the HTTP API takes
    /// them, with `query` and `documents`, and `model`, `top_n` and `latency` as wanted
    #[arg(long, value_name = "FILE",
          conflicts_with_all = ["documents", "document_chars", "query_chars"])]
    file: Option<PathBuf>,

    /// Model to ask for, where a request names none; without it the server's default answers
    #[arg(long)]
    model: Option<String>,

    /// Class of work, where a request names none
    #[arg(long)]
    latency: Option<Class>,

    /// Key to send as `Authorization: Bearer KEY`
    #[arg(long, env = "RERANKER_API_KEY", value_name = "KEY", hide_env_values = true)]
    api_key: Option<ApiKey>,

    /// PEM file of the authorities that an https server's certificate may come from, instead of the
    /// system's
    #[arg(long, value_name = "FILE")]
    tls_ca: Option<PathBuf>,

    /// Print one JSON object instead of a table
    #[arg(long)]
    json: bool,
}

/// A secret: debug output shows none of it.
#[derive(Clone)]
struct ApiKey(String);

impl FromStr for ApiKey {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ApiKey")
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Protocol {
    Http,
    Grpc,
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Http => "http",
            Self::Grpc => "grpc",
        })
    }
}

fn rate(text: &str) -> Result<f64, String> {
    text.parse()
        .ok()
        .filter(|rate| (1e-3..=1e6).contains(rate))
        .ok_or_else(|| format!("`{text}` is not a number from 0.001 to 1000000"))
}

fn seconds(text: &str) -> Result<Duration, String> {
    text.parse()
        .ok()
        .filter(|seconds| (0.0..=1e6).contains(seconds))
        .map(Duration::from_secs_f64)
        .ok_or_else(|| format!("`{text}` is not a number of seconds from 0 to 1000000"))
}

/// What a run needs to know beside its requests; consistent in itself.
#[derive(Clone, Debug)]
struct Options {
    protocol: Protocol,
    url: String,
    connections: usize,
    api_key: Option<ApiKey>,
    /// PEM.
    tls_ca: Option<Vec<u8>>,
    plan: Plan,
}

impl TryFrom<&BenchArgs> for Options {
    type Error = String;

    fn try_from(args: &BenchArgs) -> Result<Self, String> {
        let max_outstanding = args.max_outstanding as usize;
        let pace = match (args.rate, args.clients) {
            (Some(per_second), _) => Pace::Open { per_second },
            (None, clients) => Pace::Closed { clients: clients.unwrap_or(1) as usize },
        };
        if let Pace::Closed { clients } = pace
            && clients > max_outstanding
        {
            return Err(format!(
                "--clients {clients} is above --max-outstanding {max_outstanding}"
            ));
        }
        if args.requests.is_none() && args.duration_seconds.is_zero() {
            return Err("--duration-seconds 0 measures nothing".to_owned());
        }
        if args.timeout_seconds.is_zero() {
            return Err("--timeout-seconds 0 waits for no answer".to_owned());
        }
        let url = args.url.clone().unwrap_or_else(|| {
            let port = if args.protocol == Protocol::Http { 8080 } else { 50051 };
            format!("http://localhost:{port}")
        });
        let is_https = url.starts_with("https://");
        if !is_https && !url.starts_with("http://") {
            return Err(format!("--url `{url}` begins with neither http:// nor https://"));
        }
        if let Some(file) = &args.tls_ca
            && !is_https
        {
            return Err(format!("--tls-ca `{}`, but --url `{url}` is not https", file.display()));
        }
        if args.protocol == Protocol::Http
            && let Some(connections) = args.connections
        {
            return Err(format!(
                "--connections {connections} is for --protocol grpc: over http each outstanding \
                 request has a connection of its own"
            ));
        }
        let read = |file: &PathBuf| {
            std::fs::read(file).map_err(|error| format!("--tls-ca `{}`: {error}", file.display()))
        };
        Ok(Self {
            protocol: args.protocol,
            url,
            connections: args.connections.unwrap_or(CONNECTIONS).into(),
            api_key: args.api_key.clone(),
            tls_ca: args.tls_ca.as_ref().map(read).transpose()?,
            plan: Plan {
                pace,
                seed: args.seed,
                warmup: args.warmup_seconds,
                length: args.requests.map_or(Length::Time(args.duration_seconds), Length::Requests),
                timeout: args.timeout_seconds,
                max_outstanding,
            },
        })
    }
}

pub(super) fn run(args: &BenchArgs) -> Result<(), Failure> {
    let options = Options::try_from(args).map_err(Failure::Usage)?;
    let (payloads, payload) = payloads(args)?;
    telemetry::init(LogFormat::Text);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let summary = runtime.block_on(async {
        let target = match options.protocol {
            Protocol::Http => Http::new(&options, &payloads).map(Target::Http),
            Protocol::Grpc => Grpc::new(&options, payloads).map(Target::Grpc),
        };
        let stop = CancellationToken::new();
        let interrupted = {
            let stop = stop.clone();
            async move {
                // Without a handler the signal ends the process at once, as it would anyway.
                let _ = tokio::signal::ctrl_c().await;
                stop.cancel();
                std::future::pending().await
            }
        };
        let mut progress = Progress::new();
        let measured =
            load::run(options.plan, target?, stop, |now| show(&mut progress, &options.plan, now));
        let summary = tokio::select! {
            summary = measured => summary,
            never = interrupted => never,
        };
        progress.finish();
        Ok(summary)
    });
    let summary = summary.map_err(Failure::Usage)?;
    let mut out = io::stdout().lock();
    if args.json {
        writeln!(out, "{:#}", report::json(&options, &payload, &summary))?;
    } else {
        report::write_table(&mut out, &options, &payload, &summary)?;
    }
    if summary.counts.answered == 0 {
        return Err(Failure::Failed("nothing was answered".to_owned()));
    }
    Ok(())
}

/// The requests, and what to call them in the report.
fn payloads(args: &BenchArgs) -> Result<(Vec<Payload>, String), Failure> {
    let BenchArgs { documents, document_chars, query_chars, .. } = *args;
    let (mut payloads, name) = if let Some(file) = &args.file {
        let payloads = payload::read(file).map_err(Failure::Failed)?;
        let name = format!("{} requests of {}", payloads.len(), file.display());
        (payloads, name)
    } else {
        let shape = Shape { documents, document_chars, query_chars };
        if shape.bytes() > payload::MAX_BYTES {
            return Err(Failure::Usage(format!(
                "--documents {documents} of --document-chars {document_chars} and --query-chars \
                 {query_chars} are over {} bytes",
                payload::MAX_BYTES
            )));
        }
        let name = format!("{documents} × {document_chars} characters");
        (payload::make_up(shape, args.seed), name)
    };
    for payload in &mut payloads {
        payload.model = payload.model.take().or_else(|| args.model.clone());
        payload.latency = payload.latency.or(args.latency);
    }
    Ok((payloads, name))
}

fn show(progress: &mut Progress, plan: &Plan, now: load::Progress) {
    let load::Progress { elapsed, counts, outstanding } = now;
    let figures = format!(
        "{} answered, {} refused, {} timeouts, {} errors, {outstanding} outstanding",
        counts.answered, counts.refused, counts.timeouts, counts.errors
    );
    let (done, total) = match plan.length {
        Length::Time(length) => (elapsed.as_secs(), (plan.warmup + length).as_secs()),
        Length::Requests(requests) => (counts.sent(), requests),
    };
    progress.show("measuring", &figures, done, total);
}

/// An error and its causes in one line: clients keep the reason at the end.
fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Flags {
        #[command(flatten)]
        bench: BenchArgs,
    }

    fn options(flags: &str) -> Result<Options, String> {
        let flags = Flags::try_parse_from(std::iter::once("bench").chain(flags.split_whitespace()));
        Options::try_from(&flags.map_err(|error| error.to_string())?.bench)
    }

    /// A run of minutes that measured something else than asked is worse than none.
    #[test]
    fn contradictions_are_refused_with_what_contradicts() {
        for (flags, part) in [
            ("", "--rate <PER_SECOND>|--clients <N>"),
            ("--rate 1 --clients 1", "cannot be used with"),
            ("--rate 0", "`0` is not a number from 0.001"),
            ("--rate nan", "`nan` is not a number"),
            ("--clients 0", "0 is not in 1.."),
            ("--clients 9 --max-outstanding 8", "--clients 9 is above --max-outstanding 8"),
            ("--clients 1 --requests 5 --duration-seconds 5", "cannot be used with"),
            ("--clients 1 --duration-seconds 0", "--duration-seconds 0 measures nothing"),
            ("--clients 1 --timeout-seconds 0", "--timeout-seconds 0 waits for no answer"),
            ("--clients 1 --warmup-seconds -1", "unexpected argument"),
            ("--clients 1 --connections 2", "--connections 2 is for --protocol grpc"),
            ("--clients 1 --url localhost:1", "--url `localhost:1` begins with neither"),
            ("--clients 1 --tls-ca x", "--tls-ca `x`, but --url `http://localhost:8080` is not"),
            ("--clients 1 --url https://h --tls-ca /no/such", "--tls-ca `/no/such`: No such file"),
            ("--clients 1 --file x --documents 3", "cannot be used with"),
        ] {
            let error = options(flags).err().unwrap_or_else(|| panic!("{flags} is taken"));
            assert!(error.contains(part), "{flags}: {error}");
        }
        let grpc = options("--clients 1 --protocol grpc").expect("is consistent");
        assert_eq!((grpc.url.as_str(), grpc.connections), ("http://localhost:50051", 8));
    }

    /// A key in a log or a bug report is a key to replace.
    #[test]
    fn keys_are_not_shown() {
        let options = options("--clients 1 --api-key secret").expect("is consistent");
        assert!(!format!("{options:?}").contains("secret"));
        let help = <Flags as clap::CommandFactory>::command().render_long_help().to_string();
        assert!(help.contains("[env: RERANKER_API_KEY]"), "{help}");
    }
}
