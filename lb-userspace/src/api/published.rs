//! What the sources want of every node: what `portico check` holds against the machine, whether the agent says it or a
//! services file.

use std::net::{IpAddr, Ipv4Addr};

use serde::{Deserialize, Serialize};

use super::Facts;
use crate::model::validate::is_host_name;
use crate::model::{Desired, Frontend, Naming, Protocol};

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Published {
    /// Nodes by name, with their addresses.
    pub nodes: Vec<(String, Ipv4Addr)>,
    /// Sorted by name.
    pub services: Vec<Answering>,
}

/// A service, where it answers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answering {
    pub name: String,
    /// Whether everybody may ask for it by this name.
    pub public: bool,
    /// Addresses that its source has for it; not those from the pools.
    pub vips: Vec<IpAddr>,
    /// On every node.
    pub ports: Vec<Port>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Port {
    pub port: u16,
    pub protocol: Protocol,
    /// A listener there is expected: a container engine's that publishes it, too, or that of a task in the node's own network
    /// namespace.
    pub expected: bool,
}

impl Published {
    /// What a source wants.
    pub fn wanted(desired: &Desired) -> Self {
        let node = |name: &str| desired.nodes.get(name).map(|node| node.address);
        let services = desired.services.iter().map(|(name, service)| {
            let mut backends = service.backends.iter();
            let on_host = backends.any(|backend| is_on_host(node(&backend.node), &backend.addresses));
            let mut answering = Answering::new(name, &service.naming, &service.frontends, on_host);
            answering.vips.extend(&service.vips);
            answering
        });
        Self {
            services: services.collect(),
            nodes: desired
                .nodes
                .iter()
                .map(|(name, node)| (name.to_string(), node.address))
                .collect(),
        }
    }

    /// What all sources of an agent want.
    pub fn of(facts: &Facts) -> Self {
        let snapshot = &facts.snapshot;
        let node = |name: &str| snapshot.nodes.get(name).map(|node| node.address);
        let services = snapshot.services.values().map(|service| {
            let mut backends = service.backends.iter();
            let on_host = backends.any(|backend| is_on_host(node(&backend.node), &backend.addresses));
            Answering::new(&service.name, &service.naming, &service.frontends, on_host)
        });
        Self {
            services: services.collect(),
            nodes: snapshot
                .nodes
                .values()
                .map(|node| (node.name.to_string(), node.address))
                .collect(),
        }
    }
}

impl Answering {
    /// `on_host`: whether any of its tasks is in a node's own network namespace.
    fn new(name: &str, naming: &Naming, frontends: &[Frontend], on_host: bool) -> Self {
        let is_tasks = |front: &Frontend| {
            let same = |other: &Frontend| (other.target_port, other.protocol) == (front.port, front.protocol);
            on_host && frontends.iter().any(same)
        };
        let everywhere = frontends.iter().filter(|front| front.address.is_none());
        let announced = frontends.iter().filter(|front| !front.inside);
        Self {
            name: name.to_owned(),
            public: is_host_name(name) && naming.networks.iter().any(|network| **network == *Naming::PUBLIC),
            vips: announced.filter_map(|front| front.address).collect(),
            ports: everywhere
                .map(|front| Port {
                    port: front.port,
                    protocol: front.protocol,
                    expected: front.held || is_tasks(front),
                })
                .collect(),
        }
    }
}

fn is_on_host(node: Option<Ipv4Addr>, addresses: &[IpAddr]) -> bool {
    node.is_some_and(|node| addresses.contains(&node.into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::sample;

    #[test]
    fn an_agents_picture_has_what_is_held_against_the_machine() {
        let mut facts = sample::facts();
        let snapshot = std::sync::Arc::make_mut(&mut facts.snapshot);
        let web = std::sync::Arc::make_mut(snapshot.services.get_mut("web").unwrap());
        let front = web.frontends[0];
        let vip = |last, inside| Frontend {
            address: Some([10, 254, 0, last].into()),
            inside,
            ..front
        };
        let held = Frontend {
            port: 8081,
            held: true,
            ..front
        };
        web.frontends.extend([held, vip(1, true), vip(2, false)]);
        let port = |port, expected| Port {
            port,
            protocol: Protocol::Tcp,
            expected,
        };
        let found = |facts: &Facts| Published::of(facts).services[0].clone();
        let mut wanted = Answering {
            name: "web".into(),
            public: true,
            vips: vec![[10, 254, 0, 2].into()],
            ports: vec![port(8080, false), port(8081, true)],
        };
        assert_eq!(found(&facts), wanted);
        // A task of the node's own network has port 8080 itself.
        let snapshot = std::sync::Arc::make_mut(&mut facts.snapshot);
        let node = snapshot.nodes["node1"].address;
        let web = std::sync::Arc::make_mut(snapshot.services.get_mut("web").unwrap());
        web.frontends[0].target_port = 8080;
        let own = web.backends.iter_mut().find(|backend| &*backend.node == "node1");
        own.unwrap().addresses = vec![node.into()];
        wanted.ports[0].expected = true;
        assert_eq!(found(&facts), wanted);
    }
}
