//! Applying a primary's stream: its commands run here as they come, and its bytes go into our own journal as they are, so
//! that offsets agree and replicas of this one read the same bytes.
//!
//! ```text
//!   bytes of one command ─► worker.stream ─► run ─┬─ under the locks of its keys: finish_unit appends them
//!   MULTI … EXEC: kept until EXEC runs all ───────┘  with no lock (SELECT, PUBLISH, PING): appended behind it
//! ```
//! So whoever holds every shard (a snapshot's cut) finds the data and the journal's end at the same point. What a busy script keeps
//! is not waited for: the stream stands still, and the link goes on living.

use super::dispatch;
use super::session::Session;
use super::worker::Worker;
use crate::engine::keyspace::ShardSet;
use crate::resp::{Args, Batch, Reply};
use crate::server::config::PropagationErrorBehavior;
use std::sync::atomic::Ordering;

/// The state of one link's stream.
#[derive(Default)]
pub struct Follower {
    /// Bytes of the commands since MULTI.
    held: Vec<u8>,
    /// Bytes of a command that has run without locks and is still to be appended.
    overdue: Vec<u8>,
    /// The primary has asked how far this replica is.
    pub asked_for_ack: bool,
}

/// Why the rest of a batch does not run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// This server follows somebody else by now, or nobody.
    RoleChanged,
    /// A busy script keeps what the command needs that begins here in the buffer: later.
    Busy { at: usize },
}

impl Follower {
    /// Runs the commands of a batch, which begins at `start` of the buffer.
    pub fn apply(
        &mut self,
        worker: &mut Worker,
        session: &mut Session,
        batch: &Batch,
        buffer: &[u8],
        start: usize,
        reply: &mut Reply,
    ) -> Result<(), Stop> {
        worker.refresh();
        let mut resolved = std::mem::take(&mut worker.resolved);
        resolved.clear();
        resolved.extend((0..batch.len()).map(|index| dispatch::resolve(worker, batch.args(index, buffer))));
        if resolved.len() >= 3 {
            dispatch::look_ahead(worker, session.db, &resolved);
            dispatch::look_ahead_of_members(worker, session.db, &resolved, |index| batch.args(index, buffer));
        }
        let mut from = start;
        let mut result = Ok(());
        for (index, known) in resolved.iter().enumerate() {
            if worker.role_epoch != worker.server.role.epoch() {
                result = Err(Stop::RoleChanged);
                break;
            }
            let bytes = &buffer[from..batch.end(index)];
            if !self.command(worker, session, bytes, batch.args(index, buffer), *known, reply) {
                result = Err(Stop::Busy { at: from });
                break;
            }
            from = batch.end(index);
        }
        worker.resolved = resolved;
        result
    }

    /// Runs one command; false if a busy script does not let it, and nothing was done.
    fn command(
        &mut self,
        worker: &mut Worker,
        session: &mut Session,
        bytes: &[u8],
        args: Args<'_>,
        known: dispatch::Resolved,
        reply: &mut Reply,
    ) -> bool {
        if !self.append_overdue(worker) {
            return false;
        }
        let ends_transaction = args.is(0, "exec") || args.is(0, "discard");
        if args.is(0, "multi") || (session.transaction.is_some() && !ends_transaction) {
            // Only queued: nothing is locked.
            self.held.extend_from_slice(bytes);
            dispatch::run(worker, session, args, known, reply);
            note_failure(worker, args, reply);
            return true;
        }
        if ["replconf", "ping", "publish", "spublish"].iter().any(|name| args.is(0, name)) {
            return self.message(worker, session, bytes, args, known, reply);
        }
        worker.stream.append(&mut self.held);
        worker.stream.extend_from_slice(bytes);
        if !dispatch::run_unless_busy(worker, session, args, known, reply) {
            worker.stream.truncate(worker.stream.len() - bytes.len());
            std::mem::swap(&mut self.held, &mut worker.stream);
            return false;
        }
        worker.server.role.stream_db.store(session.db, Ordering::Release);
        // Not empty: it ran without locks.
        self.overdue.append(&mut worker.stream);
        self.append_overdue(worker);
        note_failure(worker, args, reply);
        true
    }

    /// A command that is no change of the data: it is passed on, but does not go to the append-only file.
    fn message(
        &mut self,
        worker: &mut Worker,
        session: &mut Session,
        bytes: &[u8],
        args: Args<'_>,
        known: dispatch::Resolved,
        reply: &mut Reply,
    ) -> bool {
        let Some(held) = worker.server.lock(ShardSet::one(0)) else { return false };
        if worker.role_epoch == worker.server.role.epoch() {
            worker.server.journal.append_for_replicas(bytes);
        }
        drop(held);
        if args.is(0, "replconf") {
            // The only word of a primary to its replicas alone.
            self.asked_for_ack |= args.is(1, "getack");
        } else {
            dispatch::run(worker, session, args, known, reply);
            note_failure(worker, args, reply);
        }
        true
    }

    /// Appends what ran without locks. A role changes under all of them, so one is enough to be sure of it.
    fn append_overdue(&mut self, worker: &mut Worker) -> bool {
        if self.overdue.is_empty() {
            return true;
        }
        let Some(_held) = worker.server.lock(ShardSet::one(0)) else { return false };
        if worker.role_epoch == worker.server.role.epoch() {
            worker.server.journal.append_raw(&self.overdue);
        }
        self.overdue.clear();
        true
    }
}

/// Looks at the reply, which nobody gets.
fn note_failure(worker: &Worker, args: Args<'_>, reply: &mut Reply) {
    if reply.as_bytes().first() == Some(&b'-') {
        complain(worker, args, reply);
    }
    reply.truncate(0);
}

/// A command that the primary could run fails here: the data sets differ.
#[cold]
fn complain(worker: &Worker, args: Args<'_>, reply: &Reply) {
    let text = String::from_utf8_lossy(&reply.as_bytes()[1..]).trim_end().chars().take(4096).collect::<String>();
    let name = dispatch::find_command(worker, args)
        .map_or_else(|_| String::from_utf8_lossy(&args[0]).into_owned(), |entry| entry.full_name.clone());
    tracing::warn!(
        "== CRITICAL == This replica is sending an error to its master: '{text}' after processing the command '{name}'"
    );
    worker.server.stats.unexpected_error_replies.fetch_add(1, Ordering::Relaxed);
    let behavior = worker.config.propagation_error_behavior;
    if worker.config.replica_read_only && behavior != PropagationErrorBehavior::Ignore {
        panic!("This replica panicked sending an error to its master after processing the command '{name}'");
    }
}
