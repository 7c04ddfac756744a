//! What the proxy tells about itself, over the control socket and in the command line.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::relay::RelayReport;

/// Since the plane was started.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProxyReport {
    /// Threads, each with a socket at every frontend.
    pub workers: usize,
    /// Frontends, by address family and protocol, at which this node listens.
    pub listeners: usize,
    /// Those of them whose port another program has: clients are led past it.
    #[serde(default)]
    pub led: BTreeSet<String>,
    /// Where it should listen and does not, with the reason.
    #[serde(default)]
    pub missing: BTreeMap<String, String>,
    /// Connections accepted.
    pub opened: u64,
    /// One for each of [`Cause::ALL`](super::Cause::ALL), in that order.
    pub ended: Vec<CauseReport>,
    /// Further tasks asked for a client whose first one could not be had.
    pub retries: u64,
    /// Times that a worker stopped to accept, for want of descriptors or with as many connections as may be.
    pub pauses: u64,
    pub bytes_to_tasks: u64,
    pub bytes_to_clients: u64,
    /// Datagrams of this node's clients.
    #[serde(default)]
    pub udp: UdpReport,
    /// Datagrams of other nodes' clients to tasks of this one.
    #[serde(default)]
    pub udp_for_nodes: UdpReport,
    /// It listens for datagrams, and could not tell a client that a task refuses them, for want of CAP_NET_RAW.
    #[serde(default)]
    pub untold: bool,
    #[serde(default)]
    pub trunks: TrunkReport,
    #[serde(default)]
    pub relay: RelayReport,
}

/// What became of datagrams and their flows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UdpReport {
    /// Flows, now.
    pub flows: u64,
    /// Flows by what happened to them, as `docs/operations.md` says.
    pub events: BTreeMap<String, u64>,
    pub to_tasks: TrafficReport,
    pub to_clients: TrafficReport,
    /// Datagrams that were not carried, by reason: one for each of [`Loss::ALL`](super::udp::Loss::ALL).
    pub lost: BTreeMap<String, u64>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrafficReport {
    pub datagrams: u64,
    pub bytes: u64,
}

/// Connections between nodes that carry datagrams.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrunkReport {
    /// To other nodes, now.
    pub open: u64,
    /// From other nodes, now.
    pub taken: u64,
    /// Those to other nodes that could not be made.
    pub unreached: u64,
    /// Those to other nodes that ended with flows on them.
    pub broken: u64,
}

impl ProxyReport {
    /// Whether it serves anybody, or has.
    pub const fn is_used(&self) -> bool {
        self.listeners > 0 || self.opened > 0
    }
}

/// Connections that ended for one reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CauseReport {
    pub cause: String,
    pub connections: u64,
}
