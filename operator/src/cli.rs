//! The command line: one module a subcommand.

mod run;
mod simulate;

use clap::{Parser, Subcommand};
use std::io::Write;
use std::process::ExitCode;

/// Keeps `RerankerDeployment` objects of a Kubernetes cluster running and scaled
#[derive(Parser, Debug)]
#[command(name = "reranker-operator", version, propagate_version = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Run the operator until SIGTERM or SIGINT
    Run(run::RunArgs),
    /// Print the definition of `RerankerDeployment`, to install it
    Crd,
    /// Print what the operator may do, for its role
    Rules,
    /// Show what the autoscaler would do under a load: `SECONDS,TOKENS_PER_SECOND` a line
    Simulate(simulate::SimulateArgs),
}

/// Runs the command that the process's arguments name.
pub fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Run(args) => run::run(args),
        Command::Crd => print(&crate::crd::yaml()),
        Command::Rules => print(&crate::rbac::yaml()),
        Command::Simulate(args) => simulate::run(&args),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn print(text: &str) -> anyhow::Result<()> {
    Ok(std::io::stdout().lock().write_all(text.as_bytes())?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    /// `--help` would panic for the user who needs it.
    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
