//! Wall-clock and monotonic time in the units Redis uses. The only file that asks the operating system for the time.

#![allow(clippy::disallowed_types)]

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;
use std::time::{SystemTime, UNIX_EPOCH};

/// Milliseconds since the Unix epoch.
pub fn unix_ms() -> i64 {
    unix_us() / 1000
}

/// Microseconds since the Unix epoch.
pub fn unix_us() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_micros() as i64)
}

/// What this thread has had of a core so far.
pub fn thread_cpu_ns() -> u64 {
    let usage = getrusage(UsageWho::RUSAGE_THREAD);
    usage.map_or(0, |usage| (usage.user_time() + usage.system_time()).num_nanoseconds() as u64)
}

/// How long something takes.
#[derive(Clone, Copy, Debug)]
pub struct Timer(std::time::Instant);

impl Timer {
    pub fn start() -> Self {
        Timer(std::time::Instant::now())
    }

    pub fn elapsed(&self) -> std::time::Duration {
        self.0.elapsed()
    }
}

/// The local time as Redis's log prints it: `21 Nov 2026 08:05:12.345`.
pub fn local_time() -> String {
    chrono::Local::now().format("%d %b %Y %H:%M:%S%.3f").to_string()
}

/// A moment as C's ctime prints it: `Sat Nov 21 08:05:12 2026`.
pub fn calendar_time(unix_ms: i64) -> String {
    let moment = chrono::DateTime::from_timestamp_millis(unix_ms).unwrap_or_default();
    moment.with_timezone(&chrono::Local).format("%a %b %e %H:%M:%S %Y").to_string()
}

/// A cheap monotonic stopwatch: cycle counter where the machine has a stable one.
#[derive(Clone)]
pub struct Stopwatch {
    clock: quanta::Clock,
}

impl Stopwatch {
    pub fn new() -> Self {
        Stopwatch { clock: quanta::Clock::new() }
    }

    /// A raw reading; only differences, through `ns_between`, mean anything.
    #[inline]
    pub fn raw(&self) -> u64 {
        self.clock.raw()
    }

    #[inline]
    pub fn ns_between(&self, start: u64, end: u64) -> u64 {
        self.clock.delta_as_nanos(start, end)
    }
}

impl Default for Stopwatch {
    fn default() -> Self {
        Self::new()
    }
}
