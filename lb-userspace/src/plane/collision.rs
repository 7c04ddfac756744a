//! Networks of VIPs that a node or its cluster has another use for, as `portico status` and `portico check` say it.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;

use super::Problem;

/// What VIPs are taken from, and what they must leave alone.
pub struct Claims<'a> {
    pub pools: &'a [IpNet],
    /// VIPs that lie in no pool.
    pub singles: &'a BTreeSet<IpAddr>,
    /// VIPs that services bring along: a node that has one announces it.
    pub announced: &'a BTreeSet<IpAddr>,
    /// By name.
    pub nodes: Vec<(&'a str, IpAddr)>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Collision {
    /// The pool, or the VIP.
    pub net: IpNet,
    /// What else there is.
    pub what: String,
    pub harm: Harm,
}

/// What a collision costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Harm {
    /// The network is not routed here.
    Unrouted,
    /// It is, and what is narrower goes first.
    Part,
    /// It is, and goes before what is there.
    Hides,
}

/// How a machine stands to them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Survey {
    /// The worst of each pool and VIP.
    pub collisions: Vec<Collision>,
    /// All networks and addresses that the machine has a use for.
    pub used: Vec<IpNet>,
}

impl Collision {
    pub fn words(&self) -> String {
        let Self { net, what, .. } = self;
        format!("the VIPs of {net} collide with the network of this node: {what}")
    }

    pub fn problem(&self) -> Problem {
        let traffic = match self.harm {
            Harm::Unrouted => "processes of this node do not reach these VIPs; tasks and containers do",
            Harm::Part => "processes of this node do not reach a VIP that is an address of both",
            Harm::Hides => {
                "VIPs are reached; hosts that have addresses in it are not, by this node nor by whom it forwards"
            }
        };
        let fix = if self.net.prefix_len() == self.net.max_prefix_len() {
            "remove that route, or give the service another address"
        } else {
            "give [vip] pool networks that nobody uses, the same on every node"
        };
        Problem {
            error: self.words(),
            traffic: traffic.into(),
            fix: fix.into(),
        }
    }
}
