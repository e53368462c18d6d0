//! Applying a primary's stream: its commands run here as they come, and its bytes go into our own journal as they are, so
//! that offsets agree and replicas of this one read the same bytes.
//!
//! ```text
//!   bytes of one command ─► worker.stream ─► run ─┬─ under the locks of its keys: finish_unit appends them
//!   MULTI … EXEC: kept until EXEC runs all ───────┘  with no lock (SELECT, PUBLISH, PING): appended behind it
//! ```
//! So whoever holds every shard (a snapshot's cut) finds the data and the journal's end at the same point.

use super::dispatch;
use super::propagation;
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
    /// The primary has asked how far this replica is.
    pub asked_for_ack: bool,
}

/// This server follows somebody else by now, or nobody: the rest of the batch must not run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RoleChanged;

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
    ) -> Result<(), RoleChanged> {
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
            let bytes = &buffer[from..batch.end(index)];
            from = batch.end(index);
            result = self.command(worker, session, bytes, batch.args(index, buffer), *known, reply);
            if result.is_err() {
                break;
            }
        }
        worker.resolved = resolved;
        result
    }

    fn command(
        &mut self,
        worker: &mut Worker,
        session: &mut Session,
        bytes: &[u8],
        args: Args<'_>,
        known: dispatch::Resolved,
        reply: &mut Reply,
    ) -> Result<(), RoleChanged> {
        if worker.role_epoch != worker.server.role.epoch() {
            return Err(RoleChanged);
        }
        let ends_transaction = args.is(0, "exec") || args.is(0, "discard");
        if args.is(0, "multi") || (session.transaction.is_some() && !ends_transaction) {
            self.held.extend_from_slice(bytes);
        } else {
            worker.stream.append(&mut self.held);
            worker.stream.extend_from_slice(bytes);
        }
        let is_for_replicas = ["replconf", "ping", "publish", "spublish"].iter().any(|name| args.is(0, name));
        let stream = if is_for_replicas && session.transaction.is_none() {
            // No change of the data: it is passed on, but does not go to the append-only file.
            Some(std::mem::take(&mut worker.stream))
        } else {
            None
        };
        if args.is(0, "replconf") {
            // The only word of a primary to its replicas alone.
            self.asked_for_ack |= args.is(1, "getack");
        } else {
            dispatch::run(worker, session, args, known, reply);
        }
        if let Some(bytes) = stream {
            let _held = worker.server.keyspace.lock(ShardSet::one(0));
            if worker.role_epoch == worker.server.role.epoch() {
                worker.server.journal.append_for_replicas(&bytes);
            }
        }
        worker.server.role.stream_db.store(session.db, Ordering::Release);
        if !worker.stream.is_empty() {
            // It ran without locks. A role changes under all of them, so one is enough to be sure of it.
            let _held = worker.server.keyspace.lock(ShardSet::one(0));
            if worker.role_epoch == worker.server.role.epoch() {
                propagation::flush_unit(worker);
            }
            worker.stream.clear();
        }
        let failed = reply.as_bytes().first() == Some(&b'-');
        if failed {
            complain(worker, args, reply);
        }
        reply.truncate(0);
        Ok(())
    }
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
