//! The part that runs in the kernel only: tables, rules, and changes to packets.

pub mod act;
pub mod back;
pub mod call;
pub mod case;
pub mod chain;
pub mod choose;
pub mod clock;
pub mod connect;
pub mod create;
pub mod deliver;
pub mod fragment;
pub mod globals;
pub mod header;
pub mod hint;
pub mod host;
pub mod icmp;
pub mod inbound;
pub mod leave;
pub mod lookup;
pub mod mss;
pub mod note;
pub mod open;
pub mod owner;
pub mod probe;
pub mod proxied;
pub mod recover;
pub mod relay;
pub mod reply;
pub mod reset;
pub mod rewrite;
pub mod scope;
pub mod skb;
pub mod socket;
pub mod stay;
pub mod steer;
pub mod tables;
pub mod too_big;
pub mod tunnel;
pub mod ways;
pub mod xdp;

use lb_common::host::{NODE_VIP4, NODE_VIP6};
use lb_common::{V4, V6};

use crate::parse::{Four, Six};

/// Everything the rules need of an address family.
pub trait Path: tables::Tables + rewrite::Rewrite + socket::Lookup + header::Header {
    /// This node's address for clients that cannot keep theirs.
    fn own_address() -> Self::Address;

    /// The same for tasks in the node's own namespace, which takes no packet that comes in from an address of its own. It is
    /// nobody's, and what is sent there goes by `portico0`.
    fn node_vip() -> Self::Address;

    /// Whether the two addresses share a subnet of `prefix` bits; never for 0.
    fn same_subnet(a: Self::Address, b: Self::Address, prefix: u8) -> bool;
}

impl Path for Four {
    #[inline(always)]
    fn own_address() -> V4 {
        globals::self_address()
    }

    #[inline(always)]
    fn node_vip() -> V4 {
        NODE_VIP4
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
    fn node_vip() -> V6 {
        NODE_VIP6
    }

    #[inline(always)]
    fn same_subnet(a: V6, b: V6, prefix: u8) -> bool {
        let halves = |[a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p]: V6| {
            (
                u64::from_be_bytes([a, b, c, d, e, f, g, h]),
                u64::from_be_bytes([i, j, k, l, m, n, o, p]),
            )
        };
        let ((high_a, low_a), (high_b, low_b)) = (halves(a), halves(b));
        let (high, low) = (high_a ^ high_b, low_a ^ low_b);
        match prefix {
            0 => false,
            1..=64 => high >> (64 - prefix as u32) == 0,
            65..=128 => high == 0 && low >> (128 - prefix as u32) == 0,
            _ => false,
        }
    }
}
