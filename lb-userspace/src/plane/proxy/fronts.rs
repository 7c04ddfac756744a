//! What the proxy serves and whom it may choose from: made from each snapshot, read by all workers.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use lb_common::hash;
use lb_common::placement::{self, Candidate, State};

use crate::model::{Affinity, Family, Frontend, Member, Node, Pool, Protocol, Service, Snapshot, Standing};
use crate::plane::choice::{Here, Reason, Serving};

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

/// What the proxy can serve of one snapshot.
#[derive(Debug, Default)]
pub struct Fronts {
    pub generation: u64,
    by_bind: HashMap<Bind, Arc<Front>>,
    /// Those that it shall serve; beside packet programs they are the fewest.
    given: HashSet<Bind>,
    /// Those of them that are served only to lead clients of one family to tasks of the other.
    across: HashSet<Bind>,
}

/// Who wants to know.
pub struct Wants<'w> {
    /// This node.
    pub node: &'w str,
    pub seed: u64,
    pub here: &'w Here,
    /// Families in which clients can know this machine.
    pub families: &'w [Family],
    /// What was served lately: clients may be waiting there.
    pub lately: &'w dyn Fn(&Bind) -> bool,
}

/// Published ports that are opened, beside packet programs, only for clients of the family that their tasks have no address of.
const MOST_ACROSS: usize = 256;

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
    pub fn new(snapshot: &Snapshot, wants: &Wants<'_>) -> Self {
        let mut fronts = Self {
            generation: snapshot.generation,
            ..Self::default()
        };
        let suspected: HashSet<u16> = (snapshot.nodes.values())
            .filter(|node| node.suspected)
            .map(|node| node.tag)
            .collect();
        let mut vips = HashSet::new();
        // Alone it serves everything whatever the others are.
        let alone = wants.here.is_proxy_alone();
        let by_proxy = snapshot.nodes.values().filter(|node| node.by_proxy && !alone);
        let by_proxy: HashSet<u16> = by_proxy.map(|node| node.tag).collect();
        for service in snapshot.services.values() {
            let mut given = fronts.chosen(service, wants);
            if !by_proxy.is_empty() {
                given.extend(shared(snapshot, service, &by_proxy));
            }
            if !given.is_empty() || is_lately(service, wants) {
                vips.extend(given.iter().map(|bind| bind.address.ip()));
                fronts.given.extend(given);
                fronts.add(snapshot, service, wants, &suspected);
            }
        }
        vips.retain(|vip| !vip.is_unspecified());
        // An address that is this machine's own by now is served whole.
        let is_vip = |frontend: &Frontend| frontend.address.is_some_and(|ip| vips.contains(&ip));
        if !vips.is_empty() {
            for service in snapshot.services.values() {
                if service.frontends.iter().any(is_vip) {
                    fronts.add(snapshot, service, wants, &suspected);
                }
            }
        }
        fronts
    }

    /// Where the proxy is to serve the service.
    fn chosen(&mut self, service: &Service, wants: &Wants<'_>) -> Vec<Bind> {
        let choices = wants.here.of(service);
        let mut given = Vec::new();
        for frontend in &service.frontends {
            for (family, choice) in choices.at(frontend) {
                if choice.plane != Some(Serving::Proxy) {
                    continue;
                }
                let bind = Bind::of(frontend, family);
                if let Reason::Family(_) = choice.reason
                    && frontend.address.is_none()
                {
                    if !wants.families.contains(&family) || self.across.len() >= MOST_ACROSS {
                        continue;
                    }
                    self.across.insert(bind);
                }
                given.push(bind);
            }
        }
        given
    }

    /// Everything that the service answers at.
    fn add(
        &mut self,
        snapshot: &Snapshot,
        service: &Arc<Service>,
        wants: &Wants<'_>,
        suspected: &HashSet<u16>,
    ) {
        let pools = snapshot.pools_of(&service.name);
        let made: Vec<Arc<Front>> = pools
            .iter()
            .map(|pool| Front::of(snapshot, service, pool, wants, suspected))
            .collect();
        let choices = wants.here.of(service);
        for frontend in &service.frontends {
            for (family, choice) in choices.at(frontend) {
                if choice.plane.is_some()
                    && let Some(front) = suited(&made, frontend.target_port, family)
                {
                    let bind = Bind::of(frontend, family);
                    self.by_bind.entry(bind).or_insert_with(|| Arc::clone(front));
                }
            }
        }
    }

    pub fn get(&self, bind: &Bind) -> Option<&Arc<Front>> {
        self.by_bind.get(bind)
    }

    /// Where it can serve.
    pub fn binds(&self) -> impl Iterator<Item = Bind> {
        self.by_bind.keys().copied()
    }

    /// Where it is to serve.
    pub fn served(&self) -> impl Iterator<Item = Bind> {
        self.given
            .iter()
            .filter(|bind| self.by_bind.contains_key(bind))
            .copied()
    }

    /// Whether it is served only for clients of one family, and tasks of the other.
    pub fn is_across(&self, bind: &Bind) -> bool {
        self.across.contains(bind)
    }

    /// Tags of all members that a client may be led to.
    pub fn members(&self) -> HashSet<u64> {
        let fronts: HashMap<u64, &Front> = self
            .by_bind
            .values()
            .map(|front| (front.pool.id, &**front))
            .collect();
        let members = fronts.values().flat_map(|front| &front.candidates);
        members.map(|member| member.tag).collect()
    }
}

/// Where some clients are to be led to tasks that only the proxy reaches.
fn shared<'s>(
    snapshot: &'s Snapshot,
    service: &Service,
    by_proxy: &'s HashSet<u16>,
) -> impl Iterator<Item = Bind> + use<'s> {
    let pools = snapshot.pools_of(&service.name).iter();
    let pools = pools.filter(|pool| {
        let mut nodes = pool.members.iter().map(|member| member.candidate.node);
        nodes.any(|node| by_proxy.contains(&node))
    });
    pools.flat_map(|pool| {
        let frontends = pool.frontends.iter();
        frontends.map(|frontend| Bind::of(frontend, pool.family))
    })
}

fn is_lately(service: &Service, wants: &Wants<'_>) -> bool {
    let families = |frontend: &Frontend| {
        let frontend = *frontend;
        Family::ALL
            .into_iter()
            .filter(move |family| frontend.answers(*family))
            .map(move |family| Bind::of(&frontend, family))
    };
    service
        .frontends
        .iter()
        .flat_map(families)
        .any(|bind| (wants.lately)(&bind))
}

impl Bind {
    fn of(frontend: &Frontend, family: Family) -> Self {
        let address = frontend.address.unwrap_or(unspecified(family));
        Self {
            address: SocketAddr::new(address, frontend.port),
            protocol: frontend.protocol,
        }
    }
}

/// The pool of the clients' own family, else the other one: sockets do not care which family is on their other side.
fn suited(fronts: &[Arc<Front>], port: u16, family: Family) -> Option<&Arc<Front>> {
    // They are in the order of their target ports, and may be thousands.
    let start = fronts.partition_point(|front| front.pool.target_port < port);
    let of_port = || {
        fronts
            .iter()
            .skip(start)
            .take_while(|front| front.pool.target_port == port)
    };
    let own = of_port().find(|front| front.pool.family == family);
    let served = of_port().find(|front| !front.pool.members.is_empty());
    own.filter(|front| !front.pool.members.is_empty())
        .or(served)
        .or(own)
}

const fn unspecified(family: Family) -> IpAddr {
    match family {
        Family::V4 => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        Family::V6 => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    }
}

impl Front {
    fn of(
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
