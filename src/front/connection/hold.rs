//! Replies that wait for the append-only file.
//!
//! ```text
//!   batch has run ─► is the journal beyond the file? ─ no ──────────────────────────────────────────► replies go
//!                       │ yes
//!                       ├ everysec, no: give way ─► all that were ready have run ─► write for all ──► replies go
//!                       │                              └ during a sync: another thread does
//!                       └ always: sleep until a sync, of this worker or of the writer's thread ────► replies go
//! ```
//! Giving way is what makes one write serve a whole turn of the event loop, as Redis writes once before it sleeps: the first that
//! comes round again writes what all have left, and the others find it done. Replies to reads wait as well if somebody's write
//! is not in the file yet: they may tell of it.

use super::Connection;
use crate::persistence::aof;
use crate::persistence::aof_pen::Attempt;
use crate::server::journal::marks::Promise;
use std::sync::atomic::Ordering;
use std::task::Context;
use std::time::Duration;

/// How long replies wait for a write that is tried during a sync; then they go without it, as in Redis.
const SYNC_PATIENCE: Duration = Duration::from_millis(10);

/// What a connection's output waits for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Hold {
    #[default]
    None,
    /// For this offset of the journal; the others that are ready have not had their turn yet.
    First(u64),
    /// They have.
    Again(u64),
}

impl Hold {
    #[inline]
    pub fn is_none(self) -> bool {
        self == Hold::None
    }
}

impl Connection {
    /// To be called when replies have come: they may go once the file has what they tell of.
    #[inline]
    pub(super) fn hold_replies(&mut self) {
        if self.output.is_empty() {
            return;
        }
        let journal = &self.server.journal;
        match journal.marks.promise() {
            Promise::Nothing => {}
            Promise::Written => {
                let end = journal.end();
                if end > journal.marks.written() {
                    self.hold = Hold::First(end);
                }
            }
            Promise::Durable => {
                let end = journal.end();
                // While the disk refuses, refusals and reads must get through: nothing was written since they began.
                let fails = self.server.save_status.aof.write_error.load(Ordering::Relaxed) != 0;
                if !fails || end != self.journal_before {
                    self.hold = Hold::Again(end);
                }
            }
        }
    }

    /// Whether the replies that are there must wait. The task is woken when it is time to look again.
    #[inline]
    pub(super) fn waits_for_file(&mut self, context: &mut Context<'_>) -> bool {
        let waits = match self.hold {
            Hold::None => return false,
            Hold::First(mark) if self.server.journal.marks.promise() == Promise::Written => {
                self.hold = Hold::Again(mark);
                context.waker().wake_by_ref();
                return true;
            }
            Hold::First(mark) | Hold::Again(mark) => self.wait(mark, context),
        };
        if !waits {
            self.hold = Hold::None;
        }
        waits
    }

    fn wait(&self, mark: u64, context: &mut Context<'_>) -> bool {
        let marks = &self.server.journal.marks;
        if marks.is_kept(mark) {
            return false;
        }
        let file = aof::get().filter(|_| marks.promise() == Promise::Written);
        if let Some(file) = file {
            file.write_for_replies();
        }
        if !marks.wait(mark, context.waker()) {
            return false;
        }
        let Some(file) = file else {
            self.shared.sync_turn.ask(mark);
            return true;
        };
        // Whoever had the file then may have left before he could see that somebody waits.
        let attempt = file.write_for_replies();
        if marks.is_kept(mark) {
            return false;
        }
        if attempt == Attempt::Syncing && file.claim_help() {
            tokio::task::spawn_local(async move {
                let write = tokio::task::spawn_blocking(|| file.write_beside_sync());
                if tokio::time::timeout(SYNC_PATIENCE, write).await.is_err() {
                    file.postpone();
                }
            });
        }
        true
    }
}
