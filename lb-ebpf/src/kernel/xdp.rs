//! The XDP program: what can be finished before the kernel has made a packet of the frame. Relays to other nodes, and
//! replies that come out of the tunnel. Everything else is left to the tc program on the same device, unchanged.

use aya_ebpf::bindings::xdp_action::{XDP_DROP, XDP_PASS, XDP_TX};
use aya_ebpf::bindings::{BPF_FIB_LOOKUP_OUTPUT, bpf_fib_lookup as Fib, xdp_md};
use aya_ebpf::helpers::generated::{bpf_fib_lookup, bpf_redirect, bpf_xdp_adjust_head};
use lb_common::Verdict;
use lb_common::geneve::{OVERHEAD, PORT, Tunnel, flag};
use lb_common::key::{Front, TCP, UDP};
use lb_common::table::{CHAIN, GIVEN, INSIDE, Node, node_flag, pool_flag};
use lb_common::verdict::Outcome;

use super::Path;
use super::case::Arrival;
use super::choose::choose;
use super::clock::count;
use super::globals::{cookie, self_address, self_node};
use super::relay::{headers, outer_tos};
use super::tables::{self, FIB, NODE, PEER4, UPLINK};
use crate::frame::{Frame, L3};
use crate::parse::{Four, Part, Six, is_summed};
use crate::wire::{ETHERTYPE_IPV4, ETHERTYPE_IPV6, Ipv4, tcp};

/// A frame in an XDP program, its bounds read once: nothing here is reached after the frame has been moved.
#[derive(Clone, Copy)]
struct Window {
    start: usize,
    end: usize,
}

impl Frame for Window {
    #[inline(always)]
    fn start(&self) -> usize {
        self.start
    }

    #[inline(always)]
    fn end(&self) -> usize {
        self.end
    }

    #[inline(always)]
    fn length(&self) -> usize {
        self.end - self.start
    }
}

#[derive(Clone, Copy)]
struct Xdp(*mut xdp_md);

impl Xdp {
    #[inline(always)]
    fn window(self) -> Window {
        // SAFETY: the kernel's context, valid while the program runs.
        unsafe {
            Window {
                start: (*self.0).data as usize,
                end: (*self.0).data_end as usize,
            }
        }
    }

    #[inline(always)]
    fn ifindex(self) -> u32 {
        // SAFETY: as above.
        unsafe { (*self.0).ingress_ifindex }
    }

    /// Moves the start of the frame by `bytes`, forwards where positive.
    #[inline(always)]
    fn shift(self, bytes: i32) -> Option<Window> {
        // SAFETY: the helper checks the room there is.
        (unsafe { bpf_xdp_adjust_head(self.0, bytes) } == 0).then(|| self.window())
    }
}

/// What is decided, and what the kernel is told.
type Action = (Verdict, u32);

const PASS: Action = (Verdict::NotOurs, XDP_PASS);
const HAND_OVER: Action = (Verdict::HandedToTc, XDP_PASS);
const FAILED: Action = (Verdict::Failed, XDP_DROP);

/// Takes a frame from an uplink.
#[inline(always)]
pub fn uplink(context: *mut xdp_md) -> u32 {
    let xdp = Xdp(context);
    let window = xdp.window();
    let (verdict, action) = match window.at::<[u8; 2]>(L3 - 2).map(u16::from_be_bytes) {
        Some(ETHERTYPE_IPV4) if is_tunnel(window) => reply(xdp, window),
        Some(ETHERTYPE_IPV4) => ingress::<Four>(xdp, window),
        Some(ETHERTYPE_IPV6) => ingress::<Six>(xdp, window),
        _ => return XDP_PASS,
    };
    // What is passed on is counted once, by the tc program.
    if verdict.outcome() != Outcome::Passed || matches!(verdict, Verdict::HandedToTc) {
        count(verdict, window.length());
    }
    action
}

/// Ingress rules 1 and 2, where the owner is another node.
#[inline(always)]
fn ingress<V: Path>(xdp: Xdp, window: Window) -> Action {
    let Some(plain) = plain::<V>(window) else {
        return PASS;
    };
    let Some(number) = tables::front_and_reach::<V>(&plain.to) else {
        return PASS;
    };
    if number & (INSIDE | GIVEN) != 0 {
        return HAND_OVER;
    }
    let Some(choice) = choose::<V, false>(plain.from, plain.from_port, &plain.to, plain.is_new(), number)
    else {
        return HAND_OVER;
    };
    let host = choice.flags & (pool_flag::HOST_SOCKETS | pool_flag::PROXIED) != 0;
    // Where it went before, the tc program looks up.
    let stays = choice.flags & pool_flag::MIXED != 0 && plain.to.protocol == UDP;
    if choice.tag == 0 || choice.node == self_node() || host || stays || !is_sound::<V>(window, &plain) {
        return HAND_OVER;
    }
    let inner = plain.end - L3;
    let Some(node) = NODE.get(choice.node as u32) else {
        return HAND_OVER;
    };
    let ifindex = xdp.ifindex();
    let ready = node_flag::KNOWN | node_flag::RESOLVED;
    let redirects = node.ifindex != 0 && node.flags & node_flag::XDP != 0;
    let sendable = node.flags & ready == ready && (node.ifindex == ifindex || redirects);
    if !sendable || inner + OVERHEAD > node.mtu as usize {
        return HAND_OVER;
    }
    let arrival = Arrival {
        member: choice.tag,
        node: self_node(),
        device: ifindex as u8,
        flags: 0,
        list: [0; CHAIN],
    };
    let (outer, tunnel) = headers::<V>(node, &choice, &arrival, inner, outer_tos::<V, _>(window));
    let Some(window) = xdp.shift(-(OVERHEAD as i32)) else {
        return FAILED;
    };
    match write(window, node, &outer, &tunnel) {
        Some(()) => (Verdict::Relayed, send(ifindex, node.ifindex, node.flags)),
        None => FAILED,
    }
}

/// A whole TCP or UDP packet without IP options or extensions.
struct Plain<A> {
    from: A,
    from_port: [u8; 2],
    to: Front<A>,
    /// TCP flags.
    flags: u8,
    /// Offset in the frame of the end of the IP packet.
    end: usize,
}

impl<A> Plain<A> {
    /// As [`Packet::is_new`](crate::parse::Packet::is_new).
    #[inline(always)]
    fn is_new(&self) -> bool {
        self.flags & (tcp::SYN | tcp::ACK | tcp::RST | tcp::FIN) == tcp::SYN
    }
}

/// Reads a packet that is rare in nothing; any other is left to the tc program.
#[inline(always)]
fn plain<V: Path>(window: Window) -> Option<Plain<V::Address>> {
    // One check for everything that is read: headers up to the TCP flags.
    let [a, b, c, d]: [u8; 4] = window.at(L3 + V::HEADER)?;
    let ip = V::layer3(window, L3)?;
    if ip.part != Part::Whole || ip.next != L3 + V::HEADER || ip.end > window.length() {
        return None;
    }
    let flags = match ip.protocol {
        TCP => window.at::<[u8; 14]>(L3 + V::HEADER)?[13],
        UDP => 0,
        _ => return None,
    };
    Some(Plain {
        from: ip.source,
        from_port: [a, b],
        to: Front::new(ip.destination, [c, d], ip.protocol),
        flags,
        end: ip.end,
    })
}

/// Lengths and flags that can be; the tc program finds out and counts what is wrong with the others.
#[inline(always)]
fn is_sound<V: Path>(window: Window, plain: &Plain<V::Address>) -> bool {
    let l4 = L3 + V::HEADER;
    if V::HEADER == size_of::<Ipv4>() && !is_summed(window) {
        return false;
    }
    if plain.to.protocol == TCP {
        let Some([words, flags]) = window.at::<[u8; 2]>(l4 + 12) else {
            return false;
        };
        let header = (words >> 4) as usize * 4;
        let nonsense = flags & tcp::SYN != 0 && flags & (tcp::FIN | tcp::RST) != 0;
        header >= 20 && l4 + header <= plain.end && !nonsense
    } else {
        let Some(length) = window.at::<[u8; 2]>(l4 + 4) else {
            return false;
        };
        let length = u16::from_be_bytes(length) as usize;
        length >= 8 && l4 + length <= plain.end
    }
}

/// Writes Ethernet and tunnel headers to the front of the frame.
#[inline(always)]
fn write(window: Window, node: &Node, outer: &Ipv4, tunnel: &Tunnel) -> Option<()> {
    let words = tunnel.words();
    window.put(
        L3 + size_of::<Ipv4>() + 4 * (words.len() - 1),
        words[words.len() - 1],
    )?;
    for (index, word) in words.into_iter().enumerate() {
        window.put(L3 + size_of::<Ipv4>() + 4 * index, word)?;
    }
    window.put(L3, *outer)?;
    window.put(L3 - 2, ETHERTYPE_IPV4.to_be_bytes())?;
    window.put(0, node.next_hop)?;
    window.put(6, node.own)
}

/// Out by the device it came in on, or by another; `flags` are those of that one ([`node_flag`]).
#[inline(always)]
fn send(from: u32, to: u32, flags: u16) -> u32 {
    if from == to && flags & node_flag::REDIRECT == 0 {
        return XDP_TX;
    }
    // SAFETY: takes numbers only.
    unsafe { bpf_redirect(to, 0) as u32 }
}

/// Whether the frame is for this node's end of the tunnel.
#[inline(always)]
fn is_tunnel(window: Window) -> bool {
    let Some(ip) = window.at::<Ipv4>(L3) else {
        return false;
    };
    let Some(port) = window.at::<[u8; 2]>(L3 + size_of::<Ipv4>() + 2) else {
        return false;
    };
    ip.version_and_words == 0x45
        && ip.protocol == UDP
        && ip.destination == self_address()
        && port == PORT.to_be_bytes()
}

/// Return rule 2 for a reply without news; what else comes out of the tunnel is the owner's, in tc, and so is the
/// counting of what must be dropped.
#[inline(always)]
fn reply(xdp: Xdp, window: Window) -> Action {
    let (Some(ip), Some(tunnel)) = (window.at::<Ipv4>(L3), window.at::<Tunnel>(L3 + size_of::<Ipv4>()))
    else {
        return HAND_OVER;
    };
    // SAFETY: only the presence of the value is used.
    let is_peer = unsafe { PEER4.get(ip.source) }.is_some();
    let length = u16::from_be_bytes(ip.length) as usize;
    let udp = u16::from_be_bytes(tunnel.udp_length) as usize;
    let whole = L3 + length <= window.length() && udp + size_of::<Ipv4>() == length;
    if !is_peer || tunnel.check(cookie()).is_err() || tunnel.flags != flag::REPLY || !whole {
        return HAND_OVER;
    }
    if tunnel.protocol == ETHERTYPE_IPV6.to_be_bytes() {
        forward::<Six>(xdp, window, &tunnel)
    } else {
        forward::<Four>(xdp, window, &tunnel)
    }
}

#[inline(always)]
fn forward<V: Path>(xdp: Xdp, window: Window, tunnel: &Tunnel) -> Action {
    let at = L3 + OVERHEAD;
    let Some(ip) = V::layer3(window, at) else {
        return HAND_OVER;
    };
    if ip.next != at + V::HEADER
        || ip.part != Part::Whole
        || ip.end > window.length()
        || !matches!(ip.protocol, TCP | UDP)
    {
        return HAND_OVER;
    }
    let Some(port) = window.at::<[u8; 2]>(at + V::HEADER) else {
        return HAND_OVER;
    };
    if tables::front::<V>(&Front::new(ip.source, port, ip.protocol)).is_none() {
        return HAND_OVER;
    }
    let ifindex = xdp.ifindex();
    // By the routing table, where no device is named.
    if tunnel.device == 0 {
        return HAND_OVER;
    }
    let Some(uplink) = UPLINK.get(tunnel.device as u32) else {
        return HAND_OVER;
    };
    if uplink.ifindex == 0 || (uplink.ifindex != ifindex && uplink.xdp & node_flag::XDP as u32 == 0) {
        return HAND_OVER;
    }
    let Some(fib) = FIB.get_ptr_mut(0) else {
        return HAND_OVER;
    };
    // SAFETY: the element of this CPU, which one program at a time uses; all zeroes is a valid value of it.
    let fib = unsafe {
        fib.write(core::mem::zeroed());
        &mut *fib
    };
    fib.ifindex = uplink.ifindex;
    V::fill(fib, ip.destination);
    // SAFETY: the structure's size is given.
    let found = unsafe {
        bpf_fib_lookup(
            xdp.0.cast(),
            &raw mut *fib,
            size_of::<Fib>() as i32,
            BPF_FIB_LOOKUP_OUTPUT,
        )
    };
    if found != 0 || fib.ifindex != uplink.ifindex {
        return HAND_OVER;
    }
    let Some(window) = xdp.shift(OVERHEAD as i32) else {
        return FAILED;
    };
    let written = window
        .put(0, fib.dmac)
        .and_then(|()| window.put(6, fib.smac))
        .and_then(|()| window.put(L3 - 2, V::ETHERTYPE.to_be_bytes()));
    match written {
        Some(()) => (
            Verdict::ReplyForwarded,
            send(ifindex, uplink.ifindex, uplink.xdp as u16),
        ),
        None => FAILED,
    }
}
