//! Running a script or function on behalf of a client: its shards, the rules of its flags, and its result as the reply.
//!
//! ```text
//!   which shards?   declared keys promised, or seen to be all that it touches (`foresight`) ─► those of the keys
//!                   neither ─► all                                           │ another key is touched
//!                        start over with all ◄── nothing was done yet ───────┤
//!                        (and so from now on)                                └── written already ─► extend past the others
//! ```
//! So undeclared keys work whatever a script promises, and one that was seen to touch none never comes there. Only if two scripts that broke their promise after writing need each other's
//! shards at the same moment, one of them gets an error.

use super::api::sha1_hex;
use super::call::{Caller, StartOver};
use super::convert;
use super::flags::ScriptFlags;
use super::interpreter::{Compiled, Interpreter, Reach};
use crate::commands::error::{self, CommandError};
use crate::engine::keyspace::{Locked, ShardSet, shard_of};
use crate::engine::lua::{Kind, Stack};
use crate::resp::{Args, Reply};
use crate::server::monitor::Source;
use crate::server::session::{Session, SessionContext, SessionFlow};
use crate::server::{Server, Worker, dispatch, propagation};
use std::sync::atomic::Ordering;

/// What is run.
pub struct Program<'a> {
    pub compiled: &'a Compiled,
    /// EVAL_RO, FCALL_RO: writes are refused whatever the flags say.
    pub read_only: bool,
    pub is_function: bool,
    /// Of a function its name, of a script its SHA1.
    pub name: &'a [u8],
    pub keys: Args<'a>,
    pub args: Args<'a>,
    /// The command as it came.
    pub call: Args<'a>,
}

/// How a run ended.
enum Ending {
    /// The reply is written.
    Replied,
    /// An error to be replied that the statistics count, or know already.
    Failed(CommandError),
    FailedBefore(CommandError),
    /// It needs shards that it did not get.
    StartOver,
}

/// Runs a program and writes its reply.
pub fn run(
    ctx: &mut SessionContext<'_>,
    interpreter: &Interpreter,
    program: &Program<'_>,
) -> Result<SessionFlow, CommandError> {
    check_flags(ctx, program)?;
    let server = ctx.worker.server;
    if let Some(locked) = ctx.locked.as_deref_mut() {
        // Ahead of the commands that it runs.
        if ctx.worker.has_monitors {
            server.feed_monitors(ctx.session.db, Source::Client(&ctx.session.client), ctx.entry, program.call);
        }
        let ending = run_locked(ctx.worker, ctx.session, ctx.reply, locked, interpreter, program);
        return finish(ctx, program, ending);
    }
    // A debugged script must not start over.
    let wanted = if ctx.session.script_debug.is_some() { ShardSet::ALL } else { wanted_shards(program) };
    let (mut shards, mut is_shown) = (wanted, false);
    loop {
        // A script that has become busy, or CLIENT PAUSE, came in between.
        let locked = lock(server, shards).filter(|_| !ctx.worker.is_outdated());
        let Some(mut locked) = locked else { return Ok(SessionFlow::Again) };
        if ctx.worker.has_monitors && !std::mem::replace(&mut is_shown, true) {
            server.feed_monitors(ctx.session.db, Source::Client(&ctx.session.client), ctx.entry, program.call);
        }
        let ending = run_locked(ctx.worker, ctx.session, ctx.reply, &mut locked, interpreter, program);
        if let Ending::StartOver = ending {
            program.compiled.reach.set(Reach::Everything);
            shards = ShardSet::ALL;
            continue;
        }
        propagation::finish_unit(ctx.worker, &mut locked);
        drop(locked);
        return finish(ctx, program, ending);
    }
}

fn wanted_shards(program: &Program<'_>) -> ShardSet {
    // Where a script without a shebang has no keys there is nothing to gain; and one that does not end stops the primary's stream
    // on a replica, as it does in Redis.
    if program.compiled.reach.get() == Reach::Everything
        || (program.keys.is_empty() && program.compiled.flags.is_legacy)
    {
        return ShardSet::ALL;
    }
    let mut shards = ShardSet::EMPTY;
    program.keys.iter().for_each(|key| shards.insert(shard_of(Locked::hash(key))));
    shards
}

/// Locks what a script needs; everything if somebody waits for a key there, for serving him may need any shard.
fn lock(server: &'static Server, shards: ShardSet) -> Option<Locked> {
    let locked = server.lock(shards)?;
    if shards == ShardSet::ALL || shards.iter().all(|shard| locked.shard(shard).waiters.is_empty()) {
        return Some(locked);
    }
    drop(locked);
    server.lock(ShardSet::ALL)
}

fn run_locked(
    worker: &mut Worker,
    session: &mut Session,
    reply: &mut Reply,
    locked: &mut Locked,
    interpreter: &Interpreter,
    program: &Program<'_>,
) -> Ending {
    let server = worker.server;
    let (db, lap, run) = (session.db, worker.lap, worker.script);
    server.scripts.running.start(run, program.is_function, session.is_primary_link);
    session.in_script = true;
    let mut scratch = std::mem::take(&mut *interpreter.scratch.borrow_mut());
    let mut caller = Caller::new(worker, session, locked, &mut scratch, run, program, interpreter);
    let result = interpreter.run(&program.compiled.callable, program.keys, program.args, &mut caller, |stack, ok| {
        if ok { write_result(stack, reply, interpreter.resp3.get()) } else { error_of(stack, program) }
    });
    let starts_over = caller.starts_over();
    let log = caller.end_debugging();
    *interpreter.scratch.borrow_mut() = scratch;
    server.scripts.running.end(run);
    if let (Some(log), Some(debug)) = (log, &mut session.script_debug) {
        debug.log = log;
    }
    session.in_script = false;
    session.db = db;
    session.client.db.store(db, Ordering::Relaxed);
    // The time of its commands is a part of the script's own.
    worker.lap = lap;
    if let StartOver::Yes = starts_over { Ending::StartOver } else { result }
}

fn finish(ctx: &mut SessionContext<'_>, program: &Program<'_>, ending: Ending) -> Result<SessionFlow, CommandError> {
    if std::mem::take(&mut ctx.session.script_has_read) {
        // The keys that the script has declared stand for those that it has read.
        ctx.worker.server.remember_reads(ctx.session.client.id, ctx.entry, program.call);
    }
    match ending {
        Ending::Failed(error) => return Err(error),
        Ending::FailedBefore(error) => {
            ctx.worker.stats.commands[ctx.entry.id].failed.add(1);
            ctx.reply.error_bytes(error.bytes());
        }
        Ending::Replied | Ending::StartOver => {}
    }
    Ok(SessionFlow::Done)
}

/// Writes what a script has returned.
fn write_result(stack: &mut Stack, reply: &mut Reply, is_resp3: bool) -> Ending {
    let index = stack.top();
    if stack.kind(index) == Kind::Table {
        stack.push_field(index, b"err");
        if stack.kind(index + 1) == Kind::String {
            stack.truncate(index);
            return plain_error(stack, index);
        }
        stack.truncate(index);
    }
    convert::write_result(stack, reply, is_resp3);
    Ending::Replied
}

/// The error of a table with `err`, as it is.
fn plain_error(stack: &mut Stack, table: usize) -> Ending {
    stack.push_field(table, b"err");
    let text = match stack.kind(table + 1) {
        Kind::String => stack.string(table + 1).unwrap_or_default().to_vec(),
        _ => b"ERR unknown error".to_vec(),
    };
    stack.push_field(table, b"ignore_error_stats_update");
    let is_counted = stack.kind(table + 2) == Kind::Boolean && stack.truth(table + 2);
    stack.truncate(table);
    let error = CommandError::joined(&[&text]);
    if is_counted { Ending::FailedBefore(error) } else { Ending::Failed(error) }
}

/// The error reply for what a script has raised: its text, and where that was.
fn error_of(stack: &mut Stack, program: &Program<'_>) -> Ending {
    let index = stack.top();
    if stack.kind(index) != Kind::Table {
        // The error handler itself has failed.
        let text = error::shown(stack.string(index).unwrap_or(b"execution failure"), 100);
        return Ending::Failed(CommandError::joined(&[b"ERR Error running script ", program.name, b", ", text]));
    }
    let mut part = |name: &[u8]| {
        stack.push_field(index, name);
        stack.push_text(index + 1);
        let known = matches!(stack.kind(index + 1), Kind::String | Kind::Number);
        let text = stack.string(index + 2).unwrap_or_default().to_vec();
        stack.truncate(index);
        known.then_some(text)
    };
    let place = part(b"source").zip(part(b"line"));
    let ending = plain_error(stack, index);
    let Some((source, line)) = place else { return ending };
    let located = |error: CommandError| {
        CommandError::joined(&[error.bytes(), b" script: ", program.name, b", on ", &source, b":", &line, b"."])
    };
    match ending {
        Ending::Failed(error) => Ending::Failed(located(error)),
        Ending::FailedBefore(error) => Ending::FailedBefore(located(error)),
        other => other,
    }
}

/// The flags of a script that has any decide before it runs. One without gets no further on a replica that may not show what it has.
fn check_flags(ctx: &SessionContext<'_>, program: &Program<'_>) -> Result<(), CommandError> {
    let flags = program.compiled.flags;
    if flags.is_legacy {
        return if dispatch::is_stale(ctx.worker) { Err(error::PRIMARY_DOWN) } else { Ok(()) };
    }
    let (server, config) = (ctx.worker.server, &ctx.worker.config);
    if flags.no_cluster && config.cluster_enabled {
        return Err(CommandError::fixed("ERR Can not run script on cluster, 'no-cluster' flag is set."));
    }
    if !flags.allow_stale && !ctx.session.is_primary_link && dispatch::is_stale(ctx.worker) {
        return Err(error::PRIMARY_DOWN);
    }
    if !flags.no_writes {
        let is_replica = server.is_replica.load(Ordering::Relaxed) && config.replica_read_only;
        if is_replica && !ctx.session.is_primary_link {
            return Err(error::READ_ONLY_REPLICA);
        }
        dispatch::check_saved(ctx.worker, ctx.session).map_err(|error| unsaved(&error))?;
        if program.read_only {
            return Err(CommandError::fixed("ERR Can not execute a script with write flag using *_ro command."));
        }
        if !ctx.session.is_primary_link {
            dispatch::refuse_lonely_write(ctx.worker)?;
        }
    }
    if ctx.worker.out_of_memory && !may_grow_anyway(flags) && !ctx.session.is_primary_link {
        return Err(CommandError::fixed(
            "OOM allow-oom flag is not set on the script, can not run it when used memory > 'maxmemory'",
        ));
    }
    Ok(())
}

fn may_grow_anyway(flags: ScriptFlags) -> bool {
    flags.allow_oom || flags.no_writes
}

/// The refusal of a script that writes while nothing can be saved.
fn unsaved(why: &CommandError) -> CommandError {
    if *why == error::MISCONF_RDB {
        return CommandError::fixed(
            "MISCONF Redis is configured to save RDB snapshots, but it's currently unable to persist to disk. Writable \
             scripts are blocked. Use 'no-writes' flag for read only scripts.",
        );
    }
    let why = why.text();
    let reason = why.rsplit_once(": ").map_or("", |(_, reason)| reason);
    CommandError::new(format!(
        "MISCONF Redis is configured to persist data to AOF, but it's currently unable to persist to disk. Writable scripts \
         are blocked. Use 'no-writes' flag for read only scripts. AOF error: {reason}"
    ))
}

/// SHA1 of a script's text.
pub fn sha_of(body: &[u8]) -> [u8; 40] {
    sha1_hex(body)
}

/// Text for the log of what has happened to a script.
pub fn shown_name(program: &Program<'_>) -> String {
    String::from_utf8_lossy(program.name).into_owned()
}
