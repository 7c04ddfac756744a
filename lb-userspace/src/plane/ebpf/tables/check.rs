//! Kernel against snapshot: what differs is named, and repaired.

use std::collections::HashMap;
use std::fmt::Debug;
use std::sync::Arc;
use std::time::Instant;

use lb_common::socket::End;
use lb_common::table::Local;
use lb_common::{Plain, V6};

use super::super::maps::Table;
use super::Tables;
use super::slots::Scratch;
use crate::model::Change;
use crate::plane::{Difference, EbpfError};

impl Tables {
    /// Reads every table back and compares. Cost is that of a first load. `resolvers` is what `RESOLVER` shall say.
    pub fn reconcile(&mut self, resolvers: &HashMap<V6, End>) -> Result<Vec<Difference>, EbpfError> {
        let mut found = Vec::new();
        self.check_pools(&mut found)?;
        let wanted = self.wanted_fronts();
        check_table("FRONT4", &mut self.maps.v4.front, &wanted.v4, &mut found)?;
        check_table("FRONT6", &mut self.maps.v6.front, &wanted.v6, &mut found)?;
        (self.fronts4, self.fronts6) = (wanted.v4, wanted.v6);
        self.check_locals(&mut found)?;
        found.extend(self.maps.flat.set(&self.flat)?);
        check_table("PEER4", &mut self.maps.peer, &self.peers, &mut found)?;
        check_table("DIRECT", &mut self.maps.direct, &self.direct, &mut found)?;
        check_table("OWN", &mut self.maps.own, &self.own, &mut found)?;
        check_table("KEPT", &mut self.maps.kept, &self.kept, &mut found)?;
        check_table("ASSIGNED", &mut self.maps.assigned, &self.assigned, &mut found)?;
        check_table("RESOLVER", &mut self.maps.resolver, resolvers, &mut found)?;
        for (&tag, wanted) in &self.nodes {
            let node = self.maps.node.get(tag.into())?;
            if node != *wanted {
                found.push(difference("NODE", &tag, wanted, &node));
                self.maps.node.set(tag.into(), *wanted)?;
            }
        }
        Ok(found)
    }

    fn check_pools(&mut self, found: &mut Vec<Difference>) -> Result<(), EbpfError> {
        let now = Instant::now();
        for id in self.books.keys().copied().collect::<Vec<_>>() {
            let Some(book) = self.books.get(&id) else { continue };
            let Some(pool) = book.pool.clone() else { continue };
            let entry = self.maps.pool.get(book.number)?;
            let mut broken = entry != book.entry;
            if broken {
                found.push(difference("POOL", &book.number, &book.entry, &entry));
                self.maps.pool.set(book.number, book.entry)?;
            }
            for (index, wanted) in (book.entry.members..).zip(&book.members) {
                let member = self.maps.member.get(index)?;
                if member != *wanted {
                    found.push(difference("MEMBER", &index, wanted, &member));
                    self.maps.member.set(index, *wanted)?;
                }
            }
            let slots = self.wrong_slots(id, &pool);
            if slots > 0 {
                broken = true;
                found.push(Difference {
                    entry: format!("HEAD of port {} of {}", pool.target_port, pool.service),
                    wanted: "the member of highest score in every slot".into(),
                    found: format!("{slots} of {} slots lead elsewhere", pool.slots),
                    repaired: true,
                });
            }
            if broken {
                let service = self.books.get(&id).and_then(|book| book.service.clone());
                self.put_pools(&[Change { pool, service }], now)?;
            }
        }
        Ok(())
    }

    /// How many slots have another head than placement gives them.
    fn wrong_slots(&self, id: u64, pool: &Arc<crate::model::Pool>) -> usize {
        let Some(book) = self.books.get(&id) else { return 0 };
        let candidates: Vec<_> = pool.members.iter().map(|member| member.candidate).collect();
        let mut scratch = Scratch::default();
        self.writer().rows(&mut scratch, book, pool, &candidates);
        let slots = scratch.heads.iter().enumerate();
        slots
            .filter(|&(slot, &wanted)| self.writer().head(book.entry.head, slot as u32) != wanted)
            .count()
    }

    fn check_locals(&mut self, found: &mut Vec<Difference>) -> Result<(), EbpfError> {
        for (&tag, wanted) in &self.locals {
            let present = self.maps.local.get(&tag)?;
            // When the task was last heard is the programs' own.
            let same = present.is_some_and(|local| {
                Local {
                    deaf_since: 0,
                    ..local
                } == *wanted
            });
            if !same {
                found.push(difference("LOCAL", &format_args!("{tag:016x}"), wanted, &present));
                self.maps.local.set(tag, *wanted)?;
            }
        }
        for (tag, local) in self.maps.local.all()? {
            if !self.locals.contains_key(&tag) {
                found.push(difference(
                    "LOCAL",
                    &format_args!("{tag:016x}"),
                    &"nothing",
                    &local,
                ));
                self.maps.local.remove(&tag)?;
            }
        }
        Ok(())
    }
}

/// Makes a map say what is `wanted`, and tells what it did not.
pub fn check_table<K, V>(
    name: &str,
    map: &mut Table<K, V>,
    wanted: &HashMap<K, V>,
    found: &mut Vec<Difference>,
) -> Result<(), EbpfError>
where
    K: Plain + Debug + std::hash::Hash + Eq,
    V: Plain + Debug + PartialEq,
{
    for (key, value) in map.all()? {
        if !wanted.contains_key(&key) {
            found.push(difference(name, &key, &"nothing", &value));
            map.remove(&key)?;
        }
    }
    for (key, value) in wanted {
        let present = map.get(key)?;
        if present.as_ref() != Some(value) {
            found.push(difference(name, key, value, &present));
            map.set(*key, *value)?;
        }
    }
    Ok(())
}

fn difference(map: &str, key: &dyn Debug, wanted: &dyn Debug, found: &dyn Debug) -> Difference {
    Difference {
        entry: format!("{map}[{key:?}]"),
        wanted: format!("{wanted:?}"),
        found: format!("{found:?}"),
        repaired: true,
    }
}
