//! What an agent without packet programs is told to be, and says of itself.

use std::net::TcpListener;
use std::time::Duration;

use netns::client::http;
use netns::testing::{self, Stage};
use netns::{Service, tool, wait};

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
    let nft = |rules: &str| {
        let mut command = cluster.place("node2").command("nft").unwrap();
        tool::run(command.arg(rules)).unwrap();
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
    nft("table ip cut { chain input { type filter hook input priority 0; tcp dport 7950 drop; }; }");
    wait::until("it is told of", SOON, || {
        let _ = ask();
        is_told()
    })
    .unwrap();
    // Nobody has to ask for it to be found well.
    nft("delete table ip cut");
    wait::until("it is told of no more", SOON, || !is_told()).unwrap();
}
