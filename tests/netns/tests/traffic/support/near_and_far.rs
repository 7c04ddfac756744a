//! Two nodes with a service of the first one's own tasks and a service of both; their processes run in their node's cgroup, as
//! everything on a real machine does.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use netns::testing::Stage;
use netns::{Service, address, cgroup, testing, wait};

use super::caller::Caller;

/// Ports of the service `near`, whose tasks all run on the first node.
pub const NEAR: [&str; 2] = ["8080:80", "8080:80/udp"];

/// Of `far`, published on every node.
pub const FAR: [&str; 2] = ["8081:80", "8081:80/udp"];

/// Two nodes; all tasks of `near` run on the first, one of `far` on each.
pub fn stage(name: &str) -> Option<Stage> {
    stage_with(name, "")
}

/// The same with more lines of configuration.
pub fn stage_with(name: &str, lines: &str) -> Option<Stage> {
    let mut cluster = testing::cluster(name)
        .nodes(2)
        .configuration(lines)
        .service("near", Service::new(&NEAR).vip(1), 0)
        .service("far", Service::new(&FAR), 2)
        .stage()?;
    if !has_cgroups(&cluster, name) {
        return None;
    }
    for _ in 0..3 {
        cluster.add_task("near", Some("node1")).unwrap();
    }
    cluster.publish().unwrap();
    cluster.settle().unwrap();
    hooked(&cluster);
    Some(cluster)
}

/// Whether processes of nodes are in their node's cgroup. Without cgroup2 they are not: the test says SKIPPED, and fails in CI.
pub fn has_cgroups(cluster: &Stage, test: &str) -> bool {
    let there = cgroup::of(&cluster.state.prefix, "node1").is_some();
    if !there {
        assert!(
            std::env::var("CI").is_err(),
            "{test} needs cgroup2, and CI has it"
        );
        eprintln!("{test} SKIPPED: this machine has no cgroup2");
    }
    there
}

/// Tasks are found a moment after they are known; until then connections are left to the packets.
pub fn hooked(cluster: &Stage) {
    let vip = address::vip(1).v4.to_string();
    wait::until("connect() leads to tasks", Duration::from_secs(10), || {
        let caller = Caller::connect(cluster, "node1", &vip, 8080);
        caller.first["peer"].is_string() && caller.leads_to(cluster, "node1").starts_with("172.18.0.")
    })
    .unwrap();
}

/// The IPv4 VIP that `far` was given, with the port of its tasks.
pub fn far(cluster: &Stage) -> SocketAddr {
    let far = cluster
        .portico_json("node1", &["service", "show", "far"])
        .unwrap();
    let vips = far["vips"]
        .as_array()
        .or_else(|| far["naming"]["vips"].as_array());
    let addresses = vips.unwrap_or_else(|| panic!("{far}")).iter();
    let mut addresses = addresses.filter_map(|vip| vip.as_str()?.parse::<IpAddr>().ok());
    SocketAddr::new(addresses.find(IpAddr::is_ipv4).unwrap(), 80)
}

/// Asks until both tasks of `far` have answered.
pub fn both_answer(cluster: &Stage, host: &str, port: u16) {
    let mut tasks = BTreeSet::new();
    for _ in 0..40 {
        let mut caller = Caller::connect(cluster, "node1", host, port);
        assert_eq!(caller.peer(), (host, port.into()));
        tasks.insert(caller.task());
    }
    assert_eq!(tasks.len(), 2, "{host} is answered by {tasks:?}");
}
