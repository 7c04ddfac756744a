//! What collides, over machines that are made up.

use std::collections::BTreeSet;

use super::*;
use crate::plane::ebpf::host::{Address, Device};

/// eth0 is device 2, wg0 device 3.
fn host() -> Host {
    let device = |name: &str| Device {
        name: name.into(),
        ..Device::default()
    };
    Host {
        devices: [(2, device("eth0")), (3, device("wg0"))].into(),
        ipv6: true,
        ..Host::default()
    }
}

fn route(net: &str, device: u32) -> Entry {
    Entry {
        net: net.parse().unwrap(),
        device: Some(device),
        source: None,
        mtu: None,
        ours: false,
        main: true,
        shut: false,
    }
}

fn own(ip: &str) -> Address {
    Address {
        device: 2,
        ip: ip.parse().unwrap(),
        prefix: 24,
    }
}

fn found(change: impl FnOnce(&mut Host)) -> Option<(String, Harm)> {
    found_with(&[], &[], change)
}

/// With these nodes and these VIPs of services.
fn found_with(nodes: &[&str], vips: &[&str], change: impl FnOnce(&mut Host)) -> Option<(String, Harm)> {
    let mut host = host();
    change(&mut host);
    let pools: [IpNet; 1] = ["10.254.0.0/16".parse().unwrap()];
    let announced: BTreeSet<IpAddr> = vips.iter().map(|vip| vip.parse().unwrap()).collect();
    let singles = announced
        .iter()
        .copied()
        .filter(|vip| !pools[0].contains(vip))
        .collect();
    let claims = Claims {
        pools: &pools,
        singles: &singles,
        announced: &announced,
        nodes: nodes
            .iter()
            .map(|node| ("node2", node.parse().unwrap()))
            .collect(),
    };
    let mut collisions = survey(&host, &claims).collisions;
    assert!(collisions.len() < 2, "{collisions:?}");
    collisions.pop().map(|collision| (collision.what, collision.harm))
}

#[test]
fn an_address_or_a_route_in_a_pool_collides() {
    assert_eq!(found(|_| ()), None);
    assert_eq!(found(|host| host.table = vec![route("192.0.2.0/24", 2)]), None);
    let said = |what: &str, harm| Some((what.to_owned(), harm));
    let address = found(|host| host.addresses = vec![own("10.254.7.1")]);
    assert_eq!(address, said("this node has 10.254.7.1 in it", Harm::Part));
    let part = found(|host| host.table = vec![route("10.254.7.0/24", 3)]);
    assert_eq!(
        part,
        said("the route to 10.254.7.0/24 by wg0 lies in it", Harm::Part)
    );
    let same = found(|host| host.table = vec![route("10.254.0.0/16", 3)]);
    assert_eq!(same, said("there is another route to it by wg0", Harm::Unrouted));
    // A rule may lead to another table before the one that has the pool.
    let other_table = |net| Entry {
        main: false,
        ..route(net, 3)
    };
    let same = found(|host| host.table = vec![other_table("10.254.0.0/16")]);
    assert_eq!(
        same,
        said("the route to 10.254.0.0/16 by wg0 lies in it", Harm::Part)
    );
    assert_eq!(found(|host| host.table = vec![other_table("10.0.0.0/8")]), None);
}

#[test]
fn what_is_shut_off_hides_nothing() {
    let shut = |net| Entry {
        device: None,
        shut: true,
        ..route(net, 0)
    };
    assert_eq!(found(|host| host.table = vec![shut("10.0.0.0/8")]), None);
    let (what, harm) = found(|host| host.table = vec![shut("10.254.0.0/24")]).unwrap();
    assert!(what.contains("shuts it off") && harm == Harm::Part, "{what}");
}

#[test]
fn a_network_with_a_table_of_its_own_is_another_one() {
    let apart = |host: &mut Host| {
        let vrf = Device {
            name: "blue".into(),
            kind: Some("vrf".into()),
            ..Device::default()
        };
        host.devices.insert(4, vrf);
        host.devices.get_mut(&3).unwrap().master = Some(4);
        host.table = vec![Entry {
            main: false,
            ..route("10.254.7.0/24", 3)
        }];
    };
    assert_eq!(found(apart), None);
}

#[test]
fn a_node_that_no_other_route_leads_to_would_be_cut_off() {
    let cut = found_with(&["10.254.1.2"], &[], |_| ()).unwrap();
    assert_eq!(cut, ("node node2 is in it, at 10.254.1.2".into(), Harm::Unrouted));
    let led = found_with(&["10.254.1.2"], &[], |host| {
        host.table = vec![route("10.254.1.0/24", 2)]
    });
    assert_eq!(led.unwrap().1, Harm::Part);
}

#[test]
fn vips_that_services_bring_are_announced_and_not_in_the_way() {
    let vips = ["10.254.0.80", "198.51.100.80"];
    let announced = |host: &mut Host| {
        host.addresses = vec![own("10.254.0.80"), own("198.51.100.80")];
        host.table = vec![route("10.254.0.80/32", 2), route("198.51.100.80/32", 2)];
    };
    assert_eq!(found_with(&[], &vips, announced), None);
    let taken = found_with(&[], &vips, |host| host.table = vec![route("198.51.100.80/32", 3)]);
    assert_eq!(
        taken,
        Some(("there is another route to it by wg0".into(), Harm::Unrouted))
    );
}
