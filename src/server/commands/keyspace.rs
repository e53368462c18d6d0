//! FLUSHALL, FLUSHDB, DBSIZE, SWAPDB: commands on whole databases.

use crate::commands::error::{self, CommandError};
use crate::commands::flags::Flags;
use crate::commands::spec::Group;
use crate::engine::keyspace::{Locked, SHARDS};
use crate::resp::{Args, OwnedArgs};
use crate::server::lazyfree::LazyFree;
use crate::server::session::{SessionCommand, SessionContext, SessionFlow};
use std::sync::atomic::Ordering;

pub const COMMANDS: &[SessionCommand] = &[
    SessionCommand::new("flushall", -1, flushall)
        .group(Group::Server)
        .write()
        .flag(Flags::ALL_SHARDS)
        .categories(&["keyspace", "dangerous"])
        .syntax("[ASYNC | SYNC]")
        .summary("Removes every key of every database.")
        .complexity("O(N) where N is the total number of keys in all databases"),
    SessionCommand::new("flushdb", -1, flushdb)
        .group(Group::Server)
        .write()
        .flag(Flags::ALL_SHARDS)
        .categories(&["keyspace", "dangerous"])
        .syntax("[ASYNC | SYNC]")
        .summary("Removes every key of the selected database.")
        .complexity("O(N) where N is the number of keys in the selected database"),
    SessionCommand::new("dbsize", 1, dbsize)
        .group(Group::Server)
        .readonly()
        .fast()
        .flag(Flags::ALL_SHARDS)
        .categories(&["keyspace"])
        .summary("Counts the keys of the selected database.")
        .complexity("O(1)"),
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
    let locked = all(&mut ctx.locked)?;
    let removed: usize = dbs.map(|db| empty(locked, db, lazily.then_some(&server.lazyfree))).sum();
    server.dirty.fetch_add(removed.max(1) as i64, Ordering::Relaxed);
    server.invalidate_all(flushed);
    if server.journal.is_active() && !ctx.session.is_primary_link {
        ctx.worker.unit.push((ctx.session.db, OwnedArgs::new(args.iter())));
    }
    ctx.reply.ok();
    Ok(SessionFlow::Done)
}

/// Empties one database; how many keys it had. Watched keys that existed count as changed.
pub fn empty(locked: &mut Locked, db: usize, lazyfree: Option<&LazyFree>) -> usize {
    let mut removed = 0;
    for shard in 0..SHARDS {
        let shard = locked.shard_mut(shard);
        let Some(part) = shard.db(db).filter(|part| !part.is_empty()) else { continue };
        removed += part.len();
        shard.watches.touch_where(db, |key| part.find(Locked::hash(key), key).is_some());
        let table = shard.db_mut(db).clear();
        match lazyfree {
            Some(lazyfree) => lazyfree.drop_table(table),
            None => drop(table),
        }
    }
    removed
}

fn dbsize(ctx: &mut SessionContext<'_>, _: Args<'_>) -> Result<SessionFlow, CommandError> {
    let db = ctx.session.db;
    let locked = all(&mut ctx.locked)?;
    let keys = (0..SHARDS).filter_map(|shard| locked.shard(shard).db(db)).map(|part| part.len()).sum();
    ctx.reply.count(keys);
    Ok(SessionFlow::Done)
}
