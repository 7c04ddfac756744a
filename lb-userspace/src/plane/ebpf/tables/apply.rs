//! A snapshot, carried out by difference and in the order that never leads a packet into nothing: what is pointed to
//! comes before what points, and goes after it.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use super::fronts::Fronts;
use super::given::Turned;
use super::{Refused, Tables};
use crate::model::diff::key;
use crate::model::{Change, Diff, Pool, Snapshot};
use crate::plane::{EbpfError, Problem};

impl Tables {
    /// Makes the tables show the snapshot. Nodes are set apart, by what the machine knows of the ways to them.
    /// `taken` is where the proxy cannot listen.
    pub fn apply(
        &mut self,
        snapshot: &Arc<Snapshot>,
        taken: BTreeSet<(IpAddr, u16, u8)>,
    ) -> Result<(), EbpfError> {
        let now = Instant::now();
        let first = self.applied.is_none();
        let nodes = || snapshot.nodes.values();
        let suspected = nodes().filter(|node| node.suspected).map(|node| node.tag);
        let others = nodes().filter(|node| node.by_proxy && node.name != self.node);
        let by_proxy = others.map(|node| node.tag).collect();
        let mut turned = Turned {
            nodes: self.set_suspected(suspected.collect()),
            places: self.set_taken(taken),
        };
        let was_mixed = self.is_mixed();
        turned.nodes.extend(self.set_by_proxy(by_proxy));
        let (changed, gone) = self.difference(snapshot, &turned);
        self.left = self.leaving(snapshot, &changed, &gone);
        self.whole = false;
        let mut old = if first {
            self.present_fronts()
        } else {
            Fronts::default()
        };
        for (number, pool) in changed
            .iter()
            .map(|change| change.pool.id)
            .chain(gone.iter().copied())
            .filter_map(|id| self.books.get(&id))
            .filter_map(|book| Some((book.number, book.pool.clone()?)))
            .collect::<Vec<_>>()
        {
            self.fronts_of(&pool, number, &mut old);
        }
        let departed = self.departed(first, snapshot, &changed, &gone);
        self.put_own()?;

        let wanted = self.show(&changed, now)?;
        // Pools that are as they were, too.
        if self.is_mixed() != was_mixed {
            self.reflag_all()?;
        }
        self.put_assigned(snapshot)?;
        self.remove_fronts(&old, &wanted)?;
        for id in gone {
            self.drop_pool(id, now)?;
        }
        self.remove_locals(departed)?;
        if first {
            self.tidy_direct()?;
        }
        self.applied = Some(Arc::clone(snapshot));
        // What went has left room.
        self.retry(now)?;
        self.whole = true;
        Ok(())
    }

    /// What had no room is tried again.
    pub fn retry(&mut self, now: Instant) -> Result<(), EbpfError> {
        let refused = self.refused.values();
        let mut again: Vec<Change> = refused.map(|refused| refused.change.clone()).collect();
        again.sort_by(|a, b| key(&a.pool).cmp(&key(&b.pool)));
        self.show(&again, now).map(drop)
    }

    /// Pools, their tasks here, and where they answer; returns the last.
    fn show(&mut self, changes: &[Change], now: Instant) -> Result<Fronts, EbpfError> {
        let mut wanted = Fronts::default();
        self.put_pools(changes, now)?;
        for Change { pool, .. } in changes {
            // A pool that was refused has no book, and its frontends are left to the node's own stack.
            let book = self.books.get(&pool.id);
            let served = book.and_then(|book| Some((book.number, book.pool.clone()?, book.service.clone())));
            if let Some((number, pool, service)) = served {
                self.put_locals(&pool, number, service.as_ref())?;
                self.fronts_of(&pool, number, &mut wanted);
            }
        }
        self.add_fronts(&wanted)?;
        Ok(wanted)
    }

    /// Writes all fronts again, after the node's addresses changed.
    pub fn refront(&mut self) -> Result<(), EbpfError> {
        if self.applied.is_none() {
            return Ok(());
        }
        self.put_own()?;
        let (old, wanted) = (self.present_fronts(), self.wanted_fronts());
        self.add_fronts(&wanted)?;
        self.remove_fronts(&old, &wanted)?;
        self.retry(Instant::now())
    }

    pub(super) fn wanted_fronts(&self) -> Fronts {
        let mut wanted = Fronts::default();
        for book in self.books.values() {
            if let Some(pool) = &book.pool {
                self.fronts_of(pool, book.number, &mut wanted);
            }
        }
        wanted
    }

    pub fn applied(&self) -> Option<&Arc<Snapshot>> {
        self.applied.as_ref()
    }

    /// What does not fit, one problem for each limit, since it may be thousands of pools; and what gives way to the name
    /// server.
    pub fn problems(&self) -> Vec<Problem> {
        let mut by_limit: BTreeMap<&str, Vec<&Refused>> = BTreeMap::new();
        for refused in self.refused.values() {
            by_limit.entry(refused.limit).or_default().push(refused);
        }
        let full = by_limit.into_values().filter_map(|all| self.full(&all));
        full.chain(self.displaced()).chain(self.crowded_out()).collect()
    }

    fn full(&self, all: &[&Refused]) -> Option<Problem> {
        let first = all.iter().min_by_key(|refused| key(&refused.change.pool))?;
        let (pool, Refused { limit, size, .. }) = (&first.change.pool, first);
        let others = match all.len() - 1 {
            0 => String::new(),
            others => format!(" and {others} more"),
        };
        let more: u64 = all
            .iter()
            .map(|refused| self.takes(&refused.change.pool, limit))
            .sum();
        let enough = u64::from(*size) + more;
        Some(Problem {
            error: format!(
                "no room for port {} of service {}{others}: the kernel's table holds {size} {limit}",
                pool.target_port, pool.service
            ),
            traffic: "these ports are not served as they should be; all others are".into(),
            fix: format!(
                "set limits.{limit} in portico.toml to {enough} or more and restart the agent; connections stay. They are tried again when others leave room"
            ),
        })
    }

    /// What a pool takes of a limit.
    fn takes(&self, pool: &Pool, limit: &str) -> u64 {
        match limit {
            "slots" | "hosted_slots" => pool.slots.into(),
            "members" => pool.members.len().next_power_of_two() as u64,
            "fronts" => self.count_fronts(pool) as u64,
            _ => 1,
        }
    }

    /// The pool of a number.
    pub fn pool_numbered(&self, number: u32) -> Option<&Arc<Pool>> {
        self.books
            .values()
            .find(|book| book.number == number)?
            .pool
            .as_ref()
    }

    /// Pools that are not shown as they should be, and ids of those that should not be shown at all.
    fn difference(&mut self, snapshot: &Arc<Snapshot>, turned: &Turned) -> (Vec<Change>, Vec<u64>) {
        // After a failure nobody knows how far it came.
        let applied = self.applied.clone().filter(|_| self.whole);
        let before = applied.as_deref().unwrap_or(&NOTHING);
        let Diff { changed, mut gone } = Diff::between(before, snapshot, |pool| turned.concerns(pool));
        if applied.is_none() {
            // Pools that were found pinned.
            let present: HashSet<u64> = snapshot.pools.iter().map(|pool| pool.id).collect();
            gone.extend(self.books.keys().filter(|id| !present.contains(id)));
        }
        for id in &gone {
            self.refused.remove(id);
        }
        (changed, gone)
    }

    /// Tags of members that were here and are not any more.
    fn departed(&self, first: bool, snapshot: &Snapshot, changed: &[Change], gone: &[u64]) -> BTreeSet<u64> {
        let here = |pool: &Arc<Pool>| -> Vec<u64> {
            let members = pool.members.iter().filter(|member| member.node == self.node);
            members.map(|member| member.candidate.tag).collect()
        };
        let mut departed: BTreeSet<u64> = if first {
            self.locals.keys().copied().collect()
        } else {
            let ids = changed
                .iter()
                .map(|change| change.pool.id)
                .chain(gone.iter().copied());
            let books = ids.filter_map(|id| self.books.get(&id)?.pool.as_ref());
            books.flat_map(here).collect()
        };
        let still: &mut dyn Iterator<Item = &Arc<Pool>> = if first {
            &mut snapshot.pools.iter()
        } else {
            &mut changed.iter().map(|change| &change.pool)
        };
        for tag in still.flat_map(here) {
            departed.remove(&tag);
        }
        departed
    }
}

/// Before the first snapshot.
static NOTHING: Snapshot = Snapshot {
    generation: 0,
    nodes: BTreeMap::new(),
    services: BTreeMap::new(),
    pools: Vec::new(),
    guests: BTreeMap::new(),
};
