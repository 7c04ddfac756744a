//! Handing a packet to a task of this node.

use lb_common::Verdict;

use super::Path;
use super::case::{Case, Ends};
use super::rewrite::rewrite;
use super::skb::Skb;

/// The packet goes to the task behind the device `case.task`, which sees it come by the flow's way back, `case.back`.
#[inline(always)]
pub fn deliver<V: Path>(skb: Skb, case: &mut Case<V::Address>) -> Verdict {
    case.ends = Ends::towards_task(&case.back);
    match rewrite::<V>(skb, case) {
        Ok(()) => skb.to_peer(case.task, Verdict::Delivered),
        Err(verdict) => verdict,
    }
}
