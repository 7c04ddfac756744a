//! One immutable, numbered picture of all services, backends and nodes.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use lb_common::key;

use super::ProxyRules;

/// Everything the planes need, complete: any of them can be rebuilt from it alone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// Counts the snapshots of this agent; never compared between nodes. 0: no source has spoken yet, and nothing
    /// shall be carried out.
    pub generation: u64,
    pub nodes: BTreeMap<Arc<str>, Node>,
    /// Shared with the snapshots before and after where nothing changed, which makes a diff cheap.
    pub services: BTreeMap<Arc<str>, Arc<Service>>,
    /// What the tables are made from: every service's backends by target port and family. Sorted by
    /// service, target port, family; shared as the services are.
    pub pools: Vec<Arc<Pool>>,
    /// Containers on this node that are tasks of no service: the networks they are on, by address.
    pub guests: BTreeMap<IpAddr, Arc<[Arc<str>]>>,
}

impl Snapshot {
    /// The service's pools.
    pub fn pools_of(&self, service: &str) -> &[Arc<Pool>] {
        let start = self.pools.partition_point(|pool| &*pool.service < service);
        let pools = self.pools.get(start..).unwrap_or_default();
        let end = pools.partition_point(|pool| &*pool.service == service);
        pools.get(..end).unwrap_or_default()
    }
}

/// A machine that runs an agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    pub name: Arc<str>,
    /// 16-bit hash of the name, never 0; collisions are resolved in name order, the same everywhere.
    pub tag: u16,
    /// Underlay address.
    pub address: Ipv4Addr,
    /// The operator or the source takes its backends out of service.
    pub draining: bool,
    /// This agent has not heard it for three probes: new connections go elsewhere.
    pub suspected: bool,
    /// It has no packet programs: only its agent's relay leads to its tasks.
    pub by_proxy: bool,
}

/// A named set of backends with its frontends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    pub name: Arc<str>,
    pub naming: Naming,
    /// Addresses of its own: what its name resolves to. Those that its source wants, and one from the pools for each family
    /// that has none among these but has a task, or in both while there is no task at all.
    pub vips: Vec<IpAddr>,
    /// Families in which the pools had no address left for it.
    pub missed_vips: Vec<Family>,
    /// Addresses of the orchestrator's own mesh that containers are led to `vips` from.
    pub assigned: Vec<Ipv4Addr>,
    /// What answers at the VIPs.
    pub exposed: Vec<Exposed>,
    /// Everything it answers at, the VIPs included.
    pub frontends: Vec<Frontend>,
    /// Slots of each of its head tables: a power of two, 64 to 2²⁰.
    pub slots: u32,
    pub affinity: Affinity,
    /// What its source wants of the two by now, where that is something else.
    pub wanted: Option<Shape>,
    pub health: Option<HealthCheck>,
    pub proxy: ProxyRules,
    /// Sorted by task.
    pub backends: Vec<Backend>,
}

/// What a service is called, and by whom it may be asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Naming {
    /// `web.shop` is `web` in the stack `shop`.
    pub stack: Option<Arc<str>>,
    /// Its name is answered to tasks on one of these, and to everybody where [`Self::PUBLIC`] is one. Sorted.
    pub networks: Vec<Arc<str>>,
    /// Further names of the service.
    pub aliases: Vec<Arc<str>>,
    pub endpoint: Endpoint,
    /// Of its answers, in seconds.
    pub ttl: u32,
}

/// What the name of a service leads to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Endpoint {
    /// Its VIPs; its tasks where it has none.
    #[default]
    Vip,
    /// Its tasks, and no VIP is taken for it.
    Dnsrr,
}

/// A port that a service answers at its VIPs, the same port at its tasks.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Exposed {
    pub port: u16,
    pub protocol: Protocol,
    /// For SRV records.
    pub name: Option<Arc<str>>,
}

/// What decides which slot a flow has. A service keeps what it had when it was first seen: after a change every live flow
/// would be looked for at another task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    pub slots: u32,
    pub affinity: Affinity,
}

/// Where a service answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Frontend {
    /// A VIP, or `None`: every address of every node, in both families.
    pub address: Option<IpAddr>,
    pub port: u16,
    pub protocol: Protocol,
    /// Port of the tasks.
    pub target_port: u16,
    /// For clients inside the cluster only: at a VIP from the pools.
    pub inside: bool,
    /// The container engine of a node publishes this port itself, too: somebody who listens there at all addresses is the
    /// engine, unless it is seen to be another.
    pub held: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    Tcp,
    Udp,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Affinity {
    #[default]
    None,
    /// All connections of one client address reach the same task.
    ClientIp,
}

/// How the owner of a backend finds out whether it works.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthCheck {
    pub probe: Probe,
    /// Port to probe; the first frontend's target port unless given.
    pub port: u16,
    pub interval: Duration,
    pub timeout: Duration,
    /// Consecutive failures before the backend is taken out, successes before it returns.
    pub failures: u32,
    pub successes: u32,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Probe {
    /// A connection that is accepted.
    Tcp,
    /// A GET of this path answered with 200 to 399.
    Http { path: String },
}

impl Service {
    /// The shape in use.
    pub const fn shape(&self) -> Shape {
        Shape {
            slots: self.slots,
            affinity: self.affinity,
        }
    }

    /// The VIPs that its name leads to; none: it leads to its tasks.
    ///
    /// Not those of families in which no task could answer: that would be waited for in vain, and IPv6 is tried first.
    pub fn named_vips(&self) -> impl Iterator<Item = IpAddr> {
        let vips = self.vips.iter().copied();
        vips.filter(|vip| {
            self.naming.endpoint == Endpoint::Vip && is_served(&self.backends, Family::of(*vip))
        })
    }

    /// At which port of one of its VIPs a port of its tasks answers: the same one, unless several services share the
    /// VIP or it answers for another there.
    pub fn port_at(&self, vip: IpAddr, exposed: &Exposed) -> Option<u16> {
        let frontends = self.frontends.iter().filter(|front| {
            (front.address, front.protocol, front.target_port) == (Some(vip), exposed.protocol, exposed.port)
        });
        let ports = frontends.map(|front| front.port);
        ports.min_by_key(|port| (*port != exposed.port, *port))
    }
}

/// Whether there is a task that could answer in this family, or may soon be: not while only the other one has tasks.
pub fn is_served(backends: &[Backend], family: Family) -> bool {
    let mut addresses = backends.iter().flat_map(|backend| &backend.addresses);
    backends.is_empty() || addresses.any(|address| Family::of(*address) == family)
}

impl Naming {
    /// The network that everybody sees.
    pub const PUBLIC: &str = "default";
    /// Seconds, where nobody says.
    pub const TTL: u32 = 5;
}

impl Default for Naming {
    fn default() -> Self {
        Self {
            stack: None,
            networks: vec![Self::PUBLIC.into()],
            aliases: Vec::new(),
            endpoint: Endpoint::default(),
            ttl: Self::TTL,
        }
    }
}

impl Endpoint {
    /// As it is written in configuration and output.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Vip => "vip",
            Self::Dnsrr => "dnsrr",
        }
    }
}

impl Affinity {
    /// As it is written in configuration and output.
    pub const fn label(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::ClientIp => "client-ip",
        }
    }
}

impl Frontend {
    /// Whether clients of this family can reach it.
    pub fn answers(&self, family: Family) -> bool {
        self.address.is_none_or(|address| Family::of(address) == family)
    }
}

impl Family {
    pub const ALL: [Self; 2] = [Self::V4, Self::V6];

    pub const fn of(address: IpAddr) -> Self {
        if address.is_ipv4() { Self::V4 } else { Self::V6 }
    }
}

impl Protocol {
    /// As in a packet.
    pub const fn number(self) -> u8 {
        match self {
            Self::Tcp => key::TCP,
            Self::Udp => key::UDP,
        }
    }

    /// As it is written in configuration and output.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        }
    }
}

impl fmt::Display for Frontend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.address {
            None => write!(f, "*:{}/{}", self.port, self.protocol.label()),
            Some(address) => write!(
                f,
                "{}/{}",
                SocketAddr::new(address, self.port),
                self.protocol.label()
            ),
        }
    }
}

/// One task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backend {
    /// Keyed hash of service and task: what health marks go by; the same on every node.
    pub tag: u64,
    /// The instance: a new task has a new identity even at an old address.
    pub task: Arc<str>,
    /// What its container is called, beside the task; the first is the one it is shown by.
    pub names: Vec<Arc<str>>,
    /// Name of the node that runs it.
    pub node: Arc<str>,
    /// At most one of each family: where its node delivers.
    pub addresses: Vec<IpAddr>,
    /// Where it is found by who is on a network with it; none: at `addresses`.
    pub attachments: Vec<Attachment>,
    /// 1 to 256.
    pub weight: u16,
    pub standing: Standing,
    /// Why its source wants it to get no new connections.
    pub unready: Option<Arc<str>>,
}

/// A task's place on a network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attachment {
    pub network: Arc<str>,
    pub address: IpAddr,
}

/// Whether a backend gets new connections, and if not, why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// New: every node shall know it before it gets a share.
    Warming,
    Active,
    /// Taken out by source or operator, or its node is draining.
    Draining,
    /// Its owner's health check fails, or its source says that it is not ready.
    Unhealthy,
}

/// The members of a service for one target port and one family; what a frontend chooses from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pool {
    /// Keyed hash of service, target port and family; the same on every node.
    pub id: u64,
    pub service: Arc<str>,
    pub target_port: u16,
    pub family: Family,
    pub slots: u32,
    pub affinity: Affinity,
    /// Those of the service's frontends that lead here.
    pub frontends: Vec<Frontend>,
    /// Sorted by tag.
    pub members: Vec<Member>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Family {
    V4,
    V6,
}

/// A task instance serving one target port over one family.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    pub task: Arc<str>,
    pub node: Arc<str>,
    pub address: IpAddr,
    /// What placement decides by: tag, node tag, weight, state, stamps.
    pub candidate: lb_common::placement::Candidate,
}
