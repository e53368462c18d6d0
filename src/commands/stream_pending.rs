//! What changes in a group becomes commands that have the same effect elsewhere, whatever the clock and the order there.

use super::context::Keys;
use super::effects::{EventClasses, Propagation};
use crate::base::number::IntText;
use crate::engine::stream::{ConsumerId, Group, StreamId};

/// Where a group is, and how far it is now.
pub struct GroupPlace<'a> {
    key: &'a [u8],
    group: &'a [u8],
    last_id: StreamId,
    entries_read: Option<u64>,
}

impl<'a> GroupPlace<'a> {
    pub fn new(key: &'a [u8], name: &'a [u8], group: &Group) -> Self {
        GroupPlace { key, group: name, last_id: group.last_id, entries_read: group.entries_read }
    }
}

/// A pending entry as it is now, or as it was before it ceased to be pending.
pub struct Moved {
    pub id: StreamId,
    owner: Box<[u8]>,
    delivered_ms: i64,
    deliveries: u64,
    /// How far the group was by then.
    last_id: StreamId,
}

impl Moved {
    pub fn of(group: &Group, id: StreamId) -> Self {
        let pending = group.find_pending(id).copied();
        let owner = pending.map_or(Box::default(), |pending| group.owner_name(&pending).into());
        let (delivered_ms, deliveries) = pending.map_or((0, 0), |pending| (pending.delivered_ms, pending.deliveries));
        Moved { id, owner, delivered_ms, deliveries, last_id: group.last_id }
    }
}

/// A consumer that is there now, whether or not it was before, and whether it is new.
pub fn consumer_or_new(group: &mut Group, name: &[u8], now_ms: i64) -> (ConsumerId, bool) {
    if let Some(consumer) = group.create_consumer(name, now_ms) {
        return (consumer, true);
    }
    let consumer = group.find_consumer(name).expect("a name that is not free is taken");
    group.consumer_mut(consumer).seen_ms = now_ms;
    (consumer, false)
}

impl Keys<'_> {
    /// A group has changed, which watchers and waiters of the key need not know. To the stream goes what `propagate_as` adds.
    pub fn group_changed(&mut self, changes: u64) {
        self.effects.dirty += changes;
        self.effects.propagation = Propagation::Rewritten;
    }

    /// A consumer was created on the way; `is_told` if nothing else makes it on replicas.
    pub fn consumer_created(&mut self, place: &GroupPlace<'_>, consumer: &[u8], is_told: bool) {
        self.effects.dirty += 1;
        self.notify(place.key, EventClasses::STREAM, "xgroup-createconsumer");
        if is_told {
            self.propagate_as(&[b"XGROUP", b"CREATECONSUMER", place.key, place.group, consumer]);
        }
    }

    /// An entry has a new owner, time or count. Where it exists no more, the same command removes it from what is pending.
    pub fn propagate_claim(&mut self, place: &GroupPlace<'_>, moved: &Moved) {
        if !self.observers.journal {
            return;
        }
        self.propagate_as(&[
            b"XCLAIM",
            place.key,
            place.group,
            &moved.owner,
            b"0",
            &moved.id.text(),
            b"TIME",
            &IntText::new(moved.delivered_ms),
            b"RETRYCOUNT",
            &IntText::new(moved.deliveries as i64),
            b"FORCE",
            b"JUSTID",
            b"LASTID",
            &moved.last_id.text(),
        ]);
    }

    /// The group has moved on without leaving anything pending.
    pub fn propagate_group_id(&mut self, place: &GroupPlace<'_>) {
        let read = place.entries_read.map_or(-1, |read| read as i64);
        let last_id = place.last_id.text();
        let read = IntText::new(read);
        self.propagate_as(&[b"XGROUP", b"SETID", place.key, place.group, &last_id, b"ENTRIESREAD", &read]);
    }
}
