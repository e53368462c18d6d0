//! The active expire cycle: deletes expired keys that nobody asks for, within a share of one core.
//!
//! ```text
//!   for each shard in turn (from where the last cycle ran out of time):
//!     for each database: lock ─► look at ~20 keys with an expiry ─► delete the stale ones ─► unlock
//!                          ▲___________ again while more than 10 % of them were stale ______|
//! ```
//! A slice holds one shard for some microseconds, so the cycle delays nobody. Deletions go the way of all writes.

use super::call;
use super::plan;
use super::worker::Worker;
use crate::commands::field_expiry::expire_fields;
use crate::engine::keyspace::{Locked, SHARDS, ShardSet, place, shard_of};
use crate::engine::table::Entry;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// Keys of a slice at the lowest effort.
const SLICE_KEYS: usize = 20;
/// Buckets of a slice: where keys with an expiry are rare, a slice may find none, and leaves the rest to the next cycle.
const SLICE_BUCKETS: usize = 400;
/// Fields that one slice takes out of a hash.
const SLICE_FIELDS: usize = 1000;
/// Share of one core at the lowest effort, in percent.
const CORE_PERC: u64 = 25;
/// Share of stale keys, in percent, above which a database gets another slice at once; at the lowest effort.
const ACCEPTABLE_STALE_PERC: usize = 10;

/// Where the cycle goes on, and its figures for INFO.
#[derive(Default)]
pub struct ExpireCycle {
    next_shard: AtomicUsize,
    /// Running average of the share of stale keys (`expired_stale_perc`), as the bits of an f64.
    stale_share: AtomicU64,
    pub time_cap_reached: AtomicU64,
    pub time_us: AtomicU64,
}

impl ExpireCycle {
    pub fn stale_perc(&self) -> f64 {
        f64::from_bits(self.stale_share.load(Ordering::Relaxed)) * 100.0
    }

    /// CONFIG RESETSTAT.
    pub fn reset_stats(&self) {
        self.stale_share.store(0, Ordering::Relaxed);
        self.time_cap_reached.store(0, Ordering::Relaxed);
        self.time_us.store(0, Ordering::Relaxed);
    }

    fn note_share(&self, tally: Tally) {
        let share = if tally.sampled == 0 { 0.0 } else { tally.expired as f64 / tally.sampled as f64 };
        let average = f64::from_bits(self.stale_share.load(Ordering::Relaxed)) * 0.95 + share * 0.05;
        self.stale_share.store(average.to_bits(), Ordering::Relaxed);
    }
}

/// What a slice or a cycle has seen.
#[derive(Clone, Copy, Default)]
struct Tally {
    sampled: usize,
    expired: usize,
}

/// How hard the cycle works (active-expire-effort).
struct Effort {
    slice_keys: usize,
    acceptable_stale_perc: usize,
    budget_ns: u64,
}

impl Effort {
    fn of(worker: &Worker) -> Self {
        let extra = worker.config.active_expire_effort.clamp(1, 10) as usize - 1;
        let tick_ns = 1_000_000_000 / u64::from(worker.config.hz.clamp(1, 500));
        Effort {
            slice_keys: SLICE_KEYS + SLICE_KEYS / 4 * extra,
            acceptable_stale_perc: ACCEPTABLE_STALE_PERC - extra,
            budget_ns: tick_ns * (CORE_PERC + 2 * extra as u64) / 100,
        }
    }
}

/// One cycle, as a step of the cron.
pub fn run(worker: &mut Worker) {
    let server = worker.server;
    let stopped = !server.active_expire.load(Ordering::Relaxed) || server.loading.load(Ordering::Relaxed);
    // A replica waits for its primary's deletions.
    if stopped || worker.settings.on_expired != crate::engine::keyspace::OnExpired::Remove {
        return;
    }
    let effort = Effort::of(worker);
    let start = worker.stopwatch.raw();
    let first = server.expire_cycle.next_shard.load(Ordering::Relaxed);
    let mut total = Tally::default();
    for step in 0..SHARDS {
        let shard = (first + step) % SHARDS;
        if !sweep_shard(worker, shard, &effort, start, &mut total) {
            server.expire_cycle.next_shard.store((shard + 1) % SHARDS, Ordering::Relaxed);
            server.expire_cycle.time_cap_reached.fetch_add(1, Ordering::Relaxed);
            break;
        }
    }
    let elapsed_ns = worker.stopwatch.ns_between(start, worker.stopwatch.raw());
    server.expire_cycle.time_us.fetch_add(elapsed_ns / 1000, Ordering::Relaxed);
    server.expire_cycle.note_share(total);
    server.note_latency("expire-cycle", elapsed_ns / 1_000_000);
}

/// Every table of a shard; false when the time is up.
fn sweep_shard(worker: &mut Worker, shard: usize, effort: &Effort, start: u64, total: &mut Tally) -> bool {
    let mut index = 0;
    loop {
        let Some((swept, tally)) = sweep_slice(worker, shard, index, effort.slice_keys) else { return true };
        index = swept;
        total.sampled += tally.sampled;
        total.expired += tally.expired;
        let elapsed_ns = worker.stopwatch.ns_between(start, worker.stopwatch.raw());
        if elapsed_ns > effort.budget_ns {
            return false;
        }
        if tally.sampled == 0 || tally.expired * 100 / tally.sampled <= effort.acceptable_stale_perc {
            index += 1;
        }
    }
}

/// One slice of one table of one shard: of the first, from a given one on, in which anything can expire. Nothing when there is
/// none left.
fn sweep_slice(worker: &mut Worker, shard: usize, from: usize, keys: usize) -> Option<(usize, Tally)> {
    let now_ms = worker.now_ms;
    let mut locked = worker.server.lock(ShardSet::one(shard))?;
    let mut dbs = locked.shard_mut(shard).dbs_mut().iter_mut().enumerate().skip(from);
    let (index, part) = dbs.find(|(_, part)| part.volatile_len() + part.expiring_hashes() > 0)?;
    let mut tally = Tally::default();
    let mut stale: Vec<Box<[u8]>> = Vec::new();
    part.sweep_volatile(SLICE_BUCKETS, |record| {
        tally.sampled += 1;
        // A hash whose last expiry has gone is visited, too: that lowers its flag.
        let fields_stale = record.fields_expire() && record.earliest_field_expiry().is_none_or(|at| at < now_ms);
        if fields_stale || record.expiry().is_some_and(|at| at < now_ms) {
            stale.push(record.key().into());
        }
        tally.sampled < keys
    });
    tally.expired = stale.len();
    if stale.is_empty() {
        return Some((index, tally));
    }
    let db = place::db_of(index);
    // Whoever waits for the end of a key (XREADGROUP) may need other shards to be served.
    if !locked.shard(shard).waiters.is_empty() {
        drop(locked);
        locked = plan::lock_to_delete(worker.server, shard, db, &stale)?;
    }
    for key in stale {
        expire(worker, &mut locked, db, &key);
    }
    Some((index, tally))
}

/// Deletes a key, or fields of a hash, if it is (still) there and expired. Each deletion is a unit of its own in the stream.
fn expire(worker: &mut Worker, locked: &mut Locked, db: usize, key: &[u8]) {
    debug_assert!(locked.set().contains(shard_of(Locked::hash(key))));
    call::outside_commands(worker, locked, db, &mut |keys| {
        // Looking at an expired key deletes it.
        if keys.peek(key).is_some() {
            expire_fields(keys, key, SLICE_FIELDS);
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::keyspace::NewExpiry;
    use crate::server::Server;
    use crate::server::config::{Config, ConfigStore};
    use crate::server::table::CommandTable;

    fn worker() -> Worker {
        let table = CommandTable::leak(crate::commands::FAMILIES, crate::server::commands::FAMILIES);
        Worker::new(Server::leak(ConfigStore::new(Config::default()), table, None, 0))
    }

    fn set(worker: &Worker, db: usize, key: &str, expiry: NewExpiry) {
        let hash = Locked::hash(key.as_bytes());
        let mut locked = worker.server.keyspace.lock(ShardSet::one(shard_of(hash)));
        locked.db_mut(hash, db).set_string(hash, key.as_bytes(), b"v", expiry, 0);
    }

    fn keys(worker: &Worker) -> usize {
        let locked = worker.server.keyspace.lock_all();
        (0..SHARDS).flat_map(|shard| locked.shard(shard).dbs()).map(|part| part.len()).sum()
    }

    fn cycles_until_gone(worker: &mut Worker, left: usize) -> usize {
        (1..1000)
            .find(|_| {
                run(worker);
                keys(worker) == left
            })
            .expect("the cycle gets there")
    }

    #[test]
    fn deletes_what_has_expired_and_nothing_else() {
        let mut worker = worker();
        let now_ms = worker.now_ms;
        for n in 0..20_000 {
            set(&worker, n % 3, &format!("stale:{n}"), NewExpiry::At(now_ms - 1));
            set(&worker, n % 3, &format!("kept:{n}"), NewExpiry::Clear);
            set(&worker, n % 3, &format!("later:{n}"), NewExpiry::At(now_ms + 3_600_000));
        }
        cycles_until_gone(&mut worker, 40_000);
        assert_eq!(worker.stats.keys.expired.value(), 20_000);
        assert!(worker.server.expire_cycle.stale_perc() > 0.0);
    }

    #[test]
    fn a_lone_stale_key_among_many_is_found() {
        let mut worker = worker();
        for n in 0..100_000 {
            set(&worker, 0, &format!("kept:{n}"), NewExpiry::Clear);
        }
        set(&worker, 0, "stale", NewExpiry::At(worker.now_ms - 1));
        assert!(cycles_until_gone(&mut worker, 100_000) < 20);
    }

    #[test]
    fn a_replica_and_debug_leave_the_keys_alone() {
        let mut worker = worker();
        set(&worker, 0, "stale", NewExpiry::At(worker.now_ms - 1));
        worker.server.active_expire.store(false, Ordering::Relaxed);
        run(&mut worker);
        worker.server.active_expire.store(true, Ordering::Relaxed);
        worker.server.is_replica.store(true, Ordering::Relaxed);
        worker.renew_settings();
        run(&mut worker);
        assert_eq!(keys(&worker), 1);
    }
}
