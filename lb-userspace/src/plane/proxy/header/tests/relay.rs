//! The header between agents.

use super::relay_header::{Purpose, Wanted, purpose, read, write, write_trunk};
use super::*;

fn bytes(wanted: &Wanted) -> Vec<u8> {
    let mut out = Vec::new();
    write(wanted, &mut out);
    out
}

fn wanted() -> Wanted {
    Wanted {
        member: 0x0102_0304_0506_0708,
        transport: Transport::Stream,
        client: address("192.0.2.1:56324"),
        front: address("192.0.2.80:443"),
    }
}

/// The same connection with other TLVs.
fn with(tlvs: &[(u8, Vec<u8>)]) -> Vec<u8> {
    let (mut out, row) = (Vec::new(), row(tlvs));
    let tlvs = Tlvs::within(&row, 0).unwrap();
    let plain = Header::proxied(Transport::Stream, wanted().client, wanted().front);
    write_v2(&Header { tlvs, ..plain }, &mut out);
    out
}

#[test]
fn the_member_is_eight_bytes_in_network_order() {
    let bytes = bytes(&wanted());
    assert_eq!(bytes.len(), 39);
    assert_eq!(bytes[28..], [0xe0, 0, 8, 1, 2, 3, 4, 5, 6, 7, 8]);
    assert_eq!(read(&bytes), Ok(Some((wanted(), 39))));
}

#[test]
fn what_else_is_told_is_ignored() {
    let member = (MEMBER, wanted().member.to_be_bytes().to_vec());
    let more = with(&[(0x02, b"web".to_vec()), member, (0xe1, vec![])]);
    assert_eq!(read(&more), Ok(Some((wanted(), more.len()))));
}

#[test]
fn whoever_names_no_member_or_several_or_no_client_is_refused() {
    let refusal = |bytes: &[u8]| read(bytes).unwrap_err().wrong;
    let member = || (MEMBER, vec![0; 8]);
    assert_eq!(refusal(&with(&[])), Wrong::NoMember);
    assert_eq!(refusal(&with(&[member(), member()])), Wrong::Members);
    for length in [0, 7, 9] {
        let kind = MEMBER;
        assert_eq!(
            refusal(&with(&[(kind, vec![0; length])])),
            Wrong::TlvLength { kind, length }
        );
    }
    assert_eq!(
        refusal(b"PROXY TCP4 192.0.2.1 192.0.2.80 1 2\r\n"),
        Wrong::NoMember
    );
    let mut local = Vec::new();
    write_v2(&Header::bare(Command::Local, Transport::Unspecified), &mut local);
    assert_eq!(refusal(&local), Wrong::NoMember);
    // Of UNIX sockets.
    let mut unix = [&v2::SIGNATURE[..], &[0x21, 0x31, 0, 227], &[0; 216]].concat();
    unix.extend(row(&[member()]));
    assert_eq!(refusal(&unix), Wrong::NoClient);
}

#[test]
fn a_connection_for_datagrams_begins_with_a_header_of_nobody() {
    let mut bytes = Vec::new();
    write_trunk(&mut bytes);
    assert_eq!(bytes.len(), 16);
    for length in 0..bytes.len() {
        assert_eq!(purpose(&bytes[..length]), Ok(None));
    }
    bytes.push(0);
    assert_eq!(purpose(&bytes), Ok(Some((Purpose::Trunk, 16))));
    assert_eq!(read(&bytes).unwrap_err().wrong, Wrong::NoMember);
    // Of no transport, of one that has no use for it, and of one that speaks for itself.
    for (at, byte) in [(13, 0x00), (13, 0x01), (12, 0x20)] {
        let mut other = bytes.clone();
        other[at] = byte;
        assert_eq!(purpose(&other).unwrap_err().wrong, Wrong::NoMember);
    }
}

proptest! {
    #[test]
    fn what_was_written_is_read(
        member in any::<u64>(),
        transport in any_transport(),
        client in any_address(),
        front in any_address(),
        behind in vec(any::<u8>(), 0..20),
    ) {
        let written = bytes(&Wanted { member, transport, client, front });
        for length in 0..written.len() {
            prop_assert_eq!(read(&written[..length]), Ok(None));
        }
        let meant = Wanted { member, transport, client: canonical(client), front: canonical(front) };
        let whole = [&written[..], &behind].concat();
        prop_assert_eq!(read(&whole), Ok(Some((meant, written.len()))));
        prop_assert_eq!(purpose(&whole), Ok(Some((Purpose::Connection(meant), written.len()))));
    }
}
