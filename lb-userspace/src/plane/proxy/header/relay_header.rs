//! What an agent says first to another that it relays a connection to: version 2, with the member it is for.

use std::net::SocketAddr;

use super::{Fault, Header, MEMBER, Parsed, Tlvs, Transport, Wrong, parse, write_v2};

/// A connection that another agent is asked to carry on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Tag of the member, one of those that the asked agent runs.
    pub member: u64,
    /// [`Transport::Stream`] or [`Transport::Datagram`].
    pub transport: Transport,
    pub client: SocketAddr,
    /// What the client connected to.
    pub front: SocketAddr,
}

/// Appends the header of a connection; one whose transport is not told cannot be read.
pub fn write(wanted: &Wanted, out: &mut Vec<u8>) {
    let mut tlv = [MEMBER, 0, 8, 0, 0, 0, 0, 0, 0, 0, 0];
    tlv[3..].copy_from_slice(&wanted.member.to_be_bytes());
    let plain = Header::proxied(wanted.transport, wanted.client, wanted.front);
    let tlvs = Tlvs::whole(&tlv);
    write_v2(&Header { tlvs, ..plain }, out);
}

/// Reads what [`write`](fn@write) has written at the beginning of `bytes`, and how long it is. Nothing: more bytes are needed, of
/// [`LONGEST`](super::LONGEST) at most. Other TLVs are ignored.
pub fn read(bytes: &[u8]) -> Result<Option<(Wanted, usize)>, Fault> {
    let Parsed::Whole { header, length } = parse(bytes)? else {
        return Ok(None);
    };
    let mut named = header.tlvs.iter().filter(|tlv| tlv.kind == MEMBER);
    let value = named.next().ok_or(Wrong::NoMember.at(length))?.value;
    if named.next().is_some() {
        return Err(Wrong::Members.at(length));
    }
    let member = value.try_into().map_err(|_| {
        let wrong = Wrong::TlvLength {
            kind: MEMBER,
            length: value.len(),
        };
        wrong.at(length)
    })?;
    let (Some(client), Some(front)) = (header.source, header.destination) else {
        return Err(Wrong::NoClient.at(length));
    };
    let wanted = Wanted {
        member: u64::from_be_bytes(member),
        transport: header.transport,
        client,
        front,
    };
    Ok(Some((wanted, length)))
}
