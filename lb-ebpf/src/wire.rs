//! Protocol headers as they stand on the wire: byte arrays in network order, no padding.

use lb_common::{Plain, V4, V6};

pub const ETHERTYPE_IPV4: u16 = 0x0800;
pub const ETHERTYPE_IPV6: u16 = 0x86dd;
pub const ICMP: u8 = 1;
pub const ICMPV6: u8 = 58;

/// RFC 791, section 3.1.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Ipv4 {
    pub version_and_words: u8,
    pub tos: u8,
    pub length: [u8; 2],
    pub id: [u8; 2],
    /// Flags and offset.
    pub fragment: [u8; 2],
    pub ttl: u8,
    pub protocol: u8,
    pub checksum: [u8; 2],
    pub source: V4,
    pub destination: V4,
}

/// RFC 8200, section 3.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Ipv6 {
    pub version_class_flow: [u8; 4],
    pub payload: [u8; 2],
    pub next: u8,
    pub hop_limit: u8,
    pub source: V6,
    pub destination: V6,
}

/// RFC 9293, section 3.1.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Tcp {
    pub source: [u8; 2],
    pub destination: [u8; 2],
    pub sequence: [u8; 4],
    pub acknowledgement: [u8; 4],
    /// Header length in words, in the high half.
    pub words: u8,
    pub flags: u8,
    pub window: [u8; 2],
    pub checksum: [u8; 2],
    pub urgent: [u8; 2],
}

/// Bits of [`Tcp::flags`].
pub mod tcp {
    pub const FIN: u8 = 1;
    pub const SYN: u8 = 2;
    pub const RST: u8 = 4;
    pub const ACK: u8 = 16;
}

/// Offsets of the checksum in a transport header.
pub const TCP_CHECKSUM: usize = 16;
pub const UDP_CHECKSUM: usize = 6;
pub const ICMP_CHECKSUM: usize = 2;

// SAFETY: repr(C), alignment 1, byte arrays only.
unsafe impl Plain for Ipv4 {}
// SAFETY: as above.
unsafe impl Plain for Ipv6 {}
// SAFETY: as above.
unsafe impl Plain for Tcp {}

const _: () = assert!(size_of::<Ipv4>() == 20 && size_of::<Ipv6>() == 40 && size_of::<Tcp>() == 20);
