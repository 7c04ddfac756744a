//! Requests at a steady rate while the cluster changes: none fails, none is reset.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use netns::client::load::{Load, Plan};
use netns::{Cluster, Service, testing};

fn cluster(prefix: &str, tasks: u32) -> Cluster {
    let web = Service::new(&["8080:80", "8080:80/udp"]);
    let cluster = Cluster::builder(prefix)
        .service("web", web, tasks)
        .build()
        .unwrap();
    cluster.settle().unwrap();
    cluster
}

/// Kept connections and new ones, to every node over both families.
fn loads(cluster: &Cluster) -> [Load; 2] {
    let targets = cluster.ports(8080);
    [
        Plan::keep_alive(&targets, 100.0),
        Plan::new_connections(&targets, 100.0),
    ]
    .map(|plan| plan.start(&cluster.client()))
}

fn go_on(loads: &[Load; 2]) {
    loads.iter().for_each(|load| load.wait_for(100).unwrap());
}

fn flawless(loads: [Load; 2]) {
    for load in loads {
        load.stop().unwrap().assert_flawless();
    }
}

#[test]
fn scaling_from_three_to_six_and_back_fails_no_request() {
    let Some(_turn) = testing::turn("scaling_from_three_to_six_and_back_fails_no_request") else {
        return;
    };
    let mut cluster = cluster("portico-scale", 3);
    let loads = loads(&cluster);
    go_on(&loads);
    cluster.scale("web", 6).unwrap();
    cluster.settle().unwrap();
    go_on(&loads);
    cluster.scale("web", 3).unwrap();
    assert_eq!(
        cluster.state.tasks.keys().collect::<Vec<_>>(),
        ["web.1", "web.2", "web.3"]
    );
    go_on(&loads);
    flawless(loads);
}

#[test]
fn draining_a_node_and_taking_it_back_fails_no_request() {
    let Some(_turn) = testing::turn("draining_a_node_and_taking_it_back_fails_no_request") else {
        return;
    };
    let mut cluster = cluster("portico-drain", 6);
    let loads = loads(&cluster);
    go_on(&loads);
    cluster.set_node_draining("node2", true).unwrap();
    cluster.settle().unwrap();
    let fresh = Plan::new_connections(&cluster.ports(8080), 200.0).start(&cluster.client());
    fresh.wait_for(200).unwrap();
    let report = fresh.stop().unwrap();
    report.assert_flawless();
    assert_eq!(
        report.of_task("web.2") + report.of_task("web.5"),
        0,
        "{:?}",
        report.answers
    );
    cluster.set_node_draining("node2", false).unwrap();
    cluster.settle().unwrap();
    go_on(&loads);
    flawless(loads);
}

#[test]
fn an_operators_drain_reaches_every_agent_and_fails_no_request() {
    let Some(_turn) = testing::turn("an_operators_drain_reaches_every_agent_and_fails_no_request") else {
        return;
    };
    let cluster = cluster("portico-operator", 6);
    let loads = loads(&cluster);
    let state_everywhere = |wanted: &str| {
        netns::wait::until(
            &format!("node2's tasks are {wanted} everywhere"),
            std::time::Duration::from_secs(20),
            || {
                cluster.nodes().iter().all(|node| {
                    cluster
                        .backend_states(node)
                        .is_ok_and(|states| states["web.2"] == wanted && states["web.5"] == wanted)
                })
            },
        )
        .unwrap();
    };
    // Its flows are kept alive here, so it would wait for them until its deadline.
    let _ = cluster.portico("node1", &["drain", "node2", "--timeout", "1s"]);
    state_everywhere("draining");
    let fresh = Plan::new_connections(&cluster.ports(8080), 200.0).start(&cluster.client());
    fresh.wait_for(200).unwrap();
    let report = fresh.stop().unwrap();
    report.assert_flawless();
    assert_eq!(
        report.of_task("web.2") + report.of_task("web.5"),
        0,
        "{:?}",
        report.answers
    );
    cluster.portico("node3", &["undrain", "node2"]).unwrap();
    state_everywhere("active");
    go_on(&loads);
    flawless(loads);
}

#[test]
fn killing_an_agent_and_starting_it_again_fails_no_request() {
    let Some(_turn) = testing::turn("killing_an_agent_and_starting_it_again_fails_no_request") else {
        return;
    };
    let mut cluster = cluster("portico-agent", 3);
    let loads = loads(&cluster);
    for node in cluster.nodes() {
        go_on(&loads);
        cluster.kill_agent(&node).unwrap();
        go_on(&loads);
        cluster.start_agent(&node).unwrap();
        cluster.wait_agents().unwrap();
        cluster.settle().unwrap();
    }
    go_on(&loads);
    flawless(loads);
}

/// The others suspect it and send new connections to its tasks elsewhere; what it had is lost with it.
#[test]
fn new_connections_avoid_a_node_that_died() {
    let Some(_turn) = testing::turn("new_connections_avoid_a_node_that_died") else {
        return;
    };
    let mut cluster = cluster("portico-died", 3);
    cluster.kill_node("node3").unwrap();
    let silent = |node: &str| {
        cluster.portico_json(node, &["node", "ls"]).is_ok_and(|rows| {
            rows.as_array().is_some_and(|rows| {
                rows.iter()
                    .any(|row| row["name"] == "node3" && row["state"] == "silent")
            })
        })
    };
    let patience = std::time::Duration::from_secs(10);
    netns::wait::until("node3 is suspected", patience, || {
        silent("node1") && silent("node2")
    })
    .unwrap();
    let load = Plan::new_connections(&cluster.ports(8080), 200.0).start(&cluster.client());
    load.wait_for(300).unwrap();
    let report = load.stop().unwrap();
    report.assert_flawless();
    assert_eq!(report.of_task("web.3"), 0);
}
