//! Tasks of container engines: found at another address from each network.

use std::sync::Arc;

use super::{HERE, STRANGER, answers, backend, ip, lookup, service, snapshot, told};
use crate::model::{Attachment, Backend, Endpoint, Service, Snapshot, Standing};
use crate::names::Names;
use crate::names::trace::noted;
use dns::{Directory, Lookup, Reverse, Subject};

fn attached(task: Backend, places: &[(&str, &str)]) -> Backend {
    let attachment = |&(network, address): &(&str, &str)| Attachment {
        network: network.into(),
        address: ip(address),
    };
    Backend {
        attachments: places.iter().map(attachment).collect(),
        ..task
    }
}

/// `web` on the overlays `Front` and `back`, here and on node2, where both have the same address at the gateway bridge; `one`
/// on `front` here, `two` on `back` here; a guest on `front`, and one on neither.
fn engine() -> Arc<Snapshot> {
    let active = |task, node, address| backend(task, node, &[address], Standing::Active);
    let web: Vec<Backend> = vec![
        attached(
            active("web.1", HERE, "172.20.0.3"),
            &[("Front", "10.0.1.3"), ("back", "10.0.2.3")],
        ),
        attached(
            active("web.2", "node2", "10.0.1.4"),
            &[
                ("Front", "10.0.1.4"),
                ("back", "10.0.2.4"),
                ("back", "2001:db8:2::4"),
            ],
        ),
    ];
    let mut web: Service = service("web", &["Front", "back"], web);
    web.naming.endpoint = Endpoint::Dnsrr;
    web.exposed = vec![super::exposed(80, "http")];
    let one = attached(
        active("one.1", HERE, "172.20.0.4"),
        &[("front", "10.0.1.5"), ("one", "10.0.3.5")],
    );
    let two = attached(active("two.1", HERE, "172.20.0.5"), &[("back", "10.0.2.6")]);
    let services = [
        web,
        service("one", &["front", "one"], vec![one]),
        service("two", &["back"], vec![two]),
    ];
    let mut picture = Snapshot::clone(&snapshot(1, services));
    let networks = |names: &[&str]| names.iter().map(|name| Arc::from(*name)).collect::<Arc<[_]>>();
    picture.guests.insert(ip("172.21.0.9"), networks(&["FRONT"]));
    picture.guests.insert(ip("172.22.0.9"), networks(&["alone"]));
    Arc::new(picture)
}

fn names() -> Names {
    let names = Names::new(HERE, [], false);
    names.show(&engine());
    names
}

#[test]
fn a_task_is_told_where_it_is_found_from_the_networks_of_who_asks() {
    let names = names();
    let front = "10.0.1.3 10.0.1.4";
    let back = "10.0.2.3 10.0.2.4 2001:db8:2::4";
    let both = "10.0.1.3 10.0.1.4 10.0.2.3 10.0.2.4 2001:db8:2::4";
    // On front, on back, on both; each by the address its packets have here.
    for (name, one, two, web) in [
        ("web", front, back, both),
        ("tasks.web", front, back, both),
        ("web.front", front, "hidden", front),
        ("tasks.web.back", "unknown", "unknown", "unknown"),
        ("web.1", "10.0.1.3", "10.0.2.3", "10.0.1.3 10.0.2.3"),
        (
            "web.2",
            "10.0.1.4",
            "10.0.2.4 2001:db8:2::4",
            "10.0.1.4 10.0.2.4 2001:db8:2::4",
        ),
        (
            "web.2.back",
            "hidden",
            "10.0.2.4 2001:db8:2::4",
            "10.0.2.4 2001:db8:2::4",
        ),
        ("one", "10.0.1.5 10.0.3.5", "hidden", "10.0.1.5"),
    ] {
        for (client, expected) in [("172.20.0.4", one), ("172.20.0.5", two), ("172.20.0.3", web)] {
            assert_eq!(answers(&names, client, name), expected, "{name} to {client}");
        }
    }
    let scoped = Subject::Tasks {
        service: "web",
        scope: Some("back"),
    };
    assert_eq!(told(&names.lookup(ip("172.20.0.3"), scoped)), back);
}

#[test]
fn the_node_itself_is_told_where_it_delivers_and_of_others_where_they_are() {
    let names = names();
    let elsewhere = "10.0.1.4 10.0.2.4 172.20.0.3 2001:db8:2::4";
    assert_eq!(answers(&names, "127.0.0.1", "web"), elsewhere);
    assert_eq!(answers(&names, "127.0.0.1", "web.1"), "172.20.0.3");
    assert_eq!(answers(&names, "127.0.0.1", "two"), "172.20.0.5");
}

#[test]
fn a_task_here_is_known_by_each_of_its_addresses_and_one_elsewhere_is_a_stranger() {
    let names = names();
    for client in ["172.20.0.4", "10.0.1.5", "10.0.3.5"] {
        assert_eq!(answers(&names, client, "web"), "10.0.1.3 10.0.1.4", "{client}");
    }
    assert_eq!(answers(&names, "10.0.2.4", "web"), "hidden");
}

#[test]
fn a_container_that_is_nobodys_task_sees_its_networks() {
    let names = names();
    assert_eq!(answers(&names, "172.21.0.9", "web"), "10.0.1.3 10.0.1.4");
    assert_eq!(answers(&names, "172.21.0.9", "two"), "hidden");
    assert_eq!(answers(&names, "172.22.0.9", "web"), "hidden");
    assert_eq!(answers(&names, STRANGER, "web"), "hidden");
    // It leaves, and another comes.
    let mut next = Snapshot::clone(&engine());
    next.generation = 2;
    let networks = next.guests.remove(&ip("172.21.0.9")).unwrap();
    next.guests.insert(ip("172.21.0.10"), networks);
    names.show(&Arc::new(next));
    assert_eq!(answers(&names, "172.21.0.9", "web"), "hidden");
    assert_eq!(answers(&names, "172.21.0.10", "web"), "10.0.1.3 10.0.1.4");
}

#[test]
fn ports_lead_to_the_addresses_that_are_told() {
    let names = names();
    let Lookup::Found(entry) = lookup(&names, "172.20.0.4", "web") else {
        panic!("unknown");
    };
    let targets = &entry.ports[0].targets;
    let addresses: Vec<_> = targets.iter().map(|target| target.addresses.to_vec()).collect();
    assert_eq!(addresses, [[ip("10.0.1.3")], [ip("10.0.1.4")]]);
}

#[test]
fn an_address_on_a_network_and_an_assigned_vip_have_names() {
    let mut picture = Snapshot::clone(&engine());
    let mut web = Service::clone(&picture.services["web"]);
    web.assigned = ["10.0.1.2".parse().unwrap()].into();
    picture.services.insert("web".into(), Arc::new(web));
    let names = Names::new(HERE, [], false);
    names.show(&Arc::new(picture));
    let who = |address| match names.reverse(ip("127.0.0.1"), ip(address)) {
        Reverse::Found(pointer) => format!("{:?}", pointer.host),
        other => format!("{other:?}"),
    };
    for (address, host) in [
        ("10.0.2.3", "web.1"),
        ("172.20.0.3", "web.1"),
        ("2001:db8:2::4", "web.2"),
        ("10.0.1.2", "web"),
    ] {
        assert!(
            who(address).contains(&format!("\"{host}\"")),
            "{address}: {}",
            who(address)
        );
    }
    assert_eq!(who("10.0.1.9"), "Unknown");
}

#[test]
fn only_who_is_on_no_network_can_be_new_and_only_where_an_engine_tells_of_containers() {
    let names = names();
    assert!(!names.is_new(ip("172.20.0.99")));
    let names = Names::new(HERE, [], false).with_newcomers();
    // Before anything is known, everything may be ours anyway.
    assert!(!names.is_new(ip("172.20.0.99")));
    names.show(&engine());
    assert!(names.is_new(ip("172.20.0.99")));
    for known in ["127.0.0.1", "172.20.0.3"] {
        assert!(!names.is_new(ip(known)), "{known}");
    }
}

#[tokio::test]
async fn why_says_from_which_networks() {
    let names = names();
    let ask = async |client, name| {
        let (_, notes) = noted(async { lookup(&names, client, name) }).await;
        notes.last().unwrap().words.clone()
    };
    assert_eq!(
        ask("172.20.0.4", "web").await,
        "the service web (on Front, back): endpoint dnsrr, 2 active of 2 tasks, at their addresses on front; \
         172.20.0.4 is a task of one (on front, one)"
    );
    assert_eq!(
        ask("172.21.0.9", "web.2").await,
        "the task web.2 on node2, of the service web (on Front, back), at their addresses on front; \
         172.21.0.9 is a container on this node and no service's task (on front)"
    );
    assert!(
        ask("127.0.0.1", "web")
            .await
            .contains("here where this node delivers")
    );
}
