//! Ingress rules 1 to 3: from a packet for a frontend to the node that answers for it. Nothing is written but hints,
//! and no table grows with the number of flows.

use lb_common::hash;
use lb_common::key::{FlowKey, Front, UDP};
use lb_common::table::{BLOCK, BY_PROXY, GIVEN, Member, NO_MEMBER, NOBODY_ELSE, Pool, node_flag, pool_flag};
use lb_common::trace::Step;

use super::case::Choice;
use super::globals::{seed, self_node};
use super::tables::{HEAD, MEMBER, NODE, POOL, Tables, settings};
use super::{clock, note};

/// The pool and the flow's slot in it. `None` for a pool that has just been taken away: its entry is empty, and its first
/// slot would be another pool's.
#[inline(always)]
pub fn slot<V: Tables>(
    client: V::Address,
    ports: u32,
    protocol: u8,
    number: u32,
) -> Option<(&'static Pool, u32, u16)> {
    let pool = POOL.get(number)?;
    if pool.slots == 0 {
        return None;
    }
    let (ports, protocol) = if pool.flags & pool_flag::CLIENT_AFFINITY != 0 {
        (0, 0)
    } else {
        (ports, protocol)
    };
    let hash = hash::flow_hash(seed(), client, ports, protocol);
    Some((pool, hash::slot(hash, pool.slots), hash as u16))
}

/// A slot whose head only the proxy reaches, and nobody else knows of its connections.
const ALONE: u16 = BY_PROXY | NOBODY_ELSE;

/// One slot of a head table.
pub struct Row {
    /// Number of its member in `MEMBER`, behind the table's end where it is [`NOBODY_ELSE`].
    pub member: u32,
    /// Some flow of it has a hint.
    pub hinted: bool,
    /// See [`BY_PROXY`].
    pub by_proxy: bool,
}

/// `slot` of the head table that starts at `first`; none: it has no member.
#[inline(always)]
pub fn head(pool: &Pool, first: u32, slot: u32) -> Option<Row> {
    let block = HEAD.get(first + slot / BLOCK)?;
    let row = (slot % BLOCK) as usize;
    let offset = *block.member.get(row)?;
    if offset == NO_MEMBER {
        return None;
    }
    Some(Row {
        member: match offset {
            ALONE => u32::MAX,
            _ => pool.members + (offset & !BY_PROXY) as u32,
        },
        hinted: block.hinted >> row & 1 != 0,
        by_proxy: offset & BY_PROXY != 0,
    })
}

/// Whether there is a proxy that takes what is new. Without the agent nobody listens: then the member that the slot names beside
/// it serves, where there is one.
#[inline(always)]
fn is_up(row: &Row) -> bool {
    row.member == u32::MAX || !settings().are_stale(clock::now())
}

/// Whether the node of a member is suspected.
#[inline(always)]
fn is_down(member: u32) -> bool {
    MEMBER.get(member).is_some_and(is_suspected)
}

/// The same of the member itself.
#[inline(always)]
pub fn is_suspected(member: &Member) -> bool {
    NODE.get(member.node as u32)
        .is_some_and(|node| node.flags & node_flag::DOWN != 0)
}

/// Tag of the member that this node's own table has for a slot, 0 where there is none.
#[inline(always)]
pub fn own_head(choice: &Choice) -> u64 {
    let Some(pool) = POOL.get(choice.pool) else {
        return 0;
    };
    let member = head(pool, pool.head, choice.slot).and_then(|row| MEMBER.get(row.member));
    member.map_or(0, |member| member.tag)
}

/// Chooses for a packet whose frontend is `at`, a pool's number and perhaps [`GIVEN`]; `new`: it asks for a connection. `None`
/// where the table is not there.
#[inline(always)]
pub fn choose<V: Tables, const DRY: bool>(
    client: V::Address,
    client_port: [u8; 2],
    front: &Front<V::Address>,
    new: bool,
    at: u32,
) -> Option<Choice> {
    let number = at & !GIVEN;
    let ([a, b], [c, d]) = (client_port, front.port);
    let ports = u32::from_le_bytes([a, b, c, d]);
    let (pool, slot, entropy) = slot::<V>(client, ports, front.protocol, number)?;
    let mut choice = Choice {
        tag: 0,
        pool: number,
        slot,
        member: 0,
        node: self_node(),
        entropy,
        vni: pool.id as u32,
        flags: if at & GIVEN != 0 {
            pool.flags | pool_flag::PROXIED
        } else {
            pool.flags
        },
    };
    if new {
        note::step::<DRY>(Step::Syn, 0);
    }
    note::step::<DRY>(Step::Slot, slot);
    let Some(mut row) = head(pool, pool.head, slot) else {
        return Some(choice);
    };
    let first = row.member;
    // While a node is suspected its new connections go elsewhere; and so do later packets, since it may really be down:
    // whoever took the connection has it, and for older ones the chain leads to the node if it is alive after all.
    if pool.fresh != pool.head
        && (new || is_down(first))
        && let Some(fresh) = head(pool, pool.fresh, slot)
    {
        row.member = fresh.member;
        row.by_proxy = fresh.by_proxy;
    }
    choice.member = row.member.wrapping_sub(pool.members);
    if row.by_proxy && is_up(&row) {
        choice.flags |= pool_flag::PROXIED;
    } else {
        note::step::<DRY>(
            if row.member != first {
                Step::Fresh
            } else {
                Step::Head
            },
            choice.member,
        );
    }
    if let Some(member) = MEMBER.get(row.member) {
        choice.tag = member.tag;
        choice.node = member.node;
    }
    if row.hinted {
        // Made only here: it would cost every packet a good part of its time.
        let key = &FlowKey::new(client, front.address, client_port, front.port, front.protocol);
        if new {
            if !DRY {
                // A tuple that is used again starts anew.
                let _ = V::hints().remove(key);
            }
        } else if let Some(hint) = V::hints().get_ptr(key) {
            // SAFETY: one aligned word of a live map value.
            let node = unsafe { (*hint).node };
            // Of a node that is gone the chain knows, or the flow begins anew. A datagram has no time to wait for one that may be.
            let wrong = if front.protocol == UDP {
                node_flag::BARE | node_flag::DOWN
            } else {
                node_flag::BARE
            };
            if NODE
                .get(node as u32)
                .is_some_and(|node| node.flags & (node_flag::KNOWN | wrong) == node_flag::KNOWN)
            {
                choice.node = node;
                choice.flags |= pool_flag::HINTED;
                note::step::<DRY>(Step::Hinted, node as u32);
            }
        }
    }
    Some(choice)
}
