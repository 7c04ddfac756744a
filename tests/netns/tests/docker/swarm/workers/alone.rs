//! An agent that shall follow a swarm and cannot: it says so once, and serves the containers of its own engine.

use std::collections::BTreeSet;

use netns::client::http;
use netns::engine::IMAGE;
use netns::{Cluster, wait};

use crate::swarm::{PATIENCE, Swarm};

/// Engines whose swarm is yet to be made, of which agents are told that there is one.
pub fn in_no_swarm(cluster: &Cluster) {
    for node in cluster.nodes() {
        let said = said_once(cluster, &node, "this node's engine is in no swarm");
        assert!(said.contains("fix: docker swarm init or join"), "{said}");
    }
    serves_its_own(cluster, "node2", "before", 8090);
}

/// A worker's engine has no lists of services, and is not asked for any.
pub fn without_a_manager(swarm: &Swarm, node: &str) {
    let cluster = &swarm.cluster;
    let said = said_once(
        cluster,
        node,
        "no manager's agent tells this node what the swarm wants",
    );
    let manager = swarm.port_of("node1", 7950).to_string();
    assert!(said.contains(&manager), "whom it asked: {said}");
    assert!(said.contains("traffic: flows on"), "{said}");
    assert!(
        said.contains("fix: see that an agent runs on each manager"),
        "{said}"
    );
    if node == "node2" {
        answers(cluster, node, "before", 8090);
        serves_its_own(cluster, node, "meanwhile", 8091);
    }
}

/// A manager is there again.
pub fn nothing_is_left_of_it(swarm: &Swarm) {
    for (name, port) in [("before", 8090), ("meanwhile", 8091)] {
        answers(&swarm.cluster, "node2", name, port);
        swarm.cluster.docker("node2", &["rm", "--force", name]).unwrap();
    }
    for node in ["node2", "node3"] {
        let log = std::fs::read_to_string(swarm.cluster.agent_log(node)).unwrap();
        assert!(!log.contains("cannot list the swarm's services"), "{node}: {log}");
    }
}

/// What `portico status` says, which has these words exactly once. The log repeats none of it either.
fn said_once(cluster: &Cluster, node: &str, words: &str) -> String {
    let what = format!("{node} says {words:?}");
    let ask = || -> anyhow::Result<_> {
        let said = cluster.portico(node, &["status"])?;
        anyhow::ensure!(said.contains(words), "it says {said}");
        Ok(Some(said))
    };
    let (said, took) = wait::until_some(&what, PATIENCE, ask).unwrap();
    let problems = said.split("\n\n").next().unwrap_or_default();
    println!("{node} said after {took:?}: {problems}");
    assert_eq!(said.matches(words).count(), 1, "{said}");
    let log = std::fs::read_to_string(cluster.agent_log(node)).unwrap();
    let mut told = BTreeSet::new();
    for (at, _) in log.match_indices(words) {
        let line = log[at..].lines().next().unwrap_or_default();
        assert!(told.insert(line), "twice in the log of {node}: {line}");
    }
    said
}

/// A container of this engine alone is started and answers.
fn serves_its_own(cluster: &Cluster, node: &str, name: &str, port: u16) {
    let label = format!("portico.ports={port}:80");
    let run = ["run", "--detach", "--hostname", name, "--name", name];
    cluster
        .docker(node, &[&run[..], &["--label", &label, IMAGE]].concat())
        .unwrap();
    let what = format!("{name} answers at {node}");
    wait::until_some(&what, PATIENCE, || asked(cluster, node, port).map(Some)).unwrap();
    answers(cluster, node, name, port);
}

fn answers(cluster: &Cluster, node: &str, name: &str, port: u16) {
    assert_eq!(asked(cluster, node, port).unwrap(), name, "{node}");
}

fn asked(cluster: &Cluster, node: &str, port: u16) -> anyhow::Result<String> {
    let target = (cluster.state.nodes[node].address(0).v4, port).into();
    Ok(http::ask(&cluster.client(), target)?.task)
}
