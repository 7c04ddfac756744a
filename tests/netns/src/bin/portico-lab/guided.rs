//! The guided run: the mesh at work, and every claim checked.

mod claims;
mod names;
mod table;

use std::net::IpAddr;
use std::process::ExitCode;

use anyhow::Result;
use netns::client::idle::Idle;
use netns::client::load::{Load, Plan};
use netns::client::udp;
use netns::remains::{Machine, Traces};
use netns::{Cluster, address};

use self::claims::Claims;
use self::table::Answers;
use crate::command::{api, web};

/// Requests to each node, family and protocol when the table is filled.
const ROUNDS: u32 = 24;

/// Runs it all. Success only if every claim held.
pub fn run(prefix: &str) -> Result<ExitCode> {
    let mut claims = Claims::default();
    println!(
        "A client behind a router, three nodes, service web with three tasks on port 8080, and service api with three"
    );
    println!("tasks, which answers at its VIP inside the cluster only.");
    println!("Every node has its own 172.18.0.0/16: web.1, web.2 and web.3 have the address 172.18.0.2.\n");
    let machine = Machine::read();
    let mut cluster = Cluster::builder(prefix)
        .service("web", web(), 3)
        .service("api", api(), 3)
        .build()?;
    cluster.masquerade()?;
    cluster.settle()?;

    ask_every_node(&cluster, &mut claims)?;
    names::show(&mut cluster, &mut claims)?;

    println!(
        "\nRequests go on at a steady rate from here, with connections kept and with new ones, IPv4 and IPv6."
    );
    let mut idle = Idle::open(&cluster.client(), &cluster.ports(8080), 60)?;
    let loads = start(&cluster);
    let senders: Vec<_> = cluster
        .ports(8080)
        .into_iter()
        .map(|to| udp::Sender::start(&cluster.client(), to, 25.0))
        .collect();
    let more = |loads: &[Load]| loads.iter().try_for_each(|load| load.wait_for(100));

    println!("\nscale web=6");
    cluster.scale("web", 6)?;
    cluster.settle()?;
    more(&loads)?;
    let tasks = ask_every_node(&cluster, &mut claims)?;
    claims.hold(
        "after scaling to 6, all six tasks answer",
        tasks == 6,
        format!("{tasks} answered"),
    );

    println!("\ndrain node2");
    cluster.set_node_draining("node2", true)?;
    cluster.settle()?;
    let mut answers = Answers::default();
    answers.fill(&cluster, ROUNDS, &mut Vec::new());
    let left = answers.of_node(&cluster, "node2");
    claims.hold(
        "node2 drains: no new connection reaches its tasks",
        left == 0,
        format!("{left} did"),
    );
    more(&loads)?;
    cluster.set_node_draining("node2", false)?;
    cluster.settle()?;

    println!("\nkill-agent node1, and start it again");
    cluster.kill_agent("node1")?;
    more(&loads)?;
    let mut failed = Vec::new();
    Answers::default().fill(&cluster, ROUNDS, &mut failed);
    claims.hold(
        "node1 serves on while its agent is dead",
        failed.is_empty(),
        failed.join("; "),
    );
    cluster.start_agent("node1")?;
    cluster.wait_agents()?;
    cluster.settle()?;
    more(&loads)?;

    println!("\nscale web=3");
    cluster.scale("web", 3)?;
    more(&loads)?;

    for (load, name) in loads.into_iter().zip(["connections kept", "new connections"]) {
        let report = load.stop()?;
        let words = format!(
            "{name}: {} requests through all of this, none failed",
            report.requests()
        );
        claims.hold(&words, report.failures.is_empty(), report.complaint());
    }
    let mut longest = std::time::Duration::ZERO;
    let mut sent = 0;
    for sender in senders {
        let account = sender.stop()?;
        sent += account.packets.len();
        longest = longest.max(account.longest_silence());
    }
    let words = format!("UDP: {sent} packets of 6 flows, no flow silent for a second");
    claims.hold(
        &words,
        longest.as_secs() < 1,
        format!("one was silent for {longest:?}"),
    );
    idle.retain(|task| ["web.1", "web.2", "web.3"].contains(&task));
    let words = format!("{} connections that said nothing meanwhile are alive", idle.len());
    let proof = idle.prove();
    claims.hold(&words, proof.is_ok(), proof.err().unwrap_or_default().join("; "));

    let traces = Traces::of(&cluster, machine)?;
    drop(cluster);
    let left = traces.left();
    claims.hold(
        "no namespace, process, cgroup, mount, pin or file is left behind",
        left.is_empty(),
        left.join("; "),
    );
    Ok(claims.verdict())
}

/// Fills and prints the table of who answered; gives the number of tasks that did.
fn ask_every_node(cluster: &Cluster, claims: &mut Claims) -> Result<usize> {
    let mut answers = Answers::default();
    let mut failed = Vec::new();
    answers.fill_shown(cluster, ROUNDS, &mut failed);
    claims.hold(
        "every request to every node was answered",
        failed.is_empty(),
        failed.join("; "),
    );
    let nodes = answers.nodes_behind_every_row(cluster);
    claims.hold(
        "every node answers for tasks on every node, TCP and UDP, IPv4 and IPv6",
        nodes,
        String::new(),
    );
    let seen = answers.clients();
    let own: Vec<IpAddr> = address::CLIENT.both().into();
    claims.hold(
        "every task saw the client's own address",
        seen == own,
        format!("{seen:?}"),
    );
    Ok(answers.tasks())
}

fn start(cluster: &Cluster) -> Vec<Load> {
    let targets = cluster.ports(8080);
    [
        Plan::keep_alive(&targets, 60.0),
        Plan::new_connections(&targets, 60.0),
    ]
    .map(|plan| plan.start(&cluster.client()))
    .into()
}
