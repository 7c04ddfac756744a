//! ICMP errors about a balanced flow reach the one that must hear them, with the packet they quote translated back
//! (RFC 5508, section 4.2; RFC 4443).

use lb_common::Verdict;
use lb_common::checksum::Difference;

use super::Path;
use super::case::{Case, Ends};
use super::deliver::{hand, is_masked};
use super::skb::Skb;
use crate::frame::{Frame, L3};
use crate::parse::L4_MASK;
use crate::wire::{ICMP_CHECKSUM, ICMPV6};

/// Where the quoted packet starts, behind the ICMP header.
const QUOTE: usize = 8;

/// An error about something the task sent: to the task, as if about what it really sent. The source stays: it is the
/// router that found the error.
#[inline(always)]
pub fn deliver<V: Path>(skb: Skb, case: &mut Case<V::Address>) -> Verdict {
    case.ends = Ends::towards_task(&case.back);
    // By `portico0` the node takes nothing but what it would answer there.
    let keep_source = !is_masked::<V>(case);
    match translate::<V>(skb, case, keep_source) {
        Ok(()) => hand::<V>(skb, case),
        Err(verdict) => verdict,
    }
}

/// Gives the error the ends of its case (but for the source where that is kept), and the packet it quotes, which went
/// the other way, the reverse of them. The ICMP checksum follows.
#[inline(never)]
pub fn translate<V: Path>(skb: Skb, case: &Case<V::Address>, keep_source: bool) -> Result<(), Verdict> {
    let Case { packet, ends, .. } = case;
    let l4 = packet.l4 as usize & L4_MASK;
    let key = &packet.key;
    let outer = V::layer3(skb, L3).ok_or(Verdict::Truncated)?;
    // The client itself is shown as the task sees it.
    let source = if keep_source && outer.source != key.client {
        &outer.source
    } else {
        &ends.source
    };
    let old_ports = [
        key.front_port[0],
        key.front_port[1],
        key.client_port[0],
        key.client_port[1],
    ];
    let new_ports = [
        ends.destination_port[0],
        ends.destination_port[1],
        ends.source_port[0],
        ends.source_port[1],
    ];
    // An IPv4 header's own checksum makes up for its addresses; in IPv6 nothing does.
    let mut inside = Difference::new().replace4(old_ports, new_ports);
    if V::ICMP == ICMPV6 {
        let pseudo = V::addresses([&outer.source, &outer.destination], [source, &ends.destination]);
        skb.checksum(l4 + ICMP_CHECKSUM, pseudo.wide(), V::checksum_flags())?;
        inside = inside.and(V::addresses(
            [&key.front, &key.client],
            [&ends.destination, &ends.source],
        ));
    }
    skb.checksum(l4 + ICMP_CHECKSUM, inside.wide(), 0)?;
    skb.put(packet.quoted as usize & L4_MASK, new_ports)
        .ok_or(Verdict::Truncated)?;
    V::readdress(skb, l4 + QUOTE, &ends.destination, &ends.source, 0)?;
    V::readdress(skb, L3, source, &ends.destination, 1)
}
