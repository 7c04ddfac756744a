//! What containers become.

mod life;
mod places;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use proptest::prelude::*;
use rstest::rstest;

use super::*;
use crate::model::validate::validate;
use crate::model::{Desired, DesiredService, Protocol, Readiness};
use crate::source::Note;
use crate::source::engine::{Container, Health, Joined, Local, Published, Run};

const ADDRESS: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 11);

fn joined(address: &str) -> Joined {
    Joined {
        addresses: address
            .split(' ')
            .filter_map(|address| address.parse().ok())
            .collect(),
        aliases: Vec::new(),
        gateway: true,
        priority: 0,
    }
}

/// Running on `bridge`.
fn container(id: &str, name: &str, address: &str) -> Container {
    Container {
        id: id.into(),
        name: name.into(),
        created: 0,
        labels: BTreeMap::new(),
        run: Run::Running,
        health: None,
        stopping: false,
        host: false,
        networks: [("bridge".into(), joined(address))].into(),
        exposed: Vec::new(),
        published: Vec::new(),
    }
}

fn compose(project: &str, service: &str, number: u8) -> Container {
    let labels = [
        ("com.docker.compose.container-number", number.to_string()),
        ("com.docker.compose.project", project.to_owned()),
        ("com.docker.compose.service", service.to_owned()),
        ("com.docker.compose.oneoff", "False".to_owned()),
    ];
    let mut joined = joined(&format!("172.18.0.{}", number + 1));
    joined.aliases = vec![service.into()];
    Container {
        created: number.into(),
        labels: labels.map(|(label, value)| (label.to_owned(), value)).into(),
        networks: [(format!("{project}_default").into(), joined)].into(),
        exposed: vec![(80, Protocol::Tcp)],
        ..container(
            &format!("{project}{service}{number}"),
            &format!("{project}_{service}_{number}"),
            "",
        )
    }
}

fn local(containers: impl IntoIterator<Item = Container>) -> Arc<Local> {
    let containers = containers
        .into_iter()
        .map(|container| (Arc::clone(&container.id), Arc::new(container)));
    Arc::new(Local {
        containers: containers.collect(),
        ..Local::default()
    })
}

/// With another container in place of one, all others shared.
fn with(before: &Arc<Local>, changed: Container) -> Arc<Local> {
    let mut next = Local::clone(before);
    next.containers.insert(Arc::clone(&changed.id), Arc::new(changed));
    Arc::new(next)
}

fn converter() -> Converter {
    Converter::new("node1".into(), None)
}

fn convert(containers: impl IntoIterator<Item = Container>) -> (Desired, Vec<Note>) {
    let (desired, notes) = converter().convert(&local(containers), Some(ADDRESS));
    assert_eq!(validate(&desired), []);
    (desired, notes)
}

fn tasks(service: &DesiredService) -> Vec<&str> {
    service.backends.iter().map(|backend| &*backend.task).collect()
}

fn label(container: &mut Container, label: &str, value: &str) {
    container.labels.insert(label.to_owned(), value.to_owned());
}

#[test]
fn replicas_of_a_compose_service_are_one_service() {
    let (desired, notes) = convert((1..=3).map(|number| compose("shop", "web", number)));
    assert_eq!(notes, []);
    let web = &desired.services["shop_web"];
    let expected = [
        "shop_web_1.shopweb1",
        "shop_web_2.shopweb2",
        "shop_web_3.shopweb3",
    ];
    assert_eq!(tasks(web), expected);
    assert_eq!(web.naming.stack.as_deref(), Some("shop"));
    assert_eq!(web.naming.aliases, ["web".into()]);
    assert_eq!(web.naming.networks, ["shop_default".into()]);
    assert_eq!(web.exposed[0].port, 80);
    assert_eq!(web.frontends, []);
    let first = &web.backends[0];
    assert_eq!(
        (&*first.node, &first.names[..]),
        ("node1", &["shop_web_1".into()][..])
    );
    assert_eq!(first.addresses, [IpAddr::from([172, 18, 0, 2])]);
    assert_eq!(&*first.attachments[0].network, "shop_default");
    assert_eq!(desired.nodes["node1"].address, ADDRESS);
}

#[test]
fn a_container_by_itself_is_a_service_of_its_name() {
    let mut db = container("a", "db", "172.17.0.2");
    db.published = vec![
        Published {
            address: None,
            port: Some(5432),
            protocol: Protocol::Tcp,
            target_port: 5432,
        },
        Published {
            address: None,
            port: None,
            protocol: Protocol::Tcp,
            target_port: 8080,
        },
        Published {
            address: Some([127, 0, 0, 1].into()),
            port: Some(99),
            protocol: Protocol::Udp,
            target_port: 99,
        },
    ];
    let (desired, _) = convert([db]);
    let db = &desired.services["db"];
    assert_eq!(
        db.frontends.iter().map(|front| front.port).collect::<Vec<_>>(),
        [5432]
    );
    let exposed: Vec<_> = db.exposed.iter().map(|port| port.port).collect();
    assert_eq!(exposed, [5432, 8080, 99]);
}

#[test]
fn a_service_without_a_port_is_kept() {
    let (desired, _) = convert([container("a", "worker", "172.17.0.2")]);
    assert_eq!(tasks(&desired.services["worker"]), ["worker.a"]);
}

#[rstest]
#[case(Run::Running, None, false, Some(Readiness::Ready))]
#[case(Run::Running, Some(Health::Healthy), false, Some(Readiness::Ready))]
#[case(Run::Running, Some(Health::Starting), false, Some(Readiness::Unready("starting".into())))]
#[case(Run::Running, Some(Health::Unhealthy("503".into())), false, Some(Readiness::Unready("unhealthy: 503".into())))]
#[case(Run::Running, Some(Health::Unhealthy("".into())), false, Some(Readiness::Unready("unhealthy".into())))]
#[case(Run::Paused, None, false, Some(Readiness::Unready("paused".into())))]
#[case(Run::Running, Some(Health::Healthy), true, Some(Readiness::Draining))]
#[case(Run::Created, None, false, None)]
#[case(Run::Restarting, None, false, None)]
#[case(Run::Ended, None, true, None)]
fn each_state_of_a_container_is_one_of_its_backend(
    #[case] run: Run,
    #[case] health: Option<Health>,
    #[case] stopping: bool,
    #[case] expected: Option<Readiness>,
) {
    let changed = Container {
        run,
        health,
        stopping,
        ..compose("shop", "web", 1)
    };
    let (desired, _) = convert([changed]);
    let backend = desired.services["shop_web"].backends.first();
    assert_eq!(backend.map(|backend| backend.readiness.clone()), expected);
}

#[test]
fn one_offs_disabled_ones_and_tasks_of_a_swarm_are_no_services() {
    let mut one_off = compose("shop", "web", 1);
    label(&mut one_off, "com.docker.compose.oneoff", "True");
    let mut disabled = container("b", "tool", "172.17.0.3");
    label(&mut disabled, "portico.enable", "false");
    let mut task = container("c", "web.1.x", "172.17.0.4");
    label(&mut task, "com.docker.swarm.task.id", "x");
    let (desired, _) = convert([one_off, disabled, task]);
    assert_eq!(desired.services.len(), 0);
    let guests: Vec<_> = desired
        .guests
        .iter()
        .map(|(address, networks)| (address.to_string(), networks[0].to_string()))
        .collect();
    let expected = [("172.17.0.3", "bridge"), ("172.18.0.2", "shop_default")];
    assert_eq!(
        guests,
        expected.map(|(address, network)| (address.to_owned(), network.to_owned()))
    );
}

#[test]
fn the_latest_labels_win_and_each_replica_has_its_own_weight() {
    let mut old = compose("shop", "web", 1);
    label(&mut old, "portico.ports", "8080:80");
    let mut new = compose("shop", "web", 2);
    label(&mut new, "portico.ports", "9090:80");
    label(&mut new, "portico.weight", "3");
    label(&mut new, "portico.health", "http:/healthz");
    label(&mut new, "portico.proxy.transparent", "true");
    let (desired, _) = convert([new, old]);
    let web = &desired.services["shop_web"];
    assert_eq!(
        web.frontends.iter().map(|front| front.port).collect::<Vec<_>>(),
        [9090]
    );
    assert_eq!(
        web.backends
            .iter()
            .map(|backend| backend.weight)
            .collect::<Vec<_>>(),
        [1, 3]
    );
    assert_eq!(web.health.as_ref().unwrap().port, 80);
    assert!(web.proxy.transparent);
}

#[test]
fn a_bad_label_is_a_note_on_its_service_which_is_served_without_it() {
    let mut web = compose("shop", "web", 1);
    label(&mut web, "portico.prots", "8080:80");
    label(&mut web, "portico.network", "nowhere");
    let (desired, notes) = convert([web]);
    assert_eq!(tasks(&desired.services["shop_web"]).len(), 1);
    let what: Vec<&str> = notes.iter().map(|note| &*note.what).collect();
    assert_eq!(
        what,
        [
            "container shop_web_1: label portico.prots=8080:80: there is no such label",
            "container shop_web_1: label portico.network=nowhere: the container is on no such network"
        ]
    );
    assert_eq!(notes[0].fix, "did you mean portico.ports?");
    assert_eq!(notes[1].fix, "write one of: shop_default");
    assert!(
        notes
            .iter()
            .all(|note| note.service.as_deref() == Some("shop_web"))
    );
}

#[test]
fn of_two_services_that_want_one_port_the_older_has_it() {
    let two = ["b", "a"].into_iter().zip(1..).map(|(project, age)| {
        let mut web = compose(project, "web", 1);
        label(&mut web, "portico.ports", "8080:80");
        Container { created: age, ..web }
    });
    let (desired, notes) = convert(two);
    assert_eq!(desired.order, ["b_web".into(), "a_web".into()]);
    assert_eq!(desired.services["b_web"].frontends.len(), 1);
    assert_eq!(desired.services["a_web"].frontends.len(), 0);
    assert_eq!(notes[0].service.as_deref(), Some("a_web"));
}

#[test]
fn a_name_given_to_a_compose_container_leads_to_its_service() {
    let mut db = compose("shop", "db", 1);
    db.name = "postgres".into();
    let (desired, _) = convert([db]);
    assert_eq!(
        desired.services["shop_db"].naming.aliases,
        ["db".into(), "postgres".into()]
    );
}

#[test]
fn containers_that_have_only_a_name_in_common_are_not_one_service() {
    let mut other = Container {
        created: 9,
        ..container("a", "shop_web", "172.17.0.2")
    };
    let (desired, notes) = convert([compose("shop", "web", 1), other.clone()]);
    assert_eq!(tasks(&desired.services["shop_web"]), ["shop_web_1.shopweb1"]);
    assert_eq!(
        notes[0].what,
        "container shop_web: it would be service shop_web, too, which is service web of Compose project shop already"
    );
    // It asks for names all the same.
    assert!(desired.guests.contains_key(&IpAddr::from([172, 17, 0, 2])));
    // Who says so joins.
    label(&mut other, "portico.service", "shop_web");
    let (desired, notes) = convert([compose("shop", "web", 1), other]);
    assert_eq!(tasks(&desired.services["shop_web"]).len(), 2);
    assert_eq!((notes.len(), desired.guests.len()), (0, 0));
}

proptest! {
    /// Whatever people write, what comes out can be carried out, and step by step it is what comes out at once.
    #[test]
    fn every_picture_becomes_valid_wishes(steps in prop::collection::vec(prop::collection::vec(any_container(), 0..6), 1..4)) {
        let mut converter = converter();
        for containers in steps {
            let picture = local(containers);
            let (desired, _) = converter.convert(&picture, Some(ADDRESS));
            prop_assert_eq!(validate(&desired), vec![]);
            let (anew, _) = super::Converter::new("node1".into(), None).convert(&picture, Some(ADDRESS));
            prop_assert_eq!(&desired.order, &anew.order);
            prop_assert_eq!(desired.guests, anew.guests);
            prop_assert_eq!(desired.services.keys().collect::<Vec<_>>(), anew.services.keys().collect::<Vec<_>>());
        }
    }
}

fn any_container() -> impl Strategy<Value = Container> {
    let label = (
        prop::sample::select(vec![
            "ports", "service", "network", "health", "vips", "aliases", "enable",
        ]),
        "[a-z0-9:,.-]{0,8}",
    );
    (
        0..8_u8,
        any::<bool>(),
        prop::sample::select(vec![Run::Created, Run::Running, Run::Paused, Run::Ended]),
        label,
        ".{0,6}",
    )
        .prop_map(|(number, of_compose, run, (name, value), called)| {
            let mut made = match of_compose {
                true => compose("shop", if number % 2 == 0 { "web" } else { "db" }, number),
                false => container(&format!("id{number}"), &called, "172.17.0.2"),
            };
            made.run = run;
            label_of(&mut made, name, &value);
            made
        })
}

fn label_of(container: &mut Container, name: &str, value: &str) {
    label(container, &format!("portico.{name}"), value);
}
