//! What the snapshot says of a frontend, as UDP asks for it.

use std::net::SocketAddr;
use std::sync::Arc;

use super::Table;
use super::fronts::{Bind, Front, Place};
use super::udp::{Choose, Prospect, Target, Way};
use crate::model::Standing;

/// Chooses for a frontend of one snapshot.
pub struct Chooser {
    table: Arc<Table>,
    front: Arc<Front>,
    bind: Bind,
    generation: u64,
}

impl Chooser {
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

impl Choose for Chooser {
    fn choose(&self, client: SocketAddr, tried: &[u64]) -> Option<Target> {
        let mut tried = tried.to_vec();
        loop {
            let (port, protocol) = (self.bind.address.port(), self.bind.protocol);
            let member = self.front.choose(client, port, protocol, &tried)?;
            let tag = member.candidate.tag;
            let way = self
                .front
                .place(member, &self.table.node)
                .map(|place| match place {
                    Place::Here(address) => Way::Here(address),
                    Place::There(node) => Way::There(node.clone()),
                });
            if let (Some(way), Some(counted)) = (way, self.table.live.count_flow(tag)) {
                return Some(Target {
                    tag,
                    way,
                    held: Some(Box::new(counted)),
                });
            }
            // Its node is none that is known, or it is about to go.
            tried.push(tag);
        }
    }

    fn prospect(&self, tag: u64) -> Prospect {
        match self.front.standing(tag) {
            None => Prospect::Gone,
            Some(Standing::Unhealthy) => Prospect::Unfit,
            Some(_) if self.front.avoids(tag) => Prospect::Unfit,
            Some(Standing::Draining) => Prospect::Draining,
            Some(Standing::Active | Standing::Warming) => Prospect::Active,
        }
    }

    fn generation(&self) -> u64 {
        self.generation
    }
}
