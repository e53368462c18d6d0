//! What a handler works with: the keys (under their locks), the reply, the settings. It changes state and answers; what
//! else must happen because of the change is collected in `Effects` and handed out by the caller.
//!
//! A handler: look up (`read`, `write`), change, `touch` each changed key with its event, answer. `keys` and `reply` are
//! separate fields so that a value on loan from one can be written into the other.

use super::effects::{Effects, Event, EventClasses, Observers, Propagation};
use super::error::{self, CommandResult};
use super::settings::Settings;
use crate::base::counter::Counter;
use crate::base::random::Random;
use crate::engine::hash::Hash;
use crate::engine::keyspace::{Db, Displaced, Locked, NewExpiry, OnExpired, shard_of};
use crate::engine::limits::Limits;
use crate::engine::list::List;
use crate::engine::record::Record;
use crate::engine::set::Set;
use crate::engine::stream::Stream;
use crate::engine::string::StringBlock;
use crate::engine::table::Entry;
use crate::engine::value::{StringRef, Value, ValueMut, ValueRef};
use crate::engine::zset::ZSet;
use crate::resp::{Args, OwnedArgs, Reply};
use std::cell::Cell;

pub struct KeyContext<'a> {
    pub keys: Keys<'a>,
    pub reply: &'a mut Reply,
    pub random: &'a mut Random,
    /// Inside MULTI, a script, or on the replication link: a blocking command answers at once.
    pub deny_blocking: bool,
    pub in_script: bool,
    /// It was blocked, and one of its keys has changed.
    pub is_woken: bool,
    /// The command comes from the stream of a primary or of an append-only file, and is obeyed to the letter.
    pub is_replay: bool,
    /// The user may read every key: also those that no declaration names (SORT BY and GET).
    pub reads_any_key: bool,
}

/// What a handler returns when it has no error.
pub enum KeyFlow {
    Done,
    /// Nothing there yet: wait for one of the keys, then run again.
    Block(Block),
}

/// A wish to wait.
pub struct Block {
    pub keys: Vec<Box<[u8]>>,
    /// Milliseconds from now; nothing = for ever.
    pub timeout_ms: Option<u64>,
    pub on_timeout: OnTimeout,
    /// Deletion and overwriting of a key are answers, too (XREADGROUP).
    pub wakes_on_delete: bool,
    /// When to run again though no key has changed, milliseconds since the epoch: time alone can make an answer (CLAIM).
    pub look_again_ms: Option<i64>,
    /// Arguments to run again with, where they must be fixed at the time of blocking (`$` of XREAD).
    pub args: Option<OwnedArgs>,
}

/// The reply when nothing came in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnTimeout {
    Null,
    NullArray,
}

/// Counters of lookups; one set per worker.
#[derive(Debug, Default)]
pub struct KeyStats {
    pub hits: Counter,
    pub misses: Counter,
    pub expired: Counter,
    /// Fields of hashes.
    pub expired_fields: Counter,
}

/// The keys that the command has locked.
pub struct Keys<'a> {
    pub locked: &'a mut Locked,
    pub effects: &'a mut Effects,
    pub settings: &'a Settings,
    pub stats: &'a KeyStats,
    /// The selected database.
    pub db: usize,
    /// The time at which the command, script or transaction began.
    pub now_ms: i64,
    pub observers: Observers,
    /// CLIENT NO-TOUCH and commands that only look.
    pub no_touch: bool,
    pub planned: Planned<'a>,
}

/// Hashes that the plan has computed: (address of the key, hash), in order of the arguments.
pub struct Planned<'a> {
    hashes: &'a [(usize, u64)],
    /// The one that was asked for last: most often it is asked for again, or the next.
    last: Cell<usize>,
}

/// So many are searched when neither the last nor the next is meant; to hash a key again costs no more than looking at the others.
const SEARCHED: usize = 8;

impl<'a> Planned<'a> {
    pub fn new(hashes: &'a [(usize, u64)]) -> Self {
        Planned { hashes, last: Cell::new(0) }
    }

    #[inline]
    fn hash(&self, key: &[u8]) -> u64 {
        let address = key.as_ptr() as usize;
        let last = self.last.get();
        for index in [last, last + 1] {
            if let Some((planned, hash)) = self.hashes.get(index)
                && *planned == address
            {
                self.last.set(index);
                return *hash;
            }
        }
        self.search(key)
    }

    fn search(&self, key: &[u8]) -> u64 {
        let address = key.as_ptr() as usize;
        match self.hashes.iter().take(SEARCHED).position(|(planned, _)| *planned == address) {
            Some(index) => {
                self.last.set(index);
                self.hashes[index].1
            }
            None => Locked::hash(key),
        }
    }
}

/// Access to one kind of collection: to read, to change, and to change or create. WRONGTYPE if the key holds another kind.
macro_rules! collection {
    ($read:ident, $write:ident, $or_new:ident, $kind:ident) => {
        #[inline]
        pub fn $read(&mut self, key: &[u8]) -> CommandResult<Option<&$kind>> {
            match self.read(key).map(|record| record.value()) {
                None => Ok(None),
                Some(ValueRef::$kind(value)) => Ok(Some(value)),
                Some(_) => Err(error::WRONG_TYPE),
            }
        }

        #[inline]
        pub fn $write(&mut self, key: &[u8]) -> CommandResult<Option<&mut $kind>> {
            match self.write(key).map(|record| record.value_mut()) {
                None => Ok(None),
                Some(ValueMut::$kind(value)) => Ok(Some(value)),
                Some(_) => Err(error::WRONG_TYPE),
            }
        }

        pub fn $or_new(&mut self, key: &[u8], new: impl FnOnce(&Limits) -> $kind) -> CommandResult<&mut $kind> {
            if self.$write(key)?.is_none() {
                let value = Value::$kind(new(&self.settings.limits));
                self.insert(key, value, None);
                self.notify(key, EventClasses::NEW, "new");
            }
            let hash = self.hash(key);
            match self.locked.db_mut(hash, self.db).find_mut(hash, key).map(|record| record.value_mut()) {
                Some(ValueMut::$kind(value)) => Ok(value),
                Some(_) | None => Err(error::WRONG_TYPE),
            }
        }
    };
}

impl<'a> Keys<'a> {
    #[inline]
    pub fn hash(&self, key: &[u8]) -> u64 {
        self.planned.hash(key)
    }

    /// A key to read: counts as hit or miss and as an access.
    #[inline]
    pub fn read(&mut self, key: &[u8]) -> Option<&Record> {
        let (hash, mode) = (self.hash(key), self.settings.on_expired);
        let mut expired = None;
        let db = self.locked.db_mut(hash, self.db);
        let found = db.find_live(hash, key, self.now_ms, mode, &mut expired);
        match found {
            Some(record) => {
                self.stats.hits.add(1);
                if !self.no_touch {
                    let old = record.access();
                    let new = access(old, self.settings, self.now_ms);
                    // Most reads of a key fall into the same second as the one before: its cache line stays clean.
                    if new != old {
                        record.set_access(new);
                    }
                }
                Some(record)
            }
            None => {
                self.stats.misses.add(1);
                if let Some(record) = expired {
                    note_expired(self.effects, self.settings, self.observers, self.stats, self.db, record);
                }
                if self.observers.notify.has(EventClasses::KEY_MISS) {
                    let class = EventClasses::KEY_MISS;
                    self.effects.events.push(Event { class, name: "keymiss", db: self.db, key: key.into() });
                }
                None
            }
        }
    }

    /// A key to look at without any trace: no statistics, no access time (OBJECT, TTL, TYPE…).
    pub fn peek(&mut self, key: &[u8]) -> Option<&Record> {
        let (hash, mode) = (self.hash(key), self.settings.on_expired);
        let mut expired = None;
        let db = self.locked.db_mut(hash, self.db);
        let found = db.find_live(hash, key, self.now_ms, mode, &mut expired);
        match found {
            Some(record) => Some(record),
            None => {
                if let Some(record) = expired {
                    note_expired(self.effects, self.settings, self.observers, self.stats, self.db, record);
                }
                None
            }
        }
    }

    /// A key whose value will be changed.
    #[inline]
    pub fn write(&mut self, key: &[u8]) -> Option<&mut Record> {
        let hash = self.hash(key);
        // A write to an expired key on a replica (from a client, when it is not read-only) sees it gone as well.
        let mode = self.settings.on_expired;
        let mut expired = None;
        let db = self.locked.db_mut(hash, self.db);
        db.before_change(hash);
        let found = db.find_live(hash, key, self.now_ms, mode, &mut expired);
        match found {
            Some(record) => {
                if !self.no_touch {
                    record.set_access(access(record.access(), self.settings, self.now_ms));
                }
                Some(record)
            }
            None => {
                if let Some(record) = expired {
                    note_expired(self.effects, self.settings, self.observers, self.stats, self.db, record);
                }
                None
            }
        }
    }

    #[inline]
    pub fn exists(&mut self, key: &[u8]) -> bool {
        self.peek(key).is_some()
    }

    /// The string at a key to read; WRONGTYPE if it is something else.
    #[inline]
    pub fn read_string(&mut self, key: &[u8]) -> CommandResult<Option<StringRef<'_>>> {
        match self.read(key) {
            None => Ok(None),
            Some(record) => record.string_ref().map(Some).ok_or(error::WRONG_TYPE),
        }
    }

    /// The string at a key that will be changed.
    #[inline]
    pub fn write_string(&mut self, key: &[u8]) -> CommandResult<Option<&mut Record>> {
        match self.write(key) {
            None => Ok(None),
            Some(record) if record.string_ref().is_some() => Ok(Some(record)),
            Some(_) => Err(error::WRONG_TYPE),
        }
    }

    /// The string at a key as a block that can grow, created empty if there is none.
    pub fn string_block(&mut self, key: &[u8]) -> CommandResult<&mut StringBlock> {
        if self.write_string(key)?.is_none() {
            self.insert(key, Value::Block(StringBlock::with_capacity(0)), None);
            self.notify(key, EventClasses::NEW, "new");
        }
        let hash = self.hash(key);
        self.locked.db_mut(hash, self.db).block_mut(hash, key).ok_or(error::WRONG_TYPE)
    }

    collection!(read_list, write_list, list_or_new, List);
    collection!(read_set, write_set, set_or_new, Set);
    collection!(read_zset, write_zset, zset_or_new, ZSet);
    collection!(read_hash, write_hash, hash_or_new, Hash);
    collection!(read_stream, write_stream, stream_or_new, Stream);

    /// Removes a collection that has become empty, with its `del` event.
    pub fn remove_emptied(&mut self, key: &[u8]) {
        if let Some(record) = self.take(key) {
            self.discard(record);
            self.notify(key, EventClasses::GENERIC, "del");
        }
    }

    /// Sets a string in place of whatever was there.
    #[inline]
    pub fn set_string(&mut self, key: &[u8], value: &[u8], expiry: NewExpiry) {
        let hash = self.hash(key);
        if self.observers.notify.has(EventClasses::NEW) && !self.exists(key) {
            self.notify(key, EventClasses::NEW, "new");
        }
        let access = fresh_access(self.settings, self.now_ms);
        // To the link from the primary nothing is expired before the primary says so.
        let now_ms = if self.settings.on_expired == OnExpired::Ignore { i64::MIN } else { self.now_ms };
        match self.locked.db_mut(hash, self.db).set_string_at(hash, key, value, expiry, access, now_ms) {
            None => {}
            // A primary deletes an expired key first, as if it had looked it up; a replica leaves that to its primary.
            Some(Displaced { record, is_expired: true }) if !self.is_replica() => self.expired(record),
            Some(Displaced { record, .. }) => self.discard(record),
        }
    }

    /// Puts a value at a key in place of whatever was there, with this expiry.
    pub fn insert(&mut self, key: &[u8], value: Value, expiry: Option<i64>) {
        let record = Record::with_value(key, value, expiry);
        record.set_access(fresh_access(self.settings, self.now_ms));
        let hash = self.hash(key);
        if let Some(old) = self.locked.db_mut(hash, self.db).insert(hash, record) {
            self.discard(old);
        }
    }

    /// Puts a value at a key, which loses its expiry, and tells of the key if it is new.
    pub fn store(&mut self, key: &[u8], value: Value) {
        if self.observers.notify.has(EventClasses::NEW) && !self.exists(key) {
            self.notify(key, EventClasses::NEW, "new");
        }
        self.insert(key, value, None);
    }

    /// Takes a key out; touches nothing.
    #[inline]
    pub fn take(&mut self, key: &[u8]) -> Option<Record> {
        let hash = self.hash(key);
        self.locked.db_mut(hash, self.db).remove(hash, key)
    }

    /// Deletes a key that is there and has not expired; big values are dropped in the background.
    pub fn delete(&mut self, key: &[u8]) -> bool {
        match self.take_live(key) {
            Some(record) => {
                self.discard(record);
                true
            }
            None => false,
        }
    }

    /// Takes a key out. One that had expired goes the way of expiry; but a replica, told to delete it, just does.
    fn take_live(&mut self, key: &[u8]) -> Option<Record> {
        let record = self.take(key)?;
        let is_expired = record.expiry().is_some_and(|at| at < self.now_ms);
        if is_expired && self.settings.on_expired == OnExpired::Remove {
            self.expired(record);
            return None;
        }
        Some(record)
    }

    /// Drops a record, or leaves it to the background if that would take long.
    pub fn discard(&mut self, record: Record) {
        if record.free_effort() > LAZY_FREE_EFFORT {
            self.effects.garbage.push(record);
        }
    }

    /// Sets or clears the expiry of a key.
    pub fn set_expiry(&mut self, key: &[u8], expiry: Option<i64>) -> bool {
        let hash = self.hash(key);
        self.locked.db_mut(hash, self.db).set_expiry(hash, key, expiry)
    }

    /// A key has changed: watchers, caches, waiters and the stream will know, and the event is published.
    #[inline]
    pub fn touch(&mut self, key: &[u8], class: EventClasses, event: &'static str) {
        self.modified(key);
        self.notify(key, class, event);
    }

    /// `touch` without an event.
    #[inline]
    pub fn modified(&mut self, key: &[u8]) {
        self.modified_in(self.db, key);
    }

    #[inline]
    pub fn modified_in(&mut self, db: usize, key: &[u8]) {
        self.effects.dirty += 1;
        self.signal_in(db, key);
    }

    /// `modified` for the second key of one change: it does not count again.
    pub fn signal(&mut self, key: &[u8]) {
        self.signal_in(self.db, key);
    }

    #[inline]
    fn signal_in(&mut self, db: usize, key: &[u8]) {
        let hash = self.hash(key);
        let shard = self.locked.shard(shard_of(hash));
        if !shard.watches.is_empty() {
            shard.watches.touch(db, key);
        }
        if !shard.waiters.is_empty() && shard.waiters.has(db, key) {
            self.effects.ready.push((db, key.into()));
        }
        if self.observers.tracking {
            self.effects.changed.push((db, key.into()));
        }
    }

    /// Whoever is blocked on a key looks again, though the key itself has not changed.
    pub fn wake(&mut self, key: &[u8]) {
        if self.locked.shard(shard_of(self.hash(key))).waiters.has(self.db, key) {
            self.effects.ready.push((self.db, key.into()));
        }
    }

    /// Publishes an event without marking the key as changed.
    #[inline]
    pub fn notify(&mut self, key: &[u8], class: EventClasses, event: &'static str) {
        if self.observers.notify.has(class) {
            self.effects.events.push(Event { class, name: event, db: self.db, key: key.into() });
        }
    }

    /// Sends this to replicas and AOF instead of the request (may be called several times).
    pub fn propagate_as(&mut self, args: &[&[u8]]) {
        self.effects.propagation = Propagation::Rewritten;
        if self.observers.journal {
            self.effects.commands.push((self.db, OwnedArgs::new(args.iter().copied())));
        }
    }

    /// Sends the request with other words in some places.
    pub fn propagate_replacing(&mut self, args: Args<'_>, replaced: &[(usize, &[u8])]) {
        self.effects.propagation = Propagation::Rewritten;
        if self.observers.journal {
            let word = |(index, arg)| replaced.iter().find(|(at, _)| *at == index).map_or(arg, |(_, word)| *word);
            self.effects.commands.push((self.db, OwnedArgs::new(args.iter().enumerate().map(word))));
        }
    }

    /// Sends nothing for this command although data changed.
    pub fn propagate_nothing(&mut self) {
        self.effects.propagation = Propagation::Nothing;
    }

    /// A key was found expired and taken out by other means than a lookup (the active cycle).
    pub fn expired(&mut self, record: Record) {
        note_expired(self.effects, self.settings, self.observers, self.stats, self.db, record);
    }

    /// Deletes a key for want of memory; `verb` says so in the stream.
    pub fn evict(&mut self, key: &[u8], verb: &[u8]) {
        if let Some(record) = self.take(key) {
            self.discard(record);
            self.signal(key);
            self.notify(key, EventClasses::EVICTED, "evicted");
            self.propagate_as(&[verb, key]);
        }
    }

    /// The part of a database that a key belongs to.
    pub fn part(&mut self, key: &[u8]) -> &mut Db {
        let hash = self.hash(key);
        self.locked.db_mut(hash, self.db)
    }

    /// Whether expired keys must be kept for the primary to delete.
    pub fn is_replica(&self) -> bool {
        self.settings.on_expired != OnExpired::Remove
    }
}

/// An expired key was taken out: it counts, is published, and replicas delete it first. Its watchers and waiters are
/// told by `server::propagation`, because the shard is on loan here.
fn note_expired(
    effects: &mut Effects,
    settings: &Settings,
    observers: Observers,
    stats: &KeyStats,
    db: usize,
    record: Record,
) {
    stats.expired.add(1);
    if observers.journal {
        let verb: &[u8] = if settings.lazy_expire { b"UNLINK" } else { b"DEL" };
        effects.commands.insert(effects.before, (db, OwnedArgs::new([verb, record.key()])));
        effects.before += 1;
    }
    if observers.notify.has(EventClasses::EXPIRED) {
        effects.events.push(Event { class: EventClasses::EXPIRED, name: "expired", db, key: record.key().into() });
    }
    effects.expired.push((db, record.key().into()));
    if record.free_effort() > LAZY_FREE_EFFORT {
        effects.garbage.push(record);
    }
}

impl KeyContext<'_> {
    /// Time left of a key in the way of the context's clock; nothing without an expiry.
    pub fn remaining_ms(&self, record: &Record) -> Option<i64> {
        record.expiry().map(|at| (at - self.keys.now_ms).max(0))
    }
}

/// Records with more parts than this are dropped in the background.
pub const LAZY_FREE_EFFORT: usize = 64;
/// A new key starts with this LFU count, so that it is not evicted at once.
const LFU_INITIAL: u32 = 5;

/// Access bits of a new key.
#[inline]
pub fn fresh_access(settings: &Settings, now_ms: i64) -> u32 {
    if settings.lfu { lfu_minutes(now_ms) << 8 | LFU_INITIAL } else { lru_clock(now_ms) }
}

/// Seconds, 24 bits.
#[inline]
pub fn lru_clock(now_ms: i64) -> u32 {
    (now_ms / 1000) as u32 & 0x00ff_ffff
}

/// Seconds since the last access, by the LRU clock.
pub fn idle_seconds(access: u32, now_ms: i64) -> u32 {
    lru_clock(now_ms).wrapping_sub(access) & 0x00ff_ffff
}

fn lfu_minutes(now_ms: i64) -> u32 {
    (now_ms / 60_000) as u32 & 0xffff
}

/// Access bits after one more access.
#[inline]
fn access(old: u32, settings: &Settings, now_ms: i64) -> u32 {
    if !settings.lfu {
        return lru_clock(now_ms);
    }
    let counter = lfu_decayed(old, settings, now_ms);
    lfu_minutes(now_ms) << 8 | lfu_incremented(counter, settings.lfu_log_factor, now_ms ^ i64::from(old))
}

/// The LFU counter after the time that has passed since the last access.
pub fn lfu_decayed(access: u32, settings: &Settings, now_ms: i64) -> u32 {
    let counter = access & 0xff;
    if settings.lfu_decay_minutes == 0 {
        return counter;
    }
    let elapsed = lfu_minutes(now_ms).wrapping_sub(access >> 8) & 0xffff;
    counter.saturating_sub(elapsed / settings.lfu_decay_minutes)
}

/// Counts logarithmically: the higher the counter, the rarer an increment (redis.io, "Key eviction").
fn lfu_incremented(counter: u32, log_factor: u32, noise: i64) -> u32 {
    if counter == 255 {
        return 255;
    }
    let above = f64::from(counter.saturating_sub(LFU_INITIAL));
    let chance = 1.0 / (above * f64::from(log_factor) + 1.0);
    let draw = Random::seeded(noise as u64).unit();
    if draw < chance { counter + 1 } else { counter }
}

/// A record's key, for those who hold only the record.
pub fn key_of(record: &Record) -> &[u8] {
    record.key()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn planned_hashes_are_found_in_any_order() {
        let text = [b'k'; 40];
        let keys: Vec<&[u8]> = (0..20).map(|at| &text[2 * at..2 * at + 1]).collect();
        // Numbers that are no hash of these keys, so that whatever was computed anew shows.
        let hashes: Vec<_> = keys.iter().zip(0..).map(|(key, hash)| (key.as_ptr() as usize, hash)).collect();
        let planned = Planned::new(&hashes);
        for (key, hash) in keys.iter().zip(0..) {
            assert_eq!([planned.hash(key), planned.hash(key)], [hash; 2], "in order, each twice");
        }
        assert_eq!((planned.hash(keys[3]), planned.hash(keys[0]), planned.hash(keys[1])), (3, 0, 1));
        assert_eq!(planned.hash(keys[15]), Locked::hash(b"k"), "far from the last one it is hashed again");
        assert_eq!(planned.hash(b"k"), Locked::hash(b"k"));
        assert_eq!(Planned::new(&[]).hash(b"k"), Locked::hash(b"k"));
    }
}
