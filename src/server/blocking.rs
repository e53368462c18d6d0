//! Clients blocked on keys: going to sleep, being served by whoever fills a key, timing out.
//!
//! ```text
//!                 ┌────────── served (giver, under its locks) ──────────┐
//!   running ─► blocked ───── timed out (own worker) ─────────────────────┼─► running
//!                 └────────── UNBLOCK, role change (others) ─────────────┘
//! ```
//! Whoever ends the wait holds the shards of the ticket and wins `claim`; so exactly one of them does.

use super::call::{self, Caller};
use super::clients::{Client, flag};
use super::propagation;
use super::session::Session;
use super::state::Server;
use super::table::Entry;
use super::worker::Worker;
use crate::commands::context::{Block, KeyFlow, OnTimeout};
use crate::engine::keyspace::waiters::Ticket;
use crate::engine::keyspace::{Locked, ShardSet, shard_of};
use crate::resp::{Args, OwnedArgs, Reply};
use bytes::Bytes;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// What a giver needs to serve a blocked client.
struct Waiting {
    client: Arc<Client>,
    entry: &'static Entry,
    args: OwnedArgs,
    db: usize,
    resp3: bool,
    no_touch: bool,
    on_timeout: OnTimeout,
    keys: Vec<Box<[u8]>>,
}

/// The session's side of a wait.
pub struct Blocked {
    pub ticket: Arc<Ticket>,
    /// Milliseconds since the epoch.
    pub deadline_ms: Option<i64>,
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

/// Puts a session to sleep on the keys of `block`. The caller still holds the locks under which nothing was found.
pub fn block(
    worker: &Worker,
    session: &mut Session,
    locked: &mut Locked,
    entry: &'static Entry,
    args: Args<'_>,
    block: Block,
) {
    let mut shards = locked.set();
    for key in &block.keys {
        shards.insert(shard_of(Locked::hash(key)));
    }
    let waiting = Waiting {
        client: Arc::clone(&session.client),
        entry,
        args: block.args.unwrap_or_else(|| args.to_owned()),
        db: session.db,
        resp3: session.resp3,
        no_touch: session.client.has(flag::NO_TOUCH),
        on_timeout: block.on_timeout,
        keys: block.keys.clone(),
    };
    let ticket = Ticket::new(shards, block.wakes_on_delete, Box::new(waiting));
    for key in &block.keys {
        locked.shard_mut(shard_of(Locked::hash(key))).waiters.add(session.db, key, &ticket);
    }
    let deadline_ms = block.timeout_ms.map(|ms| worker.now_ms.saturating_add_unsigned(ms));
    session.blocked = Some(Blocked { ticket: Arc::clone(&ticket), deadline_ms });
    session.client.set(flag::BLOCKED, true);
    *session.client.waiting.lock() = Some(ticket);
    worker.server.clients.blocked.fetch_add(1, Ordering::Relaxed);
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
    while !worker.ready.is_empty() {
        let ready = std::mem::take(&mut worker.ready);
        let mut seen: Vec<(usize, Box<[u8]>)> = Vec::with_capacity(ready.len());
        for (db, key) in ready {
            if seen.iter().any(|(seen_db, seen_key)| *seen_db == db && *seen_key == key) {
                continue;
            }
            let shard = shard_of(Locked::hash(&key));
            for ticket in locked.shard(shard).waiters.of(db, &key) {
                serve(worker, locked, &ticket);
            }
            seen.push((db, key));
        }
    }
}

/// Runs the command of one ticket again; it stays in its queues if there is still nothing for it.
fn serve(worker: &mut Worker, locked: &mut Locked, ticket: &Arc<Ticket>) {
    let Some(waiting) = ticket.payload.downcast_ref::<Waiting>() else { return };
    let Some(handler) = call::key_handler(waiting.entry) else { return };
    if ticket.is_claimed() || !locked.set().covers(ticket.shards) {
        return;
    }
    let mut reply = Reply::new(waiting.resp3);
    let caller = Caller {
        no_touch: waiting.no_touch,
        deny_blocking: false,
        client: waiting.client.id,
        ..Caller::internal(waiting.db)
    };
    worker.planned.clear();
    let args = waiting.args.as_args();
    let flow = call::execute_again(worker, locked, caller, waiting.entry, handler, args, &mut reply);
    if let KeyFlow::Block(_) = flow {
        return;
    }
    propagation::flush_unit(worker);
    if ticket.claim() {
        leave_queues(locked, ticket, waiting);
        end(worker.server, waiting, &reply);
    }
}

/// Ends a wait with the reply of a time-out, or an error. Does nothing if the client was served meanwhile.
pub fn release(server: &'static Server, ticket: &Arc<Ticket>, how: Release) -> bool {
    let Some(waiting) = ticket.payload.downcast_ref::<Waiting>() else { return false };
    let mut locked = server.keyspace.lock(ticket.shards);
    release_locked(server, &mut locked, ticket, waiting, how)
}

/// The same for a caller that has every shard.
pub fn release_all(server: &'static Server, locked: &mut Locked, how: Release) {
    let shards = ShardSet::ALL.iter();
    let tickets: Vec<Arc<Ticket>> =
        shards.flat_map(|shard| locked.shard(shard).waiters.all().cloned().collect::<Vec<_>>()).collect();
    for ticket in tickets {
        if let Some(waiting) = ticket.payload.downcast_ref::<Waiting>() {
            release_locked(server, locked, &ticket, waiting, how);
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
        Release::Error => reply.error("UNBLOCKED client unblocked via CLIENT UNBLOCK"),
        Release::RoleChange => {
            reply.error("UNBLOCKED force unblock from blocking operation, instance state changed (master -> replica?)");
        }
    }
    end(server, waiting, &reply);
    true
}

/// The connection is gone: its ticket must not take anything any more.
pub fn forget(server: &'static Server, ticket: &Arc<Ticket>) {
    let Some(waiting) = ticket.payload.downcast_ref::<Waiting>() else { return };
    let mut locked = server.keyspace.lock(ticket.shards);
    if ticket.claim() {
        leave_queues(&mut locked, ticket, waiting);
        server.clients.blocked.fetch_sub(1, Ordering::Relaxed);
    }
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
    waiting.client.unblock(Bytes::copy_from_slice(reply.as_bytes()));
}
