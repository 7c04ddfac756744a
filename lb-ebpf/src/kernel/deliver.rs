//! Handing a packet to a task of this node.

use lb_common::Verdict;
use lb_common::table::HOST_TASK;

use super::Path;
use super::case::{Case, Ends};
use super::rewrite::rewrite;
use super::skb::Skb;

/// The packet goes to the task behind the device `case.task`, which sees it come by the flow's way back, `case.back`.
#[inline(always)]
pub fn deliver<V: Path>(skb: Skb, case: &mut Case<V::Address>) -> Verdict {
    case.ends = Ends::towards_task(&case.back);
    match rewrite::<V>(skb, case) {
        Ok(()) => hand::<V>(skb, case),
        Err(verdict) => verdict,
    }
}

/// Hands over a packet that already reads as the task shall see it: into its namespace, or to the node's own stack.
#[inline(always)]
pub fn hand<V: Path>(skb: Skb, case: &Case<V::Address>) -> Verdict {
    if case.task & HOST_TASK == 0 {
        return skb.to_peer(case.task, Verdict::Delivered);
    }
    if is_masked::<V>(case) {
        // Where the answer will be sent to: strict reverse-path filters let it pass.
        return skb.to_host(case.task & !HOST_TASK, Verdict::Delivered);
    }
    skb.to_stack();
    Verdict::DeliveredToHost
}

/// Whether the case is one of a task in the node's own namespace that sees the node's VIP in place of the client.
#[inline(always)]
pub fn is_masked<V: Path>(case: &Case<V::Address>) -> bool {
    case.task & HOST_TASK != 0 && case.back.client == V::node_vip()
}
