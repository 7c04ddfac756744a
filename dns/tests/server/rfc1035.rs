//! RFC 1035, and RFC 4343 on letter case.

use hickory_server::proto::op::Message;
use hickory_server::proto::rr::RecordType;

use crate::fixture::{query_for, serve};
use crate::tools::{dig, dnspython, drill, have, kdig};

#[test]
fn rfc1035_3_2_2_addresses_as_dig_kdig_and_drill_see_them() {
    if !have("rfc1035_3_2_2", &["dig", "kdig", "drill"]) {
        return;
    }
    let server = serve();
    for seen in [
        dig(&server, &["web.portico.internal", "A"]),
        kdig(&server, &["web.portico.internal", "A"]),
        drill(&server, &["web.portico.internal", "A"]),
    ] {
        assert_eq!(seen.status, "NOERROR", "{}", seen.text);
        assert!(
            seen.has("aa") && seen.has("qr") && seen.has("rd"),
            "{}",
            seen.text
        );
        assert_eq!(seen.data(), ["10.254.0.1"], "{}", seen.text);
        let fields: Vec<_> = seen.answer[0].split_whitespace().collect();
        assert_eq!(
            fields[..4],
            ["web.portico.internal.", "5", "IN", "A"],
            "{}",
            seen.text
        );
    }
}

#[test]
fn rfc1035_3_5_names_of_addresses() {
    if !have("rfc1035_3_5", &["dig"]) {
        return;
    }
    let server = serve();
    for address in ["10.254.0.1", "fdfe:706f:7274::1"] {
        let seen = dig(&server, &["-x", address]);
        assert_eq!(seen.data(), ["web.portico.internal."], "{}", seen.text);
    }
    // One of ours without a name, and one that means something only here.
    assert_eq!(dig(&server, &["-x", "10.254.0.77"]).status, "NXDOMAIN");
    assert_eq!(dig(&server, &["-x", "127.0.0.1"]).data(), ["localhost."]);
    assert_eq!(dig(&server, &["-x", "169.254.7.7"]).status, "NXDOMAIN");
}

#[test]
fn rfc1035_4_1_1_what_is_no_query_is_not_answered() {
    let server = serve();
    let query = query_for("web.portico.internal.", RecordType::A)
        .to_vec()
        .unwrap();
    for length in 0..12 {
        assert_eq!(server.raw(&query[..length]), None, "{length} bytes");
    }
    let mut response = query;
    response[2] |= 0x80;
    assert_eq!(server.raw(&response), None, "an answer to an answer is a loop");
    assert_eq!(server.count("dropped"), 13);
}

#[test]
fn rfc1035_4_1_1_other_operations_are_not_implemented() {
    if !have("rfc1035_4_1_1", &["dig"]) {
        return;
    }
    let server = serve();
    for opcode in ["IQUERY", "STATUS", "NOTIFY", "UPDATE", "7"] {
        let seen = dig(&server, &[&format!("+opcode={opcode}"), "web.portico.internal"]);
        assert_eq!(seen.status, "NOTIMP", "{}", seen.text);
    }
}

#[test]
fn rfc1035_4_1_1_what_cannot_be_read_is_a_format_error() {
    let server = serve();
    let good = query_for("web.portico.internal.", RecordType::A)
        .to_vec()
        .unwrap();
    let with = |change: fn(&mut Vec<u8>)| {
        let mut bytes = good.clone();
        change(&mut bytes);
        bytes
    };
    for (what, bytes) in [
        ("a count without its records", with(|bytes| bytes[11] = 3)),
        ("no question", with(|bytes| bytes[5] = 0)),
        ("two questions", with(|bytes| bytes[5] = 2)),
        ("65535 questions", with(|bytes| bytes[4..6].fill(0xff))),
        ("a question cut short", with(|bytes| bytes.truncate(20))),
        (
            "a name that points to itself",
            with(|bytes| bytes[12..14].copy_from_slice(&[0xc0, 12])),
        ),
        ("a label of no known kind", with(|bytes| bytes[12] = 0x83)),
    ] {
        let answer = server.raw(&bytes).unwrap_or_else(|| panic!("{what}: no answer"));
        let answer = Message::from_vec(&answer).unwrap();
        assert_eq!(u16::from(answer.metadata.response_code), 1, "{what}");
        assert_eq!(answer.metadata.id.to_be_bytes(), good[..2], "{what}");
    }
}

#[test]
fn rfc1035_4_1_1_nothing_is_transferred_and_other_classes_are_refused() {
    if !have("rfc1035_4_1_1", &["dig"]) {
        return;
    }
    let server = serve();
    assert_eq!(
        dig(&server, &["+noidnin", "CH", "TXT", "version.bind"]).status,
        "REFUSED"
    );
    assert_eq!(dig(&server, &["CH", "TXT", "id.server"]).status, "REFUSED");
    assert_eq!(
        dig(&server, &["HS", "A", "web.portico.internal"]).status,
        "REFUSED"
    );
    let seen = dig(&server, &["+tcp", "AXFR", "portico.internal"]);
    assert!(seen.text.contains("Transfer failed"), "{}", seen.text);
}

#[test]
fn rfc1035_4_2_1_without_edns_an_answer_has_512_bytes_at_most_and_says_that_it_was_cut() {
    if !have("rfc1035_4_2_1", &["dig"]) {
        return;
    }
    let server = serve();
    let seen = dig(&server, &["+noedns", "+ignore", "many.portico.internal"]);
    assert!(seen.has("tc"), "{}", seen.text);
    // Whole records of 16 bytes with a compressed owner, after header and question; the encoder needs room for the whole
    // name before it finds that it is compressed.
    let most = (512 - 12 - 27) / 16;
    assert!((most - 2..=most).contains(&seen.answer.len()), "{}", seen.text);
}

#[test]
fn rfc1035_4_2_2_what_was_cut_comes_whole_over_tcp() {
    if !have("rfc1035_4_2_2", &["dig", "kdig", "drill"]) {
        return;
    }
    let server = serve();
    for seen in [
        dig(&server, &["+noedns", "many.portico.internal"]),
        kdig(&server, &["+noedns", "many.portico.internal"]),
        drill(&server, &["-t", "many.portico.internal"]),
    ] {
        assert!(!seen.has("tc"), "{}", seen.text);
        assert_eq!(seen.answer.len(), 100, "{}", seen.text);
    }
    assert!(server.count("received_tcp") >= 3);
}

#[test]
fn rfc1035_7_3_addresses_come_in_any_order_and_all_of_them() {
    let server = serve();
    let mut first = std::collections::HashSet::new();
    for _ in 0..200 {
        let answer = server.ask(&query_for("tasks.web.portico.internal.", RecordType::A));
        assert_eq!(answer.answers.len(), 3);
        first.insert(answer.answers[0].data.to_string());
    }
    assert_eq!(first.len(), 3);
}

#[test]
fn rfc4343_4_1_case_is_kept_and_means_nothing() {
    if !have("rfc4343_4_1", &["/usr/bin/python3"]) {
        return;
    }
    let server = serve();
    let seen = dnspython(
        server.address,
        "name = 'wEb.POrtico.iNTERnal.'\n\
         answer = ask(name)\n\
         print(answer.question[0].name, answer.answer[0].name, answer.answer[0][0])\n\
         print(ask('wEB').question[0].name)\n\
         print(ask('NoThing.Portico.Internal').question[0].name)",
    );
    assert_eq!(
        seen,
        "wEb.POrtico.iNTERnal. wEb.POrtico.iNTERnal. 10.254.0.1\nwEB.\nNoThing.Portico.Internal.\n"
    );
}
