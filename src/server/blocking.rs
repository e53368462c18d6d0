//! Clients blocked on keys: going to sleep, being served by whoever fills a key, timing out.
//!
//! ```text
//!                 ┌────────── served (giver, under its locks) ──────────┐
//!   running ─► blocked ───── timed out (own worker) ─────────────────────┼─► running
//!                 └────────── UNBLOCK, role change (others) ─────────────┘
//! ```
//! Where time alone can make an answer (XREADGROUP with CLAIM) the own worker looks again now and then.
//! Whoever ends the wait holds the shards of the ticket and wins `claim`; so exactly one of them does.

use super::ack_wait;
use super::acl::admit::{Sleeper, Wake, admit_sleeper};
use super::call::{self, Caller};
use super::clients::{Client, flag};
use super::intents;
use super::pause::PauseMode;
use super::plan;
use super::propagation;
use super::session::{ReplyMode, Session};
use super::state::Server;
use super::table::Entry;
use super::worker::Worker;
use crate::base::clock;
use crate::commands::context::{Block, KeyFlow, OnTimeout};
use crate::commands::error::CommandError;
use crate::commands::keyspec::KeyFlags;
use crate::commands::spec::Group;
use crate::engine::keyspace::waiters::Ticket;
use crate::engine::keyspace::{Locked, ShardSet, shard_of};
use crate::engine::value::Kind;
use crate::resp::{Args, OwnedArgs, Reply};
use bytes::Bytes;
use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

/// What a giver needs to serve a blocked client.
struct Waiting {
    client: Arc<Client>,
    entry: &'static Entry,
    args: OwnedArgs,
    db: usize,
    resp3: bool,
    /// CLIENT REPLY OFF or SKIP was in force.
    is_muted: bool,
    no_touch: bool,
    on_timeout: OnTimeout,
    keys: Vec<Box<[u8]>>,
    user: Sleeper,
    /// When to look again though nothing has changed; `NEVER` for most.
    look_again_ms: AtomicI64,
}

const NEVER: i64 = i64::MAX;

impl Waiting {
    /// Whether a key that holds this (nothing: it is gone) may be what the client waits for. Redis leaves a client blocked whose
    /// key has become something else than it waits for.
    fn may_be_served_by(&self, held: Option<Kind>, wakes_on_delete: bool) -> bool {
        let Some(kind) = held else { return wakes_on_delete };
        match self.entry.spec.group {
            Group::List => kind == Kind::List,
            Group::SortedSet => kind == Kind::ZSet,
            Group::Stream => kind == Kind::Stream || wakes_on_delete,
            _ => true,
        }
    }
}

/// The session's side of a wait.
pub struct Blocked {
    pub ticket: Arc<Ticket>,
    /// Milliseconds since the epoch.
    pub deadline_ms: Option<i64>,
}

impl Blocked {
    /// When the session's own task has something to do about the wait: to look again, or to end it.
    pub fn due_ms(&self) -> Option<i64> {
        let waiting = self.ticket.payload.downcast_ref::<Waiting>();
        let look_ms = waiting.map_or(NEVER, |waiting| waiting.look_again_ms.load(Ordering::Relaxed));
        let due_ms = look_ms.min(self.deadline_ms.unwrap_or(NEVER));
        Some(due_ms).filter(|due_ms| *due_ms != NEVER)
    }
}

/// How a wait is ended from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Release {
    Timeout,
    /// CLIENT UNBLOCK … ERROR.
    Error,
    /// This server has become a replica.
    RoleChange,
}

impl Release {
    /// What a client is told whose wait did not simply run out.
    pub fn error_text(self) -> &'static str {
        match self {
            Release::Timeout | Release::Error => "UNBLOCKED client unblocked via CLIENT UNBLOCK",
            Release::RoleChange => {
                "UNBLOCKED force unblock from blocking operation, instance state changed (master -> replica?)"
            }
        }
    }
}

/// Puts a session to sleep on the keys of `block`. The caller still holds the locks under which nothing was found; `shards` are
/// those that the command itself needs.
pub fn block(
    worker: &Worker,
    session: &mut Session,
    locked: &mut Locked,
    shards: ShardSet,
    entry: &'static Entry,
    args: Args<'_>,
    block: Block,
) {
    let waiting = Waiting {
        client: Arc::clone(&session.client),
        entry,
        args: block.args.unwrap_or_else(|| args.to_owned()),
        db: session.db,
        resp3: session.resp3,
        is_muted: session.reply_mode != ReplyMode::On,
        no_touch: session.client.has(flag::NO_TOUCH),
        on_timeout: block.on_timeout,
        keys: block.keys.clone(),
        user: session.sleeper(),
        look_again_ms: AtomicI64::new(block.look_again_ms.unwrap_or(NEVER)),
    };
    let gives_to = given_key(entry, args).map(Box::from);
    let ticket = Ticket::new(shards, block.wakes_on_delete, gives_to, Box::new(waiting));
    for key in &block.keys {
        locked.shard_mut(shard_of(Locked::hash(key))).waiters.add(session.db, key, &ticket);
    }
    let deadline_ms = block.timeout_ms.map(|ms| worker.now_ms.saturating_add_unsigned(ms));
    session.blocked = Some(Blocked { ticket: Arc::clone(&ticket), deadline_ms });
    session.client.set(flag::BLOCKED, true);
    *session.client.waiting.lock() = Some(ticket);
    worker.server.clients.blocked.fetch_add(1, Ordering::Relaxed);
}

/// The key that a command fills when it is served: the destination of BLMOVE.
fn given_key<'a>(entry: &Entry, args: Args<'a>) -> Option<&'a [u8]> {
    let mut given = None;
    plan::visit_keys(entry, args, &mut |index, flags| {
        if flags.has(KeyFlags::INSERT) {
            given = args.get(index);
        }
    });
    given
}

/// A blocking command that may not block answers as if its time were up.
pub fn answer_denied(flow: KeyFlow, reply: &mut Reply) {
    if let KeyFlow::Block(block) = flow {
        write_timeout(block.on_timeout, reply);
    }
}

fn write_timeout(on_timeout: OnTimeout, reply: &mut Reply) {
    match on_timeout {
        OnTimeout::Null => reply.null(),
        OnTimeout::NullArray => reply.null_array(),
    }
}

/// Serves those who wait for the keys that have become ready, first come first served, until no key is ready any more.
pub fn serve_ready(worker: &mut Worker, locked: &mut Locked) {
    // A transaction keeps one time from start to end; whether what it left has expired by now is another question.
    worker.now_ms = clock::unix_ms();
    while !worker.ready.is_empty() {
        let ready = std::mem::take(&mut worker.ready);
        if let [(db, key)] = &ready[..] {
            serve_key(worker, locked, *db, key);
            continue;
        }
        let mut seen = HashSet::with_capacity(ready.len());
        for (db, key) in &ready {
            if seen.insert((db, key)) {
                serve_key(worker, locked, *db, key);
            }
        }
    }
}

/// What became of one ticket.
enum Served {
    Yes,
    /// There is nothing for it: it stays in its queues.
    No,
    /// It needs shards that are not locked here.
    Later,
}

/// Serves the queue of one key.
fn serve_key(worker: &mut Worker, locked: &mut Locked, db: usize, key: &[u8]) {
    let hash = Locked::hash(key);
    let shard = shard_of(hash);
    if !locked.set().contains(shard) {
        worker.overdue.push((db, key.into()));
        return;
    }
    let held = |locked: &Locked| locked.db(hash, db).and_then(|part| part.find(hash, key)).map(|record| record.kind());
    let mut kind = held(locked);
    let mut index = 0;
    loop {
        let waiters = &locked.shard(shard).waiters;
        if kind.is_none() && !waiters.wake_on_delete(db, key) {
            return;
        }
        let Some(ticket) = waiters.at(db, key, index).cloned() else { return };
        match serve(worker, locked, &ticket, kind) {
            Served::Yes => kind = held(locked),
            Served::No => index += 1,
            // Nobody behind it may overtake.
            Served::Later => {
                worker.overdue.push((db, key.into()));
                return;
            }
        }
    }
}

/// Runs the command of one ticket again; its key holds a value of `kind`.
fn serve(worker: &mut Worker, locked: &mut Locked, ticket: &Arc<Ticket>, kind: Option<Kind>) -> Served {
    let Some(waiting) = ticket.payload.downcast_ref::<Waiting>() else { return Served::No };
    let Some(handler) = call::key_handler(waiting.entry) else { return Served::No };
    if ticket.is_claimed() || !waiting.may_be_served_by(kind, ticket.wakes_on_delete) {
        return Served::No;
    }
    if !locked.set().covers(ticket.shards) {
        return Served::Later;
    }
    let mut reply = Reply::new(waiting.resp3);
    let args = waiting.args.as_args();
    match admit_sleeper(worker.server, &waiting.user, &waiting.client, waiting.entry, args) {
        Wake::Serve => {}
        Wake::Leave => return Served::No,
        Wake::Refuse(error) => {
            if ticket.claim() {
                super::dispatch::reject(worker, waiting.entry, &error, &mut reply);
                leave_queues(locked, ticket, waiting);
                end(worker.server, waiting, &reply);
            }
            return Served::Yes;
        }
    }
    let caller = Caller {
        no_touch: waiting.no_touch,
        deny_blocking: false,
        is_woken: true,
        client: waiting.client.id,
        ..Caller::internal(waiting.db)
    };
    worker.planned.clear();
    let flow = call::execute_again(worker, locked, caller, waiting.entry, handler, args, &mut reply);
    // Even one that found nothing may have found its key expired, which the stream must know.
    propagation::flush_unit(worker);
    if let KeyFlow::Block(block) = flow {
        waiting.look_again_ms.store(block.look_again_ms.unwrap_or(NEVER), Ordering::Relaxed);
        return Served::No;
    }
    if ticket.claim() {
        leave_queues(locked, ticket, waiting);
        end(worker.server, waiting, &reply);
    }
    Served::Yes
}

/// Runs a blocked command again, because time has passed. False if that must be tried later: its shards are a busy script's, or
/// clients are paused.
pub fn look_again(worker: &mut Worker, ticket: &Arc<Ticket>) -> bool {
    worker.refresh();
    if worker.pause.mode != PauseMode::None {
        return false;
    }
    let Some(waiting) = ticket.payload.downcast_ref::<Waiting>() else { return true };
    let Some(mut locked) = worker.server.lock(ticket.shards) else { return false };
    if worker.is_outdated() {
        return false;
    }
    // Whatever becomes of it, it is not looked at for the same reason again.
    waiting.look_again_ms.store(NEVER, Ordering::Relaxed);
    serve(worker, &mut locked, ticket, Some(Kind::Stream));
    serve_ready(worker, &mut locked);
    drop(locked);
    // The next command on this worker has not written it.
    worker.appended = 0;
    if !worker.overdue.is_empty() {
        serve_overdue(worker);
    }
    true
}

/// Serves those whose shards the giver did not hold: it has let go of its own by now. Only commands whose keys nobody can foresee
/// (MOVE to another database) come here.
pub fn serve_overdue(worker: &mut Worker) {
    while let Some((db, key)) = worker.overdue.pop() {
        let server = worker.server;
        let locked = server.lock(ShardSet::one(shard_of(Locked::hash(&key))));
        let locked = locked
            .and_then(|locked| plan::widen(server, locked, |locked| plan::needed_by_waiters(locked, db, vec![&key])));
        let Some(mut locked) = locked else {
            // A busy script keeps them: this worker's next command tries again.
            worker.overdue.push((db, key));
            return;
        };
        worker.ready.push((db, key));
        serve_ready(worker, &mut locked);
    }
}

/// Whole databases have changed hands (SWAPDB) or content (FLUSHALL): whoever waits for one of their keys looks again.
pub fn databases_changed(worker: &mut Worker, locked: &Locked, dbs: impl Iterator<Item = usize> + Clone) {
    for shard in locked.set().iter() {
        for db in dbs.clone() {
            worker.ready.extend(locked.shard(shard).waiters.keys_of(db).map(|key| (db, key.into())));
        }
    }
}

/// Ends a wait with the reply of a time-out, or an error; false if the client was served meanwhile, nothing if a busy script keeps
/// the shards: to be tried again. The caller holds no shard.
pub fn release(server: &'static Server, ticket: &Arc<Ticket>, how: Release) -> Option<bool> {
    if let Some(released) = ack_wait::release(server, ticket, how) {
        return Some(released);
    }
    let Some(waiting) = ticket.payload.downcast_ref::<Waiting>() else { return Some(false) };
    let mut locked = server.lock(ticket.shards)?;
    Some(release_locked(server, &mut locked, ticket, waiting, how))
}

/// The same for a caller that may hold shards itself (CLIENT UNBLOCK inside EXEC). Those that it lacks are not taken out of order:
/// the wait is ended when the caller has let go of its own.
pub fn release_from(worker: &mut Worker, held: Option<&mut Locked>, ticket: &Arc<Ticket>, how: Release) -> bool {
    if let Some(released) = ack_wait::release(worker.server, ticket, how) {
        return released;
    }
    match held {
        None => match release(worker.server, ticket, how) {
            Some(released) => count_release(worker, ticket, how, released),
            None => {
                worker.releases.push((Arc::clone(ticket), how));
                !ticket.is_claimed()
            }
        },
        Some(locked) if locked.set().covers(ticket.shards) => {
            let Some(waiting) = ticket.payload.downcast_ref::<Waiting>() else { return false };
            let released = release_locked(worker.server, locked, ticket, waiting, how);
            count_release(worker, ticket, how, released)
        }
        Some(_) => {
            let waits = !ticket.is_claimed();
            worker.releases.push((Arc::clone(ticket), how));
            waits
        }
    }
}

/// A wait that ended with an error counts as a call that failed. The call itself was counted when it began.
fn count_release(worker: &Worker, ticket: &Ticket, how: Release, released: bool) -> bool {
    if let (true, Release::Error, Some(waiting)) = (released, how, ticket.payload.downcast_ref::<Waiting>()) {
        worker.stats.commands[waiting.entry.id].failed.add(1);
        worker.stats.count_error("UNBLOCKED");
    }
    released
}

/// What had to wait until this worker held no shard any more.
#[cold]
pub fn finish_deferred(worker: &mut Worker) {
    for (ticket, how) in std::mem::take(&mut worker.releases) {
        match release(worker.server, &ticket, how) {
            Some(released) => {
                count_release(worker, &ticket, how, released);
            }
            None => worker.releases.push((ticket, how)),
        }
    }
    serve_overdue(worker);
}

/// The same for a caller that has every shard.
pub fn release_all(server: &'static Server, locked: &mut Locked, how: Release) {
    ack_wait::release_all(server, how);
    let shards = ShardSet::ALL.iter();
    let tickets: Vec<Arc<Ticket>> =
        shards.flat_map(|shard| locked.shard(shard).waiters.all().cloned().collect::<Vec<_>>()).collect();
    for ticket in tickets {
        if let Some(waiting) = ticket.payload.downcast_ref::<Waiting>() {
            release_locked(server, locked, &ticket, waiting, how);
        }
    }
}

/// Ends the waits for keys of which somebody says why they are in vain: the client, its command and its first key are shown. The
/// caller has every shard.
pub fn release_if(
    server: &'static Server,
    locked: &mut Locked,
    why: impl Fn(&Client, &Entry, &[u8]) -> Option<CommandError>,
) {
    let shards = ShardSet::ALL.iter();
    let tickets: Vec<Arc<Ticket>> =
        shards.flat_map(|shard| locked.shard(shard).waiters.all().cloned().collect::<Vec<_>>()).collect();
    for ticket in tickets {
        let Some(waiting) = ticket.payload.downcast_ref::<Waiting>() else { continue };
        let key = waiting.keys.first().map_or(&b""[..], |key| key);
        if let Some(error) = why(&waiting.client, waiting.entry, key)
            && ticket.claim()
        {
            leave_queues(locked, &ticket, waiting);
            let mut reply = Reply::new(waiting.resp3);
            reply.error_bytes(error.bytes());
            end(server, waiting, &reply);
        }
    }
}

fn release_locked(server: &Server, locked: &mut Locked, ticket: &Arc<Ticket>, waiting: &Waiting, how: Release) -> bool {
    if !ticket.claim() {
        return false;
    }
    leave_queues(locked, ticket, waiting);
    let mut reply = Reply::new(waiting.resp3);
    match how {
        Release::Timeout => write_timeout(waiting.on_timeout, &mut reply),
        Release::Error => reply.error(how.error_text()),
        Release::RoleChange => {
            reply.error(how.error_text());
            waiting.client.set(flag::CLOSE_AFTER_REPLY, true);
        }
    }
    end(server, waiting, &reply);
    true
}

/// The connection is gone: its ticket must not take anything any more. False if a busy script keeps the shards.
pub fn forget(server: &'static Server, ticket: &Arc<Ticket>) -> bool {
    if ack_wait::forget(server, ticket) || intents::forget(server, ticket) {
        return true;
    }
    let Some(waiting) = ticket.payload.downcast_ref::<Waiting>() else { return true };
    let Some(mut locked) = server.lock(ticket.shards) else { return false };
    if ticket.claim() {
        leave_queues(&mut locked, ticket, waiting);
        server.clients.blocked.fetch_sub(1, Ordering::Relaxed);
    }
    true
}

fn leave_queues(locked: &mut Locked, ticket: &Arc<Ticket>, waiting: &Waiting) {
    for key in &waiting.keys {
        locked.shard_mut(shard_of(Locked::hash(key))).waiters.remove(waiting.db, key, ticket);
    }
}

fn end(server: &Server, waiting: &Waiting, reply: &Reply) {
    waiting.client.set(flag::BLOCKED, false);
    *waiting.client.waiting.lock() = None;
    server.clients.blocked.fetch_sub(1, Ordering::Relaxed);
    let reply = if waiting.is_muted { Bytes::new() } else { Bytes::copy_from_slice(reply.as_bytes()) };
    waiting.client.unblock(reply);
}
