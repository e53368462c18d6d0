//! How far the append-only file is in the journal, and the replies that wait for it.
//!
//! ```text
//!   ───────────┬─────────────┬──────────┬──►  offsets of the journal
//!           durable       written      end
//!              │             └ everysec, no: a reply goes when this has passed its mark. Whoever waits writes.
//!              └ always: when this has. A thread writes and syncs, once for all that wait.
//! ```
//! Marks and promise change before the list of waiters is locked; whoever waits looks at them once more under that lock. So
//! nobody sleeps through what he waits for.

use parking_lot::Mutex;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::task::Waker;

/// What the writes that a reply tells of have survived when it goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Promise {
    Nothing = 0,
    /// The kernel has them: the death of the process.
    Written = 1,
    /// The disk has them: a power cut.
    Durable = 2,
}

#[derive(Default)]
pub struct Marks {
    promise: AtomicU8,
    written: AtomicU64,
    durable: AtomicU64,
    waiters: Mutex<Vec<(u64, Waker)>>,
}

impl Marks {
    #[inline]
    pub fn promise(&self) -> Promise {
        match self.promise.load(Ordering::Acquire) {
            0 => Promise::Nothing,
            1 => Promise::Written,
            _ => Promise::Durable,
        }
    }

    /// Everybody who waits looks again.
    pub fn set_promise(&self, promise: Promise) {
        self.promise.store(promise as u8, Ordering::Release);
        let waiters = std::mem::take(&mut *self.waiters.lock());
        waiters.into_iter().for_each(|(_, waker)| waker.wake());
    }

    /// Offset up to which the kernel has the file.
    #[inline]
    pub fn written(&self) -> u64 {
        self.written.load(Ordering::Acquire)
    }

    /// To be followed by `wake`, once whoever wakes up can write himself.
    pub fn set_written(&self, offset: u64) {
        self.written.store(offset, Ordering::Release);
    }

    /// Offset up to which the file is on disk.
    pub fn durable(&self) -> u64 {
        self.durable.load(Ordering::Acquire)
    }

    pub fn set_durable(&self, offset: u64) {
        self.durable.store(offset, Ordering::Release);
        self.wake();
    }

    /// Whether a reply with this mark may go.
    #[inline]
    pub fn is_kept(&self, mark: u64) -> bool {
        match self.promise() {
            Promise::Nothing => true,
            Promise::Written => self.written() >= mark,
            Promise::Durable => self.durable() >= mark,
        }
    }

    /// Has the waker called when the reply may go; false if it may now.
    pub fn wait(&self, mark: u64, waker: &Waker) -> bool {
        let mut waiters = self.waiters.lock();
        if self.is_kept(mark) {
            return false;
        }
        waiters.push((mark, waker.clone()));
        true
    }

    /// Wakes those whose replies may go; true if others still wait.
    pub fn wake(&self) -> bool {
        let mut waiters = self.waiters.lock();
        if waiters.is_empty() {
            return false;
        }
        let (ready, rest): (Vec<_>, Vec<_>) =
            std::mem::take(&mut *waiters).into_iter().partition(|(mark, _)| self.is_kept(*mark));
        let others_wait = !rest.is_empty();
        *waiters = rest;
        drop(waiters);
        ready.into_iter().for_each(|(_, waker)| waker.wake());
        others_wait
    }

    /// Whether anybody waits.
    pub fn is_awaited(&self) -> bool {
        !self.waiters.lock().is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::AtomicUsize;
    use std::task::Wake;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn replies_wait_for_what_is_promised() {
        let (marks, count) = (Marks::default(), Arc::new(Count::default()));
        let waker = Waker::from(Arc::clone(&count));
        let woken = || count.0.swap(0, Ordering::Relaxed);
        assert!(!marks.wait(10, &waker), "nothing is promised");
        marks.set_promise(Promise::Written);
        assert!(marks.wait(10, &waker) && marks.wait(20, &waker));
        marks.set_written(15);
        assert!(marks.wake(), "one still waits");
        assert_eq!(woken(), 1);
        assert!(!marks.wait(15, &waker) && marks.wait(16, &waker));
        marks.set_promise(Promise::Durable);
        assert_eq!(woken(), 2, "all look again");
        assert!(marks.wait(15, &waker), "written is less than durable");
        marks.set_durable(15);
        assert_eq!(woken(), 1);
        assert!(!marks.is_awaited() && marks.is_kept(15) && !marks.is_kept(16));
    }
}
