//! Managers are lost: the leader, and then too many of them. Traffic needs none.

use std::time::Instant;

use anyhow::ensure;
use netns::wait;

use super::{PATIENCE, Swarm, active};

#[test]
fn traffic_outlives_the_leader_and_the_quorum_and_follows_whoever_comes_back() {
    let Some(mut swarm) = Swarm::make("managers", 3) else {
        return;
    };
    // A dead engine cannot give its tasks away: what is shown here is that nobody needs it to.
    swarm.create("web", &["--replicas", "3", "--publish", "8080:80"]);
    let tasks = swarm.wait_served("web", 3);
    swarm.every_node_answers(8080, tasks.keys(), false);

    leader_lost(&mut swarm);
    quorum_lost(&mut swarm);
}

/// Its engine dies; its containers and its agent live.
fn leader_lost(swarm: &mut Swarm) {
    let load = swarm.load(8080);
    swarm.cluster.kill_engine("node1").unwrap();
    let killed = Instant::now();
    swarm.wait_complaint("node1", "engine");
    load.go_on();
    swarm.manager = "node2".to_owned();
    let format = ["node", "ls", "--format", "{{.ManagerStatus}} {{.Status}}"];
    let elected = || {
        let said = swarm.cluster.docker("node2", &format).unwrap_or_default();
        said.contains("Leader") && said.matches("Ready").count() == 2
    };
    wait::until("there is another leader", PATIENCE, elected).unwrap();
    println!("there was a new leader after {:?}", killed.elapsed());
    load.go_on();

    // What the new one wants is followed by all who have an engine. How the first node's tasks are nobody knows.
    swarm.scale("web", 5);
    for node in ["node2", "node3"] {
        let follows = || -> anyhow::Result<_> {
            let mut running = swarm.running("web")?;
            running.retain(|_, node| node != "node1");
            let there = swarm.states(node, "web")?;
            let all = running.len() > 3 && active(&there) == running.keys().cloned().collect();
            ensure!(all, "it has {there:?}, and there are {running:?}");
            Ok(Some(()))
        };
        wait::until_some(&format!("{node} follows the new leader"), PATIENCE, follows).unwrap();
    }
    println!("it was followed after {:?}", killed.elapsed());
    load.go_on();
    let answered = load.stop_flawless("lost the leader");
    println!("{answered:?} answered");
}

/// One manager of three is left, and can change nothing.
fn quorum_lost(swarm: &mut Swarm) {
    let load = swarm.load(8080);
    swarm.cluster.kill_engine("node2").unwrap();
    swarm.wait_complaint("node3", "the swarm has no leader");
    let tasks = active(&swarm.states("node3", "web").unwrap());
    load.go_on();
    let answered = load.stop_flawless("lost the quorum");
    assert!(tasks.is_subset(&answered), "{answered:?} of {tasks:?} answered");

    // They are back: engines end what their predecessors ran, and with it its connections.
    for node in ["node1", "node2"] {
        swarm.cluster.launch_engine(node).unwrap();
    }
    let back = Instant::now();
    for node in ["node1", "node2"] {
        swarm.cluster.wait_engine(node).unwrap();
    }
    swarm.manager = "node3".to_owned();
    wait::until("the swarm has a leader again", PATIENCE, || {
        swarm.cluster.docker("node3", &["node", "ls"]).is_ok()
    })
    .unwrap();
    swarm.scale("web", 3);
    let tasks = swarm.wait_served("web", 3);
    for node in swarm.cluster.nodes() {
        swarm.wait_content(&node);
    }
    println!("it was whole again after {:?}", back.elapsed());
    swarm.every_node_answers(8080, tasks.keys(), false);
}
