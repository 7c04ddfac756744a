//! Head and runner-up of a slot, one by one and for whole tables.

use super::score::{Draws, Rank};
use super::{Candidate, State};
use crate::table::NO_MEMBER;

/// The most members a pool can have: offsets are 16 bits and the last one means "none".
const MOST: usize = NO_MEMBER as usize;

/// Slots ranked together: their scores so far stay on the stack while the members pass by, so that what a member costs
/// once is paid once for all of them.
const STRIDE: usize = 64;

/// Offset in `members` of the member a new connection of `slot` goes to: the active member with the highest score, else
/// the warming one, else the draining one; none in an empty pool. Members beyond the 65,535th are not considered.
pub fn head(seed: u64, slot: u32, members: &[Candidate]) -> Option<usize> {
    let class = class(members)?;
    let mut one = [NO_MEMBER];
    rank(seed, slot, members, class, &mut one, None);
    offset(one[0])
}

/// Offset in `members` of the active member with the second highest score: where the owner deflects a connection that
/// the head cannot take, and where the share of a suspected node goes. None with fewer than two active members.
pub fn runner_up(seed: u64, slot: u32, members: &[Candidate]) -> Option<usize> {
    let (mut first, mut second) = ([NO_MEMBER], [NO_MEMBER]);
    rank(seed, slot, members, State::Active, &mut first, Some(&mut second));
    offset(second[0])
}

/// The [`head`] of slots 0, 1, 2 and so on, [`NO_MEMBER`] where there is none.
pub fn fill_heads(seed: u64, members: &[Candidate], heads: &mut [u16]) {
    let Some(class) = class(members) else {
        heads.fill(NO_MEMBER);
        return;
    };
    let mut slot = 0;
    for heads in heads.chunks_mut(STRIDE) {
        rank(seed, slot, members, class, heads, None);
        slot += STRIDE as u32;
    }
}

/// The [`runner_up`] of slots 0, 1, 2 and so on, [`NO_MEMBER`] where there is none.
pub fn fill_runners_up(seed: u64, members: &[Candidate], runners_up: &mut [u16]) {
    let mut heads = [NO_MEMBER; STRIDE];
    let mut slot = 0;
    for second in runners_up.chunks_mut(STRIDE) {
        rank(
            seed,
            slot,
            members,
            State::Active,
            &mut heads[..second.len()],
            Some(second),
        );
        slot += STRIDE as u32;
    }
}

/// Brings `heads` up to date after the member at `changed` alone became another (a new tag, state or weight), or was
/// put at the end of the list. Only the slots it had and the slots it takes are written; their number is returned.
///
/// To remove a member, let it drain first (it then has no slot unless no other member is active), and drop it from the
/// list afterwards.
pub fn update_heads(seed: u64, members: &[Candidate], heads: &mut [u16], changed: usize) -> usize {
    let others_decide = members[..changed.min(members.len())]
        .iter()
        .chain(members.get(changed + 1..).unwrap_or_default())
        .any(|m| m.state == State::Active);
    // Without another active member the change may be one from active to warming heads, or back.
    let newcomer = members.get(changed).filter(|m| m.state == State::Active);
    let mut written = 0;
    let mut slot = 0;
    for heads in heads.chunks_mut(STRIDE) {
        let mut fresh = [NO_MEMBER; STRIDE];
        let fresh = &mut fresh[..heads.len()];
        if !others_decide {
            match class(members) {
                Some(class) => rank(seed, slot, members, class, fresh, None),
                None => fresh.fill(NO_MEMBER),
            }
        } else {
            for (at, (fresh, &head)) in fresh.iter_mut().zip(heads.iter()).enumerate() {
                let slot = slot + at as u32;
                *fresh = match (members.get(head as usize), newcomer) {
                    _ if head as usize == changed => match self::head(seed, slot, members) {
                        Some(head) => head as u16,
                        None => NO_MEMBER,
                    },
                    (Some(holder), Some(new)) if rank_of(seed, slot, new) > rank_of(seed, slot, holder) => {
                        changed as u16
                    }
                    _ => head,
                };
            }
        }
        for (head, &mut fresh) in heads.iter_mut().zip(fresh) {
            if *head != fresh {
                *head = fresh;
                written += 1;
            }
        }
        slot += STRIDE as u32;
    }
    written
}

/// The state from which heads are taken.
fn class(members: &[Candidate]) -> Option<State> {
    [State::Active, State::Warming, State::Draining]
        .into_iter()
        .find(|&state| members.iter().take(MOST).any(|m| m.state == state))
}

fn offset(member: u16) -> Option<usize> {
    (member != NO_MEMBER).then_some(member as usize)
}

fn rank_of(seed: u64, slot: u32, member: &Candidate) -> Rank {
    Rank {
        score: Draws::new(seed, member.tag).best(slot, member.weight),
        tag: member.tag,
    }
}

/// Best, and second best where asked for, of the members in state `class`, for at most [`STRIDE`] slots from `slot` on.
fn rank(
    seed: u64,
    slot: u32,
    members: &[Candidate],
    class: State,
    first: &mut [u16],
    second: Option<&mut [u16]>,
) {
    const NOBODY: Rank = Rank { score: 0, tag: 0 };
    let mut best = [NOBODY; STRIDE];
    first.fill(NO_MEMBER);
    let candidates = members
        .iter()
        .take(MOST)
        .enumerate()
        .filter(|(_, m)| m.state == class)
        .map(|(offset, m)| (offset as u16, m, Draws::new(seed, m.tag)));
    let Some(second) = second else {
        for (offset, member, draws) in candidates {
            for (at, (best, first)) in best.iter_mut().zip(first.iter_mut()).enumerate() {
                let score = draws.best(slot + at as u32, member.weight);
                if score < best.score {
                    continue;
                }
                let rank = Rank {
                    score,
                    tag: member.tag,
                };
                if rank > *best || *first == NO_MEMBER {
                    (*best, *first) = (rank, offset);
                }
            }
        }
        return;
    };
    let mut next = [NOBODY; STRIDE];
    second.fill(NO_MEMBER);
    for (offset, member, draws) in candidates {
        for at in 0..first.len().min(STRIDE) {
            let rank = Rank {
                score: draws.best(slot + at as u32, member.weight),
                tag: member.tag,
            };
            if rank > best[at] || first[at] == NO_MEMBER {
                (next[at], second[at]) = (best[at], first[at]);
                (best[at], first[at]) = (rank, offset);
            } else if rank > next[at] || second[at] == NO_MEMBER {
                (next[at], second[at]) = (rank, offset);
            }
        }
    }
}

#[cfg(test)]
mod tests;
