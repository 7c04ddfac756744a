//! What a source wants: services, backends and nodes, before anyone's health or drain is considered.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use super::{Affinity, Attachment, Exposed, Frontend, HealthCheck, Naming, ProxyRules};

/// The whole of one source's wishes; the next one replaces it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Desired {
    pub nodes: BTreeMap<Arc<str>, DesiredNode>,
    /// Shared with the wishes before where nothing changed, which makes the next snapshot cheap.
    pub services: BTreeMap<Arc<str>, Arc<DesiredService>>,
    /// The services in the order they were created, as far as the source knows it: VIPs are taken in this order, so that
    /// a new service displaces nobody. Those that are missing come last, by name.
    pub order: Vec<Arc<str>>,
    /// Containers on this node that are tasks of no service, by address: the networks they are on, and so what names they are
    /// told. Never told to other nodes.
    pub guests: BTreeMap<IpAddr, Arc<[Arc<str>]>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DesiredNode {
    pub address: Ipv4Addr,
    pub draining: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DesiredService {
    pub naming: Naming,
    /// Addresses of its own; one is taken from the pools for each family that has none here, unless the endpoint is
    /// [`Endpoint::Dnsrr`](super::Endpoint::Dnsrr) or the source wants others.
    pub vips: Vec<IpAddr>,
    /// Addresses that the orchestrator's own mesh has for it, inside the networks of its containers, where this node's
    /// programs see no packet. What a container connects to one of these is led to `vips`, or to those from the pools.
    pub assigned: Vec<Ipv4Addr>,
    /// Ports at the VIPs.
    pub exposed: Vec<Exposed>,
    /// Published ports, and what answers at `vips` beside `exposed`.
    pub frontends: Vec<Frontend>,
    /// A power of two, 64 to 2²⁰.
    pub slots: u32,
    pub affinity: Affinity,
    pub health: Option<HealthCheck>,
    pub proxy: ProxyRules,
    pub backends: Vec<DesiredBackend>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DesiredBackend {
    /// The instance: a source gives a new task a new identity where it can tell.
    pub task: Arc<str>,
    /// What its container is called, beside the task; the first is the one it is shown by.
    pub names: Vec<Arc<str>>,
    pub node: Arc<str>,
    /// Where its own node delivers to it: at most one of each family, at least one. Means nothing on any other node.
    pub addresses: Vec<IpAddr>,
    /// Where it is found by who is on a network with it. Where there are none its name leads to `addresses`.
    pub attachments: Vec<Attachment>,
    /// 1 to 256.
    pub weight: u16,
    pub readiness: Readiness,
    pub stamps: Stamps,
}

/// What its source says of a backend.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Readiness {
    #[default]
    Ready,
    /// On its way out: its connections finish.
    Draining,
    /// There, and not to be given work: why, in a few words. Connections that it has go on.
    Unready(Arc<str>),
}

/// When a task was activated, in the source's own order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamps {
    /// First activation.
    pub first: u64,
    /// Latest activation or weight change.
    pub last: u64,
}

impl Stamps {
    /// For sources without an order of their own: more chasing, nothing lost.
    pub const UNKNOWN: Self = Self {
        first: 0,
        last: u64::MAX,
    };

    /// Of a task that comes with a revision which is seen whole or not at all: half a step after the activation of all
    /// that come with it, so that each was there before the others.
    pub const fn of_revision(revision: u64) -> Self {
        Self {
            first: 2 * revision + 1,
            last: 2 * revision,
        }
    }
}

/// Slots of a service that does not say.
pub const DEFAULT_SLOTS: u32 = 4096;
/// Smallest and largest table.
pub const SLOTS: std::ops::RangeInclusive<u32> = 64..=1 << 20;
/// Largest weight.
pub const MAX_WEIGHT: u16 = 256;
