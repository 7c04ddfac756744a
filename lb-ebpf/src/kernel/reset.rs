//! Resets built in the program (RFC 9293, section 3.10.7.1): silence would leave the client waiting, and a reset with a
//! wrong sequence number would not be believed.

use lb_common::Verdict;
use lb_common::checksum;
use lb_common::geneve::flag;
use lb_common::key::TCP;

use super::Path;
use super::back::send_back;
use super::case::{Case, Ends};
use super::header::{is_offloaded, word};
use super::skb::Skb;
use crate::frame::{Frame, L3};
use crate::parse::L4_MASK;
use crate::wire::{self, Tcp, tcp};

/// Answers a segment that nobody has a connection for, by the way it came.
#[inline(always)]
pub fn answer<V: Path>(skb: Skb, case: &mut Case<V::Address>) -> Verdict {
    if let Err(verdict) = build::<V>(skb, case) {
        return verdict;
    }
    case.arrival.flags &= flag::SCOPED;
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
    // The kernel does not cut what it takes for encapsulated (a packet out of a tunnel on a virtual wire); then the rest
    // travels as padding, which the IP length leaves out.
    if skb.resize(at + size_of::<Tcp>()).is_err() && skb.segment() != 0 {
        return Err(Verdict::Failed);
    }
    let key = &packet.key;
    let payload = size_of::<Tcp>() as u16;
    V::write(skb, &key.front, &key.client, TCP, payload)?;
    let pseudo = V::pseudo(&key.front, &key.client, TCP, payload);
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
