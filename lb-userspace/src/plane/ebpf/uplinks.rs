//! Which devices are uplinks, and how each shall be served.

use std::collections::BTreeMap;

use super::host::{Device, Host};
use super::portico0;
use crate::config::{Interfaces, XdpMode};
use crate::model::Snapshot;
use crate::plane::Problem;

/// A device clients arrive at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Uplink {
    pub index: u32,
    pub name: String,
    pub plan: Plan,
    /// Why this plan, in words.
    pub why: String,
}

/// tc serves every uplink; XDP is what may come before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plan {
    TcOnly,
    /// Where the driver refuses, tc serves alone.
    TryNative,
    /// As the configuration demands: a refusal is a problem.
    Native,
    Generic,
}

/// The devices at which other nodes' packets arrive, with the reason in words: those that lead to them, and those with
/// this node's own address.
pub fn underlay(host: &Host, snapshot: &Snapshot, own: &str) -> BTreeMap<u32, String> {
    let mut devices = BTreeMap::new();
    for node in snapshot.nodes.values() {
        let address = node.address.into();
        if &*node.name == own {
            let bearing = host.addresses.iter().filter(|there| there.ip == address);
            for there in bearing {
                let why = || format!("it has this node's address {address}");
                devices.entry(there.device).or_insert_with(why);
            }
        } else if let Some(route) = host.routes.get(&address).filter(|route| !route.local) {
            let why = || format!("it leads to node {}", node.name);
            devices.entry(route.device).or_insert_with(why);
        }
    }
    // An address on lo is reached through other devices, and nobody through our own.
    let carries = |device: &Device| !device.loopback && device.name != portico0::NAME;
    devices.retain(|index, _| host.devices.get(index).is_some_and(carries));
    devices
}

/// The uplinks, and what is wrong with the choice: devices that are not there, and those of the underlay that a list
/// leaves out.
pub fn choose(
    host: &Host,
    config: &Interfaces,
    underlay: &BTreeMap<u32, String>,
) -> (Vec<Uplink>, Vec<Problem>) {
    let mut uplinks: Vec<Uplink> = Vec::new();
    let mut problems = Vec::new();
    for interface in &config.named {
        match host.device_named(&interface.name) {
            Some((index, _)) => uplinks.push(plan(host, index, interface.xdp)),
            None => problems.push(Problem {
                error: format!("interface {} does not exist", interface.name),
                traffic: "clients that arrive at it are not served; it is attached as soon as it appears"
                    .into(),
                fix: "correct interfaces in portico.toml, or create the device (ip link)".into(),
            }),
        }
    }
    if config.default_routes {
        for &index in &host.default_routes {
            let known = uplinks.iter().any(|uplink| uplink.index == index);
            if let (false, Some(device)) = (known, host.devices.get(&index)) {
                uplinks.push(plan(host, index, config.xdp(&device.name)));
            }
        }
    }
    for (&index, reason) in underlay {
        let known = uplinks.iter().any(|uplink| uplink.index == index);
        let Some(device) = host.devices.get(&index).filter(|_| !known) else {
            continue;
        };
        if config.default_routes {
            let mut uplink = plan(host, index, config.xdp(&device.name));
            uplink.why = format!("{reason}; {}", uplink.why);
            uplinks.push(uplink);
        } else {
            problems.push(left_out(&device.name, reason));
        }
    }
    if uplinks.is_empty() && problems.is_empty() {
        problems.push(Problem {
            error: "no device carries a default route or leads to another node".into(),
            traffic: "no client is served".into(),
            fix: "name the devices clients arrive at: interfaces = [\"eth0\"] in portico.toml".into(),
        });
    }
    uplinks.sort_by_key(|uplink| uplink.index);
    problems.extend(twins(&uplinks));
    (uplinks, problems)
}

fn left_out(name: &str, reason: &str) -> Problem {
    Problem {
        error: format!("{name} is not among the interfaces, and {reason}"),
        traffic: "connections that other nodes relay here by it are lost".into(),
        fix: format!("add \"{name}\" to interfaces in portico.toml"),
    }
}

fn plan(host: &Host, index: u32, wanted: XdpMode) -> Uplink {
    let device = host.devices.get(&index);
    let name = device.map_or_else(String::new, |device| device.name.clone());
    let kind = device.and_then(|device| device.kind.clone());
    let (plan, why) = match (wanted, kind) {
        (XdpMode::Off, _) => (Plan::TcOnly, "XDP is off by configuration".into()),
        (XdpMode::Native, _) => (Plan::Native, "native XDP by configuration".into()),
        (XdpMode::Generic, _) => (Plan::Generic, "generic XDP by configuration".into()),
        (XdpMode::Auto, Some(kind)) => (
            Plan::TcOnly,
            format!("a virtual device ({kind}): XDP would cost its offloads"),
        ),
        (XdpMode::Auto, None) => (
            Plan::TryNative,
            "a network card: XDP forwards most packets per second".into(),
        ),
    };
    Uplink {
        index,
        name,
        plan,
        why,
    }
}

/// The last byte of a device's index travels with a packet: two uplinks must not share it.
fn twins(uplinks: &[Uplink]) -> Vec<Problem> {
    let pairs = uplinks.iter().enumerate().flat_map(|(at, one)| {
        let same = |other: &&Uplink| other.index & 0xff == one.index & 0xff;
        uplinks[at + 1..]
            .iter()
            .filter(same)
            .map(move |other| (one, other))
    });
    pairs
        .map(|(one, other)| Problem {
            error: format!(
                "the indices of {} ({}) and {} ({}) end in the same byte",
                one.name, one.index, other.name, other.index
            ),
            traffic: format!(
                "replies from other nodes to clients of {} leave by {}",
                other.name, one.name
            ),
            fix: format!("make {} anew, which gives it another index", other.name),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Interface;

    fn host() -> Host {
        let device = |name: &str, kind: Option<&str>| Device {
            name: name.into(),
            kind: kind.map(str::to_owned),
            ..Device::default()
        };
        Host {
            devices: [
                (3, device("eth0", None)),
                (4, device("veth0", Some("veth"))),
                (260, device("eth1", None)),
            ]
            .into(),
            default_routes: [3, 4].into(),
            ..Host::default()
        }
    }

    #[test]
    fn devices_with_a_default_route_are_uplinks_and_virtual_ones_keep_their_offloads() {
        let (uplinks, problems) = choose(&host(), &Interfaces::default(), &BTreeMap::new());
        let plans: Vec<_> = uplinks.iter().map(|uplink| (uplink.index, uplink.plan)).collect();
        assert_eq!(plans, [(3, Plan::TryNative), (4, Plan::TcOnly)]);
        assert!(problems.is_empty());
    }

    #[test]
    fn a_list_chooses_exactly_and_names_what_is_missing() {
        let named = ["eth1", "eth9"].map(|name| Interface {
            name: name.into(),
            xdp: XdpMode::Native,
        });
        let config = Interfaces {
            default_routes: false,
            named: named.into(),
        };
        let (uplinks, problems) = choose(&host(), &config, &BTreeMap::new());
        assert_eq!((uplinks.len(), uplinks[0].plan), (1, Plan::Native));
        assert!(problems[0].error.contains("eth9"));
    }

    #[test]
    fn what_leads_to_other_nodes_is_an_uplink_or_a_problem() {
        let underlay = [(260, "it leads to node b".to_owned())].into();
        let (uplinks, problems) = choose(&host(), &Interfaces::default(), &underlay);
        assert_eq!(uplinks.last().map(|uplink| uplink.index), Some(260));
        assert!(uplinks[2].why.starts_with("it leads to node b; "), "{uplinks:?}");
        let left_out = |problem: &Problem| problem.error.contains("not among the interfaces");
        assert!(!problems.iter().any(left_out), "{problems:?}");
        let named = vec![Interface {
            name: "eth0".into(),
            xdp: XdpMode::Auto,
        }];
        let list = Interfaces {
            default_routes: false,
            named,
        };
        let (uplinks, problems) = choose(&host(), &list, &underlay);
        assert_eq!(uplinks.len(), 1);
        assert!(problems[0].error.contains("eth1"), "{problems:?}");
    }

    #[test]
    fn uplinks_whose_indices_end_alike_are_reported() {
        let named = ["veth0", "eth1"].map(|name| Interface {
            name: name.into(),
            xdp: XdpMode::Auto,
        });
        let config = Interfaces {
            default_routes: false,
            named: named.into(),
        };
        let (_, problems) = choose(&host(), &config, &BTreeMap::new());
        assert!(problems[0].error.contains("same byte"), "{problems:?}");
    }
}
