//! What `portico0` should have: addresses that are nobody's, and routes to the VIPs.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::net::{IpAddr, Ipv6Addr};

use ipnet::IpNet;
use lb_common::host::{NODE_VIP4, NODE_VIP6};

use super::{MTU, NAME, Portico0, View, Way, pair};
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
            if collision.as_ref().is_none_or(|(_, stays)| *stays) {
                nets.push(*pool);
            }
            let problem = collision.map(|(what, stays)| collides(*pool, &what, stays));
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
                    .push(collides(net, "there is another route to it", false));
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

/// What of the machine or the cluster lies in a pool, and whether the pool can be routed here all the same.
fn collision(pool: IpNet, host: &Host, snapshot: &Snapshot) -> Option<(String, bool)> {
    let within = || others(host).filter(move |entry| entry.net != pool && pool.contains(&entry.net));
    // A node that no narrower route leads to would be cut off.
    let cut = snapshot.nodes.values().find(|node| {
        let address = IpAddr::from(node.address);
        pool.contains(&address) && !within().any(|entry| entry.net.contains(&address))
    });
    if let Some(node) = cut {
        return Some((format!("node {} is in it, at {}", node.name, node.address), false));
    }
    if let Some(address) = elsewhere(host).find(|address| pool.contains(&address.ip)) {
        return Some((format!("this node has {} in it", address.ip), true));
    }
    let entry = within().next()?;
    let device = entry.device.and_then(|index| host.devices.get(&index));
    let by = device
        .map(|device| format!(" by {}", device.name))
        .unwrap_or_default();
    Some((format!("the route to {}{by} lies in it", entry.net), true))
}

fn collides(net: IpNet, what: &str, stays: bool) -> Problem {
    let traffic = if stays {
        "processes of this node do not reach a VIP that is an address of both"
    } else {
        "processes of this node do not reach these VIPs; clients from outside and tasks do"
    };
    Problem {
        error: format!("the VIPs of {net} collide with the network of this node: {what}"),
        traffic: traffic.into(),
        fix: "give [vip] pool networks that nobody uses, the same on every node".into(),
    }
}
