//! What a change of the members may move, and what it may not.

use super::super::{Candidate, State, evenness_bound};
use super::*;
use crate::hash::mix;
use crate::table::NO_MEMBER;
use proptest::prelude::*;

const SLOTS: usize = 256;

fn member(tag: u64, weight: u16, state: State) -> Candidate {
    Candidate {
        tag,
        node: tag as u16,
        weight,
        peak: weight,
        state,
        first: 0,
        last: u64::MAX,
        seen_first: 0,
        seen_last: u64::MAX,
    }
}

fn equals(n: u64) -> Vec<Candidate> {
    (1..=n).map(|tag| member(mix(tag), 1, State::Active)).collect()
}

fn heads(members: &[Candidate], slots: usize) -> Vec<u16> {
    let mut heads = vec![0; slots];
    fill_heads(7, members, &mut heads);
    heads
}

/// The tag of each slot's head: what does not depend on the order of the list.
fn owners(members: &[Candidate], slots: usize) -> Vec<Option<u64>> {
    let tag = |&head: &u16| members.get(head as usize).map(|m| m.tag);
    heads(members, slots).iter().map(tag).collect()
}

fn states() -> impl Strategy<Value = State> {
    prop_oneof![3 => Just(State::Active), 1 => Just(State::Warming), 1 => Just(State::Draining)]
}

fn pools() -> impl Strategy<Value = Vec<Candidate>> {
    proptest::collection::btree_map(any::<u64>(), (1u16..6, states()), 0..12).prop_map(|members| {
        let member = |(tag, (weight, state))| member(tag, weight, state);
        members.into_iter().map(member).collect()
    })
}

/// Tables made on other machines of the cluster must be these.
#[test]
fn a_table_never_changes() {
    let pool = [
        member(0x1111, 1, State::Active),
        member(0x2222, 2, State::Active),
        member(0x3333, 3, State::Active),
        member(0x4444, 256, State::Draining),
        member(0x5555, 256, State::Warming),
    ];
    let digest = |table: &[u16]| table.iter().fold(0, |sum, &head| mix(sum ^ head as u64));
    let (heads, mut next) = (heads(&pool, 4096), vec![0; 4096]);
    fill_runners_up(7, &pool, &mut next);
    assert_eq!(heads[..16], GOLDEN);
    assert_eq!(digest(&heads), 0x2e63_69fd_44a1_2646);
    assert_eq!(digest(&next), 0xdef7_77a6_ee99_94f2);
}
const GOLDEN: [u16; 16] = [2, 0, 0, 2, 1, 2, 2, 2, 1, 0, 1, 0, 2, 2, 2, 2];

#[test]
fn an_empty_pool_has_no_head() {
    assert_eq!(head(1, 2, &[]), None);
    assert_eq!(heads(&[], 64), [NO_MEMBER; 64]);
}

#[test]
fn warming_members_serve_only_where_none_is_active_and_draining_ones_last() {
    let mut pool = [
        member(1, 1, State::Draining),
        member(2, 256, State::Warming),
        member(3, 1, State::Active),
    ];
    assert!(heads(&pool, 64).iter().all(|&head| head == 2));
    pool[2].state = State::Draining;
    assert!(heads(&pool, 64).iter().all(|&head| head == 1));
    pool[1].state = State::Draining;
    assert!(heads(&pool, 64).iter().all(|&head| head != NO_MEMBER));
}

#[test]
fn a_pool_of_one_has_no_runner_up() {
    let pool = [
        member(1, 1, State::Active),
        member(2, 1, State::Draining),
        member(3, 1, State::Warming),
    ];
    assert_eq!(runner_up(7, 0, &pool), None);
    assert_eq!(runner_up(7, 0, &[]), None);
}

#[test]
fn the_last_possible_member_can_be_head_and_the_one_after_cannot() {
    let mut pool = vec![member(1, 1, State::Draining); 65_536];
    pool[65_534].state = State::Active;
    assert_eq!(head(7, 3, &pool), Some(65_534));
    pool[65_534].state = State::Draining;
    pool[65_535].state = State::Active;
    assert_ne!(head(7, 3, &pool), Some(65_535));
}

#[test]
fn equal_members_share_a_table_within_the_stated_bound() {
    for (n, slots) in [(2, 4096), (3, 4096), (10, 16_384), (40, 65_536)] {
        let heads = heads(&equals(n), slots);
        for offset in 0..n as u16 {
            let found = heads.iter().filter(|&&head| head == offset).count() as u64;
            let off = (found * n * 1_000_000 / slots as u64).abs_diff(1_000_000);
            assert!(
                off <= evenness_bound(slots as u32, 1, n),
                "{offset} of {n} has {found} of {slots}"
            );
        }
    }
}

#[test]
fn a_member_of_twice_the_weight_has_twice_the_slots() {
    let weights = [1u16, 2, 3, 4, 10, 64];
    let total: u64 = weights.iter().map(|&w| w as u64).sum();
    let pool: Vec<_> = (1..)
        .zip(weights)
        .map(|(tag, w)| member(mix(tag), w, State::Active))
        .collect();
    let slots = 1 << 17;
    let heads = heads(&pool, slots);
    for (offset, &weight) in weights.iter().enumerate() {
        let found = heads.iter().filter(|&&head| head == offset as u16).count() as u64;
        let off = (found * total * 1_000_000 / (weight as u64 * slots as u64)).abs_diff(1_000_000);
        assert!(
            off <= evenness_bound(slots as u32, weight as u64, total),
            "weight {weight} has {found}"
        );
    }
}

proptest! {
    #[test]
    fn the_table_agrees_with_the_single_slot(pool in pools(), slots in 1..200usize) {
        let (heads, mut next) = (heads(&pool, slots), vec![0; slots]);
        fill_runners_up(7, &pool, &mut next);
        for slot in 0..slots {
            prop_assert_eq!(offset(heads[slot]), head(7, slot as u32, &pool));
            prop_assert_eq!(offset(next[slot]), runner_up(7, slot as u32, &pool));
        }
    }

    #[test]
    fn the_order_of_the_list_does_not_matter(pool in pools(), by in any::<u64>()) {
        let mut shuffled = pool.clone();
        shuffled.sort_by_key(|m| mix(m.tag ^ by));
        prop_assert_eq!(owners(&pool, SLOTS), owners(&shuffled, SLOTS));
    }

    #[test]
    fn the_head_has_the_highest_score_of_the_active(pool in pools(), slot: u32) {
        let score = |m: &Candidate| super::super::score(7, slot, m.tag, m.weight);
        let best = pool.iter().filter(|m| m.state == State::Active).max_by_key(|m| score(m));
        if let Some(best) = best {
            prop_assert_eq!(head(7, slot, &pool).map(|head| pool[head].tag), Some(best.tag));
        }
    }

    #[test]
    fn a_new_member_takes_slots_and_no_other_slot_moves(pool in pools(), tag: u64, weight in 1u16..6) {
        prop_assume!(pool.iter().any(|m| m.state == State::Active) && pool.iter().all(|m| m.tag != tag));
        let before = owners(&pool, SLOTS);
        let mut more = pool.clone();
        more.push(member(tag, weight, State::Active));
        for (before, after) in before.into_iter().zip(owners(&more, SLOTS)) {
            prop_assert!(after == before || after == Some(tag));
        }
    }

    #[test]
    fn a_member_that_drains_or_leaves_gives_up_its_slots_and_no_other_slot_moves(pool in pools(), at: prop::sample::Index) {
        prop_assume!(pool.iter().filter(|m| m.state == State::Active).count() > 1);
        let active: Vec<_> = (0..pool.len()).filter(|&i| pool[i].state == State::Active).collect();
        let at = active[at.index(active.len())];
        let before = owners(&pool, SLOTS);
        let (mut draining, mut gone) = (pool.clone(), pool.clone());
        draining[at].state = State::Draining;
        gone.remove(at);
        let after = owners(&draining, SLOTS);
        prop_assert_eq!(&after, &owners(&gone, SLOTS));
        for (before, after) in before.into_iter().zip(after) {
            prop_assert!(after == before || before == Some(pool[at].tag));
            prop_assert_ne!(after, Some(pool[at].tag));
        }
    }

    #[test]
    fn a_member_that_warms_moves_nothing(pool in pools(), tag: u64) {
        prop_assume!(pool.iter().any(|m| m.state == State::Active));
        let mut more = pool.clone();
        more.push(member(tag, 256, State::Warming));
        prop_assert_eq!(owners(&pool, SLOTS), owners(&more, SLOTS));
    }

    #[test]
    fn a_higher_weight_only_gains_slots(pool in pools(), at: prop::sample::Index) {
        prop_assume!(!pool.is_empty());
        let at = at.index(pool.len());
        let mut heavier = pool.clone();
        heavier[at].weight += 3;
        for (before, after) in owners(&pool, SLOTS).into_iter().zip(owners(&heavier, SLOTS)) {
            prop_assert!(after == before || after == Some(pool[at].tag));
        }
    }

    #[test]
    fn the_runner_up_is_the_head_once_the_head_is_gone(pool in pools(), slot in 0u32..1 << 20) {
        prop_assume!(pool.iter().filter(|m| m.state == State::Active).count() > 1);
        let first = head(7, slot, &pool).expect("somebody is active");
        let second = runner_up(7, slot, &pool).map(|m| pool[m].tag);
        let mut rest = pool.clone();
        rest.remove(first);
        prop_assert_eq!(second, head(7, slot, &rest).map(|m| rest[m].tag));
    }

    #[test]
    fn an_update_gives_the_table_that_filling_gives(
        pool in pools(), at: prop::sample::Index, tag: u64, weight in 1u16..9, state in states(), append: bool, slots in 1..200usize,
    ) {
        let mut table = heads(&pool, slots);
        let before = table.clone();
        let mut changed = pool.clone();
        let at = if append || pool.is_empty() { pool.len() } else { at.index(pool.len()) };
        if at == pool.len() {
            changed.push(member(tag, weight, state));
        } else {
            changed[at] = member(tag, weight, state);
        }
        let written = update_heads(7, &changed, &mut table, at);
        prop_assert_eq!(&table, &heads(&changed, slots));
        prop_assert_eq!(written, before.iter().zip(&table).filter(|(a, b)| a != b).count());
    }
}
