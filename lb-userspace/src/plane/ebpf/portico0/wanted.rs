//! What `portico0` should have: addresses that are nobody's, and routes to the VIPs.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::net::{IpAddr, Ipv6Addr};

use ipnet::IpNet;
use lb_common::host::{NODE_VIP4, NODE_VIP6};

use super::{BACK, MTU, NAME, Portico0, View, Way, pair};
use crate::model::Snapshot;
use crate::plane::Problem;
use crate::plane::ebpf::host::{Address, Entry, Host};

/// The least that IPv6 allows (RFC 8200, section 5).
const LEAST_MTU: u32 = 1280;

#[derive(Debug, Default)]
pub struct Wanted {
    pub addresses: BTreeSet<IpAddr>,
    pub routes: BTreeMap<IpNet, Way>,
    pub problems: Vec<Problem>,
}

/// Addresses that mean something on this node only: link-local ones, and those of the /64 that the IPv6 node VIP is in.
pub fn is_private(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_link_local(),
        IpAddr::V6(ip) => ip.octets()[..8] == NODE_VIP6[..8],
    }
}

/// The address that a node without a usable IPv6 address has here, told from other nodes' by its tag.
fn nodes_own(tag: u16) -> Ipv6Addr {
    let [a, b, c, d, e, f, g, h, ..] = NODE_VIP6;
    let [high, low] = tag.to_be_bytes();
    Ipv6Addr::from([a, b, c, d, e, f, g, h, 0, 0, 0, 0, 0, 1, high, low])
}

/// Whether it is such an address.
pub fn is_nodes_own(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(_) => false,
        IpAddr::V6(ip) => ip.octets()[..14] == nodes_own(0).octets()[..14],
    }
}

impl Wanted {
    pub fn new(device: &Portico0, view: &View) -> Self {
        let mut wanted = Self::default();
        let host = view.host;
        let possible = |ip: &IpAddr| ip.is_ipv4() || host.ipv6;
        let elsewhere: HashSet<IpAddr> = elsewhere(host).map(|address| address.ip).collect();
        let free = |ip: &&IpAddr| possible(ip) && !elsewhere.contains(ip);
        wanted.addresses.extend(device.listen.iter().filter(free));
        let (Some(snapshot), Some(pair)) = (view.snapshot, pair(host)) else {
            return wanted;
        };
        let mut nets = Vec::new();
        for pool in device.pools.iter().filter(|pool| possible(&pool.network())) {
            let collision = collision(*pool, host, snapshot);
            if collision.as_ref().is_none_or(|(_, harm)| *harm != Harm::Unrouted) {
                nets.push(*pool);
            }
            let problem = collision.map(|(what, harm)| collides(*pool, &what, harm));
            wanted.problems.extend(problem);
        }
        // Who has the address itself hears what is sent to it.
        let node_vips = [IpAddr::from(NODE_VIP4), IpAddr::from(NODE_VIP6)];
        let singles = device.singles.iter().chain(&node_vips).filter(free);
        nets.extend(singles.map(|&vip| IpNet::from(vip)));
        let others: HashSet<IpNet> = others(host).map(|entry| entry.net).collect();
        let source4 = source4(host, snapshot, view.own);
        let source6 = host.ipv6.then(|| wanted.source6(host, snapshot, view.own));
        let mtu = view.mtu.map(|mtu| mtu.max(LEAST_MTU)).filter(|&mtu| mtu < MTU);
        for net in nets {
            if others.contains(&net) {
                wanted
                    .problems
                    .push(collides(net, "there is another route to it", Harm::Unrouted));
                continue;
            }
            let source = if net.network().is_ipv4() { source4 } else { source6 };
            let device = pair.front;
            wanted.routes.insert(
                net,
                Way {
                    device,
                    net,
                    source,
                    mtu,
                },
            );
        }
        wanted
    }

    /// A node without a usable IPv6 address has one here: the way back does not go by it, so that it need not be routed.
    fn source6(&mut self, host: &Host, snapshot: &Snapshot, own: &str) -> IpAddr {
        let node = snapshot.nodes.get(own);
        let outside = |address: &&Address| {
            let bears_node = |there: &Address| {
                there.device == address.device
                    && node.is_some_and(|node| there.ip == IpAddr::from(node.address))
            };
            host.default_routes.contains(&address.device) || host.addresses.iter().any(bears_node)
        };
        let public = |address: &Address| match address.ip {
            IpAddr::V6(ip) if !ip.is_unicast_link_local() && !ip.is_loopback() => Some(address.ip),
            _ => None,
        };
        let found = elsewhere(host).filter(outside).find_map(public);
        found.unwrap_or_else(|| {
            let own = nodes_own(node.map_or(0, |node| node.tag)).into();
            self.addresses.insert(own);
            own
        })
    }
}

/// This node's own address, if it has it.
fn source4(host: &Host, snapshot: &Snapshot, own: &str) -> Option<IpAddr> {
    let address = IpAddr::from(snapshot.nodes.get(own)?.address);
    elsewhere(host)
        .any(|there| there.ip == address)
        .then_some(address)
}

/// Addresses on other devices.
fn elsewhere(host: &Host) -> impl Iterator<Item = &Address> {
    let device = host.device_named(NAME).map(|(index, _)| index);
    host.addresses
        .iter()
        .filter(move |address| Some(address.device) != device)
}

/// Routes by other devices.
fn others(host: &Host) -> impl Iterator<Item = &Entry> {
    let device = host.device_named(NAME).map(|(index, _)| index);
    host.table
        .iter()
        .filter(move |entry| device.is_none() || entry.device != device)
}

/// What a collision costs.
#[derive(Clone, Copy, PartialEq)]
enum Harm {
    /// The network is not routed here.
    Unrouted,
    /// It is, and what is narrower goes first.
    Part,
    /// It is, and goes before what is there.
    Hides,
}

/// What of the machine or the cluster lies in a pool, or has it as a part.
fn collision(pool: IpNet, host: &Host, snapshot: &Snapshot) -> Option<(String, Harm)> {
    let within = || others(host).filter(move |entry| entry.net != pool && pool.contains(&entry.net));
    // A node that no narrower route leads to would be cut off.
    let cut = snapshot.nodes.values().find(|node| {
        let address = IpAddr::from(node.address);
        pool.contains(&address) && !within().any(|entry| entry.net.contains(&address))
    });
    if let Some(node) = cut {
        let what = format!("node {} is in it, at {}", node.name, node.address);
        return Some((what, Harm::Unrouted));
    }
    if let Some(address) = elsewhere(host).find(|address| pool.contains(&address.ip)) {
        return Some((format!("this node has {} in it", address.ip), Harm::Part));
    }
    let by = |entry: &Entry| {
        let device = entry.device.and_then(|index| host.devices.get(&index));
        device
            .map(|device| format!(" by {}", device.name))
            .unwrap_or_default()
    };
    if let Some(entry) = within().next() {
        let what = format!("the route to {}{} lies in it", entry.net, by(entry));
        return Some((what, Harm::Part));
    }
    if let Some(entry) = others(host).find(|entry| entry.net != pool && entry.net.contains(&pool)) {
        let what = format!("the route to {}{} has it as a part", entry.net, by(entry));
        return Some((what, Harm::Hides));
    }
    if let Some(gateway) = host.gateways.iter().find(|gateway| pool.contains(*gateway)) {
        return Some((format!("the gateway {gateway} is in it"), Harm::Hides));
    }
    let ours: Vec<u32> = [NAME, BACK]
        .iter()
        .filter_map(|name| Some(host.device_named(name)?.0))
        .collect();
    let mut neighbours = host.neighbours.keys();
    let (_, ip) = neighbours.find(|(device, ip)| pool.contains(ip) && !ours.contains(device))?;
    Some((format!("the neighbour {ip} is in it"), Harm::Hides))
}

fn collides(net: IpNet, what: &str, harm: Harm) -> Problem {
    let traffic = match harm {
        Harm::Unrouted => "processes of this node do not reach these VIPs; tasks and containers do",
        Harm::Part => "processes of this node do not reach a VIP that is an address of both",
        Harm::Hides => {
            "VIPs are reached; hosts that have addresses in it are not, by this node nor by whom it forwards"
        }
    };
    Problem {
        error: format!("the VIPs of {net} collide with the network of this node: {what}"),
        traffic: traffic.into(),
        fix: "give [vip] pool networks that nobody uses, the same on every node".into(),
    }
}
