//! From a frame to a flow: what the packet is, where its headers lie, and whether they can be believed.
//!
//! Parsing has two steps. [`sketch`] reads as little as tells whether the packet concerns us; only when it does,
//! [`verify`] looks for lengths that cannot be, so that a malformed packet for somebody else is left to the kernel and
//! one for a frontend is dropped and counted.

use lb_common::key::{self, FlowKey};
use lb_common::{Address, V4, V6, Verdict};

use crate::frame::{Frame, L3};
use crate::wire::{self, Ipv4, Ipv6, Tcp, tcp};

/// What a packet is to us.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Kind {
    Tcp,
    Udp,
    /// An ICMP error; [`Packet::key`] is the flow of the packet it quotes.
    IcmpError,
}

/// One packet, as seen from the side that sent it: `key.client` is its source, `key.front` its destination. For an ICMP
/// error the key is that of the packet quoted, turned round: it reads as if the error's receiver had been sent to.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Packet<A> {
    pub key: FlowKey<A>,
    /// Offset in the frame of the transport header.
    pub l4: u32,
    /// Offset in the frame of the end of the IP packet.
    pub end: u32,
    /// Offset in the frame of the quoted packet's transport header; 0 unless an ICMP error.
    pub quoted: u32,
    pub kind: Kind,
    /// TCP flags; 0 otherwise.
    pub flags: u8,
    pub part: Part,
    pub pad: u8,
    /// Identification of a fragmented datagram; 0 for a whole one.
    pub id: [u8; 4],
}

/// Which part of a datagram a packet is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Part {
    Whole,
    /// The first fragment, which has the transport header.
    First,
    /// Another, which has none: [`Packet::key`] lacks the ports.
    Later,
}

impl<A: Address> Packet<A> {
    /// A packet that is nothing special.
    #[inline(always)]
    fn new(key: FlowKey<A>, kind: Kind, l4: usize, end: usize) -> Self {
        Self {
            key,
            l4: l4 as u32,
            end: end as u32,
            quoted: 0,
            kind,
            flags: 0,
            part: Part::Whole,
            pad: 0,
            id: [0; 4],
        }
    }

    /// Asks for a new connection: SYN without ACK, RST or FIN.
    #[inline(always)]
    pub fn is_new(&self) -> bool {
        self.flags & (tcp::SYN | tcp::ACK | tcp::RST | tcp::FIN) == tcp::SYN
    }
}

/// The IP layer of a packet.
#[derive(Clone, Copy)]
pub struct Layer3<A> {
    pub source: A,
    pub destination: A,
    pub protocol: u8,
    /// Offset of the next header, and of the end of the packet, in the frame.
    pub next: usize,
    pub end: usize,
    pub part: Part,
    pub id: [u8; 4],
}

/// One address family.
pub trait Family: 'static {
    type Address: Address;
    const ETHERTYPE: u16;
    /// Bytes of the IP header without options or extensions.
    const HEADER: usize;
    /// Protocol number of this family's ICMP.
    const ICMP: u8;

    /// Reads the IP header at `offset`. `None` where it is too short, of another version, or not understood.
    fn layer3<F: Frame>(frame: F, offset: usize) -> Option<Layer3<Self::Address>>;

    /// ICMP types that report an error about a packet they quote.
    fn is_error(icmp_type: u8) -> bool;
}

pub enum Four {}
pub enum Six {}

impl Family for Four {
    type Address = V4;
    const ETHERTYPE: u16 = wire::ETHERTYPE_IPV4;
    const HEADER: usize = size_of::<Ipv4>();
    const ICMP: u8 = wire::ICMP;

    #[inline(always)]
    fn layer3<F: Frame>(frame: F, offset: usize) -> Option<Layer3<V4>> {
        let ip: Ipv4 = frame.at(offset)?;
        let words = (ip.version_and_words & 0x0f) as usize;
        if ip.version_and_words >> 4 != 4 || words < 5 {
            return None;
        }
        Some(Layer3 {
            source: ip.source,
            destination: ip.destination,
            protocol: ip.protocol,
            next: offset + words * 4,
            end: offset + u16::from_be_bytes(ip.length) as usize,
            part: part(
                u16::from_be_bytes(ip.fragment) & 0x1fff,
                ip.fragment[0] & 0x20 != 0,
            ),
            id: [0, 0, ip.id[0], ip.id[1]],
        })
    }

    #[inline(always)]
    fn is_error(icmp_type: u8) -> bool {
        // Destination unreachable, time exceeded, parameter problem (RFC 792).
        matches!(icmp_type, 3 | 11 | 12)
    }
}

impl Family for Six {
    type Address = V6;
    const ETHERTYPE: u16 = wire::ETHERTYPE_IPV6;
    const HEADER: usize = size_of::<Ipv6>();
    const ICMP: u8 = wire::ICMPV6;

    #[inline(always)]
    fn layer3<F: Frame>(frame: F, offset: usize) -> Option<Layer3<V6>> {
        let ip: Ipv6 = frame.at(offset)?;
        if ip.version_class_flow[0] >> 4 != 6 {
            return None;
        }
        let mut layer = Layer3 {
            source: ip.source,
            destination: ip.destination,
            protocol: ip.next,
            next: offset + size_of::<Ipv6>(),
            end: offset + size_of::<Ipv6>() + u16::from_be_bytes(ip.payload) as usize,
            part: Part::Whole,
            id: [0; 4],
        };
        // Extension headers (RFC 8200, section 4): at most two before the transport header.
        for _ in 0..2 {
            match layer.protocol {
                // Hop-by-hop, routing, destination options: length in units of 8 bytes beyond the first.
                0 | 43 | 60 => {
                    let [next, length]: [u8; 2] = frame.at(layer.next & 0x1ff)?;
                    layer.protocol = next;
                    layer.next = (layer.next & 0x1ff) + 8 + (length & 7) as usize * 8;
                    if length > 7 {
                        return None;
                    }
                }
                44 => {
                    let [next, _, high, low, id @ ..]: [u8; 8] = frame.at(layer.next & 0x1ff)?;
                    layer.protocol = next;
                    layer.next = (layer.next & 0x1ff) + 8;
                    layer.part = part(u16::from_be_bytes([high, low]) >> 3, low & 1 != 0);
                    layer.id = id;
                }
                _ => return Some(layer),
            }
        }
        Some(layer)
    }

    #[inline(always)]
    fn is_error(icmp_type: u8) -> bool {
        // Unreachable, too big, time exceeded, parameter problem (RFC 4443, section 2.1).
        matches!(icmp_type, 1..=4)
    }
}

/// The part that lies at `offset`, with more to come or not.
#[inline(always)]
fn part(offset: u16, more: bool) -> Part {
    match (offset, more) {
        (0, false) => Part::Whole,
        (0, true) => Part::First,
        _ => Part::Later,
    }
}

/// Highest offset of a transport header that is followed: Ethernet, IPv6 and two extension headers, or the same inside
/// an ICMP error. A power of two less one, so that a mask gives the verifier its bound.
pub const L4_MASK: usize = 0x1ff;

/// What the packet is and which flow it belongs to; `None` where it cannot concern us.
#[inline(always)]
pub fn sketch<V: Family, F: Frame>(frame: F) -> Option<Packet<V::Address>> {
    let ip = V::layer3(frame, L3)?;
    let l4 = ip.next & L4_MASK;
    if ip.part == Part::Later {
        return sketch_later(&ip);
    }
    if ip.protocol == V::ICMP {
        return sketch_error::<V, F>(frame, l4, ip.end);
    }
    let (kind, flags) = match ip.protocol {
        key::TCP => (Kind::Tcp, frame.at::<Tcp>(l4)?.flags),
        key::UDP => (Kind::Udp, 0),
        _ => return None,
    };
    let [a, b, c, d]: [u8; 4] = frame.at(l4)?;
    let key = FlowKey::new(ip.source, ip.destination, [a, b], [c, d], ip.protocol);
    Some(Packet {
        flags,
        part: ip.part,
        id: ip.id,
        ..Packet::new(key, kind, l4, ip.end)
    })
}

/// A later fragment of a TCP segment or UDP datagram.
#[inline(always)]
fn sketch_later<A: Address>(ip: &Layer3<A>) -> Option<Packet<A>> {
    let kind = match ip.protocol {
        key::TCP => Kind::Tcp,
        key::UDP => Kind::Udp,
        _ => return None,
    };
    let key = FlowKey::new(ip.source, ip.destination, [0; 2], [0; 2], ip.protocol);
    Some(Packet {
        part: Part::Later,
        id: ip.id,
        ..Packet::new(key, kind, ip.next & L4_MASK, ip.end)
    })
}

/// The flow of the packet that an ICMP error quotes.
#[inline(always)]
fn sketch_error<V: Family, F: Frame>(frame: F, l4: usize, end: usize) -> Option<Packet<V::Address>> {
    // Two bytes: the verifier takes no range from the comparison that guards a single one.
    let [icmp_type, _]: [u8; 2] = frame.at(l4)?;
    if !V::is_error(icmp_type) {
        return None;
    }
    let quoted = V::layer3(frame, l4 + 8)?;
    if quoted.part == Part::Later || !matches!(quoted.protocol, key::TCP | key::UDP) {
        return None;
    }
    let quoted_l4 = quoted.next & L4_MASK;
    let [a, b, c, d]: [u8; 4] = frame.at(quoted_l4)?;
    let (client, front) = (quoted.destination, quoted.source);
    let key = FlowKey::new(client, front, [c, d], [a, b], quoted.protocol);
    Some(Packet {
        quoted: quoted_l4 as u32,
        ..Packet::new(key, Kind::IcmpError, l4, end)
    })
}

/// Whether an IPv4 header is what its sender wrote (RFC 791, section 3.1). Asked of what goes to another node, as a router
/// does; what is delivered here is checked by the task's own kernel, which the changes of ours leave wrong where it was.
#[inline(always)]
pub fn is_summed<F: Frame>(frame: F) -> bool {
    let Some(words) = frame.at::<[u32; 5]>(L3) else {
        return false;
    };
    let [a, b, c, d, e] = words.map(u64::from);
    let mut sum = a + b + c + d + e;
    let options = (u32::from_be(words[0]) >> 24 & 0xf).saturating_sub(5) as usize;
    if options != 0 {
        for index in 0..10 {
            if index < options {
                let Some(word) = frame.at::<u32>(L3 + 20 + 4 * index) else {
                    return false;
                };
                sum += word as u64;
            }
        }
    }
    let sum = (sum >> 32) + (sum & 0xffff_ffff);
    let sum = (sum >> 16) + (sum & 0xffff);
    let sum = (sum >> 16) + (sum & 0xffff);
    let sum = (sum >> 16) + (sum & 0xffff);
    sum == 0xffff
}

/// Looks for lengths that cannot be, in a packet that [`sketch`] understood.
#[inline(always)]
pub fn verify<A, F: Frame>(frame: F, packet: &Packet<A>) -> Result<(), Verdict> {
    let l4 = packet.l4 as usize & L4_MASK;
    let end = packet.end as usize;
    if end > frame.length() {
        return Err(Verdict::Truncated);
    }
    if packet.part == Part::Later {
        return if l4 <= end {
            Ok(())
        } else {
            Err(Verdict::BadHeader)
        };
    }
    let fits = match packet.kind {
        Kind::Tcp => {
            let tcp: Tcp = frame.at(l4).ok_or(Verdict::Truncated)?;
            let header = (tcp.words >> 4) as usize * 4;
            // SYN and FIN, or SYN and RST, in one segment is nobody's connection (RFC 9293, section 3.10.7).
            let nonsense =
                tcp.flags & wire::tcp::SYN != 0 && tcp.flags & (wire::tcp::FIN | wire::tcp::RST) != 0;
            header >= size_of::<Tcp>() && l4 + header <= end && !nonsense
        }
        Kind::Udp => {
            let [_, _, _, _, high, low]: [u8; 6] = frame.at(l4).ok_or(Verdict::Truncated)?;
            let length = u16::from_be_bytes([high, low]) as usize;
            // A first fragment tells the length of the whole datagram.
            length >= 8 && (l4 + length <= end || packet.part == Part::First) && l4 + 8 <= end
        }
        Kind::IcmpError => packet.quoted as usize + 4 <= end,
    };
    if fits { Ok(()) } else { Err(Verdict::BadHeader) }
}
