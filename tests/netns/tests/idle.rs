//! Connections that say nothing outlive every change but their own task's end.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::net::SocketAddr;
use std::time::Duration;

use netns::client::idle::Idle;
use netns::{Cluster, Service, address, testing};

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
        cluster.kill_agent(&node).unwrap();
        cluster.start_agent(&node).unwrap();
    }
    cluster.wait_agents().unwrap();
    cluster.settle().unwrap();
    idle.prove().unwrap_or_else(|dead| panic!("{dead:#?}"));
}

/// No test waits an hour: the agents are started again in time namespaces whose clock is an hour ahead, so that every
/// entry looks that old to them. Timers in the programs count from packets, which come at the end.
#[test]
fn a_connection_idle_longer_than_any_timer_continues() {
    let Some(mut cluster) = testing::web("hour", 3).stage() else {
        return;
    };
    let mut idle = Idle::open(&cluster.client(), &cluster.ports(8080), 60).unwrap();
    for node in cluster.nodes() {
        cluster.kill_agent(&node).unwrap();
        cluster
            .start_agent_ahead(&node, Duration::from_secs(3600))
            .unwrap();
    }
    cluster.wait_agents().unwrap();
    cluster.settle().unwrap();
    // The rounds of expiry are seconds apart; a report of flows comes with each.
    std::thread::sleep(Duration::from_secs(15));
    idle.prove().unwrap_or_else(|dead| panic!("{dead:#?}"));
}
