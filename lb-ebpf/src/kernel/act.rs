//! What the rules decided, done: the one place where packets are changed and sent.

use lb_common::Verdict;

use super::case::Case;
use super::deliver::deliver;
use super::relay::relay;
use super::skb::Skb;
use super::{Path, icmp, reset, too_big};
use crate::parse::Kind;

/// Carries out `verdict` on the packet of `case`: to the task behind `case.task`, to the node `case.choice.node`, or
/// back to its sender. The verdict changes where the kernel refuses.
#[inline(never)]
pub fn act<V: Path>(skb: Skb, case: &mut Case<V::Address>, verdict: Verdict) -> Verdict {
    match verdict {
        Verdict::Delivered => match case.packet.kind {
            Kind::IcmpError => icmp::deliver::<V>(skb, case),
            _ => deliver::<V>(skb, case),
        },
        Verdict::Relayed | Verdict::Chased | Verdict::Moved => match relay::<V>(skb, case, verdict) {
            Verdict::TooBig => too_big::to_client::<V>(skb, case),
            verdict => verdict,
        },
        Verdict::Reset => reset::answer::<V>(skb, case),
        verdict => verdict,
    }
}
