//! What `portico0` should have: addresses that are nobody's, and routes to the VIPs.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::net::{IpAddr, Ipv6Addr};

use ipnet::IpNet;
use lb_common::host::{NODE_VIP4, NODE_VIP6};

use super::collision::collisions;
use super::{MTU, NAME, Portico0, View, Way, pair};
use crate::model::Snapshot;
use crate::plane::Problem;
use crate::plane::collision::{Claims, Collision, Harm};
use crate::plane::ebpf::host::{Address, Host};

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
        let mut singles = device.singles.clone();
        singles.extend([IpAddr::from(NODE_VIP4), IpAddr::from(NODE_VIP6)]);
        let nodes = snapshot.nodes.values();
        let claims = Claims {
            pools: &device.pools,
            singles: &singles,
            announced: &device.announced,
            nodes: nodes.map(|node| (&*node.name, node.address.into())).collect(),
        };
        let collisions = collisions(host, &claims);
        wanted.problems.extend(collisions.iter().map(Collision::problem));
        let unrouted = collisions
            .iter()
            .filter(|collision| collision.harm == Harm::Unrouted);
        let unrouted: HashSet<IpNet> = unrouted.map(|collision| collision.net).collect();
        let pools = device.pools.iter().filter(|pool| possible(&pool.network()));
        // Who has the address itself hears what is sent to it.
        let singles = singles.iter().filter(free).map(|&vip| IpNet::from(vip));
        let nets = pools
            .copied()
            .chain(singles)
            .filter(|net| !unrouted.contains(net));
        let source4 = source4(host, snapshot, view.own);
        let source6 = host.ipv6.then(|| wanted.source6(host, snapshot, view.own));
        let mtu = view.mtu.map(|mtu| mtu.max(LEAST_MTU)).filter(|&mtu| mtu < MTU);
        for net in nets {
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
pub fn elsewhere(host: &Host) -> impl Iterator<Item = &Address> {
    let device = host.device_named(NAME).map(|(index, _)| index);
    host.addresses
        .iter()
        .filter(move |address| Some(address.device) != device)
}
