//! `cargo xtask lab`: the virtual cluster of `tests/netns`.

use std::os::unix::process::CommandExt;
use std::process::Command;

use anyhow::{Context, Result};

use crate::run::{binaries, cargo, run};
use crate::setup::{Talk, setup};

/// Sets up, builds, and becomes the lab, so that signals and the exit code are its own.
pub fn lab(arguments: &[String]) -> Result<()> {
    setup(Talk::OnlyOfChanges)?;
    let program = binaries("debug")?.join("portico-lab");
    let mut build = build();
    if program.exists() {
        build.arg("--quiet");
    } else {
        println!(
            "building the agent, the packet programs and the lab: five to fifteen minutes on two processors"
        );
    }
    run(&mut build)?;
    let error = Command::new(&program).args(arguments).exec();
    Err(error).with_context(|| format!("cannot run {}", program.display()))
}

/// The command that builds what the lab runs: agent, packet programs, lab and tasks.
pub fn build() -> Command {
    cargo(&["build", "--package", "lb-userspace", "--package", "netns"])
}
