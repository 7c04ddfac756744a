//! `portico node ls`: the machines of the cluster.

use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};

use super::facts::{Facts, Peer};
use crate::model::Node;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NodeRow {
    pub name: String,
    pub address: Ipv4Addr,
    /// `ready`, `draining`, `away` (only its agent), `silent` (the whole node).
    pub state: String,
    /// The node whose agent answers this.
    pub this: bool,
    pub backends: usize,
    /// Milliseconds since its agent was last heard; none for this node and before the first time.
    pub heard_ms: Option<u64>,
    /// What stands for the node in the tables and in Geneve.
    pub tag: u16,
}

/// All nodes, by name.
pub fn nodes(facts: &Facts) -> Vec<NodeRow> {
    let snapshot = &facts.snapshot;
    let backends = || snapshot.services.values().flat_map(|service| &service.backends);
    snapshot
        .nodes
        .values()
        .map(|node| NodeRow {
            name: node.name.to_string(),
            address: node.address,
            state: state(node, peer(facts, node)).into(),
            this: node.name == facts.node,
            backends: backends().filter(|backend| backend.node == node.name).count(),
            heard_ms: peer(facts, node).and_then(|peer| peer.heard_ms),
            tag: node.tag,
        })
        .collect()
}

fn peer<'f>(facts: &'f Facts, node: &Node) -> Option<&'f Peer> {
    facts.peers.iter().find(|peer| peer.node == *node.name)
}

fn state(node: &Node, peer: Option<&Peer>) -> &'static str {
    if node.suspected {
        "silent"
    } else if peer.is_some_and(|peer| peer.away) {
        "away"
    } else if node.draining {
        "draining"
    } else {
        "ready"
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::sample;

    #[test]
    fn a_node_whose_agent_is_away_is_not_called_silent() {
        let mut facts = sample::facts();
        facts.peers[0].away = true;
        let states: Vec<_> = nodes(&facts).into_iter().map(|node| node.state).collect();
        assert_eq!(states, ["ready", "away", "ready"]);
    }

    #[test]
    fn a_silent_node_is_called_so_even_when_it_drains() {
        let mut facts = sample::facts();
        sample::change(&mut facts, |snapshot| {
            sample::node(snapshot, "node2").suspected = true;
            sample::node(snapshot, "node2").draining = true;
            sample::node(snapshot, "node3").draining = true;
        });
        let states: Vec<_> = nodes(&facts)
            .into_iter()
            .map(|node| (node.state, node.this, node.backends))
            .collect();
        assert_eq!(
            states,
            [
                ("ready".into(), true, 1),
                ("silent".into(), false, 1),
                ("draining".into(), false, 1)
            ]
        );
    }
}
