//! The entries of a stream: nodes in the order of their ids, and what is known of all entries that ever were.

use super::group::TREE_SLACK;
use super::id::StreamId;
use super::node::{self, Entry};
use super::range::{Range, RangeRev};
use super::{NODE_BYTES_MAX, Refused};
use crate::engine::limits::Limits;
use crate::engine::listpack::Listpack;
use std::collections::{BTreeMap, btree_map};

#[derive(Clone, Default)]
pub struct Entries {
    pub(super) nodes: BTreeMap<StreamId, Listpack>,
    /// Live entries.
    pub(super) len: u64,
    pub(super) totals: Totals,
}

/// What a stream remembers of entries that it has no more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// The greatest id ever given.
    pub last_id: StreamId,
    /// The greatest id that was deleted by itself; trimming does not count.
    pub max_deleted_id: StreamId,
    /// Entries ever added.
    pub entries_added: u64,
}

/// Reading.
impl Entries {
    pub fn len(&self) -> usize {
        self.len as usize
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub fn last_id(&self) -> StreamId {
        self.totals.last_id
    }

    pub fn totals(&self) -> Totals {
        self.totals
    }

    /// The first entry's id; 0-0 if there is none.
    pub fn first_id(&self) -> StreamId {
        self.range(StreamId::MIN, StreamId::MAX).next().map_or(StreamId::MIN, |entry| entry.id())
    }

    /// The first id that a node still holds, be its entry deleted or not.
    pub fn first_held_id(&self) -> Option<StreamId> {
        let (id, pack) = self.nodes.first_key_value()?;
        node::Forward::new(pack, *id).next().map(|entry| entry.id())
    }

    /// The last entry's id.
    pub fn top_id(&self) -> Option<StreamId> {
        self.range_rev(StreamId::MIN, StreamId::MAX).next().map(|entry| entry.id())
    }

    /// Entries with ids between two, both included.
    pub fn range(&self, start: StreamId, end: StreamId) -> Range<'_> {
        let first = self.nodes.range(..=start).next_back().map_or(start, |(id, _)| *id);
        let nodes = if first <= end { self.nodes.range(first..=end) } else { btree_map::Range::default() };
        Range::new(nodes, start, end)
    }

    /// The same from the end.
    pub fn range_rev(&self, start: StreamId, end: StreamId) -> RangeRev<'_> {
        RangeRev::new(self.nodes.range(..=end), start, end)
    }

    pub fn find(&self, id: StreamId) -> Option<Entry<'_>> {
        self.range(id, id).next()
    }

    pub fn contains(&self, id: StreamId) -> bool {
        self.find(id).is_some()
    }

    /// Nodes with their ids, as RDB stores them.
    pub fn nodes(&self) -> impl ExactSizeIterator<Item = (StreamId, &Listpack)> {
        self.nodes.iter().map(|(id, pack)| (*id, pack))
    }

    /// The same from an id on.
    pub fn nodes_from(&self, id: StreamId) -> impl Iterator<Item = (StreamId, &Listpack)> {
        self.nodes.range(id..).map(|(id, pack)| (*id, pack))
    }

    /// How many nodes Redis's radix tree would have for ours: XINFO tells it.
    pub fn radix_nodes(&self) -> usize {
        let ids: Vec<[u8; 16]> = self.nodes.keys().map(|id| id.to_bytes()).collect();
        if ids.is_empty() { 1 } else { radix_nodes(&ids, 0) }
    }

    /// Bytes of the nodes and their index; `samples` bounds the nodes looked at, 0 = all.
    pub(super) fn memory(&self, samples: usize) -> usize {
        let count = self.nodes.len();
        let samples = if samples == 0 { count } else { samples.min(count) };
        let sampled: usize = self.nodes.values().take(samples).map(Listpack::memory).sum();
        let packs = match self.nodes.last_key_value() {
            // The last node is seldom full, so it does not count as an average one.
            Some((_, last)) if count > samples => sampled / samples * (count - 1) + last.memory(),
            Some(_) | None => sampled,
        };
        packs + count * (size_of::<StreamId>() + size_of::<Listpack>() + TREE_SLACK)
    }
}

/// Nodes of a radix tree of sorted ids that agree up to a depth: each fork, each stretch without forks, each leaf is one.
fn radix_nodes(ids: &[[u8; 16]], depth: usize) -> usize {
    let (Some(first), Some(last)) = (ids.first(), ids.last()) else { return 0 };
    if ids.len() == 1 {
        return 1 + usize::from(depth < first.len());
    }
    let fork = first.iter().zip(last).take_while(|(one, other)| one == other).count();
    let below: usize = ids.chunk_by(|one, other| one[fork] == other[fork]).map(|ids| radix_nodes(ids, fork + 1)).sum();
    1 + usize::from(fork > depth) + below
}

/// Changing.
impl Entries {
    /// Appends an entry. Its id must be above every one before.
    #[inline]
    pub fn append<'a>(
        &mut self,
        id: StreamId,
        pairs: impl ExactSizeIterator<Item = (&'a [u8], &'a [u8])> + Clone,
        limits: &Limits,
    ) -> Result<(), Refused> {
        if id <= self.totals.last_id {
            return Err(Refused::NotAboveLast);
        }
        let bytes: usize = pairs.clone().map(|(field, value)| field.len() + value.len()).sum();
        if bytes > NODE_BYTES_MAX {
            return Err(Refused::TooLarge);
        }
        let last = self.nodes.last_entry().map(|last| (*last.key(), last.into_mut()));
        match last.filter(|(_, pack)| node::has_room(pack, bytes, limits)) {
            Some((node, pack)) => node::append(pack, node, id, pairs),
            None => {
                let mut pack = node::new(pairs.clone().map(|(field, _)| field));
                node::append(&mut pack, id, id, pairs);
                self.nodes.insert(id, pack);
            }
        }
        self.len += 1;
        self.totals.entries_added += 1;
        self.totals.last_id = id;
        Ok(())
    }

    /// Deletes an entry; false if there is none with this id.
    pub fn remove(&mut self, id: StreamId) -> bool {
        let Some((node, pack)) = self.nodes.range_mut(..=id).next_back() else { return false };
        let node = *node;
        let found = node::Forward::new(pack, node).find(|entry| entry.id() >= id);
        let Some(entry) = found.filter(|entry| entry.id() == id && !entry.is_deleted()) else { return false };
        let flags = entry.flags_at();
        if node::flag_deleted(pack, &[flags]) == 0 {
            self.nodes.remove(&node);
        }
        self.len -= 1;
        self.totals.max_deleted_id = self.totals.max_deleted_id.max(id);
        true
    }

    /// Sets what XSETID and loaders set; they have checked it.
    pub fn set_totals(&mut self, totals: Totals) {
        self.totals = totals;
    }

    /// Takes over nodes from outside, in the order of their ids; nothing if one of them is damaged or does not lie behind the
    /// one before it. All that is known of other entries is that the last id is the greatest held.
    pub fn from_nodes(nodes: impl IntoIterator<Item = (StreamId, Listpack)>) -> Option<Self> {
        let mut entries = Entries::default();
        let mut last_id = None;
        for (id, pack) in nodes {
            let found = node::check(&pack, id)?;
            if last_id.is_some_and(|last| last >= id) {
                return None;
            }
            last_id = Some(found.last_id);
            entries.len = entries.len.checked_add(found.live)?;
            // Redis may leave a node of nothing but deleted entries; here such nodes are dropped.
            if found.live > 0 {
                entries.nodes.insert(id, pack);
            }
        }
        entries.totals.last_id = last_id.unwrap_or_default();
        entries.totals.entries_added = entries.len;
        Some(entries)
    }
}
