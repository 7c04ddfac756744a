//! Resets built in the program (RFC 9293, section 3.10.7.1): silence would leave the client waiting, and a reset with a
//! wrong sequence number would not be believed.

use lb_common::checksum;
use lb_common::key::TCP;
use lb_common::{V4, V6, Verdict};

use super::Path;
use super::case::Case;
use super::reply::send_back;
use super::rewrite::Ends;
use super::skb::Skb;
use crate::frame::{Frame, L3};
use crate::parse::L4_MASK;
use crate::wire::{self, Tcp, tcp};

/// Writing a whole IP header.
pub trait Header: crate::parse::Family {
    /// Writes a header for `payload` bytes of TCP behind it, and gives the sum of its pseudo header.
    fn write(
        skb: Skb,
        source: &Self::Address,
        destination: &Self::Address,
        payload: u16,
    ) -> Result<u32, Verdict>;
}

/// Answers a segment that nobody has a connection for, by the way it came.
#[inline(always)]
pub fn answer<V: Path>(skb: Skb, case: &mut Case<V::Address>) -> Verdict {
    if let Err(verdict) = build::<V>(skb, case) {
        return verdict;
    }
    case.arrival.flags = 0;
    match send_back::<V>(skb, case) {
        Verdict::Replied | Verdict::ReplyRelayed => Verdict::Reset,
        verdict => verdict,
    }
}

/// Turns the segment into its answer, in place.
#[inline(never)]
fn build<V: Path>(skb: Skb, case: &mut Case<V::Address>) -> Result<(), Verdict> {
    let packet = &mut case.packet;
    let l4 = packet.l4 as usize & L4_MASK;
    let segment: Tcp = skb.at(l4).ok_or(Verdict::Truncated)?;
    let header = (segment.words >> 4) as u32 * 4;
    let flags = segment.flags;
    let length = packet.end.wrapping_sub(packet.l4).wrapping_sub(header)
        + (flags & tcp::SYN != 0) as u32
        + (flags & tcp::FIN != 0) as u32;
    let offloaded = is_offloaded(skb, l4 + wire::TCP_CHECKSUM)?;
    let at = L3 + V::HEADER;
    if offloaded && at != l4 {
        // The device would write the checksum where the old header was.
        return Err(Verdict::Failed);
    }
    skb.resize(at + size_of::<Tcp>())?;
    let key = &packet.key;
    let pseudo = V::write(skb, &key.front, &key.client, size_of::<Tcp>() as u16)?;
    let acknowledged = flags & tcp::ACK != 0;
    let mut answer = Tcp {
        source: key.front_port,
        destination: key.client_port,
        sequence: if acknowledged {
            segment.acknowledgement
        } else {
            [0; 4]
        },
        acknowledgement: if acknowledged {
            [0; 4]
        } else {
            u32::from_be_bytes(segment.sequence)
                .wrapping_add(length)
                .to_be_bytes()
        },
        words: 5 << 4,
        flags: if acknowledged {
            tcp::RST
        } else {
            tcp::RST | tcp::ACK
        },
        window: [0; 2],
        checksum: [0; 2],
        urgent: [0; 2],
    };
    let word = |bytes: [u8; 2]| u16::from_ne_bytes(bytes) as u32;
    let [a, b, c, d] = answer.sequence;
    let [e, f, g, h] = answer.acknowledgement;
    let own = word(answer.source)
        + word(answer.destination)
        + word([a, b])
        + word([c, d])
        + word([e, f])
        + word([g, h])
        + word([answer.words, answer.flags]);
    answer.checksum = if offloaded {
        checksum::fold(pseudo).to_ne_bytes()
    } else {
        (!checksum::fold(pseudo + own)).to_ne_bytes()
    };
    skb.put(at, answer).ok_or(Verdict::Failed)?;
    case.ends = Ends {
        source: key.front,
        destination: key.client,
        source_port: key.front_port,
        destination_port: key.client_port,
    };
    packet.l4 = at as u32;
    packet.end = (at + size_of::<Tcp>()) as u32;
    Ok(())
}

/// Whether the checksum is still to be computed by a device (`CHECKSUM_PARTIAL`). No helper tells; but such a checksum
/// ignores a change of the payload.
#[inline(always)]
fn is_offloaded(skb: Skb, checksum: usize) -> Result<bool, Verdict> {
    let before: [u8; 2] = skb.at(checksum).ok_or(Verdict::Truncated)?;
    skb.checksum(checksum, 1, 0)?;
    let after: [u8; 2] = skb.at(checksum).ok_or(Verdict::Truncated)?;
    Ok(before == after)
}

impl Header for crate::parse::Four {
    #[inline(always)]
    fn write(skb: Skb, source: &V4, destination: &V4, payload: u16) -> Result<u32, Verdict> {
        let length = (size_of::<wire::Ipv4>() as u16 + payload).to_be_bytes();
        let addresses = words4(source) + words4(destination);
        let sum = addresses
            + u16::from_ne_bytes([0x45, 0]) as u32
            + u16::from_ne_bytes(length) as u32
            + u16::from_ne_bytes([0x40, 0]) as u32
            + u16::from_ne_bytes([64, TCP]) as u32;
        let header = wire::Ipv4 {
            version_and_words: 0x45,
            tos: 0,
            length,
            id: [0; 2],
            fragment: [0x40, 0],
            ttl: 64,
            protocol: TCP,
            checksum: (!checksum::fold(sum)).to_ne_bytes(),
            source: *source,
            destination: *destination,
        };
        skb.put(L3, header).ok_or(Verdict::Failed)?;
        Ok(pseudo(addresses, payload))
    }
}

impl Header for crate::parse::Six {
    #[inline(always)]
    fn write(skb: Skb, source: &V6, destination: &V6, payload: u16) -> Result<u32, Verdict> {
        let [high, low] = payload.to_be_bytes();
        skb.put(L3, [0x60, 0, 0, 0, high, low, TCP, 64])
            .ok_or(Verdict::Failed)?;
        skb.put(L3 + 8, *source).ok_or(Verdict::Failed)?;
        skb.put(L3 + 24, *destination).ok_or(Verdict::Failed)?;
        Ok(pseudo(words16(source) + words16(destination), payload))
    }
}

#[inline(always)]
fn pseudo(addresses: u32, payload: u16) -> u32 {
    addresses + u16::from_ne_bytes([0, TCP]) as u32 + u16::from_ne_bytes(payload.to_be_bytes()) as u32
}

#[inline(always)]
fn words4(&[a, b, c, d]: &V4) -> u32 {
    u16::from_ne_bytes([a, b]) as u32 + u16::from_ne_bytes([c, d]) as u32
}

#[inline(always)]
fn words16(&[a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p]: &V6) -> u32 {
    words4(&[a, b, c, d]) + words4(&[e, f, g, h]) + words4(&[i, j, k, l]) + words4(&[m, n, o, p])
}
