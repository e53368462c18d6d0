//! What is known of the process and the machine. The room above, which may read files, fills it in; INFO only reads.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

#[derive(Default)]
pub struct ProcessFacts {
    /// Set once at start.
    pub machine: OnceLock<Machine>,
    /// Resident set in bytes, sampled by cron.
    pub rss: AtomicUsize,
    /// Highest `used_memory` seen.
    pub peak: AtomicUsize,
    /// When that was, in seconds of the epoch.
    pub peak_at_s: AtomicU64,
    /// `used_memory` when the server was ready but empty.
    pub startup: AtomicUsize,
}

/// What does not change while the process runs.
#[derive(Clone, Debug, Default)]
pub struct Machine {
    /// `uname`: system, release, hardware.
    pub os: String,
    pub executable: String,
    pub total_memory: u64,
    /// `no`, `systemd` or `upstart`.
    pub supervised: &'static str,
}

impl ProcessFacts {
    /// Raises the peak if `used` is higher.
    pub fn note_used(&self, used: usize, now_ms: i64) {
        if self.peak.fetch_max(used, Ordering::Relaxed) < used {
            self.peak_at_s.store((now_ms / 1000) as u64, Ordering::Relaxed);
        }
    }
}
