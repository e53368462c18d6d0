//! Who asks what all clients are doing (INFO, CLIENT LIST: `Flags::TELLS_OF_ALL`) is told of everything that was sent before he asked.
//!
//! With one thread that goes without saying: requests run in the order in which they came. With several, another worker may not have
//! got to what its own clients have sent, and a monitor would be told of a past that its user knows to be over (a client that has
//! blocked, or should have been evicted). So such a request waits until every other worker has had a turn of its event loop:
//!
//! ```text
//!   asker's worker     INFO arrives ─► asks for turns ─┐    (serves its other clients)   ┌─► runs INFO
//!   another worker                                     └─► looks at its sockets ─► runs ─┘
//! ```
//! It does not wait for who takes long: a monitor must be answered, above all then.

use super::Connection;
use crate::base::clock;
use crate::server::dispatch::MaySettle;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Waker};
use std::time::Duration;

/// How long an asker waits at most.
const PATIENCE_MS: i64 = 20;

/// Turns of other workers that somebody waits for.
pub struct Turns {
    missing: AtomicUsize,
    asker: Waker,
}

pub struct Settling {
    turns: Arc<Turns>,
    until_ms: i64,
    timer: Pin<Box<tokio::time::Sleep>>,
}

/// On the worker that was asked.
pub fn take_turn(turns: Arc<Turns>) {
    tokio::task::spawn_local(async move {
        // The first time round the event loop looks what has arrived, and wakes whom it is for; they run before the second is over.
        tokio::task::yield_now().await;
        tokio::task::yield_now().await;
        if turns.missing.fetch_sub(1, Ordering::AcqRel) == 1 {
            turns.asker.wake_by_ref();
        }
    });
}

impl Connection {
    /// Nothing of this client runs now.
    #[inline]
    pub(super) fn waits(&self) -> bool {
        self.session.is_waiting() || self.settling.is_some()
    }

    /// Whether a batch that begins with `first` may have to wait for other workers: not twice, and it is parsed again afterwards, which
    /// an inline request cannot be; that is told what is known.
    #[inline]
    pub(super) fn may_settle(&mut self, first: u8) -> MaySettle {
        if std::mem::take(&mut self.is_settled) || first != b'*' { MaySettle::No } else { MaySettle::Yes }
    }

    /// Asks the other workers; false if there is nobody to wait for, and the batch shall run.
    #[cold]
    pub(super) fn begin_to_settle(&mut self) -> bool {
        let others = self.shared.pool.workers() - 1;
        // Who may not ask is not to make others work. While a script is busy event loops stand still, and clients are told so at once.
        if others == 0 || !self.session.authenticated || self.server.scripts.running.is_busy() {
            return false;
        }
        let turns = Arc::new(Turns { missing: AtomicUsize::new(others), asker: self.waker.clone() });
        self.shared.pool.ask_for_turns(self.shared.index, &turns);
        let timer = Box::pin(tokio::time::sleep(Duration::from_millis(PATIENCE_MS as u64)));
        self.settling = Some(Settling { turns, until_ms: clock::unix_ms() + PATIENCE_MS, timer });
        true
    }

    /// Whether the wait is over; if not, somebody wakes this task.
    pub(super) fn settle(&mut self, context: &mut Context<'_>) -> bool {
        let Some(settling) = &mut self.settling else { return true };
        let is_over = settling.turns.missing.load(Ordering::Acquire) == 0
            || settling.timer.as_mut().poll(context).is_ready()
            // Where the event loop stands still its timers do, too.
            || clock::unix_ms() >= settling.until_ms;
        if is_over {
            self.settling = None;
            self.is_settled = true;
        }
        is_over
    }
}
