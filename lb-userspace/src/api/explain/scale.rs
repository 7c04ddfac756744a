//! What scaling by one would move, counted in the table of the changed set.

use lb_common::placement::State;
use serde::{Deserialize, Serialize};

use super::share::{candidates, table};
use crate::api::backend::number;
use crate::api::facts::Facts;
use crate::model::{Member, Pool};

/// One task more or one fewer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Scaling {
    /// The task that would come or go.
    pub task: String,
    /// Active tasks afterwards.
    pub active: usize,
    /// Slots whose new connections would go to another task than now.
    pub moved: u32,
    /// Those among them that neither leave nor reach this task: 0, unless no task is active now.
    pub others: u32,
    pub percent: f64,
}

/// The table with one more task like the highest-numbered one.
pub fn up(facts: &Facts, pool: &Pool, heads: &[u16]) -> Option<Scaling> {
    let like = highest(pool, |_| true)?;
    let task = next_name(&pool.service, pool);
    let mut members = candidates(pool);
    let mut newcomer = like.candidate;
    newcomer.tag = facts
        .identity
        .member(&pool.service, &task, pool.target_port, pool.family);
    newcomer.state = State::Active;
    members.push(newcomer);
    let after = table(facts.seed, &members, pool.slots);
    Some(scaling(
        pool,
        task,
        heads,
        &after,
        pool.members.len(),
        active(pool) + 1,
    ))
}

/// The table without the highest-numbered active task.
pub fn down(seed: u64, pool: &Pool, heads: &[u16]) -> Option<Scaling> {
    let goes = highest(pool, |member| member.candidate.state == State::Active)?;
    if active(pool) < 2 {
        return None;
    }
    let offset = pool
        .members
        .iter()
        .position(|member| member.candidate.tag == goes.candidate.tag)?;
    let mut members = candidates(pool);
    // Draining takes its slots as removing does, and keeps the offsets of the others.
    members[offset].state = State::Draining;
    let after = table(seed, &members, pool.slots);
    Some(scaling(
        pool,
        goes.task.to_string(),
        heads,
        &after,
        offset,
        active(pool) - 1,
    ))
}

fn scaling(
    pool: &Pool,
    task: String,
    before: &[u16],
    after: &[u16],
    offset: usize,
    active: usize,
) -> Scaling {
    let moved = before.iter().zip(after).filter(|(before, after)| before != after);
    let others = moved
        .clone()
        .filter(|(before, after)| usize::from(**before) != offset && usize::from(**after) != offset);
    let count = moved.clone().count() as u32;
    Scaling {
        task,
        active,
        moved: count,
        others: others.count() as u32,
        percent: 100.0 * f64::from(count) / f64::from(pool.slots.max(1)),
    }
}

fn active(pool: &Pool) -> usize {
    pool.members
        .iter()
        .filter(|member| member.candidate.state == State::Active)
        .count()
}

fn highest(pool: &Pool, which: impl Fn(&&Member) -> bool) -> Option<&Member> {
    pool.members
        .iter()
        .filter(which)
        .max_by_key(|member| number(&member.task))
}

/// `web.4` after `web.3`; tasks without numbers are followed by one that has.
fn next_name(service: &str, pool: &Pool) -> String {
    let numbers = pool.members.iter().filter_map(|member| {
        let digits = member.task.strip_prefix(service)?.strip_prefix('.')?;
        digits.parse::<u64>().ok()
    });
    let last = numbers.max().unwrap_or(pool.members.len() as u64);
    format!("{service}.{}", last.saturating_add(1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::explain::share::heads;
    use crate::api::sample;

    #[test]
    fn one_more_takes_about_its_share_and_moves_nothing_else() {
        let facts = sample::facts();
        let pool = &facts.snapshot.pools[0];
        let up = up(&facts, pool, &heads(facts.seed, pool)).unwrap();
        assert_eq!((up.task.as_str(), up.active, up.others), ("web.4", 4, 0));
        assert!((up.percent - 25.0).abs() < 4.0, "{up:?}");
    }

    #[test]
    fn one_fewer_is_the_highest_numbered_and_moves_only_its_slots() {
        let mut facts = sample::facts();
        facts.snapshot = sample::snapshot(&facts.identity, 11).into();
        let pool = &facts.snapshot.pools[0];
        let heads = heads(facts.seed, pool);
        let down = down(facts.seed, pool, &heads).unwrap();
        assert_eq!((down.task.as_str(), down.active, down.others), ("web.11", 10, 0));
        let had = heads
            .iter()
            .filter(|head| &*pool.members[usize::from(**head)].task == "web.11")
            .count();
        assert_eq!(down.moved as usize, had);
    }

    #[test]
    fn the_last_task_is_not_scaled_away() {
        let mut facts = sample::facts();
        facts.snapshot = sample::snapshot(&facts.identity, 1).into();
        let pool = &facts.snapshot.pools[0];
        assert_eq!(down(facts.seed, pool, &heads(facts.seed, pool)), None);
    }
}
