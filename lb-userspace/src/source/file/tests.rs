mod proxying;
mod watching;

use std::sync::Arc;
use std::time::{Duration, Instant};

use proptest::prelude::*;
use rstest::rstest;

use super::*;
use crate::model::{Affinity, Endpoint, Naming, Probe, Protocol, Readiness, Stamps};

const EXAMPLE: &str = r#"
nodes:
  node1: 192.0.2.11
  node2: { address: 192.0.2.12, state: draining }
services:
  web:
    ports: ["8080:80", "8443:443/tcp", "5353:53/udp"]
    algorithm: hash
    affinity: none
    health: { http: /healthz, interval: 2s }
    backends:
      - { node: node1, address: 172.18.0.2 }
      - { node: node2, address: [172.18.0.2, "2001:db8:18::2"], weight: 2, task: web.2, state: draining }
  db:
    ports: [5432]
    vips: [10.254.0.1, "fdfe:706f:7274::1"]
    affinity: client-ip
    algorithm: maglev
    slots: 1024
"#;

const NAMED: &str = r#"
nodes:
  node1: 192.0.2.11
services:
  web:
    stack: shop
    networks: [front, back, front]
    aliases: [www, shop.example.com, WWW]
    endpoint: vip
    ttl: 30s
    ports: ["8080:80", "8443:443"]
    expose: ["http=80", 9000-9001, "dns=53/udp", 443]
    vips: [198.51.100.80]
    backends:
      - { node: node1, address: 172.18.0.2, task: web.1, name: shop_web_1, aliases: [blue] }
  inner:
    endpoint: dnsrr
    ttl: 0s
    expose: [5432]
    health: { tcp: true }
  also:
    expose: [80]
"#;

fn read(text: &str) -> Result<Desired, Refused> {
    parse(Path::new("services.yaml"), text)
}

fn complaint(text: &str) -> String {
    read(text).unwrap_err().to_string()
}

#[test]
fn the_documented_example_means_what_it_says() {
    let desired = read(EXAMPLE).unwrap();
    assert!(!desired.nodes["node1"].draining && desired.nodes["node2"].draining);
    let web = &desired.services["web"];
    let frontends: Vec<String> = web.frontends.iter().map(ToString::to_string).collect();
    assert_eq!(frontends, ["*:8080/tcp", "*:8443/tcp", "*:5353/udp"]);
    assert_eq!(web.frontends[2].protocol, Protocol::Udp);
    let health = web.health.as_ref().unwrap();
    assert_eq!(
        health.probe,
        Probe::Http {
            path: "/healthz".into()
        }
    );
    assert_eq!(
        (health.port, health.interval, health.timeout),
        (80, Duration::from_secs(2), Duration::from_secs(1))
    );
    assert_eq!(&*web.backends[0].task, "node1/172.18.0.2");
    assert_eq!((&*web.backends[1].task, web.backends[1].weight), ("web.2", 2));
    assert_eq!(web.backends[1].readiness, Readiness::Draining);
    assert_eq!(web.backends[1].stamps, Stamps::UNKNOWN);
    let db = &desired.services["db"];
    assert_eq!(db.frontends.len(), 2);
    assert_eq!((db.slots, db.affinity), (1024, Affinity::ClientIp));
}

#[test]
fn names_and_exposed_ports_mean_what_they_say() {
    let desired = read(NAMED).unwrap();
    let web = &desired.services["web"];
    let Naming {
        stack,
        networks,
        aliases,
        endpoint,
        ttl,
    } = &web.naming;
    assert_eq!(stack.as_deref(), Some("shop"));
    assert_eq!(*networks, [Arc::from("back"), Arc::from("front")]);
    assert_eq!(*aliases, [Arc::from("www"), Arc::from("shop.example.com")]);
    assert_eq!((*endpoint, *ttl), (Endpoint::Vip, 30));
    assert_eq!(web.vips, ["198.51.100.80".parse::<std::net::IpAddr>().unwrap()]);
    let exposed: Vec<_> = web
        .exposed
        .iter()
        .map(|exposed| (exposed.port, exposed.protocol.label(), exposed.name.as_deref()))
        .collect();
    assert_eq!(
        exposed,
        [
            (80, "tcp", Some("http")),
            (443, "tcp", None),
            (9000, "tcp", None),
            (9001, "tcp", None),
            (53, "udp", Some("dns"))
        ]
    );
    assert_eq!(
        web.backends[0].names,
        ["shop_web_1", "blue"].map(Arc::<str>::from)
    );
    let inner = &desired.services["inner"];
    assert_eq!(
        (inner.naming.endpoint, inner.naming.ttl, inner.frontends.len()),
        (Endpoint::Dnsrr, 0, 0)
    );
    assert_eq!(inner.naming.networks, [Arc::from(Naming::PUBLIC)]);
    assert_eq!(inner.health.as_ref().unwrap().port, 5432);
    // Not that of the names.
    assert_eq!(
        desired.order,
        [Arc::from("web"), Arc::from("inner"), Arc::from("also")]
    );
}

#[rstest]
#[case::unknown_key(
    "nodes: {}\nservices:\n  web:\n    prots: [80]\n",
    "services.yaml:4:5: unknown key `prots`\n  fix: did you mean `ports`?"
)]
#[case::unknown_key_at_the_top(
    "node: {}\nservices: {}\n",
    "services.yaml:1:1: unknown key `node`\n  fix: did you mean `nodes`?"
)]
#[case::unknown_key_of_a_backend(
    "nodes: { a: 192.0.2.1 }\nservices:\n  web:\n    ports: [80]\n    backends:\n      - { node: a, adress: 1.2.3.4 }\n",
    "services.yaml:6:20: unknown key `adress`\n  fix: did you mean `address`?"
)]
#[case::unknown_value(
    "services:\n  web:\n    ports: [80]\n    affinity: client\n",
    "services.yaml:4:15: unknown value `client`"
)]
#[case::missing_key(
    "nodes: { a: 192.0.2.1 }\nservices:\n  web:\n    ports: [80]\n    backends:\n      - { node: a }\n",
    "services.yaml:6:11: `address` is missing"
)]
#[case::neither_ports_nor_expose(
    "services:\n  web:\n    vips: [10.254.0.1]\n",
    "services.yaml:2:3: the service publishes no port\n  fix: add ports: [\"8080:80\"], or expose: [80]"
)]
#[case::exposed_is_not_published(
    "services:\n  web:\n    expose: [\"8080:80\"]\n",
    "services.yaml:3:14: `8080:80` is published, not exposed"
)]
#[case::name_of_a_port(
    "services:\n  web:\n    expose: [\"_http=80\"]\n",
    "services.yaml:3:14: `_http` is not the name of a port"
)]
#[case::two_names_of_a_port(
    "services:\n  web:\n    ports: [\"http=8080:80\"]\n    expose: [\"www=80\"]\n",
    "services.yaml:4:14: port 80/tcp is called http already\n  fix: give it one name"
)]
#[case::one_name_of_two_ports(
    "services:\n  web:\n    ports: [\"http=8080:80\", \"HTTP=81\"]\n",
    "services.yaml:3:29: port 80/tcp is called HTTP already\n  fix: give each port"
)]
#[case::stack(
    "services:\n  web:\n    expose: [80]\n    stack: my shop\n",
    "services.yaml:4:12: `my shop` cannot be asked for as a name"
)]
#[case::alias(
    "services:\n  web:\n    expose: [80]\n    aliases: [www, a..b]\n",
    "services.yaml:4:20: `a..b` cannot be asked for as a name"
)]
#[case::no_network(
    "services:\n  web:\n    expose: [80]\n    networks: []\n",
    "services.yaml:4:15: without a network nobody could ask for the service"
)]
#[case::endpoint(
    "services:\n  web:\n    expose: [80]\n    endpoint: dnsr\n",
    "services.yaml:4:15: unknown value `dnsr`\n  fix: did you mean `dnsrr`?"
)]
#[case::ttl(
    "services:\n  web:\n    expose: [80]\n    ttl: 2h\n",
    "services.yaml:4:10: `2h` is not a time of whole seconds from 0s to 1h"
)]
#[case::ttl_of_half_a_second(
    "services:\n  web:\n    expose: [80]\n    ttl: 500ms\n",
    "services.yaml:4:10: `500ms` is not a time of whole seconds"
)]
#[case::name_of_a_container(
    "nodes: { a: 192.0.2.1 }\nservices:\n  web:\n    ports: [80]\n    backends:\n      - { node: a, address: 172.18.0.2, name: -x }\n",
    "services.yaml:6:47: `-x` cannot be asked for as a name"
)]
#[case::vip_that_is_no_address(
    "services:\n  web:\n    expose: [80]\n    vips: [127.0.0.1]\n",
    "services.yaml:4:12: 127.0.0.1 is a loopback address"
)]
#[case::vip_of_a_node(
    "nodes: { a: 192.0.2.1 }\nservices:\n  web:\n    ports: [80, 81]\n    vips: [192.0.2.1]\n",
    "services.yaml:5:12: this is the address of node a"
)]
#[case::written_twice(
    "services:\n  web:\n    ports: [80]\n  web:\n    ports: [81]\n",
    "services.yaml:4:3: `web` is written twice"
)]
#[case::bad_port(
    "services:\n  web:\n    ports: [\"8080:http\"]\n",
    "services.yaml:3:13: `http` is not a port\n  fix: write PUBLISHED"
)]
#[case::no_port(
    "services:\n  web:\n    ports: []\n",
    "services.yaml:2:3: the service publishes no port"
)]
#[case::duplicate_frontend(
    "services:\n  web:\n    ports: [80]\n  zoo:\n    ports:\n      - 81\n      - 80\n",
    "services.yaml:7:9: *:80/tcp is published twice; service web has it already\n  fix: "
)]
#[case::overlapping_ranges(
    "services:\n  web:\n    ports: [\"8000-8010:80\", \"8010:80\"]\n",
    "services.yaml:3:29: *:8010/tcp is published twice; service web has it already"
)]
#[case::unknown_node(
    "nodes: { node1: 192.0.2.1 }\nservices:\n  web:\n    ports: [80]\n    backends:\n      - { node: nod1, address: 172.18.0.2 }\n",
    "services.yaml:6:9: node nod1 is not listed under nodes\n  fix: did you mean node1?"
)]
#[case::weight(
    "nodes: { a: 192.0.2.1 }\nservices:\n  web:\n    ports: [80]\n    backends:\n      - { node: a, address: 172.18.0.2, weight: 1000 }\n",
    "services.yaml:6:49: weight 1000 is not within 1 to 256"
)]
#[case::negative_weight(
    "nodes: { a: 192.0.2.1 }\nservices:\n  web:\n    ports: [80]\n    backends:\n      - { node: a, address: 172.18.0.2, weight: -1 }\n",
    "services.yaml:6:49: not a whole number"
)]
#[case::bad_address(
    "nodes: { a: 192.0.2.1 }\nservices:\n  web:\n    ports: [80]\n    backends:\n      - { node: a, address: 172.18.0 }\n",
    "services.yaml:6:9: `172.18.0` is not an IP address"
)]
#[case::bad_listed_address(
    "nodes: { a: 192.0.2.1 }\nservices:\n  web:\n    ports: [80]\n    backends:\n      - { node: a, address: [172.18.0.2, 2001] }\n",
    "services.yaml:6:42: `2001` is not an IP address"
)]
#[case::bad_node_address(
    "nodes:\n  a: here\nservices: {}\n",
    "services.yaml:2:3: node a: `here` is not an IP address"
)]
#[case::foreign(
    "services:\n  web:\n    ports: [80]\n    backends:\n      - { address: 192.0.2.80, port: 5432 }\n",
    "services.yaml:5:9: a backend without a node (a foreign backend) is not available yet"
)]
#[case::round_robin(
    "services:\n  web:\n    ports: [80]\n    algorithm: round-robin\n",
    "services.yaml:4:16: algorithm round-robin is not available yet"
)]
#[case::algorithm(
    "services:\n  web:\n    ports: [80]\n    algorithm: rr\n",
    "services.yaml:4:16: unknown value `rr`"
)]
#[case::slots(
    "services:\n  web:\n    ports: [80]\n    slots: 1000\n",
    "services.yaml:2:3: slots: 1000 is not a power of two"
)]
#[case::health_without_probe(
    "services:\n  web:\n    ports: [80]\n    health: { interval: 2s }\n",
    "services.yaml:4:13: a health check is either http: PATH or tcp: true"
)]
#[case::health_time(
    "services:\n  web:\n    ports: [80]\n    health: { tcp: true, interval: 2 }\n",
    "services.yaml:4:36: `2` is not a time from 10ms to 1h"
)]
#[case::health_path(
    "services:\n  web:\n    ports: [80]\n    health: { http: \"/a b\" }\n",
    "services.yaml:4:21: `/a b` is not the path of a request"
)]
#[case::health_of_udp(
    "services:\n  web:\n    ports: [\"53/udp\"]\n    health: { tcp: true }\n",
    "services.yaml:4:13: the service has no TCP port to probe"
)]
#[case::empty(
    "",
    "services.yaml: the file is empty\n  fix: write `services: {}` to mean none"
)]
#[case::comments_only("# nothing\n\n", "services.yaml: the file is empty")]
#[case::no_services("nodes:\n  a: 192.0.2.1\n", "services.yaml: the file has no services")]
#[case::services_cut_off(
    "nodes:\n  a: 192.0.2.1\nservices:\n",
    "services.yaml: the file has no services"
)]
#[case::half_written(
    "nodes:\n  a: 192.0.2.1\nservices:\n  web:\n    ports: [\"80",
    "services.yaml:5:"
)]
#[case::half_a_list("services:\n  web:\n    ports: [80, ", "services.yaml:3:")]
#[case::a_tab("services:\n\tweb: {}\n", "services.yaml:2:")]
#[case::no_list(
    "services:\n  web:\n    ports: 80\n",
    "services.yaml:3:12: a list is wanted here\n  fix: write [ITEM, ITEM]"
)]
#[case::no_keys(
    "services:\n  - web\n",
    "services.yaml:2:3: keys with values are wanted here\n  fix: write KEY: VALUE"
)]
#[case::two_documents(
    "services: {}\n---\nservices: {}\n",
    "services.yaml:3:1: a second YAML document"
)]
fn a_mistake_is_refused_with_line_reason_and_remedy(#[case] text: &str, #[case] start: &str) {
    let complaint = complaint(text);
    assert!(complaint.starts_with(start), "{complaint}");
    assert!(complaint.contains("\n  fix: "), "{complaint}");
}

#[test]
fn all_mistakes_are_reported_in_the_order_of_lines() {
    let refused = read("services:\n  web:\n    ports: [0]\n  zoo:\n    ports: [x, 70000]\n").unwrap_err();
    let lines: Vec<u64> = refused
        .faults
        .iter()
        .map(|fault| fault.place.unwrap().0)
        .collect();
    assert_eq!(lines, [3, 5, 5]);
}

#[test]
fn a_long_list_of_mistakes_is_cut_and_counted() {
    let many: String = (0..30).map(|n| format!("  s{n}:\n    ports: [x]\n")).collect();
    let complaint = complaint(&format!("services:\n{many}"));
    assert!(
        complaint.ends_with("services.yaml: 20 more mistakes"),
        "{complaint}"
    );
}

#[test]
fn no_services_can_be_meant() {
    assert_eq!(read("services: {}\n").unwrap(), Desired::default());
}

/// 10,000 services of ten backends on a hundred nodes.
fn large() -> String {
    use std::fmt::Write;
    let mut text = String::from("nodes:\n");
    for node in 0..100 {
        writeln!(text, "  node{node}: 192.0.2.{node}").unwrap();
    }
    text.push_str("services:\n");
    for service in 0..10_000 {
        writeln!(
            text,
            "  s{service}:\n    ports: [\"{}:80\"]\n    backends:",
            10_000 + service
        )
        .unwrap();
        for backend in 0..10 {
            let node = (service + backend) % 100;
            writeln!(
                text,
                "      - {{ node: node{node}, address: 172.18.{backend}.2 }}"
            )
            .unwrap();
        }
    }
    text
}

#[test]
fn ten_thousand_services_are_read() {
    let text = large().replace("192.0.2.0\n", "192.0.2.200\n");
    let start = Instant::now();
    let desired = read(&text).unwrap();
    println!(
        "10,000 services of 10 backends, {} bytes: {:?}",
        text.len(),
        start.elapsed()
    );
    assert_eq!(desired.services.len(), 10_000);
    assert_eq!(desired.services["s7"].backends.len(), 10);
}

proptest! {
    /// A file cut off anywhere is refused or means less, and never crashes.
    #[test]
    fn a_file_cut_off_anywhere_does_not_crash(cut in 0..EXAMPLE.len()) {
        let _ = read(&EXAMPLE[..cut]);
    }

    #[test]
    fn no_text_crashes_the_reader(text in "[a-z0-9:{}\\[\\]\"', &*!|>#\n-]{0,200}") {
        let _ = read(&text);
    }

    #[test]
    fn a_file_with_a_changed_byte_does_not_crash(at in 0..EXAMPLE.len(), byte in 0x20u8..0x7f) {
        let mut bytes = EXAMPLE.as_bytes().to_vec();
        bytes[at] = byte;
        let _ = read(std::str::from_utf8(&bytes).unwrap());
    }
}
