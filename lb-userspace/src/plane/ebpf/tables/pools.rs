//! One pool: its number, its tables, its entry.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use lb_common::table::{self, BLOCK, NO_TABLE, pool_flag};

use super::{Book, Tables, tick};
use crate::model::{Affinity, Pool, Service};
use crate::plane::{EbpfError, Problem};

/// How long a chain table stays after the last member left: its flows may still be asked for.
const KEEP_CHAIN: Duration = Duration::from_secs(3600);

impl Tables {
    /// Makes the kernel's tables show this pool. What does not fit is refused as a whole and leaves the others alone.
    pub(super) fn put_pool(
        &mut self,
        pool: &Arc<Pool>,
        service: Option<&Arc<Service>>,
        now: Instant,
    ) -> Result<(), EbpfError> {
        let mut book = match self.books.remove(&pool.id) {
            Some(book) if book.entry.slots == pool.slots => book,
            found => {
                if let Some(book) = found {
                    self.drop_book(book, now)?;
                }
                match self.new_book(pool, now) {
                    Ok(book) => book,
                    Err(problem) => {
                        self.refused.insert(pool.id, problem);
                        return Ok(());
                    }
                }
            }
        };
        let result = self.fill_pool(&mut book, pool, now);
        book.pool = Some(Arc::clone(pool));
        book.service = service.cloned();
        self.books.insert(pool.id, book);
        result
    }

    fn fill_pool(&mut self, book: &mut Book, pool: &Arc<Pool>, now: Instant) -> Result<(), EbpfError> {
        self.refused.remove(&pool.id);
        if !self.place_members(book, pool, now)? {
            self.refused
                .insert(pool.id, self.full(pool, "members", self.limits.members));
            return Ok(());
        }
        // Before any slot leads to an offset that the old place does not have.
        let entry = book.entry;
        self.write_entry(book, entry)?;
        self.host_chain(book, pool, now);
        self.write_slots(book, pool);
        self.divert(book, pool, now);
        let entry = table::Pool {
            id: pool.id,
            flags: self.flags(pool),
            empty_since: match (pool.members.is_empty(), book.entry.empty_since) {
                (false, _) => 0,
                (true, 0) => tick(),
                (true, since) => since,
            },
            ..book.entry
        };
        self.write_entry(book, entry)?;
        self.forget_members(book, pool, now)
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

    fn new_book(&mut self, pool: &Pool, now: Instant) -> Result<Book, Problem> {
        let blocks = pool.slots / BLOCK;
        let Some(head) = self.heads.take(blocks, now) else {
            return Err(self.full(pool, "slots", self.limits.slots));
        };
        let Some(number) = self.numbers.take(1, now) else {
            self.heads.give(head, blocks, now);
            return Err(self.full(pool, "pools", self.limits.pools));
        };
        self.clear_heads(head, blocks);
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
            tags: Vec::new(),
            resting: Vec::new(),
            pool: None,
            service: None,
            unhosted: None,
        })
    }

    /// A chain table while a member is here, and an hour longer.
    fn host_chain(&mut self, book: &mut Book, pool: &Pool, now: Instant) {
        let hosted = pool.members.iter().any(|member| member.node == self.node);
        match (hosted, book.entry.chain) {
            (true, NO_TABLE) => match self.chains.take(pool.slots, now) {
                Some(chain) => {
                    self.clear_chains(chain, pool.slots);
                    book.entry.chain = chain;
                }
                None => {
                    let problem = self.full(pool, "hosted_slots", self.limits.hosted_slots);
                    self.refused.insert(pool.id, problem);
                }
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

    /// A second head table while one of the pool's nodes is suspected.
    pub(super) fn divert(&mut self, book: &mut Book, pool: &Pool, now: Instant) {
        let suspected = |node| self.suspected.contains(&node);
        let touched = pool.members.iter().any(|member| suspected(member.candidate.node));
        let others = pool
            .members
            .iter()
            .any(|member| !suspected(member.candidate.node));
        let blocks = pool.slots / BLOCK;
        let diverted = book.entry.fresh != book.entry.head;
        if touched && others {
            if !diverted {
                // Without room for it new connections to that node's tasks wait until it is back or gone.
                let Some(fresh) = self.heads.take(blocks, now) else {
                    return;
                };
                self.clear_heads(fresh, blocks);
                book.entry.fresh = fresh;
            }
            self.write_fresh(book, pool);
        } else if diverted {
            self.heads.give(book.entry.fresh, blocks, now);
            book.entry.fresh = book.entry.head;
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
        for id in self.books.keys().copied().collect::<Vec<_>>() {
            let Some(mut book) = self.books.remove(&id) else {
                continue;
            };
            let flags = book.pool.as_ref().map(|pool| self.flags(pool));
            let entry = table::Pool {
                flags: flags.unwrap_or(book.entry.flags),
                ..book.entry
            };
            let result = self.write_entry(&mut book, entry);
            self.books.insert(id, book);
            result?;
        }
        Ok(())
    }

    /// Whether the node itself has connections on any published port, as far as it was asked.
    pub fn is_connected(&self) -> bool {
        !self.connected.is_empty()
    }

    fn flags(&self, pool: &Pool) -> u32 {
        let bit = |set, flag| if set { flag } else { 0 };
        let frontends = &pool.frontends;
        bit(pool.affinity == Affinity::ClientIp, pool_flag::CLIENT_AFFINITY)
            | bit(
                frontends.iter().any(|front| front.address.is_some()),
                pool_flag::VIP,
            )
            | bit(
                frontends.iter().any(|front| self.connected.contains(&front.port)),
                pool_flag::HOST_SOCKETS,
            )
    }

    fn full(&self, pool: &Pool, limit: &str, size: u32) -> Problem {
        Problem {
            error: format!(
                "no room for port {} of service {}: the kernel's table holds {size} {limit}",
                pool.target_port, pool.service
            ),
            traffic: "this port of the service is not served as it should be; all others are".into(),
            fix: format!("raise limits.{limit} in portico.toml and restart the agent; connections stay"),
        }
    }
}
