//! Who may see what: a name is answered to tasks that are on one of its service's networks.

use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::Arc;

use super::index::Index;
use super::part::Part;
use crate::interfaces;
use crate::model::Naming;

/// What one client sees.
#[derive(Clone, Copy)]
pub enum Sight<'i> {
    /// This node itself.
    All,
    /// A container, or anybody: the network that everybody sees, and those it is on.
    Some {
        /// The services that it is a task of, with their networks.
        tasks: &'i [Arc<Part>],
        /// Networks of its own, where it is nobody's task.
        guest: &'i [Arc<str>],
    },
}

impl<'i> Sight<'i> {
    /// Of whoever has this address. Addresses of tasks mean something on their own node only, and one that is this
    /// node's own is no container's.
    pub fn of(client: IpAddr, index: &'i Index, own: &HashSet<IpAddr>) -> Self {
        if client.is_loopback() || own.contains(&client) {
            return Self::All;
        }
        Self::Some {
            tasks: index.clients.get(&client),
            guest: index.guests.get(&client).map_or(&[], |networks| networks),
        }
    }

    /// Of somebody who is not known.
    pub const fn is_strangers(self) -> bool {
        matches!(self, Self::Some { tasks: [], guest: [] })
    }

    pub fn network(self, network: &str) -> bool {
        match self {
            Self::All => true,
            Self::Some { tasks, guest } => {
                let mut on = tasks.iter().flat_map(|part| &part.networks).chain(guest);
                network == Naming::PUBLIC || on.any(|known| **known == *network)
            }
        }
    }

    /// All that it is on, in lower case and without repeats; `None`: it is this node itself.
    pub fn networks(self) -> Option<Vec<&'i str>> {
        let Self::Some { tasks, guest } = self else {
            return None;
        };
        let on = tasks.iter().flat_map(|part| &part.networks).chain(guest);
        let mut on: Vec<&str> = on.map(|network| &**network).chain([Naming::PUBLIC]).collect();
        on.sort_unstable();
        on.dedup();
        Some(on)
    }

    pub fn part(self, part: &Part) -> bool {
        part.public || part.networks.iter().any(|network| self.network(network))
    }
}

/// The addresses of all devices of this network namespace.
pub fn own_addresses() -> HashSet<IpAddr> {
    let addresses = interfaces::addresses().into_iter().flatten();
    addresses.map(|address| address.ip).collect()
}
