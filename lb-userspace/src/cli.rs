//! The command line: what is typed, and which command answers.
//!
//! Exit codes: 0 done, 1 failed, 2 wrong use; `check` has its own.

mod check;
mod dns;
mod drain;
mod explain;
mod listing;
mod output;
mod packet;
mod serving;
mod status;
mod trace;
mod words;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

use crate::api::{Client, Problem};
use crate::config::{Config, DEFAULT_PATH};
use output::Format;

/// Portico, a routing mesh: a published port answers on every node.
#[derive(Debug, Parser)]
#[command(name = "portico", version)]
pub struct Arguments {
    /// The configuration.
    #[arg(long, global = true, value_name = "FILE", help = format!("Configuration [default: {DEFAULT_PATH}]"))]
    config: Option<PathBuf>,
    /// The agent's control socket, unless the configuration names it.
    #[arg(long, global = true, value_name = "PATH")]
    socket: Option<PathBuf>,
    /// How to print listings.
    #[arg(
        short,
        long,
        global = true,
        value_enum,
        default_value_t,
        value_name = "FORMAT"
    )]
    output: Format,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs the agent of this node.
    Run,
    /// Looks whether this machine can run an agent, and whether the running one is as it should be.
    ///
    /// One line for each test, a fix under each that does not pass. Exit code 0: all passed, 1: warnings, 2: failures.
    Check,
    /// Shows planes, interfaces, sources and peers; failing parts first.
    Status,
    /// The services.
    #[command(subcommand)]
    Service(Service),
    /// The tasks behind the services.
    #[command(subcommand)]
    Backend(Backend),
    /// The machines of the cluster.
    #[command(subcommand)]
    Node(Node),
    /// Tells how a service is balanced, in words and numbers.
    Explain { service: String },
    /// Shows what the loaded program does with a packet, without sending one.
    Trace(packet::Packet),
    /// Asks the agent's name server.
    #[command(subcommand)]
    Dns(dns::Dns),
    /// Takes a node's tasks, or one task, out of service; connections they have go on.
    Drain(drain::Drain),
    /// Takes a drain mark away.
    Undrain {
        /// A node, a task, or SERVICE/TASK.
        #[arg(value_name = "NODE|BACKEND")]
        name: String,
    },
    /// Prints a completion script, as `portico completions bash > /etc/bash_completion.d/portico`.
    Completions { shell: clap_complete::Shell },
}

#[derive(Debug, Subcommand)]
enum Service {
    /// Lists the services.
    Ls,
    /// Shows one service with its tasks.
    Show { name: String },
}

#[derive(Debug, Subcommand)]
enum Backend {
    /// Lists the tasks of a service, or all.
    Ls { service: Option<String> },
}

#[derive(Debug, Subcommand)]
enum Node {
    /// Lists the nodes.
    Ls,
}

/// Runs the command that was typed.
pub fn main(arguments: Arguments) -> ExitCode {
    let outcome = match &arguments.command {
        Command::Run => run(&arguments),
        Command::Completions { shell } => {
            clap_complete::generate(
                *shell,
                &mut Arguments::command(),
                "portico",
                &mut std::io::stdout(),
            );
            Ok(ExitCode::SUCCESS)
        }
        _ => runtime().and_then(|runtime| runtime.block_on(ask(&arguments))),
    };
    outcome.unwrap_or_else(|problem| {
        eprintln!("error: {problem}");
        ExitCode::FAILURE
    })
}

async fn ask(arguments: &Arguments) -> Result<ExitCode, Problem> {
    let format = arguments.output;
    match &arguments.command {
        Command::Check => {
            return check::check(arguments.config.as_deref(), arguments.socket.as_deref(), format).await;
        }
        Command::Status => status::status(&arguments.client()?, format).await?,
        Command::Service(Service::Ls) => listing::services(&arguments.client()?, format).await?,
        Command::Service(Service::Show { name }) => {
            listing::service(&arguments.client()?, name, format).await?
        }
        Command::Backend(Backend::Ls { service }) => {
            listing::backends(&arguments.client()?, service.as_deref(), format).await?;
        }
        Command::Node(Node::Ls) => listing::nodes(&arguments.client()?, format).await?,
        Command::Explain { service } => explain::explain(&arguments.client()?, service, format).await?,
        Command::Trace(packet) => trace::trace(&arguments.client()?, packet, format).await?,
        Command::Dns(dns) => return dns::dns(&arguments.client()?, dns, format).await,
        Command::Drain(drain) => return drain::drain(&arguments.client()?, drain, format).await,
        Command::Undrain { name } => drain::undrain(&arguments.client()?, name, format).await?,
        Command::Run | Command::Completions { .. } => {}
    }
    Ok(ExitCode::SUCCESS)
}

impl Arguments {
    /// A client of the agent that socket or configuration name.
    fn client(&self) -> Result<Client, Problem> {
        match &self.socket {
            Some(socket) => Ok(Client::new(socket)),
            None => Ok(Client::new(self.config()?.paths.socket())),
        }
    }

    fn config(&self) -> Result<Config, Problem> {
        Config::load(self.config.as_deref()).map_err(Problem::of)
    }
}

/// Commands wait for one answer at a time: one thread.
fn runtime() -> Result<tokio::runtime::Runtime, Problem> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Problem::new("cannot start").because(error))
}

fn run(arguments: &Arguments) -> Result<ExitCode, Problem> {
    let mut config = arguments.config()?;
    if let Some(socket) = &arguments.socket {
        config.paths.socket = Some(socket.clone());
    }
    crate::app::run(config)?;
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn options_may_stand_before_and_after_the_command() {
        for line in ["portico -o json service ls", "portico service ls -o json"] {
            let arguments = Arguments::try_parse_from(line.split(' ')).unwrap();
            assert_eq!(arguments.output, Format::Json);
        }
    }

    #[test]
    fn every_command_is_documented() {
        let documented = include_str!("../../docs/operations.md");
        for command in Arguments::command().get_subcommands() {
            let name = command.get_name();
            assert!(
                documented.contains(&format!("portico {name}")),
                "{name} is not in docs/operations.md"
            );
        }
    }

    #[test]
    fn wrong_use_has_exit_code_2() {
        let error = Arguments::try_parse_from(["portico", "trace", "198.51.100.7"]).unwrap_err();
        assert_eq!(error.exit_code(), 2);
    }
}
