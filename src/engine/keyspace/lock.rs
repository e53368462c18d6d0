//! The only file that locks shards. Shards are taken in ascending order, so two workers never wait for each other in a circle.
//!
//! Who needs every shard (scripts, transactions over everything) does not take 64 locks but shuts the gate:
//!
//! ```text
//!   one shard:  lock its mutex ─► gate open? ─► go on          (shut: unlock, wait at the turnstile, try again)
//!   all shards: lock the turnstile ─► shut the gate ─► wait until every mutex is free ─► go on ─► open, unlock
//! ```
//! Each side writes first and then looks at what the other has written, so at least one of two that meet sees the other.
//!
//! A script that has already written may find that it needs more (`extend`). It takes them out of order, past a gate that somebody
//! has shut: he still waits for the shards that the script holds. Whoever waits for a shard while holding others lets go of them
//! meanwhile, and only one may extend at a time; so there is no circle here either.

use super::db::Db;
use super::place;
use super::shard::Shard;
use parking_lot::RawMutex;
use parking_lot::lock_api::{RawMutex as _, RawMutexTimed as _};
use std::cell::UnsafeCell;
use std::sync::atomic::{AtomicBool, Ordering, compiler_fence, fence};
use std::time::Duration;

/// How often someone looks whether a lock is free before he goes to sleep: some microseconds.
const SPINS: u32 = if cfg!(miri) { 1 } else { 100 };
/// How often someone who waits looks whether to wait on.
const PATIENCE: Duration = Duration::from_millis(5);

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

    pub fn without(self, other: Self) -> Self {
        ShardSet(self.0 & !other.0)
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

// SAFETY: `shard` is only reached through a `Locked` that holds `mutex`, or the gate while `mutex` is free.
unsafe impl Sync for Cell {}

/// Whether somebody has every shard; in cache lines of its own, because everybody reads it and few write it.
#[repr(align(128))]
struct Gate {
    shut: AtomicBool,
}

/// Where those wait who find the gate shut; held by whoever shut it.
#[repr(align(128))]
struct Turnstile {
    mutex: RawMutex,
}

/// All keys. It lives as long as the process, so references to it are free of lifetimes and of counting.
pub struct Keyspace {
    gate: Gate,
    turnstile: Turnstile,
    /// Somebody takes shards out of order.
    extending: AtomicBool,
    cells: Box<[Cell; SHARDS]>,
    databases: usize,
}

impl Keyspace {
    /// Leaked on purpose: a server has one keyspace from start to exit.
    pub fn leak(databases: usize) -> &'static Self {
        let shard = || UnsafeCell::new(Shard::new(databases));
        let cells = std::array::from_fn(|_| Cell { mutex: RawMutex::INIT, shard: shard() });
        let gate = Gate { shut: AtomicBool::new(false) };
        let turnstile = Turnstile { mutex: RawMutex::INIT };
        let (cells, extending) = (Box::new(cells), AtomicBool::new(false));
        Box::leak(Box::new(Keyspace { gate, turnstile, extending, cells, databases }))
    }

    pub fn databases(&self) -> usize {
        self.databases
    }

    /// Waits for the shards of a set, in ascending order, as long as it takes.
    #[inline]
    pub fn lock(&'static self, set: ShardSet) -> Locked {
        loop {
            if let Some(locked) = self.lock_unless(set, || false) {
                return locked;
            }
        }
    }

    /// Waits for the shards of a set unless `give_up` says so meanwhile; it is asked every few milliseconds.
    #[inline]
    pub fn lock_unless(&'static self, set: ShardSet, give_up: impl Fn() -> bool) -> Option<Locked> {
        if set == ShardSet::ALL {
            return self.shut_gate(&give_up);
        }
        loop {
            let mut held = Locked { keyspace: self, set: ShardSet::EMPTY, added: ShardSet::EMPTY, all: false };
            let waited = set.iter().try_for_each(|shard| {
                let mutex = &self.cells[shard].mutex;
                if !mutex.try_lock() {
                    self.wait(mutex, held.set, &give_up)?;
                }
                held.set.insert(shard);
                Ok(())
            });
            match waited {
                Ok(()) if !self.is_shut() => return Some(held),
                Ok(()) => {
                    drop(held);
                    self.wait(&self.turnstile.mutex, ShardSet::EMPTY, &give_up).ok()?;
                    // SAFETY: `wait` has just acquired it. It only served to wait.
                    unsafe { self.turnstile.mutex.unlock() };
                }
                Err(Vain::GivenUp) => return None,
                Err(Vain::MustLetGo) => {
                    drop(held);
                    std::thread::sleep(PATIENCE);
                }
            }
        }
    }

    /// Waits for a mutex.
    #[cold]
    fn wait(&self, mutex: &RawMutex, held: ShardSet, give_up: &impl Fn() -> bool) -> Result<(), Vain> {
        // Most are held for a microsecond or two: whoever goes to sleep over that is woken too late, and makes the holder, who
        // wakes him, pay more than the lock was worth.
        for _ in 0..SPINS {
            std::hint::spin_loop();
            if !mutex.is_locked() && mutex.try_lock() {
                return Ok(());
            }
        }
        loop {
            if give_up() {
                return Err(Vain::GivenUp);
            }
            if mutex.try_lock_for(PATIENCE) {
                return Ok(());
            }
            if !held.is_empty() && self.extending.load(Ordering::Acquire) {
                return Err(Vain::MustLetGo);
            }
        }
    }

    /// To be asked after having locked a shard.
    #[inline]
    fn is_shut(&self) -> bool {
        order_write_before_read();
        self.gate.shut.load(Ordering::Acquire)
    }

    fn shut_gate(&'static self, give_up: &impl Fn() -> bool) -> Option<Locked> {
        if !self.turnstile.mutex.try_lock() {
            self.wait(&self.turnstile.mutex, ShardSet::EMPTY, give_up).ok()?;
        }
        self.gate.shut.store(true, Ordering::SeqCst);
        fence(Ordering::SeqCst);
        // From here on its drop opens the gate again.
        let locked = Locked { keyspace: self, set: ShardSet::ALL, added: ShardSet::EMPTY, all: true };
        for cell in self.cells.iter() {
            if cell.mutex.is_locked() {
                self.wait(&cell.mutex, ShardSet::EMPTY, give_up).ok()?;
                // SAFETY: `wait` has just acquired it. Whoever takes it now sees the gate and lets go.
                unsafe { cell.mutex.unlock() };
            }
        }
        // Pairs with the unlocking of those that were found free.
        fence(Ordering::Acquire);
        Some(locked)
    }

    /// One shard if it is free right now.
    #[inline]
    pub fn try_lock(&'static self, shard: usize) -> Option<Locked> {
        // Built only on success: dropping a `Locked` unlocks, so one made in vain would release somebody else's lock.
        let is_mine = self.cells[shard].mutex.try_lock();
        let set = ShardSet::one(shard);
        let locked = is_mine.then(|| Locked { keyspace: self, set, added: ShardSet::EMPTY, all: false })?;
        (!self.is_shut()).then_some(locked)
    }

    pub fn lock_all(&'static self) -> Locked {
        self.lock(ShardSet::ALL)
    }

    /// Shows the table where a key with this hash lives, if its shard is free right now. Looking ahead does this twice per request, so it
    /// goes without the bookkeeping of a `Locked`.
    #[inline]
    pub fn glance(&self, hash: u64, db: usize, look: impl FnOnce(&Db)) {
        let cell = &self.cells[shard_of(hash)];
        if cell.mutex.try_lock() {
            // A panic in `look` would leave the shard locked: it aborts the process anyway.
            // SAFETY: the mutex is held and the gate open, so nothing else refers to the shard meanwhile.
            if !self.is_shut()
                && let Some(db) = unsafe { &*cell.shard.get() }.part(place::part_of(hash, db))
            {
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

/// Why somebody waited in vain.
enum Vain {
    GivenUp,
    /// Somebody extends, and may need what this one holds.
    MustLetGo,
}

/// What this thread wrote by locking a mutex is seen by others before it reads on. On x86 the locked instruction does that by
/// itself, so that only the compiler must be told. Miri knows the language's memory model and no processor, and needs the fence.
#[inline]
fn order_write_before_read() {
    if cfg!(all(target_arch = "x86_64", not(miri))) {
        compiler_fence(Ordering::SeqCst)
    } else {
        fence(Ordering::SeqCst)
    }
}

/// Shards held by this thread; dropping releases them.
pub struct Locked {
    keyspace: &'static Keyspace,
    set: ShardSet,
    /// Those of them that came by `extend`.
    added: ShardSet,
    /// By the gate, not by their mutexes.
    all: bool,
}

impl Locked {
    pub fn set(&self) -> ShardSet {
        self.set
    }

    /// Takes more shards without letting go of any. False, and nothing has changed, if somebody else does so just now or `give_up`
    /// says so. Only for who cannot start over.
    pub fn extend(&mut self, set: ShardSet, give_up: impl Fn() -> bool) -> bool {
        if self.set.covers(set) {
            return true;
        }
        let keyspace = self.keyspace;
        if keyspace.extending.swap(true, Ordering::AcqRel) {
            return false;
        }
        let mut more = Locked { keyspace, set: ShardSet::EMPTY, added: ShardSet::EMPTY, all: false };
        let done = set.without(self.set).iter().all(|shard| {
            let mutex = &keyspace.cells[shard].mutex;
            let is_mine = mutex.try_lock() || keyspace.wait(mutex, ShardSet::EMPTY, &give_up).is_ok();
            if is_mine {
                more.set.insert(shard);
            }
            is_mine
        });
        if done {
            self.set = self.set.union(more.set);
            self.added = self.added.union(more.set);
            // They are this one's now.
            more.set = ShardSet::EMPTY;
        }
        drop(more);
        keyspace.extending.store(false, Ordering::Release);
        done
    }

    pub fn keyspace(&self) -> &'static Keyspace {
        self.keyspace
    }

    #[inline]
    pub fn shard(&self, shard: usize) -> &Shard {
        assert!(self.set.contains(shard), "shard {shard} is not locked by this command");
        // SAFETY: this value holds the shard's mutex or the gate, and `&self` forbids a mutable borrow through it meanwhile.
        unsafe { &*self.keyspace.cells[shard].shard.get() }
    }

    #[inline]
    pub fn shard_mut(&mut self, shard: usize) -> &mut Shard {
        assert!(self.set.contains(shard), "shard {shard} is not locked by this command");
        // SAFETY: this value holds the shard's mutex or the gate, and is borrowed mutably.
        unsafe { &mut *self.keyspace.cells[shard].shard.get() }
    }

    /// The part of a database where a key with this hash lives, if anything was ever put there.
    #[inline]
    pub fn db(&self, hash: u64, db: usize) -> Option<&Db> {
        self.shard(shard_of(hash)).part(place::part_of(hash, db))
    }

    #[inline]
    pub fn db_mut(&mut self, hash: u64, db: usize) -> &mut Db {
        self.shard_mut(shard_of(hash)).part_mut(place::part_of(hash, db))
    }

    /// Brings the buckets and then the records of several keys into the cache, so that their misses overlap instead of adding up
    /// while others wait for the shards. The keys' shards are held.
    pub fn look_ahead(&self, db: usize, hashes: impl Iterator<Item = u64> + Clone) {
        let tables = || hashes.clone().filter_map(|hash| Some((self.db(hash, db)?.table(), hash)));
        tables().for_each(|(table, hash)| table.prefetch_bucket(hash));
        tables().for_each(|(table, hash)| table.prefetch_entry(hash));
    }

    /// Hash of a key; here so that callers need not know which one shards use.
    pub fn hash(key: &[u8]) -> u64 {
        place::hash_of(key)
    }
}

impl Drop for Locked {
    #[inline]
    fn drop(&mut self) {
        if self.all {
            self.keyspace.gate.shut.store(false, Ordering::Release);
            // SAFETY: `shut_gate`, the only one that sets `all`, holds the turnstile.
            unsafe { self.keyspace.turnstile.mutex.unlock() };
            return;
        }
        // Those that were added go first: somebody at the gate may have looked at them before, and waits for one of the others.
        for shard in self.added.iter().chain(self.set.without(self.added).iter()) {
            // SAFETY: `lock_unless`, `try_lock` or `extend` acquired exactly the mutexes of the set.
            unsafe { self.keyspace.cells[shard].mutex.unlock() };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::hash;
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
    fn whoever_has_everything_keeps_the_others_out() {
        let keyspace = Keyspace::leak(16);
        let all = keyspace.lock_all();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                assert!(keyspace.try_lock(9).is_none());
                assert!(keyspace.lock_unless(ShardSet::one(9), || true).is_none(), "it must not be waited for");
                assert!(keyspace.lock_unless(ShardSet::ALL, || true).is_none());
            });
        });
        drop(all);
        let one = keyspace.try_lock(9).expect("free again");
        std::thread::scope(|scope| {
            scope.spawn(|| assert!(keyspace.lock_unless(ShardSet::ALL, || true).is_none()));
        });
        assert!(keyspace.try_lock(8).is_some(), "giving up has opened the gate");
        drop(one);
        drop(keyspace.lock_all());
    }

    #[test]
    fn who_finds_the_gate_shut_waits_until_it_opens() {
        let keyspace = Keyspace::leak(16);
        let mut all = keyspace.lock_all();
        std::thread::scope(|scope| {
            let waiter = scope.spawn(|| keyspace.lock(ShardSet::one(9)).shard(9).part(0).map(Db::len));
            std::thread::sleep(Duration::from_millis(30));
            all.shard_mut(9).part_mut(0).set_string(hash::bytes(b"k"), b"k", b"v", NewExpiry::Clear, 0);
            drop(all);
            assert_eq!(waiter.join().expect("no panic"), Some(1));
        });
    }

    #[test]
    fn a_glance_sees_only_what_is_free() {
        let keyspace = Keyspace::leak(16);
        let seen = |shard: u64| {
            let mut keys = None;
            keyspace.glance(shard << 58, 0, |db| keys = Some(db.len()));
            keys
        };
        let mut held = keyspace.lock(ShardSet::one(9));
        held.shard_mut(9).part_mut(0).set_string(hash::bytes(b"k"), b"k", b"v", NewExpiry::Clear, 0);
        assert_eq!((seen(9), seen(8)), (None, Some(0)));
        drop(held);
        assert_eq!(seen(9), Some(1));
        let all = keyspace.lock_all();
        assert_eq!(seen(9), None);
        drop(all);
        assert!(keyspace.try_lock(9).is_some(), "a glance in vain has left it locked");
    }

    #[test]
    fn who_extends_gets_past_those_who_wait() {
        let keyspace = Keyspace::leak(16);
        let mut script = keyspace.lock(ShardSet::one(20));
        std::thread::scope(|scope| {
            // One holds 3 and waits for 20, another waits for everything.
            scope.spawn(|| drop(keyspace.lock(ShardSet::one(3).union(ShardSet::one(20)))));
            scope.spawn(|| drop(keyspace.lock_all()));
            std::thread::sleep(Duration::from_millis(30));
            assert!(script.extend(ShardSet::one(3).union(ShardSet::one(40)), || false));
            assert!(script.set().contains(3) && script.set().contains(20) && script.set().contains(40));
            assert!(keyspace.try_lock(40).is_none());
            assert!(script.extend(ShardSet::ALL, || false));
            drop(script);
        });
        assert!(keyspace.try_lock(40).is_some());
        drop(keyspace.lock_all());
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
                        let set = match n % 3 {
                            0 => ShardSet::ALL,
                            _ => ShardSet::one(shard_of(hash)).union(ShardSet::one(n % SHARDS)),
                        };
                        let mut locked = keyspace.lock(set);
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
