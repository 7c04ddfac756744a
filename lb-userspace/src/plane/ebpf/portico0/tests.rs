use std::net::Ipv4Addr;
use std::sync::Arc;

use super::super::host::{Address, Entry, Neighbour};
use super::*;
use crate::model::Node;

const FRONT: u32 = 5;
const BACK: u32 = 6;

fn end(name: &str, mac: Mac, peer: u32) -> Device {
    Device {
        name: name.into(),
        mac: Some(mac),
        mtu: MTU,
        kind: Some("veth".into()),
        peer: Some(peer),
        up: true,
        ..Device::default()
    }
}

/// node `a` at 192.0.2.1 on eth0 (2), with the pair as it should be.
fn host() -> Host {
    let eth0 = Device {
        name: "eth0".into(),
        up: true,
        asks: true,
        ..Device::default()
    };
    let address = |ip: &str, prefix| Address {
        device: 2,
        ip: ip.parse().unwrap(),
        prefix,
    };
    Host {
        devices: [
            (2, eth0),
            (FRONT, end(NAME, MAC, BACK)),
            (BACK, end(BACK_NAME, BACK_MAC, FRONT)),
        ]
        .into(),
        addresses: vec![address("192.0.2.1", 24), address("fe80::1", 64)],
        ipv6: true,
        ..Host::default()
    }
}

const BACK_NAME: &str = super::BACK;

fn snapshot() -> Snapshot {
    let name: Arc<str> = "a".into();
    let node = Node {
        name: Arc::clone(&name),
        tag: 0x1234,
        address: Ipv4Addr::new(192, 0, 2, 1),
        draining: false,
        suspected: false,
        by_proxy: false,
    };
    Snapshot {
        nodes: [(name, node)].into(),
        ..Snapshot::default()
    }
}

fn device() -> Portico0 {
    Portico0::new(
        vec!["10.254.0.0/16".parse().unwrap()],
        ["169.254.20.10".parse().unwrap(), "192.0.2.1".parse().unwrap()],
    )
}

fn plan(device: &mut Portico0, host: &Host, uplinks: &[u8]) -> Vec<Step> {
    device
        .plan(&View {
            host,
            snapshot: Some(&snapshot()),
            own: "a",
            uplinks: uplinks.iter().copied().collect(),
            mtu: Some(1428),
        })
        .0
}

#[test]
fn a_bare_pair_gets_its_addresses_and_routes_with_this_nodes_source() {
    let steps = plan(&mut device(), &host(), &[]);
    let resolver = Step::AddAddress(FRONT, "169.254.20.10".parse().unwrap());
    assert!(steps.contains(&resolver), "{steps:?}");
    let pool = Step::AddRoute(Way {
        device: FRONT,
        net: "10.254.0.0/16".parse().unwrap(),
        source: Some("192.0.2.1".parse().unwrap()),
        mtu: Some(1428),
    });
    assert!(steps.contains(&pool), "{steps:?}");
    // Without an IPv6 address of its own the node has one for this purpose, told from other nodes' by its tag.
    let own: IpAddr = "fd70:6f72:7469:636f::1:1234".parse().unwrap();
    assert!(steps.contains(&Step::AddAddress(FRONT, own)), "{steps:?}");
    let from = |step: &Step| matches!(step, Step::AddRoute(way) if way.source == Some(own));
    assert!(steps.iter().any(from), "{steps:?}");
    // The address that eth0 has is not taken from it.
    assert_eq!(steps.len(), 5, "{steps:?}");
}

#[test]
fn it_comes_back_with_the_index_it_had() {
    let mut device = device();
    let mut host = host();
    plan(&mut device, &host, &[]);
    let make = |front, back| vec![Step::Make { front, back }];
    host.devices.retain(|&index, _| index == 2);
    assert_eq!(plan(&mut device, &host, &[]), make(FRONT, BACK));
    // Unless an uplink has one that ends alike meanwhile.
    let steps = plan(&mut device, &host, &[BACK as u8, 4]);
    assert_eq!(steps, make(4, 5));
    assert_eq!(plan(&mut Portico0::new(vec![], []), &host, &[4]), make(4, 5));
}

#[test]
fn an_index_that_cannot_be_told_from_an_uplinks_is_given_up() {
    assert_eq!(plan(&mut device(), &host(), &[BACK as u8]), [Step::Remove(FRONT)]);
    let mut host = host();
    host.devices = [(255, end(NAME, MAC, 256)), (256, end(BACK_NAME, BACK_MAC, 255))].into();
    assert_eq!(plan(&mut device(), &host, &[]), [Step::Remove(255)]);
}

#[test]
fn another_kind_of_device_of_that_name_is_left_alone() {
    let mut host = host();
    host.devices.remove(&BACK);
    host.devices.get_mut(&FRONT).unwrap().kind = Some("dummy".into());
    let mut device = device();
    let view = View {
        host: &host,
        snapshot: None,
        own: "a",
        uplinks: HashSet::new(),
        mtu: None,
    };
    let (steps, problems) = device.plan(&view);
    assert!(steps.is_empty() && problems.len() == 1, "{steps:?} {problems:?}");
}

/// A route of an agent before this one.
fn ours(net: &str) -> Entry {
    Entry {
        net: net.parse().unwrap(),
        device: Some(FRONT),
        source: Some("192.0.2.1".parse().unwrap()),
        mtu: Some(1428),
        ours: true,
        main: true,
        shut: false,
    }
}

#[test]
fn what_a_pool_hides_is_said_and_the_pool_stays() {
    let problems = |change: fn(&mut Host)| {
        let mut host = host();
        change(&mut host);
        let (steps, problems) = device().plan(&View {
            host: &host,
            snapshot: Some(&snapshot()),
            own: "a",
            uplinks: HashSet::new(),
            mtu: None,
        });
        let pool =
            |step: &Step| matches!(step, Step::AddRoute(way) if way.net.to_string() == "10.254.0.0/16");
        assert!(steps.iter().any(pool), "{steps:?}");
        problems
            .into_iter()
            .map(|problem| problem.error)
            .collect::<String>()
    };
    assert_eq!(problems(|_| ()), "");
    let broader = problems(|host| {
        host.table = vec![Entry {
            device: Some(2),
            ours: false,
            ..ours("10.0.0.0/8")
        }];
    });
    assert!(
        broader.ends_with("the route to 10.0.0.0/8 by eth0 has it as a part"),
        "{broader}"
    );
    let gateway = problems(|host| host.gateways.extend(["10.254.0.1".parse::<IpAddr>().unwrap()]));
    assert!(gateway.ends_with("the gateway 10.254.0.1 is in it"), "{gateway}");
    let neighbour = problems(|host| {
        let there = Neighbour {
            mac: MAC,
            fresh: true,
        };
        host.neighbours.insert((2, "10.254.0.2".parse().unwrap()), there);
    });
    assert!(
        neighbour.ends_with("the neighbour 10.254.0.2 is in it"),
        "{neighbour}"
    );
}

#[test]
fn a_route_that_should_be_another_is_never_gone() {
    let mut host = host();
    host.ipv6 = false;
    host.table = vec![Entry {
        mtu: None,
        ..ours("10.254.0.0/16")
    }];
    let steps = plan(&mut device(), &host, &[]);
    let replaced = |step: &Step| matches!(step, Step::ReplaceRoute(way) if way.mtu == Some(1428));
    assert!(steps.iter().any(replaced), "{steps:?}");
    let dropped = |step: &Step| matches!(step, Step::DropRoute(_));
    assert!(!steps.iter().any(dropped), "{steps:?}");
}

#[test]
fn what_is_there_is_left_and_what_is_not_wanted_goes() {
    let mut host = host();
    host.table = vec![ours("10.254.0.0/16"), ours("10.253.0.0/16")];
    host.ipv6 = false;
    let mut device = device();
    let steps = plan(&mut device, &host, &[]);
    let dropped =
        |step: &Step| matches!(step, Step::DropRoute(way) if way.net.to_string() == "10.253.0.0/16");
    assert_eq!(steps.iter().filter(|step| dropped(step)).count(), 1);
    assert!(
        !steps
            .iter()
            .any(|step| matches!(step, Step::AddRoute(way) if way.net.prefix_len() == 16))
    );
    assert_eq!((device.report().routes, device.report().wanted), (1, 2));
}
