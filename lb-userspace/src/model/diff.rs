//! What changed between two snapshots: all that a plane has to carry out.

use std::cmp::Ordering;
use std::sync::Arc;

use super::{Member, Node, Pool, Service, Snapshot};

/// The differences, by reference into both snapshots. Planes that remove before they add have room for both.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Diff<'s> {
    pub nodes: Vec<Change<'s, Node>>,
    pub services: Vec<Change<'s, Service>>,
    pub pools: Vec<PoolChange<'s>>,
}

#[derive(Debug, PartialEq, Eq)]
pub enum Change<'s, T> {
    Added(&'s T),
    Removed(&'s T),
    Changed { before: &'s T, after: &'s T },
}

#[derive(Debug, PartialEq, Eq)]
pub struct PoolChange<'s> {
    pub pool: Change<'s, Pool>,
    /// Members by tag; all of them where the pool is new or gone.
    pub members: Vec<Change<'s, Member>>,
}

impl<'s> Diff<'s> {
    /// Touches only what is not shared between the two, save for one comparison of pointers each.
    pub fn between(before: &'s Snapshot, after: &'s Snapshot) -> Self {
        let pools = sorted(
            before.pools.iter().map(Arc::as_ref),
            after.pools.iter().map(Arc::as_ref),
            |a, b| pool_key(a).cmp(&pool_key(b)),
        );
        Self {
            nodes: sorted(before.nodes.values(), after.nodes.values(), |a, b| {
                a.name.cmp(&b.name)
            }),
            services: sorted(
                before.services.values().map(Arc::as_ref),
                after.services.values().map(Arc::as_ref),
                |a, b| a.name.cmp(&b.name),
            ),
            pools: pools.into_iter().map(PoolChange::new).collect(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty() && self.services.is_empty() && self.pools.is_empty()
    }
}

impl<'s> PoolChange<'s> {
    fn new(pool: Change<'s, Pool>) -> Self {
        let (before, after): (&[Member], &[Member]) = match pool {
            Change::Added(after) => (&[], &after.members),
            Change::Removed(before) => (&before.members, &[]),
            Change::Changed { before, after } => (&before.members, &after.members),
        };
        let members = sorted(before.iter(), after.iter(), |a, b| {
            a.candidate.tag.cmp(&b.candidate.tag)
        });
        Self { pool, members }
    }
}

impl<'s, T> Change<'s, T> {
    pub fn before(&self) -> Option<&'s T> {
        match *self {
            Self::Added(_) => None,
            Self::Removed(before) | Self::Changed { before, .. } => Some(before),
        }
    }

    pub fn after(&self) -> Option<&'s T> {
        match *self {
            Self::Removed(_) => None,
            Self::Added(after) | Self::Changed { after, .. } => Some(after),
        }
    }
}

/// What pools are sorted by in a snapshot.
fn pool_key(pool: &Pool) -> (&str, u16, super::Family) {
    (&pool.service, pool.target_port, pool.family)
}

/// Merges two sorted sequences into their differences.
fn sorted<'s, T: PartialEq>(
    before: impl Iterator<Item = &'s T>,
    after: impl Iterator<Item = &'s T>,
    order: impl Fn(&T, &T) -> Ordering,
) -> Vec<Change<'s, T>> {
    let (mut before, mut after) = (before.peekable(), after.peekable());
    let mut changes = Vec::new();
    loop {
        let side = match (before.peek(), after.peek()) {
            (None, None) => return changes,
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            // What is shared is skipped unread: most of it is not in any cache.
            (Some(old), Some(new)) if std::ptr::eq(*old, *new) => Ordering::Equal,
            (Some(old), Some(new)) => order(old, new),
        };
        let old = before.next_if(|_| side.is_le());
        let new = after.next_if(|_| side.is_ge());
        match (old, new) {
            (Some(before), Some(after)) if !std::ptr::eq(before, after) && before != after => {
                changes.push(Change::Changed { before, after });
            }
            (Some(before), None) => changes.push(Change::Removed(before)),
            (None, Some(after)) => changes.push(Change::Added(after)),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests;
