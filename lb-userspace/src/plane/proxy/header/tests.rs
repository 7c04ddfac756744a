mod binary;
mod foreign;
mod relay;
mod text;

use std::net::SocketAddr;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use rstest::rstest;

use super::*;

fn whole(bytes: &[u8]) -> (Header<'_>, usize) {
    match parse(bytes) {
        Ok(Parsed::Whole { header, length }) => (header, length),
        other => panic!("{} is {other:?}", bytes.escape_ascii()),
    }
}

#[track_caller]
fn refused(bytes: &[u8], at: usize, wrong: Wrong) {
    assert_eq!(parse(bytes), Err(Fault { at, wrong }), "{}", bytes.escape_ascii());
}

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// Of any kind, IPv4 written as IPv6 among them.
fn any_address() -> impl Strategy<Value = SocketAddr> {
    let mapped = any::<Ipv4Addr>().prop_map(|v4| v4.to_ipv6_mapped().into());
    let ip = prop_oneof![any::<IpAddr>(), mapped];
    (ip, any::<u16>()).prop_map(SocketAddr::from)
}

fn any_transport() -> impl Strategy<Value = Transport> {
    select(vec![Transport::Stream, Transport::Datagram])
}

/// A row of TLVs in bytes.
fn row(tlvs: &[(u8, Vec<u8>)]) -> Vec<u8> {
    let mut row = Vec::new();
    for (kind, value) in tlvs {
        row.push(*kind);
        row.extend((value.len() as u16).to_be_bytes());
        row.extend(value);
    }
    row
}

/// Of types without a length of their own.
fn any_row() -> impl Strategy<Value = Vec<(u8, Vec<u8>)>> {
    let kind = select(vec![0x01, 0x02, 0x04, 0x20, 0x30, 0xe0, 0xea, 0xff]);
    vec((kind, vec(any::<u8>(), 0..40)), 0..6)
}

/// A header of either version that somebody could send.
fn any_header() -> impl Strategy<Value = Vec<u8>> {
    let binary = (any_transport(), any_address(), any_address(), any_row());
    prop_oneof![
        (any_address(), any_address()).prop_map(|(source, destination)| {
            let mut header = Vec::new();
            write_v1(source, destination, &mut header);
            header
        }),
        binary.prop_map(|(transport, source, destination, tlvs)| {
            let (mut header, row) = (Vec::new(), row(&tlvs));
            let tlvs = Tlvs::within(&row, 0).unwrap();
            let plain = Header::proxied(transport, source, destination);
            write_v2(&Header { tlvs, ..plain }, &mut header);
            header
        }),
    ]
}

proptest! {
    #[test]
    fn a_header_that_arrives_in_pieces_is_waited_for(header in any_header(), behind in vec(any::<u8>(), 0..20)) {
        for length in 0..header.len() {
            prop_assert_eq!(parse(&header[..length]), Ok(Parsed::More), "{}", length);
        }
        let (read, length) = whole(&header);
        prop_assert_eq!(length, header.len());
        let bytes = [&header[..], &behind].concat();
        prop_assert_eq!(whole(&bytes), (read, length), "what is behind is the client's");
    }

    #[test]
    fn what_is_neither_a_header_nor_refused_is_short(
        mut bytes in any_header(),
        changes in vec((any::<Index>(), any::<u8>()), 1..4),
        behind in any::<u8>(),
    ) {
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        bytes.extend([behind; LONGEST]);
        match parse(&bytes) {
            Ok(Parsed::More) => prop_assert!(false, "waits for more than {} bytes", bytes.len()),
            Ok(Parsed::Whole { length, .. }) => prop_assert!(length <= LONGEST),
            Err(fault) => prop_assert!(fault.at <= LONGEST),
        }
    }

    #[test]
    fn no_bytes_make_the_reader_panic(bytes in vec(any::<u8>(), 0..300), version in 0..3_usize) {
        let beginning = [&b""[..], v1::PREFIX, &v2::SIGNATURE][version];
        let _ = parse(&[beginning, &bytes].concat());
    }
}

#[rstest]
#[case::http(b"GET / HTTP/1.1\r\n", 0)]
#[case::tls(b"\x16\x03\x01\x02\x00", 0)]
#[case::lower_case(b"proxy tcp4", 0)]
#[case::no_space(b"PROXY\tTCP4", 5)]
#[case::line_too_soon(b"PROXY\r\n", 5)]
#[case::blank_lines(b"\r\n\r\nGET", 4)]
#[case::signature(b"\r\n\r\n\0\r\nQUIZ\n", 10)]
fn what_is_not_the_protocol_is_refused_at_its_first_byte(#[case] bytes: &[u8], #[case] at: usize) {
    refused(bytes, at, Wrong::Beginning);
    refused(&bytes[..=at], at, Wrong::Beginning);
    assert_eq!(parse(&bytes[..at]), Ok(Parsed::More));
}

#[test]
fn a_fault_says_what_is_wrong_and_where() {
    let fault = |bytes: &[u8]| parse(bytes).unwrap_err().to_string();
    assert_eq!(
        fault(b"PROXY TCP4 192.0.2.1 192.0.2.256 1 2\r\n"),
        "PROXY header, byte 21: not an IPv4 address"
    );
    let long = [&v2::SIGNATURE[..], &[0x21, 0x11, 0x10, 0x01]].concat();
    assert_eq!(
        fault(&long),
        "PROXY header, byte 14: 4097 bytes follow; the whole may have 4112"
    );
    let row = [0x05, 0, 129];
    let tlv = [
        &v2::SIGNATURE[..],
        &[0x21, 0x11, 0, 144],
        &[0; 12],
        &row,
        &[0; 129],
    ];
    assert_eq!(
        fault(&tlv.concat()),
        "PROXY header, byte 28: a TLV of type 0x05 with 129 bytes"
    );
}
