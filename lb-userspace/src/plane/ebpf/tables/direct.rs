//! What the programs at sockets go by: `DIRECT`, the members that can be connected to under their own address, and `OWN`, the
//! addresses of the node itself.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::net::IpAddr;

use lb_common::V6;
use lb_common::host::ROUTED;
use lb_common::socket::{End, map};
use lb_common::table::pool_flag;

use super::super::sockets::Departures;
use super::{Book, Tables};
use crate::model::{Affinity, Change, Pool, Snapshot};
use crate::plane::EbpfError;

impl Tables {
    /// Who may connect to the pool's tasks themselves, as bits of [`pool_flag`]. It must be all of them: else those that can be
    /// reached so would get more than their share. None where the proxy serves any of it.
    pub(super) fn reach(&self, pool: &Pool, proxied: bool) -> u32 {
        // Affinity goes by the client's address, which a socket may not have before it connects.
        if proxied || pool.members.is_empty() || pool.affinity == Affinity::ClientIp {
            return 0;
        }
        let members = &pool.members;
        let flat = members
            .iter()
            .all(|member| self.flat.iter().any(|net| net.contains(&member.address)));
        let here = members
            .iter()
            .all(|member| member.node == self.node && self.hooks.contains_key(&member.address));
        (if flat { pool_flag::FLAT } else { 0 }) | (if here { pool_flag::HERE } else { 0 })
    }

    /// Writes the pool's members, before its entry says that they can be connected to.
    pub(super) fn put_direct(&mut self, pool: &Pool, flags: u32) -> Result<(), EbpfError> {
        if flags & (pool_flag::FLAT | pool_flag::HERE) == 0 {
            return Ok(());
        }
        for member in &pool.members {
            let end = End::new(mapped(member.address), pool.target_port.to_be_bytes());
            let tag = member.candidate.tag;
            // A member that has no room is left to the packets.
            if self.direct.get(&tag) != Some(&end) && self.maps.direct.put(tag, end)? {
                self.direct.insert(tag, end);
            }
        }
        Ok(())
    }

    /// Takes out members of the book that are not in `kept`, after its entry does not lead to them any more.
    pub(super) fn drop_direct(&mut self, book: &Book, kept: Option<&Pool>) -> Result<(), EbpfError> {
        for tag in book.tags() {
            let stays = kept.is_some_and(|pool| {
                let by_tag = |member: &crate::model::Member| member.candidate.tag;
                pool.members.binary_search_by_key(&tag, by_tag).is_ok()
            });
            if !stays && self.direct.remove(&tag).is_some() {
                self.maps.direct.remove(&tag)?;
            }
        }
        Ok(())
    }

    /// The entries of all pools again, after something that concerns all of them.
    pub(super) fn reflag_all(&mut self) -> Result<(), EbpfError> {
        for id in self.books.keys().copied().collect::<Vec<_>>() {
            self.reflag(id)?;
        }
        Ok(())
    }

    /// The pool's entry again, after it was found out where its tasks are.
    pub(super) fn reflag(&mut self, id: u64) -> Result<(), EbpfError> {
        let Some(mut book) = self.books.remove(&id) else {
            return Ok(());
        };
        let result = match book.pool.clone() {
            Some(pool) => {
                let entry = lb_common::table::Pool {
                    flags: self.flags(&pool, book.service.as_deref()),
                    ..book.entry
                };
                let direct = entry.flags & (pool_flag::FLAT | pool_flag::HERE) != 0;
                self.put_direct(&pool, entry.flags)
                    .and_then(|()| self.write_entry(&mut book, entry))
                    .and_then(|()| self.drop_direct(&book, direct.then_some(&*pool)))
            }
            None => Ok(()),
        };
        self.books.insert(id, book);
        result
    }

    /// After the first snapshot: what an agent before this one wrote for members that nobody has.
    pub(super) fn tidy_direct(&mut self) -> Result<(), EbpfError> {
        let known: HashSet<u64> = self.books.values().flat_map(Book::tags).collect();
        let strangers: Vec<u64> = self
            .direct
            .keys()
            .copied()
            .filter(|tag| !known.contains(tag))
            .collect();
        for tag in strangers {
            self.direct.remove(&tag);
            self.maps.direct.remove(&tag)?;
        }
        Ok(())
    }

    /// Takes note of the VIPs of the node that packets reach now.
    pub fn set_routed(&mut self, routed: BTreeSet<IpAddr>) -> Result<(), EbpfError> {
        if self.routed == routed {
            return Ok(());
        }
        self.routed = routed;
        self.put_own()
    }

    /// Writes the node's own addresses that are not there. All the rest stays as an agent before this one has written it, until the first
    /// snapshot.
    pub fn add_own(&mut self) -> Result<(), EbpfError> {
        for (&address, &value) in &self.own_wanted {
            if !self.own.contains_key(&address) && self.maps.own.put(address, value)? {
                self.own.insert(address, value);
            }
        }
        Ok(())
    }

    /// Writes the node's own addresses, and its VIPs.
    pub(super) fn put_own(&mut self) -> Result<(), EbpfError> {
        let addresses = self.own_wanted.iter().map(|(&address, &value)| (address, value));
        let routed = self.routed.iter().map(|&vip| (mapped(vip), ROUTED));
        // VIPs last: they stay what they are.
        let wanted: HashMap<V6, u8> = addresses.chain(routed).collect();
        for (&address, &value) in &wanted {
            // More addresses than there is room for: `localhost` serves all the same.
            if self.own.get(&address) != Some(&value) && self.maps.own.put(address, value)? {
                self.own.insert(address, value);
            }
        }
        let gone: Vec<V6> = self
            .own
            .keys()
            .filter(|address| !wanted.contains_key(*address))
            .copied()
            .collect();
        for address in gone {
            self.maps.own.remove(&address)?;
            self.own.remove(&address);
        }
        Ok(())
    }

    /// Members that left with the last apply.
    pub fn take_left(&mut self) -> Left {
        std::mem::take(&mut self.left)
    }

    /// Members of the pools that change which `snapshot` does not have, here or elsewhere, or has at another address.
    pub(super) fn leaving(&self, snapshot: &Snapshot, changed: &[Change], gone: &[u64]) -> Left {
        if self.applied.is_none() || !self.whole {
            return Left::AllBut(snapshot.pools.iter().flat_map(|pool| ends(pool)).collect());
        }
        let ids = changed
            .iter()
            .map(|change| change.pool.id)
            .chain(gone.iter().copied());
        let books = ids.filter_map(|id| self.books.get(&id)?.pool.as_ref());
        let before: HashMap<u64, V6> = books.flat_map(|pool| ends(pool)).collect();
        let after: HashMap<u64, V6> = changed.iter().flat_map(|change| ends(&change.pool)).collect();
        let left = before
            .into_iter()
            .filter_map(|(tag, address)| match after.get(&tag) {
                Some(&now) if now == address => None,
                elsewhere => Some((tag, elsewhere.copied())),
            });
        Left::These {
            left: left.collect(),
            present: after,
        }
    }
}

/// Who is not there any more.
pub enum Left {
    These {
        left: Departures,
        /// Who is there, of the same pools: some may have been away.
        present: HashMap<u64, V6>,
    },
    /// Everybody else: it is not known who was there.
    AllBut(HashMap<u64, V6>),
}

impl Default for Left {
    fn default() -> Self {
        Self::These {
            left: Departures::new(),
            present: HashMap::new(),
        }
    }
}

/// The pool's members and their addresses.
fn ends(pool: &Pool) -> impl Iterator<Item = (u64, V6)> {
    let members = pool.members.iter();
    members.map(|member| (member.candidate.tag, mapped(member.address)))
}

/// An address as the programs at sockets have it.
pub fn mapped(address: IpAddr) -> V6 {
    match address {
        IpAddr::V4(ip) => map(ip.octets()),
        IpAddr::V6(ip) => ip.octets(),
    }
}
