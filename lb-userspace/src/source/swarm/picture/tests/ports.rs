//! What is published.

use super::super::super::lists::{Lists, Port};
use super::super::super::recorded::{port, small};
use super::{is_restless, of, recorded};

fn with(asked: Vec<Port>, chosen: Vec<Port>) -> Lists {
    let mut lists = small();
    lists.services[0].spec.endpoint_spec.ports = asked;
    lists.services[0].endpoint.ports = chosen;
    lists
}

fn fronts(lists: &Lists) -> Vec<String> {
    let picture = of(lists);
    let frontends = picture.desired.services["web"].frontends.iter();
    frontends
        .map(|frontend| format!("{frontend} -> {}", frontend.target_port))
        .collect()
}

fn exposed(lists: &Lists) -> Vec<(u16, &'static str)> {
    let picture = of(lists);
    let exposed = picture.desired.services["web"].exposed.iter();
    exposed
        .map(|exposed| (exposed.port, exposed.protocol.label()))
        .collect()
}

#[test]
fn a_published_port_answers_on_every_node() {
    let desired = recorded("t0").desired;
    let web = &desired.services["web"];
    assert_eq!(web.frontends[0].to_string(), "*:8080/tcp");
    assert_eq!(web.frontends[0].target_port, 80);
    assert!(web.frontends[0].held, "the engines publish it, too");
}

#[test]
fn a_port_of_the_host_is_the_engines_own_business() {
    let desired = recorded("t0").desired;
    let hostp = &desired.services["hostp"];
    assert!(hostp.frontends.is_empty());
    assert_eq!(hostp.exposed[0].port, 80);
}

#[test]
fn a_service_without_ports_has_its_name() {
    let desired = recorded("t0").desired;
    assert!(desired.services["vip"].exposed.is_empty());
}

#[test]
fn one_port_in_both_protocols_is_two() {
    let lists = with(vec![port(53, 5353, "tcp"), port(53, 5353, "udp")], Vec::new());
    assert_eq!(fronts(&lists), ["*:53/tcp -> 5353", "*:53/udp -> 5353"]);
    assert_eq!(exposed(&lists), [(5353, "tcp"), (5353, "udp")]);
}

#[test]
fn two_ports_for_one_of_the_tasks_are_two_frontends() {
    let lists = with(vec![port(80, 8080, "tcp"), port(81, 8080, "tcp")], Vec::new());
    assert_eq!(fronts(&lists), ["*:80/tcp -> 8080", "*:81/tcp -> 8080"]);
    assert_eq!(exposed(&lists), [(8080, "tcp")]);
}

#[test]
fn a_port_that_the_swarm_chooses_answers_when_it_has() {
    let asked = vec![port(0, 80, "tcp"), port(0, 80, "tcp")];
    let lists = with(asked.clone(), Vec::new());
    assert_eq!(fronts(&lists), [""; 0]);
    assert!(is_restless(&lists));
    let lists = with(asked, vec![port(30_001, 80, "tcp"), port(30_000, 80, "tcp")]);
    assert_eq!(fronts(&lists), ["*:30000/tcp -> 80", "*:30001/tcp -> 80"]);
    assert!(!is_restless(&lists));
}

#[test]
fn another_port_is_served_before_the_swarm_has_settled_it() {
    let lists = with(vec![port(8081, 80, "tcp")], vec![port(8080, 80, "tcp")]);
    assert_eq!(fronts(&lists), ["*:8081/tcp -> 80"]);
}

#[test]
fn an_unknown_protocol_is_told_and_the_rest_served() {
    let lists = with(vec![port(9, 9, "sctp"), port(80, 80, "tcp")], Vec::new());
    assert_eq!(fronts(&lists), ["*:80/tcp -> 80"]);
    let notes = of(&lists).notes;
    assert_eq!(notes.len(), 1);
    assert!(notes[0].what.contains("9:9/sctp"), "{notes:?}");
}
