//! `cargo xtask test`: everything that must hold, in the order of what fails fastest.

use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use clap::ValueEnum;

use crate::run::{cargo, line, run};
use crate::setup::{Talk, setup};

/// A part of the tests that can be run alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Part {
    /// The formatting.
    Fmt,
    /// The lints.
    Clippy,
    /// The documentation and its links.
    Doc,
    /// Unit and property tests, and the loaded packet programs.
    Unit,
    /// Real traffic through the virtual cluster.
    Netns,
}

/// Sets up and runs the parts given, or all of them; stops at the first failure.
pub fn test(parts: &[Part], arguments: &[String]) -> Result<()> {
    let parts = if parts.is_empty() {
        Part::value_variants()
    } else {
        parts
    };
    let start = Instant::now();
    setup(Talk::OnlyOfChanges)?;
    let mut times = Vec::new();
    for part in parts {
        let part_start = Instant::now();
        for mut command in part.commands(arguments) {
            println!("\n==> {}", line(&command));
            run(&mut command).with_context(|| {
                let name = part.name();
                format!("{name} failed; run this part alone: cargo xtask test {name}")
            })?;
        }
        times.push(format!("{} {}", part.name(), seconds(part_start.elapsed())));
    }
    println!(
        "\nall passed in {}: {}",
        seconds(start.elapsed()),
        times.join(", ")
    );
    Ok(())
}

impl Part {
    fn commands(self, arguments: &[String]) -> Vec<Command> {
        let tests = |what: &[&str]| {
            let mut command = cargo(&[&["test"], what].concat());
            if !arguments.is_empty() {
                command.arg("--").args(arguments);
            }
            command
        };
        match self {
            Self::Fmt => vec![cargo(&["fmt", "--all", "--check"])],
            Self::Clippy => {
                let deny = ["--", "-D", "warnings"];
                let all = [&["clippy", "--workspace", "--all-targets"][..], &deny].concat();
                let bare = [
                    &["clippy", "-p", "lb-userspace", "--no-default-features"][..],
                    &deny,
                ]
                .concat();
                vec![cargo(&all), cargo(&bare)]
            }
            Self::Doc => {
                let mut doc = cargo(&["doc", "--workspace", "--no-deps"]);
                doc.env("RUSTDOCFLAGS", "-D warnings");
                vec![doc]
            }
            Self::Unit => vec![tests(&["--workspace", "--exclude", "netns"])],
            // The agents and tasks of the virtual cluster are the binaries that `cargo build` leaves.
            Self::Netns => vec![
                cargo(&["build"]),
                tests(&["--package", "netns", "--no-fail-fast"]),
            ],
        }
    }

    fn name(self) -> String {
        self.to_possible_value()
            .map(|value| value.get_name().to_owned())
            .unwrap_or_default()
    }
}

fn seconds(time: Duration) -> String {
    let seconds = time.as_secs();
    if seconds < 60 {
        format!("{:.1} s", time.as_secs_f64())
    } else {
        format!("{} min {} s", seconds / 60, seconds % 60)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_given_in_minutes_and_seconds() {
        assert_eq!(seconds(Duration::from_millis(1_250)), "1.2 s");
        assert_eq!(seconds(Duration::from_secs(125)), "2 min 5 s");
    }
}
