//! Portico's automation: `cargo xtask setup | test | lab | bench | dist`.
//!
//! Every command first brings what is missing, so that a clean clone needs nothing else.

mod bench;
mod dist;
mod fixed;
mod lab;
mod run;
mod setup;
mod test;

use clap::{Parser, Subcommand};

/// Sets up, tests and shows Portico.
#[derive(Parser)]
#[command(name = "cargo xtask", version, about)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Installs what is missing on Debian, and says what and why before it does.
    Setup,
    /// Sets up, then runs every test, or only the parts named.
    Test {
        /// Parts to run, in the order given; all of them unless given.
        #[arg(value_enum)]
        parts: Vec<test::Part>,
        /// Arguments of the test programs, as `cargo xtask test netns -- rolling --nocapture`.
        #[arg(last = true)]
        arguments: Vec<String>,
    },
    /// Sets up, builds and runs the virtual cluster; without arguments the guided run.
    #[command(disable_help_flag = true)]
    Lab {
        /// Arguments of the lab, as `up --nodes 3` or `--help`.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Sets up, builds with optimisation and runs a benchmark.
    Bench {
        #[arg(value_enum)]
        subject: bench::Subject,
        /// Arguments of the benchmark.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Sets up and builds what is given to others.
    Dist {
        #[command(subcommand)]
        thing: dist::Thing,
    },
}

fn main() -> anyhow::Result<()> {
    match Arguments::parse().command {
        Command::Setup => setup::setup(setup::Talk::Always),
        Command::Test { parts, arguments } => test::test(&parts, &arguments),
        Command::Lab { arguments } => lab::lab(&arguments),
        Command::Bench { subject, arguments } => bench::bench(subject, &arguments),
        Command::Dist { thing } => dist::dist(&thing),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_after_lab_is_the_labs() {
        let typed = [
            "xtask",
            "lab",
            "exec",
            "client",
            "--",
            "ping",
            "-c",
            "1",
            "192.0.2.1",
        ];
        let Command::Lab { arguments } = Arguments::parse_from(typed).command else {
            panic!("not the lab");
        };
        assert_eq!(arguments, typed[2..]);
    }
}
