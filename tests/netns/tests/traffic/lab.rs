//! The lab itself: its machines before there is a mesh in them, and what is left of everything after it: nothing.

use std::process::Command;
use std::time::Duration;

use netns::address;
use netns::builder::Builder;
use netns::client::raw::Wire;
use netns::client::raw::tcp::{Speaker, flag};
use netns::client::{http, udp};
use netns::process::Process;
use netns::remains::{Machine, Traces};
use netns::state::{Node, State, Task};
use netns::{Cluster, Namespace, Service, services, supervisor, testing, tool, wait};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::support::objects;

fn machines(name: &str) -> Builder {
    testing::web(name, 3).without_agents()
}

#[test]
fn a_node_reaches_the_task_on_its_bridge_and_only_that() {
    let Some(cluster) = machines("bridge").stage() else {
        return;
    };
    for (number, node) in cluster.nodes().iter().enumerate() {
        for address in address::task(2).both() {
            let answer = http::ask(&cluster.place(node), (address, 80).into()).unwrap();
            assert_eq!(answer.task, format!("web.{}", number + 1));
            assert_eq!(&answer.node, node);
            assert_eq!(answer.client, address::BRIDGE.like(address));
            let (task, client) = udp::ask(&cluster.place(node), (address, 80).into()).unwrap();
            assert_eq!((task, client), (answer.task, answer.client));
        }
    }
}

#[test]
fn a_client_reaches_a_task_and_hears_it_where_the_router_knows_the_way() {
    let Some(cluster) = machines("routed").stage() else {
        return;
    };
    let node2 = cluster.state.nodes["node2"].address(0);
    let ways = [
        format!("route add 172.18.0.0/16 via {}", node2.v4),
        format!("route add 2001:db8:18::/64 via {}", node2.v6),
    ];
    tool::ip(Some(cluster.router().name()), &ways).unwrap();
    for address in address::task(2).both() {
        let answer = http::ask(&cluster.client(), (address, 80).into()).unwrap();
        assert_eq!(answer.task, "web.2");
        assert_eq!(answer.client, address::CLIENT.like(address));
    }
}

#[test]
fn a_connection_can_be_spoken_by_hand() {
    let Some(cluster) = machines("byhand").stage() else {
        return;
    };
    let node1 = cluster.state.nodes["node1"].address(0);
    let ways = [
        format!("route add 172.18.0.0/16 via {}", node1.v4),
        format!("route add 2001:db8:18::/64 via {}", node1.v6),
    ];
    tool::ip(Some(cluster.router().name()), &ways).unwrap();
    let wire = Wire::of_client(&cluster).unwrap();
    for task in address::task(2).both() {
        let own = (address::silent(1).like(task), 4000).into();
        let mut speaker = Speaker::connect(&wire, own, (task, 80).into(), u32::MAX - 5).unwrap();
        assert!(speaker.ask().unwrap().contains("web.1"));
        speaker.say(flag::FIN | flag::ACK, &[]).unwrap();
        assert!(
            speaker
                .hear(Duration::from_secs(5), |segment| segment.has(flag::FIN))
                .is_some()
        );
    }
}

#[test]
fn what_a_cluster_leaves_behind_is_found() {
    let Some(cluster) = machines("remains").stage() else {
        return;
    };
    let traces = Traces::of(&cluster, Machine::read()).unwrap();
    let standing = traces.left().join("\n");
    for what in [
        "namespace portico-remains-node1",
        "process ",
        "the supervisor",
        "files in ",
    ] {
        assert!(standing.contains(what), "{what}: {standing}");
    }
    drop(cluster);
    assert_eq!(traces.left(), Vec::<String>::new());
}

#[test]
fn a_killed_run_leaves_nothing_behind() {
    let Some(_turn) = testing::turn("a_killed_run_leaves_nothing_behind") else {
        return;
    };
    let mut holder = Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "lab::holder"])
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let cluster = wait::until_some(
        "the cluster is up, with its agents",
        Duration::from_secs(60),
        || -> anyhow::Result<_> {
            let up = |cluster: &Cluster| cluster.agents().len() == 3;
            Ok(Cluster::attach("portico-held").ok().filter(up))
        },
    )
    .unwrap()
    .0;
    cluster.wait_agents().unwrap();
    cluster.settle().unwrap();
    let places: Vec<_> = ["client", "node1", "web.1"]
        .map(|name| cluster.place(name))
        .into();
    assert!(!supervisor::processes(&places).is_empty());
    let agents = agents(&cluster);
    let objects = objects::of(&agents);
    let mounts = mounts();
    kill(Pid::from_raw(holder.id() as i32), Signal::SIGKILL).unwrap();
    holder.wait().unwrap();
    let gone = || {
        places.iter().all(|place| !place.exists())
            && !agents.iter().any(Process::is_alive)
            && !cluster.state.directory().exists()
            && supervisor::mounts("portico-held").is_err()
    };
    wait::until(
        "namespaces, processes, files and the supervisor go",
        Duration::from_secs(30),
        gone,
    )
    .unwrap();
    objects.wait_gone();
    assert_eq!(self::mounts(), mounts);
}

fn agents(cluster: &Cluster) -> Vec<Process> {
    let agents: Vec<_> = cluster
        .state
        .nodes
        .values()
        .filter_map(|node| node.agent)
        .collect();
    assert!(agents.iter().all(Process::is_alive));
    agents
}

/// /run/netns itself is made a mount by the first namespace that anybody ever makes (ip-netns(8)).
fn mounts() -> Vec<String> {
    let mounts = std::fs::read_to_string("/proc/mounts").unwrap();
    let mounts = mounts.lines().filter(|line| !line.contains("/netns"));
    mounts.map(str::to_owned).collect()
}

/// What the front end prints; the test fails where it does.
fn lab(arguments: &[&str]) -> String {
    let program = env!("CARGO_BIN_EXE_portico-lab");
    tool::run(
        Command::new(program)
            .args(["--prefix", "portico-front"])
            .args(arguments),
    )
    .unwrap()
}

#[test]
fn the_front_end_brings_a_cluster_up_changes_it_and_leaves_nothing_behind() {
    let test = "the_front_end_brings_a_cluster_up_changes_it_and_leaves_nothing_behind";
    let Some(_turn) = testing::turn(test) else { return };
    let mounts = mounts();
    lab(&["up", "--nodes", "2", "--scale", "web=2"]);
    assert!(lab(&["exec", "web.2", "--", "ip", "-br", "addr"]).contains("172.18.0.2/16"));
    assert_eq!(lab(&["exec", "node2", "--", "hostname"]), "node2\n");
    assert_eq!(
        lab(&["exec", "web.1", "--", "cat", "/etc/resolv.conf"]),
        "nameserver 172.18.0.1\n"
    );
    lab(&["scale", "web=3"]);
    lab(&["drain", "node2"]);
    let places: serde_json::Value = serde_json::from_str(&lab(&["status", "-o", "json"])).unwrap();
    let names: Vec<&str> = places
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|place| place["place"].as_str())
        .collect();
    assert_eq!(
        names,
        [
            "client", "router", "node1", "node2", "api.1", "api.2", "api.3", "web.1", "web.2", "web.3"
        ]
    );
    assert_eq!(places[4]["resolver"], "172.18.0.1");
    assert_eq!(places[3]["state"], "draining");
    assert_eq!(places[3]["addresses"][0]["v4"], "192.0.2.12");
    let namespaces: Vec<Namespace> = places
        .as_array()
        .unwrap()
        .iter()
        .map(|place| Namespace::named(place["namespace"].as_str().unwrap()))
        .collect();
    // Before one of them is killed with its machine.
    let agents = agents(&Cluster::attach("portico-front").unwrap());
    let objects = objects::of(&agents);
    lab(&["stop-task", "web.1"]);
    lab(&["kill-node", "node1"]);
    lab(&["down"]);
    assert!(!agents.iter().any(Process::is_alive));
    objects.wait_gone();
    assert!(!namespaces.iter().any(Namespace::exists));
    assert!(!netns::state::directory("portico-front").exists());
    assert!(
        supervisor::mounts("portico-front").is_err(),
        "the supervisor is still there"
    );
    assert_eq!(self::mounts(), mounts);
    lab(&["down"]);
}

#[test]
#[ignore = "started by a_killed_run_leaves_nothing_behind, which kills it"]
fn holder() {
    let _cluster = testing::web("held", 3).build().unwrap();
    std::thread::sleep(Duration::from_secs(60));
}

#[test]
fn the_agents_file_source_understands_the_labs_file() {
    let mut state = State {
        uplinks: 1,
        ..State::default()
    };
    for index in 1..=3 {
        state.nodes.insert(
            format!("node{index}"),
            Node {
                index,
                draining: index == 2,
                dead: false,
                agent: None,
                engine: None,
            },
        );
    }
    let web = Service::new(&["8080:80", "8080:80/udp"])
        .vip(1)
        .with("health: { http: /healthz, interval: 200ms }");
    state.services.insert("web".into(), web);
    state.services.insert("empty".into(), Service::new(&["9090:80"]));
    let task = Task {
        service: "web".into(),
        number: 1,
        identity: "web.1".into(),
        node: "node1".into(),
        address: address::task(2),
        draining: true,
        weight: Some(2),
        process: None,
    };
    state.tasks.insert("web.1".into(), task);
    let wishes =
        lb_userspace::source::file::parse("services.yaml".as_ref(), &services::render(&state)).unwrap();
    assert_eq!(
        wishes.services["web"].backends[0].addresses,
        address::task(2).both()
    );
    assert!(wishes.nodes["node2"].draining);
}
