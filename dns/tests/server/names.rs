//! The names of the mesh: every form, for whom, and what never leaves.

use std::net::{Ipv4Addr, UdpSocket};
use std::sync::atomic::Ordering;
use std::time::Duration;

use hickory_server::proto::op::{Message, ResponseCode};
use hickory_server::proto::rr::RecordType;

use crate::fixture::{INSIDER, config, entry, query_for, serve, serve_with};
use crate::tools::{dig, dnspython, have};
use crate::upstream::{Upstream, a};

#[test]
fn every_form_leads_there() {
    if !have("every_form_leads_there", &["dig"]) {
        return;
    }
    let server = serve();
    let vip: &[&str] = &["10.254.0.1"];
    let tasks: &[&str] = &["172.18.0.2", "172.18.0.3", "172.18.0.4"];
    for (name, data) in [
        ("web", vip),
        ("WEB.", vip),
        ("www", vip),
        ("web.front", vip),
        ("web.shop", vip),
        ("web.portico.internal", vip),
        ("web.front.portico.internal", vip),
        ("web.corp.example", vip),
        ("web.front.corp.example", vip),
        ("tasks.web", tasks),
        ("tasks.web.portico.internal", tasks),
        ("web.1", &["172.18.0.2"]),
        ("web.1.portico.internal", &["172.18.0.2"]),
        ("db", &["172.18.1.1", "172.18.1.2"]),
        ("web.shop.svc.cluster.local", &["10.96.0.7"]),
        ("db-0.db.shop.svc.cluster.local", &["10.96.1.1"]),
        ("ns.dns.portico.internal", &["127.0.0.1"]),
        ("ns.dns.cluster.local", &["127.0.0.1"]),
    ] {
        assert_eq!(dig(&server, &[name]).data(), data, "{name}");
    }
    assert_eq!(dig(&server, &["web", "AAAA"]).data(), ["fdfe:706f:7274::1"]);
    assert_eq!(
        dig(&server, &["dns-version.cluster.local", "TXT"]).data(),
        ["\"1.1.0\""]
    );
}

#[test]
fn a_zone_says_who_serves_it() {
    if !have("a_zone_says_who_serves_it", &["dig"]) {
        return;
    }
    let server = serve();
    let seen = dig(&server, &["portico.internal", "NS"]);
    assert_eq!(seen.data(), ["ns.dns.portico.internal."]);
    assert!(
        seen.additional.iter().any(|line| line.ends_with("127.0.0.1")),
        "{}",
        seen.text
    );
    let serial = |server| {
        let seen = dig(server, &["portico.internal", "SOA"]);
        let fields: Vec<_> = seen.answer[0].split_whitespace().map(str::to_owned).collect();
        assert_eq!(
            fields[4..6],
            ["ns.dns.portico.internal.", "hostmaster.portico.internal."]
        );
        fields[6].parse::<u32>().unwrap()
    };
    let before = serial(&server);
    server.mesh.remove("www");
    assert_eq!(serial(&server), before + 1);
}

#[test]
fn rfc2782_ports_are_found_by_name_and_bring_their_addresses() {
    if !have("rfc2782", &["dig", "/usr/bin/python3"]) {
        return;
    }
    let server = serve();
    for (name, target) in [
        ("_http._tcp.web", "0 10 80 web.portico.internal."),
        ("_HTTP._TCP.web.portico.internal", "0 10 80 web.portico.internal."),
        ("_http._tcp.web.corp.example", "0 10 80 web.portico.internal."),
        (
            "_https._tcp.web.shop.svc.cluster.local",
            "0 10 443 web.shop.svc.cluster.local.",
        ),
    ] {
        let seen = dig(&server, &[name, "SRV"]);
        assert_eq!(seen.answer.len(), 1, "{}", seen.text);
        assert!(seen.answer[0].ends_with(target), "{}", seen.text);
        assert_eq!(seen.additional.len(), 1, "{}", seen.text);
    }
    let seen = dig(&server, &["_pg._tcp.db", "SRV"]);
    assert_eq!(seen.data(), ["db.1.portico.internal.", "db.2.portico.internal."]);
    // Where there is no such port, or another protocol's.
    assert_eq!(
        dig(&server, &["_ftp._tcp.web.portico.internal", "SRV"]).status,
        "NXDOMAIN"
    );
    assert_eq!(dig(&server, &["_http._udp.web", "SRV"]).status, "NXDOMAIN");
    let seen = dnspython(
        server.address,
        "for r in ask('_pg._tcp.db', 'SRV').answer[0]: assert (r.priority, r.weight, r.port) == (0, 10, 5432), r\n\
         print('good')",
    );
    assert_eq!(seen, "good\n");
}

#[test]
fn a_change_is_seen_by_the_next_query() {
    let server = serve();
    let query = query_for("tasks.web.", RecordType::A);
    for count in [5, 1, 0, 2] {
        let addresses: Vec<_> = (0..count).map(|last| [172, 18, 9, last]).collect();
        server.mesh.set("tasks:web", entry(&addresses, &[]));
        let answer = server.ask(&query);
        assert_eq!(answer.answers.len(), usize::from(count));
        // Empty rather than stale: the name is still there.
        assert_eq!(u16::from(answer.metadata.response_code), 0);
    }
}

/// Asks from an address of the loopback network.
fn ask_from(server: &crate::fixture::Served, address: Ipv4Addr, query: &Message) -> Message {
    let socket = UdpSocket::bind((address, 0)).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    socket.send_to(&query.to_vec().unwrap(), server.address).unwrap();
    let mut buffer = [0; 4096];
    let length = socket.recv(&mut buffer).unwrap();
    Message::from_vec(&buffer[..length]).unwrap()
}

#[test]
fn a_name_is_answered_only_to_those_who_may_see_it() {
    let upstream = Upstream::start(|query| Some(a(query, 60, 1)));
    let server = upstream.serve(config());
    let std::net::IpAddr::V4(insider) = INSIDER else {
        unreachable!()
    };
    for name in ["hidden.", "hidden.portico.internal.", "hidden.corp.example."] {
        let query = query_for(name, RecordType::A);
        let inside = ask_from(&server, insider, &query);
        assert_eq!(inside.answers[0].data.to_string(), "10.254.0.99", "{name}");
        let outside = ask_from(&server, Ipv4Addr::LOCALHOST, &query);
        assert_eq!(u16::from(outside.metadata.response_code), 3, "{name}");
    }
    assert_eq!(upstream.all_asked(), Vec::<String>::new());
}

#[test]
fn what_the_mesh_owns_never_reaches_an_upstream() {
    let upstream = Upstream::start(|query| Some(a(query, 60, 66)));
    let server = upstream.serve(config());
    for name in [
        "web.",
        "gone.",
        "web.corp.example.",
        "_http._tcp.web.corp.example.",
        "_ftp._tcp.web.",
        "nothing.portico.internal.",
        "a.nothing.portico.internal.",
        "portico.internal.",
        "nothing.svc.cluster.local.",
        "unknown.",
        "nothing.portico.internal.corp.example.",
        "portico.internal.corp.example.",
        "77.0.254.10.in-addr.arpa.",
    ] {
        for kind in [
            RecordType::A,
            RecordType::AAAA,
            RecordType::MX,
            RecordType::TXT,
            RecordType::HTTPS,
        ] {
            let answer = server.ask(&query_for(name, kind));
            let foreign = answer
                .answers
                .iter()
                .any(|record| record.data.to_string() == "192.0.2.66");
            assert!(!foreign, "{name} {kind}");
        }
    }
    assert_eq!(upstream.all_asked(), Vec::<String>::new());
    // What is below a search domain and not ours is somebody else's, and so is everything about top-level domains.
    server.ask(&query_for("mail.corp.example.", RecordType::A));
    server.ask(&query_for("com.", RecordType::DS));
    let mut asked = upstream.all_asked();
    asked.sort();
    assert_eq!(asked, ["com.", "mail.corp.example."]);
}

#[test]
fn before_the_directory_knows_its_names_nothing_is_denied() {
    let upstream = Upstream::start(|query| Some(a(query, 60, 1)));
    let mut config = config();
    config.forward.upstreams = vec![upstream.address];
    let server = serve_with(config);
    server.mesh.ready.store(false, Ordering::Relaxed);
    let code = |name: &str| server.ask(&query_for(name, RecordType::A)).metadata.response_code;
    let ours = [
        "later",
        "later.portico.internal",
        "later.shop.svc.cluster.local",
        "later.shop.svc",
        "later.corp.example",
        "tasks.later",
        "_http._tcp.later.1",
        "9.9.18.172.in-addr.arpa",
        "9.0.64.100.in-addr.arpa",
    ];
    for ours in ours {
        assert_eq!(code(ours), ResponseCode::ServFail, "{ours}");
    }
    for other in ["www.example.com", "9.100.51.198.in-addr.arpa"] {
        assert_eq!(code(other), ResponseCode::NoError, "{other}");
    }
    assert_eq!(server.count("unready"), ours.len() as u64);
    server.mesh.ready.store(true, Ordering::Relaxed);
    assert_eq!(code("later"), ResponseCode::NXDomain);
}
