//! Version 2, binary (section 2.2 of the specification).

use std::net::{IpAddr, SocketAddr};

use super::{Command, Fault, Header, Pair, Parsed, Tlvs, Transport, Wrong, canonical};

pub(super) const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
/// Signature, version and command, family and transport, length of the rest.
pub(super) const FIXED: usize = 16;
/// Most bytes of addresses and TLVs. The specification has room for 65,535; whoever says so much makes us wait for it.
pub(super) const LONGEST_REST: u16 = 4096;

const VERSION: u8 = 2;

#[derive(Clone, Copy)]
enum Family {
    Unspecified = 0,
    V4 = 1,
    V6 = 2,
    Unix = 3,
}

impl Family {
    /// Bytes of both addresses and ports.
    fn size(self) -> u16 {
        match self {
            Self::Unspecified => 0,
            Self::V4 => 12,
            Self::V6 => 36,
            Self::Unix => 216,
        }
    }
}

/// Reads a header; as far as they go, `bytes` begin with [`SIGNATURE`].
pub(super) fn parse(bytes: &[u8]) -> Result<Parsed<'_>, Fault> {
    let Some(&version_and_command) = bytes.get(12) else {
        return Ok(Parsed::More);
    };
    let command = command(version_and_command).map_err(|wrong| wrong.at(12))?;
    let Some(&kind) = bytes.get(13) else {
        return Ok(Parsed::More);
    };
    // Of one that speaks for itself, everything else is to be ignored.
    let (family, transport) = match command {
        Command::Local => (Family::Unspecified, Transport::Unspecified),
        Command::Proxy => kinds(kind).map_err(|wrong| wrong.at(13))?,
    };
    let Some(&[high, low]) = bytes.get(14..FIXED) else {
        return Ok(Parsed::More);
    };
    let told = u16::from_be_bytes([high, low]);
    let needed = family.size();
    if told > LONGEST_REST {
        return Err(Wrong::Long(told).at(14));
    }
    if told < needed {
        return Err(Wrong::Short { told, needed }.at(14));
    }
    let length = FIXED + usize::from(told);
    let Some(rest) = bytes.get(FIXED..length) else {
        return Ok(Parsed::More);
    };
    let (addresses, behind) = rest.split_at(needed.into());
    let ends = match (family, transport) {
        (_, Transport::Unspecified) | (Family::Unspecified | Family::Unix, _) => None,
        (Family::V4, _) => ends::<4>(addresses),
        (Family::V6, _) => ends::<16>(addresses),
    };
    let tlvs = match family {
        // Nobody can tell addresses of an unknown kind from what is behind them.
        Family::Unspecified => Tlvs::NONE,
        _ => Tlvs::within(behind, FIXED + addresses.len())?,
    };
    let header = Header {
        command,
        transport,
        source: ends.map(|(source, _)| source),
        destination: ends.map(|(_, destination)| destination),
        tlvs,
    };
    Ok(Parsed::Whole { header, length })
}

fn command(byte: u8) -> Result<Command, Wrong> {
    match (byte >> 4, byte & 15) {
        (VERSION, 0) => Ok(Command::Local),
        (VERSION, 1) => Ok(Command::Proxy),
        (VERSION, other) => Err(Wrong::Command(other)),
        (other, _) => Err(Wrong::Version(other)),
    }
}

fn kinds(byte: u8) -> Result<(Family, Transport), Wrong> {
    let family = match byte >> 4 {
        0 => Family::Unspecified,
        1 => Family::V4,
        2 => Family::V6,
        3 => Family::Unix,
        other => return Err(Wrong::Family(other)),
    };
    let transport = match byte & 15 {
        0 => Transport::Unspecified,
        1 => Transport::Stream,
        2 => Transport::Datagram,
        other => return Err(Wrong::Transport(other)),
    };
    Ok((family, transport))
}

/// Source and destination, their addresses `N` bytes long.
fn ends<const N: usize>(bytes: &[u8]) -> Option<(SocketAddr, SocketAddr)>
where
    IpAddr: From<[u8; N]>,
{
    let (source, rest) = bytes.split_first_chunk::<N>()?;
    let (destination, rest) = rest.split_first_chunk::<N>()?;
    let &[a, b, c, d] = rest.first_chunk()?;
    let end = |address: [u8; N], port| canonical((IpAddr::from(address), u16::from_be_bytes(port)).into());
    Some((end(*source, [a, b]), end(*destination, [c, d])))
}

/// Appends a header. Where addresses or transport are not told, everything but the command is left out.
pub fn write(header: &Header<'_>, out: &mut Vec<u8>) {
    out.extend(SIGNATURE);
    out.push((VERSION << 4) | header.command as u8);
    let (Command::Proxy, Transport::Stream | Transport::Datagram, Some(source), Some(destination)) = (
        header.command,
        header.transport,
        header.source,
        header.destination,
    ) else {
        // Of no family, no transport, and nothing follows.
        out.extend([0; 3]);
        return;
    };
    let mut kinds = |family: Family| {
        let rest = family.size() + header.tlvs.size();
        out.push(((family as u8) << 4) | header.transport as u8);
        out.extend(rest.to_be_bytes());
    };
    match Pair::of(source, destination) {
        Pair::V4(source, destination) => {
            kinds(Family::V4);
            out.extend(source.octets());
            out.extend(destination.octets());
        }
        Pair::V6(source, destination) => {
            kinds(Family::V6);
            out.extend(source.octets());
            out.extend(destination.octets());
        }
    }
    out.extend(source.port().to_be_bytes());
    out.extend(destination.port().to_be_bytes());
    out.extend(header.tlvs.bytes());
}
