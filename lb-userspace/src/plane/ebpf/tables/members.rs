//! Places of members in `MEMBER`: an offset stays with a member for life, so that a change of the set rewrites only the
//! slots it moves.

use std::time::Instant;

use lb_common::table::{self, NOBODY_ELSE};

use super::super::ranges::GRACE;
use super::{Book, Tables};
use crate::model::Pool;
use crate::plane::EbpfError;

/// Smallest room of a pool.
const ROOM: u32 = 4;

impl Tables {
    /// Gives every member of the pool an offset and writes new ones to `MEMBER`. False where the table is full.
    ///
    /// Members that are gone keep their entry until [`forget_members`](Self::forget_members): slots still lead there.
    pub(super) fn place_members(
        &mut self,
        book: &mut Book,
        pool: &Pool,
        now: Instant,
    ) -> Result<bool, EbpfError> {
        book.resting
            .retain(|&(since, _)| now.duration_since(since) < GRACE);
        let new: Vec<_> = pool
            .members
            .iter()
            .filter(|member| !book.tags.contains(&member.candidate.tag))
            .collect();
        let mut free = (0..book.tags.len() as u16)
            .filter(|&at| book.tags[at as usize] == 0 && book.resting.iter().all(|&(_, other)| other != at))
            .collect::<Vec<_>>()
            .into_iter();
        let mut added = Vec::new();
        for member in new {
            let offset = match free.next() {
                Some(offset) => offset as usize,
                None => {
                    book.tags.push(0);
                    book.tags.len() - 1
                }
            };
            book.tags[offset] = member.candidate.tag;
            added.push((offset as u32, entry(member.candidate.tag, member.candidate.node)));
        }
        if book.tags.len() as u32 > book.entry.room || book.tags.len() > usize::from(NOBODY_ELSE) {
            let moved = book.tags.len() <= usize::from(NOBODY_ELSE) && self.move_members(book, pool, now)?;
            if !moved {
                // None of the new ones, then: the pool goes on with what it had.
                for (offset, _) in added {
                    book.tags[offset as usize] = 0;
                }
                book.tags
                    .truncate((book.entry.room as usize).min(usize::from(NOBODY_ELSE)));
                // As with all tables: what rests is used before its time where nothing else is left.
                if !book.resting.is_empty() {
                    book.resting.clear();
                    return self.place_members(book, pool, now);
                }
            }
            return Ok(moved);
        }
        for (offset, entry) in added {
            self.maps.member.set(book.entry.members + offset, entry)?;
        }
        // A task can move, and a node's tag can change when the set of nodes does.
        for member in &pool.members {
            let before = match &book.pool {
                Some(pool) => pool
                    .members
                    .binary_search_by_key(&member.candidate.tag, |m| m.candidate.tag)
                    .ok()
                    .map(|at| pool.members[at].candidate.node),
                // After a restart only the kernel knows what was written.
                None => match book.offset(member.candidate.tag) {
                    Some(offset) => {
                        let index = book.entry.members + u32::from(offset);
                        Some(self.maps.member.get(index)?.node)
                    }
                    None => None,
                },
            };
            if before.is_some_and(|before| before != member.candidate.node)
                && let Some(offset) = book.offset(member.candidate.tag)
            {
                let entry = entry(member.candidate.tag, member.candidate.node);
                self.maps
                    .member
                    .set(book.entry.members + u32::from(offset), entry)?;
            }
        }
        Ok(true)
    }

    /// Writes all members at a larger place. The pool's entry leads there only when it is written, and the old place
    /// rests before anyone else gets it.
    fn move_members(&mut self, book: &mut Book, pool: &Pool, now: Instant) -> Result<bool, EbpfError> {
        let room = (book.tags.len() as u32).next_power_of_two().max(ROOM);
        let Some(start) = self.members.take(room, now) else {
            return Ok(false);
        };
        for offset in 0..room {
            let tag = book.tags.get(offset as usize).copied().unwrap_or(0);
            let node = match pool.members.iter().find(|member| member.candidate.tag == tag) {
                Some(member) => member.candidate.node,
                // Gone, but slots lead there until they are rewritten: keep what is known.
                None if tag != 0 => self.maps.member.get(book.entry.members + offset)?.node,
                None => 0,
            };
            self.maps.member.set(start + offset, entry(tag, node))?;
        }
        self.members.give(book.entry.members, book.entry.room, now);
        (book.entry.members, book.entry.room) = (start, room);
        Ok(true)
    }

    /// Clears the entries of members that are gone; no slot leads there any more.
    pub(super) fn forget_members(
        &mut self,
        book: &mut Book,
        pool: &Pool,
        now: Instant,
    ) -> Result<(), EbpfError> {
        for offset in 0..book.tags.len() {
            let tag = book.tags[offset];
            let kept = pool
                .members
                .binary_search_by_key(&tag, |member| member.candidate.tag)
                .is_ok();
            if tag != 0 && !kept {
                self.maps
                    .member
                    .set(book.entry.members + offset as u32, entry(0, 0))?;
                book.tags[offset] = 0;
                book.resting.push((now, offset as u16));
            }
        }
        Ok(())
    }
}

impl Book {
    /// Offset of a member.
    pub(super) fn offset(&self, tag: u64) -> Option<u16> {
        self.tags
            .iter()
            .position(|&other| other == tag)
            .map(|at| at as u16)
    }
}

fn entry(tag: u64, node: u16) -> table::Member {
    table::Member {
        tag,
        node,
        pad: [0; 3],
    }
}
