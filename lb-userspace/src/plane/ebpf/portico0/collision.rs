//! Whether a machine has another use for the networks of VIPs.

use std::net::IpAddr;

use ipnet::IpNet;

use super::wanted::elsewhere;
use super::{BACK, NAME};
use crate::plane::collision::{Claims, Collision, Harm, Survey};
use crate::plane::ebpf::host::{Entry, Host};

/// All that collides, and all that is used.
pub fn survey(host: &Host, claims: &Claims<'_>) -> Survey {
    let addresses = elsewhere(host).map(|address| IpNet::from(address.ip));
    Survey {
        collisions: collisions(host, claims),
        used: others(host).map(|entry| entry.net).chain(addresses).collect(),
    }
}

/// The worst of each pool, and of each VIP that this node does not have itself.
pub fn collisions(host: &Host, claims: &Claims<'_>) -> Vec<Collision> {
    let possible = |net: &IpNet| host.ipv6 || net.network().is_ipv4();
    let pools = claims.pools.iter().map(IpNet::trunc).filter(possible);
    let of_pools = pools.filter_map(|pool| of_pool(pool, host, claims));
    let has = |ip: &IpAddr| elsewhere(host).any(|address| address.ip == *ip);
    let singles = claims.singles.iter().filter(|vip| !has(vip));
    let singles = singles.map(|&vip| IpNet::from(vip)).filter(possible);
    of_pools
        .chain(singles.filter_map(|vip| taken(vip, host)))
        .collect()
}

/// What of the machine or the cluster lies in a pool, or has it as a part.
fn of_pool(net: IpNet, host: &Host, claims: &Claims<'_>) -> Option<Collision> {
    let found = |what: String, harm| Some(Collision { net, what, harm });
    let is_announced = |one: IpNet| one == IpNet::from(one.addr()) && claims.announced.contains(&one.addr());
    let within =
        || others(host).filter(move |entry| net.contains(&entry.net) && !(entry.main && entry.net == net));
    // A node that no narrower route leads to would be cut off.
    let is_cut_off = |node: &IpAddr| net.contains(node) && !within().any(|entry| entry.net.contains(node));
    if let Some((name, node)) = claims.nodes.iter().find(|(_, node)| is_cut_off(node)) {
        return found(format!("node {name} is in it, at {node}"), Harm::Unrouted);
    }
    if let Some(taken) = taken(net, host) {
        return Some(taken);
    }
    let mut addresses = elsewhere(host).map(|address| IpNet::from(address.ip));
    if let Some(own) = addresses.find(|own| net.contains(own) && !is_announced(*own)) {
        return found(format!("this node has {} in it", own.addr()), Harm::Part);
    }
    if let Some(entry) = within().find(|entry| !is_announced(entry.net)) {
        return found(format!("{} lies in it", route(entry, host)), Harm::Part);
    }
    // Nothing is hidden in what is shut off as a whole.
    let around = |entry: &&Entry| entry.main && !entry.shut && entry.net != net && entry.net.contains(&net);
    if let Some(entry) = others(host).find(around) {
        return found(format!("{} has it as a part", route(entry, host)), Harm::Hides);
    }
    if let Some(gateway) = host.gateways.iter().find(|gateway| net.contains(*gateway)) {
        return found(format!("the gateway {gateway} is in it"), Harm::Hides);
    }
    let ours: Vec<u32> = [NAME, BACK]
        .iter()
        .filter_map(|name| Some(host.device_named(name)?.0))
        .collect();
    let mut neighbours = host.neighbours.keys();
    let (_, ip) = neighbours.find(|(device, ip)| net.contains(ip) && !ours.contains(device))?;
    found(format!("the neighbour {ip} is in it"), Harm::Hides)
}

/// Somebody else has made a route to just that.
fn taken(net: IpNet, host: &Host) -> Option<Collision> {
    let entry = others(host).find(|entry| entry.main && entry.net == net)?;
    Some(Collision {
        net,
        what: format!("there is another route to it{}", by(entry, host)),
        harm: Harm::Unrouted,
    })
}

fn route(entry: &Entry, host: &Host) -> String {
    format!("the route to {}{}", entry.net, by(entry, host))
}

fn by(entry: &Entry, host: &Host) -> String {
    if entry.shut {
        return " that shuts it off".into();
    }
    let device = entry.device.and_then(|index| host.devices.get(&index));
    device
        .map(|device| format!(" by {}", device.name))
        .unwrap_or_default()
}

/// Routes by other devices. What has a routing table of its own is another network.
fn others(host: &Host) -> impl Iterator<Item = &Entry> {
    let own = host.device_named(NAME).map(|(index, _)| index);
    let is_apart = |index: u32| {
        let device = host.devices.get(&index);
        let master = device.and_then(|device| host.devices.get(&device.master?));
        let mut both = device.into_iter().chain(master);
        both.any(|device| device.kind.as_deref() == Some("vrf"))
    };
    host.table.iter().filter(move |entry| {
        entry
            .device
            .is_none_or(|device| Some(device) != own && !is_apart(device))
    })
}

#[cfg(test)]
mod tests;
