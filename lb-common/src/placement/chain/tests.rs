//! The chain against its definition, read literally.

use super::super::{head, score};
use super::*;
use proptest::prelude::*;

/// Whether `a` outranks `m` in `slot`, `a` at its present weight, `m` at its highest.
fn outranks(slot: u32, a: &Candidate, m: &Candidate) -> bool {
    let (a, m) = (
        (score(7, slot, a.tag, a.weight), a.tag),
        (score(7, slot, m.tag, m.peak), m.tag),
    );
    a > m
}

/// Whether `m` has excluders on two nodes, where `elder` tells who was there before whom.
fn is_excluded(
    slot: u32,
    members: &[Candidate],
    m: &Candidate,
    elder: fn(&Candidate, &Candidate) -> bool,
) -> bool {
    let mut nodes: Vec<u16> = members
        .iter()
        .filter(|a| a.state == State::Active || a.state == State::Warming && m.state == State::Warming)
        .filter(|a| elder(a, m) && outranks(slot, a, m))
        .map(|a| a.node)
        .collect();
    nodes.sort_unstable();
    nodes.dedup();
    nodes.len() >= 2
}

/// The rule word for word, with no thought for its cost.
fn by_definition(slot: u32, members: &[Candidate]) -> [u16; CHAIN] {
    let mut found: Vec<&Candidate> = members
        .iter()
        .filter(|m| !is_excluded(slot, members, m, |a, m| a.last < m.first))
        .collect();
    found.sort_by_key(|m| {
        let unlikely = is_excluded(slot, members, m, |a, m| a.seen_last < m.seen_first);
        (
            unlikely,
            std::cmp::Reverse((score(7, slot, m.tag, m.peak), m.tag)),
        )
    });
    let mut nodes: Vec<u16> = Vec::new();
    for m in found {
        if !nodes.contains(&m.node) {
            nodes.push(m.node);
        }
    }
    nodes.resize(CHAIN, 0);
    nodes.try_into().expect("cut to size")
}

fn states() -> impl Strategy<Value = State> {
    prop_oneof![3 => Just(State::Active), 1 => Just(State::Warming), 1 => Just(State::Draining)]
}

fn members(nodes: u16, most: usize) -> impl Strategy<Value = Vec<Candidate>> {
    let member = (1..=nodes, 1u16..5, 0u16..4, states(), stamps(), stamps());
    proptest::collection::btree_map(any::<u64>(), member, 0..most).prop_map(|members| {
        members
            .into_iter()
            .map(
                |(tag, (node, weight, more, state, (first, last), (seen_first, seen_last)))| Candidate {
                    tag,
                    node,
                    weight,
                    peak: weight + more,
                    state,
                    first,
                    last,
                    seen_first,
                    seen_last,
                },
            )
            .collect()
    })
}

/// First and last; both unknown every now and then.
fn stamps() -> impl Strategy<Value = (u64, u64)> {
    prop_oneof![
        1 => Just((0, u64::MAX)),
        2 => (0u64..20, 0u64..20).prop_map(|(first, later)| (first, first + later)),
        // Of one revision: who outranks the others excludes them.
        2 => (0u64..4).prop_map(|revision| (2 * revision + 1, 2 * revision)),
    ]
}

fn active(tag: u64, first: u64) -> Candidate {
    Candidate {
        tag,
        node: tag as u16,
        weight: 1,
        peak: 1,
        state: State::Active,
        first,
        last: first,
        seen_first: 0,
        seen_last: u64::MAX,
    }
}

/// Tags of `members` in the order of their rank for slot 0.
fn ranked(mut members: Vec<Candidate>) -> Vec<Candidate> {
    members.sort_by_key(|m| std::cmp::Reverse(score(7, 0, m.tag, m.weight)));
    members
}

#[test]
fn nobody_holds_flows_of_an_empty_pool() {
    assert_eq!(chain(7, 0, &[]), [0; CHAIN]);
}

#[test]
fn without_stamps_every_node_is_listed() {
    let pool: Vec<_> = (1..=5)
        .map(|tag| Candidate {
            last: u64::MAX,
            ..active(tag, 0)
        })
        .collect();
    assert_eq!(chain(7, 0, &pool).iter().filter(|&&node| node != 0).count(), 5);
}

#[test]
fn two_elders_above_it_exclude_a_member_and_one_does_not() {
    let mut pool = ranked((1..=4).map(|tag| active(tag, 0)).collect());
    for (elder, last) in [(0, 1), (1, 2), (2, 3)] {
        pool[elder].last = last;
    }
    pool[3].first = 4;
    let nodes: Vec<_> = pool.iter().map(|m| m.node).collect();
    pool[1].first = 2;
    // Second: one elder. Third: unknown age. Fourth: three elders.
    assert_eq!(chain(7, 0, &pool)[..4], [nodes[0], nodes[1], nodes[2], 0]);
    pool[0].state = State::Draining;
    assert_eq!(chain(7, 0, &pool)[..4], [nodes[0], nodes[1], nodes[2], 0]);
    pool[1].state = State::Draining;
    assert_eq!(chain(7, 0, &pool)[..4], nodes[..]);
}

#[test]
fn elders_of_one_node_count_once() {
    let mut pool = ranked((1..=3).map(|tag| active(tag, 0)).collect());
    pool[2].first = 9;
    assert_eq!(chain(7, 0, &pool)[..3], [pool[0].node, pool[1].node, 0]);
    pool[1].node = pool[0].node;
    assert_eq!(chain(7, 0, &pool)[..3], [pool[0].node, pool[2].node, 0]);
}

#[test]
fn a_member_that_returned_excludes_only_who_came_after_its_return() {
    let mut pool = ranked((1..=3).map(|tag| active(tag, 0)).collect());
    pool[2].first = 9;
    pool[0].last = 10;
    assert_eq!(chain(7, 0, &pool)[2], pool[2].node);
}

#[test]
fn warming_members_exclude_only_each_other() {
    let mut pool = ranked((1..=3).map(|tag| active(tag, 0)).collect());
    pool[0].state = State::Warming;
    pool[1].state = State::Warming;
    pool[2].first = 9;
    assert_eq!(chain(7, 0, &pool)[2], pool[2].node);
    pool[2].state = State::Warming;
    assert_eq!(chain(7, 0, &pool)[2], 0);
}

#[test]
fn a_member_that_was_heavier_is_found_where_it_was_head_then() {
    let elders: Vec<_> = (1..=12).map(|tag| active(tag, 1)).collect();
    let late = Candidate {
        first: 2,
        last: 3,
        ..active(99, 2)
    };
    let listed = |m: Candidate, slot| {
        let pool: Vec<_> = elders.iter().copied().chain([m]).collect();
        chain(7, slot, &pool).contains(&99)
    };
    let count = |m| (0..1000).filter(|&slot| listed(m, slot)).count();
    let heavy = Candidate { peak: 64, ..late };
    assert!(
        count(heavy) > 800 && count(late) < 250,
        "{} {}",
        count(heavy),
        count(late)
    );
}

#[test]
fn only_six_nodes_fit() {
    let pool: Vec<_> = (1..=40)
        .map(|tag| Candidate {
            last: u64::MAX,
            ..active(tag, 0)
        })
        .collect();
    let nodes = chain(7, 0, &pool);
    assert!(nodes.iter().all(|&node| node != 0));
    assert_eq!(
        nodes.to_vec(),
        ranked(pool).iter().map(|m| m.node).take(6).collect::<Vec<_>>()
    );
}

#[test]
fn who_came_later_as_far_as_this_node_saw_is_asked_last_and_not_left_out() {
    let unknown: Vec<_> = (1..=9)
        .map(|tag| Candidate {
            last: u64::MAX,
            ..active(tag, 0)
        })
        .collect();
    let mut pool = ranked(unknown);
    // Two old members stand lowest; the others came together.
    for member in &mut pool[..7] {
        (member.seen_first, member.seen_last) = (3, 2);
    }
    let nodes = |at: [usize; CHAIN]| at.map(|at| pool[at].node);
    assert_eq!(chain(7, 0, &pool), nodes([0, 1, 7, 8, 2, 3]));
    let six = &pool[3..];
    let mut listed = chain(7, 0, six);
    let mut all: Vec<_> = six.iter().map(|m| m.node).collect();
    listed.sort_unstable();
    all.sort_unstable();
    assert_eq!(listed.to_vec(), all);
}

#[test]
fn a_whole_table_agrees_with_the_single_slot() {
    let pool: Vec<_> = (1..=9).map(|tag| active(tag, tag)).collect();
    let mut table = vec![
        ChainSlot {
            changed: 5,
            ..Default::default()
        };
        100
    ];
    fill_chains(7, &pool, &mut table);
    for (slot, entry) in (0..).zip(&table) {
        assert_eq!(entry.nodes, chain(7, slot, &pool));
        assert_eq!(Some(entry.next as usize), runner_up(7, slot, &pool));
        assert_eq!(entry.changed, 5);
    }
}

#[test]
fn suspected_nodes_come_last_and_nobody_is_left_out() {
    for (mut nodes, sorted) in [
        ([1, 2, 3, 4, 5, 6], [1, 3, 5, 2, 4, 6]),
        ([2, 1, 4, 0, 0, 0], [1, 2, 4, 0, 0, 0]),
        ([1, 3, 0, 0, 0, 0], [1, 3, 0, 0, 0, 0]),
        ([6, 4, 2, 0, 0, 0], [6, 4, 2, 0, 0, 0]),
        ([0; 6], [0; 6]),
    ] {
        put_last(&mut nodes, |node| node % 2 == 0);
        assert_eq!(nodes, sorted);
    }
}

proptest! {
    #[test]
    fn the_chain_is_what_its_definition_says(pool in members(9, 14), slot: u32) {
        prop_assert_eq!(chain(7, slot, &pool), by_definition(slot, &pool));
    }

    #[test]
    fn many_members_on_few_nodes_change_nothing_about_it(pool in members(4, 150), slot in 0u32..4) {
        prop_assert_eq!(chain(7, slot, &pool), by_definition(slot, &pool));
    }

    #[test]
    fn a_table_is_what_its_slots_are(pool in members(9, 60), slots in 1..40usize) {
        let mut table = vec![ChainSlot::default(); slots];
        fill_chains(7, &pool, &mut table);
        for (slot, entry) in (0..).zip(table) {
            prop_assert_eq!(entry.nodes, by_definition(slot, &pool));
            let next = runner_up(7, slot, &pool).map_or(NO_MEMBER, |next| next as u16);
            prop_assert_eq!(entry.next, next);
        }
    }

    #[test]
    fn the_active_head_of_six_nodes_is_listed(pool in members(6, 30), slot: u32) {
        if let Some(head) = head(7, slot, &pool) && pool[head].state == State::Active {
            prop_assert!(chain(7, slot, &pool).contains(&pool[head].node));
        }
    }

    #[test]
    fn the_order_of_the_list_does_not_matter(pool in members(9, 14), slot: u32, by: u64) {
        let mut shuffled = pool.clone();
        shuffled.sort_by_key(|m| crate::hash::mix(m.tag ^ by));
        prop_assert_eq!(chain(7, slot, &pool), chain(7, slot, &shuffled));
    }
}
