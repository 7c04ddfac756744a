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
    /// `ebpf`, or `proxy` where there are no packet programs; none: its agent was never heard.
    #[serde(default)]
    pub plane: Option<String>,
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
            plane: facts.plane_shown(node),
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
    fn nodes_are_shown_with_what_serves_there_as_far_as_they_have_said() {
        let mut facts = sample::facts();
        facts.peers[1].heard_ms = None;
        sample::change(&mut facts, |snapshot| {
            sample::node(snapshot, "node2").by_proxy = true;
        });
        let planes = |facts: &Facts| {
            nodes(facts)
                .into_iter()
                .map(|node| node.plane)
                .collect::<Vec<_>>()
        };
        let [ebpf, proxy] = ["ebpf", "proxy"].map(|plane| Some(plane.to_owned()));
        assert_eq!(planes(&facts), [ebpf, proxy.clone(), None]);
        facts.here.mode = crate::config::Mode::Proxy;
        assert_eq!(planes(&facts)[0], proxy);
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
