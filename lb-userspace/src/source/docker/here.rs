//! The address under which other nodes reach this machine, where nobody says.

use std::net::{IpAddr, Ipv4Addr};

use crate::config::Interfaces;
use crate::interfaces;

/// Of the first device that the configuration names; else of the one with the default route; else the first that is more
/// than this machine's own.
pub fn address(interfaces: &Interfaces) -> Option<Ipv4Addr> {
    let all = addresses();
    let of = |device: &str| {
        all.iter()
            .find(|(name, _)| name == device)
            .map(|(_, address)| *address)
    };
    let named = interfaces.named.iter().find_map(|interface| of(&interface.name));
    named
        .or_else(|| default_routes().iter().find_map(|device| of(device)))
        .or_else(|| {
            // Bridges of engines have addresses that are the same on every machine.
            let bridge = |device: &str| {
                ["docker", "br-", "podman", "cni", "veth", "virbr", "portico"]
                    .iter()
                    .any(|start| device.starts_with(start))
            };
            all.iter()
                .find(|(device, _)| !bridge(device))
                .map(|(_, address)| *address)
        })
}

/// In the kernel's order.
fn addresses() -> Vec<(String, Ipv4Addr)> {
    let all = interfaces::addresses().into_iter().flatten();
    let addresses = all.filter_map(|address| match address.ip {
        IpAddr::V4(ip) => Some((address.device, ip)),
        IpAddr::V6(_) => None,
    });
    addresses
        .filter(|(_, ip)| !ip.is_loopback() && !ip.is_link_local() && !ip.is_unspecified())
        .collect()
}

/// Devices with an IPv4 default route, the one with the least metric first.
fn default_routes() -> Vec<String> {
    let table = std::fs::read_to_string("/proc/net/route").unwrap_or_default();
    let mut routes: Vec<(u32, String)> = table.lines().skip(1).filter_map(default_route).collect();
    routes.sort();
    routes.into_iter().map(|(_, device)| device).collect()
}

/// Metric and device of a line such as `eth0 00000000 0102A8C0 0003 0 0 100 00000000 0 0 0`.
fn default_route(line: &str) -> Option<(u32, String)> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let [device, "00000000", _, _, _, _, metric, "00000000", ..] = fields[..] else {
        return None;
    };
    Some((metric.parse().ok()?, device.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_default_route_is_one_to_everywhere() {
        let line = "eth0\t00000000\t0102A8C0\t0003\t0\t0\t100\t00000000\t0\t0\t0";
        assert_eq!(default_route(line), Some((100, "eth0".to_owned())));
        assert_eq!(
            default_route("eth0\t0000A8C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0"),
            None
        );
        assert_eq!(default_route(""), None);
    }
}
