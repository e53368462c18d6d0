//! One sync for all replies of a turn of the event loop, under `appendfsync always` (`persistence::aof_durable` says when a worker
//! syncs by itself).
//!
//! ```text
//!   replies wait ─► asked ─► look for more: all that were ready run, the sockets are asked again ─┬─ others came to wait: once more
//!                                                                                               └─ none did, or many do ─► sync
//! ```
//! Without that look two groups of clients form, of which each waits for the other's sync.

use super::parking;
use crate::persistence::aof;
use std::cell::{Cell, RefCell};
use std::task::{Poll, Waker};

/// So many waiting replies are worth a sync, whoever else may come.
const MANY: u32 = 256;

#[derive(Default)]
pub struct SyncTurn {
    /// What the waiting replies need; 0: none wait.
    mark: Cell<u64>,
    waiting: Cell<u32>,
    waker: RefCell<Option<Waker>>,
}

impl SyncTurn {
    /// A reply waits for this offset of the journal to be on disk.
    pub fn ask(&self, mark: u64) {
        let Some(file) = aof::get() else { return };
        if !file.syncs_on_worker() {
            return file.ask_thread();
        }
        self.waiting.set(self.waiting.get() + 1);
        if self.mark.replace(mark.max(self.mark.get())) == 0
            && let Some(waker) = &*self.waker.borrow()
        {
            waker.wake_by_ref();
        }
    }

    /// Runs for as long as the worker does.
    pub async fn run(&self) {
        loop {
            std::future::poll_fn(|context| {
                if self.mark.get() > 0 {
                    return Poll::Ready(());
                }
                *self.waker.borrow_mut() = Some(context.waker().clone());
                Poll::Pending
            })
            .await;
            loop {
                let before = self.waiting.get();
                tokio::task::yield_now().await;
                if self.waiting.get() == before || before >= MANY {
                    break;
                }
            }
            self.waiting.set(0);
            let mark = self.mark.replace(0);
            if let Some(file) = aof::get()
                && !parking::asleep(|| file.sync_for_replies(mark))
            {
                file.ask_thread();
            }
        }
    }
}
