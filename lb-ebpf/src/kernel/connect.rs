//! Where a socket is led: to a task itself where all of a pool's tasks can be reached as they are, to the node's VIP where
//! it asked for a published port of its own machine, to our name server where that is wanted. Everything else is left to the
//! packets.

use aya_ebpf::helpers::generated::bpf_get_prandom_u32;
use lb_common::host::{ALONE, NODE_VIP4, NODE_VIP6, PLACEHOLDER, ROUTED, SHARED};
use lb_common::key::{Front, TCP};
use lb_common::socket::{End, map};
use lb_common::table::{Pool, namespace, pool_flag};
use lb_common::{V4, V6};

use super::call::Call;
use super::choose::head;
use super::clock;
use super::socket::Lookup;
use super::steer::{ASSIGNED, DIRECT, KEPT, OWN, RESOLVER};
use super::tables::{self, MEMBER, POOL, Tables};
use crate::parse::{Four, Six};

const DNS: [u8; 2] = 53u16.to_be_bytes();

const ROUTED4: V6 = map(NODE_VIP4);

/// What the rules for sockets need of an address family.
pub trait Side: Tables + Lookup {
    /// Where published ports answer to the node's own processes.
    const NODE_VIP: Self::Address;
    /// The same as a key of `OWN`: not on the stack, where the compiler would write it in words that are not aligned.
    const ROUTED: &'static V6;

    /// The very address that `localhost` stands for. Others of 127.0.0.0/8 are somebody's own: systemd-resolved's, Docker's.
    fn is_localhost(address: Self::Address) -> bool;

    /// Whether the socket was bound to a loopback address, which it cannot leave.
    fn is_bound(call: Call) -> bool;

    /// The VIP that other namespaces are led to from this address; the address itself where there is none. (Of an `Option` the
    /// compiler would copy what is not there, and the verifier refuses that.)
    fn assigned(address: Self::Address) -> Self::Address;

    /// As [`End`] has it.
    fn wide(address: Self::Address) -> V6;

    /// The reverse.
    fn near(address: &V6) -> Self::Address;
}

impl Side for Four {
    const NODE_VIP: V4 = NODE_VIP4;
    const ROUTED: &'static V6 = &ROUTED4;

    #[inline(always)]
    fn is_localhost(address: V4) -> bool {
        address == [127, 0, 0, 1]
    }

    #[inline(always)]
    fn is_bound(call: Call) -> bool {
        let [first, ..] = call.bound4();
        first == 127
    }

    #[inline(always)]
    fn assigned(address: V4) -> V4 {
        // SAFETY: the value is copied at once; the agent replaces whole values.
        unsafe { ASSIGNED.get(&address) }.copied().unwrap_or(address)
    }

    #[inline(always)]
    fn wide(address: V4) -> V6 {
        map(address)
    }

    #[inline(always)]
    fn near(&[.., a, b, c, d]: &V6) -> V4 {
        [a, b, c, d]
    }
}

impl Side for Six {
    const NODE_VIP: V6 = NODE_VIP6;
    const ROUTED: &'static V6 = &NODE_VIP6;

    #[inline(always)]
    fn is_localhost(address: V6) -> bool {
        address == [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]
    }

    #[inline(always)]
    fn is_bound(call: Call) -> bool {
        Self::is_localhost(call.bound6())
    }

    /// Orchestrators assign none.
    #[inline(always)]
    fn assigned(address: V6) -> V6 {
        address
    }

    #[inline(always)]
    fn wide(address: V6) -> V6 {
        address
    }

    #[inline(always)]
    fn near(address: &V6) -> V6 {
        *address
    }
}

/// Where to, and the member's tag where it is a task. `asked` is `address` and the port.
#[inline(always)]
pub fn choose<V: Side>(call: Call, address: V::Address, asked: &End, protocol: u8) -> Option<(End, u64)> {
    if asked.port == DNS
        && let Some(server) = resolver(&asked.address)
        && !call.is_of_node()
        // The name server ends with its agent; the one that was asked for may still answer.
        && !tables::settings().are_stale(clock::now())
    {
        return Some((server, 0));
    }
    let localhost = V::is_localhost(address);
    // On the node itself such an address is whosever it is there.
    let vip = V::assigned(address);
    let assigned = vip != address && !call.is_of_node();
    let meant = if assigned {
        vip
    } else if localhost {
        V::NODE_VIP
    } else {
        address
    };
    let front = Front::new(meant, asked.port, protocol);
    let number = tables::front::<V>(&front)?;
    let of_node = call.is_of_node();
    let own = !assigned && (localhost || is_own(&asked.address));
    // The same address may be another's in another namespace, as 172.17.0.1 is; where it is not, packets find the port.
    if own && !of_node {
        return None;
    }
    // Whoever listens on the node itself is meant.
    if own && (is_taken::<V>(call, address, asked, protocol) || V::is_bound(call)) {
        return None;
    }
    if protocol == TCP
        && let Some(member) = direct::<V>(call, POOL.get(number)?, of_node)
    {
        return Some(member);
    }
    if assigned {
        return Some((End::new(V::wide(vip), asked.port), 0));
    }
    // It answers where the port is published, and where packets for it have a way.
    let vip = Front::new(V::NODE_VIP, asked.port, protocol);
    if own && own_value(V::ROUTED) == ROUTED && tables::front::<V>(&vip) == Some(number) {
        return Some((End::new(V::wide(V::NODE_VIP), asked.port), 0));
    }
    None
}

/// One of the pool's members, if it can be reached as it is. All or none: a node that favoured the tasks it can reach would
/// load them more than the others.
#[inline(always)]
fn direct<V: Side>(call: Call, pool: &Pool, of_node: bool) -> Option<(End, u64)> {
    let reachable = if of_node {
        pool_flag::FLAT | pool_flag::HERE
    } else {
        pool_flag::FLAT
    };
    if pool.flags & reachable == 0 || pool.slots == 0 {
        return None;
    }
    // SAFETY: takes nothing, returns a number.
    let slot = unsafe { bpf_get_prandom_u32() } & (pool.slots - 1);
    let row = head(pool, pool.fresh, slot)?;
    let tag = MEMBER.get(row.member)?.tag;
    // SAFETY: the value is copied at once; the agent replaces whole values.
    let end = unsafe { DIRECT.get(&tag) }.copied()?;
    // A task that has closed its listener is about to leave: by packets another one is found.
    if of_node
        && let Some(local) = tables::local(tag)
        && local.namespace != namespace::UNKNOWN
        && !call.listens::<V>(V::near(&end.address), end.port, TCP, local.namespace)
    {
        return None;
    }
    Some((end, tag))
}

/// Whether sockets are led to this VIP from an assigned address.
#[inline(always)]
pub fn is_led_to(address: &V4) -> bool {
    ASSIGNED.get_ptr(address).is_some()
}

#[inline(always)]
fn resolver(address: &V6) -> Option<End> {
    // SAFETY: the value is copied at once; the agent replaces whole values.
    unsafe { RESOLVER.get(address) }.copied()
}

#[inline(always)]
fn is_own(address: &V6) -> bool {
    matches!(own_value(address), ALONE | SHARED)
}

#[inline(always)]
fn own_value(address: &V6) -> u8 {
    // SAFETY: the value is copied at once.
    unsafe { OWN.get(address) }.copied().unwrap_or(0)
}

/// Whether somebody listens on the node itself, other than a container engine that only holds the port. The kernel's lookup
/// does not tell one from the other, and does not find listeners bound to a device.
#[inline(always)]
fn is_taken<V: Side>(call: Call, address: V::Address, asked: &End, protocol: u8) -> bool {
    match kept(asked, protocol) {
        PLACEHOLDER => false,
        0 => call.listens::<V>(address, asked.port, protocol, namespace::OWN),
        _ => true,
    }
}

/// What is known of the listener that a socket would meet: the one at the very address, else that at all of them; 0: nothing.
#[inline(always)]
fn kept(asked: &End, protocol: u8) -> u8 {
    let any = [0; 16];
    // SAFETY: the values are copied at once; the agent replaces whole values.
    unsafe {
        match KEPT.get(&Front::new(asked.address, asked.port, protocol)) {
            Some(value) => *value,
            None => KEPT
                .get(&Front::new(any, asked.port, protocol))
                .copied()
                .unwrap_or(0),
        }
    }
}
