//! MIGRATE's clients: each sleeps while a task above moves its keys to another server and ends the sleep with a reply.

use super::blocking::Blocked;
use super::clients::{Client, flag};
use super::session::{ReplyMode, Session};
use super::state::Server;
use crate::engine::keyspace::ShardSet;
use crate::engine::keyspace::waiters::Ticket;
use crate::resp::Reply;
use atomic_waker::AtomicWaker;
use bytes::Bytes;
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

/// What MIGRATE asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Request {
    pub host: String,
    pub port: u16,
    pub target_db: i64,
    pub timeout_ms: u64,
    pub copy: bool,
    pub replace: bool,
    /// Arguments of AUTH.
    pub auth: Vec<Box<[u8]>>,
    pub keys: Vec<Box<[u8]>>,
}

/// A request with the client that waits for its end.
pub struct Migration {
    pub request: Request,
    pub db: usize,
    client: Arc<Client>,
    resp3: bool,
    is_muted: bool,
}

/// The payload of such a client's ticket: nobody but the task ends its sleep.
struct Migrating;

#[derive(Default)]
pub struct Migrations {
    queue: Mutex<VecDeque<Migration>>,
    waker: AtomicWaker,
    /// Connections to other servers that are kept for the next MIGRATE.
    pub cached_sockets: AtomicUsize,
}

impl Migrations {
    /// For the one task that migrates: takes the next request, or leaves a waker for it.
    pub fn poll_next(&self, context: &mut Context<'_>) -> Poll<Migration> {
        self.waker.register(context.waker());
        self.queue.lock().pop_front().map_or(Poll::Pending, Poll::Ready)
    }
}

/// Puts the session to sleep until its keys have moved.
pub fn block(server: &Server, session: &mut Session, request: Request) {
    let migration = Migration {
        request,
        db: session.db,
        client: Arc::clone(&session.client),
        resp3: session.resp3,
        is_muted: session.reply_mode != ReplyMode::On,
    };
    let ticket = Ticket::new(ShardSet::EMPTY, false, None, Box::new(Migrating));
    session.client.set(flag::BLOCKED, true);
    *session.client.waiting.lock() = Some(Arc::clone(&ticket));
    session.blocked = Some(Blocked { ticket, deadline_ms: None });
    server.clients.blocked.fetch_add(1, Ordering::Relaxed);
    server.migrations.queue.lock().push_back(migration);
    server.migrations.waker.wake();
}

impl Migration {
    /// Ends the sleep. The client may be gone by now; its keys have moved all the same.
    pub fn end(self, server: &Server, write: impl FnOnce(&mut Reply)) {
        let mut reply = Reply::new(self.resp3);
        write(&mut reply);
        self.client.set(flag::BLOCKED, false);
        *self.client.waiting.lock() = None;
        server.clients.blocked.fetch_sub(1, Ordering::Relaxed);
        let reply = if self.is_muted { Bytes::new() } else { Bytes::copy_from_slice(reply.as_bytes()) };
        self.client.unblock(reply);
    }
}
