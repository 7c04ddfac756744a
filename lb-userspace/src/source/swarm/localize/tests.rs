use std::collections::BTreeMap;
use std::sync::Arc;

use super::super::picture::picture;
use super::super::recorded::{lists, small};
use super::*;
use crate::source::engine::Health;

/// A running container of a task, on `app` and reached by `address`.
fn container(task: &str, address: &str) -> Container {
    let joined = |address: &str, gateway| Joined {
        addresses: vec![address.parse().unwrap()],
        aliases: Vec::new(),
        gateway,
        priority: 0,
    };
    Container {
        id: format!("container-{task}").into(),
        name: format!("web.1.{task}").into(),
        created: 0,
        labels: [(TASK.to_owned(), task.to_owned())].into(),
        run: Run::Running,
        health: None,
        stopping: false,
        host: false,
        networks: BTreeMap::from([
            ("app".into(), joined("10.0.1.7", false)),
            (GATEWAY.into(), joined(address, true)),
        ]),
        exposed: Vec::new(),
        published: Vec::new(),
    }
}

fn local(containers: impl IntoIterator<Item = Container>) -> Local {
    let containers = containers.into_iter();
    Local {
        containers: containers
            .map(|container| (Arc::clone(&container.id), Arc::new(container)))
            .collect(),
        ..Local::default()
    }
}

/// A service of one task on n1 that publishes a port.
fn published() -> Desired {
    let mut lists = small();
    let port = super::super::recorded::port(8080, 80, "tcp");
    lists.services[0].spec.endpoint_spec.ports = vec![port];
    picture(&lists, &Desired::default()).desired
}

fn on_n1(container: Container) -> Desired {
    localize(&published(), &local([container]), "n1", &Desired::default())
}

fn standing(container: Container) -> Option<Readiness> {
    let desired = on_n1(container);
    let backends = &desired.services["web"].backends;
    backends.first().map(|backend| backend.readiness.clone())
}

#[test]
fn a_task_is_delivered_where_its_node_reaches_it() {
    let desired = on_n1(container("t1", "172.20.0.3"));
    let backend = &desired.services["web"].backends[0];
    assert_eq!(backend.addresses[..], ["172.20.0.3".parse::<IpAddr>().unwrap()]);
    // Who is on its network finds it there.
    assert_eq!(backend.attachments[0].address.to_string(), "10.0.1.7");
}

#[test]
fn what_other_nodes_have_stays_as_it_is() {
    let desired = published();
    let localized = localize(&desired, &local([]), "n2", &Desired::default());
    assert!(Arc::ptr_eq(&desired.services["web"], &localized.services["web"]));
}

#[test]
fn a_task_without_its_container_is_not_here() {
    let desired = localize(&published(), &local([]), "n1", &Desired::default());
    assert!(desired.services["web"].backends.is_empty());
}

#[test]
fn the_stop_signal_drains_at_once_and_the_end_removes() {
    let running = container("t1", "172.20.0.3");
    assert_eq!(standing(running.clone()), Some(Readiness::Ready));
    let stopping = Container {
        stopping: true,
        ..running.clone()
    };
    assert_eq!(standing(stopping), Some(Readiness::Draining));
    let ended = Container {
        run: Run::Ended,
        ..running
    };
    assert_eq!(standing(ended), None);
}

#[test]
fn what_is_wrong_with_a_container_is_said() {
    let running = container("t1", "172.20.0.3");
    let paused = Container {
        run: Run::Paused,
        ..running.clone()
    };
    assert_eq!(standing(paused), Some(Readiness::Unready("paused".into())));
    let unhealthy = Container {
        health: Some(Health::Unhealthy("exit 7".into())),
        ..running
    };
    assert_eq!(
        standing(unhealthy),
        Some(Readiness::Unready("unhealthy: exit 7".into()))
    );
}

#[test]
fn what_managers_let_drain_drains() {
    let mut desired = published();
    let web = Arc::make_mut(desired.services.get_mut("web").unwrap());
    web.backends[0].readiness = Readiness::Draining;
    let here = local([container("t1", "172.20.0.3")]);
    let localized = localize(&desired, &here, "n1", &Desired::default());
    assert_eq!(
        localized.services["web"].backends[0].readiness,
        Readiness::Draining
    );
}

#[test]
fn a_task_on_the_nodes_own_network_is_at_the_nodes_address() {
    let host = Container {
        host: true,
        networks: BTreeMap::new(),
        ..container("t1", "172.20.0.3")
    };
    let desired = on_n1(host);
    let backend = &desired.services["web"].backends[0];
    assert_eq!(backend.addresses[0].to_string(), "192.0.2.11");
}

#[test]
fn a_task_without_networks_of_the_swarm_is_on_the_bridge() {
    let mut bridged = container("t1", "172.17.0.5");
    let bridge = bridged.networks.remove(GATEWAY).unwrap();
    bridged.networks = BTreeMap::from([("bridge".into(), bridge)]);
    let desired = on_n1(bridged);
    let backend = &desired.services["web"].backends[0];
    assert_eq!(backend.addresses[0].to_string(), "172.17.0.5");
}

#[test]
fn a_task_that_no_one_is_led_to_needs_no_way() {
    let desired = picture(&small(), &Desired::default()).desired;
    let mut isolated = container("t1", "172.20.0.3");
    isolated.networks.remove(GATEWAY);
    let localized = localize(&desired, &local([isolated.clone()]), "n1", &Desired::default());
    assert_eq!(localized.services["web"].backends.len(), 1);
    // Led to, it would lead nowhere.
    assert!(on_n1(isolated).services["web"].backends.is_empty());
}

#[test]
fn a_container_that_starts_is_told_names() {
    let starting = container("t2", "172.20.0.9");
    let running = container("t1", "172.20.0.3");
    let here = local([running, starting]);
    let localized = localize(&published(), &here, "n1", &Desired::default());
    let guests: Vec<_> = localized.guests.iter().collect();
    assert_eq!(guests.len(), 1);
    assert_eq!(guests[0].0.to_string(), "172.20.0.9");
    assert_eq!(guests[0].1[..], ["app".into()]);
}

#[test]
fn what_did_not_change_stays_shared() {
    let desired = published();
    let here = local([container("t1", "172.20.0.3")]);
    let before = localize(&desired, &here, "n1", &Desired::default());
    let after = localize(&desired, &here, "n1", &before);
    assert!(Arc::ptr_eq(&before.services["web"], &after.services["web"]));
}

#[test]
fn what_was_localized_before_can_be_again() {
    let here = local([container("t1", "172.20.0.3")]);
    let once = localize(&published(), &here, "n1", &Desired::default());
    assert_eq!(localize(&once, &here, "n1", &Desired::default()), once);
}

#[test]
fn every_recorded_task_has_its_container_somewhere() {
    let desired = picture(&lists("scaled6"), &Desired::default()).desired;
    let ids = desired.services.values().flat_map(|service| &service.backends);
    let local = local(ids.map(|backend| container(task_id(backend), "172.20.0.3")));
    let here = localize(&desired, &local, "vm", &Desired::default());
    let count = |desired: &Desired| -> usize {
        desired
            .services
            .values()
            .map(|service| service.backends.len())
            .sum()
    };
    assert_eq!(count(&here), count(&desired));
}
