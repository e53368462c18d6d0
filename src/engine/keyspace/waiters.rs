//! Who is blocked on a key: one queue per key, first come first served.
//!
//! ```text
//!   waiting ──claim()──► claimed          by a giver (under the shard's lock), a timeout, UNBLOCK or the end of the client
//! ```
//! A ticket stands in the queue of each of its keys. Whoever wins `claim` serves or releases the client; the others find
//! it claimed and leave it alone, so nobody is served twice.

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
    claimed: AtomicBool,
    pub payload: Box<dyn Any + Send + Sync>,
}

impl Ticket {
    pub fn new(shards: ShardSet, wakes_on_delete: bool, payload: Box<dyn Any + Send + Sync>) -> Arc<Self> {
        Arc::new(Ticket { shards, wakes_on_delete, claimed: AtomicBool::new(false), payload })
    }

    /// True for exactly one caller.
    pub fn claim(&self) -> bool {
        !self.claimed.swap(true, Ordering::AcqRel)
    }

    pub fn is_claimed(&self) -> bool {
        self.claimed.load(Ordering::Acquire)
    }
}

/// Oldest first.
type Queue = VecDeque<Arc<Ticket>>;

#[derive(Default)]
pub struct Waiters {
    keys: HashMap<(usize, Box<[u8]>), Queue>,
}

impl Waiters {
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Keys that somebody waits for.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    pub fn add(&mut self, db: usize, key: &[u8], ticket: &Arc<Ticket>) {
        let queue = self.keys.entry((db, key.into())).or_default();
        // A command may name a key twice.
        if !queue.iter().any(|other| Arc::ptr_eq(other, ticket)) {
            queue.push_back(Arc::clone(ticket));
        }
    }

    pub fn remove(&mut self, db: usize, key: &[u8], ticket: &Arc<Ticket>) {
        let name = (db, key.into());
        if let Some(queue) = self.keys.get_mut(&name) {
            queue.retain(|other| !Arc::ptr_eq(other, ticket));
            if queue.is_empty() {
                self.keys.remove(&name);
            }
        }
    }

    pub fn has(&self, db: usize, key: &[u8]) -> bool {
        !self.keys.is_empty() && self.keys.contains_key(&(db, Box::from(key)))
    }

    /// Those who wait for a key, in order of arrival.
    pub fn of(&self, db: usize, key: &[u8]) -> Vec<Arc<Ticket>> {
        self.keys.get(&(db, Box::from(key))).map(|queue| queue.iter().cloned().collect()).unwrap_or_default()
    }

    /// Shards that the waiters of a key need besides this one.
    pub fn shards_of(&self, db: usize, key: &[u8]) -> ShardSet {
        let queue = self.keys.get(&(db, Box::from(key)));
        queue.into_iter().flatten().fold(ShardSet::EMPTY, |set, ticket| set.union(ticket.shards))
    }

    /// The waited-for keys of a database.
    pub fn keys_of(&self, db: usize) -> impl Iterator<Item = &[u8]> {
        self.keys.keys().filter(move |(waited_db, _)| *waited_db == db).map(|(_, key)| &**key)
    }

    /// Every ticket, for CLIENT UNBLOCK-like sweeps (a role change releases all).
    pub fn all(&self) -> impl Iterator<Item = &Arc<Ticket>> {
        self.keys.values().flatten()
    }
}
