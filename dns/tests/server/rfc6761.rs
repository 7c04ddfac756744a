//! RFC 6761 and its registry: names that are nobody else's business.

use crate::fixture::{config, query_for, serve};
use crate::tools::{dig, have};
use crate::upstream::{Upstream, a};
use hickory_server::proto::rr::RecordType;

#[test]
fn rfc6761_6_3_localhost_is_here() {
    if !have("rfc6761_6_3", &["dig"]) {
        return;
    }
    let server = serve();
    assert_eq!(dig(&server, &["localhost"]).data(), ["127.0.0.1"]);
    assert_eq!(dig(&server, &["web.localhost", "AAAA"]).data(), ["::1"]);
    assert_eq!(dig(&server, &["localhost", "MX"]).status, "NOERROR");
}

#[test]
fn rfc6761_6_4_special_names_reach_no_upstream() {
    let upstream = Upstream::start(|query| Some(a(query, 60, 1)));
    let server = upstream.serve(config());
    for name in [
        "x.invalid.",
        "x.test.",
        "printer.local.",
        "x.onion.",
        "x.alt.",
        "localhost.",
        "_dns.resolver.arpa.",
    ] {
        let answer = server.ask(&query_for(name, RecordType::AAAA));
        let code = u16::from(answer.metadata.response_code);
        let expected = if name.starts_with("localhost") || name.starts_with('_') {
            0
        } else {
            3
        };
        assert_eq!(code, expected, "{name}");
    }
    assert_eq!(upstream.all_asked(), Vec::<String>::new());
    // Those that a site's own resolver may know.
    for name in ["nas.home.arpa.", "intra.internal."] {
        assert_eq!(
            server.ask(&query_for(name, RecordType::A)).answers.len(),
            1,
            "{name}"
        );
    }
}

#[test]
fn rfc6761_6_4_an_upstream_of_its_own_comes_before_what_is_special() {
    let upstream = Upstream::start(|query| Some(a(query, 60, 1)));
    let mut config = config();
    config.forward.domains = vec![("corp.local".into(), vec![upstream.address])];
    let server = crate::fixture::serve_with(config);
    assert_eq!(
        server
            .ask(&query_for("dc1.corp.local.", RecordType::A))
            .answers
            .len(),
        1
    );
    assert_eq!(
        u16::from(
            server
                .ask(&query_for("printer.local.", RecordType::A))
                .metadata
                .response_code
        ),
        3
    );
}
