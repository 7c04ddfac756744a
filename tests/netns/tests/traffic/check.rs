//! What an agent without packet programs is told to be, and says of itself.

use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use netns::client::http;
use netns::client::load::Plan;
use netns::testing::{self, Stage};
use netns::{Service, wait};

const SOON: Duration = Duration::from_secs(60);

/// Whatever its exit code is.
fn check(cluster: &Stage, node: &str) -> String {
    format!("{:?}", cluster.portico(node, &["check"]))
}

#[test]
fn a_healthy_node_without_packet_programs_passes_its_check_and_others_listeners_are_told_from_its_own() {
    let Some(mut cluster) = testing::web("checked", 2).nodes(2).mode("proxy").stage() else {
        return;
    };
    let foreign = "something else on this node listens on";
    let found = check(&cluster, "node1");
    assert!(!found.contains("FAILURE") && !found.contains(foreign), "{found}");
    assert!(found.contains("there are none, the proxy serves"), "{found}");
    // A route leads there, and no device has it.
    let status = cluster.portico_json("node1", &["status"]).unwrap();
    let listening = status["names"]["listening"].as_array().unwrap();
    assert!(
        !listening.is_empty() && listening.iter().all(|at| at["present"] == true),
        "{listening:?}"
    );
    let bind = || TcpListener::bind("0.0.0.0:8090").unwrap();
    let _program = cluster.place("node1").run(bind).unwrap();
    cluster.set_service("late", Service::new(&["8090:80"]));
    cluster.publish().unwrap();
    let told = format!("{foreign} 8090/tcp (late): clients are answered by it");
    wait::until("the other program is told of", SOON, || {
        check(&cluster, "node1").contains(&told)
    })
    .unwrap();
    assert!(!check(&cluster, "node2").contains(foreign));
}

#[test]
fn a_node_that_the_relay_cannot_reach_is_a_problem_until_it_can() {
    let Some(cluster) = testing::web("unreached", 2).nodes(2).mode("proxy").stage() else {
        return;
    };
    let is_told = || {
        let status = cluster.portico("node1", &["status"]).unwrap();
        status.contains("node node2 cannot be reached by the relay: no answer in time")
            && status.contains("fix: let tcp/7950 pass between the nodes")
    };
    let target = cluster.ports(8080)[0];
    let ask = || http::ask(&cluster.client(), target);
    wait::until("it is answered", SOON, || ask().is_ok()).unwrap();
    assert!(!is_told());
    cluster.set_peer_port("node2", false).unwrap();
    wait::until("it is told of", SOON, || {
        let _ = ask();
        is_told()
    })
    .unwrap();
    // Nobody has to ask for it to be found well.
    cluster.set_peer_port("node2", true).unwrap();
    wait::until("it is told of no more", SOON, || !is_told()).unwrap();
}

#[test]
fn other_nodes_wait_while_an_agent_has_no_descriptors_and_are_served_when_it_has() {
    let Some(cluster) = testing::web("nofiles", 1).nodes(2).mode("proxy").stage() else {
        return;
    };
    assert_eq!(cluster.task("web.1").unwrap().node, "node1");
    let agent = cluster.state.nodes["node1"].agent.unwrap();
    let by_node2 = SocketAddr::new(cluster.state.nodes["node2"].address(0).v4.into(), 8080);
    agent.limit_files(3).unwrap();
    let load = Plan {
        patience: SOON,
        ..Plan::new_connections(&[by_node2], 20.0)
    };
    let load = load.start(&cluster.client());
    wait::until("the agent says so", SOON, || {
        let log = std::fs::read_to_string(cluster.agent_log("node1")).unwrap();
        log.contains("other agents wait in the backlog")
    })
    .unwrap();
    assert_eq!(load.done(), 0);
    agent.limit_files(4096).unwrap();
    load.wait_for(50).unwrap();
    load.stop().unwrap().assert_flawless();
    let status = cluster.portico_json("node1", &["status"]).unwrap();
    let relay = &status["planes"][0]["report"]["proxy"]["relay"];
    assert!(relay["pauses"].as_u64().unwrap() > 0, "{relay}");
}
