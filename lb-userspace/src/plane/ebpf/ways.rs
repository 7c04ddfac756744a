//! The ways to the other nodes: `NODE` entries with everything a packet's outer headers need, prepared.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};

use lb_common::V4;
use lb_common::geneve::{OVERHEAD, outer_partial_sum};
use lb_common::table::{Node, Settings, node_flag};

use super::host::Host;
use crate::config::Limits;
use crate::model::Snapshot;
use crate::plane::Problem;

/// Nodes by tag, peers by address, what the kernel should be asked, and what is wrong.
#[derive(Debug, Default, PartialEq)]
pub struct Ways {
    pub nodes: HashMap<u16, Node>,
    pub peers: HashMap<V4, u16>,
    pub unresolved: Vec<(u32, IpAddr)>,
    pub problems: Vec<Problem>,
}

/// The ways from `own`, the name of this node, to all nodes of the snapshot; `xdp` gives the flags of a device.
pub fn find(host: &Host, snapshot: &Snapshot, own: &str, xdp: impl Fn(u32) -> u16) -> Ways {
    let mut ways = Ways::default();
    for node in snapshot.nodes.values() {
        let suspected = if node.suspected { node_flag::DOWN } else { 0 };
        let is_bare = node.by_proxy && &*node.name != own;
        let bare = if is_bare { node_flag::BARE } else { 0 };
        let mut entry = Node {
            address: node.address.octets(),
            flags: node_flag::KNOWN | suspected | bare,
            ..Node::default()
        };
        if &*node.name == own {
            entry.source = entry.address;
            ways.nodes.insert(node.tag, entry);
            continue;
        }
        ways.peers.insert(entry.address, node.tag);
        match host.routes.get(&node.address.into()).filter(|route| !route.local) {
            Some(route) => {
                let source = source(host, snapshot, own, route.device, route.source);
                let device = host.devices.get(&route.device);
                let mtu = route
                    .mtu
                    .unwrap_or(u32::MAX)
                    .min(device.map_or(1500, |device| device.mtu));
                entry.ifindex = route.device;
                entry.source = source.octets();
                entry.partial_sum = outer_partial_sum(entry.source, entry.address);
                entry.mtu = mtu.min(u32::from(u16::MAX)) as u16;
                entry.flags |= xdp(route.device);
                let hop = route.gateway.unwrap_or(node.address.into());
                let neighbour = host.neighbours.get(&(route.device, hop));
                let own_mac = device.and_then(|device| device.mac);
                if let (Some(neighbour), Some(own)) = (neighbour, own_mac) {
                    (entry.next_hop, entry.own) = (neighbour.mac, own);
                    entry.flags |= node_flag::RESOLVED;
                }
                if own_mac.is_some() && neighbour.is_none_or(|neighbour| !neighbour.fresh) {
                    ways.unresolved.push((route.device, hop));
                }
            }
            None => ways.problems.push(Problem {
                error: format!("no route to node {} at {}", node.name, node.address),
                traffic: "connections to its tasks are dropped here, and replies through it".into(),
                fix: format!(
                    "check the network and the address of {} (ip route get {})",
                    node.name, node.address
                ),
            }),
        }
        ways.nodes.insert(node.tag, entry);
    }
    ways
}

/// The outer source address: the one by which the others know this node, wherever the device has it.
fn source(host: &Host, snapshot: &Snapshot, own: &str, device: u32, preferred: Option<Ipv4Addr>) -> Ipv4Addr {
    let known = snapshot.nodes.get(own).map(|node| node.address);
    let ours = |ip: &Ipv4Addr| {
        host.addresses
            .iter()
            .any(|address| address.ip == IpAddr::from(*ip))
    };
    let first = host.addresses.iter().find_map(|address| match address.ip {
        IpAddr::V4(ip) if address.device == device => Some(ip),
        _ => None,
    });
    known
        .filter(ours)
        .or(preferred)
        .or(first)
        .unwrap_or(Ipv4Addr::UNSPECIFIED)
}

/// What follows from the ways for every connection, save for the sign of life: in a cluster of several nodes any local flow may become a relayed one.
pub fn settings(host: &Host, ways: &Ways, limits: &Limits) -> Settings {
    let smallest = ways
        .nodes
        .values()
        .map(|node| node.mtu)
        .filter(|&mtu| mtu > 0)
        .min();
    let room = |headers: usize| match (ways.nodes.len(), smallest) {
        (0 | 1, _) | (_, None) => 0,
        (_, Some(mtu)) => mtu.saturating_sub((OVERHEAD + headers) as u16),
    };
    let source6 = host.addresses.iter().find_map(|address| match address.ip {
        IpAddr::V6(ip) if host.default_routes.contains(&address.device) && !ip.is_unicast_link_local() => {
            Some(ip.octets())
        }
        _ => None,
    });
    Settings {
        mss4: room(20 + 20),
        mss6: room(40 + 20),
        chases: limits.chases,
        resets: limits.resets,
        source6: source6.unwrap_or_default(),
        alive: 0,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::host::{Address, Device, Neighbour, Route};
    use super::*;
    use crate::model;

    fn snapshot() -> Snapshot {
        let node = |name: &str, tag, last| {
            let name: Arc<str> = name.into();
            let address = Ipv4Addr::new(192, 0, 2, last);
            let node = model::Node {
                name: Arc::clone(&name),
                tag,
                address,
                draining: false,
                suspected: false,
                by_proxy: false,
            };
            (name, node)
        };
        Snapshot {
            nodes: [node("a", 1, 1), node("b", 2, 2)].into(),
            ..Snapshot::default()
        }
    }

    fn host() -> Host {
        let device = Device {
            mac: Some([2; 6]),
            mtu: 1500,
            up: true,
            ..Device::default()
        };
        let there: IpAddr = "192.0.2.2".parse().unwrap();
        let route = Route {
            device: 4,
            gateway: None,
            source: None,
            mtu: None,
            local: false,
        };
        Host {
            devices: [(4, device)].into(),
            addresses: vec![Address {
                device: 4,
                ip: "192.0.2.1".parse().unwrap(),
                prefix: 24,
            }],
            neighbours: [(
                (4, there),
                Neighbour {
                    mac: [6; 6],
                    fresh: false,
                },
            )]
            .into(),
            routes: [(there, route)].into(),
            ..Host::default()
        }
    }

    #[test]
    fn a_way_has_everything_the_outer_headers_need() {
        let ways = find(&host(), &snapshot(), "a", |_| 0);
        let node = ways.nodes[&2];
        assert_eq!((node.ifindex, node.mtu, node.source), (4, 1500, [192, 0, 2, 1]));
        assert_eq!((node.next_hop, node.own), ([6; 6], [2; 6]));
        assert_eq!(node.flags, node_flag::KNOWN | node_flag::RESOLVED);
        assert_eq!(
            node.partial_sum,
            outer_partial_sum([192, 0, 2, 1], [192, 0, 2, 2])
        );
        assert_eq!(ways.peers, [([192, 0, 2, 2], 2)].into());
        // Stale: usable, and to be confirmed.
        assert_eq!(ways.unresolved, [(4, "192.0.2.2".parse().unwrap())]);
    }

    #[test]
    fn what_is_known_of_a_node_is_in_its_flags() {
        let mut snapshot = snapshot();
        let node = snapshot.nodes.get_mut("b").unwrap();
        (node.suspected, node.by_proxy) = (true, true);
        snapshot.nodes.get_mut("a").unwrap().by_proxy = true;
        let ways = find(&Host::default(), &snapshot, "a", |_| 0);
        let flags = [1, 2].map(|tag| ways.nodes[&tag].flags);
        // This one has them, whatever it had before.
        let other = node_flag::KNOWN | node_flag::DOWN | node_flag::BARE;
        assert_eq!(flags, [node_flag::KNOWN, other]);
    }

    #[test]
    fn a_node_without_a_route_is_known_and_named() {
        let ways = find(&Host::default(), &snapshot(), "a", |_| 0);
        assert_eq!(
            (ways.nodes[&2].ifindex, ways.nodes[&2].flags),
            (0, node_flag::KNOWN)
        );
        assert_eq!(ways.problems.len(), 1);
    }

    #[test]
    fn the_mss_leaves_room_for_the_tunnel_where_there_is_one() {
        let ways = find(&host(), &snapshot(), "a", |_| 0);
        let limits = Limits::default();
        let both = settings(&host(), &ways, &limits);
        assert_eq!((both.mss4, both.mss6), (1388, 1368));
        let mut alone = snapshot();
        alone.nodes.remove("b");
        let ways = find(&host(), &alone, "a", |_| 0);
        assert_eq!(settings(&host(), &ways, &limits).mss4, 0);
    }
}
