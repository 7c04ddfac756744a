//! Over recorded answers first, then over what those do not have.

mod labels;
mod places;
mod ports;

use std::sync::Arc;

use super::super::lists::{Mode, Nothing, State, UpdateStatus};
use super::super::recorded::{self, at, attached, lists, small};
use super::{Picture, is_restless, picture};
use crate::model::validate::validate;
use crate::model::{Desired, DesiredService, Endpoint, Readiness, Stamps};

fn of(lists: &super::Lists) -> Picture {
    let picture = picture(lists, &Desired::default());
    assert_eq!(validate(&picture.desired), [], "{:#?}", picture.desired);
    picture
}

fn recorded(moment: &str) -> Picture {
    of(&lists(moment))
}

fn names(service: &DesiredService) -> Vec<(&str, &str)> {
    let backends = service.backends.iter();
    backends
        .map(|backend| (&*backend.names[0], &*backend.node))
        .collect()
}

fn draining(service: &DesiredService) -> Vec<&str> {
    let backends = service.backends.iter();
    let draining = backends.filter(|backend| backend.readiness == Readiness::Draining);
    draining.map(|backend| &*backend.names[0]).collect()
}

#[test]
fn services_come_in_the_order_in_which_they_were_created() {
    let desired = recorded("t0").desired;
    let order: Vec<&str> = desired.order.iter().map(|name| &**name).collect();
    assert_eq!(order, ["web", "api", "vip", "hostp"]);
}

#[test]
fn a_replicated_service_has_its_running_tasks() {
    let picture = recorded("t0");
    let web = &picture.desired.services["web"];
    assert_eq!(
        names(web),
        [
            ("web.1", "vm"),
            ("web.2", "vm-ty9ezqdn"),
            ("web.3", "vm-oz95py6l")
        ]
    );
    let first = &web.backends[0];
    assert_eq!(&*first.task, "web.1.3035jnqukxpw9p9953fqx5ma5");
    assert_eq!(first.names[1], first.task);
    assert_eq!(picture.leader.as_deref(), Some("vm"));
}

#[test]
fn a_service_that_is_scaled_has_its_new_tasks() {
    let desired = recorded("scaled6").desired;
    assert_eq!(desired.services["web"].backends.len(), 6);
}

#[test]
fn of_an_updated_service_the_new_tasks_are_left() {
    let desired = recorded("rolled").desired;
    let web = &desired.services["web"];
    assert!(
        web.backends
            .iter()
            .all(|backend| backend.readiness == Readiness::Ready)
    );
    assert!(!web.backends.iter().any(|backend| backend.task.contains("3035jn")));
}

#[test]
fn what_is_starting_is_not_there() {
    // Two tasks were moved off the drained node, and were starting then.
    let lists = lists("drained-n2");
    let desired = of(&lists).desired;
    assert_eq!(desired.services["web"].backends.len(), 5);
    assert_eq!(desired.services["api"].backends.len(), 2);
    assert!(desired.nodes["vm-ty9ezqdn"].draining);
    assert!(is_restless(&lists));
}

#[test]
fn tasks_of_a_node_that_is_down_drain() {
    let desired = recorded("n3-down").desired;
    assert!(desired.nodes["vm-oz95py6l"].draining);
    assert_eq!(draining(&desired.services["web"]), ["web.4", "web.5"]);
    assert_eq!(desired.services["web"].backends.len(), 6);
    assert_eq!(draining(&desired.services["vip"]), ["vip.2"]);
}

#[test]
fn a_task_of_a_global_service_is_called_by_its_node() {
    let desired = recorded("t0").desired;
    let hostp = &desired.services["hostp"];
    let first = &hostp.backends[0];
    let name = "hostp.8t9vazbqt6anqnars4y2p4scd.g4e3agxwhdfd2nhjl4mqo7acc";
    assert_eq!(first.task[..32], name[..32]);
    assert_eq!(first.names, [Arc::clone(&first.task)]);
    // It has no network of the swarm: its node's address says the family.
    assert!(first.attachments.is_empty());
    assert_eq!(&*hostp.naming.networks, ["bridge".into()]);
}

#[test]
fn docker_28_answers_the_same() {
    let desired = recorded("v28").desired;
    let web = &desired.services["web"];
    assert_eq!(names(web), [("web.1", "n3"), ("web.2", "n1"), ("web.3", "n2")]);
    assert_eq!(web.frontends.len(), 1);
}

#[test]
fn a_swarm_at_rest_is_looked_at_seldom() {
    assert!(!is_restless(&lists("t0")));
    assert!(!is_restless(&lists("v28")));
    assert!(is_restless(&lists("rolled")));
}

#[test]
fn a_task_of_a_node_that_is_down_is_not_waited_for() {
    let mut lists = small();
    lists.tasks[0].desired_state = State::Shutdown;
    lists.services.clear();
    assert!(is_restless(&lists));
    lists.nodes[0].status.state = "down".to_owned();
    assert!(!is_restless(&lists));
}

#[test]
fn a_task_that_shall_end_drains_while_it_runs() {
    let mut lists = small();
    for state in [State::Shutdown, State::Remove] {
        lists.tasks[0].desired_state = state;
        let desired = of(&lists).desired;
        assert_eq!(desired.services["web"].backends[0].readiness, Readiness::Draining);
    }
    lists.tasks[0].status.state = State::Complete;
    assert!(of(&lists).desired.services["web"].backends.is_empty());
}

#[test]
fn successors_in_a_slot_share_its_name_and_not_its_identity() {
    let mut lists = small();
    lists.tasks[0].desired_state = State::Shutdown;
    let mut successor = recorded::task("t2", "web", "n2-id-and-more", 20);
    successor.networks_attachments = vec![attached("app", "10.0.1.8/24")];
    lists.tasks.push(successor);
    let desired = of(&lists).desired;
    let web = &desired.services["web"];
    assert_eq!(names(web), [("web.1", "n1"), ("web.1", "n2")]);
    assert_ne!(web.backends[0].task, web.backends[1].task);
}

#[test]
fn a_task_was_activated_after_it_was_made_and_before_it_was_last_changed() {
    let mut lists = small();
    let second = 1_000_000_000;
    let stamps = |lists: &_| of(lists).desired.services["web"].backends[0].stamps;
    let (first, last) = (11 * second, 12 * second);
    assert_eq!(stamps(&lists), Stamps { first, last });
    // Its node has been drained and activated again.
    lists.nodes[0].updated_at = at(50);
    let last = 50 * second;
    assert_eq!(stamps(&lists), Stamps { first, last });
}

#[test]
fn tasks_of_removed_services_are_nobodys() {
    let mut lists = small();
    lists.services.clear();
    let desired = of(&lists).desired;
    assert!(desired.services.is_empty());
}

#[test]
fn jobs_are_no_services() {
    let mut lists = small();
    lists.services[0].spec.mode = Mode {
        replicated_job: Some(Nothing {}),
        ..Mode::default()
    };
    assert!(of(&lists).desired.services.is_empty());
}

#[test]
fn an_update_that_is_paused_is_told() {
    let mut lists = small();
    lists.services[0].update_status = Some(UpdateStatus {
        state: "paused".to_owned(),
        message: "update paused due to failure or early termination of task t2".to_owned(),
    });
    let notes = of(&lists).notes;
    assert_eq!(notes.len(), 1);
    assert!(notes[0].what.contains("task t2"), "{notes:?}");
    assert_eq!(notes[0].service.as_deref(), Some("web"));
}

#[test]
fn services_that_are_the_same_are_shared() {
    let mut lists = lists("t0");
    let before = of(&lists).desired;
    lists.services[0].spec.endpoint_spec.ports.clear();
    let after = picture(&lists, &before).desired;
    let shared = |name: &str| Arc::ptr_eq(&before.services[name], &after.services[name]);
    assert!(!shared("web"));
    assert!(shared("api") && shared("vip") && shared("hostp"));
}

#[test]
fn dnsrr_leads_to_tasks() {
    let desired = recorded("t0").desired;
    let endpoint = |name: &str| desired.services[name].naming.endpoint;
    assert_eq!(endpoint("api"), Endpoint::Dnsrr);
    assert_eq!(endpoint("vip"), Endpoint::Vip);
}
