//! The stream: entries in listpacks, which an ordered tree holds by the id of their first entry; consumer groups; producers.
//!
//! ```text
//!   tree    id of node 1   id of node 2   …   id of node n         entries are appended to the last node only
//!              │              │                  │
//!              ▼              ▼                  ▼
//!           listpack       listpack           listpack             up to stream-node-max-entries / -bytes each
//! ```
//! A radix tree, Redis's choice, shares the prefixes of the ids; but at a hundred entries a node the index is half a byte an
//! entry either way, and a B-tree is what the standard library has.

mod entries;
mod group;
mod id;
mod lag;
mod node;
mod producers;
mod range;
mod trim;

use std::collections::{BTreeMap, btree_map};
use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicBool, Ordering};

pub use entries::{Entries, Totals};
pub use group::{Consumer, ConsumerId, Group, Pending};
pub use id::{IdText, StreamId};
pub use lag::Counter;
pub use node::Entry;
pub use producers::Producers;
pub use range::{Range, RangeRev};
pub use trim::{Threshold, Trim};

/// A node never grows beyond this, whatever the limits say.
pub const NODE_BYTES_MAX: usize = 1 << 30;

/// The value of a stream key; one word.
#[repr(transparent)]
#[derive(Clone, Default)]
pub struct Stream(Box<Body>);

#[derive(Clone, Default)]
struct Body {
    entries: Entries,
    groups: BTreeMap<Box<[u8]>, Group>,
    /// Only where producers give keys to their messages.
    producers: Option<Box<Producers>>,
}

/// Why an entry was not added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// The id is not above the last one.
    NotAboveLast,
    TooLarge,
}

/// What becomes of the groups' references to an entry that is to be deleted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum References {
    /// They stay, and point to nothing.
    #[default]
    Keep,
    /// They go with it.
    Delete,
    /// An entry to which there are any stays: one that a group has not read, or that somebody has not acknowledged.
    Respect,
}

/// What became of an entry that was to be deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deletion {
    NotFound,
    Deleted,
    /// There are references, which are to be respected.
    Referenced,
}

/// A stream is its entries, and groups.
impl Deref for Stream {
    type Target = Entries;

    #[inline]
    fn deref(&self) -> &Entries {
        &self.0.entries
    }
}

impl DerefMut for Stream {
    #[inline]
    fn deref_mut(&mut self) -> &mut Entries {
        &mut self.0.entries
    }
}

impl Stream {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn from_entries(entries: Entries) -> Self {
        Stream(Box::new(Body { entries, ..Body::default() }))
    }

    pub fn encoding(&self) -> &'static str {
        "stream"
    }

    /// Bytes taken from the allocator, without the word itself; `samples` bounds the nodes looked at, 0 = all.
    pub fn memory_usage(&self, samples: usize) -> usize {
        let groups = self.0.groups.iter().map(|(name, group)| name.len() + size_of::<Box<[u8]>>() + group.memory());
        let producers = self.producers().map_or(0, Producers::memory);
        size_of::<Body>() + self.0.entries.memory(samples) + groups.sum::<usize>() + producers
    }

    /// Allocations that dropping it frees, roughly.
    pub fn free_effort(&self) -> usize {
        let groups = &self.0.groups;
        self.nodes().len() + groups.values().next().map_or(0, |group| groups.len() * (1 + group.pending_len()))
    }
}

/// Producers.
impl Stream {
    pub fn producers(&self) -> Option<&Producers> {
        self.0.producers.as_deref()
    }

    pub fn producers_mut(&mut self) -> &mut Producers {
        PRODUCERS_SEEN.store(true, Ordering::Relaxed);
        self.0.producers.get_or_insert_default()
    }

    /// Whether any stream ever had producers with keys since the start: files then need a version that can say so.
    pub fn producers_seen() -> bool {
        PRODUCERS_SEEN.load(Ordering::Relaxed)
    }
}

static PRODUCERS_SEEN: AtomicBool = AtomicBool::new(false);

/// Consumer groups.
impl Stream {
    /// Sets what is told of entries past and present. Where the last id is lowered, ids that were deleted may come again.
    pub fn set_totals(&mut self, totals: Totals) {
        if totals.last_id < self.0.entries.totals().last_id {
            self.0.groups.values_mut().for_each(Group::forget_times);
        }
        self.0.entries.set_totals(totals);
    }

    pub fn groups_len(&self) -> usize {
        self.0.groups.len()
    }

    /// In the order of their names.
    pub fn groups(&self) -> impl Iterator<Item = (&[u8], &Group)> {
        self.0.groups.iter().map(|(name, group)| (&**name, group))
    }

    pub fn group(&self, name: &[u8]) -> Option<&Group> {
        self.0.groups.get(name)
    }

    pub fn group_mut(&mut self, name: &[u8]) -> Option<&mut Group> {
        self.0.groups.get_mut(name)
    }

    /// The entries beside a group for change: what is delivered is written down in the group.
    pub fn split_mut(&mut self, name: &[u8]) -> Option<(&Entries, &mut Group)> {
        let body = &mut *self.0;
        Some((&body.entries, body.groups.get_mut(name)?))
    }

    /// False if the name is taken.
    pub fn create_group(&mut self, name: &[u8], group: Group) -> bool {
        match self.0.groups.entry(name.into()) {
            btree_map::Entry::Vacant(place) => {
                place.insert(group);
                true
            }
            btree_map::Entry::Occupied(_) => false,
        }
    }

    pub fn remove_group(&mut self, name: &[u8]) -> bool {
        self.0.groups.remove(name).is_some()
    }
}

/// Deleting with an eye on the groups.
impl Stream {
    /// Deletes an entry by its id.
    pub fn delete(&mut self, id: StreamId, references: References) -> Deletion {
        let Body { entries, groups, .. } = &mut *self.0;
        if references == References::Respect && entries.contains(id) && is_referenced(groups, id) {
            return Deletion::Referenced;
        }
        if references == References::Delete {
            forget(groups, id);
        }
        if entries.remove(id) { Deletion::Deleted } else { Deletion::NotFound }
    }

    /// Trims; how many entries went.
    pub fn trim(&mut self, trim: &Trim, references: References) -> u64 {
        let Body { entries, groups, .. } = &mut *self.0;
        match references {
            References::Keep => entries.trim(trim, None),
            References::Delete => entries.trim(
                trim,
                Some(&mut |id| {
                    forget(groups, id);
                    true
                }),
            ),
            References::Respect => entries.trim(trim, Some(&mut |id| !is_referenced(groups, id))),
        }
    }
}

/// The entry is pending nowhere any more.
fn forget(groups: &mut BTreeMap<Box<[u8]>, Group>, id: StreamId) {
    for group in groups.values_mut() {
        group.acknowledge(id);
    }
}

fn is_referenced(groups: &BTreeMap<Box<[u8]>, Group>, id: StreamId) -> bool {
    groups.values().any(|group| group.last_id < id || group.find_pending(id).is_some())
}

#[cfg(test)]
mod tests;
