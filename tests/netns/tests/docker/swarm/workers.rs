//! Workers know what managers tell them, keep it, and believe nobody else.

mod alone;
mod trust;

use std::time::{Duration, Instant};

use netns::client::report::{Kind, Report};
use netns::{testing, tool, wait};

use super::{PATIENCE, Swarm};

#[test]
fn workers_follow_managers_keep_what_they_know_and_come_back_by_themselves() {
    let cluster = testing::cluster("workers").engines();
    let Some(cluster) = cluster.configuration("[sources.swarm]\nenabled = true").stage() else {
        return;
    };
    alone::in_no_swarm(&cluster);
    let mut swarm = Swarm::of(cluster, 1);
    swarm.create("web", &["--mode", "global", "--publish", "8080:80"]);
    let tasks = swarm.wait_served("web", 3);
    swarm.every_node_answers(8080, tasks.keys(), false);

    left_alone(&mut swarm);
    promoted(&mut swarm);
    cut_off(&swarm);
    rotated(&swarm);
}

/// The only manager's agent is killed, and a worker's is started anew meanwhile.
fn left_alone(swarm: &mut Swarm) {
    let load = swarm.load(8080);
    swarm.cluster.kill_agent("node1").unwrap();
    for node in ["node2", "node3"] {
        alone::without_a_manager(swarm, node);
    }
    load.go_on();
    trust::impostors_are_refused(swarm);
    swarm.cluster.kill_agent("node2").unwrap();
    swarm.cluster.start_agent("node2").unwrap();
    swarm.cluster.wait_agents().unwrap();
    let known = swarm.states("node2", "web").unwrap();
    assert_eq!(known.len(), 3, "{known:?}");
    load.go_on();
    let vips = swarm.cluster.resolve("node2", "web").unwrap();
    assert!(!vips.is_empty(), "its name is known");
    swarm.cluster.start_agent("node1").unwrap();
    swarm.cluster.wait_agents().unwrap();
    for node in swarm.cluster.nodes() {
        swarm.wait_content(&node);
    }
    alone::nothing_is_left_of_it(swarm);
    trust::strangers_are_refused(swarm);
    swarm.create("late", &["--replicas", "1", "--publish", "8081:80"]);
    let late = swarm.wait_served("late", 1);
    swarm.every_node_answers(8081, late.keys(), false);
    let answered = load.stop_flawless("left workers alone");
    assert_eq!(answered.len(), 3, "{answered:?} answered");
}

/// Whoever manages is followed, and who does no longer follows.
fn promoted(swarm: &mut Swarm) {
    let load = swarm.load(8080);
    swarm.docker(&["node", "promote", "node2"]);
    let manages = || swarm.cluster.docker("node2", &["node", "ls"]).is_ok();
    wait::until("node2 manages", PATIENCE, manages).unwrap();
    // Nobody but the new one can tell the third.
    swarm.cluster.kill_agent("node1").unwrap();
    swarm.manager = "node2".to_owned();
    swarm.scale("late", 2);
    let late = swarm.wait_served_by(&["node2", "node3"], "late", 2);
    swarm.cluster.start_agent("node1").unwrap();
    swarm.cluster.wait_agents().unwrap();
    swarm.wait_served("late", 2);
    swarm.every_node_answers(8081, late.keys(), false);

    swarm.manager = "node1".to_owned();
    swarm.docker(&["node", "demote", "node2"]);
    let manages = || swarm.cluster.docker("node2", &["node", "ls"]).is_ok();
    wait::until("node2 manages no more", PATIENCE, || !manages()).unwrap();
    swarm.scale("late", 3);
    let late = swarm.wait_served("late", 3);
    for node in swarm.cluster.nodes() {
        swarm.wait_content(&node);
    }
    swarm.every_node_answers(8081, late.keys(), false);
    load.stop_flawless("promoted and demoted node2");
}

/// Twenty seconds without a node, whose engine and agent run on.
fn cut_off(swarm: &Swarm) {
    let others = ["node1", "node2"].map(|node| swarm.port_of(node, 8080));
    let load = swarm.load_on(&others);
    swarm.cluster.cut_node("node3").unwrap();
    let cut = Instant::now();
    let missed = || {
        let format = ["node", "ls", "--format", "{{.Status}}"];
        swarm.docker(&format).contains("Down")
    };
    let took = wait::until("the swarm misses node3", PATIENCE, missed).unwrap();
    println!("the swarm missed node3 after {took:?}");
    std::thread::sleep(Duration::from_secs(20).saturating_sub(cut.elapsed()));
    swarm.cluster.mend_node("node3").unwrap();
    let mended = Instant::now();
    let tasks = swarm.wait_served("web", 3);
    println!("it was whole again {:?} after it was back", mended.elapsed());
    load.go_on();
    let [new, kept] = load.stop("cut node3 off");
    excuse(&new, "new connections");
    excuse(&kept, "kept connections");
    for node in swarm.cluster.nodes() {
        swarm.wait_content(&node);
    }
    swarm.every_node_answers(8080, tasks.keys(), false);
}

/// Whoever was connected to the node lost that connection, once; whoever was not only waited for his handshake.
fn excuse(report: &Report, which: &str) {
    for failure in &report.failures {
        println!("{which}: {failure:?}");
    }
    let waited =
        |failure: &netns::client::report::Failure| failure.kind == Kind::Timeout && failure.task.is_some();
    let lost = report.failures.iter().filter(|failure| !waited(failure)).count();
    assert_eq!(lost, 0, "{}", report.complaint());
    assert!(report.failures.len() <= 16, "{}", report.complaint());
}

/// The swarm has a new authority, and all nodes new certificates.
fn rotated(swarm: &Swarm) {
    let load = swarm.load(8080);
    let root = swarm.certificate("node3", "swarm-root-ca.crt");
    let before = std::fs::read(&root).unwrap();
    let began = Instant::now();
    swarm.docker(&["swarm", "ca", "--rotate", "--quiet"]);
    println!("a new authority took {:?}", began.elapsed());
    assert_ne!(std::fs::read(&root).unwrap(), before);
    swarm.docker(&["service", "rm", "late"]);
    swarm.create("later", &["--replicas", "2", "--publish", "8082:80"]);
    let later = swarm.wait_served("later", 2);
    for node in swarm.cluster.nodes() {
        swarm.wait_content(&node);
    }
    swarm.every_node_answers(8082, later.keys(), false);
    load.stop_flawless("rotated certificates");
    // The old ones are of no more use to anybody.
    let said = tool::run(
        std::process::Command::new("openssl")
            .args(["verify", "-CAfile"])
            .arg(&root)
            .arg(swarm.certificate("node2", "swarm-node.crt")),
    );
    assert!(said.is_ok(), "{said:?}");
}
