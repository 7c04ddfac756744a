//! What a service publishes, as the swarm has it.

use super::super::lists;
use crate::model::Protocol;

/// One entry of what is published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Published {
    pub protocol: Protocol,
    pub target_port: u16,
    /// At every node. `None`: by the engine of the task's node alone, or no port has been chosen yet.
    pub port: Option<u16>,
}

/// All that can be served; ports of other protocols are told to `refuse`.
pub fn published(service: &lists::Service, mut refuse: impl FnMut(&lists::Port)) -> Vec<Published> {
    // What the swarm has chosen is in the one, what was asked for in the other, which is the newer one for a moment.
    let mut chosen: Vec<&lists::Port> = service.endpoint.ports.iter().collect();
    let mut all = Vec::new();
    for asked in &service.spec.endpoint_spec.ports {
        let place = chosen.iter().position(|port| port.is_for(asked));
        let chosen = place.map(|place| chosen.swap_remove(place));
        let protocol = match &*asked.protocol {
            "tcp" | "" => Protocol::Tcp,
            "udp" => Protocol::Udp,
            _ => {
                refuse(asked);
                continue;
            }
        };
        let port = match asked.published_port {
            0 => chosen.map_or(0, |chosen| chosen.published_port),
            port => port,
        };
        let published = Published {
            protocol,
            target_port: asked.target_port,
            port: Some(port).filter(|port| *port != 0 && asked.is_ingress()),
        };
        // A port is written twice where somebody published it for IPv4 and for IPv6.
        if asked.target_port != 0 && !all.contains(&published) {
            all.push(published);
        }
    }
    all
}

impl lists::Port {
    /// At every node, and not at the task's own alone.
    pub fn is_ingress(&self) -> bool {
        self.publish_mode != "host"
    }

    /// Whether this is what became of that.
    pub fn is_for(&self, asked: &Self) -> bool {
        self.target_port == asked.target_port
            && self.protocol == asked.protocol
            && self.is_ingress() == asked.is_ingress()
            && (asked.published_port == 0 || self.published_port == asked.published_port)
    }
}
