//! `portico0`: the way of this node's own traffic to the VIPs. A pair of devices in the node's own namespace; what is routed
//! into `portico0` comes out of `portico1`, where the `task` program serves it as it serves any client of this node, and the
//! replies are put into `portico0` from behind.
//!
//! The pair outlives the agent, as the programs do. Nothing here does anything: a look at the machine becomes steps, and
//! [`Netlink::take`](super::netlink::Netlink::take) takes them.

mod collision;
mod tend;
mod wanted;

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::net::IpAddr;

use ipnet::IpNet;

use super::host::{Device, Host, Mac};
use crate::model::Snapshot;
use crate::plane::{Portico0Report, Problem};
pub use collision::survey;
use wanted::Wanted;
pub use wanted::is_nodes_own;

pub const NAME: &str = "portico0";
pub const BACK: &str = "portico1";
/// What replies carry to be taken for this node's.
pub const MAC: Mac = lb_common::host::MAC;
/// Another one: what no program takes at the back is for nobody there, and goes round no circle.
pub const BACK_MAC: Mac = [0x02, b'p', b'o', b'r', b't', b'1'];

/// As large as can be: what fits is the routes' business, and what a task sends is never too large for its own node.
pub const MTU: u32 = 65_535;

/// One change to the machine.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// The pair, with these indices.
    Make {
        front: u32,
        back: u32,
    },
    Remove(u32),
    /// Up, and asking nobody: every address is behind it.
    Prepare {
        index: u32,
        mac: Mac,
    },
    AddAddress(u32, IpAddr),
    DropAddress(u32, IpAddr),
    AddRoute(Way),
    /// For the same network as one of ours, in its place at once: what is asked meanwhile leaves by no other way.
    ReplaceRoute(Way),
    DropRoute(Way),
}

/// A route into the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Way {
    pub device: u32,
    pub net: IpNet,
    /// This node's address for it.
    pub source: Option<IpAddr>,
    /// What fits the tunnel to every node, where that is less than the device takes.
    pub mtu: Option<u32>,
}

/// Indices of the two ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pair {
    pub front: u32,
    pub back: u32,
}

/// What is known beside the machine.
pub struct View<'a> {
    pub host: &'a Host,
    /// `None`: no snapshot yet. The device can have its addresses all the same.
    pub snapshot: Option<&'a Snapshot>,
    /// Name of this node.
    pub own: &'a str,
    /// Last bytes of the uplinks' indices.
    pub uplinks: HashSet<u8>,
    /// The largest packet that fits the tunnel to every node; `None` in a cluster of one.
    pub mtu: Option<u32>,
}

impl View<'_> {
    /// The last byte of its index travels with a packet: no uplink must have the same, and 0 stands for no device.
    fn can_be_told(&self, pair: Pair) -> bool {
        let byte = pair.back as u8;
        byte != 0 && !self.uplinks.contains(&byte)
    }
}

/// What the configuration and the snapshot ask of the device, and what became of it.
pub struct Portico0 {
    pools: Vec<IpNet>,
    listen: BTreeSet<IpAddr>,
    /// VIPs of the snapshot that lie in no pool.
    singles: BTreeSet<IpAddr>,
    /// Those that no pool gave.
    announced: BTreeSet<IpAddr>,
    /// As it was last: flows remember it by its index.
    last: Option<Pair>,
    report: Portico0Report,
}

/// Length of the prefix that is one address.
pub const fn whole(ip: IpAddr) -> u8 {
    if ip.is_ipv4() { 32 } else { 128 }
}

/// The pair, where it is one.
pub fn pair(host: &Host) -> Option<Pair> {
    let (front, device) = host.device_named(NAME)?;
    let back = device.peer.filter(|_| is_veth(device))?;
    let other = host.devices.get(&back)?;
    (other.name == BACK && other.peer == Some(front)).then_some(Pair { front, back })
}

fn is_veth(device: &Device) -> bool {
    device.kind.as_deref() == Some("veth")
}

impl Portico0 {
    pub fn new(pools: Vec<IpNet>, listen: impl IntoIterator<Item = IpAddr>) -> Self {
        Self {
            pools: pools.iter().map(IpNet::trunc).collect(),
            listen: listen.into_iter().filter(|&ip| wanted::is_private(ip)).collect(),
            singles: BTreeSet::new(),
            announced: BTreeSet::new(),
            last: None,
            report: Portico0Report::default(),
        }
    }

    /// Takes note of the VIPs of a new snapshot, and of those among them that its services bring along.
    pub fn set_vips(&mut self, vips: impl IntoIterator<Item = IpAddr>, announced: BTreeSet<IpAddr>) {
        let in_pool = |vip: &IpAddr| self.pools.iter().any(|pool| pool.contains(vip));
        self.singles = vips.into_iter().filter(|vip| !in_pool(vip)).collect();
        self.announced = announced;
    }

    pub const fn report(&self) -> &Portico0Report {
        &self.report
    }

    /// What is to be done next; more may be to do after that, which the next look shows.
    pub fn plan(&mut self, view: &View) -> (Vec<Step>, Vec<Problem>) {
        let host = view.host;
        self.report = Portico0Report::default();
        let Some(pair) = pair(host) else {
            return self.make(view);
        };
        if !view.can_be_told(pair) {
            // Its replies would leave by an uplink.
            self.last = None;
            return (vec![Step::Remove(pair.front)], Vec::new());
        }
        self.last = Some(pair);
        let mut steps = Vec::new();
        for (index, mac) in [(pair.back, BACK_MAC), (pair.front, MAC)] {
            let ready =
                |device: &Device| device.up && !device.asks && device.mac == Some(mac) && device.mtu == MTU;
            if !host.devices.get(&index).is_some_and(ready) {
                steps.push(Step::Prepare { index, mac });
            }
        }
        self.report.there = true;
        self.report.up = steps.is_empty();
        if !self.report.up {
            return (steps, Vec::new());
        }
        let wanted = Wanted::new(self, view);
        steps.extend(self.addresses(host, pair, &wanted));
        steps.extend(self.routes(host, pair, &wanted));
        (steps, wanted.problems)
    }

    fn make(&mut self, view: &View) -> (Vec<Step>, Vec<Problem>) {
        let there: Vec<_> = [NAME, BACK]
            .iter()
            .filter_map(|name| view.host.device_named(name))
            .collect();
        if let Some((_, device)) = there.iter().find(|(_, device)| !is_veth(device)) {
            return (Vec::new(), vec![not_ours(&device.name)]);
        }
        // One end alone leads nowhere.
        if let Some(&(index, _)) = there.first() {
            return (vec![Step::Remove(index)], Vec::new());
        }
        let free = |index: u32| !view.host.devices.contains_key(&index);
        let usable = |pair: &Pair| free(pair.front) && free(pair.back) && view.can_be_told(*pair);
        let pair = self.last.filter(usable).or_else(|| {
            let above = view.host.devices.keys().next_back().copied().unwrap_or(0) + 1;
            (above..above + 256)
                .map(|front| Pair {
                    front,
                    back: front + 1,
                })
                .find(usable)
        });
        let make = |Pair { front, back }| Step::Make { front, back };
        (pair.map(make).into_iter().collect(), Vec::new())
    }

    fn addresses(&mut self, host: &Host, pair: Pair, wanted: &Wanted) -> Vec<Step> {
        let on_it = host
            .addresses
            .iter()
            .filter(|address| address.device == pair.front && wanted::is_private(address.ip));
        let present: BTreeSet<IpAddr> = on_it.map(|address| address.ip).collect();
        self.report.addresses = present.intersection(&wanted.addresses).copied().collect();
        let gone = present.difference(&wanted.addresses);
        let new = wanted.addresses.difference(&present);
        gone.map(|&ip| Step::DropAddress(pair.front, ip))
            .chain(new.map(|&ip| Step::AddAddress(pair.front, ip)))
            .collect()
    }

    fn routes(&mut self, host: &Host, pair: Pair, wanted: &Wanted) -> Vec<Step> {
        let ours = host
            .table
            .iter()
            .filter(|entry| entry.ours && entry.device == Some(pair.front));
        let present: BTreeMap<IpNet, Way> = ours
            .map(|entry| {
                let way = Way {
                    device: pair.front,
                    net: entry.net,
                    source: entry.source,
                    mtu: entry.mtu,
                };
                (entry.net, way)
            })
            .collect();
        let mut steps = Vec::new();
        let gone = present.iter().filter(|(net, _)| !wanted.routes.contains_key(net));
        steps.extend(gone.map(|(_, way)| Step::DropRoute(*way)));
        self.report.wanted = wanted.routes.len();
        for (net, way) in &wanted.routes {
            match present.get(net) {
                Some(there) if there == way => self.report.routes += 1,
                Some(_) => steps.push(Step::ReplaceRoute(*way)),
                None => steps.push(Step::AddRoute(*way)),
            }
        }
        steps
    }
}

fn not_ours(name: &str) -> Problem {
    Problem {
        error: format!("the device {name} is there, and no end of a pair of this agent"),
        traffic: "processes of this node itself do not reach VIPs; everybody else does".into(),
        fix: format!("rename or remove it (ip link del {name}); the agent makes its own at once"),
    }
}

#[cfg(test)]
mod tests;
