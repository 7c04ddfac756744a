//! Places of members in `MEMBER`: an offset stays with a member for life, so that a change of the set rewrites only the
//! slots it moves.

use std::collections::HashMap;
use std::time::Instant;

use lb_common::placement::State;
use lb_common::table::{self, NOBODY_ELSE, member_flag};

use super::super::ranges::GRACE;
use super::locals::standing;
use super::{Book, Tables};
use crate::model::{Change, Member, Pool, Service, Standing};
use crate::plane::EbpfError;

/// Smallest room of a pool.
const ROOM: u32 = 4;

impl Tables {
    /// Gives every member of the pool an offset and writes to `MEMBER` those that are new or not as they were: a task can move,
    /// and a node's tag can change when the set of nodes does. False where the table is full: then those are written that have a place.
    ///
    /// Members that are gone keep their entry until [`forget_members`](Self::forget_members): slots still lead there.
    pub(super) fn place_members(
        &mut self,
        book: &mut Book,
        change: &Change,
        now: Instant,
    ) -> Result<bool, EbpfError> {
        book.resting
            .retain(|&(since, _)| now.duration_since(since) < GRACE);
        let used = book.members.iter().enumerate();
        let used: HashMap<u64, usize> = used.map(|(offset, member)| (member.tag, offset)).collect();
        let rests = |offset| {
            book.resting
                .iter()
                .any(|&(_, other)| usize::from(other) == offset)
        };
        let mut free =
            (0..book.members.len()).filter(|&offset| book.members[offset].tag == 0 && !rests(offset));
        let mut length = book.members.len();
        let mut written = Vec::new();
        for member in &change.pool.members {
            let entry = self.entry(member, change.service.as_deref());
            let offset = used.get(&entry.tag).copied().or_else(|| free.next());
            let offset = offset.unwrap_or_else(|| {
                length += 1;
                length - 1
            });
            if book.members.get(offset) != Some(&entry) {
                written.push((offset, entry));
            }
        }
        let most = usize::from(NOBODY_ELSE);
        let room = most.min(book.entry.room as usize);
        let is_full = length > room;
        if is_full {
            if length <= most && self.move_members(book, length, &written, now)? {
                return Ok(true);
            }
            // As with all tables: what rests is used before its time where nothing else is left.
            if !book.resting.is_empty() {
                book.resting.clear();
                return self.place_members(book, change, now);
            }
        }
        book.members.resize(length.min(room), table::Member::default());
        for (offset, entry) in written {
            let Some(member) = book.members.get_mut(offset) else {
                continue;
            };
            let number = book.entry.members + offset as u32;
            self.maps.member.set(number, entry)?;
            *member = entry;
        }
        Ok(!is_full)
    }

    /// Writes all members at a larger place, `written` among them. The pool's entry leads there only when it is written, and the
    /// old place rests before anyone else gets it.
    fn move_members(
        &mut self,
        book: &mut Book,
        length: usize,
        written: &[(usize, table::Member)],
        now: Instant,
    ) -> Result<bool, EbpfError> {
        let room = (length as u32).next_power_of_two().max(ROOM);
        let Some(start) = self.members.take(room, now) else {
            return Ok(false);
        };
        // Those that are gone as well: slots lead there until they are rewritten.
        let mut members = book.members.clone();
        members.resize(room as usize, table::Member::default());
        for &(offset, entry) in written {
            members[offset] = entry;
        }
        for (number, &entry) in (start..).zip(&members) {
            self.maps.member.set(number, entry)?;
        }
        members.truncate(length);
        self.members.give(book.entry.members, book.entry.room, now);
        (book.entry.members, book.entry.room, book.members) = (start, room, members);
        Ok(true)
    }

    /// Clears the entries of members that are gone; no slot leads there any more.
    pub(super) fn forget_members(
        &mut self,
        book: &mut Book,
        pool: &Pool,
        now: Instant,
    ) -> Result<(), EbpfError> {
        for (offset, entry) in (0..).zip(&mut book.members) {
            let kept = pool
                .members
                .binary_search_by_key(&entry.tag, |member| member.candidate.tag)
                .is_ok();
            if entry.tag != 0 && !kept {
                let number = book.entry.members + u32::from(offset);
                self.maps.member.set(number, table::Member::default())?;
                *entry = table::Member::default();
                book.resting.push((now, offset));
            }
        }
        Ok(())
    }

    fn entry(&self, member: &Member, service: Option<&Service>) -> table::Member {
        let candidate = member.candidate;
        // Those that are active are not looked up among all backends.
        let is_unhealthy =
            || candidate.state == State::Draining && standing(member, service) == Some(Standing::Unhealthy);
        let left = self.by_proxy.contains(&candidate.node) || is_unhealthy();
        table::Member {
            tag: candidate.tag,
            node: candidate.node,
            flags: if left { member_flag::LEFT } else { 0 },
            ..table::Member::default()
        }
    }
}

impl Book {
    /// Offset of a member.
    pub(super) fn offset(&self, tag: u64) -> Option<u16> {
        self.members
            .iter()
            .position(|member| member.tag == tag)
            .map(|at| at as u16)
    }

    /// Tags of all members that have an offset.
    pub(super) fn tags(&self) -> impl Iterator<Item = u64> + '_ {
        let tags = self.members.iter().map(|member| member.tag);
        tags.filter(|&tag| tag != 0)
    }
}
