//! What the programs at sockets keep: whom a socket asked for, beside whom it was led to.
//!
//! Addresses are IPv6 addresses throughout; an IPv4 address is mapped (RFC 4291, section 2.5.5.2), since a socket of either
//! family can lead there.

use crate::{Plain, V4, V6};

/// Value of `DIRECT`, by member tag, and of `RESOLVER`, by mapped address: where to go instead.
#[repr(C, align(8))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct End {
    pub address: V6,
    pub port: [u8; 2],
    pub pad: [u8; 6],
}

/// Key of `DATAGRAM`: a UDP socket and where it was led to; it can have several of them.
#[repr(C, align(8))]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SocketKey {
    /// Of the socket, as the kernel gives it and never again.
    pub cookie: u64,
    pub address: V6,
    pub port: [u8; 2],
    pub pad: [u8; 6],
}

/// Value of `SOCKET`, whose key is the socket's cookie, and of `DATAGRAM`.
#[repr(C, align(8))]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Turned {
    /// Whom the process asked for.
    pub asked: End,
    /// Where it was led to. Of a UDP socket `SOCKET` has the last such place, and `DATAGRAM` with each the one before it; port 0
    /// where there is none. So all can be found when it is closed.
    pub led: End,
    /// Tag of the member that it was led to, 0 where packets are balanced further on.
    pub tag: u64,
    /// Cookie of the socket's network namespace.
    pub namespace: u64,
}

impl End {
    #[inline(always)]
    pub const fn new(address: V6, port: [u8; 2]) -> Self {
        Self {
            address,
            port,
            pad: [0; 6],
        }
    }
}

impl SocketKey {
    #[inline(always)]
    pub const fn new(cookie: u64, end: &End) -> Self {
        Self {
            cookie,
            address: end.address,
            port: end.port,
            pad: [0; 6],
        }
    }
}

/// The IPv4-mapped IPv6 address.
#[inline(always)]
pub const fn map([a, b, c, d]: V4) -> V6 {
    [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, a, b, c, d]
}

/// The IPv4 address that is mapped here, if one is.
#[inline(always)]
pub const fn unmap(address: V6) -> Option<V4> {
    match address {
        [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, a, b, c, d] => Some([a, b, c, d]),
        _ => None,
    }
}

// SAFETY: repr(C) with explicit padding, as the sizes show; integers and byte arrays only.
unsafe impl Plain for End {}
// SAFETY: as above.
unsafe impl Plain for SocketKey {}
// SAFETY: as above.
unsafe impl Plain for Turned {}
const _: () = assert!(size_of::<End>() == 24 && size_of::<SocketKey>() == 32 && size_of::<Turned>() == 64);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ipv4_address_survives_the_way_through_ipv6() {
        assert_eq!(unmap(map([192, 0, 2, 1])), Some([192, 0, 2, 1]));
        assert_eq!(unmap(crate::host::NODE_VIP6), None);
        assert_eq!(unmap([0; 16]), None);
    }
}
