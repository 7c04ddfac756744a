//! What the proxy serves and whom it may choose from: made from each snapshot, read by all workers.

mod front;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use crate::model::{Family, Frontend, Member, Protocol, Service, Snapshot};
use crate::plane::choice::{Here, Reason, Serving};

pub use front::{Front, Place};

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
    /// At which tasks may be connected to in their clients' names on the network of the node itself: what is for them shall not be led
    /// to the proxy. The proxy does so for transparent services, packet programs do for tasks of the node.
    unled: HashSet<u16>,
}

/// Who wants to know.
pub struct Wants<'w> {
    /// This node.
    pub node: &'w str,
    pub seed: u64,
    pub here: &'w Here,
    /// Families in which clients can know this machine.
    pub families: &'w [Family],
    /// This machine's addresses, where clients may be led past other programs.
    pub own: &'w BTreeSet<IpAddr>,
    /// What was served lately: clients may be waiting there.
    pub lately: &'w dyn Fn(&Bind) -> bool,
}

/// Published ports that are opened, beside packet programs, only for clients of the family that their tasks have no address of.
const MOST_ACROSS: usize = 256;

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
            let is_here = |member: &Member| wants.own.contains(&member.address);
            let pools = snapshot.pools_of(&service.name).iter();
            let unled = pools.filter(|pool| service.proxy.transparent || pool.members.iter().any(is_here));
            fronts.unled.extend(unled.map(|pool| pool.target_port));
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

    /// Whether clients may be led past another program that has the port. Not past what may be a task on the network of the node
    /// itself that is connected to in its clients' names: these would be led past it, too.
    pub fn may_lead(&self, bind: &Bind) -> bool {
        !bind.address.ip().is_unspecified() || !self.unled.contains(&bind.address.port())
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
    pub fn of(frontend: &Frontend, family: Family) -> Self {
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

#[cfg(test)]
pub mod tests;
