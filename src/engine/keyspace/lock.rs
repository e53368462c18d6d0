//! The only file that locks shards. Shards are taken in ascending order, so two workers never wait for each other in a circle.

use super::db::Db;
use super::shard::Shard;
use crate::base::hash;
use parking_lot::RawMutex;
use parking_lot::lock_api::RawMutex as _;
use std::cell::UnsafeCell;

/// Number of shards: more than cores, so that two workers seldom meet; as many as bits of a word, so that a set is a word.
pub const SHARDS: usize = 64;

/// The shard of a key, from its hash.
#[inline]
pub fn shard_of(hash: u64) -> usize {
    (hash >> 58) as usize
}

/// A set of shards.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ShardSet(u64);

impl ShardSet {
    pub const EMPTY: ShardSet = ShardSet(0);
    pub const ALL: ShardSet = ShardSet(u64::MAX);

    #[inline]
    pub fn one(shard: usize) -> Self {
        ShardSet(1 << shard)
    }

    #[inline]
    pub fn insert(&mut self, shard: usize) {
        self.0 |= 1 << shard;
    }

    #[inline]
    pub fn union(self, other: Self) -> Self {
        ShardSet(self.0 | other.0)
    }

    #[inline]
    pub fn contains(self, shard: usize) -> bool {
        self.0 & (1 << shard) != 0
    }

    pub fn covers(self, other: Self) -> bool {
        other.0 & !self.0 == 0
    }

    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Ascending.
    #[inline]
    pub fn iter(self) -> impl Iterator<Item = usize> {
        let mut rest = self.0;
        std::iter::from_fn(move || {
            if rest == 0 {
                return None;
            }
            let shard = rest.trailing_zeros() as usize;
            rest &= rest - 1;
            Some(shard)
        })
    }
}

/// Aligned to two cache lines: the adjacent-line prefetcher would otherwise make neighbours share.
#[repr(align(128))]
struct Cell {
    mutex: RawMutex,
    shard: UnsafeCell<Shard>,
}

// SAFETY: `shard` is only reached through a `Locked` that holds `mutex`.
unsafe impl Sync for Cell {}

/// All keys. It lives as long as the process, so references to it are free of lifetimes and of counting.
pub struct Keyspace {
    cells: Box<[Cell; SHARDS]>,
    databases: usize,
}

impl Keyspace {
    /// Leaked on purpose: a server has one keyspace from start to exit.
    pub fn leak(databases: usize) -> &'static Self {
        let cells = std::array::from_fn(|_| Cell { mutex: RawMutex::INIT, shard: UnsafeCell::default() });
        Box::leak(Box::new(Keyspace { cells: Box::new(cells), databases }))
    }

    pub fn databases(&self) -> usize {
        self.databases
    }

    /// Waits for the shards of a set, in ascending order.
    #[inline]
    pub fn lock(&'static self, set: ShardSet) -> Locked {
        for shard in set.iter() {
            self.cells[shard].mutex.lock();
        }
        Locked { keyspace: self, set }
    }

    /// One shard if it is free right now.
    #[inline]
    pub fn try_lock(&'static self, shard: usize) -> Option<Locked> {
        // Built only on success: dropping a `Locked` unlocks, so one made in vain would release somebody else's lock.
        let is_mine = self.cells[shard].mutex.try_lock();
        is_mine.then(|| Locked { keyspace: self, set: ShardSet::one(shard) })
    }

    pub fn lock_all(&'static self) -> Locked {
        self.lock(ShardSet::ALL)
    }

    /// Shows one database's part of a shard if the shard is free right now. Looking ahead does this twice per request, so it
    /// goes without the bookkeeping of a `Locked`.
    #[inline]
    pub fn glance(&self, shard: usize, db: usize, look: impl FnOnce(&Db)) {
        let cell = &self.cells[shard];
        if cell.mutex.try_lock() {
            // A panic in `look` would leave the shard locked: it aborts the process anyway.
            // SAFETY: the mutex is held, and nothing else refers to the shard meanwhile.
            if let Some(db) = unsafe { &*cell.shard.get() }.db(db) {
                look(db);
            }
            // SAFETY: locked right above.
            unsafe { cell.mutex.unlock() };
        }
    }

    /// Brings the lock and the head of a shard into the cache.
    #[inline]
    pub fn prefetch(&self, shard: usize) {
        crate::engine::table::prefetch((&raw const self.cells[shard]).cast());
    }
}

/// Shards held by this thread; dropping releases them.
pub struct Locked {
    keyspace: &'static Keyspace,
    set: ShardSet,
}

impl Locked {
    pub fn set(&self) -> ShardSet {
        self.set
    }

    pub fn keyspace(&self) -> &'static Keyspace {
        self.keyspace
    }

    #[inline]
    pub fn shard(&self, shard: usize) -> &Shard {
        assert!(self.set.contains(shard), "shard {shard} is not locked by this command");
        // SAFETY: this value holds the shard's mutex, and `&self` forbids a mutable borrow through it meanwhile.
        unsafe { &*self.keyspace.cells[shard].shard.get() }
    }

    #[inline]
    pub fn shard_mut(&mut self, shard: usize) -> &mut Shard {
        assert!(self.set.contains(shard), "shard {shard} is not locked by this command");
        // SAFETY: this value holds the shard's mutex and is borrowed mutably.
        unsafe { &mut *self.keyspace.cells[shard].shard.get() }
    }

    /// The part of a database where a key with this hash lives, if anything was ever put there.
    #[inline]
    pub fn db(&self, hash: u64, db: usize) -> Option<&Db> {
        self.shard(shard_of(hash)).db(db)
    }

    #[inline]
    pub fn db_mut(&mut self, hash: u64, db: usize) -> &mut Db {
        self.shard_mut(shard_of(hash)).db_mut(db)
    }

    /// Hash of a key; here so that callers need not know which one shards use.
    pub fn hash(key: &[u8]) -> u64 {
        hash::bytes(key)
    }
}

impl Drop for Locked {
    #[inline]
    fn drop(&mut self) {
        for shard in self.set.iter() {
            // SAFETY: `lock` or `try_lock` acquired exactly the mutexes of the set.
            unsafe { self.keyspace.cells[shard].mutex.unlock() };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::keyspace::NewExpiry;
    use crate::engine::value::StringRef;

    #[test]
    fn a_try_in_vain_releases_nothing() {
        let keyspace = Keyspace::leak(16);
        let held = keyspace.lock(ShardSet::one(5));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                assert!(keyspace.try_lock(5).is_none());
                assert!(keyspace.try_lock(5).is_none(), "the first try has unlocked it");
            });
        });
        drop(held);
        assert!(keyspace.try_lock(5).is_some());
    }

    #[test]
    fn many_threads_lose_no_increment() {
        let keyspace = Keyspace::leak(16);
        let rounds = if cfg!(miri) { 20 } else { 2000 };
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for n in 0..rounds {
                        let key = format!("k{}", n % 5);
                        let hash = hash::bytes(key.as_bytes());
                        let mut locked = keyspace.lock(ShardSet::one(shard_of(hash)).union(ShardSet::one(n % SHARDS)));
                        let old = match locked
                            .db(hash, 0)
                            .and_then(|db| db.find(hash, key.as_bytes()))
                            .and_then(|r| r.string_ref())
                        {
                            Some(StringRef::Int(value)) => value,
                            _ => 0,
                        };
                        let text = (old + 1).to_string();
                        locked.db_mut(hash, 0).set_string(hash, key.as_bytes(), text.as_bytes(), NewExpiry::Clear, 0);
                    }
                });
            }
        });
        let locked = keyspace.lock_all();
        let mut sum = 0;
        for shard in 0..SHARDS {
            for record in locked.shard(shard).dbs().iter().flat_map(|db| db.table().iter()) {
                sum += match record.string_ref() {
                    Some(StringRef::Int(value)) => value,
                    _ => 0,
                };
            }
        }
        assert_eq!(sum, 4 * rounds as i64);
    }
}
