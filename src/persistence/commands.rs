//! SAVE, BGSAVE, BGREWRITEAOF, LASTSAVE.

use super::{aof_rewrite, rdb_save};
use crate::commands::error::{self, CommandError};
use crate::commands::flags::Flags;
use crate::commands::spec::Group;
use crate::engine::keyspace::Locked;
use crate::resp::Args;
use crate::server::save_status::Activity;
use crate::server::session::{SessionCommand, SessionContext, SessionFlow};
use std::sync::atomic::Ordering;

pub const COMMANDS: &[SessionCommand] = &[
    SessionCommand::new("save", 1, save)
        .group(Group::Server)
        .admin()
        .noscript()
        .flag(Flags::NO_ASYNC_LOADING)
        .flag(Flags::NO_MULTI)
        .flag(Flags::ALL_SHARDS)
        .summary("Writes the data set to disk and waits for the end.")
        .complexity("O(N) where N is the total number of keys in all databases"),
    SessionCommand::new("bgsave", -1, bgsave)
        .group(Group::Server)
        .admin()
        .noscript()
        .flag(Flags::NO_ASYNC_LOADING)
        .syntax("[SCHEDULE]")
        .since("1.0.0")
        .summary("Writes the data set to disk in the background.")
        .complexity("O(1)"),
    SessionCommand::new("bgrewriteaof", 1, bgrewriteaof)
        .group(Group::Server)
        .admin()
        .noscript()
        .flag(Flags::NO_ASYNC_LOADING)
        .summary("Rewrites the append-only file in the background.")
        .complexity("O(1)"),
    SessionCommand::new("lastsave", 1, lastsave)
        .group(Group::Server)
        .fast()
        .loading_stale()
        .categories(&["admin", "dangerous"])
        .tips(&["nondeterministic_output"])
        .summary("Returns the Unix time of the last successful save.")
        .complexity("O(1)"),
];

/// The shards that a command declared ALL_SHARDS runs with.
fn all<'a>(locked: &'a mut Option<&mut Locked>) -> Result<&'a mut Locked, CommandError> {
    locked.as_deref_mut().ok_or(CommandError::fixed("ERR internal error: the keyspace is not locked"))
}

fn save(ctx: &mut SessionContext<'_>, _: Args<'_>) -> Result<SessionFlow, CommandError> {
    let server = ctx.worker.server;
    if matches!(server.save_status.activity(), Activity::Rdb | Activity::Replication) {
        return Err(CommandError::fixed("ERR Background save already in progress"));
    }
    server.save_status.keys_processed.store(0, Ordering::Relaxed);
    let locked = all(&mut ctx.locked)?;
    rdb_save::save(server, locked).map_err(|_| CommandError::fixed("ERR"))?;
    ctx.reply.ok();
    Ok(SessionFlow::Done)
}

fn bgsave(ctx: &mut SessionContext<'_>, args: Args<'_>) -> Result<SessionFlow, CommandError> {
    let schedule = match args.len() {
        1 => false,
        2 if args.is(1, "SCHEDULE") => true,
        _ => return Err(error::SYNTAX),
    };
    let server = ctx.worker.server;
    match server.save_status.activity() {
        Activity::Rdb | Activity::Replication => {
            return Err(CommandError::fixed("ERR Background save already in progress"));
        }
        Activity::None if ctx.deny_blocking => {
            // Inside EXEC the cut waits for the transaction's end.
            server.save_status.bgsave_scheduled.store(true, Ordering::Release);
            ctx.reply.simple("Background saving scheduled");
        }
        Activity::None if rdb_save::start(server, ctx.locked.as_deref_mut()) => {
            ctx.reply.simple("Background saving started");
        }
        _ if schedule => {
            server.save_status.bgsave_scheduled.store(true, Ordering::Release);
            ctx.reply.simple("Background saving scheduled");
        }
        _ => {
            return Err(CommandError::fixed(
                "ERR Another child process is active (AOF?): can't BGSAVE right now. Use BGSAVE SCHEDULE in order to \
                 schedule a BGSAVE whenever possible.",
            ));
        }
    }
    Ok(SessionFlow::Done)
}

fn bgrewriteaof(ctx: &mut SessionContext<'_>, _: Args<'_>) -> Result<SessionFlow, CommandError> {
    let server = ctx.worker.server;
    let status = &server.save_status;
    if status.is_rewriting_aof() {
        return Err(CommandError::fixed("ERR Background append only file rewriting already in progress"));
    }
    if !ctx.deny_blocking
        && status.activity() == Activity::None
        && aof_rewrite::start(server, ctx.locked.as_deref_mut())
    {
        ctx.reply.simple("Background append only file rewriting started");
    } else {
        status.aof.rewrite_scheduled.store(true, Ordering::Release);
        status.aof.rewrites_consecutive_failures.store(0, Ordering::Relaxed);
        ctx.reply.simple("Background append only file rewriting scheduled");
    }
    Ok(SessionFlow::Done)
}

fn lastsave(ctx: &mut SessionContext<'_>, _: Args<'_>) -> Result<SessionFlow, CommandError> {
    ctx.reply.integer(ctx.worker.server.save_status.last_save_s.load(Ordering::Acquire));
    Ok(SessionFlow::Done)
}
