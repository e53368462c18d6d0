//! SCAN: goes through the keys of a database in small steps, one shard after the other.
//!
//! ```text
//!   cursor  63 ………………… 6 5 ……… 0
//!           | table cursor | shard |        0 starts, and 0 is the end
//! ```
//! The table cursor keeps its promise whatever the table does in between (see `engine::table`), and a key never changes
//! its shard: so a key that is there all the time is returned at least once.

use crate::commands::error::CommandError;
use crate::commands::flags::Flags;
use crate::commands::scan::{ScanOptions, ScanTarget, parse_cursor};
use crate::commands::spec::Group;
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

/// A scan on its way.
struct Scan<'a> {
    options: ScanOptions<'a>,
    db: usize,
    now_ms: i64,
    /// Where to go on: a cursor of the table of this shard.
    table_cursor: u64,
    shard: usize,
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
    let mut scan = Scan {
        options,
        db: ctx.session.db,
        now_ms: ctx.worker.now_ms,
        table_cursor: cursor >> SHARD_BITS,
        shard: cursor as usize % SHARDS,
        keys_left: options.count,
        buckets_left: options.count.saturating_mul(10),
        found: Reply::new(ctx.reply.is_resp3()),
        count: 0,
        expired: Vec::new(),
    };
    while scan.shard < SHARDS && scan.keys_left > 0 && scan.buckets_left > 0 {
        match ctx.locked.as_deref_mut() {
            Some(locked) => {
                scan.visit_shard(locked);
                // The deletions go to the stream with the transaction.
                delete_expired(ctx.worker, locked, &mut scan, call::within_unit);
            }
            None => {
                let mut locked = ctx.worker.server.keyspace.lock(ShardSet::one(scan.shard));
                scan.visit_shard(&locked);
                delete_expired(ctx.worker, &mut locked, &mut scan, call::outside_commands);
            }
        }
        if scan.table_cursor == 0 {
            scan.shard += 1;
        }
    }
    let cursor = if scan.shard == SHARDS { 0 } else { scan.table_cursor << SHARD_BITS | scan.shard as u64 };
    ctx.reply.array(2);
    ctx.reply.bulk(cursor.to_string().as_bytes());
    ctx.reply.array(scan.count);
    ctx.reply.raw(scan.found.as_bytes());
    Ok(SessionFlow::Done)
}

impl Scan<'_> {
    /// Goes on in one shard, to its end (`table_cursor` 0) or until enough was looked at.
    fn visit_shard(&mut self, locked: &Locked) {
        let Some(part) = locked.shard(self.shard).db(self.db) else {
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
