//! Nodes and networks.

use super::super::super::lists::{ManagerStatus, Network};
use super::super::super::recorded::{attached, node, small, task};
use super::{Readiness, of, recorded};
use crate::model::Endpoint;

#[test]
fn nodes_that_are_called_alike_are_told_apart() {
    let picture = recorded("t0");
    let names: Vec<_> = picture.desired.nodes.keys().map(|name| &**name).collect();
    assert_eq!(names, ["vm", "vm-oz95py6l", "vm-ty9ezqdn"]);
    let notes: Vec<_> = picture.notes.iter().map(|note| &*note.consequence).collect();
    assert_eq!(notes.len(), 2);
    assert!(notes[0].contains("node = \"vm-ty9ezqdn\""), "{notes:?}");
    assert!(picture.notes[0].fix.contains("--label-add portico.node="));
}

#[test]
fn a_label_names_a_node() {
    let mut lists = small();
    let labels = &mut lists.nodes[1].spec.labels;
    labels.insert("portico.node".to_owned(), "east".to_owned());
    let picture = of(&lists);
    assert!(picture.desired.nodes.contains_key("east"));
    assert_eq!(picture.notes, []);
}

#[test]
fn a_node_that_has_not_said_what_it_is_called_is_waited_for() {
    let mut lists = small();
    lists.nodes[1].description.hostname.clear();
    let picture = of(&lists);
    assert!(picture.desired.nodes.contains_key("n1"));
    assert_eq!(picture.desired.nodes.len(), lists.nodes.len() - 1);
    assert_eq!(picture.notes, []);
}

#[test]
fn a_label_that_is_no_name_is_told() {
    let mut lists = small();
    let labels = &mut lists.nodes[1].spec.labels;
    labels.insert("portico.node".to_owned(), "rack 7".to_owned());
    let picture = of(&lists);
    assert!(picture.desired.nodes.contains_key("n2"));
    assert!(picture.notes[0].what.contains("rack 7"));
}

#[test]
fn a_manager_is_where_the_managers_reach_it() {
    let mut lists = small();
    lists.nodes[0].status.addr = "0.0.0.0".to_owned();
    lists.nodes[0].manager_status = Some(ManagerStatus {
        leader: true,
        addr: "192.0.2.11:2377".to_owned(),
    });
    let picture = of(&lists);
    assert_eq!(picture.desired.nodes["n1"].address.to_string(), "192.0.2.11");
    assert_eq!(picture.leader.as_deref(), Some("n1"));
}

#[test]
fn a_node_without_a_useful_address_is_told_and_left_out() {
    let mut lists = small();
    lists.nodes[0].status.addr = "127.0.0.1".to_owned();
    let picture = of(&lists);
    assert!(!picture.desired.nodes.contains_key("n1"));
    assert!(picture.desired.services["web"].backends.is_empty());
    assert_eq!(picture.notes.len(), 1);
}

#[test]
fn one_that_joined_again_replaces_what_it_was() {
    let mut lists = small();
    lists.nodes[0].status.state = "down".to_owned();
    lists.nodes.push(node("n1-again", "n1", "192.0.2.11", 99));
    let picture = of(&lists);
    assert_eq!(picture.desired.nodes.len(), 2);
    assert!(!picture.desired.nodes["n1"].draining);
    assert_eq!(picture.notes, []);
}

#[test]
fn a_node_is_drained_by_its_availability_and_by_its_absence() {
    let mut lists = small();
    let draining = |lists: &_| of(lists).desired.nodes["n1"].draining;
    // It gets no new tasks, and keeps those that it has.
    lists.nodes[0].spec.availability = "pause".to_owned();
    assert!(!draining(&lists));
    lists.nodes[0].spec.availability = "drain".to_owned();
    assert!(draining(&lists));
    lists.nodes[0].spec.availability = "active".to_owned();
    lists.nodes[0].status.state = "down".to_owned();
    assert!(draining(&lists));
    // All nodes are, for some seconds, when there is a new leader.
    lists.nodes[0].status.state = "unknown".to_owned();
    assert!(!draining(&lists));
}

#[test]
fn a_service_is_on_its_networks_and_not_on_the_meshs_own() {
    let picture = recorded("t0");
    let service = |name: &str| &picture.desired.services[name];
    assert_eq!(service("api").naming.networks, ["app".into()]);
    assert_eq!(service("api").backends[0].attachments[0].network, "app".into());
    // It has no other.
    assert_eq!(service("web").naming.networks, ["ingress".into()]);
    assert_eq!(
        service("web").backends[0].attachments[0].network,
        "ingress".into()
    );
}

#[test]
fn addresses_of_the_swarms_mesh_are_led_to_ours_but_those_nobody_asks_for() {
    let picture = recorded("t0");
    let assigned = |name: &str| &picture.desired.services[name].assigned;
    assert_eq!(
        assigned("vip")[..],
        ["10.0.1.19".parse().unwrap_or(std::net::Ipv4Addr::UNSPECIFIED)]
    );
    assert!(assigned("web").is_empty());
}

#[test]
fn a_service_that_is_shut_off_has_its_name_alone() {
    let mut lists = small();
    lists.networks[0] = Network {
        internal: true,
        ..lists.networks[0].clone()
    };
    let web = &of(&lists).desired.services["web"];
    assert_eq!(web.naming.endpoint, Endpoint::Dnsrr);
    assert!(web.exposed.is_empty() && web.frontends.is_empty());
    assert_eq!(web.backends.len(), 1);
}

#[test]
fn a_task_on_its_nodes_own_network_is_at_its_nodes_address() {
    let mut lists = small();
    lists.tasks[0].networks_attachments = vec![attached("host", "")];
    let web = &of(&lists).desired.services["web"];
    assert_eq!(web.backends[0].addresses[0].to_string(), "192.0.2.11");
    assert!(web.backends[0].attachments.is_empty());
}

#[test]
fn of_two_tasks_at_their_nodes_address_the_one_that_stays_has_it() {
    let mut lists = small();
    lists.tasks[0].networks_attachments = vec![attached("host", "")];
    lists.tasks[0].desired_state = super::State::Shutdown;
    let mut successor = task("t2", "web", "n1-id-and-more", 5);
    successor.networks_attachments = vec![attached("host", "")];
    lists.tasks.push(successor);
    let web = &of(&lists).desired.services["web"];
    assert_eq!(web.backends.len(), 1);
    assert_eq!(web.backends[0].readiness, Readiness::Ready);
}

#[test]
fn a_stack_is_in_the_name_and_out_of_the_alias() {
    let mut lists = small();
    let spec = &mut lists.services[0].spec;
    spec.name = "shop_web".to_owned();
    spec.labels
        .insert("com.docker.stack.namespace".to_owned(), "shop".to_owned());
    spec.task_template.networks[0].aliases = vec!["web".to_owned(), "www".to_owned()];
    let naming = &of(&lists).desired.services["shop_web"].naming;
    assert_eq!(naming.stack.as_deref(), Some("shop"));
    assert_eq!(naming.aliases, ["web".into(), "www".into()]);
}
