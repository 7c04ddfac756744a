//! What people do to a swarm every day: services are published, scaled, updated and removed, nodes are drained.

use std::collections::BTreeSet;
use std::time::Instant;

use netns::wait;

use super::{PATIENCE, Swarm};

const PUBLISHED: [&str; 4] = ["--publish", "8080:80", "--publish", "8080:80/udp"];
/// Is there to be updated at the same time as `web`, in another way.
const OTHER: &str = "other";
/// How long the swarm watches a new task before it trusts it.
const WATCH: [&str; 2] = ["--update-monitor", "300ms"];

#[test]
fn services_are_published_scaled_updated_drained_and_removed_without_a_failed_request() {
    let Some(mut swarm) = Swarm::make("swarm", 1) else {
        return;
    };
    swarm.create("web", &[&["--replicas", "3"][..], &PUBLISHED, &WATCH].concat());
    swarm.create(
        OTHER,
        &[&["--replicas", "3", "--publish", "8081:80"][..], &WATCH].concat(),
    );
    let tasks = swarm.wait_served("web", 3);
    let nodes: BTreeSet<&String> = tasks.values().collect();
    assert_eq!(nodes.len(), 3, "one task on each node: {tasks:?}");
    swarm.every_node_answers(8080, tasks.keys(), true);

    scales(&swarm);
    updates(&swarm);
    drains(&swarm);
    agents_restart(&mut swarm);
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

/// All tasks of two services are replaced, one after another, and nobody waits for anything: of one service the old ones end
/// first, of the other the new ones start first.
fn updates(swarm: &Swarm) {
    let both = [("web", 8080, "stop-first"), (OTHER, 8081, "start-first")];
    let began = Instant::now();
    let updates = both.map(|(service, port, order)| {
        let before = swarm.running(service).unwrap();
        let load = swarm.load(port);
        let update = ["service", "update", "--detach", "--no-resolve-image", "--force"];
        let how = [
            "--update-parallelism",
            "1",
            "--update-delay",
            "0s",
            "--update-order",
            order,
        ];
        swarm.docker(&[&update[..], &how, &[service]].concat());
        (service, order, before, load)
    });
    for (service, order, before, load) in updates {
        let replaced = || {
            let running = swarm.running(service).unwrap_or_default();
            running.len() == 3 && before.keys().all(|task| !running.contains_key(task))
        };
        wait::until("all tasks are replaced", PATIENCE, replaced).unwrap();
        println!("a rolling update, {order}, took {:?}", began.elapsed());
        let after = swarm.wait_served(service, 3);
        load.go_on();
        let answered = load.stop_flawless(&format!("updated {order}"));
        assert!(
            after.keys().all(|task| answered.contains(task)),
            "{answered:?} answered"
        );
    }
    swarm.remove(OTHER, 8081);
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
    let answered = load.stop_flawless("drained node2 and took it back");
    assert!(
        tasks.keys().all(|task| answered.contains(task)),
        "{answered:?} answered"
    );
}

/// A worker's agent dies and the manager's is told to end, each while the swarm changes; they are started again.
fn agents_restart(swarm: &mut Swarm) {
    let load = swarm.load(8080);
    swarm.cluster.kill_agent("node2").unwrap();
    load.go_on();
    swarm.scale("web", 6);
    swarm.wait_served_by(&["node1", "node3"], "web", 6);
    restart(swarm, "node2", 6);
    load.go_on();

    // Now nobody tells the others anything.
    swarm.cluster.stop_agent("node1").unwrap();
    load.go_on();
    swarm.scale("web", 7);
    restart(swarm, "node1", 7);
    load.go_on();
    swarm.scale("web", 3);
    let tasks = swarm.wait_served("web", 3);
    load.go_on();
    let answered = load.stop_flawless("restarted two agents");
    assert!(answered.len() >= 7, "{answered:?} answered");
    swarm.every_node_answers(8080, tasks.keys(), true);
}

/// Whatever has changed meanwhile, all agents end up with the same.
fn restart(swarm: &mut Swarm, node: &str, tasks: usize) {
    swarm.cluster.start_agent(node).unwrap();
    let began = Instant::now();
    swarm.cluster.wait_agents().unwrap();
    swarm.wait_served("web", tasks);
    for node in swarm.cluster.nodes() {
        swarm.wait_content(&node);
    }
    println!("{node}'s agent had caught up after {:?}", began.elapsed());
}

/// The service is gone everywhere within two seconds, and whoever asks is told at once.
fn ends(swarm: &Swarm) {
    swarm.remove("web", 8080);
    for node in swarm.cluster.nodes() {
        let services = swarm.cluster.portico(&node, &["service", "ls"]).unwrap();
        assert!(!services.contains("web"), "{node}: {services}");
    }
}
