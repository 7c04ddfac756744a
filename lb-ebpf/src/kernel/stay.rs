//! Datagrams stay where they went, in clusters of nodes with and without packet programs. Among packet programs an owner finds the
//! holder of a flow along the chain; what a proxy has is in no chain, and a proxy asks none. So the ingress remembers.

use lb_common::key::FlowKey;
use lb_common::table::{Last, Member, member_flag, pool_flag};
use lb_common::tick;
use lb_common::trace::Step;

use super::Path;
use super::case::{Case, Choice};
use super::choose::is_suspected;
use super::tables::{MEMBER, POOL, settings};
use super::{note, scope};
use crate::parse::Kind;

/// After so much silence a UDP flow has ended, and its client's port is another's (owner rule 8), in ticks.
const SILENCE: u32 = tick::from_seconds(180);

/// Changes the choice for a datagram, or an error about one, to where the flow's datagrams went before, if these are still served
/// there; else the choice stands, and is what later ones go by.
#[inline(never)]
pub fn stay<V: Path, const DRY: bool>(case: &mut Case<V::Address>) {
    let flags = case.choice.flags;
    // A hint is from whoever has the flow.
    if flags & (pool_flag::HINTED | pool_flag::PROXIED) == pool_flag::HINTED {
        return;
    }
    scope::enter::<V>(case);
    // SAFETY: map values outlive the program run. One that is given to another flow meanwhile leads this packet to a member of
    // the pool, or to the proxy; fields are written as single aligned words.
    if let Some(last) = V::lasts()
        .get_ptr_mut(&case.packet.key)
        .map(|last| unsafe { &mut *last })
        && tick::elapsed(case.now, last.tick) < SILENCE
        && follow(&mut case.choice, last, case.now)
    {
        if !DRY && last.tick != case.now {
            last.tick = case.now;
        }
        note::step::<DRY>(Step::Stays, 0);
        return;
    }
    let proxied = flags & pool_flag::PROXIED != 0;
    if !DRY && case.packet.kind == Kind::Udp && (proxied || case.choice.tag != 0) {
        let last = Last {
            tag: if proxied { 0 } else { case.choice.tag },
            member: case.choice.member,
            tick: case.now,
        };
        // One that finds no room is chosen for again.
        let _ = V::lasts().insert(&case.packet.key, &last, 0);
        if proxied && flags & pool_flag::HINTED != 0 {
            forget_hint::<V>(case);
        }
    }
}

/// Whoever had the flow, the proxy has it from now on, also when the slot is a member's again.
#[inline(always)]
fn forget_hint<V: Path>(case: &Case<V::Address>) {
    let key = &case.packet.key;
    // Hints know no realm.
    let hint = FlowKey::new(
        key.client,
        key.front,
        key.client_port,
        key.front_port,
        key.transport() as u8,
    );
    let _ = V::hints().remove(&hint);
}

/// False where nobody serves the flow there any more.
#[inline(always)]
fn follow(choice: &mut Choice, last: &Last, now: u32) -> bool {
    if last.tag == 0 {
        // Else its sockets may be closed, and their clients refused.
        let serves = choice.flags & pool_flag::SHARED != 0 && !settings().are_stale(now);
        if serves {
            choice.flags |= pool_flag::PROXIED;
        }
        return serves;
    }
    match member(choice.pool, last.member) {
        Some(member)
            if member.tag == last.tag && member.flags & member_flag::LEFT == 0 && !is_suspected(member) =>
        {
            if choice.flags & pool_flag::HINTED == 0 {
                choice.node = member.node;
            }
            (choice.tag, choice.member) = (member.tag, last.member);
            choice.flags &= !pool_flag::PROXIED;
            true
        }
        _ => false,
    }
}

/// A member of the pool by its offset, and no other pool's.
#[inline(always)]
fn member(pool: u32, offset: u32) -> Option<&'static Member> {
    let pool = POOL.get(pool)?;
    if offset >= pool.room {
        return None;
    }
    MEMBER.get(pool.members + offset)
}
