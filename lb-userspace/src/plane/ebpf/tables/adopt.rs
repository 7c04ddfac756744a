//! The books, rebuilt from what an agent before this one left in the kernel.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::Instant;

use aya::maps::{Array, Map, MapData};
use ipnet::IpNet;
use lb_common::table::{self, BLOCK, BY_PROXY, NO_MEMBER, NO_TABLE, pool_flag};

use super::super::maps::Maps;
use super::super::pins::Pins;
use super::super::ranges::Ranges;
use super::super::raw::Raw;
use super::locals::narrow;
use super::slots::Scratch;
use super::{Book, Hooked, Left, Tables};
use crate::config::Limits;
use crate::model::{Affinity, Shape};
use crate::plane::EbpfError;
use crate::plane::choice::Here;

/// Slots and affinity of the pinned pools by pool id, before tables of another size are put aside: live flows are where
/// these say.
pub fn shapes(pins: &Pins) -> HashMap<u64, Shape> {
    let pinned = MapData::from_pin(pins.map("POOL")).and_then(Map::from_map_data);
    let Some(pools) = pinned
        .ok()
        .and_then(|map| Array::<_, Raw<table::Pool>>::try_from(map).ok())
    else {
        return HashMap::new();
    };
    let used = pools
        .iter()
        .flatten()
        .filter(|Raw(pool)| pool.slots.is_power_of_two());
    used.map(|Raw(pool)| {
        let affinity = match pool.flags & pool_flag::CLIENT_AFFINITY {
            0 => Affinity::None,
            _ => Affinity::ClientIp,
        };
        let slots = pool.slots;
        (pool.id, Shape { slots, affinity })
    })
    .collect()
}

impl Tables {
    pub fn adopt(
        maps: Maps,
        seed: u64,
        node: Arc<str>,
        limits: Limits,
        flat: Vec<IpNet>,
        here: Here,
    ) -> Result<Self, EbpfError> {
        let mut tables = Self {
            numbers: Ranges::new(maps.pool.len()),
            heads: Ranges::new(maps.head.entries()),
            chains: Ranges::new(maps.chain.entries()),
            members: Ranges::new(maps.member.len()),
            books: HashMap::new(),
            fronts4: maps.v4.front.all()?.into_iter().collect(),
            fronts6: maps.v6.front.all()?.into_iter().collect(),
            locals: maps
                .local
                .all()?
                .into_iter()
                .map(|(tag, local)| {
                    (
                        tag,
                        table::Local {
                            deaf_since: 0,
                            ..local
                        },
                    )
                })
                .collect(),
            homes: HashMap::new(),
            direct: maps.direct.all()?.into_iter().collect(),
            own: maps.own.all()?.into_iter().collect(),
            own_wanted: BTreeMap::new(),
            resolvers: BTreeSet::new(),
            routed: BTreeSet::new(),
            kept: maps.kept.all()?.into_iter().collect(),
            unkept: 0,
            assigned: maps.assigned.all()?.into_iter().collect(),
            assigned_written: false,
            flat,
            left: Left::default(),
            hooks: HashMap::new(),
            nodes: HashMap::new(),
            peers: maps.peer.all()?.into_iter().collect(),
            uplinks: HashMap::new(),
            settings: None,
            addresses: BTreeSet::new(),
            connected: BTreeSet::new(),
            open: BTreeSet::new(),
            suspected: BTreeSet::new(),
            by_proxy: BTreeSet::new(),
            taken: BTreeSet::new(),
            applied: None,
            whole: false,
            refused: HashMap::new(),
            scratch: Scratch::default(),
            maps,
            seed,
            node,
            limits,
            here,
        };
        for number in 0..tables.maps.pool.len() {
            let entry = tables.maps.pool.get(number)?;
            if entry.slots != 0 && !tables.adopt_pool(number, entry)? {
                tracing::warn!(number, "a pinned pool contradicts others and is made anew");
                tables.maps.pool.set(number, table::Pool::default())?;
            }
        }
        for tag in 1..=u32::from(u16::MAX) {
            let node = tables.maps.node.get(tag)?;
            if node != table::Node::default() {
                tables.nodes.insert(tag as u16, node);
            }
        }
        for byte in 0..256 {
            let uplink = tables.maps.uplink.get(byte)?;
            if uplink.ifindex != 0 {
                tables.uplinks.insert(byte, uplink);
            }
        }
        tables.maps.flat.set(&tables.flat)?;
        tables.adopt_hooks();
        Ok(tables)
    }

    /// False where its parts are not free: then it is not to be trusted.
    fn adopt_pool(&mut self, number: u32, entry: table::Pool) -> Result<bool, EbpfError> {
        let blocks = entry.slots / BLOCK;
        let diverted = entry.fresh != entry.head;
        let sound = entry.slots.is_power_of_two()
            && blocks > 0
            && self.numbers.claim(number, 1)
            && self.heads.claim(entry.head, blocks)
            && (!diverted || self.heads.claim(entry.fresh, blocks))
            && (entry.chain == NO_TABLE || self.chains.claim(entry.chain, entry.slots))
            && (entry.room == 0 || self.members.claim(entry.members, entry.room));
        if !sound {
            return Ok(false);
        }
        let mut members = Vec::new();
        for offset in 0..entry.room {
            members.push(self.maps.member.get(entry.members + offset)?);
        }
        let last = members.iter().rposition(|member| member.tag != 0);
        members.truncate(last.map_or(0, |last| last + 1));
        let unhosted = (entry.chain != NO_TABLE).then(Instant::now);
        let book = Book {
            number,
            entry,
            members,
            resting: Vec::new(),
            pool: None,
            service: None,
            unhosted,
        };
        self.books.insert(entry.id, book);
        Ok(true)
    }

    /// Tags of the members that have slots, and of those whose slots name others; `None` where no pool was found.
    pub fn found_active(&self) -> Option<HashSet<u64>> {
        let mut active = HashSet::new();
        for book in self.books.values() {
            let mut left = book.tags().count();
            let mut is_shared = false;
            for slot in 0..book.entry.slots {
                // Each has its first slot early on.
                if left == 0 {
                    break;
                }
                let head = self.writer().head(book.entry.head, slot);
                is_shared |= head != NO_MEMBER && head & BY_PROXY != 0;
                let offset = usize::from(head & !BY_PROXY);
                if let Some(member) = book.members.get(offset).filter(|member| member.tag != 0) {
                    left -= usize::from(active.insert(member.tag));
                }
            }
            if is_shared {
                // Which of them the proxy's slots meant is nowhere.
                active.extend(book.tags());
            }
        }
        (!self.books.is_empty()).then_some(active)
    }

    /// Tasks are where they were until they are found elsewhere.
    fn adopt_hooks(&mut self) {
        for local in self.locals.values().filter(|local| local.ifindex != 0) {
            let [_, _, _, _, rest @ ..] = local.address;
            let hooked = Hooked {
                device: local.ifindex,
                namespace: local.namespace,
                prefix: local.prefix,
            };
            self.hooks.insert(narrow(local.address, rest == [0; 12]), hooked);
        }
    }
}
