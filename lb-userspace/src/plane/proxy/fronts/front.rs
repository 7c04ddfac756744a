//! What a client finds, and the member that it is given.

use std::collections::{BTreeMap, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use lb_common::hash;
use lb_common::placement::{self, Candidate, State};

use super::Wants;
use crate::model::{Affinity, Family, Member, Node, Pool, Protocol, Service, Snapshot, Standing};

/// What answers at one bind, or at several that lead to the same tasks.
#[derive(Debug)]
pub struct Front {
    pub service: Arc<Service>,
    pub(super) pool: Arc<Pool>,
    /// Of the pool's members, one for one.
    pub(super) candidates: Box<[Candidate]>,
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

impl Front {
    pub(super) fn of(
        snapshot: &Snapshot,
        service: &Arc<Service>,
        pool: &Arc<Pool>,
        wants: &Wants<'_>,
        suspected: &HashSet<u16>,
    ) -> Arc<Self> {
        let others = pool.members.iter().filter(|member| &*member.node != wants.node);
        let nodes = others
            .filter_map(|member| snapshot.nodes.get_key_value(&member.node))
            .map(|(name, node)| (Arc::clone(name), node.clone()))
            .collect();
        Arc::new(Self::new(Arc::clone(service), pool, nodes, suspected, wants.seed))
    }

    pub(super) fn new(
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

    /// The same by [`Algorithm::LeastConnections`], where `load` gives the connections that a member has, by its tag.
    pub fn choose_lighter(
        &self,
        client: SocketAddr,
        port: u16,
        protocol: Protocol,
        tried: &[u64],
        load: impl Fn(u64) -> u64,
    ) -> Option<&Member> {
        let first = self.choose(client, port, protocol, tried)?;
        let tried = [tried, &[first.candidate.tag]].concat();
        let second = self.choose(client, port, protocol, &tried);
        let second = second.filter(|second| second.candidate.state == State::Active);
        // As fractions of their weights, without dividing.
        let pull = |member: &Member, of: &Member| {
            u128::from(load(member.candidate.tag)) * u128::from(of.candidate.weight)
        };
        match second {
            Some(second) if pull(second, first) < pull(first, second) => Some(second),
            _ => Some(first),
        }
    }

    /// Whether it has no task at all.
    pub fn is_empty(&self) -> bool {
        self.candidates.is_empty()
    }

    /// Of its tasks' addresses.
    pub fn family(&self) -> Family {
        self.pool.family
    }

    /// Whether new flows go around a member, as its node is suspected and another one has an active member.
    pub fn avoids(&self, tag: u64) -> bool {
        self.avoided.iter().any(|&at| self.candidates[at].tag == tag)
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
    pub(super) fn slot(&self, client: SocketAddr, port: u16, protocol: Protocol) -> u32 {
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
