//! MULTI, EXEC, DISCARD, WATCH: queueing, and running the queue under the union of all locks.

use super::call::{self, Caller};
use super::clients::flag;
use super::plan;
use super::propagation;
use super::session::{AfterExec, Session, SessionCommand, SessionContext, SessionFlow, Watched};
use super::slots::redirect;
use super::table::{Entry, Handler};
use super::worker::Worker;
use crate::commands::error::CommandError;
use crate::commands::flags::Flags;
use crate::commands::keyspec::KeySpec;
use crate::commands::spec::Group;
use crate::engine::keyspace::{Locked, ShardSet, shard_of};
use crate::resp::{Args, OwnedArgs, Reply};
use std::sync::atomic::Ordering;

/// Commands between MULTI and EXEC.
#[derive(Default)]
pub struct Transaction {
    pub queue: Vec<(&'static Entry, OwnedArgs)>,
    pub bytes: usize,
    /// A command could not be queued: EXEC must refuse.
    pub aborted: bool,
}

pub const COMMANDS: &[SessionCommand] = &[
    SessionCommand::new("multi", 1, multi)
        .group(Group::Transactions)
        .since("1.2.0")
        .noscript()
        .loading_stale()
        .fast()
        .flag(Flags::ALLOW_BUSY)
        .summary("Starts a transaction: commands are queued until EXEC.")
        .complexity("O(1)"),
    SessionCommand::new("exec", 1, exec)
        .group(Group::Transactions)
        .since("1.2.0")
        .noscript()
        .loading_stale()
        .flag(Flags::SKIP_SLOWLOG)
        .summary("Runs the queued commands as one.")
        .complexity("Depends on the commands in the transaction"),
    SessionCommand::new("discard", 1, discard)
        .group(Group::Transactions)
        .since("2.0.0")
        .noscript()
        .loading_stale()
        .fast()
        .flag(Flags::ALLOW_BUSY)
        .summary("Forgets the queued commands.")
        .complexity("O(N), when N is the number of queued commands"),
    SessionCommand::new("watch", -2, watch)
        .group(Group::Transactions)
        .since("2.2.0")
        .noscript()
        .loading_stale()
        .fast()
        .flag(Flags::ALLOW_BUSY)
        .keys(&[KeySpec::range(1, -1, 1).ro()])
        .syntax("key [key ...]")
        .summary("Makes the next EXEC fail if one of the keys changes before.")
        .complexity("O(1) for every key."),
    SessionCommand::new("unwatch", 1, unwatch)
        .group(Group::Transactions)
        .since("2.2.0")
        .noscript()
        .loading_stale()
        .fast()
        .flag(Flags::ALLOW_BUSY)
        .summary("Forgets the watched keys.")
        .complexity("O(1)"),
];

fn multi(ctx: &mut SessionContext<'_>, _: Args<'_>) -> Result<SessionFlow, CommandError> {
    if ctx.session.transaction.is_some() {
        return Err(CommandError::fixed("ERR MULTI calls can not be nested"));
    }
    ctx.session.transaction = Some(Transaction::default());
    ctx.session.client.set(flag::MULTI, true);
    ctx.session.client.multi.store(0, Ordering::Relaxed);
    ctx.reply.ok();
    Ok(SessionFlow::Done)
}

fn discard(ctx: &mut SessionContext<'_>, _: Args<'_>) -> Result<SessionFlow, CommandError> {
    if ctx.session.transaction.is_none() {
        return Err(CommandError::fixed("ERR DISCARD without MULTI"));
    }
    end(ctx.worker, ctx.session);
    ctx.reply.ok();
    Ok(SessionFlow::Done)
}

/// Leaves the transaction and forgets the watched keys.
pub fn end(worker: &mut Worker, session: &mut Session) {
    session.transaction = None;
    session.client.set(flag::MULTI, false);
    session.client.multi.store(-1, Ordering::Relaxed);
    session.client.multi_bytes.store(0, Ordering::Relaxed);
    forget_watches(worker, session, None);
}

fn watch(ctx: &mut SessionContext<'_>, args: Args<'_>) -> Result<SessionFlow, CommandError> {
    if ctx.session.transaction.is_some() {
        return Err(CommandError::fixed("ERR WATCH inside MULTI is not allowed"));
    }
    if ctx.session.watch_flag.load(Ordering::Relaxed) {
        // EXEC will fail whatever else is watched.
        ctx.reply.ok();
        return Ok(SessionFlow::Done);
    }
    let (db, now_ms) = (ctx.session.db, ctx.worker.now_ms);
    for key in args.from(1).iter() {
        if ctx.session.watched.iter().any(|watched| watched.db == db && *watched.key == *key) {
            continue;
        }
        let hash = Locked::hash(key);
        let server = ctx.worker.server;
        let locked = server.lock(ShardSet::one(shard_of(hash)));
        let mut locked = locked.ok_or_else(|| server.scripts.running.busy_error())?;
        // A key that has expired goes now, so that its removal later is no change of what is watched.
        call::outside_commands(ctx.worker, &mut locked, db, &mut |keys| {
            keys.exists(key);
        });
        let found = locked.db(hash, db).and_then(|part| part.find(hash, key));
        let expired = found.is_none_or(|record| record.expiry().is_some_and(|at| at < now_ms));
        ctx.session.client.hold(key);
        locked.shard_mut(shard_of(hash)).watches.add(db, key, &ctx.session.watch_flag);
        ctx.session.watched.push(Watched { db, key: key.into(), expired });
    }
    ctx.session.client.watched.store(ctx.session.watched.len(), Ordering::Relaxed);
    ctx.reply.ok();
    Ok(SessionFlow::Done)
}

fn unwatch(ctx: &mut SessionContext<'_>, _: Args<'_>) -> Result<SessionFlow, CommandError> {
    forget_watches(ctx.worker, ctx.session, ctx.locked.as_deref_mut());
    ctx.reply.ok();
    Ok(SessionFlow::Done)
}

/// Takes the session's flag out of every shard and starts with a clean one.
pub fn forget_watches(worker: &Worker, session: &mut Session, held: Option<&mut Locked>) {
    let flag = std::mem::take(&mut session.watch_flag);
    let client = &session.client;
    session.stale_watches.extend(session.watched.drain(..).map(|watched| {
        client.let_go(&watched.key);
        (watched.db, watched.key, flag.clone())
    }));
    let mut held = held;
    session.stale_watches.retain(|(db, key, flag)| {
        let shard = shard_of(Locked::hash(key));
        if let Some(locked) = held.as_deref_mut().filter(|locked| locked.set().contains(shard)) {
            locked.shard_mut(shard).watches.remove(*db, key, flag);
            return false;
        }
        // Inside EXEC its own watches were already forgotten, so nothing is locked out of order here.
        let Some(mut locked) = worker.server.lock(ShardSet::one(shard)) else { return true };
        locked.shard_mut(shard).watches.remove(*db, key, flag);
        false
    });
    session.client.watched.store(0, Ordering::Relaxed);
    session.client.set(flag::DIRTY_CAS, false);
}

fn exec(ctx: &mut SessionContext<'_>, _: Args<'_>) -> Result<SessionFlow, CommandError> {
    let Some(transaction) = ctx.session.transaction.take() else {
        return Err(CommandError::fixed("ERR EXEC without MULTI"));
    };
    if transaction.aborted {
        end(ctx.worker, ctx.session);
        return Err(CommandError::fixed("EXECABORT Transaction discarded because of previous errors."));
    }
    let locked = lock_union(ctx.worker, ctx.session, &transaction);
    // Clients may have been paused between the start of this command and its locks, or a script may have become busy.
    let Some(mut locked) = locked.filter(|_| !ctx.worker.is_outdated()) else {
        ctx.session.transaction = Some(transaction);
        return Ok(SessionFlow::Again);
    };
    let writes = transaction.queue.iter().any(|(entry, _)| entry.writes);
    if writes && !call::role_allows(ctx.worker, ctx.session.is_primary_link, ctx.reply) {
        drop(locked);
        end(ctx.worker, ctx.session);
        return Ok(SessionFlow::Done);
    }
    let transaction = match judge_slots(ctx, transaction, &locked) {
        Ok(transaction) => transaction,
        Err(error) => {
            drop(locked);
            end(ctx.worker, ctx.session);
            return Err(error);
        }
    };
    if has_changed(ctx.worker, ctx.session, &locked) {
        drop(locked);
        end(ctx.worker, ctx.session);
        ctx.reply.null_array();
        return Ok(SessionFlow::Done);
    }
    // Redis forgets the watches before it runs the queue.
    forget_watches(ctx.worker, ctx.session, Some(&mut locked));
    ctx.session.client.set(flag::MULTI, false);
    ctx.session.client.multi.store(-1, Ordering::Relaxed);
    ctx.reply.array(transaction.queue.len());
    let mut flow = SessionFlow::Done;
    ctx.session.in_exec = true;
    for (entry, args) in &transaction.queue {
        if let SessionFlow::Close = run_queued(ctx.worker, ctx.session, &mut locked, entry, args.as_args(), ctx.reply) {
            flow = SessionFlow::Close;
        }
    }
    ctx.session.in_exec = false;
    propagation::finish_unit(ctx.worker, &mut locked);
    drop(locked);
    end(ctx.worker, ctx.session);
    if !ctx.session.after_exec.is_empty() {
        run_after_exec(ctx);
    }
    Ok(flow)
}

/// Under the locks: whether the keys are still here, where they may move.
fn judge_slots(
    ctx: &mut SessionContext<'_>,
    transaction: Transaction,
    locked: &Locked,
) -> Result<Transaction, CommandError> {
    if !ctx.worker.has_open_slots || ctx.session.is_primary_link {
        return Ok(transaction);
    }
    ctx.session.transaction = Some(transaction);
    let judged = redirect::judge(ctx.worker, ctx.session, ctx.entry, Args::new(b"exec", &[(0, 4)]), Some(locked));
    let transaction = ctx.session.transaction.take().unwrap_or_default();
    judged.map(|()| transaction)
}

/// What had to wait until nothing is locked: each puts its reply where it belongs.
fn run_after_exec(ctx: &mut SessionContext<'_>) {
    let mut shift = 0;
    for AfterExec { place, work } in std::mem::take(&mut ctx.session.after_exec) {
        let result = work();
        let rest = ctx.reply.buffer_mut().split_off(place + shift);
        match result {
            Ok(()) => ctx.reply.ok(),
            Err(error) => {
                ctx.worker.stats.count_error(error.code());
                ctx.reply.error_bytes(error.bytes());
            }
        }
        shift = ctx.reply.len() - place;
        ctx.reply.buffer_mut().extend_from_slice(&rest);
    }
}

/// Locks what the queued commands, the watched keys and the clients blocked on written keys need.
fn lock_union(worker: &mut Worker, session: &Session, transaction: &Transaction) -> Option<Locked> {
    let mut set = ShardSet::EMPTY;
    let mut writes = false;
    for (entry, args) in &transaction.queue {
        worker.planned.clear();
        set = set.union(plan::shards(entry, args.as_args(), &mut worker.planned));
        writes |= entry.writes;
        // SELECT, scripts and the like move later commands to another database: the shards stay the same.
    }
    worker.planned.clear();
    for watched in &session.watched {
        set.insert(shard_of(Locked::hash(&watched.key)));
    }
    let locked = worker.server.lock(set)?;
    // A gift to a blocked client may need any shard; with anybody blocked on the shards written, take them all.
    plan::widen(worker.server, locked, |locked| {
        let blocked = writes && locked.set().iter().any(|shard| !locked.shard(shard).waiters.is_empty());
        if blocked { ShardSet::ALL } else { ShardSet::EMPTY }
    })
}

/// Whether a watched key has changed, or has expired since.
fn has_changed(worker: &Worker, session: &Session, locked: &Locked) -> bool {
    session.watch_flag.load(Ordering::Relaxed)
        || session.watched.iter().any(|watched| {
            let hash = Locked::hash(&watched.key);
            let found = locked.db(hash, watched.db).and_then(|db| db.find(hash, &watched.key));
            !watched.expired && found.and_then(|record| record.expiry()).is_some_and(|at| at < worker.now_ms)
        })
}

/// Runs one command of a transaction under the locks of all of it.
pub fn run_queued(
    worker: &mut Worker,
    session: &mut Session,
    locked: &mut Locked,
    entry: &'static Entry,
    args: Args<'_>,
    reply: &mut Reply,
) -> SessionFlow {
    if let Err(error) = super::dispatch::admit(worker, session, entry, args, None) {
        super::dispatch::reject(worker, entry, &error, reply);
        return SessionFlow::Done;
    }
    run_admitted(worker, session, locked, entry, args, reply)
}

/// The same for a command that nothing refuses.
pub fn run_admitted(
    worker: &mut Worker,
    session: &mut Session,
    locked: &mut Locked,
    entry: &'static Entry,
    args: Args<'_>,
    reply: &mut Reply,
) -> SessionFlow {
    match entry.handler {
        Handler::Key(handler) => {
            let caller = Caller { deny_blocking: true, ..Caller::of(session) };
            let mut caller = super::acl::admit::with_reach(caller, worker, session, entry, args);
            if session.in_script {
                session.script_has_read |= caller.tracks && entry.spec.flags.has(Flags::READONLY);
                caller.tracks = false;
            }
            let flow = call::execute(worker, locked, caller, entry, handler, args, reply);
            super::blocking::answer_denied(flow, reply);
            super::dispatch::show_to_monitors(worker, session, caller.db, entry, args);
            SessionFlow::Done
        }
        Handler::Session(handler) => {
            let db = session.db;
            let mut context =
                SessionContext { worker, session, reply, locked: Some(locked), deny_blocking: true, entry };
            let flow = super::dispatch::run_session(&mut context, handler, args);
            super::dispatch::show_to_monitors(worker, session, db, entry, args);
            flow
        }
        Handler::Container => SessionFlow::Done,
    }
}
