//! Ways from the client to the task.

use std::net::Ipv4Addr;

use clap::ValueEnum;
use serde::Serialize;

/// Where the task runs: on the node that the client addresses, or on another one behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Place {
    Local,
    Remote,
}

impl Place {
    pub const ALL: [Self; 2] = [Self::Local, Self::Remote];

    pub fn title(self) -> &'static str {
        match self {
            Self::Local => "task on the ingress node",
            Self::Remote => "task on another node",
        }
    }

    /// The service whose only task runs there, and its node.
    pub fn service(self) -> (&'static str, &'static str) {
        match self {
            Self::Local => ("local", "node1"),
            Self::Remote => ("remote", "node2"),
        }
    }

    /// Ports of node 1 that lead to this service's task: HTTP, and bulk.
    pub fn ports(self) -> [u16; 2] {
        match self {
            Self::Local => [8080, 5201],
            Self::Remote => [8081, 5202],
        }
    }
}

/// How the client's packets get to the task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Contender {
    /// No balancer: the client knows the task's address, and nodes route it.
    Routing,
    /// The agent.
    Portico,
    /// DNAT on node 1, whose stack then routes.
    Nftables,
    /// No balancer: node 1 routes the task's address into a VXLAN tunnel.
    Vxlan,
}

impl Contender {
    pub const ALL: [Self; 4] = [Self::Routing, Self::Portico, Self::Nftables, Self::Vxlan];

    /// The contenders for a task at that place.
    pub fn at(place: Place) -> &'static [Self] {
        match place {
            Place::Local => &[Self::Routing, Self::Portico, Self::Nftables],
            Place::Remote => &Self::ALL,
        }
    }

    pub fn title(self) -> &'static str {
        match self {
            Self::Routing => "plain routing",
            Self::Portico => "Portico",
            Self::Nftables => "nftables DNAT",
            Self::Vxlan => "kernel VXLAN",
        }
    }
}

/// Ports of a task: HTTP, and bulk.
pub const TASK_PORTS: [u16; 2] = [80, 5201];

/// The task's address for one contender, from the range for benchmarks (RFC 2544): on every node the bridge's own range
/// is the same. Shared by two, the task would take one's new connections for old segments of the other's (RFC 6191):
/// clients count their timestamps from another start for every address that they connect to.
pub fn address(contender: Contender, place: Place) -> Ipv4Addr {
    Ipv4Addr::new(198, 18, 2 + place as u8, 1 + contender as u8)
}
