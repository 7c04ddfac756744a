//! What people do to a swarm every day: services are published, scaled, updated and removed, nodes are drained.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::time::{Duration, Instant};

use netns::client::http::Connection;
use netns::wait;

use super::{PATIENCE, Swarm};

const PUBLISHED: [&str; 4] = ["--publish", "8080:80", "--publish", "8080:80/udp"];
/// How long the swarm watches a new task before it trusts it.
const WATCH: [&str; 2] = ["--update-monitor", "1s"];

#[test]
fn services_are_published_scaled_updated_drained_and_removed_without_a_failed_request() {
    let Some(swarm) = Swarm::make("swarm", 1) else {
        return;
    };
    swarm.create("web", &[&["--replicas", "3"][..], &PUBLISHED, &WATCH].concat());
    let tasks = swarm.wait_served("web", 3);
    let nodes: BTreeSet<&String> = tasks.values().collect();
    assert_eq!(nodes.len(), 3, "one task on each node: {tasks:?}");
    swarm.every_node_answers(8080, tasks.keys(), true);

    scales(&swarm);
    updates(&swarm, "stop-first");
    updates(&swarm, "start-first");
    drains(&swarm);
    ends(&swarm);
}

/// To six tasks and back to two.
fn scales(swarm: &Swarm) {
    let load = swarm.load(8080);
    swarm.scale("web", 6);
    let six = swarm.wait_served("web", 6);
    load.go_on();
    load.go_on();
    swarm.scale("web", 2);
    swarm.wait_served("web", 2);
    load.go_on();
    let answered = load.stop_flawless("scaled to six and to two");
    let six: BTreeSet<String> = six.into_keys().collect();
    assert_eq!(answered, six, "all six served");
    swarm.scale("web", 3);
    swarm.wait_served("web", 3);
}

/// All tasks are replaced, one after another, and nobody waits for anything.
fn updates(swarm: &Swarm, order: &str) {
    let before = swarm.running("web").unwrap();
    let load = swarm.load(8080);
    let update = ["service", "update", "--detach", "--no-resolve-image", "--force"];
    let how = [
        "--update-parallelism",
        "1",
        "--update-delay",
        "0s",
        "--update-order",
        order,
    ];
    swarm.docker(&[&update[..], &how, &["web"]].concat());
    let replaced = || {
        let running = swarm.running("web").unwrap_or_default();
        running.len() == 3 && before.keys().all(|task| !running.contains_key(task))
    };
    let took = wait::until("all tasks are replaced", PATIENCE, replaced).unwrap();
    println!("a rolling update, {order}, took {took:?}");
    let after = swarm.wait_served("web", 3);
    load.go_on();
    let answered = load.stop_flawless(&format!("updated {order}"));
    assert!(
        after.keys().all(|task| answered.contains(task)),
        "{answered:?} answered"
    );
}

/// The tasks of a node move, and it takes part again.
fn drains(swarm: &Swarm) {
    let load = swarm.load(8080);
    swarm.docker(&["node", "update", "--availability", "drain", "node2"]);
    let moved = || {
        let running = swarm.running("web").unwrap_or_default();
        running.len() == 3 && running.values().all(|node| node != "node2")
    };
    wait::until("the tasks move", PATIENCE, moved).unwrap();
    let tasks = swarm.wait_served("web", 3);
    load.go_on();
    // A node without a task of its own answers all the same.
    swarm.every_node_answers(8080, tasks.keys(), true);
    swarm.docker(&["node", "update", "--availability", "active", "node2"]);
    swarm.scale("web", 5);
    let tasks = swarm.wait_served("web", 5);
    assert!(tasks.values().any(|node| node == "node2"), "{tasks:?}");
    load.go_on();
    load.go_on();
    let answered = load.stop_flawless("drained node2 and took it back");
    assert!(
        tasks.keys().all(|task| answered.contains(task)),
        "{answered:?} answered"
    );
}

/// The service is gone everywhere within two seconds, and whoever asks is told at once.
fn ends(swarm: &Swarm) {
    swarm.docker(&["service", "rm", "web"]);
    let removed = Instant::now();
    let client = swarm.cluster.client();
    for target in swarm.ports(8080) {
        let refused = || {
            let answer = client.run(|| Connection::open(target, None).map(drop)).unwrap();
            answer.is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused)
        };
        wait::until("the port is closed", PATIENCE, refused).unwrap();
    }
    let took = removed.elapsed();
    println!("after docker service rm every node refused within {took:?}");
    assert!(took < Duration::from_secs(2), "{took:?}");
    for node in swarm.cluster.nodes() {
        let services = swarm.cluster.portico(&node, &["service", "ls"]).unwrap();
        assert!(!services.contains("web"), "{node}: {services}");
    }
}
