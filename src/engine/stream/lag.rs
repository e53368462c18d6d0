//! How far a group is behind: counting entries read without walking over them.
//!
//! ```text
//!   entries added    ├───────────── trimmed ─────────────┤├── held ──┤
//!   entries read     ├──────────── by the group ───────────────┤ lag │
//! ```
//! The count of an id is known at the ends of what is held, and one more per entry delivered from there; but an entry that was
//! deleted by itself ahead of the group makes every count a guess, and then nothing is told.

use super::entries::{Entries, Totals};
use super::group::Group;
use super::id::StreamId;

/// What counting needs to know of a stream, so that it is found once for many entries.
#[derive(Clone, Copy)]
pub struct Counter {
    len: u64,
    first_id: StreamId,
    totals: Totals,
}

impl Entries {
    pub fn counter(&self) -> Counter {
        Counter { len: self.len, first_id: self.first_id(), totals: self.totals }
    }
}

impl Counter {
    /// How many entries up to an id were ever added, if that can be told.
    pub fn read_up_to(&self, id: StreamId) -> Option<u64> {
        let Totals { last_id, max_deleted_id, entries_added } = self.totals;
        if entries_added == 0 {
            return Some(0);
        }
        if id == last_id || (self.len == 0 && id < last_id) {
            return Some(entries_added);
        }
        if id > last_id || (!max_deleted_id.is_zero() && max_deleted_id >= self.first_id) {
            return None;
        }
        let before_first = entries_added.wrapping_sub(self.len);
        match id.cmp(&self.first_id) {
            std::cmp::Ordering::Less => Some(before_first),
            std::cmp::Ordering::Equal => Some(before_first.wrapping_add(1)),
            std::cmp::Ordering::Greater => None,
        }
    }

    /// Whether an entry from an id on was deleted by itself.
    fn has_gaps_from(&self, id: StreamId) -> bool {
        let deleted = self.totals.max_deleted_id;
        self.len > 0 && !deleted.is_zero() && self.first_id <= deleted && id <= deleted
    }

    /// The group's last id moves on to that of an entry it has been given.
    pub fn advance(&self, group: &mut Group, id: StreamId) {
        if id <= group.last_id {
            return;
        }
        match group.entries_read {
            Some(read) if !self.has_gaps_from(id) => group.entries_read = Some(read.wrapping_add(1)),
            Some(_) | None if self.totals.entries_added > 0 => group.entries_read = self.read_up_to(id),
            Some(_) | None => {}
        }
        group.last_id = id;
    }

    /// Entries that the group has yet to read, if that can be told.
    pub fn lag(&self, group: &Group) -> Option<i64> {
        let added = self.totals.entries_added;
        if added == 0 {
            return Some(0);
        }
        let known = group.entries_read.filter(|_| !self.has_gaps_from(group.last_id));
        known.or_else(|| self.read_up_to(group.last_id)).map(|read| added.wrapping_sub(read) as i64)
    }
}
