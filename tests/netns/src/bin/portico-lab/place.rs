//! The places of the lab: shown, and gone to.

use std::net::Ipv4Addr;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use comfy_table::{Table, presets};
use netns::address::{self, Pair};
use netns::{Cluster, names, tool};
use serde::Serialize;

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub enum Output {
    Table,
    Json,
}

#[derive(Debug, Serialize)]
struct Place {
    place: String,
    namespace: String,
    addresses: Vec<Pair>,
    /// The node that a task runs on.
    #[serde(skip_serializing_if = "Option::is_none")]
    node: Option<String>,
    /// The name server in its `/etc/resolv.conf`.
    #[serde(skip_serializing_if = "Option::is_none")]
    resolver: Option<Ipv4Addr>,
    state: &'static str,
}

/// Prints every place with its addresses.
pub fn show(cluster: &Cluster, output: Output) -> Result<()> {
    let places = places(cluster);
    if let Output::Json = output {
        println!("{}", serde_json::to_string_pretty(&places)?);
        return Ok(());
    }
    let mut table = Table::new();
    table
        .load_preset(presets::NOTHING)
        .set_header(["PLACE", "NAMESPACE", "NODE", "STATE", "ADDRESSES"]);
    for place in places {
        let addresses: Vec<String> = place
            .addresses
            .iter()
            .map(|pair| format!("{} {}", pair.v4, pair.v6))
            .collect();
        let node = place.node.unwrap_or_default();
        table.add_row([
            place.place,
            place.namespace,
            node,
            place.state.to_owned(),
            addresses.join("  "),
        ]);
    }
    println!("{table}");
    Ok(())
}

fn places(cluster: &Cluster) -> Vec<Place> {
    let state = &cluster.state;
    let place = |name: &str, node: Option<&str>, standing, addresses| Place {
        place: name.to_owned(),
        namespace: cluster.place(name).name().to_owned(),
        addresses,
        node: node.map(str::to_owned),
        resolver: names::server(state, name),
        state: standing,
    };
    let underlays = 0..state.uplinks;
    let mut routers = vec![address::CLIENT_ROUTER];
    routers.extend(underlays.clone().map(address::router));
    let mut places = vec![
        place("client", None, "up", vec![address::CLIENT]),
        place("router", None, "up", routers),
    ];
    for (name, node) in &state.nodes {
        let standing = match node.agent {
            _ if node.dead => "dead",
            _ if node.draining => "draining",
            Some(agent) if agent.is_alive() => "agent runs",
            _ => "no agent",
        };
        places.push(place(
            name,
            None,
            standing,
            underlays.clone().map(|number| node.address(number)).collect(),
        ));
    }
    for service in state.services.keys() {
        for (name, task) in state.tasks_of(service) {
            let standing = match task.is_running() {
                false => "dead",
                true if task.draining => "draining",
                true => "runs",
            };
            places.push(place(&name, Some(&task.node), standing, vec![task.address]));
        }
    }
    places
}

/// Runs a command at a place and takes over its exit code.
pub fn exec(cluster: &Cluster, place: &str, command: &[String]) -> Result<ExitCode> {
    let Some((program, arguments)) = command.split_first() else {
        bail!("no command")
    };
    let mut command = cluster.command(place, program)?;
    if program == "portico" && cluster.state.nodes.contains_key(place) {
        // As on a real machine, where the configuration is in its usual place.
        command = cluster.command(place, tool::program("portico")?)?;
        command.arg("--config").arg(cluster.configuration_file(place));
    }
    let status = command
        .args(arguments)
        .status()
        .with_context(|| format!("cannot run {program}"))?;
    // As shells do: 128 and the number of the signal.
    let code = status
        .code()
        .unwrap_or_else(|| 128 + status.signal().unwrap_or(0));
    Ok(ExitCode::from(u8::try_from(code).unwrap_or(1)))
}
