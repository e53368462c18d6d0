//! What a worker does before it sleeps: it lets its clients run first, if they are on this machine.
//!
//! With more workers than idle cores, a worker that has answered a few requests would sleep, be woken for the next few, and
//! sleep again: at one request per read these wake-ups cost a quarter of all its time. Giving the core away once, before the
//! kernel is asked to put the thread to sleep, lets the clients on that core write their next requests: then there is often no
//! need to sleep at all, and more requests come per wake-up. Clients elsewhere gain nothing by it, and whoever serves a single
//! connection has nobody to gather requests from: these two cases are left out. So is, for a while, a machine that has more to do
//! than to serve these clients: there the core would be gone for many time slices.

use crate::base::clock::Stopwatch;
use crate::server::Server;
use crate::server::workers::Load;
use std::cell::Cell;

/// Giving the core away is of use if so many reads came since the last sleep.
const READS_MIN: u32 = 2;
/// More than one time slice: others than our clients are waiting for the core.
const CROWDED_NS: u64 = 4_000_000;
/// Sleeps without giving the core away after that.
const PATIENCE: u32 = 100;

struct Parking {
    /// Reads from clients on this machine since the worker's last sleep.
    reads: Cell<u32>,
    load: Cell<Option<&'static Load>>,
    patience: Cell<u32>,
    stopwatch: Stopwatch,
}

thread_local! {
    static PARKING: Parking = Parking {
        reads: Cell::new(0),
        load: Cell::new(None),
        patience: Cell::new(0),
        stopwatch: Stopwatch::new(),
    };
}

/// To be called once by a worker's thread.
pub fn begin(server: &'static Server, worker: usize) {
    PARKING.with(|parking| {
        let load = &server.workers.loads()[worker];
        load.wakes(&parking.stopwatch);
        parking.load.set(Some(load));
    });
}

/// To be called for each read from a client on this machine.
#[inline]
pub fn note_local_read() {
    PARKING.with(|parking| parking.reads.set(parking.reads.get() + 1));
}

/// Runs what takes its time and lets others run before and behind it: many such pieces in a row are not one command that all
/// have waited for.
pub fn excused<T>(work: impl FnOnce() -> T) -> T {
    let begun = PARKING.with(|parking| parking.stopwatch.raw());
    let result = work();
    PARKING.with(|parking| {
        if let Some(load) = parking.load.get() {
            load.excuse(begun, &parking.stopwatch);
        }
    });
    result
}

/// Runs what the disk keeps waiting: that is no work.
pub fn asleep<T>(work: impl FnOnce() -> T) -> T {
    let change = |to: fn(&Load, &Stopwatch)| {
        PARKING.with(|parking| parking.load.get().inspect(|load| to(load, &parking.stopwatch)));
    };
    change(|load, stopwatch| load.sleeps(0, stopwatch));
    let result = work();
    change(Load::wakes);
    result
}

/// To be called before a worker's thread sleeps.
pub fn before_sleep() {
    PARKING.with(|parking| {
        let reads = parking.reads.replace(0);
        if let Some(load) = parking.load.get() {
            load.sleeps(reads, &parking.stopwatch);
        }
        if reads < READS_MIN {
            return;
        }
        if let Some(left) = parking.patience.get().checked_sub(1) {
            return parking.patience.set(left);
        }
        let start = parking.stopwatch.raw();
        std::thread::yield_now();
        if parking.stopwatch.ns_between(start, parking.stopwatch.raw()) > CROWDED_NS {
            parking.patience.set(PATIENCE);
        }
    });
}

/// To be called when a worker's thread is awake again.
pub fn after_sleep() {
    PARKING.with(|parking| {
        if let Some(load) = parking.load.get() {
            load.wakes(&parking.stopwatch);
        }
    });
}
