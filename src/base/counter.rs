//! A counter with one writer and many readers.

use std::sync::atomic::{AtomicU64, Ordering};

/// Only the owning thread adds; anybody may read. Adding is a plain load and store, no locked instruction.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    pub const fn new() -> Self {
        Counter(AtomicU64::new(0))
    }

    #[inline]
    pub fn add(&self, n: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(n), Ordering::Relaxed);
    }

    pub fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// CONFIG RESETSTAT; an addition that races with it may survive.
    pub fn reset(&self) {
        self.0.store(0, Ordering::Relaxed);
    }
}
