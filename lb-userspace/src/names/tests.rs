//! What each client is answered, and that the index says what the snapshot does.

mod many;
mod naive;
mod networks;
mod ports;
mod reverse;

use std::net::IpAddr;
use std::sync::Arc;

use dns::{Directory, Entry, Lookup, Subject, Zone};

use super::Names;
use crate::model::{
    Affinity, Backend, Endpoint, Exposed, Frontend, Naming, Protocol, Service, Snapshot, Standing,
};

pub const HERE: &str = "node1";
const HOST: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);
const STRANGER: &str = "198.51.100.7";

pub fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

pub fn backend(task: &str, node: &str, addresses: &[&str], standing: Standing) -> Backend {
    Backend {
        tag: 0,
        task: task.into(),
        names: Vec::new(),
        node: node.into(),
        addresses: addresses.iter().map(|address| ip(address)).collect(),
        attachments: Vec::new(),
        weight: 1,
        standing,
        unready: None,
    }
}

pub fn service(name: &str, networks: &[&str], backends: Vec<Backend>) -> Service {
    Service {
        name: name.into(),
        naming: Naming {
            networks: networks.iter().map(|network| Arc::from(*network)).collect(),
            ..Naming::default()
        },
        vips: Vec::new(),
        missed_vips: Vec::new(),
        assigned: Vec::new(),
        exposed: Vec::new(),
        frontends: Vec::new(),
        slots: 64,
        affinity: Affinity::None,
        wanted: None,
        health: None,
        proxy: Default::default(),
        backends,
    }
}

pub fn snapshot(generation: u64, services: impl IntoIterator<Item = Service>) -> Arc<Snapshot> {
    let services = services.into_iter();
    Arc::new(Snapshot {
        generation,
        services: services
            .map(|service| (Arc::clone(&service.name), Arc::new(service)))
            .collect(),
        ..Snapshot::default()
    })
}

fn exposed(port: u16, name: &str) -> Exposed {
    Exposed {
        port,
        protocol: Protocol::Tcp,
        name: Some(name.into()),
    }
}

pub fn at_vip(vip: IpAddr, port: u16, target_port: u16) -> Frontend {
    Frontend {
        address: Some(vip),
        port,
        protocol: Protocol::Tcp,
        target_port,
        inside: false,
        held: false,
    }
}

/// `web` of the stack `shop` on `front` and `back`, by a VIP; `db` on `back`, by its tasks; `all` for everybody.
fn shop() -> Vec<Service> {
    use Standing::{Active, Draining};
    let mut web = service(
        "web",
        &["back", "front"],
        vec![
            backend("web.1", HERE, &["172.18.0.2", "2001:db8:18::2"], Active),
            backend("web.2", "node2", &["172.18.0.2"], Active),
            backend("web.3", HERE, &["172.18.0.3"], Draining),
        ],
    );
    web.backends[0].names = ["shop_web_1".into(), "Blue".into()].into();
    web.naming.stack = Some("shop".into());
    web.naming.aliases = ["WWW".into()].into();
    web.vips = vec![ip("10.254.0.1"), ip("fdfe:706f:7274::1")];
    web.exposed = vec![exposed(80, "HTTP")];
    web.frontends = web.vips.iter().map(|vip| at_vip(*vip, 80, 80)).collect();
    let mut db = service(
        "db",
        &["back"],
        vec![
            backend("db.1", HERE, &["172.18.0.4"], Active),
            backend("node2/172.18.0.9", "node2", &["172.18.0.9"], Active),
        ],
    );
    db.naming.endpoint = Endpoint::Dnsrr;
    db.naming.ttl = 1;
    db.exposed = vec![exposed(5432, "pg")];
    let lone = backend("lone", HERE, &["172.18.0.5"], Active);
    vec![
        web,
        db,
        service("all", &[Naming::PUBLIC], vec![]),
        service("lone", &["front"], vec![lone]),
    ]
}

fn names(services: impl IntoIterator<Item = Service>) -> Names {
    let names = Names::new(HERE, [], false);
    names.show(&snapshot(1, services));
    names
}

/// As the server asks: each way of understanding the name until one is known.
fn lookup(names: &Names, client: &str, name: &str) -> Lookup {
    let split = name
        .match_indices('.')
        .map(|(dot, _)| (&name[..dot], Some(&name[dot + 1..])));
    let splits = || [(name, None)].into_iter().chain(split.clone());
    let tasks = name
        .strip_prefix("tasks.")
        .map(|service| Subject::Tasks { service, scope: None });
    let subjects = tasks
        .into_iter()
        .chain(splits().map(|(name, scope)| Subject::Name { name, scope }));
    for subject in subjects {
        match names.lookup(ip(client), subject) {
            Lookup::Unknown => {}
            known => return known,
        }
    }
    Lookup::Unknown
}

/// Addresses, or `hidden` or `unknown`.
fn told(lookup: &Lookup) -> String {
    match lookup {
        Lookup::Found(entry) => {
            let v4 = entry.v4.iter().map(ToString::to_string);
            let v6 = entry.v6.iter().map(ToString::to_string);
            v4.chain(v6).collect::<Vec<_>>().join(" ")
        }
        Lookup::Hidden => "hidden".into(),
        Lookup::Unknown => "unknown".into(),
    }
}

fn answers(names: &Names, client: &str, name: &str) -> String {
    told(&lookup(names, client, name))
}

fn entry(names: &Names, name: &str) -> Arc<Entry> {
    match lookup(names, &HOST.to_string(), name) {
        Lookup::Found(entry) => entry,
        other => panic!("{name}: {other:?}"),
    }
}

#[test]
fn every_form_of_a_name_leads_where_it_says() {
    let names = names(shop());
    let vips = "10.254.0.1 fdfe:706f:7274::1";
    for (name, expected) in [
        ("web", vips),
        ("www", vips),
        ("web.front", vips),
        ("web.shop", vips),
        ("www.back", vips),
        ("tasks.web", "172.18.0.2 2001:db8:18::2"),
        ("tasks.www", "172.18.0.2 2001:db8:18::2"),
        ("web.1", "172.18.0.2 2001:db8:18::2"),
        ("web.1.front", "172.18.0.2 2001:db8:18::2"),
        ("shop_web_1", "172.18.0.2 2001:db8:18::2"),
        ("blue", "172.18.0.2 2001:db8:18::2"),
        ("web.2", "172.18.0.2"),
        ("web.3", ""),
        ("db", "172.18.0.4 172.18.0.9"),
        ("tasks.db", "172.18.0.4 172.18.0.9"),
        ("node2-172-18-0-9", "172.18.0.9"),
        ("all", ""),
        ("web.other", "unknown"),
        ("tasks.web.1", "unknown"),
        ("nobody", "unknown"),
    ] {
        assert_eq!(answers(&names, "127.0.0.1", name), expected, "{name}");
    }
}

#[test]
fn a_name_is_told_to_tasks_on_its_networks() {
    let names = names(shop());
    // On front and back, on front, on back, on neither.
    for (name, both, front, back, stranger) in [
        ("web", true, true, true, false),
        ("web.front", true, true, false, false),
        ("web.shop", true, true, true, false),
        ("web.back", true, false, true, false),
        ("db", true, false, true, false),
        ("tasks.db", true, false, true, false),
        ("all", true, true, true, true),
    ] {
        for (client, seen) in [
            ("172.18.0.2", both),
            ("172.18.0.5", front),
            ("172.18.0.4", back),
            // A draining task still asks.
            ("172.18.0.3", both),
            ("2001:db8:18::2", both),
            // A task's address on another node is nobody's here.
            ("172.18.0.9", stranger),
            (STRANGER, stranger),
            ("::1", true),
        ] {
            let hidden = answers(&names, client, name) == "hidden";
            assert_eq!(hidden, !seen, "{name} to {client}");
        }
    }
}

#[test]
fn a_stack_called_as_a_network_hides_nothing() {
    let mut services = shop();
    services[0].naming.networks.push("shop".into());
    let names = names(services);
    assert_eq!(
        answers(&names, "172.18.0.5", "web.shop"),
        "10.254.0.1 fdfe:706f:7274::1"
    );
}

#[test]
fn an_alias_with_a_dot_that_is_not_seen_may_be_somebody_elses() {
    let task = backend("fake.1", "node2", &["172.18.0.9"], Standing::Active);
    let mut fake = service("fake", &["lab"], vec![task]);
    fake.naming.aliases = ["api.example.com".into()].into();
    let names = names([fake]);
    assert_eq!(answers(&names, STRANGER, "api.example.com"), "unknown");
    assert_eq!(answers(&names, STRANGER, "fake"), "hidden");
    assert_eq!(answers(&names, STRANGER, "fake.1"), "hidden");
    assert_eq!(answers(&names, "127.0.0.1", "api.example.com"), "172.18.0.9");
}

#[test]
fn this_node_itself_sees_everything() {
    let names = names(shop());
    names
        .own
        .store(Arc::new([ip("192.0.2.11"), ip("172.18.0.5")].into()));
    assert_eq!(answers(&names, "192.0.2.11", "db"), "172.18.0.4 172.18.0.9");
    // A task on the node's own network.
    assert_eq!(answers(&names, "172.18.0.5", "db"), "172.18.0.4 172.18.0.9");
}

#[test]
fn only_active_tasks_are_told_and_warming_ones_where_there_is_no_other() {
    use Standing::{Active, Draining, Unhealthy, Warming};
    for (standings, expected) in [
        ([Active, Active, Warming], "172.18.0.1 172.18.0.2"),
        ([Active, Draining, Unhealthy], "172.18.0.1"),
        ([Draining, Warming, Unhealthy], "172.18.0.2"),
        ([Draining, Unhealthy, Draining], ""),
    ] {
        let tasks = standings
            .iter()
            .zip(1..)
            .map(|(standing, n)| backend(&format!("a.{n}"), "node2", &[&format!("172.18.0.{n}")], *standing));
        let names = names([service("a", &[Naming::PUBLIC], tasks.collect())]);
        assert_eq!(answers(&names, STRANGER, "a"), expected, "{standings:?}");
        for (standing, n) in standings.iter().zip(1..) {
            let shown = matches!(standing, Active | Warming);
            let alone = if shown {
                format!("172.18.0.{n}")
            } else {
                String::new()
            };
            assert_eq!(
                answers(&names, STRANGER, &format!("a.{n}")),
                alone,
                "{standing:?}"
            );
        }
    }
}

#[test]
fn a_change_is_the_next_answer() {
    let names = names(shop());
    let mut changed = shop();
    changed[1].backends[0].standing = Standing::Draining;
    changed[0].naming.aliases.clear();
    names.show(&snapshot(2, changed));
    assert_eq!(answers(&names, "127.0.0.1", "db"), "172.18.0.9");
    assert_eq!(answers(&names, "127.0.0.1", "www"), "unknown");
    names.show(&snapshot(3, []));
    assert_eq!(answers(&names, "127.0.0.1", "web"), "unknown");
    assert_eq!((names.generation(), names.index.load().names.len()), (3, 0));
    assert_eq!(names.index.load().enclosing.len(), 0);
}

#[test]
fn a_vip_that_no_task_could_answer_at_is_not_told() {
    let mut services = shop();
    services[0].backends.remove(0);
    let names = names(services.clone());
    assert_eq!(answers(&names, "127.0.0.1", "web"), "10.254.0.1");
    services[0].backends.clear();
    names.show(&snapshot(2, services));
    assert_eq!(
        answers(&names, "127.0.0.1", "web"),
        "10.254.0.1 fdfe:706f:7274::1"
    );
}

#[test]
fn a_service_whose_vips_no_task_could_answer_at_leads_to_its_tasks() {
    let mut services = shop();
    services[0].backends.remove(0);
    services[0].vips.remove(0);
    let names = names(services);
    assert_eq!(answers(&names, "127.0.0.1", "web"), "172.18.0.2");
}

#[test]
fn one_alias_of_two_services_leads_to_both_and_a_services_own_name_to_it_alone() {
    let mut services = shop();
    services[1].naming.aliases = ["www".into(), "web".into()].into();
    let names = names(services);
    let both = "10.254.0.1 172.18.0.4 172.18.0.9 fdfe:706f:7274::1";
    assert_eq!(answers(&names, "172.18.0.2", "www"), both);
    assert_eq!(entry(&names, "www").ttl, 1);
    assert_eq!(
        answers(&names, "172.18.0.5", "www"),
        "10.254.0.1 fdfe:706f:7274::1"
    );
    assert_eq!(
        answers(&names, "172.18.0.4", "web"),
        "10.254.0.1 fdfe:706f:7274::1"
    );
}

#[test]
fn names_that_have_others_below_them_exist() {
    let names = names(shop());
    for (name, everybody, front) in [
        ("front", true, true),
        ("back", true, false),
        ("shop", true, true),
        ("1", true, true),
        ("1.front", true, true),
        ("nothing", false, false),
        ("web.nothing", false, false),
    ] {
        assert_eq!(names.encloses(HOST, Zone::Domain, name), everybody, "{name}");
        assert_eq!(
            names.encloses(ip("172.18.0.5"), Zone::Domain, name),
            front,
            "{name}"
        );
        assert!(!names.encloses(ip(STRANGER), Zone::Domain, name), "{name}");
    }
}

#[test]
fn it_is_ready_with_the_first_snapshot_and_its_serial_grows() {
    let names = Names::new(HERE, [], false);
    assert!(!names.ready());
    let before = names.serial();
    names.show(&snapshot(1, []));
    assert!(names.ready());
    assert_eq!(names.serial(), before + 1);
}
