//! The part that runs in the kernel only: tables, rules, and changes to packets.

pub mod act;
pub mod case;
pub mod choose;
pub mod clock;
pub mod create;
pub mod deliver;
pub mod fragment;
pub mod globals;
pub mod header;
pub mod icmp;
pub mod inbound;
pub mod mss;
pub mod note;
pub mod owner;
pub mod probe;
pub mod relay;
pub mod reply;
pub mod reset;
pub mod rewrite;
pub mod skb;
pub mod socket;
pub mod tables;
pub mod too_big;
pub mod tunnel;
pub mod xdp;

use lb_common::{V4, V6};

use crate::parse::{Four, Six};

/// Everything the rules need of an address family.
pub trait Path: tables::Tables + rewrite::Rewrite + socket::Lookup + header::Header {
    /// This node's address for clients that cannot keep theirs.
    fn own_address() -> Self::Address;

    /// Whether the two addresses share a subnet of `prefix` bits; never for 0.
    fn same_subnet(a: Self::Address, b: Self::Address, prefix: u8) -> bool;
}

impl Path for Four {
    #[inline(always)]
    fn own_address() -> V4 {
        globals::self_address()
    }

    #[inline(always)]
    fn same_subnet(a: V4, b: V4, prefix: u8) -> bool {
        let differing = u32::from_be_bytes(a) ^ u32::from_be_bytes(b);
        prefix != 0 && prefix <= 32 && differing as u64 >> (32 - prefix as u32) == 0
    }
}

impl Path for Six {
    #[inline(always)]
    fn own_address() -> V6 {
        tables::settings().source6
    }

    #[inline(always)]
    fn same_subnet(a: V6, b: V6, prefix: u8) -> bool {
        let high = |wide: V6| {
            let [a, b, c, d, e, f, g, h, ..] = wide;
            u64::from_be_bytes([a, b, c, d, e, f, g, h])
        };
        // Subnets are 64 bits (RFC 4291, section 2.5.1) or wider; a narrower one is compared by its first 64.
        let bits = if prefix > 64 { 64 } else { prefix };
        bits != 0 && (high(a) ^ high(b)) >> (64 - bits as u32) == 0
    }
}
