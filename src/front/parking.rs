//! What a worker does before it sleeps: it lets its clients run first, if they are on this machine.
//!
//! With more workers than idle cores, a worker that has answered a few requests would sleep, be woken for the next few, and
//! sleep again: at one request per read these wake-ups cost a quarter of all its time. Giving the core away once, before the
//! kernel is asked to put the thread to sleep, lets the clients on that core write their next requests: then there is often no
//! need to sleep at all, and more requests come per wake-up. Clients elsewhere gain nothing by it, and whoever serves a single
//! connection has nobody to gather requests from: these two cases are left out.

use std::cell::Cell;

/// Giving the core away is of use if so many reads came since the last sleep.
const READS_MIN: u32 = 2;

thread_local! {
    /// Reads from clients on this machine since the worker's last sleep.
    static READS: Cell<u32> = const { Cell::new(0) };
}

/// To be called for each read from a client on this machine.
#[inline]
pub fn note_local_read() {
    READS.set(READS.get() + 1);
}

/// To be called before a worker's thread sleeps.
pub fn before_sleep() {
    if READS.replace(0) >= READS_MIN {
        std::thread::yield_now();
    }
}
