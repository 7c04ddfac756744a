//! The PROXY protocol: the header before a connection's first byte that says whose connection it is.
//!
//! Both versions of <https://www.haproxy.org/download/2.9/doc/proxy-protocol.txt> are read and written; functions of bytes
//! alone, that know no socket. Reading is strict: whatever the specification does not allow is a [`Fault`], as early as its
//! bytes are there. A header is read by those alone who expect one: nothing here guesses whether there is one.
//!
//! Not verified: the checksum (CRC32C) that a header of version 2 may carry, which the specification leaves to the receiver.
//! TCP has checked the bytes, and TLS between nodes.

mod fault;
pub mod relay_header;
mod tlv;
mod v1;
mod v2;

#[cfg(test)]
mod tests;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

pub use fault::{Fault, Wrong};
pub use tlv::{Tlv, Tlvs};
pub use v1::write as write_v1;
pub use v2::write as write_v2;

/// Most bytes of a header that is read: more than twelve times what anybody is known to send.
pub const LONGEST: usize = v2::FIXED + v2::LONGEST_REST as usize;
/// Type of the TLV that names the member a relayed connection is for: its tag, eight bytes in network order. The first of
/// those that the specification leaves to applications: from anybody but another agent it means something else.
pub const MEMBER: u8 = 0xe0;

/// Whose connection it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header<'d> {
    pub command: Command,
    pub transport: Transport,
    /// The client. Either both addresses are there or none is: then those of the connection itself hold. IPv4 addresses
    /// that were written as IPv6 (`::ffff:192.0.2.1`) are IPv4 addresses here.
    pub source: Option<SocketAddr>,
    /// What the client connected to.
    pub destination: Option<SocketAddr>,
    /// Empty in version 1, and where there is no address family behind which to look for them.
    pub tlvs: Tlvs<'d>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// The sender speaks for itself: a health check.
    Local = 0,
    /// The sender speaks for a client.
    Proxy = 1,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// Neither of the two, or not told.
    Unspecified = 0,
    Stream = 1,
    Datagram = 2,
}

/// What the first bytes of a connection are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parsed<'d> {
    /// A good beginning. It gets no longer than [`LONGEST`] without being a header or a [`Fault`].
    More,
    /// A header; what is behind its `length` bytes is the client's.
    Whole { header: Header<'d>, length: usize },
}

impl Header<'static> {
    /// For a client's connection.
    pub fn proxied(transport: Transport, source: SocketAddr, destination: SocketAddr) -> Self {
        Self {
            command: Command::Proxy,
            transport,
            source: Some(source),
            destination: Some(destination),
            tlvs: Tlvs::NONE,
        }
    }

    /// Without addresses.
    fn bare(command: Command, transport: Transport) -> Self {
        Self {
            command,
            transport,
            source: None,
            destination: None,
            tlvs: Tlvs::NONE,
        }
    }
}

/// Reads a header of either version at the beginning of `bytes`. More bytes never change an answer but [`Parsed::More`].
pub fn parse(bytes: &[u8]) -> Result<Parsed<'_>, Fault> {
    if agree(bytes, &v2::SIGNATURE) {
        v2::parse(bytes)
    } else if agree(bytes, v1::PREFIX) {
        v1::parse(bytes)
    } else {
        let alike = |prefix: &[u8]| bytes.iter().zip(prefix).take_while(|(a, b)| a == b).count();
        let at = alike(&v2::SIGNATURE).max(alike(v1::PREFIX));
        Err(Wrong::Beginning.at(at))
    }
}

/// As far as both go.
fn agree(bytes: &[u8], prefix: &[u8]) -> bool {
    bytes.iter().zip(prefix).all(|(a, b)| a == b)
}

fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// Two addresses of one family, as both versions want them.
enum Pair {
    V4(Ipv4Addr, Ipv4Addr),
    V6(Ipv6Addr, Ipv6Addr),
}

impl Pair {
    /// An IPv4 address beside one of IPv6 is written as IPv6.
    fn of(source: SocketAddr, destination: SocketAddr) -> Self {
        let wide = |address| match address {
            IpAddr::V4(v4) => v4.to_ipv6_mapped(),
            IpAddr::V6(v6) => v6,
        };
        match (source.ip().to_canonical(), destination.ip().to_canonical()) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => Self::V4(source, destination),
            (source, destination) => Self::V6(wide(source), wide(destination)),
        }
    }
}
