//! Version 2: section 2.2 of the specification.

use super::*;

/// A header with these bytes 13 and 14, the length of what follows, and that.
fn header(version_and_command: u8, kinds: u8, rest: &[u8]) -> Vec<u8> {
    let length = (rest.len() as u16).to_be_bytes();
    [&v2::SIGNATURE[..], &[version_and_command, kinds], &length, rest].concat()
}

/// The types and values behind the addresses.
fn told(header: &Header<'_>) -> Vec<(u8, Vec<u8>)> {
    let tlvs = header.tlvs.iter();
    tlvs.map(|tlv| (tlv.kind, tlv.value.to_vec())).collect()
}

const V4: [u8; 12] = [192, 0, 2, 1, 192, 0, 2, 80, 0xdc, 0x04, 0x01, 0xbb];

fn v6() -> Vec<u8> {
    let address = |last: u8| [&[0x20, 0x01, 0x0d, 0xb8][..], &[0; 11], &[last]].concat();
    [&address(1)[..], &address(0x80), &[0xdc, 0x04, 0x01, 0xbb]].concat()
}

#[rstest]
#[case(0x11, Transport::Stream)]
#[case(0x12, Transport::Datagram)]
fn ipv4_is_read(#[case] kinds: u8, #[case] transport: Transport) {
    let bytes = header(0x21, kinds, &V4);
    let (header, length) = whole(&bytes);
    assert_eq!(length, 28);
    assert_eq!(
        header,
        Header::proxied(transport, address("192.0.2.1:56324"), address("192.0.2.80:443"))
    );
}

#[rstest]
#[case(0x21, Transport::Stream)]
#[case(0x22, Transport::Datagram)]
fn ipv6_is_read(#[case] kinds: u8, #[case] transport: Transport) {
    let bytes = header(0x21, kinds, &v6());
    let (header, length) = whole(&bytes);
    assert_eq!(length, 52);
    let (source, destination) = (address("[2001:db8::1]:56324"), address("[2001:db8::80]:443"));
    assert_eq!(header, Header::proxied(transport, source, destination));
}

#[test]
fn ipv4_written_as_ipv6_is_ipv4() {
    let mapped = |last: u8| [&[0; 10][..], &[0xff, 0xff, 192, 0, 2, last]].concat();
    let bytes = header(0x21, 0x21, &[&mapped(1)[..], &mapped(80), &[0, 1, 0, 2]].concat());
    let (header, _) = whole(&bytes);
    assert_eq!(header.source, Some(address("192.0.2.1:1")));
    assert_eq!(header.destination, Some(address("192.0.2.80:2")));
}

#[rstest]
#[case::stream(0x31, Transport::Stream)]
#[case::datagram(0x32, Transport::Datagram)]
fn of_unix_sockets_there_is_no_address(#[case] kinds: u8, #[case] transport: Transport) {
    let bytes = header(0x21, kinds, &[&[b'/'; 216][..], &[0x02, 0, 3], b"web"].concat());
    let (header, length) = whole(&bytes);
    assert_eq!(length, bytes.len());
    assert_eq!((header.source, header.destination), (None, None));
    assert_eq!(header.transport, transport);
    assert_eq!(told(&header), [(2, b"web".to_vec())]);
}

/// The family of no addresses, with whatever behind it.
#[rstest]
#[case(0x00, &[])]
#[case(0x00, &V4)]
#[case(0x01, b"this is no row of TLVs")]
#[case(0x02, &[0xff; 300])]
fn without_a_family_nothing_else_is_looked_at(#[case] kinds: u8, #[case] rest: &[u8]) {
    let bytes = header(0x21, kinds, rest);
    let (header, length) = whole(&bytes);
    assert_eq!(length, bytes.len());
    assert_eq!(header.command, Command::Proxy);
    assert_eq!((header.source, header.tlvs), (None, Tlvs::NONE));
}

#[test]
fn without_a_transport_the_addresses_do_not_hold() {
    let bytes = header(0x21, 0x10, &[&V4[..], &[0x04, 0, 0]].concat());
    let (header, _) = whole(&bytes);
    assert_eq!((header.source, header.destination), (None, None));
    assert_eq!(told(&header), [(4, vec![])]);
}

/// Even what would be refused elsewhere.
#[rstest]
#[case(0x00, &[])]
#[case(0x11, &V4)]
#[case(0x11, &[1, 2, 3])]
#[case(0xff, &[0xff; 20])]
fn of_a_sender_that_speaks_for_itself_nothing_else_is_looked_at(#[case] kinds: u8, #[case] rest: &[u8]) {
    let bytes = header(0x20, kinds, rest);
    let (header, length) = whole(&bytes);
    assert_eq!(length, bytes.len());
    assert_eq!(header, Header::bare(Command::Local, Transport::Unspecified));
}

#[rstest]
#[case::version_1(0x11, 0x11, 12, Wrong::Version(1))]
#[case::version_3(0x31, 0x11, 12, Wrong::Version(3))]
#[case::command(0x22, 0x11, 12, Wrong::Command(2))]
#[case::last_command(0x2f, 0x11, 12, Wrong::Command(15))]
#[case::family(0x21, 0x41, 13, Wrong::Family(4))]
#[case::last_family(0x21, 0xf1, 13, Wrong::Family(15))]
#[case::transport(0x21, 0x13, 13, Wrong::Transport(3))]
#[case::last_transport(0x21, 0x1f, 13, Wrong::Transport(15))]
fn what_is_not_assigned_is_refused_as_soon_as_it_is_there(
    #[case] version_and_command: u8,
    #[case] kinds: u8,
    #[case] at: usize,
    #[case] wrong: Wrong,
) {
    let bytes = header(version_and_command, kinds, &V4);
    for length in 0..bytes.len() {
        if length > at {
            refused(&bytes[..length], at, wrong);
        } else {
            assert_eq!(parse(&bytes[..length]), Ok(Parsed::More));
        }
    }
}

#[rstest]
#[case(0x11, 11, 12)]
#[case(0x12, 0, 12)]
#[case(0x21, 35, 36)]
#[case(0x22, 12, 36)]
#[case(0x31, 215, 216)]
fn a_header_too_short_for_its_addresses_is_refused(
    #[case] kinds: u8,
    #[case] told: u16,
    #[case] needed: u16,
) {
    let bytes = header(0x21, kinds, &vec![0; told.into()]);
    refused(&bytes, 14, Wrong::Short { told, needed });
    refused(&bytes[..16], 14, Wrong::Short { told, needed });
}

#[rstest]
#[case(0x20)]
#[case(0x21)]
fn a_header_that_is_too_long_is_not_waited_for(#[case] version_and_command: u8) {
    let fits = header(version_and_command, 0x00, &[0; 4096]);
    assert_eq!(whole(&fits).1, LONGEST);
    let long = header(version_and_command, 0x00, &[0; 4097]);
    refused(&long[..16], 14, Wrong::Long(4097));
    refused(&long, 14, Wrong::Long(4097));
    let longest = header(version_and_command, 0x00, &[0; 65535]);
    refused(&longest[..16], 14, Wrong::Long(65535));
}

#[test]
fn tlvs_are_found_in_their_order() {
    let tlvs = [
        (0x01, b"h2".to_vec()),
        (0x03, vec![1, 2, 3, 4]),
        (0x04, vec![]),
        (0xe0, vec![9; 8]),
        (0x01, b"other".to_vec()),
    ];
    let bytes = header(0x21, 0x11, &[&V4[..], &row(&tlvs)].concat());
    let (header, _) = whole(&bytes);
    assert_eq!(told(&header), tlvs);
}

#[rstest]
#[case::half_a_type_and_length(&[0x04, 0], 0, Wrong::TlvCut)]
#[case::one_byte(&[0x04], 0, Wrong::TlvCut)]
#[case::no_value(&[0x04, 0, 1], 0, Wrong::TlvCut)]
#[case::longer_than_all(&[0x04, 0xff, 0xff, 1, 2, 3], 0, Wrong::TlvCut)]
#[case::the_second(&[0x04, 0, 1, 7, 0x02, 0, 4, 1, 2, 3], 4, Wrong::TlvCut)]
#[case::left_over(&[0x04, 0, 1, 7, 0, 0], 4, Wrong::TlvCut)]
#[case::checksum(&[0x03, 0, 3, 1, 2, 3], 0, Wrong::TlvLength { kind: 3, length: 3 })]
fn a_tlv_that_is_not_whole_is_refused(#[case] row: &[u8], #[case] at: usize, #[case] wrong: Wrong) {
    refused(&header(0x21, 0x11, &[&V4[..], row].concat()), 28 + at, wrong);
    refused(&header(0x21, 0x21, &[&v6()[..], row].concat()), 52 + at, wrong);
    refused(
        &header(0x21, 0x31, &[&[0; 216][..], row].concat()),
        232 + at,
        wrong,
    );
}

#[test]
fn a_unique_id_has_its_bound() {
    let with = |length| header(0x21, 0x11, &[&V4[..], &row(&[(0x05, vec![7; length])])].concat());
    assert_eq!(whole(&with(128)).1, 28 + 3 + 128);
    refused(&with(129), 28, Wrong::TlvLength { kind: 5, length: 129 });
}

#[test]
fn what_is_written_is_what_the_specification_says() {
    let (source, destination) = (address("192.0.2.1:56324"), address("192.0.2.80:443"));
    let mut out = Vec::new();
    write_v2(&Header::proxied(Transport::Stream, source, destination), &mut out);
    assert_eq!(out, header(0x21, 0x11, &V4));
    out.clear();
    let (source, destination) = (address("[2001:db8::1]:56324"), address("[2001:db8::80]:443"));
    write_v2(
        &Header::proxied(Transport::Datagram, source, destination),
        &mut out,
    );
    assert_eq!(out, header(0x21, 0x22, &v6()));
    // Without addresses, nothing but the command.
    out.clear();
    write_v2(&Header::bare(Command::Local, Transport::Stream), &mut out);
    assert_eq!(out, header(0x20, 0x00, &[]));
    out.clear();
    write_v2(&Header::bare(Command::Proxy, Transport::Stream), &mut out);
    assert_eq!(out, header(0x21, 0x00, &[]));
}

proptest! {
    #[test]
    fn what_was_written_is_read(
        transport in any_transport(),
        source in any_address(),
        destination in any_address(),
        tlvs in any_row(),
    ) {
        let (mut bytes, row) = (vec![b'x'], row(&tlvs));
        let tlvs = Tlvs::within(&row, 0).unwrap();
        let plain = Header::proxied(transport, source, destination);
        write_v2(&Header { tlvs, ..plain }, &mut bytes);
        let (header, length) = whole(&bytes[1..]);
        prop_assert_eq!(length, bytes.len() - 1);
        let meant = Header::proxied(transport, canonical(source), canonical(destination));
        prop_assert_eq!(header, Header { tlvs, ..meant });
    }

    /// What is read can be written again, and is then the same to the byte where no family is converted.
    #[test]
    fn what_was_read_is_written_as_it_was(
        v4 in any::<[u8; 12]>(),
        transport in 1..3u8,
        tlvs in any_row(),
    ) {
        let bytes = header(0x21, 0x10 | transport, &[&v4[..], &row(&tlvs)].concat());
        let mut again = Vec::new();
        write_v2(&whole(&bytes).0, &mut again);
        prop_assert_eq!(again, bytes);
    }
}
