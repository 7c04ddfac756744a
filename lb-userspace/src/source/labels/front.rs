//! Where a service answers: what its labels say of it, and what the orchestrator knows.

use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::Arc;

use super::Settings;
use crate::model::{Exposed, Frontend, Protocol};
use crate::source::ports;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Front {
    pub vips: Vec<IpAddr>,
    pub exposed: Vec<Exposed>,
    pub frontends: Vec<Frontend>,
}

impl Settings {
    /// `published` is what the orchestrator publishes on every address of the nodes, in force unless `portico.ports` is there;
    /// `targets` are ports of the tasks that it knows of otherwise.
    pub fn front(&self, published: &[ports::Published], targets: &[(u16, Protocol)]) -> Front {
        let mut front = Front {
            vips: self.vips.clone(),
            ..Front::default()
        };
        let addresses: Vec<Option<IpAddr>> = match &self.vips[..] {
            [] => vec![None],
            vips => vips.iter().copied().map(Some).collect(),
        };
        let engines: HashSet<_> = published.iter().map(|port| (port.port, port.protocol)).collect();
        let mut taken = HashSet::new();
        let mut publish = |front: &mut Front, name: Option<&Arc<str>>, published: &ports::Published| {
            let &ports::Published {
                port,
                target_port,
                protocol,
            } = published;
            for &address in &addresses {
                if taken.insert((address, port, protocol)) {
                    front.frontends.push(Frontend {
                        address,
                        port,
                        protocol,
                        target_port,
                        inside: false,
                        held: address.is_none() && engines.contains(&(port, protocol)),
                    });
                }
            }
            front.expose(target_port, protocol, name);
        };
        match &self.ports {
            Some(entries) => {
                for (entry, port) in entries
                    .iter()
                    .flat_map(|entry| entry.ports.iter().map(move |port| (entry, port)))
                {
                    publish(&mut front, entry.name.as_ref(), port);
                }
                for port in published {
                    front.expose(port.target_port, port.protocol, None);
                }
            }
            None => published.iter().for_each(|port| publish(&mut front, None, port)),
        }
        for entry in &self.expose {
            for port in &entry.ports {
                front.expose(port.target_port, port.protocol, entry.name.as_ref());
            }
        }
        for &(port, protocol) in targets {
            front.expose(port, protocol, None);
        }
        front
    }
}

impl Front {
    /// A port that is written more than once is one port; a name that another port has is not given twice.
    fn expose(&mut self, port: u16, protocol: Protocol, name: Option<&Arc<str>>) {
        let is_free = |name: &&Arc<str>| {
            let mut others = self
                .exposed
                .iter()
                .filter(|other| other.protocol == protocol && other.port != port);
            !others.any(|other| {
                other
                    .name
                    .as_deref()
                    .is_some_and(|known| known.eq_ignore_ascii_case(name))
            })
        };
        let name = name.filter(is_free).cloned();
        match self
            .exposed
            .iter_mut()
            .find(|other| (other.port, other.protocol) == (port, protocol))
        {
            Some(known) => known.name = known.name.take().or(name),
            None => self.exposed.push(Exposed { port, protocol, name }),
        }
    }
}
