//! RFC 2308: negative answers.

use std::time::Duration;

use hickory_server::proto::rr::RecordType;

use crate::fixture::{config, entry, query_for, serve, serve_with};
use crate::tools::{dig, have};
use crate::upstream::{Upstream, a, nxdomain};

fn soa(authority: &[String]) -> Vec<&str> {
    assert_eq!(authority.len(), 1, "{authority:?}");
    authority[0].split_whitespace().collect()
}

#[test]
fn rfc2308_2_1_a_name_that_is_not_there_is_denied_with_the_soa() {
    if !have("rfc2308_2_1", &["dig"]) {
        return;
    }
    let server = serve();
    for name in [
        "nothing.portico.internal",
        "_http._udp.web.portico.internal",
        "a.b.c.portico.internal",
    ] {
        let seen = dig(&server, &[name]);
        assert_eq!(seen.status, "NXDOMAIN", "{}", seen.text);
        assert!(seen.has("aa"));
        assert_eq!(soa(&seen.authority)[0], "portico.internal.");
    }
}

#[test]
fn rfc2308_2_2_a_type_that_is_not_there_is_an_empty_answer_with_the_soa() {
    if !have("rfc2308_2_2", &["dig"]) {
        return;
    }
    let server = serve();
    for (name, kind) in [
        ("web.portico.internal", "MX"),
        ("api.portico.internal", "AAAA"),
        ("gone.portico.internal", "A"),
        ("_http._tcp.web.portico.internal", "A"),
        ("portico.internal", "A"),
    ] {
        server.mesh.set("api", entry(&[[10, 254, 0, 2]], &[]));
        let seen = dig(&server, &[name, kind]);
        assert_eq!(seen.status, "NOERROR", "{}", seen.text);
        assert!(seen.answer.is_empty(), "{}", seen.text);
        assert_eq!(soa(&seen.authority)[0], "portico.internal.", "{}", seen.text);
    }
    // A bare name is a zone of its own.
    let seen = dig(&server, &["api", "AAAA"]);
    assert_eq!(
        (seen.status.as_str(), soa(&seen.authority)[0]),
        ("NOERROR", "api.")
    );
}

#[test]
fn rfc2308_3_the_soas_own_ttl_is_its_minimum() {
    if !have("rfc2308_3", &["dig"]) {
        return;
    }
    let server = serve_with(dns::Config {
        negative_ttl: 7,
        ..config()
    });
    let seen = dig(&server, &["nothing.portico.internal"]);
    let fields = soa(&seen.authority);
    assert_eq!((fields[1], fields[10]), ("7", "7"), "{}", seen.text);
}

#[test]
fn rfc2308_5_a_denial_of_an_upstream_is_remembered_for_the_soas_time() {
    let upstream = Upstream::start(|query| Some(nxdomain(query, 1, 600)));
    let server = upstream.serve(config());
    let query = query_for("nothing.example.", RecordType::A);
    for _ in 0..3 {
        let answer = server.ask(&query);
        assert_eq!(u16::from(answer.metadata.response_code), 3);
        assert_eq!(answer.authorities.len(), 1);
        assert!(answer.authorities[0].ttl <= 1);
    }
    assert_eq!(upstream.asked("nothing.example."), 1);
    // The SOA's TTL is one second, its minimum ten minutes: the smaller holds.
    let start = std::time::Instant::now();
    crate::fixture::eventually("asked again", || {
        server.ask(&query);
        upstream.asked("nothing.example.") == 2
    });
    assert!(start.elapsed() < Duration::from_secs(10));
}

#[test]
fn rfc2308_5_a_denial_without_soa_is_not_remembered() {
    let upstream = Upstream::start(|query| {
        let mut answer = nxdomain(query, 60, 60);
        answer.authorities.clear();
        Some(answer)
    });
    let server = upstream.serve(config());
    for _ in 0..3 {
        server.ask(&query_for("nothing.example.", RecordType::A));
    }
    assert_eq!(upstream.asked("nothing.example."), 3);
}

#[test]
fn rfc2308_6_remembered_answers_grow_old() {
    let upstream = Upstream::start(|query| Some(a(query, 100, 1)));
    let server = upstream.serve(config());
    let query = query_for("www.example.", RecordType::A);
    assert_eq!(server.ask(&query).answers[0].ttl, 100);
    crate::fixture::eventually("a smaller TTL", || server.ask(&query).answers[0].ttl < 100);
    assert_eq!(upstream.asked("www.example."), 1);
}

#[test]
fn rfc2308_7_1_a_failure_is_not_asked_again_at_once() {
    let upstream = Upstream::start(|query| {
        let mut answer = nxdomain(query, 60, 60);
        answer.authorities.clear();
        answer.metadata.response_code = hickory_server::proto::op::ResponseCode::ServFail;
        Some(answer)
    });
    let server = upstream.serve(config());
    let query = query_for("www.example.", RecordType::A);
    assert_eq!(u16::from(server.ask(&query).metadata.response_code), 2);
    let asked = upstream.asked("www.example.");
    assert_eq!(u16::from(server.ask(&query).metadata.response_code), 2);
    assert_eq!(upstream.asked("www.example."), asked);
}
