//! What a worker does right now, for the watchdog: since when its batch runs, and which command is at work.

use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};

#[derive(Default)]
pub struct Running {
    /// Milliseconds of the epoch; 0 between batches.
    since_ms: AtomicI64,
    /// Id in the command table.
    command: AtomicUsize,
    /// The batch that was reported already, by its beginning.
    reported_ms: AtomicI64,
}

impl Running {
    #[inline]
    pub fn begin(&self, now_ms: i64) {
        self.since_ms.store(now_ms, Ordering::Relaxed);
    }

    #[inline]
    pub fn note(&self, command: usize) {
        self.command.store(command, Ordering::Relaxed);
    }

    #[inline]
    pub fn end(&self) {
        self.since_ms.store(0, Ordering::Relaxed);
    }

    /// The command of a batch that takes longer than `period_ms`, and for how long it has; once per batch.
    pub fn overdue(&self, now_ms: i64, period_ms: i64) -> Option<(usize, i64)> {
        let since_ms = self.since_ms.load(Ordering::Relaxed);
        let is_overdue = since_ms != 0 && now_ms - since_ms > period_ms;
        if !is_overdue || self.reported_ms.swap(since_ms, Ordering::Relaxed) == since_ms {
            return None;
        }
        Some((self.command.load(Ordering::Relaxed), now_ms - since_ms))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_batch_is_told_once() {
        let running = Running::default();
        assert_eq!(running.overdue(5000, 200), None);
        running.begin(1000);
        running.note(7);
        assert_eq!(running.overdue(1200, 200), None);
        assert_eq!(running.overdue(1201, 200), Some((7, 201)));
        assert_eq!(running.overdue(1900, 200), None);
        running.end();
        running.begin(2000);
        assert_eq!(running.overdue(2500, 200), Some((7, 500)));
    }
}
