//! `plane` and `proxy`.

use super::*;
use crate::model::{Algorithm, Plane, ProxyRules, ProxyVersion};

fn rules(text: &str) -> ProxyRules {
    let file = format!("services:\n  web:\n    expose: [80]\n    {text}\n");
    read(&file).unwrap().services["web"].proxy.clone()
}

#[test]
fn without_a_word_the_rules_are_those_of_the_model() {
    for text in [
        "",
        "proxy: {}",
        "plane: auto",
        "proxy: { send: none, idle: 0s, transparent: false }",
    ] {
        assert_eq!(rules(text), ProxyRules::default(), "{text}");
    }
}

#[test]
fn each_rule_means_what_it_says() {
    let text = "proxy: { send: v2, accept: [192.0.2.7, \"2001:db8::/32\", 192.0.2.7/32], transparent: true, \
                connect_timeout: 500ms, retries: 0, idle: 1h, drain: 30s }\n    plane: proxy\n    algorithm: least-connections";
    let expected = ProxyRules {
        plane: Plane::Proxy,
        algorithm: Algorithm::LeastConnections,
        send: Some(ProxyVersion::V2),
        accept: ["192.0.2.7/32", "2001:db8::/32"]
            .map(|net| net.parse().unwrap())
            .into(),
        transparent: true,
        connect_timeout: Duration::from_millis(500),
        retries: 0,
        idle: Some(Duration::from_secs(3600)),
        drain: Some(Duration::from_secs(30)),
    };
    assert_eq!(rules(text), expected);
    assert_eq!(rules("proxy: { send: v1 }").send, Some(ProxyVersion::V1));
    assert_eq!(rules("proxy: { drain: 0s }").drain, Some(Duration::ZERO));
    assert_eq!(rules("plane: ebpf").plane, Plane::Ebpf);
}

#[test]
fn fewer_connections_and_one_task_for_a_client_are_not_to_be_had_together() {
    let file =
        "services:\n  web:\n    expose: [80]\n    affinity: client-ip\n    algorithm: least-connections\n";
    let complaint = read(file).unwrap_err().to_string();
    let start = "services.yaml:5:16: algorithm least-connections sends one client to several tasks";
    assert!(complaint.starts_with(start), "{complaint}");
}

#[rstest]
#[case::plane("plane: poxy", "12: unknown value `poxy`\n  fix: did you mean `proxy`?")]
#[case::key("proxy: { sned: v2 }", "14: unknown key `sned`\n  fix: did you mean `send`?")]
#[case::version("proxy: { send: v3 }", "20: unknown value `v3`")]
#[case::range(
    "proxy: { accept: [192.0.2.0/33] }",
    "23: `192.0.2.0/33` is not a range of addresses\n  fix: write one like"
)]
#[case::range_within(
    "proxy: { accept: [192.0.2.1/24] }",
    "23: 192.0.2.1/24 is not a range: it begins at 192.0.2.0/24\n  fix: write 192.0.2.0/24"
)]
#[case::no_list("proxy: { accept: 192.0.2.0/24 }", "22: a list is wanted here")]
#[case::no_keys("proxy: v2", "12: keys with values are wanted here")]
#[case::connect_timeout(
    "proxy: { connect_timeout: 0s }",
    "31: `0s` is not a time from 10ms to 1m\n  fix: write a number"
)]
#[case::retries("proxy: { retries: 17 }", "23: 17 is not within 0 to 16")]
#[case::negative_retries("proxy: { retries: -1 }", "23: not a whole number")]
#[case::idle(
    "proxy: { idle: never }",
    "20: `never` is not a time from 0s, which means never, to 168h"
)]
#[case::drain("proxy: { drain: 30 }", "21: `30` is not a time from 0s to 168h")]
#[case::contradiction(
    "plane: ebpf\n    proxy: { accept: [192.0.2.1] }",
    "12: the PROXY protocol is accepted, which only the proxy does, and plane is ebpf\n  fix: leave plane out"
)]
fn a_rule_that_cannot_be_is_refused_with_its_place(#[case] text: &str, #[case] start: &str) {
    let complaint = complaint(&format!("services:\n  web:\n    expose: [80]\n    {text}\n"));
    let start = format!("services.yaml:4:{start}");
    assert!(complaint.starts_with(&start), "{complaint}\nis not\n{start}");
    assert!(complaint.contains("\n  fix: "), "{complaint}");
}

#[test]
fn too_many_ranges_are_refused_where_they_are_too_many() {
    let many = (0..300).map(|n| format!("10.0.{}.{}", n / 256, n % 256));
    let many = many.collect::<Vec<_>>().join(", ");
    let text = format!("services:\n  web:\n    expose: [80]\n    proxy: {{ accept: [{many}] }}\n");
    assert!(complaint(&text).contains("300 ranges are more than 256"));
}
