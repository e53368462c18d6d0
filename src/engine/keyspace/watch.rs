//! WATCH: which sessions must fail their EXEC when a key changes. One flag per session, registered in the key's shard.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Set once any watched key has changed.
pub type WatchFlag = Arc<AtomicBool>;

#[derive(Default)]
pub struct Watches {
    keys: HashMap<(usize, Box<[u8]>), Vec<WatchFlag>>,
}

impl Watches {
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    pub fn add(&mut self, db: usize, key: &[u8], flag: &WatchFlag) {
        let flags = self.keys.entry((db, key.into())).or_default();
        if !flags.iter().any(|other| Arc::ptr_eq(other, flag)) {
            flags.push(Arc::clone(flag));
        }
    }

    pub fn remove(&mut self, db: usize, key: &[u8], flag: &WatchFlag) {
        let name = (db, key.into());
        if let Some(flags) = self.keys.get_mut(&name) {
            flags.retain(|other| !Arc::ptr_eq(other, flag));
            if flags.is_empty() {
                self.keys.remove(&name);
            }
        }
    }

    /// A key has changed.
    pub fn touch(&self, db: usize, key: &[u8]) {
        if let Some(flags) = self.keys.get(&(db, Box::from(key))) {
            flags.iter().for_each(|flag| flag.store(true, Ordering::Relaxed));
        }
    }

    /// Calls `visit` for each watched key of a database, to touch those that a FLUSHDB or SWAPDB changes.
    pub fn touch_where(&self, db: usize, changed: impl Fn(&[u8]) -> bool) {
        for ((watched_db, key), flags) in &self.keys {
            if *watched_db == db && changed(key) {
                flags.iter().for_each(|flag| flag.store(true, Ordering::Relaxed));
            }
        }
    }

    pub fn len(&self) -> usize {
        self.keys.len()
    }
}
