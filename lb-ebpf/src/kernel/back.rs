//! The way back to a client: out of this node, or through the tunnel to the one it came by.

use lb_common::geneve::flag;
use lb_common::key::FlowKey;
use lb_common::table::{CHAIN, node_flag, pool_flag};
use lb_common::{Verdict, hash};

use super::Path;
use super::case::{Arrival, Case, Choice};
use super::globals::self_node;
use super::hint::hint;
use super::leave::leave;
use super::relay::relay;
use super::skb::Skb;
use super::tables::{self, NODE, POOL};

/// Sends a packet that now reads "from the frontend, to the client", as `case.ends` have it, by the node and the
/// device of `case.arrival`.
#[inline(never)]
pub fn send_back<V: Path>(skb: Skb, case: &mut Case<V::Address>) -> Verdict {
    let ends = &case.ends;
    let flow = FlowKey {
        client: ends.destination,
        front: ends.source,
        client_port: ends.destination_port,
        front_port: ends.source_port,
        protocol: case.packet.key.transport(),
    };
    let Arrival { node, device, .. } = case.arrival;
    let rehint = case.arrival.flags & flag::REHINT;
    let scoped = case.arrival.flags & flag::SCOPED != 0;
    if node == self_node() {
        if rehint != 0 {
            hint::<V>(&flow, self_node(), case.now);
        }
        return leave::<V>(skb, &flow.client, device, case.leaving, Verdict::Replied);
    }
    // From here a scoped client's address leads to somebody else.
    if !scoped && leaves_here::<V>(&flow, node) {
        return leave::<V>(skb, &flow.client, 0, case.leaving, Verdict::Replied);
    }
    let entropy = hash::flow_hash(0, flow.client, flow.ports(), flow.protocol as u8) as u16;
    case.choice = Choice {
        tag: 0,
        pool: u32::MAX,
        slot: 0,
        member: 0,
        node,
        entropy,
        vni: 0,
        flags: 0,
    };
    case.arrival = Arrival {
        member: 0,
        node: self_node(),
        device,
        flags: flag::REPLY | rehint,
        list: [0; CHAIN],
    };
    relay::<V>(skb, case, Verdict::ReplyRelayed)
}

/// Rule 9: the ingress node is down or gone, and any node may speak for a VIP.
#[inline(always)]
fn leaves_here<V: Path>(flow: &FlowKey<V::Address>, node: u16) -> bool {
    let Some(node) = NODE.get(node as u32) else {
        return false;
    };
    if node.flags & (node_flag::KNOWN | node_flag::DOWN) == node_flag::KNOWN {
        return false;
    }
    tables::front::<V>(&flow.to())
        .and_then(|pool| POOL.get(pool))
        .is_some_and(|pool| pool.flags & pool_flag::VIP != 0)
}
