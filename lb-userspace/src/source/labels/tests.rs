use std::time::Duration;

use proptest::prelude::*;
use rstest::rstest;

use super::*;
use crate::model::{Algorithm, Plane, Probe, Protocol, ProxyVersion};

fn one(label: &str, value: &str) -> (Settings, Vec<Fault>) {
    read([(label, value)])
}

#[test]
fn every_known_label_is_read() {
    let labels = [
        ("portico.enable", "true"),
        ("portico.service", "web"),
        ("portico.ports", "http=8080:80, 8443:443 5353:53/udp"),
        ("portico.expose", "metrics=9100"),
        ("portico.algorithm", "hash"),
        ("portico.affinity", "client-ip"),
        ("portico.weight", "2"),
        ("portico.slots", "1024"),
        ("portico.vips", "10.254.0.1,fdfe:706f:7274::1"),
        ("portico.aliases", "www,shop.example.com"),
        ("portico.endpoint", "dnsrr"),
        ("portico.ttl", "30s"),
        ("portico.network", "front"),
        ("portico.health", "http:8081/healthz"),
        ("portico.health.interval", "500ms"),
        ("portico.health.timeout", "100ms"),
        ("portico.health.failures", "2"),
        ("portico.health.successes", "1"),
        ("portico.health.port", "8082"),
        ("portico.plane", "proxy"),
        ("portico.proxy.send", "v2"),
        ("portico.proxy.accept", "192.0.2.0/24, 2001:db8::1"),
        ("portico.proxy.transparent", "true"),
        ("portico.proxy.connect_timeout", "500ms"),
        ("portico.proxy.retries", "0"),
        ("portico.proxy.idle", "1h"),
        ("portico.proxy.drain", "30s"),
    ];
    for known in KNOWN {
        assert!(
            labels
                .iter()
                .any(|(label, _)| label.strip_prefix(PREFIX) == Some(known)),
            "{known} is not tried"
        );
    }
    let (settings, faults) = read(labels);
    assert_eq!(faults, []);
    assert_eq!(settings.ports.as_ref().unwrap().len(), 3);
    assert_eq!((settings.weight, settings.slots, settings.ttl), (2, 1024, 30));
    assert_eq!((settings.vips.len(), settings.aliases.len()), (2, 2));
    assert_eq!(settings.endpoint, Some(Endpoint::Dnsrr));
    let proxy = ProxyRules {
        plane: Plane::Proxy,
        algorithm: Algorithm::Hash,
        send: Some(ProxyVersion::V2),
        accept: ["192.0.2.0/24", "2001:db8::1/128"]
            .map(|net| net.parse().unwrap())
            .into(),
        transparent: true,
        connect_timeout: Duration::from_millis(500),
        retries: 0,
        idle: Some(Duration::from_secs(3600)),
        drain: Some(Duration::from_secs(30)),
    };
    assert_eq!(settings.proxy, proxy);
    let front = settings.front(&[], &[(9100, Protocol::Tcp), (7000, Protocol::Udp)]);
    assert_eq!(front.frontends.len(), 6);
    let names: Vec<_> = front
        .exposed
        .iter()
        .map(|port| (port.port, port.name.as_deref()))
        .collect();
    assert_eq!(
        names,
        [
            (80, Some("http")),
            (443, None),
            (53, None),
            (9100, Some("metrics")),
            (7000, None)
        ]
    );
    let health = settings.health(&front.exposed).unwrap().unwrap();
    assert_eq!((health.port, health.failures, health.successes), (8082, 2, 1));
    assert_eq!(health.interval, Duration::from_millis(500));
    assert_eq!(
        health.probe,
        Probe::Http {
            path: "/healthz".into()
        }
    );
}

#[rstest]
#[case(
    "portico.prots",
    "8080:80",
    "there is no such label",
    "did you mean portico.ports?"
)]
#[case(
    "Portico.Ports",
    "8080:80",
    "there is no such label",
    "did you mean portico.ports?"
)]
#[case(
    "portico.zzzzzzzzzzzz",
    "",
    "there is no such label",
    "remove it; known are portico.{affinity,"
)]
#[case("portico.ports", "8080:http", "`http` is not a port", "write PUBLISHED")]
#[case(
    "portico.expose",
    "8080:80",
    "`8080:80` is published, not exposed",
    "write PORT"
)]
#[case("portico.enable", "ture", "there is no such value", "did you mean `true`?")]
#[case(
    "portico.algorithm",
    "round-robin",
    "this algorithm is not available yet",
    "write hash"
)]
#[case(
    "portico.affinity",
    "cookie",
    "there is no such value",
    "known here: none, client-ip"
)]
#[case("portico.weight", "0", "not a number from 1 to 256", "write 1")]
#[case(
    "portico.slots",
    "1000",
    "not a power of two from 64 to 1048576",
    "write 1024"
)]
#[case("portico.vips", "10.254.0", "not an IP address", "write one like")]
#[case("portico.aliases", "-x", "it cannot be asked for as a name", "write letters")]
#[case("portico.endpoint", "vpi", "there is no such value", "did you mean `vip`?")]
#[case(
    "portico.ttl",
    "5",
    "not a time of whole seconds from 0s to 1h",
    "write a number"
)]
#[case("portico.health", "ping", "this is no health check", "write tcp")]
#[case(
    "portico.health",
    "http:healthz",
    "there is no port before the path",
    "write tcp"
)]
#[case(
    "portico.health",
    "http:80",
    "this is not the path of a request",
    "write one like"
)]
#[case(
    "portico.health.interval",
    "2s",
    "there is no health check that this could adjust",
    "add portico.health"
)]
#[case(
    "portico.plane",
    "kernel",
    "there is no such value",
    "known here: auto, ebpf, proxy"
)]
#[case(
    "portico.proxy.sned",
    "v2",
    "there is no such label",
    "did you mean portico.proxy.send?"
)]
#[case("portico.proxy.send", "v3", "there is no such value", "did you mean `v")]
#[case(
    "portico.proxy.accept",
    "192.0.2.1/24",
    "192.0.2.1/24 is not a range: it begins at 192.0.2.0/24",
    "write 192.0.2.0/24"
)]
#[case(
    "portico.proxy.transparent",
    "perhaps",
    "there is no such value",
    "known here: true"
)]
#[case(
    "portico.proxy.connect_timeout",
    "2m",
    "not a time from 10ms to 1m",
    "write a number"
)]
#[case("portico.proxy.retries", "-1", "not a number from 0 to 16", "write how many")]
#[case(
    "portico.proxy.idle",
    "1",
    "not a time from 0s, which means never, to 168h",
    "write a number"
)]
#[case("portico.proxy.drain", "soon", "not a time from 0s to 168h", "write a number")]
fn a_label_that_cannot_be_read_says_why_and_what_to_write(
    #[case] label: &str,
    #[case] value: &str,
    #[case] reason: &str,
    #[case] fix: &str,
) {
    let (settings, faults) = one(label, value);
    let [fault] = &faults[..] else {
        panic!("{faults:?}")
    };
    assert_eq!(
        (&*fault.label, &*fault.value, &*fault.reason),
        (label, value, reason)
    );
    assert!(fault.fix.starts_with(fix), "{}", fault.fix);
    let expected = Settings {
        ports: settings.ports.clone(),
        ..Settings::default()
    };
    assert_eq!(settings, expected);
    let note = fault.note("container web_1", Some("web".into()));
    assert_eq!(
        note.what,
        format!("container web_1: label {label}={value}: {reason}")
    );
}

#[test]
fn what_is_right_beside_a_mistake_is_in_force() {
    let (settings, faults) = one("portico.ports", "8080:80,0:1,9090:90");
    assert_eq!(faults.len(), 1);
    assert_eq!(settings.front(&[], &[]).frontends.len(), 2);
    let (settings, faults) = read([("portico.health", "tcp"), ("portico.health.timeout", "1m")]);
    assert_eq!(faults[0].reason, "longer than the interval");
    assert!(
        settings
            .health(&settings.front(&[], &[(80, Protocol::Tcp)]).exposed)
            .unwrap()
            .is_some()
    );
}

#[test]
fn a_plane_that_cannot_do_what_another_label_asks_for_is_not_in_force() {
    let (settings, faults) = read([("portico.plane", "ebpf"), ("portico.proxy.send", "v1")]);
    assert_eq!(
        (settings.proxy.plane, settings.proxy.send),
        (Plane::Auto, Some(ProxyVersion::V1))
    );
    let [fault] = &faults[..] else {
        panic!("{faults:?}")
    };
    assert_eq!(
        (&*fault.label, &*fault.reason),
        (
            "portico.plane",
            "tasks are sent the PROXY protocol, v1, which only the proxy does"
        )
    );
}

#[test]
fn a_check_without_a_port_to_probe_is_a_fault() {
    let (settings, _) = one("portico.health", "tcp");
    assert_eq!(
        settings.health(&[]).unwrap_err().reason,
        "the service has no TCP port to probe"
    );
}

#[test]
fn ports_of_labels_take_the_place_of_published_ones() {
    let published = [ports::Published {
        port: 8080,
        target_port: 80,
        protocol: Protocol::Tcp,
    }];
    let (plain, _) = read([]);
    assert_eq!(plain.front(&published, &[]).frontends[0].port, 8080);
    let (labelled, _) = one("portico.ports", "9090:90");
    let front = labelled.front(&published, &[]);
    assert_eq!(
        front.frontends.iter().map(|front| front.port).collect::<Vec<_>>(),
        [9090]
    );
    assert_eq!(
        front.exposed.iter().map(|port| port.port).collect::<Vec<_>>(),
        [90, 80]
    );
}

#[test]
fn labels_of_others_are_none_of_ours() {
    let (settings, faults) = read([
        ("com.docker.compose.project", "shop"),
        ("porticoports", "1"),
        ("portico.node", "n1"),
    ]);
    assert_eq!((settings, faults), (Settings::default(), vec![]));
}

proptest! {
    #[test]
    fn no_labels_make_it_panic(labels in prop::collection::vec(
        (prop_oneof![prop::sample::select(KNOWN.to_vec()).prop_map(|name| format!("portico.{name}")), ".{0,20}"],
         prop_oneof!["[0-9:=/a-z, -]{0,24}", "(tcp|http):?[0-9]{0,6}/?.{0,8}", ".{0,24}"]), 0..8))
    {
        let (settings, faults) = read(labels.iter().map(|(label, value)| (label.as_str(), value.as_str())));
        let front = settings.front(&[], &[]);
        let _ = settings.health(&front.exposed);
        for fault in faults {
            prop_assert!(!fault.fix.is_empty() && !fault.note("x", None).what.contains('\n'));
        }
    }
}
