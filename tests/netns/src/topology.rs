//! Devices, addresses and routes: a client behind a router, nodes on the underlay, tasks on their node's bridge.
//!
//! ```text
//!  client eth0 ── client0 router under0 ─┬─ node1 ── eth0 node1 docker0 ─┬─ v-web.1 ── eth0 web.1
//!                                        ├─ node2 ── …                   └─ v-web.4 ── …
//! ```

use std::collections::BTreeSet;

use anyhow::Result;

use crate::address::{self, Pair};
use crate::namespace::Namespace;
use crate::state::State;
use crate::{supervisor, tool};

/// Every namespace learns these before its devices come: no waiting for duplicate address detection.
const COMMON: [(&str, &str); 3] = [
    ("net/ipv6/conf/default/accept_dad", "0"),
    ("net/ipv6/conf/default/accept_ra", "0"),
    ("net/ipv4/conf/all/rp_filter", "0"),
];
const FORWARD: [(&str, &str); 2] = [
    ("net/ipv4/ip_forward", "1"),
    ("net/ipv6/conf/all/forwarding", "1"),
];

/// Where in the cluster: `client`, `router`, `node1`, `web.1`.
pub fn place(state: &State, place: &str) -> Namespace {
    let place = match state.tasks.get(place) {
        Some(task) if state.host_port(place).is_some() => &task.node,
        _ => place,
    };
    Namespace::named(format!("{}-{place}", state.prefix))
}

/// Name of a node's uplink.
pub fn uplink(number: usize) -> String {
    format!("eth{number}")
}

/// Name of the router's end of a node's wire.
pub fn wire(node: &str, uplink: usize) -> String {
    if uplink == 0 {
        node.to_owned()
    } else {
        format!("{node}-{uplink}")
    }
}

/// Name of an underlay in the router.
fn bridge(number: usize) -> String {
    format!("under{number}")
}

/// Makes the client, the router and all nodes.
pub fn build(state: &State) -> Result<()> {
    let names: Vec<String> = ["client", "router"]
        .into_iter()
        .chain(state.nodes.keys().map(String::as_str))
        .map(|name| place(state, name).name().to_owned())
        .collect();
    create(state, &names)?;
    for name in &names {
        let namespace = Namespace::named(name);
        namespace.sysctl(&COMMON)?;
        if !name.ends_with("-client") {
            namespace.sysctl(&FORWARD)?;
        }
    }

    let router = place(state, "router");
    let client = place(state, "client");
    // Before any wire: one whose ends have the same index in their namespaces is taken for no wire, and the kernel looks only once
    // a second whether such a device has come up. Until then it answers nobody who asks for its IPv6 addresses.
    let bridges =
        (0..state.uplinks).map(|number| format!("link add {} type bridge mcast_snooping 0", bridge(number)));
    tool::ip(Some(router.name()), &bridges.collect::<Vec<_>>())?;
    let mut wires = vec![veth("eth0", &client, "client0", &router)];
    for name in state.nodes.keys() {
        for number in 0..state.uplinks {
            wires.push(veth(
                &uplink(number),
                &place(state, name),
                &wire(name, number),
                &router,
            ));
        }
    }
    tool::ip(None, &wires)?;

    // IPv4 binds any address that a route calls local; IPv6 only with this.
    client.sysctl(&[("net/ipv6/ip_nonlocal_bind", "1")])?;
    tool::ip(Some(client.name()), &client_lines())?;
    tool::ip(Some(router.name()), &router_lines(state))?;
    for (name, node) in &state.nodes {
        let namespace = place(state, name);
        let mut lines = vec!["link set lo up".to_owned()];
        for number in 0..state.uplinks {
            let device = uplink(number);
            lines.extend(device_lines(&device, address::node(number, node.index), [24, 64]));
            // As on a machine with two DHCP leases: both lead everywhere, the first is preferred.
            lines.extend(default_route(address::router(number), 100 * (number + 1)));
        }
        // An engine makes its own.
        if !state.engines {
            lines.push("link add docker0 type bridge mcast_snooping 0".into());
            lines.extend(device_lines("docker0", address::BRIDGE, [16, 64]));
        }
        tool::ip(Some(namespace.name()), &lines)?;
    }
    if !state.offloads {
        plain_wires(state)?;
    }
    send_vips(state, &state.nodes.keys().cloned().collect::<Vec<_>>())
}

/// Makes a task's namespace and hangs it on its node's bridge.
pub fn add_task(state: &State, name: &str) -> Result<()> {
    let task = &state.tasks[name];
    let (own, node) = (place(state, name), place(state, &task.node));
    create(state, &[own.name().to_owned()])?;
    own.sysctl(&COMMON)?;
    let outer = task_device(name);
    tool::ip(None, &[veth("eth0", &own, &outer, &node)])?;
    tool::ip(
        Some(node.name()),
        &[format!("link set {outer} master docker0 up")],
    )?;
    let mut lines = vec!["link set lo up".to_owned()];
    lines.extend(device_lines("eth0", task.address, [16, 64]));
    lines.extend(default_route(address::BRIDGE, 0));
    tool::ip(Some(own.name()), &lines)
}

/// Takes a task's wire and namespace away, the wire first, as engines do: connections whose program was killed hold their
/// namespace until they give up, and it would go on to answer for an address that another task may have by then.
pub fn remove_task(state: &State, name: &str) -> Result<()> {
    let node = place(state, &state.tasks[name].node);
    let device = task_device(name);
    tool::ip(Some(node.name()), &[format!("link del {device}")])?;
    supervisor::remove(&BTreeSet::from([place(state, name).name().to_owned()]))
}

/// Name of the node's end of a task's veth; device names have at most 15 bytes.
pub fn task_device(name: &str) -> String {
    let name: String = name.chars().take(13).collect();
    format!("v-{name}")
}

/// Lets the router send the VIPs to these nodes, connection by connection (ECMP). With two uplinks it sends by the
/// second, and the nodes' own default route is the first.
pub fn send_vips(state: &State, nodes: &[String]) -> Result<()> {
    let router = place(state, "router");
    router.sysctl(&[
        ("net/ipv4/fib_multipath_hash_policy", "1"),
        ("net/ipv6/fib_multipath_hash_policy", "1"),
    ])?;
    let last = state.uplinks - 1;
    let hops = |family: fn(Pair) -> String| -> String {
        nodes
            .iter()
            .map(|node| {
                format!(
                    " nexthop via {}",
                    family(address::node(last, state.nodes[node].index))
                )
            })
            .collect()
    };
    let lines = if nodes.is_empty() {
        address::VIPS.map(|vips| format!("route replace unreachable {vips}"))
    } else {
        [
            format!(
                "route replace {}{}",
                address::VIPS[0],
                hops(|pair| pair.v4.to_string())
            ),
            format!(
                "route replace {}{}",
                address::VIPS[1],
                hops(|pair| pair.v6.to_string())
            ),
        ]
    };
    tool::ip(Some(router.name()), &lines)
}

/// What Docker does for tasks that speak first: outside they are seen under their node's address.
pub fn masquerade(state: &State, node: &str) -> Result<()> {
    let rules = "table inet docker {
        chain post {
            type nat hook postrouting priority srcnat;
            ip saddr 172.18.0.0/16 oifname != \"docker0\" masquerade
            ip6 saddr 2001:db8:18::/64 oifname != \"docker0\" masquerade
        }
    }";
    tool::run(place(state, node).command("nft")?.arg(rules)).map(drop)
}

/// Creates namespaces; their names are written down first, so that nothing is ever forgotten.
fn create(state: &State, names: &[String]) -> Result<()> {
    supervisor::note(&state.prefix, names)?;
    let lines: Vec<String> = names.iter().map(|name| format!("netns add {name}")).collect();
    tool::ip(None, &lines)
}

fn veth(device: &str, namespace: &Namespace, peer: &str, other: &Namespace) -> String {
    format!(
        "link add {device} netns {} type veth peer name {peer} netns {}",
        namespace.name(),
        other.name()
    )
}

fn device_lines(device: &str, address: Pair, lengths: [u8; 2]) -> Vec<String> {
    vec![
        format!("addr add {}/{} dev {device}", address.v4, lengths[0]),
        format!("addr add {}/{} dev {device} nodad", address.v6, lengths[1]),
        format!("link set {device} up"),
    ]
}

fn default_route(by: Pair, metric: usize) -> Vec<String> {
    vec![
        format!("route add default via {} metric {metric}", by.v4),
        format!("route add ::/0 via {} metric {metric}", by.v6),
    ]
}

fn client_lines() -> Vec<String> {
    let mut lines = vec!["link set lo up".to_owned()];
    lines.extend(device_lines("eth0", address::CLIENT, [24, 64]));
    lines.extend(default_route(address::CLIENT_ROUTER, 0));
    lines.extend(address::CLIENT_MORE.map(|more| format!("route add local {more} dev lo")));
    lines
}

fn router_lines(state: &State) -> Vec<String> {
    let mut lines = vec!["link set lo up".to_owned()];
    lines.extend(device_lines("client0", address::CLIENT_ROUTER, [24, 64]));
    for ranges in [address::CLIENT_MORE, address::SILENT] {
        lines.push(format!("route add {} via {}", ranges[0], address::CLIENT.v4));
        lines.push(format!("route add {} via {}", ranges[1], address::CLIENT.v6));
    }
    for number in 0..state.uplinks {
        let bridge = bridge(number);
        for name in state.nodes.keys() {
            lines.push(format!("link set {} master {bridge} up", wire(name, number)));
        }
        lines.extend(device_lines(&bridge, address::router(number), [24, 64]));
    }
    lines
}

/// Makes the wires as plain as real ones: whole checksums and no super-packets, which native XDP needs.
fn plain_wires(state: &State) -> Result<()> {
    for name in state.nodes.keys() {
        for number in 0..state.uplinks {
            plain(&place(state, name), &uplink(number))?;
            plain(&place(state, "router"), &wire(name, number))?;
        }
    }
    Ok(())
}

fn plain(namespace: &Namespace, device: &str) -> Result<()> {
    let mut command = namespace.command("ethtool")?;
    tool::run(command.args(["-K", device, "tx", "off", "tso", "off", "gso", "off", "gro", "on"])).map(drop)
}
