//! Programs at sockets: what a process asks for is turned into where it is led, and back where it looks.
//!
//! What was turned is kept by the socket's cookie until it is closed. The tables are of this module alone; should they be full
//! of sockets that are open, older entries give way to younger ones.

use aya_ebpf::bindings::BPF_F_NO_PREALLOC;
use aya_ebpf::btf_maps::{HashMap, LruHashMap};
use aya_ebpf::macros::btf_map;
use lb_common::host::{NODE_VIP4, NODE_VIP6};
use lb_common::key::{Front, TCP};
use lb_common::socket::{End, SocketKey, Turned, map, unmap};
use lb_common::{V4, V6};

use super::call::Call;
use super::connect::{self, Side};
use super::globals::{dns_port4, dns_port6};
use crate::parse::{Four, Six};

const MEMBERS: usize = 65_536;
const SOCKETS: usize = 65_536;
const DATAGRAMS: usize = 16_384;
const ADDRESSES: usize = 4_096;
const KEPTS: usize = 1_024;
const RESOLVERS: usize = 64;
const ASSIGNEDS: usize = 65_536;

/// Of a UDP socket that was led to more places, the oldest wait until younger ones need the room.
const ENDS: usize = 8;
const NOWHERE: End = End::new([0; 16], [0; 2]);

const NO_PREALLOC: usize = BPF_F_NO_PREALLOC as usize;

/// Sockets that were led somewhere else, by cookie.
#[btf_map]
static SOCKET: LruHashMap<u64, Turned, SOCKETS> = LruHashMap::new();
/// UDP sockets, and each place they were led to.
#[btf_map]
static DATAGRAM: LruHashMap<SocketKey, Turned, DATAGRAMS> = LruHashMap::new();
/// Members that can be connected to under their own address, by tag.
#[btf_map]
pub static DIRECT: HashMap<u64, End, MEMBERS, NO_PREALLOC> = HashMap::new();
/// Addresses of the node itself, and its VIPs ([`lb_common::host`]).
#[btf_map]
pub static OWN: HashMap<V6, u8, ADDRESSES, NO_PREALLOC> = HashMap::new();
/// What listeners of the node itself have of the published ports ([`lb_common::host`]), where the kernel's lookup does not say it;
/// with no address of either family for all.
#[btf_map]
pub static KEPT: HashMap<Front<V6>, u8, KEPTS, NO_PREALLOC> = HashMap::new();
/// Name servers that other namespaces ask, and which to ask instead; empty unless they are to be steered.
#[btf_map]
pub static RESOLVER: HashMap<V6, End, RESOLVERS, NO_PREALLOC> = HashMap::new();

/// Addresses of an orchestrator's own mesh, and the service's VIP that other namespaces are led to from there. Such a VIP is in
/// it too and leads to itself: what comes from it may be an answer to whoever asked elsewhere.
#[btf_map]
pub static ASSIGNED: HashMap<V4, V4, ASSIGNEDS, NO_PREALLOC> = HashMap::new();

/// connect() or a datagram sent to an IPv4 address.
#[inline(always)]
pub fn turn4(call: Call) {
    if let Some(end) = lead::<Four>(call, call.address4()) {
        call.set_address4(last4(&end.address));
        call.set_port(end.port);
    }
}

/// The same of an IPv6 socket, which can ask for an IPv4 address as well.
#[inline(always)]
pub fn turn6(call: Call) {
    let address = call.address6();
    let end = match unmap(address) {
        Some(address) => lead::<Four>(call, address),
        None => lead::<Six>(call, address),
    };
    if let Some(end) = end {
        call.set_address6(end.address);
        call.set_port(end.port);
    }
}

/// getpeername(): the process sees whom it asked for.
#[inline(always)]
pub fn show4(call: Call) {
    let peer = End::new(map(call.address4()), call.port());
    if let Some(asked) = asked(call, &peer) {
        call.set_address4(last4(&asked.address));
        call.set_port(asked.port);
    }
}

#[inline(always)]
pub fn show6(call: Call) {
    let peer = End::new(call.address6(), call.port());
    if let Some(asked) = asked(call, &peer) {
        call.set_address6(asked.address);
        call.set_port(asked.port);
    }
}

/// A datagram received, as [`show4`]. Every datagram whose receiver wants to know its sender comes here: first what costs
/// nothing.
#[inline(always)]
pub fn receive4(call: Call) {
    let address = call.address4();
    if call.port() == dns_port4() || address == NODE_VIP4 || connect::is_led_to(&address) {
        show4(call);
    }
}

#[inline(always)]
pub fn receive6(call: Call) {
    let port = call.port();
    if port == dns_port6() || port == dns_port4() {
        return show6(call);
    }
    let address = call.address6();
    if address == NODE_VIP6 || unmap(address).is_some_and(|of| of == NODE_VIP4 || connect::is_led_to(&of)) {
        show6(call);
    }
}

/// Where the socket is to be led, if not where it asked; noted for the way back.
#[inline(always)]
fn lead<V: Side>(call: Call, address: V::Address) -> Option<End> {
    let protocol = call.protocol()?;
    let asked = End::new(V::wide(address), call.port());
    let (end, tag) = connect::choose::<V>(call, address, &asked, protocol)?;
    note(
        call,
        protocol,
        Turned {
            asked,
            led: end,
            tag,
            namespace: call.namespace(),
        },
    );
    Some(end)
}

#[inline(always)]
fn note(call: Call, protocol: u8, mut turned: Turned) {
    let cookie = call.cookie();
    if protocol == TCP {
        // Without room the process sees the task's address, no more.
        let _ = SOCKET.insert(&cookie, &turned, 0);
        return;
    }
    let key = SocketKey::new(cookie, &turned.led);
    // SAFETY: read at once; values are replaced whole.
    if let Some(known) = unsafe { DATAGRAM.get(&key) } {
        // Without the padding: the verifier allows no unaligned words on the stack.
        if known.asked.port != turned.asked.port || known.asked.address != turned.asked.address {
            turned.led = known.led;
            let _ = DATAGRAM.insert(&key, &turned, 0);
        }
        return;
    }
    // SAFETY: the value is copied at once; values are replaced whole.
    let before = unsafe { SOCKET.get(&cookie) }.map_or(NOWHERE, |last| last.led);
    let _ = SOCKET.insert(&cookie, &turned, 0);
    turned.led = before;
    let _ = DATAGRAM.insert(&key, &turned, 0);
}

/// The socket is closed. Nobody is led with it any more.
#[inline(always)]
pub fn forget(cookie: u64) {
    // SAFETY: the value is copied at once; values are replaced whole.
    let Some(mut end) = unsafe { SOCKET.get(&cookie) }.map(|turned| turned.led) else {
        return;
    };
    let _ = SOCKET.remove(&cookie);
    for _ in 0..ENDS {
        let key = SocketKey::new(cookie, &end);
        // SAFETY: as above.
        let Some(before) = unsafe { DATAGRAM.get(&key) }.map(|turned| turned.led) else {
            return;
        };
        let _ = DATAGRAM.remove(&key);
        end = before;
    }
}

#[inline(always)]
fn asked(call: Call, peer: &End) -> Option<End> {
    let cookie = call.cookie();
    // SAFETY: the value is copied at once; values are replaced whole.
    unsafe {
        if call.protocol()? == TCP {
            let turned = SOCKET.get(&cookie)?;
            // It may have been connected somewhere else since.
            (turned.led.port == peer.port && turned.led.address == peer.address).then_some(turned.asked)
        } else {
            DATAGRAM
                .get(&SocketKey::new(cookie, peer))
                .map(|turned| turned.asked)
        }
    }
}

#[inline(always)]
fn last4(address: &V6) -> [u8; 4] {
    let [.., a, b, c, d] = *address;
    [a, b, c, d]
}
