//! The uplinks: whether they are there and up, how they will be served, and what fits through them.

use futures_util::TryStreamExt;
use lb_common::geneve::OVERHEAD;
use rtnetlink::packet_route::link::{InfoKind, LinkAttribute, LinkFlags, LinkInfo, LinkMessage};

use super::finding::Finding;
use crate::config::{Config, XdpMode};
use crate::plane::netlink;

/// Least MTU of IPv6 (RFC 8200, section 5).
const LEAST: usize = 1280;
/// IPv4 and TCP headers.
const HEADERS: usize = 40;

/// What matters of a device.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Device {
    name: String,
    up: bool,
    mtu: u32,
    /// `veth`, `bridge`, …; none for hardware.
    kind: Option<String>,
}

pub async fn check(config: &Config) -> Vec<Finding> {
    let devices = match devices().await {
        Ok(devices) => devices,
        Err(error) => {
            let words = format!("the kernel does not list them: {error}");
            return vec![Finding::failure(
                "devices",
                words,
                "run as root, in the node's network namespace",
            )];
        }
    };
    let routes = std::fs::read_to_string("/proc/net/route").unwrap_or_default();
    let uplinks = uplinks(config, &routes);
    if uplinks.is_empty() {
        return vec![Finding::failure(
            "devices",
            "no device carries a default route, and the configuration names none",
            "set interfaces = [\"DEVICE\"] in portico.toml",
        )];
    }
    let found = uplinks.iter().flat_map(|name| {
        let device = devices.iter().find(|device| device.name == *name);
        device.map_or_else(
            || vec![missing(name)],
            |device| findings(device, config.interfaces.xdp(name)),
        )
    });
    found.chain([reverse_path()]).collect()
}

/// Devices named in the configuration, and those with a default route where it wants them.
fn uplinks(config: &Config, routes: &str) -> Vec<String> {
    let named = config
        .interfaces
        .named
        .iter()
        .map(|interface| interface.name.clone());
    let mut uplinks: Vec<_> = named.collect();
    if config.interfaces.default_routes {
        let fields = routes
            .lines()
            .map(|line| line.split_whitespace().collect::<Vec<_>>());
        // Device, destination, gateway, flags, three counters, mask.
        let defaults =
            fields.filter(|fields| fields.get(1) == Some(&"00000000") && fields.get(7) == Some(&"00000000"));
        uplinks.extend(defaults.map(|fields| fields[0].to_owned()));
    }
    uplinks.sort();
    uplinks.dedup();
    uplinks
}

fn missing(name: &str) -> Finding {
    Finding::failure(
        "devices",
        format!("{name} is not there"),
        "correct interfaces in portico.toml (ip link lists devices)",
    )
}

fn findings(device: &Device, xdp: XdpMode) -> Vec<Finding> {
    let name = &device.name;
    let state = if device.up {
        Finding::ok("devices", format!("{name} is up, {}", served(device, xdp)))
    } else {
        Finding::failure(
            "devices",
            format!("{name} is down"),
            format!("ip link set dev {name} up"),
        )
    };
    let fits = (device.mtu as usize).saturating_sub(OVERHEAD);
    let mtu = if fits < LEAST {
        Finding::failure(
            "MTU",
            format!(
                "{name}: {} bytes, less {OVERHEAD} between nodes: IPv6 does not fit",
                device.mtu
            ),
            format!(
                "ip link set dev {name} mtu {} or more, on the whole way between the nodes",
                LEAST + OVERHEAD
            ),
        )
    } else {
        Finding::ok(
            "MTU",
            format!(
                "{name}: {} bytes, {fits} between nodes; TCP over IPv4 is kept to an MSS of {}",
                device.mtu,
                fits - HEADERS
            ),
        )
    };
    vec![state, mtu]
}

fn served(device: &Device, xdp: XdpMode) -> String {
    let kind = device.kind.as_deref();
    let why = kind.map_or("hardware".into(), |kind| format!("a {kind} device"));
    let how = match (xdp, kind) {
        (XdpMode::Auto, None) => "XDP where its driver can, else tc",
        (XdpMode::Auto, Some(_)) | (XdpMode::Off, _) => "tc",
        (XdpMode::Native, _) => "native XDP, as configured",
        (XdpMode::Generic, _) => "generic XDP, as configured",
    };
    format!("{why}: {how}")
}

/// Nothing to do, but everyone who knows balancers asks.
fn reverse_path() -> Finding {
    let all = std::fs::read_to_string("/proc/sys/net/ipv4/conf/all/rp_filter").unwrap_or_default();
    let words = match all.trim() {
        "1" => "strict, which is fine: balanced packets are taken before it looks",
        "2" => "loose, which is fine: balanced packets are taken before it looks",
        _ => "off for all devices",
    };
    Finding::ok("rp_filter", words)
}

async fn devices() -> Result<Vec<Device>, String> {
    let handle = netlink::connect().map_err(|error| error.to_string())?;
    let links = handle.link().get().execute().map_ok(|link| device(&link));
    links.try_collect().await.map_err(|error| error.to_string())
}

fn device(link: &LinkMessage) -> Device {
    let mut device = Device {
        name: String::new(),
        up: link.header.flags.contains(LinkFlags::Up),
        mtu: 0,
        kind: None,
    };
    for attribute in &link.attributes {
        match attribute {
            LinkAttribute::IfName(name) => device.name.clone_from(name),
            LinkAttribute::Mtu(mtu) => device.mtu = *mtu,
            LinkAttribute::LinkInfo(infos) => device.kind = infos.iter().find_map(kind),
            _ => {}
        }
    }
    device
}

fn kind(info: &LinkInfo) -> Option<String> {
    match info {
        LinkInfo::Kind(InfoKind::Other(kind)) => Some(kind.clone()),
        LinkInfo::Kind(kind) => Some(format!("{kind:?}").to_lowercase()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::check::finding::State;

    const ROUTES: &str = "\
Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT
eth0\t00000000\t010200C0\t0003\t0\t0\t0\t00000000\t0\t0\t0
eth1\t000200C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0
";

    fn veth(mtu: u32) -> Device {
        Device {
            name: "eth0".into(),
            up: true,
            mtu,
            kind: Some("veth".into()),
        }
    }

    #[test]
    fn the_default_routes_device_is_the_uplink_unless_others_are_named() {
        assert_eq!(uplinks(&Config::default(), ROUTES), ["eth0"]);
        let named = Config::parse("x".as_ref(), "node = \"n\"\ninterfaces = [\"eth1\"]").unwrap();
        assert_eq!(uplinks(&named, ROUTES), ["eth1"]);
    }

    #[test]
    fn what_fits_between_nodes_is_computed_from_the_mtu() {
        let findings = findings(&veth(1500), XdpMode::Auto);
        assert_eq!(findings[0].words, "eth0 is up, a veth device: tc");
        assert_eq!(
            findings[1].words,
            "eth0: 1500 bytes, 1428 between nodes; TCP over IPv4 is kept to an MSS of 1388"
        );
    }

    #[test]
    fn an_mtu_too_small_for_ipv6_in_the_tunnel_is_a_failure() {
        assert_eq!(findings(&veth(1352), XdpMode::Auto)[1].state, State::Ok);
        assert_eq!(findings(&veth(1351), XdpMode::Auto)[1].state, State::Failure);
    }
}
