//! maxmemory: keeping the data within its limit by evicting keys.
//!
//! ```text
//!   before a command, holding no lock:
//!   used ≤ limit? ─ yes ─► go on
//!        │ no
//!        ▼
//!   sample a few keys ─► pool of the best candidates ─► delete the best one ─┐
//!        ▲_____________ until below the limit, or the time is up ____________│
//! ```
//! The pool remembers good candidates of earlier samples, which brings the choice close to a true LRU or LFU with very few
//! looks (redis.io, "Key eviction"). Every worker has a pool of its own; a candidate that is gone is passed over.

use super::call;
use super::clients::{self, Clients};
use super::pause::PauseMode;
use super::plan;
use super::session::Session;
use super::state::Server;
use super::table::Entry;
use super::worker::Worker;
use crate::base::clock;
use crate::base::random::Random;
use crate::commands::context;
use crate::commands::error::{self, CommandError};
use crate::commands::flags::Flags;
use crate::engine::keyspace::{Locked, SHARDS, ShardSet, place, shard_of};
use crate::engine::memory;
use crate::engine::record::Record;
use crate::engine::table::Entry as _;
use crate::server::config::MaxmemoryPolicy;
use std::sync::atomic::{AtomicI64, AtomicU64, AtomicUsize, Ordering};

/// Candidates that a pool holds.
const POOL: usize = 16;
/// Members of a collection looked at to estimate its size.
const MEMBER_SAMPLES: usize = 5;
/// Milliseconds that messages caused by eviction get to leave.
const MESSAGES_MS: i64 = 500;
/// How often it is looked for clients that have hung up.
const LOOK_EVERY_MS: i64 = 2;
/// Keys between two looks at the clock.
const KEYS_PER_LOOK: u64 = 16;

/// The figures of eviction for INFO.
#[derive(Default)]
pub struct Eviction {
    /// Since when memory is over the limit, in microseconds since the epoch; 0 = it is not.
    exceeded_since_us: AtomicI64,
    exceeded_us: AtomicU64,
    /// Memory of the messages that deletions have caused (invalidations, events), which is on its way out until then.
    messages: AtomicUsize,
    messages_until_ms: AtomicI64,
    /// Memory of clients that were found to have hung up, and when.
    hung_up: AtomicUsize,
    looked_ms: AtomicI64,
}

impl Eviction {
    /// Evicting has sent messages of so many bytes. They get some time to leave: to count them at once would make them the cause of
    /// more evictions, which cause more messages, until the database is empty. A client that does not read gains nothing by it,
    /// for the time is not extended.
    fn note_messages(&self, bytes: usize, now_ms: i64) {
        if bytes == 0 {
            return;
        }
        if self.messages_until_ms.load(Ordering::Relaxed) <= now_ms {
            self.messages.store(0, Ordering::Relaxed);
            self.messages_until_ms.store(now_ms + MESSAGES_MS, Ordering::Relaxed);
        }
        self.messages.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Memory of clients that have hung up, as of some milliseconds ago at most.
    fn hung_up(&self, clients: &Clients, now_ms: i64) -> usize {
        let looked_ms = self.looked_ms.load(Ordering::Relaxed);
        if now_ms - looked_ms >= LOOK_EVERY_MS
            && self.looked_ms.compare_exchange(looked_ms, now_ms, Ordering::Relaxed, Ordering::Relaxed).is_ok()
        {
            self.hung_up.store(clients.hung_up(), Ordering::Relaxed);
        }
        self.hung_up.load(Ordering::Relaxed)
    }

    fn messages_on_their_way(&self, now_ms: i64) -> usize {
        let on_their_way = now_ms < self.messages_until_ms.load(Ordering::Relaxed);
        if on_their_way { self.messages.load(Ordering::Relaxed) } else { 0 }
    }

    /// `current_eviction_exceeded_time`, in microseconds.
    pub fn current_exceeded_us(&self) -> u64 {
        match self.exceeded_since_us.load(Ordering::Relaxed) {
            0 => 0,
            since => u64::try_from(clock::unix_us() - since).unwrap_or(0),
        }
    }

    /// `total_eviction_exceeded_time`, in microseconds.
    pub fn total_exceeded_us(&self) -> u64 {
        self.exceeded_us.load(Ordering::Relaxed) + self.current_exceeded_us()
    }

    /// CONFIG RESETSTAT.
    pub fn reset_stats(&self) {
        self.exceeded_us.store(0, Ordering::Relaxed);
        self.exceeded_since_us.store(0, Ordering::Relaxed);
    }

    fn note(&self, room: Room) {
        let since = self.exceeded_since_us.load(Ordering::Relaxed);
        if room == Room::Enough {
            if since != 0 {
                self.exceeded_us.fetch_add(self.current_exceeded_us(), Ordering::Relaxed);
                self.exceeded_since_us.store(0, Ordering::Relaxed);
            }
        } else if since == 0 {
            self.exceeded_since_us.store(clock::unix_us(), Ordering::Relaxed);
        }
    }
}

/// How an attempt to get below the limit ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Room {
    Enough,
    /// The time was up; the next command and the cron go on.
    Evicting,
    /// Nothing is left that may be evicted.
    None,
}

/// A key that may be evicted; the higher the score, the sooner.
struct Candidate {
    score: u64,
    db: usize,
    key: Box<[u8]>,
}

/// The best candidates seen so far, the best one last.
#[derive(Default)]
pub struct Pool {
    candidates: Vec<Candidate>,
    /// The policy by which they were scored.
    policy: Option<MaxmemoryPolicy>,
}

impl Pool {
    fn offer(&mut self, score: u64, db: usize, key: &[u8]) {
        let mut at = self.candidates.partition_point(|other| other.score < score);
        if self.candidates.len() == POOL {
            if at == 0 {
                return;
            }
            self.candidates.remove(0);
            at -= 1;
        }
        self.candidates.insert(at, Candidate { score, db, key: key.into() });
    }
}

/// Before a command, with no lock held: makes room if memory is limited, and refuses what would grow if there is none.
#[inline]
pub fn admit(worker: &mut Worker, session: &Session, entry: &Entry) -> Result<(), CommandError> {
    if worker.config.maxmemory == 0 {
        // The limit may have been lifted since: scripts ask for this later.
        worker.out_of_memory = false;
        return Ok(());
    }
    admit_limited(worker, session, entry)
}

fn admit_limited(worker: &mut Worker, session: &Session, entry: &Entry) -> Result<(), CommandError> {
    let room = make_room(worker);
    worker.out_of_memory = room == Room::None;
    if worker.out_of_memory && !session.is_primary_link && may_grow(session, entry) {
        return Err(error::OUT_OF_MEMORY);
    }
    Ok(())
}

/// Whether a command may take memory: by itself, by what EXEC runs, or because MULTI queues it.
fn may_grow(session: &Session, entry: &Entry) -> bool {
    if entry.spec.flags.has(Flags::DENYOOM) {
        return true;
    }
    match &session.transaction {
        None => false,
        Some(transaction) if entry.spec.name == "exec" => {
            transaction.queue.iter().any(|(queued, _)| queued.spec.flags.has(Flags::DENYOOM))
        }
        Some(_) => !super::dispatch::runs_inside_multi(entry),
    }
}

/// As a step of the cron: goes on where commands had no time to, or where the limit was lowered and nobody asks.
pub fn run(worker: &mut Worker) {
    if worker.config.maxmemory == 0 {
        return;
    }
    let start = worker.stopwatch.raw();
    let budget_ns = 250_000_000 / u64::from(worker.config.hz.clamp(1, 500));
    while make_room(worker) == Room::Evicting {
        if worker.stopwatch.ns_between(start, worker.stopwatch.raw()) > budget_ns {
            break;
        }
    }
}

/// Evicts until memory is within its limit, or the time of one attempt is up.
pub fn make_room(worker: &mut Worker) -> Room {
    let server = worker.server;
    if !is_allowed(worker) {
        return Room::Enough;
    }
    let room = if excess(worker) == 0 {
        Room::Enough
    } else if worker.config.maxmemory_policy == MaxmemoryPolicy::NoEviction {
        Room::None
    } else {
        let mut pool = std::mem::take(&mut worker.eviction_pool);
        let sent_before = clients::sent_by_this_thread();
        let room = evict(worker, &mut pool);
        server.eviction.note_messages(clients::sent_by_this_thread() - sent_before, worker.now_ms);
        worker.eviction_pool = pool;
        room
    };
    server.eviction.note(room);
    room
}

/// Replicas are copies and leave eviction to their primary, unless told otherwise.
fn is_allowed(worker: &Worker) -> bool {
    let server = worker.server;
    let is_copy = server.is_replica.load(Ordering::Relaxed) && worker.config.replica_ignore_maxmemory;
    // While clients are paused the data stays as it is.
    let is_paused = worker.pause.mode != PauseMode::None;
    !is_copy && !is_paused && !server.loading.load(Ordering::Relaxed)
}

/// Bytes above the limit.
fn excess(worker: &Worker) -> usize {
    let limit = worker.config.maxmemory as usize;
    let used = memory::used();
    if used <= limit {
        return 0;
    }
    let on_their_way = worker.server.eviction.messages_on_their_way(worker.now_ms) + worker.server.clients.leaving();
    match used.saturating_sub(not_counted(worker.server)).saturating_sub(on_their_way).saturating_sub(limit) {
        0 => 0,
        excess => excess.saturating_sub(worker.server.eviction.hung_up(&worker.server.clients, worker.now_ms)),
    }
}

/// Memory that eviction must not count: what AOF, replicas and a running snapshot have yet to take. Counting it would make
/// deletions, which go to them as well, cause more deletions. The backlog counts, if there is one: it is there to stay.
pub fn not_counted(server: &Server) -> usize {
    let backlog = server.journal.backlog().map_or(0, |_| server.config.current().repl_backlog_size as usize);
    let to_file = server.save_status.aof.buffer_bytes.load(Ordering::Relaxed) as usize;
    let to_snapshot = server.save_status.buffered.load(Ordering::Relaxed);
    server.journal.memory().saturating_sub(backlog) + server.replicas.output_memory() + to_file + to_snapshot
}

fn evict(worker: &mut Worker, pool: &mut Pool) -> Room {
    let policy = worker.config.maxmemory_policy;
    if pool.policy != Some(policy) {
        pool.candidates.clear();
        pool.policy = Some(policy);
    }
    let start = worker.stopwatch.raw();
    let limit_ns = time_limit_ns(worker.config.maxmemory_eviction_tenacity);
    // What deletions free is counted by itself: the memory in use also grows by what they cause (invalidations of caches,
    // the stream), and to chase that would empty the database.
    let to_free = excess(worker);
    let (mut freed, mut keys) = (0, 0);
    while freed < to_free {
        match evict_one(worker, policy, pool) {
            Some(bytes) => freed += bytes,
            // The background may still be freeing what was deleted before; a busy script may keep the keys out of reach.
            None if worker.server.lazyfree.pending.load(Ordering::Relaxed) > 0 => return Room::Evicting,
            None if worker.server.scripts.running.is_busy() => return Room::Evicting,
            None => return Room::None,
        }
        keys += 1;
        if keys % KEYS_PER_LOOK == 0 {
            if worker.stopwatch.ns_between(start, worker.stopwatch.raw()) > limit_ns {
                return Room::Evicting;
            }
            // The background has freed more than was known.
            if excess(worker) == 0 {
                break;
            }
        }
    }
    Room::Enough
}

/// maxmemory-eviction-tenacity: up to 10 each step is 50 µs more, beyond 15 %; 100 is without limit.
fn time_limit_ns(tenacity: u32) -> u64 {
    match tenacity {
        0..=10 => 50_000 * u64::from(tenacity),
        11..=99 => (500_000.0 * 1.15f64.powi(tenacity as i32 - 10)) as u64,
        _ => u64::MAX,
    }
}

/// Evicts one key. How many bytes that frees, now or in the background; nothing if there is no key to evict.
fn evict_one(worker: &mut Worker, policy: MaxmemoryPolicy, pool: &mut Pool) -> Option<usize> {
    use MaxmemoryPolicy::{AllkeysRandom, VolatileRandom};
    if matches!(policy, AllkeysRandom | VolatileRandom) {
        // Scores are drawn by lot: the pool just hands over one key of the sample.
        pool.candidates.clear();
    }
    loop {
        if !sample(worker, policy, pool) {
            return None;
        }
        while let Some(candidate) = pool.candidates.pop() {
            if let Some(bytes) = delete(worker, policy, &candidate) {
                return Some(bytes);
            }
        }
    }
}

/// Offers a few keys to the pool, of every database; false if there is none. Shards are visited from a random one on, until
/// enough keys were seen: a key's shard is random, so any shard is a fair sample.
fn sample(worker: &mut Worker, policy: MaxmemoryPolicy, pool: &mut Pool) -> bool {
    use MaxmemoryPolicy::{AllkeysRandom, VolatileRandom};
    let is_random = matches!(policy, AllkeysRandom | VolatileRandom);
    let wanted = if is_random { 1 } else { worker.config.maxmemory_samples as usize };
    let first = worker.random.below(SHARDS as u64) as usize;
    let mut place = Random::seeded(worker.random.next_u64());
    let mut lot = Random::seeded(worker.random.next_u64());
    let mut seen = 0;
    for step in 0..SHARDS {
        let shard = (first + step) % SHARDS;
        let Some(locked) = worker.server.lock(ShardSet::one(shard)) else { return false };
        let dbs = locked.shard(shard).dbs();
        // In cluster mode a shard has a table for each of its slots: some of them, from a random one on, are enough.
        let (from, enough) = match place::is_by_slot() {
            true => (worker.random.below(dbs.len().max(1) as u64) as usize, wanted),
            false => (0, usize::MAX),
        };
        for index in 0..dbs.len() {
            if seen >= enough {
                break;
            }
            let index = (from + index) % dbs.len();
            let (db, part) = (place::db_of(index), &dbs[index]);
            part.sample(&mut place, wanted, policy.is_volatile(), |record| {
                seen += 1;
                let score = if is_random { lot.next_u64() } else { score(worker, policy, record) };
                pool.offer(score, db, record.key());
            });
        }
        if seen >= wanted {
            break;
        }
    }
    seen > 0
}

/// The higher, the sooner a key goes.
fn score(worker: &Worker, policy: MaxmemoryPolicy, record: &Record) -> u64 {
    match policy {
        MaxmemoryPolicy::AllkeysLru | MaxmemoryPolicy::VolatileLru => {
            u64::from(context::idle_seconds(record.access(), worker.now_ms))
        }
        MaxmemoryPolicy::AllkeysLfu | MaxmemoryPolicy::VolatileLfu => {
            255 - u64::from(context::lfu_decayed(record.access(), &worker.settings, worker.now_ms))
        }
        MaxmemoryPolicy::VolatileTtl => u64::MAX - record.expiry().map_or(u64::MAX, |at| at.max(0) as u64),
        MaxmemoryPolicy::AllkeysRandom | MaxmemoryPolicy::VolatileRandom | MaxmemoryPolicy::NoEviction => 0,
    }
}

/// Deletes a candidate if it is still one.
fn delete(worker: &mut Worker, policy: MaxmemoryPolicy, candidate: &Candidate) -> Option<usize> {
    let key = &*candidate.key;
    let hash = Locked::hash(key);
    let mut locked = plan::lock_to_delete(worker.server, shard_of(hash), candidate.db, &[key])?;
    let record = locked.db(hash, candidate.db)?.find(hash, key)?;
    if policy.is_volatile() && record.expiry().is_none() {
        return None;
    }
    let bytes = record.memory(MEMBER_SAMPLES);
    let verb: &[u8] = if worker.config.lazyfree_lazy_eviction { b"UNLINK" } else { b"DEL" };
    call::outside_commands(worker, &mut locked, candidate.db, &mut |keys| keys.evict(key, verb));
    worker.server.stats.evicted_keys.fetch_add(1, Ordering::Relaxed);
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pool_keeps_the_best() {
        let mut pool = Pool::default();
        for score in (0..100).rev().chain(0..100) {
            pool.offer(score, 0, &score.to_string().into_bytes());
        }
        let scores: Vec<u64> = pool.candidates.iter().map(|candidate| candidate.score).collect();
        assert_eq!(scores, [92, 92, 93, 93, 94, 94, 95, 95, 96, 96, 97, 97, 98, 98, 99, 99]);
        assert_eq!(&*pool.candidates[POOL - 1].key, b"99");
    }

    #[test]
    fn tenacity_grows() {
        assert_eq!([0, 1, 10].map(time_limit_ns), [0, 50_000, 500_000]);
        assert!((11..100).all(|tenacity| time_limit_ns(tenacity) > time_limit_ns(tenacity - 1)));
        assert_eq!(time_limit_ns(100), u64::MAX);
    }
}
