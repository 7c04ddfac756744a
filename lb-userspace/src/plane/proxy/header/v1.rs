//! Version 1, a line of text (section 2.1 of the specification).

use std::fmt::Arguments;
use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use super::{Command, Fault, Header, Pair, Parsed, Transport, Wrong, canonical};

pub(super) const PREFIX: &[u8] = b"PROXY ";
/// With its end.
pub(super) const LONGEST: usize = 107;

/// Reads a header; as far as they go, `bytes` begin with [`PREFIX`].
pub(super) fn parse(bytes: &[u8]) -> Result<Parsed<'_>, Fault> {
    let seen = bytes.get(..LONGEST).unwrap_or(bytes);
    let unfinished = match seen.len() {
        LONGEST => Err(Wrong::Unending.at(LONGEST)),
        _ => Ok(Parsed::More),
    };
    let Some(end) = seen.iter().position(|byte| matches!(byte, b'\r' | b'\n')) else {
        return unfinished;
    };
    match (seen[end], seen.get(end + 1)) {
        (b'\r', Some(b'\n')) => {}
        (b'\r', None) => return unfinished,
        _ => return Err(Wrong::Ending.at(end)),
    }
    let header = line(&seen[PREFIX.len()..end], end)?;
    let length = end + 2;
    Ok(Parsed::Whole { header, length })
}

/// What is between [`PREFIX`] and the line's end, which is at `end`.
fn line(line: &[u8], end: usize) -> Result<Header<'static>, Fault> {
    let mut next = PREFIX.len();
    let mut fields = line.split(|byte| *byte == b' ').map(|text| {
        let at = next;
        next += text.len() + 1;
        Field { at, text }
    });
    let mut field = || fields.next().ok_or(Wrong::Missing.at(end));
    let protocol = field()?;
    let (source, destination) = match protocol.text {
        // Whatever else there is must be ignored.
        b"UNKNOWN" => return Ok(Header::bare(Command::Proxy, Transport::Unspecified)),
        b"TCP4" => (
            field()?.address::<Ipv4Addr>(Wrong::Address4)?,
            field()?.address::<Ipv4Addr>(Wrong::Address4)?,
        ),
        b"TCP6" => (
            field()?.address::<Ipv6Addr>(Wrong::Address6)?,
            field()?.address::<Ipv6Addr>(Wrong::Address6)?,
        ),
        _ => return Err(Wrong::Protocol.at(protocol.at)),
    };
    let (from, to) = (field()?.port()?, field()?.port()?);
    if let Ok(surplus) = field() {
        return Err(Wrong::Surplus.at(surplus.at));
    }
    Ok(Header::proxied(
        Transport::Stream,
        canonical((source, from).into()),
        canonical((destination, to).into()),
    ))
}

/// What is between two spaces, and where in the header.
struct Field<'d> {
    at: usize,
    text: &'d [u8],
}

impl Field<'_> {
    /// The standard library reads exactly what the specification allows (no leading zeros in IPv4), and IPv6 with an IPv4
    /// address at the end, as `inet_ntop` writes it.
    fn address<A: FromStr + Into<IpAddr>>(&self, wrong: Wrong) -> Result<IpAddr, Fault> {
        let address = self.parsed::<A>().ok_or(wrong.at(self.at))?;
        Ok(address.into())
    }

    fn port(&self) -> Result<u16, Fault> {
        let plain = match self.text {
            [b'0'] => true,
            [b'0', ..] => false,
            digits => digits.iter().all(u8::is_ascii_digit),
        };
        let port = plain.then(|| self.parsed::<u16>()).flatten();
        port.ok_or(Wrong::Port.at(self.at))
    }

    fn parsed<T: FromStr>(&self) -> Option<T> {
        std::str::from_utf8(self.text).ok()?.parse().ok()
    }
}

/// Appends the header of a TCP connection.
pub fn write(source: SocketAddr, destination: SocketAddr, out: &mut Vec<u8>) {
    let ports = (source.port(), destination.port());
    match Pair::of(source, destination) {
        Pair::V4(source, destination) => {
            put(out, format_args!("PROXY TCP4 {source} {destination}"));
        }
        Pair::V6(source, destination) => {
            out.extend(b"PROXY TCP6");
            put_v6(out, source);
            put_v6(out, destination);
        }
    }
    put(out, format_args!(" {} {}\r\n", ports.0, ports.1));
}

/// The specification has no IPv4 address within one of IPv6.
fn put_v6(out: &mut Vec<u8>, address: Ipv6Addr) {
    match (address.to_ipv4_mapped(), address.segments()) {
        (Some(_), [.., high, low]) => put(out, format_args!(" ::ffff:{high:x}:{low:x}")),
        (None, _) => put(out, format_args!(" {address}")),
    }
}

fn put(out: &mut Vec<u8>, text: Arguments<'_>) {
    // There is no error of writing to memory.
    let _ = out.write_fmt(text);
}
