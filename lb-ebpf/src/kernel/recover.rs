//! A flood can push a half-open entry out of its table while the handshake goes on. The task's kernel still knows whose it
//! is, and a segment of it need not be answered with a reset.

use lb_common::table::namespace;

use super::case::Case;
use super::skb::Skb;
use super::tables::local;
use super::{Path, create, ways};
use crate::frame::Frame;
use crate::parse::L4_MASK;
use crate::wire::{Tcp, tcp};

/// Rule 3, before anybody is asked: whether the member named is here and waits for this very segment to complete a
/// handshake. The flow is established then, unless this is a dry run.
///
/// Nothing else will do: an established socket may be that of a flow by another way, which must not be taken from it.
#[inline(never)]
pub fn recover<V: Path, const DRY: bool>(skb: Skb, case: &mut Case<V::Address>) -> bool {
    if case.packet.flags & (tcp::SYN | tcp::RST | tcp::ACK) != tcp::ACK {
        return false;
    }
    let Some(local) = local(case.arrival.member) else {
        return false;
    };
    if local.pool != case.choice.pool || local.ifindex == 0 || local.namespace == namespace::UNKNOWN {
        return false;
    }
    let state = create::prepare::<V>(case, local);
    if ways::find::<V>(case) == ways::TAKEN {
        return false;
    }
    awaits::<V>(skb, case, local.namespace) && (DRY || create::restore::<V>(case, state))
}

/// Asks about the segment as the task would see it.
#[inline(never)]
fn awaits<V: Path>(skb: Skb, case: &Case<V::Address>, namespace: i32) -> bool {
    let Some(mut segment) = skb.at::<Tcp>(case.packet.l4 as usize & L4_MASK) else {
        return false;
    };
    segment.source = case.back.client_port;
    segment.destination = case.back.task_port;
    V::awaits(skb, &case.back, namespace, &segment)
}
