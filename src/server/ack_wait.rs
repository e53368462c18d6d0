//! WAIT and WAITAOF: a client sleeps until replicas (or the append-only files) have what it wrote.
//!
//! ```text
//!   WAIT ─► enough acknowledgements? ─ yes ─► reply
//!                 │ no: GETACK into the stream
//!                 ▼
//!             asleep ── an acknowledgement, the mark of the file, the deadline ──► reply with the counts
//! ```
//! Such a client waits for no key, so its ticket stands in no queue of the keyspace but in `replicas.waits`.

use super::blocking::{Blocked, Release};
use super::clients::{Client, flag};
use super::session::{ReplyMode, Session};
use super::state::Server;
use super::worker::Worker;
use crate::engine::keyspace::ShardSet;
use crate::engine::keyspace::waiters::Ticket;
use crate::resp::Reply;
use bytes::Bytes;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// What a client waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// So many replicas that have the offset.
    Replicas(usize),
    /// So many append-only files that have it on disk: this server's (0 or 1), and replicas'.
    Files { local: usize, replicas: usize },
}

/// A client in WAIT or WAITAOF.
pub struct AckWait {
    client: Arc<Client>,
    offset: u64,
    wanted: Wanted,
    resp3: bool,
    /// CLIENT REPLY OFF or SKIP was in force.
    is_muted: bool,
}

/// What there is at a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reached {
    local: usize,
    replicas: usize,
}

impl Reached {
    pub fn of(server: &Server, offset: u64, wanted: Wanted) -> Self {
        match wanted {
            Wanted::Replicas(_) => {
                Reached { local: 0, replicas: server.replicas.count_online(|replica| replica.ack() >= offset) }
            }
            Wanted::Files { .. } => {
                let file = |replica: &super::replicas::Replica| replica.fack_offset.load(Ordering::Acquire);
                let is_written = server.save_status.aof.enabled.load(Ordering::Acquire);
                Reached {
                    local: usize::from(is_written && server.journal.marks.durable() >= offset),
                    replicas: server.replicas.count_online(|replica| file(replica) >= offset),
                }
            }
        }
    }

    pub fn satisfies(self, wanted: Wanted) -> bool {
        match wanted {
            Wanted::Replicas(replicas) => self.replicas >= replicas,
            Wanted::Files { local, replicas } => self.local >= local && self.replicas >= replicas,
        }
    }

    pub fn write(self, wanted: Wanted, reply: &mut Reply) {
        match wanted {
            Wanted::Replicas(_) => reply.integer(self.replicas as i64),
            Wanted::Files { .. } => {
                reply.array(2);
                reply.integer(self.local as i64);
                reply.integer(self.replicas as i64);
            }
        }
    }
}

/// Puts the session to sleep.
pub fn block(worker: &Worker, session: &mut Session, offset: u64, wanted: Wanted, timeout_ms: u64) {
    let server = worker.server;
    let wait = AckWait {
        client: Arc::clone(&session.client),
        offset,
        wanted,
        resp3: session.resp3,
        is_muted: session.reply_mode != ReplyMode::On,
    };
    let ticket = Ticket::new(ShardSet::EMPTY, false, None, Box::new(wait));
    let deadline_ms = (timeout_ms > 0).then(|| worker.now_ms.saturating_add_unsigned(timeout_ms));
    session.blocked = Some(Blocked { ticket: Arc::clone(&ticket), deadline_ms });
    session.client.set(flag::BLOCKED, true);
    *session.client.waiting.lock() = Some(Arc::clone(&ticket));
    server.clients.blocked.fetch_add(1, Ordering::Relaxed);
    server.replicas.add_wait(ticket);
    // What was acknowledged since the handler looked.
    server.check_ack_waits();
}

impl Server {
    /// To be called when an acknowledgement has come, or the file has grown.
    pub fn check_ack_waits(&self) {
        if !self.replicas.has_waits() {
            return;
        }
        for ticket in self.replicas.waits() {
            let Some(wait) = ticket.payload.downcast_ref::<AckWait>() else { continue };
            let reached = Reached::of(self, wait.offset, wait.wanted);
            if reached.satisfies(wait.wanted) && ticket.claim() {
                self.end_ack_wait(&ticket, wait, |reply| reached.write(wait.wanted, reply));
            }
        }
    }

    fn end_ack_wait(&self, ticket: &Arc<Ticket>, wait: &AckWait, write: impl FnOnce(&mut Reply)) {
        self.replicas.forget_wait(ticket);
        let mut reply = Reply::new(wait.resp3);
        write(&mut reply);
        wait.client.set(flag::BLOCKED, false);
        *wait.client.waiting.lock() = None;
        self.clients.blocked.fetch_sub(1, Ordering::Relaxed);
        let reply = if wait.is_muted { Bytes::new() } else { Bytes::copy_from_slice(reply.as_bytes()) };
        wait.client.unblock(reply);
    }
}

/// Ends such a wait from outside; nothing if the ticket is none of these.
pub fn release(server: &Server, ticket: &Arc<Ticket>, how: Release) -> Option<bool> {
    let wait = ticket.payload.downcast_ref::<AckWait>()?;
    if !ticket.claim() {
        return Some(false);
    }
    let reached = Reached::of(server, wait.offset, wait.wanted);
    server.end_ack_wait(ticket, wait, |reply| match how {
        Release::Timeout => reached.write(wait.wanted, reply),
        Release::Error | Release::RoleChange => reply.error(how.error_text()),
    });
    Some(true)
}

/// Ends all such waits.
pub fn release_all(server: &Server, how: Release) {
    for ticket in server.replicas.waits() {
        release(server, &ticket, how);
    }
}

/// The connection is gone. True if the ticket was one of these.
pub fn forget(server: &Server, ticket: &Arc<Ticket>) -> bool {
    if ticket.payload.downcast_ref::<AckWait>().is_none() {
        return false;
    }
    server.replicas.forget_wait(ticket);
    if ticket.claim() {
        server.clients.blocked.fetch_sub(1, Ordering::Relaxed);
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_counts_must_be_reached() {
        let wanted = Wanted::Files { local: 1, replicas: 2 };
        assert!(!Reached { local: 0, replicas: 3 }.satisfies(wanted));
        assert!(!Reached { local: 1, replicas: 1 }.satisfies(wanted));
        assert!(Reached { local: 1, replicas: 2 }.satisfies(wanted));
        let mut reply = Reply::new(false);
        Reached { local: 1, replicas: 2 }.write(wanted, &mut reply);
        assert_eq!(reply.as_bytes(), b"*2\r\n:1\r\n:2\r\n");
        assert!(Reached { local: 0, replicas: 0 }.satisfies(Wanted::Replicas(0)));
    }
}
