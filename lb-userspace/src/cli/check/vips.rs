//! The networks that VIPs are taken from: whether this node has another use for them.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;

use futures_util::TryStreamExt;
use ipnet::IpNet;
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::address::AddressAttribute;
use rtnetlink::packet_route::link::LinkAttribute;
use rtnetlink::packet_route::route::{RouteAddress, RouteAttribute, RouteMessage, RouteType};
use rtnetlink::{Error, Handle};

use super::finding::Finding;
use crate::api::published::Published;
use crate::config::Vip;

/// What carries the VIPs themselves.
const OWN: &str = "portico0";

/// Something that this node has a use for.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Used {
    net: IpNet,
    /// Empty for a route that leads nowhere.
    device: String,
    /// An address of the node; else what a route leads to.
    own: bool,
}

impl Used {
    /// Of a route.
    fn way(&self) -> String {
        match &*self.device {
            "" => "is shut off".into(),
            device => format!("is reached by {device}"),
        }
    }
}

/// What the sources say of addresses.
#[derive(Debug, Default)]
struct Known {
    nodes: Vec<(String, IpAddr)>,
    /// VIPs that services bring.
    vips: BTreeMap<IpAddr, String>,
}

impl Known {
    fn of(published: Option<&Published>) -> Self {
        let Some(published) = published else {
            return Self::default();
        };
        let nodes = published.nodes.iter();
        let services = published.services.iter();
        let vips = services.flat_map(|service| service.vips.iter().map(|vip| (*vip, service.name.clone())));
        Self {
            nodes: nodes
                .map(|(name, address)| (name.clone(), (*address).into()))
                .collect(),
            vips: vips.collect(),
        }
    }
}

pub async fn check(vip: &Vip, published: Option<&Published>) -> Vec<Finding> {
    let known = Known::of(published);
    if vip.pool.is_empty() && known.vips.is_empty() {
        return vec![Finding::ok(
            "VIPs",
            "[vip] pool is empty: services get no addresses of their own",
        )];
    }
    match used().await {
        Ok(used) => findings(&vip.pool, &known, &used),
        Err(error) => vec![Finding::failure(
            "VIPs",
            format!("the kernel does not list routes: {error}"),
            "run as root, in the node's network namespace",
        )],
    }
}

fn findings(pools: &[IpNet], known: &Known, used: &[Used]) -> Vec<Finding> {
    let of_pools = pools.iter().filter_map(|pool| finding(pool, known, used));
    let in_pool = |vip: &IpAddr| pools.iter().any(|pool| pool.contains(vip));
    let singles = known.vips.iter().filter(|(vip, _)| !in_pool(vip));
    let of_singles = singles.filter_map(|(vip, service)| single(*vip, service, used));
    let found: Vec<Finding> = of_pools.chain(of_singles).collect();
    if !found.is_empty() {
        return found;
    }
    if pools.is_empty() {
        return vec![Finding::ok("VIPs", "no route of this node takes one away")];
    }
    let pools: Vec<String> = pools.iter().map(ToString::to_string).collect();
    vec![Finding::ok(
        "VIPs",
        format!("no address or route of this node lies in {}", pools.join(", ")),
    )]
}

/// A VIP outside the pools has a route of its own, where no other has been made for it. That the node has it itself is
/// no collision: it is announced so.
fn single(vip: IpAddr, service: &str, used: &[Used]) -> Option<Finding> {
    let route = used
        .iter()
        .find(|used| !used.own && used.net == IpNet::from(vip))?;
    let words = format!(
        "{vip}, a VIP of {service}, {}: processes of this node do not reach it",
        route.way()
    );
    Some(Finding::failure(
        "VIPs",
        words,
        format!(
            "remove that route (ip route show {}), or give the service another address",
            route.net
        ),
    ))
}

/// The worst of what is wrong with a pool.
fn finding(pool: &IpNet, known: &Known, used: &[Used]) -> Option<Finding> {
    let free = free(pool, used).map_or("a network that nobody uses".to_owned(), |net| {
        format!("\"{net}\"")
    });
    let fix = format!("write {free} in its place in [vip] pool, on every node");
    let announced =
        |used: &Used| known.vips.contains_key(&used.net.addr()) && IpNet::from(used.net.addr()) == used.net;
    let inside = |used: &&Used| pool.contains(&used.net) && !announced(used);
    // A node that no narrower route leads to is cut off by the route to the pool.
    let is_led_to = |node: IpAddr| {
        let mut routes = used.iter().filter(|used| !used.own && used.net != *pool);
        routes.any(|used| pool.contains(&used.net) && used.net.contains(&node))
    };
    let mut nodes = known.nodes.iter();
    if let Some((name, node)) = nodes.find(|(_, node)| pool.contains(node) && !is_led_to(*node)) {
        let words = format!("the node {name}, {node}, lies in the pool {pool} and would be cut off");
        return Some(Finding::failure("VIPs", words, fix));
    }
    if let Some(Used { net, device, .. }) = used.iter().filter(|used| used.own).find(inside) {
        let words = format!("{} of {device} lies in the pool {pool}", net.addr());
        return Some(Finding::failure("VIPs", words, fix));
    }
    if let Some(route) = used.iter().find(inside) {
        let words = format!("{} {} and lies in the pool {pool}", route.net, route.way());
        return Some(Finding::failure("VIPs", words, fix));
    }
    // Nothing is hidden in what is shut off as a whole.
    let around = |used: &&Used| used.net.contains(pool) && !used.device.is_empty();
    let Used { net, device, .. } = used.iter().find(around)?;
    Some(Finding::warning(
        "VIPs",
        format!("the pool {pool} lies in {net}, which is reached by {device}: what else is in it is hidden"),
        format!("if anything is, {fix}"),
    ))
}

/// A network like the pool that this node has no use for.
fn free(pool: &IpNet, used: &[Used]) -> Option<IpNet> {
    let candidates: Vec<IpNet> = match pool {
        IpNet::V4(_) => (64..=254)
            .rev()
            .filter_map(|second| IpNet::new(IpAddr::from([10, second, 0, 0]), 16).ok())
            .chain(
                (18..=31)
                    .rev()
                    .filter_map(|second| IpNet::new(IpAddr::from([172, second, 0, 0]), 16).ok()),
            )
            .collect(),
        IpNet::V6(_) => (0..256)
            .filter_map(|subnet| {
                let address = IpAddr::from([0xfdfe, 0x706f, 0x7274, subnet, 0, 0, 0, 0]);
                IpNet::new(address, 112).ok()
            })
            .collect(),
    };
    let overlaps = |net: &IpNet| {
        let mut used = used.iter().map(|used| &used.net);
        used.any(|used| net.contains(used) || used.contains(net))
    };
    candidates.into_iter().find(|net| !overlaps(net))
}

async fn used() -> Result<Vec<Used>, String> {
    let (connection, handle, _) = rtnetlink::new_connection().map_err(|error| error.to_string())?;
    tokio::spawn(connection);
    read(&handle).await.map_err(|error| error.to_string())
}

async fn read(handle: &Handle) -> Result<Vec<Used>, Error> {
    let mut devices = HashMap::new();
    let mut links = handle.link().get().execute();
    while let Some(link) = links.try_next().await? {
        let mut attributes = link.attributes.into_iter();
        let name = attributes.find_map(|attribute| match attribute {
            LinkAttribute::IfName(name) => Some(name),
            _ => None,
        });
        devices.insert(link.header.index, name.unwrap_or_default());
    }
    let name = |index: Option<u32>| {
        let name = index.and_then(|index| devices.get(&index));
        name.cloned().unwrap_or_default()
    };
    let mut used = Vec::new();
    let mut addresses = handle.address().get().execute();
    while let Some(message) = addresses.try_next().await? {
        let (mut near, mut far) = (None, None);
        for attribute in &message.attributes {
            match attribute {
                AddressAttribute::Local(ip) => near = Some(*ip),
                AddressAttribute::Address(ip) => far = Some(*ip),
                _ => {}
            }
        }
        used.extend(near.or(far).map(|ip| Used {
            net: ip.into(),
            device: name(Some(message.header.index)),
            own: true,
        }));
    }
    for family in [AddressFamily::Inet, AddressFamily::Inet6] {
        let mut question = RouteMessage::default();
        question.header.address_family = family;
        let mut routes = handle.route().get(question).execute();
        while let Some(message) = routes.try_next().await? {
            used.extend(route(&message, name));
        }
    }
    used.retain(|used| used.device != OWN);
    Ok(used)
}

/// Neither default routes, which lead to everything, nor those of the kernel's own.
fn route(message: &RouteMessage, name: impl Fn(Option<u32>) -> String) -> Option<Used> {
    let kind = message.header.kind;
    let shut = matches!(
        kind,
        RouteType::BlackHole | RouteType::Unreachable | RouteType::Prohibit
    );
    let length = message.header.destination_prefix_length;
    if length == 0 || !(shut || kind == RouteType::Unicast) {
        return None;
    }
    let (mut ip, mut device) = (None, None);
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Destination(RouteAddress::Inet(v4)) => ip = Some(IpAddr::from(*v4)),
            RouteAttribute::Destination(RouteAddress::Inet6(v6)) => ip = Some(IpAddr::from(*v6)),
            RouteAttribute::Oif(index) => device = Some(*index),
            RouteAttribute::MultiPath(hops) => device = hops.first().map(|hop| hop.interface_index),
            _ => {}
        }
    }
    Some(Used {
        net: IpNet::new(ip?, length).ok()?,
        // IPv6's are said to lead to the loopback device.
        device: if shut { String::new() } else { name(device) },
        own: false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::check::finding::State;

    fn used(net: &str, device: &str, own: bool) -> Used {
        Used {
            net: net.parse().unwrap(),
            device: device.into(),
            own,
        }
    }

    fn found(used: &[Used]) -> (State, String, String) {
        found_with(&Known::default(), used)
    }

    fn found_with(known: &Known, used: &[Used]) -> (State, String, String) {
        let mut found = findings(&Vip::default().pool, known, used);
        assert_eq!(found.len(), 1);
        let finding = found.remove(0);
        (finding.state, finding.words, finding.fix.unwrap_or_default())
    }

    #[test]
    fn pools_that_nothing_else_uses_are_well() {
        let (state, words, _) = found(&[
            used("192.0.2.0/24", "eth0", false),
            used("192.0.2.11/32", "eth0", true),
        ]);
        assert_eq!(state, State::Ok);
        assert!(words.ends_with("lies in 10.254.0.0/16, fdfe:706f:7274::/112"));
    }

    #[test]
    fn an_address_or_a_route_in_a_pool_is_a_failure_and_a_free_network_is_named() {
        let (state, words, fix) = found(&[
            used("10.254.7.1/32", "br0", true),
            used("10.254.7.0/24", "br0", false),
            used("10.253.0.0/17", "wg0", false),
        ]);
        assert_eq!(state, State::Failure);
        assert_eq!(words, "10.254.7.1 of br0 lies in the pool 10.254.0.0/16");
        assert_eq!(
            fix,
            "write \"10.252.0.0/16\" in its place in [vip] pool, on every node"
        );

        let (state, words, _) = found(&[used("fdfe:706f:7274::/112", "wg0", false)]);
        assert_eq!(state, State::Failure);
        assert_eq!(
            words,
            "fdfe:706f:7274::/112 is reached by wg0 and lies in the pool fdfe:706f:7274::/112"
        );

        let (_, words, _) = found(&[used("10.254.0.0/24", "", false)]);
        assert_eq!(
            words,
            "10.254.0.0/24 is shut off and lies in the pool 10.254.0.0/16"
        );
    }

    #[test]
    fn nodes_and_vips_of_services_are_looked_at_too() {
        let mut known = Known {
            nodes: vec![("node2".into(), [10, 254, 1, 2].into())],
            vips: BTreeMap::new(),
        };
        let (state, words, _) = found_with(&known, &[]);
        assert_eq!(state, State::Failure);
        assert!(
            words.starts_with("the node node2, 10.254.1.2, lies in the pool"),
            "{words}"
        );
        // Announced from this node, as addresses of services are.
        known.nodes.clear();
        known.vips = [[10, 254, 0, 80], [198, 51, 100, 80]]
            .map(|vip| (vip.into(), "web".into()))
            .into();
        let own = used("10.254.0.80/32", "lo", true);
        assert_eq!(found_with(&known, &[own]).0, State::Ok);
        let (state, words, _) = found_with(&known, &[used("198.51.100.80/32", "wg0", false)]);
        assert_eq!(state, State::Failure);
        assert_eq!(
            words,
            "198.51.100.80, a VIP of web, is reached by wg0: processes of this node do not reach it"
        );
        assert_eq!(found(&[used("10.0.0.0/8", "", false)]).0, State::Ok);
    }

    #[test]
    fn a_pool_in_a_network_that_is_routed_as_a_whole_is_a_warning() {
        let (state, words, fix) = found(&[used("10.0.0.0/8", "wg0", false)]);
        assert_eq!(state, State::Warning);
        assert!(words.starts_with("the pool 10.254.0.0/16 lies in 10.0.0.0/8, which is reached by wg0"));
        assert_eq!(
            fix,
            "if anything is, write \"172.31.0.0/16\" in its place in [vip] pool, on every node"
        );
    }
}
