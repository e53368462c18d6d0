//! FLUSHALL, FLUSHDB, DBSIZE, SWAPDB: commands on whole databases.

use crate::commands::args;
use crate::commands::error::{self, CommandError, CommandResult};
use crate::commands::flags::Flags;
use crate::commands::spec::Group;
use crate::engine::keyspace::{Db, Locked, SHARDS, place};
use crate::resp::Args;
use crate::server::lazyfree::LazyFree;
use crate::server::session::{SessionCommand, SessionContext, SessionFlow};
use std::sync::atomic::Ordering;

pub const COMMANDS: &[SessionCommand] = &[
    SessionCommand::new("flushall", -1, flushall)
        .group(Group::Server)
        .write()
        .flag(Flags::ALL_SHARDS)
        .categories(&["keyspace", "dangerous"])
        .tips(&["request_policy:all_shards", "response_policy:all_succeeded"])
        .syntax("[ASYNC | SYNC]")
        .summary("Removes every key of every database.")
        .complexity("O(N) where N is the total number of keys in all databases"),
    SessionCommand::new("flushdb", -1, flushdb)
        .group(Group::Server)
        .write()
        .flag(Flags::ALL_SHARDS)
        .categories(&["keyspace", "dangerous"])
        .tips(&["request_policy:all_shards", "response_policy:all_succeeded"])
        .syntax("[ASYNC | SYNC]")
        .summary("Removes every key of the selected database.")
        .complexity("O(N) where N is the number of keys in the selected database"),
    SessionCommand::new("dbsize", 1, dbsize)
        .group(Group::Server)
        .readonly()
        .fast()
        .flag(Flags::ALL_SHARDS)
        .categories(&["keyspace"])
        .tips(&["request_policy:all_shards", "response_policy:agg_sum"])
        .summary("Counts the keys of the selected database.")
        .complexity("O(1)"),
    SessionCommand::new("swapdb", 3, swapdb)
        .group(Group::Server)
        .since("4.0.0")
        .write()
        .fast()
        .flag(Flags::ALL_SHARDS)
        .categories(&["keyspace", "dangerous"])
        .syntax("index1 index2")
        .summary("Swaps two databases: at once every connection sees the other's keys.")
        .complexity("O(N) where N is the count of clients watching or blocking on keys from both databases."),
];

/// The shards that a command declared ALL_SHARDS runs with.
pub fn all<'a>(locked: &'a mut Option<&mut Locked>) -> Result<&'a mut Locked, CommandError> {
    locked.as_deref_mut().ok_or(CommandError::fixed("ERR internal error: the keyspace is not locked"))
}

fn flushall(ctx: &mut SessionContext<'_>, args: Args<'_>) -> Result<SessionFlow, CommandError> {
    flush(ctx, args, 0..ctx.worker.server.keyspace.databases(), None)
}

fn flushdb(ctx: &mut SessionContext<'_>, args: Args<'_>) -> Result<SessionFlow, CommandError> {
    flush(ctx, args, ctx.session.db..ctx.session.db + 1, Some(ctx.session.db))
}

fn flush(
    ctx: &mut SessionContext<'_>,
    args: Args<'_>,
    dbs: std::ops::Range<usize>,
    flushed: Option<usize>,
) -> Result<SessionFlow, CommandError> {
    let lazily = match args.len() {
        1 => ctx.worker.settings.lazy_user_flush,
        2 if args.is(1, "ASYNC") => true,
        2 if args.is(1, "SYNC") => false,
        _ => return Err(error::SYNTAX),
    };
    let server = ctx.worker.server;
    if flushed.is_none() {
        server.save_status.before_flush();
    }
    let locked = all(&mut ctx.locked)?;
    let mut removed = 0;
    for db in dbs {
        // Whoever waits for the end of a key (XREADGROUP) is told.
        wake_waiters(&mut ctx.worker.ready, locked, db);
        removed += empty(locked, db, lazily.then_some(&server.lazyfree));
    }
    server.invalidate_all(flushed);
    propagate(ctx, args, removed.max(1));
    if flushed.is_none()
        && !ctx.worker.config.save.is_empty()
        && let Some(save) = server.save_status.save_now.get()
    {
        // The file must not bring the keys back. If that fails the log says so, and the next save point tries again.
        let _ = save(server, all(&mut ctx.locked)?);
    }
    ctx.reply.ok();
    Ok(SessionFlow::Done)
}

/// Counts the changes and sends the command to replicas and AOF.
fn propagate(ctx: &mut SessionContext<'_>, args: Args<'_>, changes: usize) {
    let server = ctx.worker.server;
    server.dirty.fetch_add(changes as i64, Ordering::Relaxed);
    if server.journal.is_active() && !ctx.session.is_primary_link {
        ctx.worker.unit.push((ctx.session.db, args.to_owned()));
    }
}

/// Every key of a database that somebody is blocked on becomes ready: what it holds may have changed.
fn wake_waiters(ready: &mut Vec<(usize, Box<[u8]>)>, locked: &Locked, db: usize) {
    for shard in 0..SHARDS {
        ready.extend(locked.shard(shard).waiters.keys_of(db).map(|key| (db, key.into())));
    }
}

/// Empties one database; how many keys it had. Watched keys that existed count as changed.
pub fn empty(locked: &mut Locked, db: usize, lazyfree: Option<&LazyFree>) -> usize {
    let mut removed = 0;
    for shard in 0..SHARDS {
        let shard = locked.shard_mut(shard);
        let found: usize = shard.parts(db).map(Db::len).sum();
        if found == 0 {
            continue;
        }
        removed += found;
        shard.watches.touch_where(db, |key| {
            let hash = Locked::hash(key);
            shard.part(place::part_of(hash, db)).is_some_and(|part| part.find(hash, key).is_some())
        });
        for part in shard.parts_mut(db).filter(|part| !part.is_empty()) {
            let table = part.clear();
            match lazyfree {
                Some(lazyfree) => lazyfree.drop_table(table),
                None => drop(table),
            }
        }
    }
    removed
}

fn dbsize(ctx: &mut SessionContext<'_>, _: Args<'_>) -> Result<SessionFlow, CommandError> {
    let db = ctx.session.db;
    let locked = all(&mut ctx.locked)?;
    let keys = (0..SHARDS).flat_map(|shard| locked.shard(shard).parts(db)).map(Db::len).sum();
    ctx.reply.count(keys);
    Ok(SessionFlow::Done)
}

fn swapdb(ctx: &mut SessionContext<'_>, args: Args<'_>) -> Result<SessionFlow, CommandError> {
    if ctx.worker.config.cluster_enabled {
        return Err(CommandError::fixed("ERR SWAPDB is not allowed in cluster mode"));
    }
    let first = database(&args[1], "ERR invalid first DB index")?;
    let second = database(&args[2], "ERR invalid second DB index")?;
    let databases = ctx.worker.server.keyspace.databases() as i64;
    if !(0..databases).contains(&first) || !(0..databases).contains(&second) {
        return Err(error::DB_OUT_OF_RANGE);
    }
    let (first, second) = (first as usize, second as usize);
    let now_ms = ctx.worker.now_ms;
    let locked = all(&mut ctx.locked)?;
    if first != second {
        for shard in 0..SHARDS {
            let shard = locked.shard_mut(shard);
            touch_swapped(shard, first, second, now_ms);
            shard.swap(first, second);
        }
        for db in [first, second] {
            wake_waiters(&mut ctx.worker.ready, locked, db);
        }
        ctx.worker.server.invalidate_all(None);
    }
    propagate(ctx, args, 1);
    ctx.reply.ok();
    Ok(SessionFlow::Done)
}

/// The number of a database, which may still be out of range.
fn database(text: &[u8], error: &'static str) -> CommandResult<i64> {
    args::int(text).map_err(|_| CommandError::fixed(error))
}

/// A watched key changes by the swap if either database has it, and it has not expired.
fn touch_swapped(shard: &crate::engine::keyspace::Shard, first: usize, second: usize, now_ms: i64) {
    let has = |db: usize, key: &[u8]| {
        let found = shard.part(db).and_then(|part| part.find(Locked::hash(key), key));
        found.is_some_and(|record| record.expiry().is_none_or(|at| at > now_ms))
    };
    for db in [first, second] {
        shard.watches.touch_where(db, |key| has(first, key) || has(second, key));
    }
}
