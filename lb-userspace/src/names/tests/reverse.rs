//! Names of addresses.

use std::sync::Arc;

use dns::{Directory, Reverse};

use super::{HERE, STRANGER, backend, ip, names, service, shop};
use crate::model::{Naming, Standing};
use crate::names::Names;

/// The name, or `hidden` or `unknown`.
fn who(names: &Names, client: &str, address: &str) -> String {
    match names.reverse(ip(client), ip(address)) {
        Reverse::Found(pointer) => {
            let host = format!("{:?}", pointer.host);
            host.split("Name(\"")
                .nth(1)
                .unwrap()
                .split('"')
                .next()
                .unwrap()
                .to_owned()
        }
        Reverse::Hidden => "hidden".into(),
        Reverse::Unknown => "unknown".into(),
    }
}

#[test]
fn addresses_have_names_in_both_families() {
    let names = names(shop());
    for (client, address, expected) in [
        ("127.0.0.1", "10.254.0.1", "web"),
        ("127.0.0.1", "fdfe:706f:7274::1", "web"),
        ("172.18.0.4", "10.254.0.1", "web"),
        (STRANGER, "10.254.0.1", "hidden"),
        // Also that of a task on node2, where it means another.
        ("127.0.0.1", "172.18.0.2", "web.1"),
        ("127.0.0.1", "2001:db8:18::2", "web.1"),
        ("127.0.0.1", "172.18.0.9", "node2-172-18-0-9"),
        ("172.18.0.5", "172.18.0.4", "hidden"),
        ("127.0.0.1", "172.18.0.77", "unknown"),
    ] {
        assert_eq!(who(&names, client, address), expected, "{address} to {client}");
    }
}

#[test]
fn a_vip_of_several_is_called_as_one_that_can_be_asked_for() {
    let mut services = shop();
    services[1].name = "api/v1".into();
    services[1].vips = services[0].vips.clone();
    let mut names = names(services);
    assert_eq!(who(&names, "127.0.0.1", "10.254.0.1"), "web");
    // An address that no service has, or none any more, is nobody's elsewhere either.
    assert_eq!(who(&names, STRANGER, "10.254.0.9"), "unknown");
    names = names.with_pools(&["10.254.0.0/16".parse().unwrap()]);
    assert_eq!(who(&names, STRANGER, "10.254.0.9"), "hidden");
    let unknown = Names::new(HERE, [], false).with_pools(&["10.254.0.0/16".parse().unwrap()]);
    assert_eq!(who(&unknown, STRANGER, "10.254.0.9"), "unknown");
}

#[test]
fn an_address_that_two_other_nodes_have_is_nobodys_here() {
    let task = |n: u8| {
        backend(
            &format!("a.{n}"),
            &format!("node{n}"),
            &["172.18.0.2"],
            Standing::Active,
        )
    };
    let names = names([service("a", &[Naming::PUBLIC], vec![task(2), task(3)])]);
    assert_eq!(who(&names, STRANGER, "172.18.0.2"), "hidden");
}

#[test]
fn the_nodes_own_address_is_not_named_after_its_tasks() {
    let task = backend("a.1", HERE, &["192.0.2.11"], Standing::Active);
    let names = names([service("a", &[Naming::PUBLIC], vec![task])]);
    assert_eq!(who(&names, STRANGER, "192.0.2.11"), "a.1");
    names.own.store(Arc::new([ip("192.0.2.11")].into()));
    assert_eq!(who(&names, STRANGER, "192.0.2.11"), "unknown");
}
