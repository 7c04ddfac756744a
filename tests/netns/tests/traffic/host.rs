//! The nodes' own processes, and those of containers on the host's network, reach every VIP by `portico0`.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::net::SocketAddr;
use std::time::Duration;

use lb_common::host::{NODE_VIP4, NODE_VIP6};
use netns::builder::Builder;
use netns::client::http::{self, Connection};
use netns::client::load::Plan;
use netns::client::udp;
use netns::{Cluster, Service, address, testing, tool, wait};

fn web(name: &str, tasks: u32) -> Builder {
    let web = Service::new(&testing::WEB).vip(1);
    testing::cluster(name).service("web", web, tasks)
}

const SOON: Duration = Duration::from_secs(10);

/// Where the processes of a node find the service `web`.
fn vips() -> [SocketAddr; 2] {
    address::vip(1).both().map(|vip| SocketAddr::new(vip, 8080))
}

/// Where they find it otherwise: at the VIPs that it was given, by the port of its tasks.
fn given(cluster: &Cluster) -> Vec<SocketAddr> {
    let web = cluster
        .portico_json("node1", &["service", "show", "web"])
        .unwrap();
    let vips = web["naming"]["vips"].as_array().unwrap();
    let at = |vip: &serde_json::Value| Some(SocketAddr::new(vip.as_str()?.parse().ok()?, 80));
    let given: Vec<SocketAddr> = vips.iter().filter_map(at).collect();
    assert_eq!(given.len(), 2, "{web}");
    given
}

/// Where they find what is published, whatever address they asked for.
fn node_vips() -> [SocketAddr; 2] {
    [(NODE_VIP4, 8080).into(), (NODE_VIP6, 8080).into()]
}

/// Waits until every node's device is whole.
fn whole(cluster: &Cluster) {
    for node in cluster.agents() {
        wait::until_some(&format!("portico0 of {node} is whole"), SOON, || {
            let status = cluster
                .portico_json(&node, &["status"])
                .map_err(|error| error.to_string())?;
            let device = &status["planes"][0]["report"]["portico0"];
            let routed = device["wanted"].as_u64() > Some(0) && device["routes"] == device["wanted"];
            if device["attached"] == true && routed {
                return Ok(Some(()));
            }
            Err(status.to_string())
        })
        .unwrap();
    }
}

/// Every one of `tasks` answers a process of the node, over TCP and UDP, and sees the node's own address.
fn reaches(cluster: &Cluster, node: &str, targets: &[SocketAddr], tasks: usize) {
    let place = cluster.place(node);
    let own = cluster.state.nodes[node].address(0);
    for &target in targets {
        let mut answers: BTreeMap<String, [u32; 2]> = BTreeMap::new();
        for _ in 0..30 {
            let answer =
                http::ask(&place, target).unwrap_or_else(|error| panic!("{node}, {target}: {error:#}"));
            assert_eq!(
                answer.client,
                own.like(target.ip()),
                "{node} seen by {}",
                answer.task
            );
            answers.entry(answer.task).or_default()[0] += 1;
            let (task, seen) =
                udp::ask(&place, target).unwrap_or_else(|error| panic!("{node}, {target}: {error:#}"));
            assert_eq!(seen, own.like(target.ip()), "{node} seen by {task}");
            answers.entry(task).or_default()[1] += 1;
        }
        assert_eq!(answers.len(), tasks, "{node}, {target}: {answers:?}");
        assert!(
            answers.values().flatten().all(|&number| number > 0),
            "{node}, {target}: {answers:?}"
        );
    }
}

/// As much as many full segments and super-packets, both ways.
fn downloads(cluster: &Cluster, node: &str, target: SocketAddr) {
    let size = 8 << 20;
    let read = cluster.place(node).run(|| -> std::io::Result<usize> {
        let mut connection = Connection::open(target, None)?;
        Ok(connection.get(&format!("/bytes/{size}"))?.1.len())
    });
    assert_eq!(read.unwrap().unwrap(), size, "{node}, {target}");
}

#[test]
fn processes_of_every_node_reach_every_task_by_vip_whatever_filters_and_forwards() {
    let Some(cluster) = testing::web("host", 3).stage() else {
        return;
    };
    whole(&cluster);
    let strict = [
        ("net/ipv4/conf/all/rp_filter", "1"),
        ("net/ipv4/conf/default/rp_filter", "1"),
        ("net/ipv4/conf/portico0/rp_filter", "1"),
    ];
    cluster.place("node2").sysctl(&strict).unwrap();
    let no_router = [
        ("net/ipv4/ip_forward", "0"),
        ("net/ipv6/conf/all/forwarding", "0"),
    ];
    cluster.place("node3").sysctl(&no_router).unwrap();
    let targets = given(&cluster);
    for node in cluster.nodes() {
        reaches(&cluster, &node, &targets, 3);
        reaches(&cluster, &node, &node_vips(), 3);
        for &target in &targets {
            downloads(&cluster, &node, target);
        }
    }
}

#[test]
fn super_packets_of_a_nodes_own_process_arrive_where_wires_have_offloads() {
    let Some(cluster) = web("hostgso", 2).nodes(2).offloads(true).stage() else {
        return;
    };
    whole(&cluster);
    for target in vips() {
        for _ in 0..8 {
            downloads(&cluster, "node1", target);
        }
    }
    reaches(&cluster, "node1", &vips(), 2);
}

#[test]
fn processes_of_a_node_without_a_task_reach_the_one_that_there_is() {
    let Some(cluster) = web("hostalone", 1).stage() else {
        return;
    };
    whole(&cluster);
    for node in cluster.nodes() {
        reaches(&cluster, &node, &vips(), 1);
    }
}

#[test]
fn processes_of_a_node_do_not_notice_that_its_agent_is_killed_and_comes_back() {
    let Some(mut cluster) = web("hostkill", 3).stage() else {
        return;
    };
    whole(&cluster);
    let targets = vips();
    let place = cluster.place("node1");
    let loads = [
        Plan::keep_alive(&targets, 100.0),
        Plan::new_connections(&targets, 100.0),
    ]
    .map(|plan| plan.start(&place));
    let go_on = || loads.iter().for_each(|load| load.wait_for(100).unwrap());
    go_on();
    cluster.kill_agent("node1").unwrap();
    go_on();
    reaches(&cluster, "node1", &targets, 3);
    cluster.start_agent("node1").unwrap();
    cluster.wait_agents().unwrap();
    cluster.settle().unwrap();
    go_on();
    for load in loads {
        load.stop().unwrap().assert_flawless();
    }
}

#[test]
fn portico0_is_back_within_seconds_of_its_removal_and_connections_go_on() {
    let Some(cluster) = web("hostgone", 3).stage() else {
        return;
    };
    whole(&cluster);
    let place = cluster.place("node1");
    let targets = vips();
    let mut open: Vec<Connection> = place
        .run(|| {
            let connect = |&target: &SocketAddr| {
                let mut connection = Connection::open(target, None).unwrap();
                connection.ask().unwrap();
                // What is under way while the device is away comes late, and comes.
                connection.send("/slow/2000").unwrap();
                connection
            };
            (0..4).flat_map(|_| targets.iter().map(connect)).collect()
        })
        .unwrap();
    tool::ip(Some(place.name()), &["link del portico0".into()]).unwrap();
    whole(&cluster);
    for connection in &mut open {
        connection
            .stream()
            .set_read_timeout(Some(Duration::from_secs(10)))
            .unwrap();
        connection.receive().unwrap();
        let mut nothing = [0; 1];
        connection.stream().set_nonblocking(true).unwrap();
        assert!(connection.stream().read(&mut nothing).is_err());
    }
    reaches(&cluster, "node1", &targets, 3);
}

#[test]
fn a_node_without_ipv6_of_its_own_reaches_ipv6_vips_all_the_same() {
    let Some(cluster) = web("hostfour", 3).stage() else {
        return;
    };
    let place = cluster.place("node2");
    let own = cluster.state.nodes["node2"].address(0).v6;
    tool::ip(Some(place.name()), &[format!("address del {own}/64 dev eth0")]).unwrap();
    let six = vips()[1];
    let route = format!("route get {}", six.ip());
    wait::until("another source is chosen", SOON, || {
        let output = place
            .command("ip")
            .unwrap()
            .args(route.split(' '))
            .output()
            .unwrap();
        String::from_utf8_lossy(&output.stdout).contains("src fd70:6f72:7469:636f::1:")
    })
    .unwrap();
    let mut tasks = BTreeSet::new();
    for _ in 0..30 {
        tasks.insert(http::ask(&place, six).unwrap().task);
        tasks.insert(udp::ask(&place, six).unwrap().0);
    }
    assert_eq!(tasks.len(), 3);
}

#[test]
fn a_port_that_no_service_has_is_refused_at_once() {
    let Some(cluster) = web("hostclosed", 1).stage() else {
        return;
    };
    whole(&cluster);
    for vip in vips() {
        let closed = SocketAddr::new(vip.ip(), 81);
        let error = cluster
            .place("node2")
            .run(|| Connection::open(closed, None).unwrap_err())
            .unwrap();
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused, "{closed}");
    }
}
