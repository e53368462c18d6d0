//! From a request to its reply: find the command, check arity and admission, queue it or run it.

use super::acl::admit as acl;
use super::blocking;
use super::call::{self, Caller};
use super::clients::flag;
use super::evict;
use super::monitor::Source;
use super::multi;
use super::pause::{PauseMode, Purpose};
use super::propagation;
use super::session::{Asking, ReplyMode, Session, SessionContext, SessionFlow, SessionHandler};
use super::slots::redirect;
use super::table::{Entry, Handler};
use super::worker::Worker;
use crate::base::hash;
use crate::commands::context::KeyFlow;
use crate::commands::error::{self, CommandError, SHOWN_MAX};
use crate::commands::flags::Flags;
use crate::commands::spec::KeyHandler;
use crate::engine::keyspace::Locked;
use crate::engine::keyspace::{ShardSet, shard_of};
use crate::engine::value::Ahead;
use crate::resp::{Args, Batch, Reply};
use crate::server::config::MemoryLimit;
use std::sync::atomic::Ordering;

/// Requests that are looked up ahead of execution.
pub const BATCH_MAX: usize = 32;

/// What the connection does after a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BatchEnd {
    /// Every request ran.
    Done,
    /// None ran: the first is to wait for what other workers have got.
    Unsettled,
    /// This many ran; the others wait until the session is no longer blocked (or never run, if it is closing).
    Stopped(usize),
}

/// Whether a batch may be put off once, until other workers have got to what was sent before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MaySettle {
    Yes,
    No,
}

/// Runs the requests of one read, in order; with `MaySettle::Yes` none of them if the first tells of all clients.
pub fn run_batch(
    worker: &mut Worker,
    session: &mut Session,
    batch: &Batch,
    buffer: &[u8],
    reply: &mut Reply,
    may_settle: MaySettle,
) -> BatchEnd {
    worker.refresh();
    worker.stats.running.begin(worker.now_ms);
    let mut resolved = std::mem::take(&mut worker.resolved);
    resolved.clear();
    let mut names_members = false;
    for index in 0..batch.len() {
        let known = resolve(worker, batch.args(index, buffer));
        names_members |= known.entry.is_some_and(|entry| entry.spec.member.is_some());
        resolved.push(known);
    }
    if let (MaySettle::Yes, Some(first)) = (may_settle, resolved.first())
        && tells_of_all(worker, *first, batch.args(0, buffer))
    {
        worker.stats.running.end();
        worker.resolved = resolved;
        return BatchEnd::Unsettled;
    }
    if resolved.len() >= 3 {
        look_ahead(worker, session.db, &resolved);
        if names_members {
            look_ahead_of_members(worker, session.db, &resolved, |index| batch.args(index, buffer));
        }
    }
    let end = run_resolved(worker, session, batch, buffer, &resolved, reply);
    worker.stats.running.end();
    worker.resolved = resolved;
    end
}

fn run_resolved(
    worker: &mut Worker,
    session: &mut Session,
    batch: &Batch,
    buffer: &[u8],
    resolved: &[Resolved],
    reply: &mut Reply,
) -> BatchEnd {
    for (index, known) in resolved.iter().enumerate() {
        run(worker, session, batch.args(index, buffer), *known, reply);
        if session.is_waiting() || session.closing || session.client.is_killed() {
            return BatchEnd::Stopped(index + 1);
        }
    }
    session.client.last_interaction_ms.store(worker.now_ms, Ordering::Relaxed);
    BatchEnd::Done
}

/// What is known of a request before it runs.
#[derive(Clone, Copy, Default)]
pub struct Resolved {
    /// The command of the first word; its subcommand is found when it runs.
    entry: Option<&'static Entry>,
    /// Hash of its single or first key.
    hash: Option<u64>,
}

#[inline]
pub(super) fn resolve(worker: &Worker, args: Args<'_>) -> Resolved {
    let entry = worker.server.table.find(&args[0]);
    let key = entry.and_then(|entry| entry.ahead_key).and_then(|at| args.get(at));
    Resolved { entry, hash: key.map(Locked::hash) }
}

/// Whether a request is one whose command says what other clients are doing.
#[inline]
fn tells_of_all(worker: &Worker, known: Resolved, args: Args<'_>) -> bool {
    let Some(entry) = known.entry else { return false };
    let entry = match args.get(1) {
        Some(name) if !entry.subcommands.is_empty() => worker.server.table.find_sub(entry, name),
        _ => Some(entry),
    };
    entry.is_some_and(|entry| entry.spec.flags.has(Flags::TELLS_OF_ALL))
}

/// Runs one request that comes from elsewhere than a batch (the append-only file, a primary).
pub fn run_one(worker: &mut Worker, session: &mut Session, args: Args<'_>, reply: &mut Reply) {
    let known = resolve(worker, args);
    run(worker, session, args, known, reply);
}

/// Brings the buckets and then the records of the batch's keys into the cache, so that the misses of all of them overlap
/// instead of adding up. A shard that is busy is left alone: this only ever saves time.
pub(super) fn look_ahead(worker: &Worker, db: usize, resolved: &[Resolved]) {
    let keyspace = worker.server.keyspace;
    let hashes = || resolved.iter().filter_map(|request| request.hash);
    for hash in hashes() {
        keyspace.prefetch(shard_of(hash));
    }
    for hash in hashes() {
        keyspace.glance(hash, db, |db| db.table().prefetch_bucket(hash));
    }
    for hash in hashes() {
        keyspace.glance(hash, db, |db| db.table().prefetch_entry(hash));
    }
}

/// The same one level deeper: the members that the requests name in big collections.
pub(super) fn look_ahead_of_members<'a>(
    worker: &Worker,
    db: usize,
    resolved: &[Resolved],
    args: impl Fn(usize) -> Args<'a>,
) {
    for step in [Ahead::Bucket, Ahead::Entry] {
        for (index, request) in resolved.iter().enumerate() {
            let Some((entry, hash)) = request.entry.zip(request.hash) else { continue };
            let Some((key_at, member_at)) = entry.single_key.zip(entry.spec.member) else { continue };
            let args = args(index);
            let Some((key, member)) = args.get(key_at).zip(args.get(member_at)) else { continue };
            worker.server.keyspace.glance(hash, db, |db| {
                if let Some(record) = db.find(hash, key) {
                    record.value().prefetch_member(hash::bytes(member), step);
                }
            });
        }
    }
}

/// Runs or queues one request and writes its reply.
#[inline]
pub fn run(worker: &mut Worker, session: &mut Session, args: Args<'_>, known: Resolved, reply: &mut Reply) {
    let start = reply.len();
    reply.set_resp3(session.resp3);
    reply.set_limit(worker.reply_limit);
    run_replying(worker, session, args, known, reply);
    finish(worker, session, start, reply);
}

/// The same for the stream of a primary, whose order must be kept: false if nothing was done, because a busy script keeps what the
/// request needs. Whoever applies the stream has other things to do meanwhile.
pub fn run_unless_busy(
    worker: &mut Worker,
    session: &mut Session,
    args: Args<'_>,
    known: Resolved,
    reply: &mut Reply,
) -> bool {
    let start = reply.len();
    while let Ran::Outdated = try_run(worker, session, args, known, reply) {
        if worker.server.scripts.running.is_busy() {
            return false;
        }
        worker.refresh();
    }
    finish(worker, session, start, reply);
    true
}

/// What follows every request.
#[inline]
fn finish(worker: &mut Worker, session: &mut Session, start: usize, reply: &mut Reply) {
    if reply.is_cut_short() {
        reply.restart();
        worker.server.kill_for_output(&session.client, reply.len() as u64);
    }
    if worker.appended != 0 {
        session.write_offset = std::mem::take(&mut worker.appended);
    }
    if !worker.overdue.is_empty() || !worker.releases.is_empty() {
        blocking::finish_deferred(worker);
    }
    if session.reply_mode != ReplyMode::On {
        silence(session, start, reply);
    }
    if session.receives_pushes {
        finish_tracked(worker, session, reply);
    }
    if session.asking != Asking::No {
        finish_asking(session);
    }
}

/// ASKING is for one command, or for one transaction.
#[cold]
fn finish_asking(session: &mut Session) {
    session.asking = match session.asking {
        Asking::Said => Asking::Yes,
        Asking::Yes if session.transaction.is_some() => Asking::Yes,
        Asking::Yes | Asking::No => Asking::No,
    };
}

/// CLIENT REPLY: drops the reply behind `start`, unless it was a message rather than an answer.
#[cold]
fn silence(session: &mut Session, start: usize, reply: &mut Reply) {
    if !std::mem::take(&mut session.replied_by_push) {
        reply.truncate(start);
    }
    session.reply_mode = match session.reply_mode {
        ReplyMode::SkipNext => ReplyMode::Skip,
        ReplyMode::Skip | ReplyMode::On => ReplyMode::On,
        ReplyMode::Off => ReplyMode::Off,
    };
}

/// After a command of a client that others send messages to: those caused by the command follow its reply at once.
#[cold]
fn finish_tracked(worker: &Worker, session: &mut Session, reply: &mut Reply) {
    if session.tracking.caching && session.transaction.is_none() {
        let last = session.client.last_command.load(Ordering::Relaxed);
        let is_client = last > 0 && worker.server.table.entry(last - 1).full_name.starts_with("client|");
        session.tracking.caching = is_client;
    }
    if session.blocked.is_none() && session.client.has_mail() {
        session.client.take_outbox(reply.buffer_mut());
    }
}

/// Runs the command that waited for the end of a pause, unless it has to wait on; true if it ran.
pub fn resume(worker: &mut Worker, session: &mut Session, reply: &mut Reply) -> bool {
    worker.refresh();
    let Some(args) = session.postponed.take() else { return false };
    let known = resolve(worker, args.as_args());
    let still = find(worker, args.as_args(), known)
        .is_ok_and(|entry| is_paused(worker, session, entry, args.as_args()) || outwaits_load(worker, entry));
    if still {
        session.postponed = Some(args);
        return false;
    }
    end_postponement(worker, session);
    run(worker, session, args.as_args(), known, reply);
    true
}

/// Bytes of a load that Redis reads before it looks at its clients.
const SHORT_LOAD: u64 = 2 << 20;

/// Whether a command that a load refuses waits for its end, since that is near.
fn outwaits_load(worker: &Worker, entry: &Entry) -> bool {
    worker.server.loading.load(Ordering::Relaxed)
        && worker.server.save_status.loading.loaded_bytes.load(Ordering::Relaxed) < SHORT_LOAD
        && !entry.spec.flags.has(Flags::LOADING)
        && worker.server.pauses.is_for(Purpose::Load, worker.now_ms)
}

/// Whether CLIENT PAUSE or the like holds a command back.
fn is_paused(worker: &Worker, session: &Session, entry: &Entry, args: Args<'_>) -> bool {
    if session.client.has(flag::REPLICA) || session.is_primary_link {
        return false;
    }
    let goes_out = |entry: &Entry, args: Args<'_>| {
        entry.writes || (entry.spec.flags.has(Flags::MAY_REPLICATE) && !worker.server.scripts.only_reads(entry, args))
    };
    match worker.pause.mode {
        PauseMode::None => false,
        PauseMode::All => true,
        PauseMode::Writes if entry.full_name == "exec" => session
            .transaction
            .as_ref()
            .is_some_and(|transaction| transaction.queue.iter().any(|(entry, args)| goes_out(entry, args.as_args()))),
        PauseMode::Writes => goes_out(entry, args),
    }
}

fn postpone(worker: &Worker, session: &mut Session, args: Args<'_>) {
    session.postponed = Some(args.to_owned());
    session.client.argument_bytes.store(args.byte_len(), Ordering::Relaxed);
    session.client.set(flag::BLOCKED, true);
    worker.server.clients.blocked.fetch_add(1, Ordering::Relaxed);
    worker.server.pauses.wait(&session.client);
}

fn end_postponement(worker: &Worker, session: &Session) {
    session.client.argument_bytes.store(0, Ordering::Relaxed);
    session.client.set(flag::BLOCKED, false);
    worker.server.clients.blocked.fetch_sub(1, Ordering::Relaxed);
    worker.server.pauses.forget(&session.client);
}

/// Tells MONITOR of a command that has run.
#[inline]
pub fn show_to_monitors(worker: &Worker, session: &Session, db: usize, entry: &Entry, args: Args<'_>) {
    let hidden = entry.spec.flags.has(Flags::SKIP_MONITOR) || entry.spec.flags.has(Flags::ADMIN);
    if worker.has_monitors && !hidden {
        let source = if session.in_script { Source::Script } else { Source::Client(&session.client) };
        worker.server.feed_monitors(db, source, entry, args);
    }
}

#[inline]
fn run_replying(worker: &mut Worker, session: &mut Session, args: Args<'_>, known: Resolved, reply: &mut Reply) {
    while let Ran::Outdated = try_run(worker, session, args, known, reply) {
        worker.refresh();
    }
}

/// What became of a request.
enum Ran {
    Done,
    /// Nothing was done: settings changed after it was let in and before its locks were held (CLIENT PAUSE takes all of them), or a
    /// script has become busy that keeps what it needs.
    Outdated,
}

#[inline]
fn try_run(worker: &mut Worker, session: &mut Session, args: Args<'_>, known: Resolved, reply: &mut Reply) -> Ran {
    let plain = known.entry.filter(|entry| entry.subcommands.is_empty() && entry.spec.accepts_arity(args.len()));
    let entry = match plain.map_or_else(|| find(worker, args, known), Ok) {
        Ok(entry) => entry,
        Err(_) if is_browser(args) => {
            tracing::warn!(
                "Possible SECURITY ATTACK detected: a web page seems to send requests here. Connection closed."
            );
            session.closing = true;
            return Ran::Done;
        }
        Err(error) => {
            match known.entry {
                Some(entry) => refuse_known(worker, session, entry, error, reply),
                None => refuse(worker, session, &error, reply),
            }
            return Ran::Done;
        }
    };
    session.client.last_command.store(entry.id + 1, Ordering::Relaxed);
    worker.stats.running.note(entry.id);
    // Clients go before keys do.
    if worker.config.maxmemory_clients != MemoryLimit::Bytes(0)
        && !worker.server.make_room_for_client(&session.client, &worker.config, reply.memory())
    {
        return Ran::Done;
    }
    // Eviction takes locks of its own, so it is not for `admit`, which also runs inside EXEC.
    if let Err(error) =
        admit(worker, session, entry, args, known.hash).and_then(|()| evict::admit(worker, session, entry))
    {
        if error == error::LOADING && outwaits_load(worker, entry) {
            postpone(worker, session, args);
            return Ran::Done;
        }
        worker.stats.commands[entry.id].rejected.add(1);
        refuse_known(worker, session, entry, error, reply);
        return Ran::Done;
    }
    if session.receives_pushes && session.reply_mode == ReplyMode::On && session.client.has_mail() {
        // What eviction has just taken from this client's cache comes before the reply.
        session.client.take_outbox(reply.buffer_mut());
    }
    if worker.pause.mode != PauseMode::None && is_paused(worker, session, entry, args) {
        postpone(worker, session, args);
        return Ran::Done;
    }
    if session.transaction.is_some() && !runs_inside_multi(entry) {
        queue(session, entry, args, reply);
        return Ran::Done;
    }
    match entry.handler {
        Handler::Key(handler) => {
            let caller = acl::with_reach(Caller::of(session), worker, session, entry, args);
            let key = known.hash;
            if let Ran::Outdated = run_on_keys(worker, session, caller, (entry, handler), args, key, reply) {
                return Ran::Outdated;
            }
            show_to_monitors(worker, session, caller.db, entry, args);
        }
        Handler::Session(handler) => {
            let db = session.db;
            let needs_all = entry.spec.flags.has(Flags::ALL_SHARDS);
            let mut locked = needs_all.then(|| worker.server.lock(ShardSet::ALL)).flatten();
            if worker.is_outdated() || (needs_all && locked.is_none()) {
                return Ran::Outdated;
            }
            if entry.writes && locked.is_some() && !call::role_allows(worker, session.is_primary_link, reply) {
                return Ran::Done;
            }
            let mut context =
                SessionContext { worker, session, reply, locked: locked.as_mut(), deny_blocking: false, entry };
            match run_session(&mut context, handler, args) {
                SessionFlow::Done | SessionFlow::Blocked => {}
                SessionFlow::Close => session.closing = true,
                SessionFlow::Again => return Ran::Outdated,
            }
            worker.note_state();
            if let Some(mut locked) = locked {
                propagation::finish_unit(worker, &mut locked);
            } else if !session.is_primary_link {
                // What a primary's stream leaves here is appended by whoever applies it, under a lock.
                propagation::flush_unit(worker);
            }
            show_to_monitors(worker, session, db, entry, args);
        }
        Handler::Container => {}
    }
    Ran::Done
}

/// Runs a command on keys as a unit of its own. `hash` is that of its single key, if that is known already. One that finds nothing
/// may go to sleep under the locks with which it looked.
#[inline]
fn run_on_keys(
    worker: &mut Worker,
    session: &mut Session,
    caller: Caller,
    (entry, handler): (&'static Entry, KeyHandler),
    args: Args<'_>,
    hash: Option<u64>,
    reply: &mut Reply,
) -> Ran {
    let Some((mut locked, shards)) = call::lock(worker, caller, entry, args, hash) else { return Ran::Outdated };
    if worker.is_outdated() {
        return Ran::Outdated;
    }
    if entry.writes && !call::role_allows(worker, caller.is_replay, reply) {
        return Ran::Done;
    }
    if worker.has_open_slots
        && !caller.is_replay
        && let Err(error) = redirect::judge(worker, session, entry, args, Some(&locked))
    {
        reject(worker, entry, &error, reply);
        return Ran::Done;
    }
    match call::execute(worker, &mut locked, caller, entry, handler, args, reply) {
        KeyFlow::Done => {}
        KeyFlow::Block(block) if !caller.deny_blocking => {
            blocking::block(worker, session, &mut locked, shards, entry, args, block);
        }
        flow => blocking::answer_denied(flow, reply),
    }
    call::finish(worker, &mut locked, shards, entry);
    Ran::Done
}

/// Runs a session command's handler with its statistics; its error is written as the reply.
pub fn run_session(context: &mut SessionContext<'_>, handler: SessionHandler, args: Args<'_>) -> SessionFlow {
    let (start, entry) = (context.reply.len(), context.entry);
    let result = handler(context, args);
    if let Err(error) = &result {
        context.reply.truncate(start);
        context.reply.error_bytes(error.bytes());
    }
    if !matches!(result, Ok(SessionFlow::Again)) {
        call::finish_statistics(context.worker, entry, args, context.session.client.id, result.as_ref().err());
    }
    result.unwrap_or(SessionFlow::Done)
}

/// The command of arguments that did not come from a connection (a script's call, a line of the AOF).
pub fn find_command(worker: &Worker, args: Args<'_>) -> Result<&'static Entry, CommandError> {
    find(worker, args, Resolved::default())
}

/// The command or subcommand that a request names, whatever the number of its arguments.
pub fn find_name(worker: &Worker, args: Args<'_>) -> Option<&'static Entry> {
    let table = worker.server.table;
    let entry = table.find(&args[0])?;
    match args.get(1) {
        Some(name) if !entry.subcommands.is_empty() => table.find_sub(entry, name),
        _ => Some(entry),
    }
}

/// Finds the command of a request, its subcommand, and checks the number of arguments.
fn find(worker: &Worker, args: Args<'_>, known: Resolved) -> Result<&'static Entry, CommandError> {
    let table = worker.server.table;
    let entry = known.entry.or_else(|| table.find(&args[0])).ok_or_else(|| unknown_command(args))?;
    let entry = if entry.subcommands.is_empty() {
        entry
    } else {
        match args.get(1) {
            None if matches!(entry.handler, Handler::Container) => {
                return Err(CommandError::wrong_arity(&entry.full_name));
            }
            None => entry,
            Some(name) => {
                table.find_sub(entry, name).ok_or_else(|| CommandError::unknown_subcommand(&args[0], name))?
            }
        }
    };
    if !entry.spec.accepts_arity(args.len()) {
        worker.stats.commands[entry.id].rejected.add(1);
        return Err(CommandError::wrong_arity(&entry.full_name));
    }
    Ok(entry)
}

/// Whether a request is the beginning of HTTP: a browser that a foreign page makes talk to us (cross-protocol scripting).
fn is_browser(args: Args<'_>) -> bool {
    args.is(0, "post") || args.is(0, "host:")
}

/// The error for a name that is no command, with the beginning of the arguments as Redis shows them.
fn unknown_command(args: Args<'_>) -> CommandError {
    let name = error::shown(&args[0], SHOWN_MAX);
    let mut beginning = Vec::new();
    for arg in args.from(1).iter() {
        if beginning.len() >= SHOWN_MAX {
            break;
        }
        let arg = error::shown(arg, SHOWN_MAX - beginning.len());
        beginning.extend([b"'", arg, b"' "].concat());
    }
    CommandError::joined(&[b"ERR unknown command '", name, b"', with args beginning with: ", &beginning])
}

/// Whether a command may run now, here, for this client.
#[inline]
pub fn admit(
    worker: &mut Worker,
    session: &mut Session,
    entry: &Entry,
    args: Args<'_>,
    hash: Option<u64>,
) -> Result<(), CommandError> {
    let flags = entry.spec.flags;
    if !session.identity.is_free(worker.acl_generation) {
        acl::admit(worker, session, entry, args)?;
    }
    // A transaction is looked at as a whole; scripts are, command by command (`script::call`).
    if worker.settings.cluster_enabled && !session.is_primary_link && !session.in_exec && !session.in_script {
        redirect::admit(worker, session, entry, args, hash)?;
    }
    if session.transaction.is_some() && flags.has(Flags::NO_MULTI) {
        return Err(CommandError::fixed("ERR Command not allowed inside a transaction"));
    }
    if session.receives_pushes {
        session.forget_lost_channels(worker.server);
        admit_listener(session, entry)?;
    }
    if session.client.has(flag::REPLICA) && touches_keys(entry) {
        return Err(NOT_FOR_REPLICAS);
    }
    // A transaction is judged as a whole when EXEC comes, even if one of its own commands changes the role.
    if worker.server.is_replica.load(Ordering::Relaxed) && !session.is_primary_link && !session.in_exec {
        admit_on_replica(worker, session, entry)?;
    }
    if worker.in_special_state {
        admit_in_special_state(worker, session, entry)?;
    }
    Ok(())
}

/// Refusals that concern the whole server.
#[cold]
fn admit_in_special_state(worker: &Worker, session: &Session, entry: &Entry) -> Result<(), CommandError> {
    let flags = entry.spec.flags;
    // Before a busy script is looked at: that may be one of the file that is being loaded.
    if worker.server.loading.load(Ordering::Relaxed) && !flags.has(Flags::LOADING) && !session.is_primary_link {
        return Err(error::LOADING);
    }
    if worker.server.async_loading.load(Ordering::Relaxed) && flags.has(Flags::NO_ASYNC_LOADING) {
        return Err(error::LOADING);
    }
    // The primary's stream waits for the script's locks; a command of it that were refused would be lost.
    let may_interrupt = flags.has(Flags::ALLOW_BUSY) || session.in_script || session.is_primary_link;
    if worker.server.scripts.running.is_busy() && !may_interrupt {
        return Err(worker.server.scripts.running.busy_error());
    }
    if session.in_script && worker.script.has_written() {
        // It cannot be taken back any more, so it goes on.
        return Ok(());
    }
    if worker.server.save_status.is_alarmed() && (entry.writes || entry.spec.name == "ping") {
        check_saved(worker, session)?;
    }
    let writes =
        |worker: &Worker| entry.writes || queue_has(session, entry, |entry, args| would_write(worker, entry, args));
    if worker.config.min_replicas_to_write > 0 && !session.is_primary_link && writes(worker) {
        refuse_lonely_write(worker)?;
    }
    Ok(())
}

/// Whether the command is EXEC and one of the queued commands is such a one.
fn queue_has(session: &Session, entry: &Entry, wanted: impl Fn(&Entry, Args<'_>) -> bool) -> bool {
    let mut queued = session.transaction.iter().flat_map(|transaction| &transaction.queue);
    entry.full_name == "exec" && queued.any(|(entry, args)| wanted(entry, args.as_args()))
}

/// A queued command that writes, or a script whose flags say so.
pub(super) fn would_write(worker: &Worker, entry: &Entry, args: Args<'_>) -> bool {
    let flags = || worker.server.scripts.flags_of(entry, args);
    entry.writes
        || (entry.spec.flags.has(Flags::MAY_REPLICATE)
            && flags().is_some_and(|flags| !flags.is_legacy && !flags.no_writes))
}

/// What a client of a replica may run: no writes, and little while the data is out of date, unless the settings allow it.
fn admit_on_replica(worker: &Worker, session: &Session, entry: &Entry) -> Result<(), CommandError> {
    if worker.config.replica_read_only
        && (entry.writes || queue_has(session, entry, |entry, args| would_write(worker, entry, args)))
    {
        return Err(error::READ_ONLY_REPLICA);
    }
    let needs_fresh_data = |entry: &Entry| !entry.spec.flags.has(Flags::STALE);
    if !worker.config.replica_serve_stale_data
        && !worker.server.role.is_connected()
        && (needs_fresh_data(entry) || queue_has(session, entry, |entry, _| needs_fresh_data(entry)))
    {
        return Err(error::PRIMARY_DOWN);
    }
    Ok(())
}

/// Whether this server is a replica that has lost its primary and may not show what it has.
pub fn is_stale(worker: &Worker) -> bool {
    worker.server.is_replica.load(Ordering::Relaxed)
        && !worker.config.replica_serve_stale_data
        && !worker.server.role.is_connected()
}

/// What a client that listens to others may run.
fn admit_listener(session: &Session, entry: &Entry) -> Result<(), CommandError> {
    let is_allowed = entry.parent.is_none()
        && matches!(
            entry.spec.name,
            "ping"
                | "subscribe"
                | "ssubscribe"
                | "psubscribe"
                | "unsubscribe"
                | "sunsubscribe"
                | "punsubscribe"
                | "quit"
                | "reset"
        );
    if session.is_resp2_subscriber() && !is_allowed {
        return Err(CommandError::new(format!(
            "ERR Can't execute '{}': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed in this \
             context",
            entry.full_name
        )));
    }
    if session.client.has(flag::MONITOR) && touches_keys(entry) {
        return Err(NOT_FOR_REPLICAS);
    }
    Ok(())
}

/// For Redis a monitor is a kind of replica, too.
const NOT_FOR_REPLICAS: CommandError = CommandError::fixed("ERR Replica can't interact with the keyspace");

fn touches_keys(entry: &Entry) -> bool {
    entry.writes || entry.spec.flags.has(Flags::READONLY) || entry.spec.flags.has(Flags::MAY_REPLICATE)
}

/// Refuses a write that too few replicas would get (min-replicas-to-write).
pub fn refuse_lonely_write(worker: &Worker) -> Result<(), CommandError> {
    let (config, server) = (&worker.config, worker.server);
    let wanted = config.min_replicas_to_write as usize;
    if wanted == 0 || config.min_replicas_max_lag == 0 || server.is_replica.load(Ordering::Relaxed) {
        return Ok(());
    }
    if server.replicas.good.load(Ordering::Relaxed) < wanted { Err(error::NO_REPLICAS) } else { Ok(()) }
}

/// Refuses a write that could not be saved.
#[cold]
pub fn check_saved(worker: &Worker, session: &Session) -> Result<(), CommandError> {
    let (server, config) = (worker.server, &worker.config);
    if !server.save_status.is_alarmed() || session.is_primary_link || server.is_replica.load(Ordering::Relaxed) {
        return Ok(());
    }
    let status = &server.save_status;
    let bgsave_failed = status.last_bgsave_failed.load(Ordering::Relaxed);
    if bgsave_failed && config.stop_writes_on_bgsave_error && !config.save.is_empty() {
        return Err(error::MISCONF_RDB);
    }
    match status.aof.write_error.load(Ordering::Relaxed) {
        0 => Ok(()),
        errno => {
            let reason = std::io::Error::from_raw_os_error(errno as i32).to_string();
            let reason = reason.split(" (os error").next().unwrap_or_default().to_owned();
            Err(CommandError::new(format!("MISCONF Errors writing to the AOF file: {reason}")))
        }
    }
}

/// Counts and writes the refusal of a command of a transaction that is already running.
pub fn reject(worker: &Worker, entry: &Entry, error: &CommandError, reply: &mut Reply) {
    worker.stats.commands[entry.id].rejected.add(1);
    worker.stats.count_error(error.code());
    reply.error_bytes(error.bytes());
}

/// Refuses a request; inside MULTI this also spoils the transaction.
fn refuse(worker: &Worker, session: &mut Session, error: &CommandError, reply: &mut Reply) {
    if let Some(transaction) = &mut session.transaction {
        transaction.aborted = true;
    }
    worker.stats.count_error(error.code());
    reply.error_bytes(error.bytes());
}

/// The same for a command that exists; an EXEC that is refused ends its transaction, if there is one.
fn refuse_known(worker: &mut Worker, session: &mut Session, entry: &Entry, error: CommandError, reply: &mut Reply) {
    if entry.spec.name != "exec" {
        return refuse(worker, session, &error, reply);
    }
    multi::end(worker, session);
    if redirect::is_redirection(&error) {
        return refuse(worker, session, &error, reply);
    }
    let error = CommandError::joined(&[b"EXECABORT Transaction discarded because of: ", error.reason()]);
    refuse(worker, session, &error, reply);
}

/// The commands that MULTI does not queue.
pub fn runs_inside_multi(entry: &Entry) -> bool {
    matches!(entry.spec.name, "exec" | "discard" | "multi" | "watch" | "quit" | "reset") && entry.parent.is_none()
}

fn queue(session: &mut Session, entry: &'static Entry, args: Args<'_>, reply: &mut Reply) {
    let Some(transaction) = &mut session.transaction else { return };
    let owned = args.to_owned();
    transaction.bytes += owned.memory();
    transaction.queue.push((entry, owned));
    session.client.multi.store(transaction.queue.len() as i64, Ordering::Relaxed);
    session.client.multi_bytes.store(transaction.bytes, Ordering::Relaxed);
    reply.raw(b"+QUEUED\r\n");
}

/// The end of a connection: nothing of it may stay in any registry. False if a busy script keeps what it would have to be taken out
/// of: to be tried again.
pub fn close_session(worker: &mut Worker, session: &mut Session) -> bool {
    if let Some(blocked) = &session.blocked
        && !blocking::forget(worker.server, &blocked.ticket)
    {
        return false;
    }
    session.blocked = None;
    multi::forget_watches(worker, session, None);
    if !session.stale_watches.is_empty() {
        return false;
    }
    if session.postponed.take().is_some() {
        end_postponement(worker, session);
    }
    multi::end(worker, session);
    session.stop_tracking(worker.server);
    session.unsubscribe_all(worker.server);
    worker.server.remove_monitor(&session.client);
    worker.server.clients.remove(session.client.id);
    worker.server.clients.uncount(&session.client);
    true
}
