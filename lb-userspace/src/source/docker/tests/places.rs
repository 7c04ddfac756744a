//! Where a container is reached.

use super::*;

#[test]
fn traffic_goes_over_the_network_of_the_default_route() {
    let mut web = compose("shop", "web", 1);
    let place = |address, gateway, priority| Joined {
        gateway,
        priority,
        ..joined(address)
    };
    web.networks = [
        ("a_inside".into(), place("172.20.0.2 2001:db8:20::2", false, 9)),
        ("b_front".into(), place("172.21.0.2", true, 0)),
        ("c_back".into(), place("172.22.0.2", true, 1)),
        ("docker_gwbridge".into(), place("172.23.0.2", true, 9)),
    ]
    .into();
    let (desired, _) = convert([web.clone()]);
    let backend = &desired.services["shop_web"].backends[0];
    let expected: [IpAddr; 2] = [[172, 22, 0, 2].into(), "2001:db8:20::2".parse().unwrap()];
    assert_eq!(backend.addresses, expected);
    assert_eq!(backend.attachments.len(), 4);
    label(&mut web, "portico.network", "b_front");
    let (desired, _) = convert([web]);
    assert_eq!(
        desired.services["shop_web"].backends[0].addresses,
        [IpAddr::from([172, 21, 0, 2])]
    );
}

#[test]
fn a_container_with_the_nodes_network_is_at_the_nodes_address() {
    let mut web = Container {
        host: true,
        ..container("a", "edge", "")
    };
    web.networks = [("host".into(), joined(""))].into();
    label(&mut web, "portico.ports", "80:8080");
    let (desired, _) = convert([web]);
    let edge = &desired.services["edge"];
    assert_eq!(edge.naming.networks, ["host".into()]);
    assert_eq!(edge.backends[0].addresses, [IpAddr::V4(ADDRESS)]);
    assert_eq!(edge.frontends[0].target_port, 8080);
}

#[test]
fn without_an_address_nothing_is_served_and_a_note_says_so() {
    let (desired, notes) = converter().convert(&local([compose("shop", "web", 1)]), None);
    assert_eq!(desired.services["shop_web"].backends, []);
    assert!(notes[0].fix.contains("set address in portico.toml"));
    let (asker, networks) = desired.guests.first_key_value().unwrap();
    assert_eq!(
        (asker.to_string().as_str(), &**networks),
        ("172.18.0.2", &["shop_default".into()][..]),
        "it asks for names all the same"
    );
}
