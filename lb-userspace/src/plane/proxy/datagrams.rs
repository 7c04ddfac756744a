//! What the snapshot says of a frontend, as UDP asks for it.

use std::net::SocketAddr;
use std::sync::Arc;

use super::Table;
use super::fronts::{Bind, Front, Place};
use super::udp::{Choose, Standing, Target, Way};
use crate::model;

/// A frontend of one snapshot.
pub struct Served {
    table: Arc<Table>,
    front: Arc<Front>,
    bind: Bind,
    generation: u64,
}

impl Served {
    /// None: the latest snapshot has none there.
    pub fn at(table: &Arc<Table>, bind: Bind) -> Option<Self> {
        let fronts = table.fronts.load();
        Some(Self {
            front: Arc::clone(fronts.get(&bind)?),
            generation: fronts.generation,
            table: Arc::clone(table),
            bind,
        })
    }
}

impl Choose for Served {
    fn choose(&self, client: SocketAddr, tried: &[u64]) -> Option<Target> {
        let mut tried = tried.to_vec();
        loop {
            let (port, protocol) = (self.bind.address.port(), self.bind.protocol);
            let member = self.front.choose(client, port, protocol, &tried)?;
            let tag = member.candidate.tag;
            if let Some(Place::Here(address)) = self.front.place(member, &self.table.node)
                && let Some(counted) = self.table.live.count(tag)
            {
                return Some(Target {
                    tag,
                    way: Way::Here(address),
                    held: Some(Box::new(counted)),
                });
            }
            // Another node's: datagrams are not relayed.
            tried.push(tag);
        }
    }

    fn standing(&self, tag: u64) -> Standing {
        match self.front.standing(tag) {
            None => Standing::Gone,
            Some(model::Standing::Unhealthy) => Standing::Unfit,
            Some(model::Standing::Draining) => Standing::Draining,
            Some(model::Standing::Active | model::Standing::Warming) => Standing::Active,
        }
    }

    fn generation(&self) -> u64 {
        self.generation
    }

    fn idle(&self) -> Option<std::time::Duration> {
        self.front.service.proxy.idle
    }
}
