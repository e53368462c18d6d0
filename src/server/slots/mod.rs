//! Who serves which slot, as dispatch reads it. `cluster` moves it: it puts a new map in place with every shard locked and makes
//! workers look again, so whoever holds the locks of a command and finds nothing changed runs under the map that admitted it.
//!
//! ```text
//!   key ─► slot ─► one byte: ours, and nothing special? ─► go on
//!                     │ no
//!                     ▼
//!                  redirect: map ─► MOVED, ASK, TRYAGAIN, CLUSTERDOWN, or after all here
//! ```

pub mod redirect;

use crate::base::crc16::SLOTS;
use arc_swap::ArcSwap;
use atomic_waker::AtomicWaker;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::task::Context;

/// A node as clients are sent to it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place {
    pub ip: String,
    pub hostname: String,
    pub port: u16,
    /// In a cluster that speaks TLS: the port for those who do not.
    pub plain_port: u16,
}

/// A node, by its place in the map.
pub type NodeIndex = u16;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Map {
    /// The cluster as a whole serves.
    pub is_ok: bool,
    pub nodes: Vec<Place>,
    pub myself: NodeIndex,
    /// Whom this node replicates.
    pub primary: Option<NodeIndex>,
    pub owners: Vec<Option<NodeIndex>>,
    pub migrating: HashMap<u16, NodeIndex>,
    pub importing: HashMap<u16, NodeIndex>,
}

impl Default for Map {
    fn default() -> Self {
        Map {
            is_ok: false,
            nodes: vec![Place::default()],
            myself: 0,
            primary: None,
            owners: vec![None; usize::from(SLOTS)],
            migrating: HashMap::new(),
            importing: HashMap::new(),
        }
    }
}

impl Map {
    pub fn owner(&self, slot: u16) -> Option<NodeIndex> {
        self.owners[usize::from(slot)]
    }

    pub fn is_mine(&self, slot: u16) -> bool {
        self.owner(slot) == Some(self.myself)
    }

    /// Keys of the slot move between nodes right now, from or to this one.
    fn is_open(&self, slot: u16) -> bool {
        self.importing.contains_key(&slot) || (self.is_mine(slot) && self.migrating.contains_key(&slot))
    }

    pub fn has_open(&self) -> bool {
        !self.migrating.is_empty() || !self.importing.is_empty()
    }

    /// Keys may be here: ours, coming, or copies of our primary's.
    pub fn may_hold(&self, slot: u16) -> bool {
        self.is_mine(slot)
            || self.importing.contains_key(&slot)
            || self.owner(slot).is_some_and(|o| Some(o) == self.primary)
    }
}

/// A message that other nodes' listeners are to hear.
pub struct Publication {
    pub channel: Vec<u8>,
    pub message: Vec<u8>,
    pub is_sharded: bool,
}

pub struct Slots {
    /// By slot: 1 if a command on it may go on without another look.
    plain: Box<[AtomicU8]>,
    map: ArcSwap<Map>,
    outbox: Mutex<Vec<Publication>>,
    waker: AtomicWaker,
    /// For INFO: connections of the bus, and the memory of their buffers.
    pub connections: AtomicU64,
    pub link_bytes: AtomicU64,
}

impl Default for Slots {
    fn default() -> Self {
        Slots {
            plain: Box::default(),
            map: ArcSwap::from_pointee(Map::default()),
            outbox: Mutex::default(),
            waker: AtomicWaker::new(),
            connections: AtomicU64::new(0),
            link_bytes: AtomicU64::new(0),
        }
    }
}

impl Slots {
    /// Of a node; a server without a cluster spends nothing on it.
    pub fn of_node() -> Self {
        Slots { plain: (0..SLOTS).map(|_| AtomicU8::new(0)).collect(), ..Slots::default() }
    }

    #[inline]
    pub fn is_plain(&self, slot: u16) -> bool {
        self.plain[usize::from(slot)].load(Ordering::Relaxed) == 1
    }

    pub fn map(&self) -> Arc<Map> {
        self.map.load_full()
    }

    /// Puts a map in place. To be called with every shard locked; workers are to renew their settings afterwards.
    pub fn replace(&self, map: Map) {
        for (slot, plain) in (0..SLOTS).zip(&self.plain) {
            let is_plain = map.is_ok && map.is_mine(slot) && !map.is_open(slot);
            plain.store(u8::from(is_plain), Ordering::Relaxed);
        }
        self.map.store(Arc::new(map));
    }

    /// Leaves a message for the other nodes.
    pub fn publish(&self, channel: &[u8], message: &[u8], is_sharded: bool) {
        let publication = Publication { channel: channel.to_vec(), message: message.to_vec(), is_sharded };
        self.outbox.lock().push(publication);
        self.waker.wake();
    }

    /// For the one task that sends them: all that wait, and a waker for the next.
    pub fn take_publications(&self, context: &mut Context<'_>) -> Vec<Publication> {
        self.waker.register(context.waker());
        std::mem::take(&mut self.outbox.lock())
    }
}
