//! `call`: the one place where a command on keys runs. Around the handler: the clock, the statistics, the effects.
//!
//! ```text
//!   plan ─► lock ─► execute (handler, statistics) ─► finish_command (events, watchers; what goes to the stream)
//!                      ▲                                  │   once per command
//!                      └── EXEC and scripts: many ────────┘
//!                                                         ▼   once per unit
//!                                                   finish_unit (journal, blocked clients), still under the locks
//! ```

use super::clients::flag;
use super::own_expiry;
use super::plan;
use super::propagation;
use super::session::Session;
use super::table::{Entry, Handler};
use super::worker::Worker;
use crate::commands::context::{KeyContext, KeyFlow, Keys, Planned};
use crate::commands::error::{self, CommandError};
use crate::commands::flags::Flags;
use crate::commands::spec::KeyHandler;
use crate::engine::keyspace::{Locked, ShardSet, shard_of};
use crate::resp::{Args, Reply};
use std::sync::atomic::Ordering;

/// On whose behalf a command runs.
#[derive(Clone, Copy)]
pub struct Caller {
    pub db: usize,
    pub no_touch: bool,
    pub deny_blocking: bool,
    pub in_script: bool,
    /// Runs once more, because one of the keys that it waits for has changed.
    pub is_woken: bool,
    /// Already in the stream (the link to the primary, loading the AOF): effects are not journaled again.
    pub is_replay: bool,
    /// Id of the client; 0 for nobody in particular.
    pub client: u64,
    /// Keys that are read are remembered for client-side caching.
    pub tracks: bool,
    /// May read whatever key the command comes upon.
    pub reads_any_key: bool,
}

impl Caller {
    /// A session's own command.
    #[inline]
    pub fn of(session: &Session) -> Self {
        Caller {
            db: session.db,
            no_touch: session.client.has(flag::NO_TOUCH),
            deny_blocking: session.is_primary_link,
            in_script: session.in_script,
            is_woken: false,
            is_replay: session.is_primary_link,
            client: session.client.id,
            tracks: session.receives_pushes && session.tracking.remembers_reads(),
            reads_any_key: true,
        }
    }

    /// The server itself.
    pub fn internal(db: usize) -> Self {
        Caller {
            db,
            no_touch: false,
            deny_blocking: true,
            in_script: false,
            is_woken: false,
            is_replay: false,
            client: 0,
            tracks: false,
            reads_any_key: true,
        }
    }
}

/// Locks what one command needs. `hash` is that of its single key, if that is known already. The second part is what the command
/// itself needs, without the shards of those blocked on its keys. Nothing if a busy script keeps one of them.
#[inline]
pub fn lock(
    worker: &mut Worker,
    caller: Caller,
    entry: &Entry,
    args: Args<'_>,
    hash: Option<u64>,
) -> Option<(Locked, ShardSet)> {
    worker.planned.clear();
    let shards = match (hash, entry.single_key) {
        (Some(hash), Some(key)) => {
            worker.planned.push((args[key].as_ptr() as usize, hash));
            ShardSet::one(shard_of(hash))
        }
        _ => plan::shards(entry, args, &mut worker.planned),
    };
    let locked = plan::lock(worker.server, shards, caller.db, entry, args)?;
    if worker.planned.len() > 1 {
        locked.look_ahead(caller.db, worker.planned.iter().map(|(_, hash)| *hash));
    }
    Some((locked, shards))
}

/// After a command that is a unit of its own.
#[inline]
pub fn finish(worker: &mut Worker, locked: &mut Locked, shards: ShardSet, entry: &Entry) {
    // What a look over the whole keyspace finds expired has nothing to do with each other.
    if !worker.unit.is_empty() && !entry.writes && shards == ShardSet::ALL {
        propagation::flush_separately(worker);
    }
    propagation::finish_unit(worker, locked);
}

/// Under the locks: whether this server's role still allows a write that it allowed when the request was admitted. The stream of a
/// primary that is followed no more must not go on; a client's write is refused where a new one would be. (Unlike
/// `Worker::is_outdated`, which only says that the request is to be judged anew from its beginning, this one ends it.)
#[inline]
pub fn role_allows(worker: &mut Worker, is_replay: bool, reply: &mut Reply) -> bool {
    worker.role_epoch == worker.server.role.epoch() || judge_again(worker, is_replay, reply)
}

#[cold]
fn judge_again(worker: &mut Worker, is_replay: bool, reply: &mut Reply) -> bool {
    if is_replay {
        worker.stream.clear();
        return false;
    }
    if worker.server.is_replica.load(Ordering::Acquire) && worker.config.replica_read_only {
        worker.stats.count_error(error::READ_ONLY_REPLICA.code());
        reply.error_bytes(error::READ_ONLY_REPLICA.bytes());
        return false;
    }
    true
}

/// Runs the command of a blocked client once more. If it still finds nothing, it leaves no trace in the statistics; if it does, its
/// time is added to the call that was counted when the client went to sleep.
pub fn execute_again(
    worker: &mut Worker,
    locked: &mut Locked,
    caller: Caller,
    entry: &Entry,
    handler: KeyHandler,
    args: Args<'_>,
    reply: &mut Reply,
) -> KeyFlow {
    let result = run_handler(worker, locked, caller, entry, handler, args, reply);
    let ns = worker.lap_ns();
    if !matches!(result, Ok(KeyFlow::Block(_))) {
        count_time(worker, entry, ns, result.as_ref().err());
        if ns >= worker.slow_ns {
            worker.server.note_slow(entry, args, caller.client, ns);
        }
    }
    result.unwrap_or(KeyFlow::Done)
}

/// Runs a handler under locks that are held already. Its error, if any, is written as the reply.
#[inline]
pub fn execute(
    worker: &mut Worker,
    locked: &mut Locked,
    caller: Caller,
    entry: &Entry,
    handler: KeyHandler,
    args: Args<'_>,
    reply: &mut Reply,
) -> KeyFlow {
    let result = run_handler(worker, locked, caller, entry, handler, args, reply);
    finish_handler(worker, caller, entry, args, &result);
    result.unwrap_or(KeyFlow::Done)
}

/// What follows a handler: its reads are remembered, its call is counted.
#[inline]
fn finish_handler(
    worker: &mut Worker,
    caller: Caller,
    entry: &Entry,
    args: Args<'_>,
    result: &Result<KeyFlow, CommandError>,
) {
    if caller.tracks && entry.spec.flags.has(Flags::READONLY) {
        worker.server.remember_reads(caller.client, entry, args);
        worker.server.limit_tracked_keys(worker.config.tracking_table_max_keys);
    }
    match result {
        Ok(KeyFlow::Done) => finish_statistics(worker, entry, args, caller.client, None),
        Err(error) => finish_statistics(worker, entry, args, caller.client, Some(error)),
        Ok(KeyFlow::Block(_)) => {
            // The client goes to sleep: how long the command took is known when it is served.
            worker.lap_ns();
            worker.stats.commands[entry.id].calls.add(1);
            worker.stats.commands_processed.add(1);
        }
    }
}

#[inline]
fn run_handler(
    worker: &mut Worker,
    locked: &mut Locked,
    caller: Caller,
    entry: &Entry,
    handler: KeyHandler,
    args: Args<'_>,
    reply: &mut Reply,
) -> Result<KeyFlow, CommandError> {
    let start = reply.len();
    let mut observers = worker.server.observers(worker.settings.notify);
    observers.journal &= !caller.is_replay;
    let mut context = KeyContext {
        keys: Keys {
            locked,
            effects: &mut worker.effects,
            settings: &worker.settings,
            stats: &worker.stats.keys,
            db: caller.db,
            now_ms: worker.now_ms,
            observers,
            no_touch: caller.no_touch,
            planned: Planned::new(&worker.planned),
        },
        reply,
        random: &mut worker.random,
        deny_blocking: caller.deny_blocking,
        in_script: caller.in_script,
        is_woken: caller.is_woken,
        is_replay: caller.is_replay,
        reads_any_key: caller.reads_any_key,
    };
    let result = handler(&mut context, args);
    if let Err(error) = &result {
        reply.truncate(start);
        reply.error_bytes(error.bytes());
    }
    propagation::finish_command(worker, locked, caller, entry, args);
    if entry.writes && !caller.is_replay && worker.server.is_replica.load(Ordering::Relaxed) {
        own_expiry::note(worker, locked, caller.db, entry, args);
    }
    result
}

/// Changes keys on behalf of no command (the active expire cycle, eviction), as a unit of its own.
pub fn outside_commands(worker: &mut Worker, locked: &mut Locked, db: usize, change: &mut dyn FnMut(&mut Keys<'_>)) {
    within_unit(worker, locked, db, change);
    propagation::finish_unit(worker, locked);
}

/// The same as a part of the running unit.
pub fn within_unit(worker: &mut Worker, locked: &mut Locked, db: usize, change: &mut dyn FnMut(&mut Keys<'_>)) {
    let observers = worker.server.observers(worker.settings.notify);
    change(&mut Keys {
        locked,
        effects: &mut worker.effects,
        settings: &worker.settings,
        stats: &worker.stats.keys,
        db,
        now_ms: worker.now_ms,
        observers,
        no_touch: true,
        planned: Planned::new(&[]),
    });
    propagation::finish_outside_commands(worker, locked);
}

/// Counts a command that has run.
#[inline]
pub fn finish_statistics(
    worker: &mut Worker,
    entry: &Entry,
    args: Args<'_>,
    client: u64,
    error: Option<&CommandError>,
) {
    let ns = worker.lap_ns();
    worker.stats.commands_processed.add(1);
    let stats = &worker.stats.commands[entry.id];
    stats.calls.add(1);
    stats.time_ns.add(ns);
    if worker.config.latency_tracking {
        stats.latency.get_or_init(Default::default).record(ns);
    }
    if let Some(error) = error {
        count_failure(worker, entry, error);
    }
    if ns >= worker.slow_ns {
        worker.server.note_slow(entry, args, client, ns);
    }
}

/// The time that a call took which is counted already, and how it ended.
fn count_time(worker: &Worker, entry: &Entry, ns: u64, error: Option<&CommandError>) {
    let stats = &worker.stats.commands[entry.id];
    stats.time_ns.add(ns);
    if worker.config.latency_tracking {
        stats.latency.get_or_init(Default::default).record(ns);
    }
    if let Some(error) = error {
        count_failure(worker, entry, error);
    }
}

#[cold]
fn count_failure(worker: &Worker, entry: &Entry, error: &CommandError) {
    worker.stats.commands[entry.id].failed.add(1);
    worker.stats.count_error(error.code());
}

/// The handler on keys of an entry.
pub fn key_handler(entry: &Entry) -> Option<KeyHandler> {
    match entry.handler {
        Handler::Key(handler) => Some(handler),
        Handler::Session(_) | Handler::Container => None,
    }
}
