//! One pool: its number, its tables, its entry.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use lb_common::table::{self, BLOCK, NO_TABLE, pool_flag};

use super::slots::Scratch;
use super::{Book, Refused, Tables, tick};
use crate::model::{Affinity, Change, Pool, Service};
use crate::plane::EbpfError;

/// How long a chain table stays after the last member left: its flows may still be asked for.
const KEEP_CHAIN: Duration = Duration::from_secs(3600);

/// Fewer pools than this are written faster by one thread than others are started.
const WORTH_THREADS: usize = 64;
/// The agent is not alone on the machine.
const MOST_THREADS: usize = 8;

impl Tables {
    /// Makes the kernel's tables show these pools. What does not fit is refused and leaves the others alone.
    pub(super) fn put_pools(&mut self, changes: &[Change], now: Instant) -> Result<(), EbpfError> {
        let mut prepared = Vec::with_capacity(changes.len());
        let mut result = Ok(());
        for change in changes {
            match self.prepare(change, now) {
                Ok(Some(ready)) => prepared.push(ready),
                Ok(None) => {}
                Err(error) => result = Err(error),
            }
        }
        self.write_all(&prepared);
        for (book, change) in prepared {
            if let Err(error) = self.publish(book, &change, now) {
                result = Err(error);
            }
        }
        result
    }

    /// Everything the pool's slots will lead to, and the pool as far as there is room for its members. None where there is
    /// no room at all.
    fn prepare(&mut self, change: &Change, now: Instant) -> Result<Option<(Book, Change)>, EbpfError> {
        let pool = &change.pool;
        self.refused.remove(&pool.id);
        let mut book = match self.books.remove(&pool.id) {
            Some(book) if book.entry.slots == pool.slots => book,
            found => {
                if let Some(book) = found {
                    self.drop_book(book, now)?;
                }
                match self.new_book(pool, now) {
                    Ok(book) => book,
                    Err((limit, size)) => {
                        self.refuse(change, limit, size);
                        return Ok(None);
                    }
                }
            }
        };
        let mut served = change.clone();
        match self.place_members(&mut book, change, now) {
            Ok(true) => {}
            Ok(false) => {
                self.refuse(change, "members", self.limits.members);
                // Those that have a place serve, and those that are gone make room.
                let mut placed = Pool::clone(pool);
                placed
                    .members
                    .retain(|member| book.offset(member.candidate.tag).is_some());
                if placed.members.is_empty() {
                    self.drop_book(book, now)?;
                    return Ok(None);
                }
                served.pool = Arc::new(placed);
            }
            Err(error) => {
                self.books.insert(pool.id, book);
                return Err(error);
            }
        }
        // Before any slot leads to an offset that the old place does not have.
        let entry = book.entry;
        self.write_entry(&mut book, entry)?;
        self.host_chain(&mut book, change, now);
        self.host_fresh(&mut book, pool, now);
        Ok(Some((book, served)))
    }

    pub(super) fn refuse(&mut self, change: &Change, limit: &'static str, size: u32) {
        let change = change.clone();
        // What was found first is what most depends on.
        self.refused
            .entry(change.pool.id)
            .or_insert(Refused { change, limit, size });
    }

    /// Pools whose fronts had no room.
    pub(super) fn refuse_fronts(&mut self, numbers: &BTreeSet<u32>) {
        if numbers.is_empty() {
            return;
        }
        let books = self.books.values().filter(|book| numbers.contains(&book.number));
        let changes: Vec<Change> = books
            .filter_map(|book| {
                Some(Change {
                    pool: book.pool.clone()?,
                    service: book.service.clone(),
                })
            })
            .collect();
        for change in changes {
            self.refuse(&change, "fronts", self.limits.fronts);
        }
    }

    /// Head and chain tables: on all CPUs where there are many, as on the first load.
    fn write_all(&mut self, prepared: &[(Book, Change)]) {
        let threads = std::thread::available_parallelism()
            .map_or(1, usize::from)
            .min(MOST_THREADS);
        if prepared.len() < WORTH_THREADS || threads == 1 {
            let mut scratch = std::mem::take(&mut self.scratch);
            for (book, change) in prepared {
                self.writer().write(&mut scratch, book, &change.pool);
            }
            self.scratch = scratch;
            return;
        }
        let writer = self.writer();
        std::thread::scope(|scope| {
            for part in prepared.chunks(prepared.len().div_ceil(threads)) {
                scope.spawn(move || {
                    let mut scratch = Scratch::default();
                    for (book, change) in part {
                        writer.write(&mut scratch, book, &change.pool);
                    }
                });
            }
        });
    }

    /// The pool's entry, and the end of members that are gone.
    fn publish(&mut self, mut book: Book, change: &Change, now: Instant) -> Result<(), EbpfError> {
        let pool = &change.pool;
        self.linger(&book, change);
        let fresh = book.entry.fresh;
        let entry = table::Pool {
            id: pool.id,
            fresh: if self.writer().diverts(pool) {
                fresh
            } else {
                book.entry.head
            },
            flags: self.flags(pool, change.service.as_deref()),
            empty_since: match (pool.members.is_empty(), book.entry.empty_since) {
                (false, _) => 0,
                (true, 0) => tick(),
                (true, since) => since,
            },
            ..book.entry
        };
        self.put_direct(pool, entry.flags)?;
        let written = self.write_entry(&mut book, entry);
        let dropped = self.drop_direct(
            &book,
            (entry.flags & (pool_flag::FLAT | pool_flag::HERE) != 0).then_some(pool),
        );
        if fresh != book.entry.fresh {
            self.heads.give(fresh, pool.slots / BLOCK, now);
        }
        let forgotten = self.forget_members(&mut book, pool, now);
        book.pool = Some(Arc::clone(pool));
        book.service = change.service.clone();
        self.books.insert(pool.id, book);
        written.and(dropped).and(forgotten)
    }

    /// Takes the pool's tables away; its frontends must be gone.
    pub(super) fn drop_pool(&mut self, id: u64, now: Instant) -> Result<(), EbpfError> {
        self.refused.remove(&id);
        match self.books.remove(&id) {
            Some(book) => self.drop_book(book, now),
            None => Ok(()),
        }
    }

    pub(super) fn drop_book(&mut self, book: Book, now: Instant) -> Result<(), EbpfError> {
        let nothing = table::Pool {
            chain: NO_TABLE,
            ..table::Pool::default()
        };
        self.maps.pool.set(book.number, nothing)?;
        self.drop_direct(&book, None)?;
        let blocks = book.entry.slots / BLOCK;
        self.heads.give(book.entry.head, blocks, now);
        if book.entry.fresh != book.entry.head {
            self.heads.give(book.entry.fresh, blocks, now);
        }
        if book.entry.chain != NO_TABLE {
            self.chains.give(book.entry.chain, book.entry.slots, now);
        }
        self.members.give(book.entry.members, book.entry.room, now);
        self.numbers.give(book.number, 1, now);
        Ok(())
    }

    /// Fails with the limit that was reached.
    fn new_book(&mut self, pool: &Pool, now: Instant) -> Result<Book, (&'static str, u32)> {
        let blocks = pool.slots / BLOCK;
        let Some(head) = self.heads.take(blocks, now) else {
            return Err(("slots", self.limits.slots));
        };
        let Some(number) = self.numbers.take(1, now) else {
            self.heads.give(head, blocks, now);
            return Err(("pools", self.limits.pools));
        };
        self.writer().clear_heads(head, blocks);
        let entry = table::Pool {
            id: pool.id,
            head,
            fresh: head,
            chain: NO_TABLE,
            slots: pool.slots,
            ..table::Pool::default()
        };
        Ok(Book {
            number,
            entry,
            members: Vec::new(),
            resting: Vec::new(),
            pool: None,
            service: None,
            unhosted: None,
        })
    }

    /// A chain table while a member is here, and an hour longer.
    fn host_chain(&mut self, book: &mut Book, change: &Change, now: Instant) {
        let pool = &change.pool;
        let hosted = pool.members.iter().any(|member| member.node == self.node);
        match (hosted, book.entry.chain) {
            (true, NO_TABLE) => match self.chains.take(pool.slots, now) {
                Some(chain) => {
                    self.writer().clear_chains(chain, pool.slots);
                    book.entry.chain = chain;
                }
                None => self.refuse(change, "hosted_slots", self.limits.hosted_slots),
            },
            (false, chain) if chain != NO_TABLE => {
                book.unhosted.get_or_insert(now);
            }
            _ => {}
        }
        if hosted {
            book.unhosted = None;
        }
    }

    /// Gives up the chain tables of pools that have had no member here for an hour.
    pub fn drop_old_chains(&mut self, now: Instant) -> Result<(), EbpfError> {
        let old: Vec<u64> = self
            .books
            .iter()
            .filter(|(_, book)| {
                book.unhosted
                    .is_some_and(|since| now.duration_since(since) >= KEEP_CHAIN)
            })
            .map(|(&id, _)| id)
            .collect();
        for id in old {
            let Some(mut book) = self.books.remove(&id) else {
                continue;
            };
            let chain = book.entry.chain;
            let entry = table::Pool {
                chain: NO_TABLE,
                ..book.entry
            };
            let result = self.write_entry(&mut book, entry);
            self.chains.give(chain, book.entry.slots, now);
            book.unhosted = None;
            self.books.insert(id, book);
            result?;
        }
        Ok(())
    }

    /// A second head table while one of the pool's nodes is suspected; [`publish`](Self::publish) gives it up.
    fn host_fresh(&mut self, book: &mut Book, pool: &Pool, now: Instant) {
        if !self.writer().diverts(pool) || book.entry.fresh != book.entry.head {
            return;
        }
        let blocks = pool.slots / BLOCK;
        // Without room for it new connections to that node's tasks wait until it is back or gone.
        if let Some(fresh) = self.heads.take(blocks, now) {
            self.writer().clear_heads(fresh, blocks);
            book.entry.fresh = fresh;
        }
    }

    /// Writes `POOL` where the entry differs from what is there.
    pub(super) fn write_entry(&mut self, book: &mut Book, entry: table::Pool) -> Result<(), EbpfError> {
        if self.maps.pool.get(book.number)? != entry {
            self.maps.pool.set(book.number, entry)?;
        }
        book.entry = entry;
        Ok(())
    }

    /// The ports on which the node itself has connections; pools that answer there ask it first.
    pub fn set_connected(&mut self, ports: BTreeSet<u16>) -> Result<(), EbpfError> {
        if self.connected == ports {
            return Ok(());
        }
        self.connected = ports;
        self.reflag_all()
    }

    /// Whether the node itself has connections on any published port, as far as it was asked.
    pub fn is_connected(&self) -> bool {
        !self.connected.is_empty()
    }

    pub const fn connected(&self) -> &BTreeSet<u16> {
        &self.connected
    }

    pub(super) fn flags(&self, pool: &Pool, service: Option<&Service>) -> u32 {
        let bit = |set, flag| if set { flag } else { 0 };
        let frontends = &pool.frontends;
        let proxied = self.is_proxied(pool, service);
        self.reach(pool, proxied)
            | bit(pool.affinity == Affinity::ClientIp, pool_flag::CLIENT_AFFINITY)
            | bit(
                frontends.iter().any(|front| front.address.is_some()),
                pool_flag::VIP,
            )
            | bit(
                proxied || frontends.iter().any(|front| self.connected.contains(&front.port)),
                pool_flag::HOST_SOCKETS,
            )
            | bit(self.is_mixed(), pool_flag::MIXED)
            | bit(self.is_shared(pool), pool_flag::SHARED)
            | bit(
                service.is_some_and(|service| service.proxy.transparent),
                pool_flag::TRANSPARENT,
            )
    }
}
