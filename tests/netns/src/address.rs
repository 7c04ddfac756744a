//! Who has which address. All from the documentation ranges (RFC 5737, RFC 3849), but for the second underlay, which
//! takes a range for benchmarks (RFC 2544), and the tasks' bridge, which is the same on every node, as Docker has it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// An IPv4 and an IPv6 address of one device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub struct Pair {
    pub v4: Ipv4Addr,
    pub v6: Ipv6Addr,
}

impl Pair {
    const fn new(v4: [u8; 4], v6: [u16; 3], last: u16) -> Self {
        Self {
            v4: Ipv4Addr::new(v4[0], v4[1], v4[2], v4[3]),
            v6: Ipv6Addr::new(v6[0], v6[1], v6[2], 0, 0, 0, 0, last),
        }
    }

    pub fn both(self) -> [IpAddr; 2] {
        [self.v4.into(), self.v6.into()]
    }

    /// The address of the same family as `other`.
    pub fn like(self, other: IpAddr) -> IpAddr {
        if other.is_ipv4() {
            self.v4.into()
        } else {
            self.v6.into()
        }
    }
}

/// The last group that reads like the decimal number: 11 gives ::11.
const fn decimal(number: u8) -> u16 {
    let n = number as u16;
    n / 100 * 0x100 + n / 10 % 10 * 0x10 + n % 10
}

pub const CLIENT: Pair = Pair::new([198, 51, 100, 10], [0x2001, 0xdb8, 0x51], 0x10);
pub const CLIENT_ROUTER: Pair = Pair::new([198, 51, 100, 1], [0x2001, 0xdb8, 0x51], 1);
/// More addresses of the client, see [`client_more`]: the router sends them to it, and it may bind any of them.
pub const CLIENT_MORE: [&str; 2] = ["198.51.100.128/26", "2001:db8:51:1::/64"];
/// Addresses that the router sends to the client although its kernel does not have them, see [`silent`]: only packets
/// written by hand use them.
pub const SILENT: [&str; 2] = ["198.51.100.192/26", "2001:db8:51:2::/64"];
/// The router sends these to the nodes.
pub const VIPS: [&str; 2] = ["203.0.113.0/24", "2001:db8:113::/64"];
pub const BRIDGE: Pair = Pair::new([172, 18, 0, 1], [0x2001, 0xdb8, 0x18], 1);

/// The router on an underlay; there are at most two.
pub const fn router(uplink: usize) -> Pair {
    underlay(uplink, 1)
}

/// Node `index` (from 1) on an underlay.
pub const fn node(uplink: usize, index: u8) -> Pair {
    underlay(uplink, 10 + index)
}

/// A VIP of both families, by number.
pub const fn vip(number: u8) -> Pair {
    Pair::new([203, 0, 113, number], [0x2001, 0xdb8, 0x113], decimal(number))
}

/// A task's address on its node's bridge, by number from 2.
pub const fn task(number: u8) -> Pair {
    Pair::new([172, 18, 0, number], [0x2001, 0xdb8, 0x18], decimal(number))
}

/// One of the client's further addresses; 60 of them are distinct in IPv4.
pub const fn client_more(number: u8) -> Pair {
    Pair {
        v4: Ipv4Addr::new(198, 51, 100, 130 + number % 60),
        v6: Ipv6Addr::new(0x2001, 0xdb8, 0x51, 1, 0, 0, 0, decimal(number)),
    }
}

/// An address for packets written by hand; 60 of them are distinct in IPv4.
pub const fn silent(number: u8) -> Pair {
    Pair {
        v4: Ipv4Addr::new(198, 51, 100, 194 + number % 60),
        v6: Ipv6Addr::new(0x2001, 0xdb8, 0x51, 2, 0, 0, 0, decimal(number)),
    }
}

const fn underlay(uplink: usize, last: u8) -> Pair {
    if uplink == 0 {
        Pair::new([192, 0, 2, last], [0x2001, 0xdb8, 2], decimal(last))
    } else {
        Pair::new([198, 18, 1, last], [0x2001, 0xdb8, 3], decimal(last))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_two_families_read_alike() {
        assert_eq!(node(0, 1).v4.to_string(), "192.0.2.11");
        assert_eq!(node(0, 1).v6.to_string(), "2001:db8:2::11");
        assert_eq!(vip(113).v6.to_string(), "2001:db8:113::113");
    }
}
