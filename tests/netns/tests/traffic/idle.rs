//! Connections that say nothing outlive every change but their own task's end.

use std::net::SocketAddr;
use std::time::Duration;

use netns::client::idle::Idle;
use netns::client::raw::Wire;
use netns::client::raw::tcp::{Segment, Speaker, flag};
use netns::{Cluster, Service, address, testing, topology, wait};

use crate::support::tables;

const COUNT: usize = 300;

/// 3 → 6 → 9 → 6 → 3 tasks; connections of the first three say nothing until the end. Some opened in between belong to
/// tasks that stay, too.
fn survive_scaling(cluster: &mut Cluster, targets: &[SocketAddr]) {
    let mut early = Idle::open(&cluster.client(), targets, COUNT).unwrap();
    assert_eq!(early.by_task().len(), 3, "{:?}", early.by_task());
    cluster.scale("web", 6).unwrap();
    cluster.settle().unwrap();
    let mut late = Idle::open(&cluster.client(), targets, COUNT).unwrap();
    assert_eq!(late.by_task().len(), 6, "{:?}", late.by_task());
    cluster.scale("web", 9).unwrap();
    cluster.settle().unwrap();
    late.retain(|task| ["web.1", "web.2", "web.3"].contains(&task));
    cluster.scale("web", 6).unwrap();
    cluster.scale("web", 3).unwrap();
    early
        .prove()
        .unwrap_or_else(|dead| panic!("{} of {COUNT} died: {dead:#?}", dead.len()));
    late.prove()
        .unwrap_or_else(|dead| panic!("{} of {} died: {dead:#?}", dead.len(), late.len()));
}

/// Live flows of a node, as its agent counted them in the last whole round.
fn reported(cluster: &Cluster, node: &str) -> u64 {
    let status = cluster.portico_json(node, &["status"]).unwrap();
    let flows = &status["planes"][0]["report"]["flows"];
    flows["established"].as_u64().unwrap()
}

#[test]
fn silent_connections_survive_scaling_to_nine_and_back() {
    let Some(mut cluster) = testing::web("silent", 3).stage() else {
        return;
    };
    let targets = cluster.ports(8080);
    survive_scaling(&mut cluster, &targets);
}

#[test]
fn silent_connections_survive_scaling_when_every_packet_comes_by_another_node() {
    let web = Service::new(&["8080:80"]).vip(1);
    let Some(mut cluster) = testing::cluster("scatter").service("web", web, 3).stage() else {
        return;
    };
    cluster.scatter_vips().unwrap();
    let targets = address::vip(1).both().map(|vip| SocketAddr::new(vip, 8080));
    survive_scaling(&mut cluster, &targets);
}

#[test]
fn a_connection_outlives_its_tasks_drain_and_an_agents_restart() {
    let Some(mut cluster) = testing::web("outlives", 3).stage() else {
        return;
    };
    let mut idle = Idle::open(&cluster.client(), &cluster.ports(8080), 60).unwrap();
    cluster.drain_task("web.1").unwrap();
    cluster.settle().unwrap();
    for node in cluster.nodes() {
        cluster.restart_agent(&node).unwrap();
    }
    cluster.wait_agents().unwrap();
    cluster.settle().unwrap();
    idle.prove().unwrap_or_else(|dead| panic!("{dead:#?}"));
}

/// A connection whose task's kernel has forgotten it, without a word that a node could have heard: the reset that it is
/// given comes out of its own device, and is not answered.
fn forgotten(cluster: &Cluster, wire: &Wire, own: SocketAddr, target: SocketAddr) {
    let mut speaker = Speaker::connect(wire, own, target, 1000).unwrap();
    let answer: serde_json::Value =
        serde_json::from_str(speaker.ask().unwrap().split("\r\n\r\n").nth(1).unwrap()).unwrap();
    let name = answer["task"].as_str().unwrap();
    let task = cluster.task(name).unwrap();
    let port = answer["port"].as_u64().unwrap() as u16;
    let before = cluster.connections(name).unwrap();
    let inside = Wire::open(
        &cluster.place(&task.node),
        &topology::task_device(name),
        &cluster.place(name),
        "eth0",
    )
    .unwrap();
    let reset = Segment {
        from: SocketAddr::new(own.ip(), port),
        to: SocketAddr::new(task.address.like(own.ip()), 80),
        ..speaker.segment(flag::RST, &[])
    };
    inside.send(&reset.frame(&inside)).unwrap();
    wait::until(&format!("{name} forgets {own}"), Duration::from_secs(10), || {
        cluster.connections(name).unwrap() == before - 1
    })
    .unwrap();
}

/// No test waits an hour: the agents are started again in time namespaces whose clock is an hour ahead, so that every
/// entry looks that old to them. Timers in the programs count from packets, which come at the end. That the entries were
/// looked at at all is shown by those of connections that their tasks have forgotten: these go.
#[test]
fn a_connection_idle_longer_than_any_timer_continues() {
    const LIVE: usize = 60;
    const FORGOTTEN: usize = 12;
    let Some(mut cluster) = testing::web("hour", 3).stage() else {
        return;
    };
    let mut idle = Idle::open(&cluster.client(), &cluster.ports(8080), LIVE).unwrap();
    let wire = Wire::of_client(&cluster).unwrap();
    for (number, target) in (1u8..=FORGOTTEN as u8).zip(cluster.ports(8080).into_iter().cycle()) {
        let own = SocketAddr::new(address::silent(number).like(target.ip()), 6000);
        forgotten(&cluster, &wire, own, target);
    }
    let entries = || {
        let tables = tables::all(&cluster);
        (tables.flow, tables.rev)
    };
    assert_eq!(entries(), (LIVE + FORGOTTEN, LIVE + FORGOTTEN));
    cluster.restart_agents_ahead(Duration::from_secs(3600)).unwrap();
    cluster.settle().unwrap();
    let looked = || {
        let tables = tables::all(&cluster);
        tables.flow <= LIVE && tables.rev <= LIVE
    };
    wait::until("forgotten connections end", Duration::from_secs(60), looked).unwrap();
    // A whole round more: whatever else this clock would end has ended.
    let rounds = || cluster.nodes().iter().all(|node| reported(&cluster, node) > 0);
    wait::until(
        "every node has looked through its flows",
        Duration::from_secs(60),
        rounds,
    )
    .unwrap();
    let tables = tables::all(&cluster);
    assert_eq!((tables.flow, tables.rev), (LIVE, LIVE));
    idle.prove().unwrap_or_else(|dead| panic!("{dead:#?}"));
}
