//! SCAN: goes through the keys of a database in small steps, one shard after the other.
//!
//! ```text
//!   cursor  63 ………………… 6 5 ……… 0
//!           | table cursor | shard |        0 starts, and 0 is the end
//!
//!   cluster 63 ……………… 14 13 … 6 5 ……… 0
//!           | table cursor | part | shard |  one table of a shard after the other
//! ```
//! The table cursor keeps its promise whatever the table does in between (see `engine::table`), and a key never changes
//! its shard: so a key that is there all the time is returned at least once.

use crate::commands::error::CommandError;
use crate::commands::flags::Flags;
use crate::commands::scan::{ScanOptions, ScanTarget, parse_cursor};
use crate::commands::spec::Group;
use crate::engine::keyspace::place::{self, PARTS};
use crate::engine::keyspace::{Locked, OnExpired, SHARDS, ShardSet};
use crate::engine::table::Entry;
use crate::resp::{Args, Reply};
use crate::server::Worker;
use crate::server::call;
use crate::server::session::{SessionCommand, SessionContext, SessionFlow};

pub const COMMANDS: &[SessionCommand] = &[SessionCommand::new("scan", -2, scan)
    .group(Group::Generic)
    .since("2.8.0")
    .readonly()
    .flag(Flags::SHARD_BY_SHARD)
    .categories(&["keyspace"])
    .tips(&["nondeterministic_output", "request_policy:special"])
    .syntax("cursor [MATCH pattern] [COUNT count] [TYPE type]")
    .summary("Goes through the keys of the database in steps.")
    .complexity("O(1) for every call. O(N) for a complete iteration")];

const SHARD_BITS: u32 = SHARDS.trailing_zeros();
const PART_BITS: u32 = PARTS.trailing_zeros();

/// A scan on its way.
struct Scan<'a> {
    options: ScanOptions<'a>,
    db: usize,
    now_ms: i64,
    /// Where to go on: a cursor of the table of this shard.
    table_cursor: u64,
    shard: usize,
    /// In cluster mode: the table in the shard.
    part: usize,
    /// Keys still to look at, and buckets, for a table may be nearly empty.
    keys_left: usize,
    buckets_left: usize,
    found: Reply,
    count: usize,
    /// Keys of the current shard that were found expired.
    expired: Vec<Box<[u8]>>,
}

fn scan(ctx: &mut SessionContext<'_>, args: Args<'_>) -> Result<SessionFlow, CommandError> {
    let cursor = parse_cursor(&args[1])?;
    let options = ScanOptions::parse(args, 2, ScanTarget::Keys)?;
    let mut scan = Scan::new(cursor, options, ctx.session.db, ctx.worker.now_ms, ctx.reply.is_resp3());
    while scan.goes_on() {
        match ctx.locked.as_deref_mut() {
            Some(locked) => {
                scan.visit_shard(locked);
                // The deletions go to the stream with the transaction.
                delete_expired(ctx.worker, locked, &mut scan, call::within_unit);
            }
            None => {
                let locked = ctx.worker.server.lock(ShardSet::one(scan.shard));
                let Some(mut locked) = locked else { return Ok(SessionFlow::Again) };
                scan.visit_shard(&locked);
                delete_expired(ctx.worker, &mut locked, &mut scan, call::outside_commands);
            }
        }
        scan.next_shard();
    }
    ctx.reply.array(2);
    ctx.reply.bulk(scan.cursor().to_string().as_bytes());
    ctx.reply.array(scan.count);
    ctx.reply.raw(scan.found.as_bytes());
    Ok(SessionFlow::Done)
}

impl<'a> Scan<'a> {
    fn new(cursor: u64, options: ScanOptions<'a>, db: usize, now_ms: i64, resp3: bool) -> Self {
        let (table_cursor, part) = match place::is_by_slot() {
            true => (cursor >> (SHARD_BITS + PART_BITS), (cursor >> SHARD_BITS) as usize % PARTS),
            false => (cursor >> SHARD_BITS, db),
        };
        Scan {
            options,
            db,
            now_ms,
            table_cursor,
            shard: cursor as usize % SHARDS,
            part,
            keys_left: options.count,
            buckets_left: options.count.saturating_mul(10),
            found: Reply::new(resp3),
            count: 0,
            expired: Vec::new(),
        }
    }

    fn goes_on(&self) -> bool {
        self.shard < SHARDS && self.keys_left > 0 && self.buckets_left > 0
    }

    /// The table cursor is back at 0 when a shard is done.
    fn next_shard(&mut self) {
        if self.table_cursor != 0 {
            return;
        }
        if !place::is_by_slot() {
            self.shard += 1;
        } else if self.part == 0 {
            // `visit_shard` has come round.
            self.shard += 1;
        }
    }

    fn cursor(&self) -> u64 {
        if self.shard == SHARDS {
            return 0;
        }
        match place::is_by_slot() {
            true => (self.table_cursor << PART_BITS | self.part as u64) << SHARD_BITS | self.shard as u64,
            false => self.table_cursor << SHARD_BITS | self.shard as u64,
        }
    }

    /// Goes on in one shard, to its end (`table_cursor` 0) or until enough was looked at.
    fn visit_shard(&mut self, locked: &Locked) {
        if !place::is_by_slot() {
            return self.visit_table(locked);
        }
        while self.db == 0 && self.keys_left > 0 && self.buckets_left > 0 {
            self.visit_table(locked);
            if self.table_cursor == 0 {
                self.part = (self.part + 1) % PARTS;
                if self.part == 0 {
                    return;
                }
            }
        }
    }

    /// The same in one table. One that is empty is no work.
    fn visit_table(&mut self, locked: &Locked) {
        let Some(part) = locked.shard(self.shard).part(self.part).filter(|part| !part.is_empty()) else {
            self.table_cursor = 0;
            return;
        };
        loop {
            let mut seen = 0;
            self.table_cursor = part.table().scan(self.table_cursor, |record| {
                seen += 1;
                if !self.options.matches(record.key()) || !self.options.matches_kind(record.kind()) {
                    return;
                }
                if record.expiry().is_some_and(|at| at < self.now_ms) {
                    self.expired.push(record.key().into());
                    return;
                }
                self.found.bulk(record.key());
                self.count += 1;
            });
            self.keys_left = self.keys_left.saturating_sub(seen);
            self.buckets_left -= 1;
            if self.table_cursor == 0 || self.keys_left == 0 || self.buckets_left == 0 {
                return;
            }
        }
    }
}

type Change = fn(&mut Worker, &mut Locked, usize, &mut dyn FnMut(&mut crate::commands::context::Keys<'_>));

/// A primary deletes what it finds expired; but not where somebody waits for the key, who may need other shards.
fn delete_expired(worker: &mut Worker, locked: &mut Locked, scan: &mut Scan<'_>, change: Change) {
    let expired = std::mem::take(&mut scan.expired);
    if worker.settings.on_expired != OnExpired::Remove || !locked.shard(scan.shard).waiters.is_empty() {
        return;
    }
    for key in expired {
        change(worker, locked, scan.db, &mut |keys| {
            keys.peek(&key);
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::keyspace::{Keyspace, NewExpiry, shard_of};
    use crate::resp::OwnedArgs;
    use proptest::prelude::*;
    use std::collections::BTreeSet;
    use std::sync::atomic::{AtomicBool, Ordering};

    fn set(keyspace: &'static Keyspace, key: &[u8]) {
        let hash = Locked::hash(key);
        let mut locked = keyspace.lock(ShardSet::one(shard_of(hash)));
        locked.db_mut(hash, 0).set_string(hash, key, b"v", NewExpiry::Clear, 0);
    }

    fn remove(keyspace: &'static Keyspace, key: &[u8]) {
        let hash = Locked::hash(key);
        keyspace.lock(ShardSet::one(shard_of(hash))).db_mut(hash, 0).remove(hash, key);
    }

    /// One call of SCAN: the next cursor and the keys.
    fn step(keyspace: &'static Keyspace, cursor: u64, count: usize) -> (u64, Vec<String>) {
        let count = count.to_string();
        let args = OwnedArgs::new([b"SCAN".as_slice(), b"0", b"COUNT", count.as_bytes()]);
        let options = ScanOptions::parse(args.as_args(), 2, ScanTarget::Keys).expect("fine");
        let mut scan = Scan::new(cursor, options, 0, 0, false);
        while scan.goes_on() {
            scan.visit_shard(&keyspace.lock(ShardSet::one(scan.shard)));
            scan.next_shard();
        }
        let text = String::from_utf8_lossy(scan.found.as_bytes()).into_owned();
        let keys: Vec<String> = text.split("\r\n").filter(|line| line.starts_with('k')).map(str::to_owned).collect();
        assert_eq!(keys.len(), scan.count);
        (scan.cursor(), keys)
    }

    fn stable_keys(count: usize) -> BTreeSet<String> {
        (0..count).map(|n| format!("k:stable:{n}")).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() })]

        /// Whatever is written between two calls, so that tables grow and shrink: a key that stays is returned.
        #[test]
        fn returns_every_key_that_stays(
            stable in 0usize..600,
            count in 1usize..200,
            changes in prop::collection::vec((any::<bool>(), 0usize..4000, 1usize..400), 0..60),
        ) {
            let keyspace = Keyspace::leak(1);
            let stable = stable_keys(stable);
            stable.iter().for_each(|key| set(keyspace, key.as_bytes()));
            let mut found = BTreeSet::new();
            let mut cursor = 0;
            let mut changes = changes.into_iter();
            loop {
                let (next, keys) = step(keyspace, cursor, count);
                found.extend(keys);
                cursor = next;
                if cursor == 0 {
                    break;
                }
                if let Some((adds, from, len)) = changes.next() {
                    let change = if adds { set } else { remove };
                    (from..from + len).for_each(|n| change(keyspace, format!("k:other:{n}").as_bytes()));
                }
            }
            prop_assert!(found.is_superset(&stable));
        }
    }

    #[test]
    fn keeps_its_promise_while_others_write() {
        let keyspace = Keyspace::leak(1);
        let stable = stable_keys(2000);
        stable.iter().for_each(|key| set(keyspace, key.as_bytes()));
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for writer in 0..2 {
                let stop = &stop;
                scope.spawn(move || {
                    let mut round = 0;
                    while !stop.load(Ordering::Relaxed) {
                        let change = if round % 2 == 0 { set } else { remove };
                        (0..3000).for_each(|n| change(keyspace, format!("k:other:{writer}:{n}").as_bytes()));
                        round += 1;
                    }
                });
            }
            for count in [1, 7, 10, 100, 5000] {
                let (mut cursor, mut found) = (0, BTreeSet::new());
                loop {
                    let (next, keys) = step(keyspace, cursor, count);
                    found.extend(keys);
                    cursor = next;
                    if cursor == 0 {
                        break;
                    }
                }
                assert!(found.is_superset(&stable), "count {count}");
            }
            stop.store(true, Ordering::Relaxed);
        });
    }
}
