//! What the proxy serves and whom it may choose from: made from each snapshot, read by all workers.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use lb_common::hash;
use lb_common::placement::{self, Candidate, State};

use crate::model::{Affinity, Family, Member, Node, Pool, Protocol, Service, Snapshot, Standing};

/// Where clients find a front: what a listening socket is bound to. A port published on every node is bound to the
/// unspecified address, of each family by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Bind {
    pub address: SocketAddr,
    pub protocol: Protocol,
}

impl std::fmt::Display for Bind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.address, self.protocol.label())
    }
}

/// Everything one snapshot wants served.
#[derive(Debug, Default)]
pub struct Fronts {
    pub generation: u64,
    by_bind: HashMap<Bind, Arc<Front>>,
}

/// What answers at one bind, or at several that lead to the same tasks.
#[derive(Debug)]
pub struct Front {
    pub service: Arc<Service>,
    pool: Arc<Pool>,
    /// Of the pool's members, one for one.
    candidates: Box<[Candidate]>,
    /// Offsets of members whose nodes are suspected, while there are active others; ascending.
    avoided: Box<[usize]>,
    /// Of the members that are not on this node, where they are.
    nodes: BTreeMap<Arc<str>, Node>,
    seed: u64,
}

/// Where a member is reached.
#[derive(Clone, Copy, Debug)]
pub enum Place<'f> {
    /// At its own address.
    Here(SocketAddr),
    /// By the agent of its node.
    There(&'f Node),
}

impl Fronts {
    /// Of two services that want one bind the first by name has it: the snapshot has settled such conflicts before.
    pub fn new(snapshot: &Snapshot, node: &str, seed: u64) -> Self {
        let mut pools: BTreeMap<(&str, u16), Vec<&Arc<Pool>>> = BTreeMap::new();
        for pool in &snapshot.pools {
            let key = (&*pool.service, pool.target_port);
            pools.entry(key).or_default().push(pool);
        }
        let suspected: HashSet<u16> = (snapshot.nodes.values())
            .filter(|node| node.suspected)
            .map(|node| node.tag)
            .collect();
        let front = |pool: &Arc<Pool>| {
            let service = snapshot.services.get(&pool.service)?;
            let others = pool.members.iter().filter(|member| &*member.node != node);
            let nodes = others
                .filter_map(|member| snapshot.nodes.get_key_value(&member.node))
                .map(|(name, node)| (Arc::clone(name), node.clone()))
                .collect();
            let front = Front::new(Arc::clone(service), pool, nodes, &suspected, seed);
            Some((pool.id, Arc::new(front)))
        };
        let made: HashMap<u64, Arc<Front>> = snapshot.pools.iter().filter_map(front).collect();
        let mut by_bind = HashMap::new();
        for service in snapshot.services.values() {
            for frontend in &service.frontends {
                let Some(pools) = pools.get(&(&*service.name, frontend.target_port)) else {
                    continue;
                };
                for family in Family::ALL.into_iter().filter(|family| frontend.answers(*family)) {
                    let Some(pool) = suited(pools, family) else {
                        continue;
                    };
                    let address = frontend.address.unwrap_or(unspecified(family));
                    let bind = Bind {
                        address: SocketAddr::new(address, frontend.port),
                        protocol: frontend.protocol,
                    };
                    if let Some(front) = made.get(&pool.id) {
                        by_bind.entry(bind).or_insert_with(|| Arc::clone(front));
                    }
                }
            }
        }
        Self {
            generation: snapshot.generation,
            by_bind,
        }
    }

    pub fn get(&self, bind: &Bind) -> Option<&Arc<Front>> {
        self.by_bind.get(bind)
    }

    pub fn binds(&self) -> impl Iterator<Item = Bind> {
        self.by_bind.keys().copied()
    }
}

/// The pool of the clients' own family, else the other one: sockets do not care which family is on their other side.
fn suited<'p>(pools: &[&'p Arc<Pool>], family: Family) -> Option<&'p Arc<Pool>> {
    let own = pools.iter().find(|pool| pool.family == family);
    let served = pools.iter().find(|pool| !pool.members.is_empty());
    own.filter(|pool| !pool.members.is_empty())
        .or(served)
        .or(own)
        .copied()
}

const fn unspecified(family: Family) -> IpAddr {
    match family {
        Family::V4 => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        Family::V6 => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    }
}

impl Front {
    fn new(
        service: Arc<Service>,
        pool: &Arc<Pool>,
        nodes: BTreeMap<Arc<str>, Node>,
        suspected: &HashSet<u16>,
        seed: u64,
    ) -> Self {
        let candidates: Box<[Candidate]> = pool.members.iter().map(|member| member.candidate).collect();
        let (bad, good): (Vec<usize>, Vec<usize>) =
            (0..candidates.len()).partition(|&at| suspected.contains(&candidates[at].node));
        // Where no other node has an active member, it is most likely this node that is cut off.
        let spared = good.iter().any(|&at| candidates[at].state == State::Active);
        Self {
            service,
            pool: Arc::clone(pool),
            candidates,
            avoided: if spared { bad.into() } else { Box::default() },
            nodes,
            seed,
        }
    }

    /// The member that a new flow from `client` to `port` goes to: the one that the tables of every node have at the flow's
    /// slot, as long as it is not among those `tried` in vain, given by their tags. None: there is nobody left.
    pub fn choose(
        &self,
        client: SocketAddr,
        port: u16,
        protocol: Protocol,
        tried: &[u64],
    ) -> Option<&Member> {
        let slot = self.slot(client, port, protocol);
        if tried.is_empty() && self.avoided.is_empty() {
            let head = placement::head(self.seed, slot, &self.candidates)?;
            return self.pool.members.get(head);
        }
        let is_left = |at: &usize| {
            self.avoided.binary_search(at).is_err() && !tried.contains(&self.candidates[*at].tag)
        };
        let left: Vec<usize> = (0..self.candidates.len()).filter(is_left).collect();
        let candidates: Vec<Candidate> = left.iter().map(|&at| self.candidates[at]).collect();
        let chosen = placement::head(self.seed, slot, &candidates)?;
        self.pool.members.get(*left.get(chosen)?)
    }

    /// How a member stands; none: it is gone.
    pub fn standing(&self, tag: u64) -> Option<Standing> {
        let members = &self.pool.members;
        let at = members
            .binary_search_by_key(&tag, |member| member.candidate.tag)
            .ok()?;
        let member = &members[at];
        let backends = &self.service.backends;
        let at = backends
            .binary_search_by(|backend| backend.task.cmp(&member.task))
            .ok()?;
        Some(backends[at].standing)
    }

    /// None: its node is none that is known.
    pub fn place(&self, member: &Member, here: &str) -> Option<Place<'_>> {
        if &*member.node == here {
            let address = SocketAddr::new(member.address, self.pool.target_port);
            return Some(Place::Here(address));
        }
        self.nodes.get(&member.node).map(Place::There)
    }

    /// A flow's row of the tables, computed as the packet programs do.
    fn slot(&self, client: SocketAddr, port: u16, protocol: Protocol) -> u32 {
        let (ports, protocol) = match self.pool.affinity {
            Affinity::ClientIp => (0, 0),
            Affinity::None => {
                let ([a, b], [c, d]) = (client.port().to_be_bytes(), port.to_be_bytes());
                (u32::from_le_bytes([a, b, c, d]), protocol.number())
            }
        };
        let hash = match client.ip() {
            IpAddr::V4(address) => hash::flow_hash(self.seed, address.octets(), ports, protocol),
            IpAddr::V6(address) => hash::flow_hash(self.seed, address.octets(), ports, protocol),
        };
        hash::slot(hash, self.pool.slots)
    }
}

#[cfg(test)]
pub mod tests;
