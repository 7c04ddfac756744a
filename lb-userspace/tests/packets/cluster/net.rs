//! The two address families, and where everything is in each.

use std::net::{IpAddr, SocketAddr};

use lb_common::key::{FlowKey, RevKey};
use lb_common::{Address, V4, V6};

use super::{MSS4, MSS6, TARGET, port};

/// An address family under test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Net {
    Four,
    Six,
}

pub const BOTH: [Net; 2] = [Net::Four, Net::Six];

impl Net {
    fn pick(self, four: &str, six: &str) -> IpAddr {
        match self {
            Net::Four => four.parse().unwrap(),
            Net::Six => six.parse().unwrap(),
        }
    }

    /// The address of every frontend: this node's own.
    pub fn front(self, port: u16) -> SocketAddr {
        (self.pick("192.0.2.11", "2001:db8::11"), port).into()
    }

    pub fn client(self) -> SocketAddr {
        (self.pick("198.51.100.7", "2001:db8:c::7"), 40_000).into()
    }

    pub fn task(self) -> SocketAddr {
        (self.pick("172.18.0.2", "2001:db8:18::2"), TARGET).into()
    }

    pub fn second(self) -> SocketAddr {
        (self.pick("172.18.0.3", "2001:db8:18::3"), TARGET).into()
    }

    pub fn router(self) -> IpAddr {
        self.pick("203.0.113.9", "2001:db8:f::9")
    }

    /// `name` with the family's digit.
    pub fn map(self, name: &str) -> String {
        format!("{name}{}", if self == Net::Four { 4 } else { 6 })
    }

    /// The number of the pool behind `port`.
    pub fn pool(self, port: u16) -> u32 {
        (port - port::HERE) as u32 + if self == Net::Four { 0 } else { 8 }
    }

    /// The id of that pool, 0 where there is none.
    pub fn pool_of(self, port: u16) -> u64 {
        match port {
            port::HERE..=port::AFFINE => 0x1122_3344_5500_0000 | self.pool(port) as u64,
            _ => 0,
        }
    }

    pub fn mss(self) -> u16 {
        if self == Net::Four { MSS4 } else { MSS6 }
    }
}

/// Calls `$body` with `$a` standing for the family's address type.
#[macro_export]
macro_rules! by_family {
    ($net:expr, $a:ident => $body:expr) => {
        match $net {
            $crate::cluster::Net::Four => {
                type $a = lb_common::V4;
                $body
            }
            $crate::cluster::Net::Six => {
                type $a = lb_common::V6;
                $body
            }
        }
    };
}

/// An address as a map holds it.
pub trait Narrow: Address {
    fn of(address: IpAddr) -> Self;
}

impl Narrow for V4 {
    fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(address) => address.octets(),
            IpAddr::V6(address) => panic!("{address} is IPv6"),
        }
    }
}

impl Narrow for V6 {
    fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(address) => panic!("{address} is IPv4"),
            IpAddr::V6(address) => address.octets(),
        }
    }
}

pub fn flow_key<A: Narrow>(client: SocketAddr, front: SocketAddr, protocol: u8) -> FlowKey<A> {
    FlowKey {
        client: A::of(client.ip()),
        front: A::of(front.ip()),
        client_port: client.port().to_be_bytes(),
        front_port: front.port().to_be_bytes(),
        protocol: protocol.into(),
    }
}

pub fn rev_key<A: Narrow>(task: SocketAddr, client: SocketAddr, protocol: u8) -> RevKey<A> {
    RevKey {
        task: A::of(task.ip()),
        client: A::of(client.ip()),
        task_port: task.port().to_be_bytes(),
        client_port: client.port().to_be_bytes(),
        protocol: protocol.into(),
    }
}
