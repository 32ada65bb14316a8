//! The command line: one module a subcommand.
//!
//! Output goes to standard output through a writer; logs, progress and errors to standard error.

mod bench;
mod collections;
mod fixture;
mod models;
mod progress;
mod rerank;
mod serve;
mod table;
mod verify;

use crate::config::{self, LogFormat, ModelChoice};
use crate::telemetry;
use clap::{ArgMatches, CommandFactory, FromArgMatches, Parser, Subcommand};
use reranker_engine::{Engine, EngineOptions, LoadError, LoadEvent};
use std::io;
use std::process::ExitCode;

/// Relevance scores for search results: zerank cross-encoders as a server and on the command line
#[derive(Parser, Debug)]
#[command(name = "reranker", version, propagate_version = true, after_help = EXIT_CODES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

const EXIT_CODES: &str = "Exit codes: 0 done, 1 failed (the reason is on standard error), 2 wrong \
                          usage.\nEvery flag can be given as the environment variable shown beside it.";

#[derive(Subcommand, Debug)]
enum Command {
    /// Serve models over gRPC and HTTP until SIGTERM or SIGINT
    #[command(after_help = EXIT_CODES)]
    Serve(Box<crate::config::ServeArgs>),
    /// Score documents against a query, without a server
    #[command(after_help = EXIT_CODES)]
    Rerank(rerank::RerankArgs),
    /// Check a model: published scores if there are any, else that its scores are sound
    #[command(after_help = EXIT_CODES)]
    Verify(verify::VerifyArgs),
    /// List, export, import, copy, check and mend the collections of a folder
    Collections(collections::CollectionsArgs),
    /// Put load on a running server and measure it
    #[command(after_help = bench::MANUAL)]
    Bench(Box<bench::BenchArgs>),
    /// List the known models and what each needs
    Models,
    /// Write a small random checkpoint, for tests
    #[command(after_help = EXIT_CODES)]
    Fixture(fixture::FixtureArgs),
}

/// Why a command did not do what it was told.
enum Failure {
    /// It was told something it cannot do: exit code 2.
    Usage(String),
    /// It did not work out: exit code 1.
    Failed(String),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Failed(format!("writing the output: {error}"))
    }
}

/// Runs the command that the process's arguments name.
pub fn main() -> ExitCode {
    let parsed = Cli::command().try_get_matches().and_then(|matches| {
        let cli = Cli::from_arg_matches(&matches)?;
        Ok((cli.command, matches))
    });
    let (command, matches) = match parsed {
        Ok(parsed) => parsed,
        Err(error) => {
            // Nothing is left to tell somebody whose terminal is gone.
            let _ = error.print();
            return ExitCode::from(error.exit_code() as u8);
        }
    };
    let done = match command {
        Command::Serve(args) => serve::run(*args, &effective_flags("serve", &matches)),
        Command::Rerank(args) => rerank::run(args),
        Command::Verify(args) => verify::run(&args),
        Command::Collections(args) => collections::run(args),
        Command::Bench(args) => bench::run(&args),
        Command::Models => models::run(),
        Command::Fixture(args) => fixture::run(&args),
    };
    let (code, message) = match done {
        Ok(()) => return ExitCode::SUCCESS,
        Err(Failure::Failed(message)) => (1, message),
        Err(Failure::Usage(message)) => (2, message),
    };
    eprintln!("error: {message}");
    ExitCode::from(code)
}

/// The flags of a subcommand that was given, see [`config::effective`].
fn effective_flags(name: &str, matches: &ArgMatches) -> serde_json::Value {
    let command = Cli::command();
    let flags = command.find_subcommand(name).zip(matches.subcommand_matches(name));
    flags.map_or_else(Default::default, |(command, matches)| config::effective(command, matches))
}

/// Loads a model for a one-shot command, with progress on standard error.
fn load(choice: &ModelChoice, options: &EngineOptions) -> Result<Engine, Failure> {
    telemetry::init(LogFormat::Text);
    load_model(choice, options, |_| {}).map_err(|error| Failure::Failed(error.to_string()))
}

/// Shows progress on standard error, and gives it to `observe`.
fn load_model(
    choice: &ModelChoice,
    options: &EngineOptions,
    observe: impl Fn(LoadEvent<'_>),
) -> Result<Engine, LoadError> {
    let mut progress = progress::Progress::new();
    let loaded = Engine::load(&choice.spec, &choice.source, options, &mut |event| {
        progress.load(&choice.spec.name, event);
        observe(event);
    });
    progress.finish();
    loaded
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `--help` would panic for the user who needs it.
    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    /// Deployments set environment variables; a flag without one cannot be set there.
    #[test]
    fn every_flag_of_serve_has_an_environment_variable() {
        let command = Cli::command();
        let serve = command.find_subcommand("serve").expect("is there");
        for flag in serve.get_arguments().filter(|flag| flag.get_long() != Some("help")) {
            let env = flag.get_env().map(|name| name.to_string_lossy().into_owned());
            let name = flag.get_long().unwrap_or_default().to_uppercase().replace('-', "_");
            assert_eq!(env, Some(format!("RERANKER_{name}")));
        }
    }
}
