//! What an agent says first to another that it relays a connection to: version 2, with the member it is for. A connection that
//! is to carry datagrams of many flows begins with a header of nobody, since each flow will have its own.

use std::net::SocketAddr;

use super::{Command, Fault, Header, MEMBER, Parsed, Tlvs, Transport, Wrong, parse, v2, write_v2};

/// What a connection between agents is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    Connection(Wanted),
    /// Frames follow that open flows.
    Trunk,
}

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

/// Appends the header of a connection that carries datagrams: for somebody else, of no family, datagrams, and nothing follows.
pub fn write_trunk(out: &mut Vec<u8>) {
    out.extend(v2::SIGNATURE);
    out.extend([0x21, 0x02, 0, 0]);
}

/// As [`read`], of what a connection begins with.
pub fn purpose(bytes: &[u8]) -> Result<Option<(Purpose, usize)>, Fault> {
    if let Parsed::Whole { header, length } = parse(bytes)?
        && length == v2::FIXED
        && (header.command, header.transport) == (Command::Proxy, Transport::Datagram)
    {
        return Ok(Some((Purpose::Trunk, length)));
    }
    let connection = read(bytes)?;
    Ok(connection.map(|(wanted, length)| (Purpose::Connection(wanted), length)))
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
