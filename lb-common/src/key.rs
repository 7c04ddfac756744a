//! Map keys. Addresses and ports are in network order, padding is explicit and zero. Flow keys are aligned to 8 bytes: the
//! verifier accepts no unaligned word on a program's stack. Their protocol is a word of the machine's: with three bytes of
//! padding beside a single one every key would cost a call that clears them.

use crate::{Address, Plain, V4, V6};

/// IP protocol number of TCP.
pub const TCP: u8 = 6;
/// IP protocol number of UDP.
pub const UDP: u8 = 17;

/// Where a service answers: the key of `FRONT4` and `FRONT6`. A port published on every node is there for each address
/// of this node, and once with the unspecified address: for what other nodes pass on, addressed to them.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Front<A> {
    pub address: A,
    pub port: [u8; 2],
    pub protocol: u8,
    pub pad: u8,
}

impl<A: Address> Front<A> {
    #[inline(always)]
    pub const fn new(address: A, port: [u8; 2], protocol: u8) -> Self {
        Self {
            address,
            port,
            protocol,
            pad: 0,
        }
    }
}

/// A client's flow to a frontend: the key of `HALF*`, `FLOW*`, `HINT*` and `LAST*`.
///
/// The upper half of `protocol` is the *realm*: the tag of the node on which the client's address means something, 0
/// where it means the same everywhere. `HINT*` does not tell realms apart; a hint is of use even where it is another's.
#[repr(C, align(8))]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FlowKey<A> {
    pub client: A,
    pub front: A,
    pub client_port: [u8; 2],
    pub front_port: [u8; 2],
    pub protocol: u32,
}

impl<A: Address> FlowKey<A> {
    #[inline(always)]
    pub const fn new(client: A, front: A, client_port: [u8; 2], front_port: [u8; 2], protocol: u8) -> Self {
        Self {
            client,
            front,
            client_port,
            front_port,
            protocol: protocol as u32,
        }
    }

    /// This flow, of a client whose address means something on node `realm` only.
    #[inline(always)]
    pub const fn in_realm(self, realm: u16) -> Self {
        Self {
            protocol: self.transport() | (realm as u32) << 16,
            ..self
        }
    }

    /// Tag of the node on which the client's address means something, 0 for any.
    #[inline(always)]
    pub const fn realm(&self) -> u16 {
        (self.protocol >> 16) as u16
    }

    /// The protocol alone, as [`RevKey::protocol`] has it.
    #[inline(always)]
    pub const fn transport(&self) -> u32 {
        self.protocol & 0xffff
    }

    /// The frontend this flow goes to.
    #[inline(always)]
    pub const fn to(&self) -> Front<A> {
        Front::new(self.front, self.front_port, self.protocol as u8)
    }

    /// Both ports as they stand in the packet, for [`flow_hash`](crate::hash::flow_hash).
    #[inline(always)]
    pub const fn ports(&self) -> u32 {
        let ([a, b], [c, d]) = (self.client_port, self.front_port);
        u32::from_le_bytes([a, b, c, d])
    }
}

/// A task's side of a flow, the key of `REV*` and `HALFREV*`: the task's address and port, the client's address, and
/// the port that the task sees the client under (the client's own unless two flows would collide).
#[repr(C, align(8))]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RevKey<A> {
    pub task: A,
    pub client: A,
    pub task_port: [u8; 2],
    pub client_port: [u8; 2],
    pub protocol: u32,
}

impl<A: Address> RevKey<A> {
    #[inline(always)]
    pub const fn new(task: A, client: A, task_port: [u8; 2], client_port: [u8; 2], protocol: u8) -> Self {
        Self {
            task,
            client,
            task_port,
            client_port,
            protocol: protocol as u32,
        }
    }
}

/// A fragmented datagram (RFC 791, section 3.2; RFC 8200, section 4.5), the key of `FRAGMENT*`: later fragments have no
/// ports, and find those of the first here.
#[repr(C, align(8))]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FragmentKey<A> {
    pub source: A,
    pub destination: A,
    /// Identification, as it stands in the header; IPv4 has two bytes of it.
    pub id: [u8; 4],
    pub protocol: u32,
}

// SAFETY: repr(C), explicit padding as the sizes show, byte arrays only.
unsafe impl Plain for Front<V4> {}
// SAFETY: as above.
unsafe impl Plain for Front<V6> {}
// SAFETY: as above.
unsafe impl Plain for FlowKey<V4> {}
// SAFETY: as above.
unsafe impl Plain for FlowKey<V6> {}
// SAFETY: as above.
unsafe impl Plain for RevKey<V4> {}
// SAFETY: as above.
unsafe impl Plain for RevKey<V6> {}

// SAFETY: as above.
unsafe impl Plain for FragmentKey<V4> {}
// SAFETY: as above.
unsafe impl Plain for FragmentKey<V6> {}

const _: () = assert!(size_of::<FragmentKey<V4>>() == 16 && size_of::<FragmentKey<V6>>() == 40);
const _: () = assert!(size_of::<Front<V4>>() == 8 && size_of::<Front<V6>>() == 20);
const _: () = assert!(size_of::<FlowKey<V4>>() == 16 && size_of::<FlowKey<V6>>() == 40);
const _: () = assert!(size_of::<RevKey<V4>>() == 16 && size_of::<RevKey<V6>>() == 40);
