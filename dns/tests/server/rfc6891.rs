//! RFC 6891: EDNS(0).

use crate::fixture::{query_for, serve, with_edns};
use crate::tools::{dig, dnspython, have, kdig};
use hickory_server::proto::rr::RecordType;

#[test]
fn rfc6891_6_1_1_opt_is_answered_with_opt_and_only_then() {
    if !have("rfc6891_6_1_1", &["dig", "kdig"]) {
        return;
    }
    let server = serve();
    for name in [
        "web.portico.internal",
        "nothing.portico.internal",
        "example.com",
        "many.portico.internal",
    ] {
        let with = dig(&server, &["+edns=0", "+ignore", name]);
        assert!(
            with.text.contains("EDNS: version: 0, flags:; udp: 1232"),
            "{}",
            with.text
        );
        let without = dig(&server, &["+noedns", "+ignore", name]);
        assert!(!without.text.contains("EDNS:"), "{}", without.text);
    }
    let seen = kdig(&server, &["+edns=0", "web.portico.internal"]);
    assert!(
        seen.text.contains("Version: 0; flags: ; UDP size: 1232 B"),
        "{}",
        seen.text
    );
}

#[test]
fn rfc6891_6_1_1_two_opt_records_are_a_format_error() {
    let server = serve();
    let mut bytes = with_edns(query_for("web.portico.internal.", RecordType::A), 1232)
        .to_vec()
        .unwrap();
    let opt = bytes[bytes.len() - 11..].to_vec();
    bytes.extend_from_slice(&opt);
    bytes[11] = 2;
    assert_eq!(server.raw(&bytes).unwrap()[3] & 0x0f, 1);
}

#[test]
fn rfc6891_6_1_2_unknown_options_and_flags_are_ignored() {
    if !have("rfc6891_6_1_2", &["dig"]) {
        return;
    }
    let server = serve();
    let seen = dig(
        &server,
        &[
            "+ednsopt=65001:c0ffee",
            "+ednsflags=0x7f",
            "+nsid",
            "+subnet=192.0.2.0/24",
            "web.portico.internal",
        ],
    );
    assert_eq!(
        (seen.status.as_str(), seen.data()),
        ("NOERROR", vec!["10.254.0.1"]),
        "{}",
        seen.text
    );
    assert!(
        !seen.text.contains("OPT=") && seen.text.contains("flags:; udp"),
        "{}",
        seen.text
    );
}

#[test]
fn rfc6891_6_1_3_a_version_we_do_not_speak_is_badvers_with_ours() {
    if !have("rfc6891_6_1_3", &["dig"]) {
        return;
    }
    let server = serve();
    let seen = dig(
        &server,
        &["+edns=1", "+noednsnegotiation", "web.portico.internal"],
    );
    assert_eq!(seen.status, "BADVERS", "{}", seen.text);
    assert!(
        seen.text.contains("EDNS: version: 0") && seen.answer.is_empty(),
        "{}",
        seen.text
    );
    // And dig, which is told, asks again as we understand.
    assert_eq!(
        dig(&server, &["+edns=1", "web.portico.internal"]).status,
        "NOERROR"
    );
}

#[test]
fn rfc6891_6_1_4_the_do_bit_comes_back() {
    if !have("rfc6891_6_1_4", &["dig"]) {
        return;
    }
    let server = serve();
    let seen = dig(&server, &["+dnssec", "web.portico.internal"]);
    assert!(seen.text.contains("flags: do; udp: 1232"), "{}", seen.text);
}

#[test]
fn rfc6891_6_2_3_an_answer_is_no_larger_than_the_client_says_nor_than_a_path_takes() {
    let server = serve();
    for (says, most) in [
        (0, 512),
        (511, 512),
        (512, 512),
        (700, 700),
        (1232, 1232),
        (4096, 1232),
        (65535, 1232),
    ] {
        let query = with_edns(query_for("many.portico.internal.", RecordType::A), 512);
        let mut bytes = query.to_vec().unwrap();
        let at = bytes.len() - 8;
        bytes[at..at + 2].copy_from_slice(&u16::to_be_bytes(says));
        let answer = server.raw(&bytes).unwrap();
        assert!(answer.len() <= most, "{says}: {}", answer.len());
        // No two records more would have fitted.
        assert!(answer.len() + 2 * 16 + 11 > most, "{says}: {}", answer.len());
        assert_ne!(answer[2] & 2, 0, "truncated");
        assert_eq!(
            answer[answer.len() - 10..answer.len() - 8],
            [0, 41],
            "OPT is never cut off"
        );
    }
}

#[test]
fn rfc6891_7_dnspython_agrees() {
    if !have("rfc6891_7", &["/usr/bin/python3"]) {
        return;
    }
    let server = serve();
    let seen = dnspython(
        server.address,
        "a = ask('web.portico.internal', use_edns=0, payload=1400)\n\
         print(a.edns, a.payload, a.ednsflags, len(a.options))\n\
         a = ask('web.portico.internal', use_edns=False)\n\
         print(a.edns)",
    );
    assert_eq!(seen, "0 1232 0 0\n-1\n");
}
