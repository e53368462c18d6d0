//! The workers as a whole: how many of them have connections, and what each of them reports about its load.
//!
//! Plain data: workers report, `front::gathering` decides how many are active, connections move when they notice.

use crate::base::clock::{Stopwatch, thread_cpu_ns};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

pub struct Workers {
    /// Connections belong to the first so many workers.
    active: AtomicUsize,
    /// DEBUG ACTIVE-WORKERS; 0: as the load demands.
    pinned: AtomicUsize,
    loads: Box<[Load]>,
}

/// What one worker reports: only its own thread writes here. On cache lines of its own, as it is written at every sleep.
#[repr(align(128))]
#[derive(Default)]
pub struct Load {
    sleeps: AtomicU64,
    reads: AtomicU64,
    /// Time spent asleep up to the last wake-up.
    slept_ns: AtomicU64,
    /// Stopwatch reading at which it fell asleep or woke up last, and which of the two: odd = asleep.
    since: AtomicU64,
    /// Longest time awake since somebody looked, without what others had of the core meanwhile.
    longest_awake_ns: AtomicU64,
    /// The thread's CPU time when it was last asked for, and the stopwatch's reading then.
    cpu_ns: AtomicU64,
    cpu_at: AtomicU64,
}

/// How often a worker asks for its CPU time: times awake that are longer have an answer of their own.
const CPU_PERIOD_NS: u64 = 4_000_000;
/// Of a worker that is awake still nobody else can tell whether it works or has lost its core for a while. Beyond this it counts.
const UNFINISHED_NS: u64 = 40_000_000;

/// What a look at a worker's load tells.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LoadNow {
    pub sleeps: u64,
    pub reads: u64,
    pub slept_ns: u64,
    /// Of what was not interrupted by sleep, since the last look.
    pub longest_awake_ns: u64,
}

impl Load {
    fn add(counter: &AtomicU64, value: u64) {
        counter.store(counter.load(Ordering::Relaxed) + value, Ordering::Relaxed);
    }

    /// The worker is about to sleep; it has read so many times since its last sleep.
    pub fn sleeps(&self, reads: u32, stopwatch: &Stopwatch) {
        let now = stopwatch.raw();
        self.note_awake(now, stopwatch);
        Self::add(&self.sleeps, 1);
        Self::add(&self.reads, u64::from(reads));
        self.since.store(now | 1, Ordering::Relaxed);
    }

    fn note_awake(&self, until: u64, stopwatch: &Stopwatch) {
        let mut awake = stopwatch.ns_between(self.since.load(Ordering::Relaxed) & !1, until);
        if stopwatch.ns_between(self.cpu_at.load(Ordering::Relaxed), until) >= CPU_PERIOD_NS {
            let cpu_ns = thread_cpu_ns();
            awake = awake.min(cpu_ns.saturating_sub(self.cpu_ns.swap(cpu_ns, Ordering::Relaxed)));
            self.cpu_at.store(until, Ordering::Relaxed);
        }
        if awake > self.longest_awake_ns.load(Ordering::Relaxed) {
            self.longest_awake_ns.store(awake, Ordering::Relaxed);
        }
    }

    /// What the awake worker has done since `begun` is no part of a long time awake, nor is what follows.
    pub fn excuse(&self, begun: u64, stopwatch: &Stopwatch) {
        self.note_awake(begun, stopwatch);
        self.since.store(stopwatch.raw() & !1, Ordering::Relaxed);
    }

    /// The worker is awake again.
    pub fn wakes(&self, stopwatch: &Stopwatch) {
        let now = stopwatch.raw();
        let since = self.since.swap(now & !1, Ordering::Relaxed);
        if since & 1 == 1 {
            Self::add(&self.slept_ns, stopwatch.ns_between(since & !1, now));
        }
    }

    pub fn look(&self, stopwatch: &Stopwatch) -> LoadNow {
        let since = self.since.load(Ordering::Relaxed);
        let lasts = if since == 0 { 0 } else { stopwatch.ns_between(since & !1, stopwatch.raw()) };
        let is_asleep = since & 1 == 1 || since == 0;
        let unfinished = if is_asleep || lasts < UNFINISHED_NS { 0 } else { lasts };
        LoadNow {
            sleeps: self.sleeps.load(Ordering::Relaxed),
            reads: self.reads.load(Ordering::Relaxed),
            slept_ns: self.slept_ns.load(Ordering::Relaxed) + if is_asleep { lasts } else { 0 },
            longest_awake_ns: self.longest_awake_ns.swap(0, Ordering::Relaxed).max(unfinished),
        }
    }
}

impl Workers {
    pub fn new(count: usize) -> Self {
        let count = count.max(1);
        Workers {
            active: AtomicUsize::new(count),
            pinned: AtomicUsize::new(0),
            loads: (0..count).map(|_| Load::default()).collect(),
        }
    }

    pub fn loads(&self) -> &[Load] {
        &self.loads
    }

    /// How many have connections.
    #[inline]
    pub fn active(&self) -> usize {
        self.active.load(Ordering::Relaxed)
    }

    /// The worker that a client belongs to while so many are active. Numbers are given in turn, so that clients spread evenly.
    #[inline]
    pub fn home(client: u64, active: usize) -> usize {
        (client % active as u64) as usize
    }

    /// What the load demands, unless a number was asked for.
    pub fn activate(&self, count: usize) {
        let pinned = self.pinned.load(Ordering::Relaxed);
        let count = if pinned == 0 { count } else { pinned };
        self.active.store(count.clamp(1, self.loads.len()), Ordering::Relaxed);
    }

    /// Holds the number of active workers; 0 lets it follow the load again.
    pub fn pin(&self, count: usize) {
        self.pinned.store(count.min(self.loads.len()), Ordering::Relaxed);
        self.activate(self.active());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn work_20_ms() {
        let begun = thread_cpu_ns();
        while thread_cpu_ns() - begun < 20_000_000 {}
    }

    #[test]
    fn what_a_worker_reports_is_what_a_look_tells() {
        let stopwatch = Stopwatch::new();
        let load = Load::default();
        load.wakes(&stopwatch);
        load.sleeps(3, &stopwatch);
        std::thread::sleep(std::time::Duration::from_millis(20));
        let asleep = load.look(&stopwatch);
        assert!(asleep.slept_ns >= 19_000_000, "a sleep counts while it lasts: {asleep:?}");
        load.wakes(&stopwatch);
        let awake = load.look(&stopwatch);
        assert_eq!((awake.sleeps, awake.reads), (1, 3));
        assert_eq!(awake.longest_awake_ns, 0, "so far it may have lost its core: {awake:?}");
        work_20_ms();
        load.sleeps(0, &stopwatch);
        assert!(load.look(&stopwatch).longest_awake_ns >= 19_000_000);
        assert_eq!(load.look(&stopwatch).longest_awake_ns, 0, "every look begins anew");

        load.wakes(&stopwatch);
        std::thread::sleep(std::time::Duration::from_millis(50));
        assert!(load.look(&stopwatch).longest_awake_ns >= 49_000_000, "a long time awake counts while it lasts");
        load.sleeps(0, &stopwatch);
        assert!(load.look(&stopwatch).longest_awake_ns < 10_000_000, "in the end it was no work of the worker's");

        load.wakes(&stopwatch);
        let begun = stopwatch.raw();
        work_20_ms();
        load.excuse(begun, &stopwatch);
        load.sleeps(0, &stopwatch);
        assert!(load.look(&stopwatch).longest_awake_ns < 10_000_000, "what is excused does not count");
    }

    #[test]
    fn a_number_that_was_asked_for_stays() {
        let workers = Workers::new(4);
        assert_eq!(workers.active(), 4);
        workers.activate(2);
        assert_eq!(workers.active(), 2);
        workers.pin(3);
        workers.activate(1);
        assert_eq!(workers.active(), 3);
        workers.pin(0);
        workers.activate(1);
        assert_eq!(workers.active(), 1);
    }
}
