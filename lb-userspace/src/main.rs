//! `portico`: the agent and its commands.

use std::process::ExitCode;

use clap::Parser;
use lb_userspace::cli::{self, Arguments};

fn main() -> ExitCode {
    cli::main(Arguments::parse())
}
