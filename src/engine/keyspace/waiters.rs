//! Who is blocked on a key: one queue per key, first come first served.
//!
//! ```text
//!   waiting ──claim()──► claimed          by a giver (under the shard's lock), a timeout, UNBLOCK or the end of the client
//! ```
//! A ticket stands in the queue of each of its keys. Whoever wins `claim` serves or releases the client and, under the same
//! locks, takes the ticket out of its queues; so nobody is served twice.

use super::lock::ShardSet;
use std::any::Any;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// A blocked command. `payload` belongs to the server room: the client and what it asked for.
pub struct Ticket {
    /// Every shard that serving the command needs; a giver locks them before it runs.
    pub shards: ShardSet,
    /// XREADGROUP also wants to know of deletion and overwriting, BLPOP only of pushes.
    pub wakes_on_delete: bool,
    /// The key that serving the command fills in turn (BLMOVE), in the same database: others may be blocked on that one.
    pub gives_to: Option<Box<[u8]>>,
    claimed: AtomicBool,
    pub payload: Box<dyn Any + Send + Sync>,
}

impl Ticket {
    pub fn new(
        shards: ShardSet,
        wakes_on_delete: bool,
        gives_to: Option<Box<[u8]>>,
        payload: Box<dyn Any + Send + Sync>,
    ) -> Arc<Self> {
        Arc::new(Ticket { shards, wakes_on_delete, gives_to, claimed: AtomicBool::new(false), payload })
    }

    /// True for exactly one caller.
    pub fn claim(&self) -> bool {
        !self.claimed.swap(true, Ordering::AcqRel)
    }

    pub fn is_claimed(&self) -> bool {
        self.claimed.load(Ordering::Acquire)
    }
}

/// Those who wait for one key, oldest first. The sums over the tickets are kept so that a giver need not look at each.
#[derive(Default)]
struct Queue {
    tickets: VecDeque<Arc<Ticket>>,
    /// Union of the tickets' shards.
    shards: ShardSet,
    /// Tickets that wake on delete.
    wake_on_delete: usize,
    /// Tickets that give to another key.
    givers: usize,
}

impl Queue {
    fn add(&mut self, ticket: &Arc<Ticket>) {
        // A command may name a key twice; nobody else comes in between.
        if self.tickets.back().is_some_and(|last| Arc::ptr_eq(last, ticket)) {
            return;
        }
        self.shards = self.shards.union(ticket.shards);
        self.wake_on_delete += usize::from(ticket.wakes_on_delete);
        self.givers += usize::from(ticket.gives_to.is_some());
        self.tickets.push_back(Arc::clone(ticket));
    }

    fn remove(&mut self, ticket: &Arc<Ticket>) {
        let Some(index) = self.tickets.iter().position(|other| Arc::ptr_eq(other, ticket)) else { return };
        self.tickets.remove(index);
        self.wake_on_delete -= usize::from(ticket.wakes_on_delete);
        self.givers -= usize::from(ticket.gives_to.is_some());
        // Tickets of a queue mostly need the same shards; then the union stays.
        if self.tickets.front().is_none_or(|first| first.shards != ticket.shards) {
            self.shards = self.tickets.iter().fold(ShardSet::EMPTY, |set, ticket| set.union(ticket.shards));
        }
    }
}

#[derive(Default)]
pub struct Waiters {
    dbs: HashMap<usize, HashMap<Box<[u8]>, Queue>>,
}

impl Waiters {
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.dbs.is_empty()
    }

    /// Keys that somebody waits for.
    pub fn len(&self) -> usize {
        self.dbs.values().map(HashMap::len).sum()
    }

    fn queue(&self, db: usize, key: &[u8]) -> Option<&Queue> {
        self.dbs.get(&db)?.get(key)
    }

    pub fn add(&mut self, db: usize, key: &[u8], ticket: &Arc<Ticket>) {
        self.dbs.entry(db).or_default().entry(key.into()).or_default().add(ticket);
    }

    pub fn remove(&mut self, db: usize, key: &[u8], ticket: &Arc<Ticket>) {
        let Some(keys) = self.dbs.get_mut(&db) else { return };
        let Some(queue) = keys.get_mut(key) else { return };
        queue.remove(ticket);
        if queue.tickets.is_empty() {
            keys.remove(key);
            if keys.is_empty() {
                self.dbs.remove(&db);
            }
        }
    }

    pub fn has(&self, db: usize, key: &[u8]) -> bool {
        self.queue(db, key).is_some()
    }

    /// The ticket at a place in the queue of a key; the oldest is at 0.
    pub fn at(&self, db: usize, key: &[u8], index: usize) -> Option<&Arc<Ticket>> {
        self.queue(db, key)?.tickets.get(index)
    }

    /// Whether anybody in the queue of a key wakes when it is deleted.
    pub fn wake_on_delete(&self, db: usize, key: &[u8]) -> bool {
        self.queue(db, key).is_some_and(|queue| queue.wake_on_delete > 0)
    }

    /// Shards that the waiters of a key need.
    pub fn shards_of(&self, db: usize, key: &[u8]) -> ShardSet {
        self.queue(db, key).map_or(ShardSet::EMPTY, |queue| queue.shards)
    }

    /// Keys that the waiters of a key give to when they are served.
    pub fn gifts_of(&self, db: usize, key: &[u8]) -> impl Iterator<Item = &[u8]> {
        let queue = self.queue(db, key).filter(|queue| queue.givers > 0);
        queue.into_iter().flat_map(|queue| queue.tickets.iter().filter_map(|ticket| ticket.gives_to.as_deref()))
    }

    /// The waited-for keys of a database.
    pub fn keys_of(&self, db: usize) -> impl Iterator<Item = &[u8]> {
        self.dbs.get(&db).into_iter().flat_map(|keys| keys.keys().map(|key| &**key))
    }

    /// Every ticket, once per key it waits for (a role change releases all).
    pub fn all(&self) -> impl Iterator<Item = &Arc<Ticket>> {
        self.dbs.values().flat_map(HashMap::values).flat_map(|queue| &queue.tickets)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ticket(shards: &[usize], gives_to: Option<&str>) -> Arc<Ticket> {
        let mut set = ShardSet::EMPTY;
        shards.iter().for_each(|shard| set.insert(*shard));
        Ticket::new(set, false, gives_to.map(|key| key.as_bytes().into()), Box::new(()))
    }

    #[test]
    fn queues_keep_order_and_their_sums() {
        let mut waiters = Waiters::default();
        let (first, second, third) = (ticket(&[1], None), ticket(&[1, 2], Some("next")), ticket(&[1], None));
        for ticket in [&first, &first, &second, &third] {
            waiters.add(0, b"k", ticket);
        }
        assert!(waiters.at(0, b"k", 0).is_some_and(|ticket| Arc::ptr_eq(ticket, &first)));
        assert!(waiters.at(0, b"k", 2).is_some_and(|ticket| Arc::ptr_eq(ticket, &third)));
        assert!(waiters.at(0, b"k", 3).is_none() && !waiters.has(1, b"k"));
        assert_eq!(waiters.shards_of(0, b"k"), second.shards);
        assert_eq!(waiters.gifts_of(0, b"k").collect::<Vec<_>>(), [b"next"]);
        waiters.remove(0, b"k", &second);
        assert_eq!(waiters.shards_of(0, b"k"), first.shards);
        assert_eq!(waiters.gifts_of(0, b"k").count(), 0);
        waiters.remove(0, b"k", &first);
        waiters.remove(0, b"k", &third);
        assert!(waiters.is_empty());
    }

    #[test]
    fn a_claim_is_won_once() {
        let ticket = ticket(&[0], None);
        assert!(ticket.claim() && !ticket.claim() && ticket.is_claimed());
    }
}
