//! Names in the cluster: which name server a place asks, and what is outside.
//!
//! Every agent serves names at its bridge's gateway and at a link-local address of its node, and asks a dnsmasq on the
//! router for the rest. Tasks have the first of them in their `/etc/resolv.conf`, nodes the other.

use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

use crate::address;
use crate::cluster::Cluster;
use crate::process::Process;
use crate::services;
use crate::state::State;

/// Where an agent serves names to its node: link-local (RFC 3927), the same on all of them.
pub const LOCAL: Ipv4Addr = Ipv4Addr::new(169, 254, 20, 10);
/// Below it everything has the client's addresses: what only the upstream knows.
pub const OUTSIDE: &str = "outside.example";

/// Which name servers the machine asks.
pub(crate) const MACHINES: &str = "/etc/resolv.conf";

/// The name server of a place: of nodes and tasks, where there are agents.
pub fn server(state: &State, place: &str) -> Option<Ipv4Addr> {
    state.mode.as_ref()?;
    if state.tasks.contains_key(place) {
        Some(address::BRIDGE.v4)
    } else {
        state.nodes.contains_key(place).then_some(LOCAL)
    }
}

/// What an agent is told about names; `upstreams` is the router.
pub(crate) fn configuration(state: &State) -> String {
    let upstream = address::router(0).v4;
    if state.engines {
        // An engine makes bridges as it likes. What its containers ask its own resolver goes to the agent.
        return format!("[dns]\nlisten = [\"{LOCAL}:53\"]\nupstreams = [\"{upstream}\"]\nintercept = true\n");
    }
    format!(
        "[dns]\nlisten = [\"{LOCAL}:53\", \"{}:53\"]\nupstreams = [\"{upstream}\"]\n",
        address::BRIDGE.v4,
    )
}

impl Cluster {
    /// The addresses that a command at a place finds for a name, by the C library and its `/etc/resolv.conf`, in its order.
    pub fn resolve(&self, place: &str, name: &str) -> Result<Vec<IpAddr>> {
        let mut command = self.command(place, "getent")?;
        let output = command
            .args(["ahosts", name])
            .output()
            .context("cannot run getent")?;
        // 2: the name was not found (getent(1)).
        anyhow::ensure!(
            output.status.success() || output.status.code() == Some(2),
            "getent ahosts {name} at {place}: {}",
            output.status
        );
        let text = String::from_utf8_lossy(&output.stdout);
        let streams = text.lines().filter(|line| line.contains("STREAM"));
        Ok(streams
            .filter_map(|line| line.split_ascii_whitespace().next()?.parse().ok())
            .collect())
    }

    /// Starts the name server outside.
    pub(crate) fn start_upstream(&self) -> Result<()> {
        let mut command = self.router().command("dnsmasq")?;
        command.args([
            "--keep-in-foreground",
            "--conf-file=/dev/null",
            "--user=root",
            "--pid-file=",
        ]);
        command.args(["--no-resolv", "--no-hosts", "--bind-interfaces"]);
        command.arg(format!("--listen-address={}", address::router(0).v4));
        for address in address::CLIENT.both() {
            command.arg(format!("--address=/{OUTSIDE}/{address}"));
        }
        Process::start(&mut command, &self.state.directory().join("upstream.log")).map(drop)
    }
}

/// Writes the `resolv.conf` of a node, and the one of its tasks.
pub(crate) fn write(state: &State, node: &str) -> Result<()> {
    let directory = state.node_directory(node);
    for (file, server) in [("node", LOCAL), ("task", address::BRIDGE.v4)] {
        services::replace(
            &directory.join(format!("{file}.resolv.conf")),
            &format!("nameserver {server}\n"),
        )?;
    }
    Ok(())
}

/// Gives the command the resolver of its place, in mounts of its own, as `ip netns exec` does with `/etc/netns`.
pub(crate) fn direct(command: &mut Command, state: &State, place: &str) -> Result<()> {
    if server(state, place).is_none() {
        return Ok(());
    }
    let (node, file) = match state.tasks.get(place) {
        Some(task) => (task.node.as_str(), "task.resolv.conf"),
        None => (place, "node.resolv.conf"),
    };
    let own = state.node_directory(node).join(file);
    // It may be a link; where it leads nowhere, there is nothing to put another over.
    let Ok(machines) = fs::canonicalize(MACHINES) else {
        return Ok(());
    };
    let none: Option<&Path> = None;
    // SAFETY: between fork and exec only system calls are made, on values that live in the command; paths shorter than
    // PATH_MAX are handed over without allocation.
    unsafe {
        command.pre_exec(move || {
            unshare(CloneFlags::CLONE_NEWNS)?;
            mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_SLAVE, none)?;
            Ok(mount(Some(&own), &machines, none, MsFlags::MS_BIND, none)?)
        });
    }
    Ok(())
}
