//! Hints end after a while, and the bits that announce them with the last of a slot: a slot whose flows have long found
//! their way should not cost a lookup for ever.

use std::collections::HashMap;
use std::mem::offset_of;
use std::net::IpAddr;
use std::sync::atomic::Ordering;

use lb_common::key::FlowKey;
use lb_common::table::{BLOCK, HeadBlock, Hint, pool_flag};
use lb_common::{Address, Plain, hash, tick};

use super::super::maps::Table;
use super::Tables;
use crate::plane::EbpfError;

/// A hint that is still needed is given again by the owner's next reply to a chased packet.
const AGE: u32 = tick::from_seconds(600);

impl Tables {
    /// Removes old hints and clears the bits of slots that have none. A hint stored meanwhile may lose its bit, which
    /// costs hops and nothing else.
    pub fn sweep_hints(&mut self) -> Result<(), EbpfError> {
        let blocks: HashMap<u32, u64> = self
            .books
            .values()
            .flat_map(|book| book.entry.head..book.entry.head + book.entry.slots / BLOCK)
            .filter_map(|block| match self.hinted(block).load(Ordering::Relaxed) {
                0 => None,
                bits => Some((block, bits)),
            })
            .collect();
        if blocks.is_empty() {
            return Ok(());
        }
        let mut wanted = HashMap::new();
        let v4 = live(&mut self.maps.v4.hint)?;
        let v6 = live(&mut self.maps.v6.hint)?;
        for key in v4 {
            self.mark(key, &mut wanted);
        }
        for key in v6 {
            self.mark(key, &mut wanted);
        }
        for (block, bits) in blocks {
            let stale = bits & !wanted.get(&block).copied().unwrap_or(0);
            if stale != 0 {
                self.hinted(block).fetch_and(!stale, Ordering::Relaxed);
            }
        }
        Ok(())
    }

    fn hinted(&self, block: u32) -> &std::sync::atomic::AtomicU64 {
        self.maps.head.u64(block, offset_of!(HeadBlock, hinted))
    }

    fn mark<A: Address + Into<IpAddr>>(&self, key: FlowKey<A>, wanted: &mut HashMap<u32, u64>) {
        let port = u16::from_be_bytes(key.front_port);
        let Some(number) = self.pool_from_here(key.front.into(), port, key.protocol as u8) else {
            return;
        };
        let Ok(pool) = self.maps.pool.get(number) else {
            return;
        };
        let hash = if pool.flags & pool_flag::CLIENT_AFFINITY != 0 {
            hash::flow_hash(self.seed, key.client, 0, 0)
        } else {
            hash::flow_hash(self.seed, key.client, key.ports(), key.protocol as u8)
        };
        let slot = hash::slot(hash, pool.slots);
        *wanted.entry(pool.head + slot / BLOCK).or_default() |= 1 << (slot % BLOCK);
    }
}

/// The hints that are not old; the others are removed.
fn live<A>(hints: &mut Table<FlowKey<A>, Hint>) -> Result<Vec<FlowKey<A>>, EbpfError>
where
    FlowKey<A>: Plain,
{
    let now = super::tick();
    let mut live = Vec::new();
    for (key, hint) in hints.all()? {
        if tick::elapsed(now, hint.tick) < AGE {
            live.push(key);
        } else {
            hints.remove(&key)?;
        }
    }
    Ok(live)
}
