//! What labels say of a service; the table of labels is tested where it is read.

use super::super::super::recorded::{port, small};
use super::super::Lists;
use super::of;

fn with(labels: &[(&str, &str)]) -> Lists {
    let mut lists = small();
    let spec = &mut lists.services[0].spec;
    spec.endpoint_spec.ports = vec![port(8080, 80, "tcp")];
    let labels = labels
        .iter()
        .map(|(label, value)| ((*label).to_owned(), (*value).to_owned()));
    spec.labels.extend(labels);
    lists
}

#[test]
fn labels_of_a_service_are_in_force() {
    let lists = with(&[
        ("portico.ports", "9090:80"),
        ("portico.expose", "9100"),
        ("portico.health", "http:/healthz"),
        ("portico.aliases", "www"),
        ("portico.ttl", "30s"),
        ("portico.proxy.send", "v2"),
    ]);
    let picture = of(&lists);
    assert_eq!(picture.notes, []);
    let web = &picture.desired.services["web"];
    assert_eq!(web.frontends[0].to_string(), "*:9090/tcp");
    assert!(!web.frontends[0].held, "ours alone");
    assert_eq!(web.frontends.len(), 1);
    assert_eq!(web.exposed.len(), 2);
    assert_eq!(web.health.as_ref().map(|health| health.port), Some(80));
    assert_eq!((&*web.naming.aliases[0], web.naming.ttl), ("www", 30));
    assert_eq!(web.proxy.send, Some(crate::model::ProxyVersion::V2));
}

#[test]
fn labels_of_containers_count_where_the_service_has_none() {
    let mut lists = with(&[("portico.ttl", "30s")]);
    let containers = &mut lists.services[0].spec.task_template.container_spec.labels;
    containers.insert("portico.ttl".to_owned(), "1s".to_owned());
    containers.insert("portico.affinity".to_owned(), "client-ip".to_owned());
    let web = &of(&lists).desired.services["web"];
    assert_eq!(web.naming.ttl, 30);
    assert_eq!(web.affinity, crate::model::Affinity::ClientIp);
}

#[test]
fn a_bad_value_is_told_and_the_rest_served() {
    let picture = of(&with(&[("portico.affinity", "cookie"), ("portico.prots", "1:1")]));
    assert_eq!(picture.desired.services["web"].frontends.len(), 1);
    assert_eq!(picture.notes.len(), 2);
    assert!(
        picture
            .notes
            .iter()
            .all(|note| note.service.as_deref() == Some("web"))
    );
    assert!(
        picture.notes[0]
            .what
            .starts_with("service web: label portico.affinity=cookie")
    );
}

#[test]
fn what_means_nothing_on_a_service_of_a_swarm_is_told() {
    let picture = of(&with(&[("portico.weight", "3")]));
    assert_eq!(picture.desired.services["web"].backends[0].weight, 1);
    assert!(picture.notes[0].what.contains("weigh the same"));
}

#[test]
fn a_service_that_is_switched_off_is_left_alone() {
    let picture = of(&with(&[("portico.enable", "false")]));
    assert!(picture.desired.services.is_empty());
}
