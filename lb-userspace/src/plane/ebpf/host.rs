//! The machine as the plane sees it: devices, addresses, neighbours, routes. A picture without any decision in it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use lb_common::host::{ALONE, SHARED};

use super::portico0;

pub type Mac = [u8; 6];

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Host {
    /// By index.
    pub devices: BTreeMap<u32, Device>,
    pub addresses: Vec<Address>,
    /// By device and address; only those with a link-layer address that the kernel would use.
    pub neighbours: HashMap<(u32, IpAddr), Neighbour>,
    /// Ports by bridge and link-layer address.
    pub bridged: HashMap<(u32, Mac), u32>,
    /// Devices of default routes.
    pub default_routes: BTreeSet<u32>,
    /// IPv6 gateways of default routes, by device.
    pub gateways6: BTreeMap<u32, Ipv6Addr>,
    /// Gateways of all routes.
    pub gateways: BTreeSet<IpAddr>,
    /// Ways to the addresses that were asked for; none, where there is no route.
    pub routes: HashMap<IpAddr, Route>,
    /// Of all tables, without default routes.
    pub table: Vec<Entry>,
    /// Whether devices may have IPv6 addresses.
    pub ipv6: bool,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Device {
    pub name: String,
    /// `None` where it has no Ethernet address.
    pub mac: Option<Mac>,
    pub mtu: u32,
    /// "veth", "bridge", ...; `None` for hardware.
    pub kind: Option<String>,
    /// Bridge or bond it belongs to.
    pub master: Option<u32>,
    /// The other end of a pair that has both ends here.
    pub peer: Option<u32>,
    /// Id of the namespace its other end is in.
    pub peer_namespace: Option<i32>,
    pub loopback: bool,
    pub up: bool,
    /// Whether neighbours are asked for on it.
    pub asks: bool,
    /// Id of the XDP program attached to it.
    pub xdp: Option<u32>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Address {
    pub device: u32,
    pub ip: IpAddr,
    pub prefix: u8,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Neighbour {
    pub mac: Mac,
    /// Confirmed lately or for good; otherwise it is worth asking again.
    pub fresh: bool,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Route {
    pub device: u32,
    /// `None`: on the link.
    pub gateway: Option<IpAddr>,
    /// Our address on this way, where the route names one.
    pub source: Option<Ipv4Addr>,
    pub mtu: Option<u32>,
    /// The address is this machine's own.
    pub local: bool,
}

/// A route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    pub net: IpNet,
    /// `None`: several, or none.
    pub device: Option<u32>,
    pub source: Option<IpAddr>,
    pub mtu: Option<u32>,
    /// Made by this agent or one before it.
    pub ours: bool,
    /// Of the main table.
    pub main: bool,
    /// It leads nowhere, on purpose.
    pub shut: bool,
}

impl Host {
    pub fn device_named(&self, name: &str) -> Option<(u32, &Device)> {
        self.devices
            .iter()
            .find(|(_, device)| device.name == name)
            .map(|(&index, device)| (index, device))
    }

    /// Addresses that clients from outside can use.
    pub fn local_addresses(&self) -> BTreeSet<IpAddr> {
        let public = |address: &&Address| {
            let device = self.devices.get(&address.device);
            if device.is_some_and(|device| device.name == portico0::NAME) {
                return false;
            }
            let loopback = device.is_none_or(|device| device.loopback);
            let link_local = match address.ip {
                IpAddr::V4(ip) => ip.is_link_local(),
                IpAddr::V6(ip) => ip.is_unicast_link_local(),
            };
            // An address on lo other than the loopback's own is a VIP that some routing daemon announces.
            !link_local && (!loopback || !address.ip.is_loopback())
        };
        self.addresses
            .iter()
            .filter(public)
            .map(|address| address.ip)
            .collect()
    }

    /// Addresses by which the node's own processes may be known, as `OWN` has them: [`ALONE`], or on `bridges` only, whose
    /// subnets other nodes have as well, [`SHARED`].
    pub fn own_addresses(&self, bridges: &BTreeSet<u32>) -> BTreeMap<IpAddr, u8> {
        let public = self.local_addresses();
        let mut own = BTreeMap::new();
        for address in &self.addresses {
            if !public.contains(&address.ip) && !portico0::is_nodes_own(address.ip) {
                continue;
            }
            if !bridges.contains(&address.device) {
                own.insert(address.ip, ALONE);
            } else {
                own.entry(address.ip).or_insert(SHARED);
            }
        }
        own
    }

    /// Length of the subnet of `device` that `ip` is in.
    pub fn prefix(&self, device: u32, ip: IpAddr) -> Option<u8> {
        let near = |address: &&Address| {
            address.device == device
                && ipnet::IpNet::new(address.ip, address.prefix).is_ok_and(|net| net.contains(&ip))
        };
        self.addresses
            .iter()
            .filter(near)
            .map(|address| address.prefix)
            .max()
    }
}
