//! Consumer groups: how far a group has read, and which entries its consumers have not acknowledged yet.
//!
//! ```text
//!   group     pending: id → owner, time and number of deliveries          what XACK, XCLAIM and XPENDING look up
//!   consumer  pending: ids of the entries it owns, in order               what XREADGROUP with an id and XGROUP DELCONSUMER walk
//!   group     by_time: (time of delivery, id), in order                   what XREADGROUP CLAIM walks; made when that is first asked for
//! ```
//! All sides change together, here and nowhere else. An entry that was released (XNACK) is pending without an owner.

use super::id::StreamId;
use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU32;
use std::ops::RangeBounds;
use std::sync::atomic::{AtomicBool, Ordering};

/// A consumer within its group; valid until the consumer is removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConsumerId(NonZeroU32);

impl ConsumerId {
    fn of(index: usize) -> Self {
        let number = u32::try_from(index + 1).ok().and_then(NonZeroU32::new);
        ConsumerId(number.expect("a group has less than 2^32 consumers"))
    }

    fn index(self) -> usize {
        self.0.get() as usize - 1
    }
}

/// An entry that was delivered but not acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pending {
    /// When it was delivered last, in milliseconds since the epoch.
    pub delivered_ms: i64,
    pub deliveries: u64,
    pub owner: Option<ConsumerId>,
}

#[derive(Clone)]
pub struct Consumer {
    name: Box<[u8]>,
    /// When it last asked for something.
    pub seen_ms: i64,
    /// When it last got something; nothing yet if it never did.
    pub active_ms: Option<i64>,
    pending: BTreeSet<StreamId>,
}

impl Consumer {
    pub fn name(&self) -> &[u8] {
        &self.name
    }

    /// Number of entries that it has not acknowledged.
    pub fn pending_len(&self) -> usize {
        self.pending.len()
    }

    /// The ids of these, in order.
    pub fn pending(&self, ids: impl RangeBounds<StreamId>) -> impl Iterator<Item = StreamId> {
        self.pending.range(ids).copied()
    }
}

#[derive(Clone)]
pub struct Group {
    /// The last id that was delivered.
    pub last_id: StreamId,
    /// How many entries of the stream the group has read, deleted ones included, if that is known.
    pub entries_read: Option<u64>,
    pending: BTreeMap<StreamId, Pending>,
    /// Pending entries without an owner.
    unowned: usize,
    /// Pending entries by the time of their last delivery, but for some that the stream has no more. Groups of which nobody claims
    /// by time do without.
    by_time: Option<BTreeSet<(i64, StreamId)>>,
    by_name: BTreeMap<Box<[u8]>, ConsumerId>,
    consumers: Vec<Option<Consumer>>,
}

/// Consumers.
impl Group {
    pub fn new(last_id: StreamId, entries_read: Option<u64>) -> Self {
        Group {
            last_id,
            entries_read,
            pending: BTreeMap::new(),
            unowned: 0,
            by_time: None,
            by_name: BTreeMap::new(),
            consumers: Vec::new(),
        }
    }

    pub fn consumers_len(&self) -> usize {
        self.by_name.len()
    }

    /// In the order of their names.
    pub fn consumers(&self) -> impl Iterator<Item = &Consumer> {
        self.by_name.values().map(|id| self.consumer(*id))
    }

    pub fn find_consumer(&self, name: &[u8]) -> Option<ConsumerId> {
        self.by_name.get(name).copied()
    }

    /// Nothing if the name is taken.
    pub fn create_consumer(&mut self, name: &[u8], seen_ms: i64) -> Option<ConsumerId> {
        if self.by_name.contains_key(name) {
            return None;
        }
        let free = self.consumers.iter().position(Option::is_none).unwrap_or(self.consumers.len());
        let consumer = Consumer { name: name.into(), seen_ms, active_ms: None, pending: BTreeSet::new() };
        if free == self.consumers.len() {
            self.consumers.push(Some(consumer));
        } else {
            self.consumers[free] = Some(consumer);
        }
        let id = ConsumerId::of(free);
        self.by_name.insert(name.into(), id);
        Some(id)
    }

    /// Removes a consumer and what it has pending; how many entries that were.
    pub fn remove_consumer(&mut self, name: &[u8]) -> Option<usize> {
        let id = self.by_name.remove(name)?;
        let consumer = self.consumers[id.index()].take()?;
        for entry in &consumer.pending {
            if let Some(pending) = self.pending.remove(entry) {
                self.forget_time(*entry, pending.delivered_ms);
            }
        }
        Some(consumer.pending.len())
    }

    pub fn consumer(&self, id: ConsumerId) -> &Consumer {
        self.consumers[id.index()].as_ref().expect("ids of removed consumers are forgotten with their entries")
    }

    pub fn consumer_mut(&mut self, id: ConsumerId) -> &mut Consumer {
        self.consumers[id.index()].as_mut().expect("ids of removed consumers are forgotten with their entries")
    }

    /// The name of who owns a pending entry; empty for one that was released.
    pub fn owner_name(&self, pending: &Pending) -> &[u8] {
        pending.owner.map_or(b"", |id| &self.consumer(id).name)
    }
}

/// Pending entries.
impl Group {
    pub fn pending_len(&self) -> usize {
        self.pending.len()
    }

    /// Pending entries without an owner: those that were released.
    pub fn unowned_len(&self) -> usize {
        self.unowned
    }

    pub fn find_pending(&self, id: StreamId) -> Option<&Pending> {
        self.pending.get(&id)
    }

    pub fn pending(&self, ids: impl RangeBounds<StreamId>) -> impl DoubleEndedIterator<Item = (StreamId, &Pending)> {
        self.pending.range(ids).map(|(id, pending)| (*id, pending))
    }

    /// Gives an entry to a consumer, whoever had it before.
    pub fn assign(&mut self, id: StreamId, owner: ConsumerId, delivered_ms: i64, deliveries: u64) {
        self.put(id, Pending { delivered_ms, deliveries, owner: Some(owner) });
    }

    /// An entry becomes, or stays, pending without an owner.
    pub fn release(&mut self, id: StreamId, delivered_ms: i64, deliveries: u64) {
        RELEASED.store(true, Ordering::Relaxed);
        self.put(id, Pending { delivered_ms, deliveries, owner: None });
    }

    /// An entry of which the owner is yet to come (loading).
    pub fn expect(&mut self, id: StreamId, delivered_ms: i64, deliveries: u64) {
        self.put(id, Pending { delivered_ms, deliveries, owner: None });
    }

    fn put(&mut self, id: StreamId, pending: Pending) {
        let old = self.pending.insert(id, pending);
        if let Some(old) = old {
            self.forget_time(id, old.delivered_ms);
        }
        if let Some(by_time) = &mut self.by_time {
            by_time.insert((pending.delivered_ms, id));
        }
        self.unowned += usize::from(pending.owner.is_none());
        self.unowned -= usize::from(old.is_some_and(|old| old.owner.is_none()));
        let before = old.and_then(|old| old.owner);
        if before == pending.owner {
            return;
        }
        if let Some(before) = before {
            self.consumer_mut(before).pending.remove(&id);
        }
        if let Some(owner) = pending.owner {
            self.consumer_mut(owner).pending.insert(id);
        }
    }

    /// Delivered once more to the one who has it.
    pub fn redeliver(&mut self, id: StreamId, delivered_ms: i64) {
        let Some(pending) = self.pending.get_mut(&id) else { return };
        let before = std::mem::replace(&mut pending.delivered_ms, delivered_ms);
        pending.deliveries = pending.deliveries.saturating_add(1);
        if let Some(by_time) = &mut self.by_time {
            by_time.remove(&(before, id));
            by_time.insert((delivered_ms, id));
        }
    }

    /// The entry is no longer pending; false if it was not.
    pub fn acknowledge(&mut self, id: StreamId) -> bool {
        let Some(pending) = self.pending.remove(&id) else { return false };
        self.forget_time(id, pending.delivered_ms);
        match pending.owner {
            Some(owner) => drop(self.consumer_mut(owner).pending.remove(&id)),
            None => self.unowned -= 1,
        }
        true
    }

    fn forget_time(&mut self, id: StreamId, delivered_ms: i64) {
        if let Some(by_time) = &mut self.by_time {
            by_time.remove(&(delivered_ms, id));
        }
    }

    /// Up to `count` pending entries that were delivered no later than `latest_ms`, those that have waited longest first. Those that
    /// do not `exist` any more are left out, and from then on not looked at again.
    pub fn longest_pending(&mut self, latest_ms: i64, count: usize, exist: impl Fn(StreamId) -> bool) -> Vec<StreamId> {
        let (mut found, mut gone) = (Vec::new(), Vec::new());
        let by_time = self.ordered_by_time();
        for (at, id) in by_time.range(..=(latest_ms, StreamId::MAX)) {
            if found.len() == count {
                break;
            }
            if exist(*id) {
                found.push(*id);
            } else {
                gone.push((*at, *id));
            }
        }
        for place in gone {
            by_time.remove(&place);
        }
        found
    }

    /// When the next of the entries was delivered that were delivered after `ms`.
    pub fn next_delivery_after(&mut self, ms: i64) -> Option<i64> {
        let start = (ms.checked_add(1)?, StreamId::MIN);
        self.ordered_by_time().range(start..).next().map(|(at, _)| *at)
    }

    fn ordered_by_time(&mut self) -> &mut BTreeSet<(i64, StreamId)> {
        let pending = &self.pending;
        self.by_time.get_or_insert_with(|| pending.iter().map(|(id, pending)| (pending.delivered_ms, *id)).collect())
    }

    /// The order is made anew when it is next asked for: entries that were left out may exist again.
    pub fn forget_times(&mut self) {
        self.by_time = None;
    }

    /// Whether an entry was ever released since the start: files then need a version that can say so.
    pub fn releases_seen() -> bool {
        RELEASED.load(Ordering::Relaxed)
    }

    /// Bytes taken from the allocator, roughly.
    pub fn memory(&self) -> usize {
        let consumers: usize = self
            .consumers
            .iter()
            .flatten()
            .map(|consumer| 2 * consumer.name.len() + consumer.pending.len() * (size_of::<StreamId>() + TREE_SLACK))
            .sum();
        let pending = size_of::<StreamId>() + size_of::<Pending>() + TREE_SLACK;
        size_of::<Group>()
            + consumers
            + self.consumers.capacity() * size_of::<Option<Consumer>>()
            + self.by_name.len() * (size_of::<Box<[u8]>>() + size_of::<ConsumerId>() + TREE_SLACK)
            + self.pending.len() * pending
            + self.by_time.as_ref().map_or(0, |by_time| by_time.len() * (size_of::<(i64, StreamId)>() + TREE_SLACK))
    }
}

static RELEASED: AtomicBool = AtomicBool::new(false);

/// What an entry of a B-tree costs besides its key and value, about: nodes are never quite full.
pub(super) const TREE_SLACK: usize = 20;
