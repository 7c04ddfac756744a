//! Which devices are uplinks, and how each shall be served.

use super::host::Host;
use crate::config::{Interfaces, XdpMode};
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

/// The uplinks, and the devices that are asked for and not there.
pub fn choose(host: &Host, config: &Interfaces) -> (Vec<Uplink>, Vec<Problem>) {
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
    if uplinks.is_empty() && problems.is_empty() {
        problems.push(Problem {
            error: "no device carries a default route".into(),
            traffic: "no client is served".into(),
            fix: "name the devices clients arrive at: interfaces = [\"eth0\"] in portico.toml".into(),
        });
    }
    uplinks.sort_by_key(|uplink| uplink.index);
    problems.extend(twins(&uplinks));
    (uplinks, problems)
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
    use super::super::host::Device;
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
        let (uplinks, problems) = choose(&host(), &Interfaces::default());
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
        let (uplinks, problems) = choose(&host(), &config);
        assert_eq!((uplinks.len(), uplinks[0].plan), (1, Plan::Native));
        assert!(problems[0].error.contains("eth9"));
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
        let (_, problems) = choose(&host(), &config);
        assert!(problems[0].error.contains("same byte"), "{problems:?}");
    }
}
