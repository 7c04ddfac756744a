//! Each task's share of a head table, and how even the table is.

use lb_common::placement::{Candidate, MILLIONTHS, State, evenness_bound, fill_heads, standard_deviation};
use lb_common::table::NO_MEMBER;
use serde::{Deserialize, Serialize};

use crate::api::backend::number;
use crate::api::facts::Facts;
use crate::model::Pool;

/// A task's part of one table.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Share {
    pub task: String,
    pub node: String,
    /// `active`, `warming`, `draining`.
    pub state: String,
    pub weight: u16,
    pub slots: u32,
    /// Per cent of all slots: of new connections.
    pub percent: f64,
    /// Per cent that its weight stands for.
    pub fair_percent: f64,
    /// Its live flows; none for a task on another node, whose agent counts them.
    pub live: Option<u64>,
}

/// How evenly the table follows the weights.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Evenness {
    /// The worst deviation of a task from its fair share, per cent of that share.
    pub worst_percent: f64,
    /// What every task can be relied on to keep to, for this number of slots and these weights.
    pub bound_percent: f64,
    /// Slots that would be enough, where these are few.
    pub better_slots: Option<u32>,
}

/// One standard deviation that counts as even: 2.5 % of the fair share, which is 1600 slots for a task among many.
const EVEN: u64 = MILLIONTHS / 40;
/// The largest table.
const MOST_SLOTS: u32 = 1 << 20;

/// The pool's head table, as the programs have it.
pub fn heads(seed: u64, pool: &Pool) -> Vec<u16> {
    table(seed, &candidates(pool), pool.slots)
}

/// The head table of these members.
pub fn table(seed: u64, members: &[Candidate], slots: u32) -> Vec<u16> {
    let mut heads = vec![NO_MEMBER; slots as usize];
    fill_heads(seed, members, &mut heads);
    heads
}

pub fn candidates(pool: &Pool) -> Vec<Candidate> {
    pool.members.iter().map(|member| member.candidate).collect()
}

/// Every member's part, in the order of the tasks' numbers.
pub fn shares(facts: &Facts, pool: &Pool, heads: &[u16]) -> Vec<Share> {
    let counts = counts(heads, pool.members.len());
    let total = total_weight(pool);
    let mut shares: Vec<_> = pool
        .members
        .iter()
        .zip(counts)
        .map(|(member, slots)| {
            let candidate = &member.candidate;
            let fair = if candidate.state == State::Active {
                u64::from(candidate.weight)
            } else {
                0
            };
            Share {
                task: member.task.to_string(),
                node: member.node.to_string(),
                state: match candidate.state {
                    State::Active => "active",
                    State::Warming => "warming",
                    State::Draining => "draining",
                }
                .into(),
                weight: candidate.weight,
                slots,
                percent: 100.0 * f64::from(slots) / f64::from(pool.slots.max(1)),
                fair_percent: 100.0 * fair as f64 / total.max(1) as f64,
                live: facts.live_of(candidate.tag, &member.node),
            }
        })
        .collect();
    shares.sort_by_cached_key(|share| number(&share.task));
    shares
}

/// How even the table is among the active members; all zero without any.
pub fn evenness(pool: &Pool, heads: &[u16]) -> Evenness {
    let total = total_weight(pool);
    let counts = counts(heads, pool.members.len());
    let active = pool
        .members
        .iter()
        .zip(counts)
        .filter(|(member, _)| member.candidate.state == State::Active);
    let mut evenness = Evenness::default();
    for (member, slots) in active {
        let weight = u64::from(member.candidate.weight);
        let fair = f64::from(pool.slots) * weight as f64 / total as f64;
        let deviation = 100.0 * (f64::from(slots) / fair - 1.0).abs();
        evenness.worst_percent = evenness.worst_percent.max(deviation);
        let bound = evenness_bound(pool.slots, weight, total) as f64 * 100.0 / MILLIONTHS as f64;
        evenness.bound_percent = evenness.bound_percent.max(bound);
        evenness.better_slots = evenness.better_slots.max(better(pool.slots, weight, total));
    }
    evenness
}

fn better(slots: u32, weight: u64, total: u64) -> Option<u32> {
    let enough = |slots: &u32| standard_deviation(*slots, weight, total) <= EVEN;
    if enough(&slots) || slots >= MOST_SLOTS {
        return None;
    }
    let larger = std::iter::successors(Some(slots), |slots| slots.checked_mul(2));
    let larger = larger.take_while(|slots| *slots <= MOST_SLOTS);
    Some(larger.clone().find(enough).unwrap_or(MOST_SLOTS))
}

fn total_weight(pool: &Pool) -> u64 {
    let candidates = pool.members.iter().map(|member| &member.candidate);
    candidates
        .filter(|candidate| candidate.state == State::Active)
        .map(|active| u64::from(active.weight))
        .sum()
}

fn counts(heads: &[u16], members: usize) -> Vec<u32> {
    let mut counts = vec![0; members];
    for &head in heads {
        if let Some(count) = counts.get_mut(usize::from(head)) {
            *count += 1;
        }
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::sample;

    #[test]
    fn shares_add_up_to_all_slots_and_lie_within_the_bound() {
        let facts = sample::facts();
        let pool = &facts.snapshot.pools[0];
        let heads = heads(facts.seed, pool);
        let shares = shares(&facts, pool, &heads);
        assert_eq!(shares.iter().map(|share| share.slots).sum::<u32>(), 4096);
        let evenness = evenness(pool, &heads);
        assert!(evenness.worst_percent <= evenness.bound_percent, "{evenness:?}");
        assert_eq!(evenness.better_slots, None);
    }

    #[test]
    fn a_task_of_twice_the_weight_has_about_twice_the_slots() {
        let mut facts = sample::facts();
        sample::change(&mut facts, |snapshot| {
            sample::pool(snapshot).members[0].candidate.weight = 2
        });
        let pool = &facts.snapshot.pools[0];
        let shares = shares(&facts, pool, &heads(facts.seed, pool));
        assert_eq!(shares[0].fair_percent, 50.0);
        assert!((shares[0].percent - 50.0).abs() < 5.0, "{shares:?}");
    }

    #[test]
    fn a_draining_task_has_no_slots_and_counts_for_no_share() {
        let mut facts = sample::facts();
        sample::change(&mut facts, |snapshot| {
            sample::pool(snapshot).members[2].candidate.state = State::Draining;
        });
        let pool = &facts.snapshot.pools[0];
        let shares = shares(&facts, pool, &heads(facts.seed, pool));
        assert_eq!((shares[2].slots, shares[2].fair_percent), (0, 0.0));
        assert_eq!(shares[0].fair_percent, 50.0);
    }
}
