//! `cargo xtask bench`: figures, never a verdict.

use std::process::Command;

use anyhow::Result;
use clap::ValueEnum;

use crate::run::{cargo, run};
use crate::setup::{Talk, proxies, setup};

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Subject {
    /// Nanoseconds per packet of the loaded programs, over the number of flows.
    Packet,
    /// A client and a task in namespaces, beside plain routing, nftables and VXLAN; the smallest packets per second.
    Path,
    /// Names beside dnsmasq and unbound; what connect() to a service costs.
    Dns,
    /// The proxy plane beside HAProxy, nginx, Envoy and docker-proxy.
    Proxy,
    /// The way of a change among 10,000 services into the kernel, the first load, and the agent's memory.
    Control,
    /// Score, head and chain, flow hash, diff and apply of large snapshots.
    Micro,
}

/// Sets up, builds with optimisation, measures; charts go to `target/bench/`.
pub fn bench(subject: Subject, arguments: &[String]) -> Result<()> {
    setup(Talk::OnlyOfChanges)?;
    if subject == Subject::Proxy {
        proxies()?;
    }
    for mut command in subject.commands(arguments) {
        run(&mut command)?;
    }
    Ok(())
}

impl Subject {
    fn commands(self, arguments: &[String]) -> Vec<Command> {
        let program = |name| cargo(&["run", "--release", "--package", "benches", "--bin", name, "--"]);
        let build = || {
            cargo(&[
                "build",
                "--release",
                "--package",
                "lb-userspace",
                "--package",
                "netns",
            ])
        };
        let (mut before, mut last) = match self {
            Self::Packet => (vec![], program("packet")),
            Self::Path => (vec![build()], program("path")),
            Self::Dns => (vec![build()], program("dns")),
            Self::Proxy => (vec![build()], program("proxy")),
            Self::Control => (vec![build()], program("control")),
            Self::Micro => (vec![], cargo(&["bench", "--package", "benches", "--"])),
        };
        last.args(arguments);
        before.push(last);
        before
    }
}
