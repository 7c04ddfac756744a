//! Why bytes are no header.

use super::{LONGEST, v1};

/// What is wrong with a header, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("PROXY header, byte {at}: {wrong}")]
pub struct Fault {
    /// Offset of the field that is wrong, or of the byte where it shows.
    pub at: usize,
    pub wrong: Wrong,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Wrong {
    #[error("neither version begins so")]
    Beginning,

    #[error("the line does not end within {} bytes", v1::LONGEST)]
    Unending,
    #[error("CR or LF alone; the line ends with both")]
    Ending,
    #[error("the protocol is not TCP4, TCP6 or UNKNOWN")]
    Protocol,
    #[error("the line ends before both addresses and both ports")]
    Missing,
    #[error("not an IPv4 address")]
    Address4,
    #[error("not an IPv6 address")]
    Address6,
    #[error("not a port")]
    Port,
    #[error("something behind the ports")]
    Surplus,

    #[error("version {0}; there is 2 alone")]
    Version(u8),
    #[error("command {0} has no meaning")]
    Command(u8),
    #[error("address family {0} has no meaning")]
    Family(u8),
    #[error("transport {0} has no meaning")]
    Transport(u8),
    #[error("{0} bytes follow; the whole may have {most}", most = LONGEST)]
    Long(u16),
    #[error("{told} bytes follow; the addresses alone take {needed}")]
    Short { told: u16, needed: u16 },
    #[error("the TLV reaches beyond the header's end")]
    TlvCut,
    #[error("a TLV of type {kind:#04x} with {length} bytes")]
    TlvLength { kind: u8, length: usize },

    #[error("no member is named")]
    NoMember,
    #[error("several members are named")]
    Members,
    #[error("no client is named")]
    NoClient,
}

impl Wrong {
    pub(super) fn at(self, at: usize) -> Fault {
        Fault { at, wrong: self }
    }
}
