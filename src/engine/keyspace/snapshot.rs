//! A snapshot's progress through one table: which buckets are saved.
//!
//! ```text
//!   buckets   0 1 2 3 | 4 5 6 7 8 …
//!   background walks ─►            bit set = saved
//!   writers                ▲       save the bucket they are about to change first, then change it
//! ```
//! The table does not resize meanwhile, so a bucket's number means the same from the cut to the end. A bucket that is
//! created after the cut (an empty table that gets its first key) holds nothing of the snapshot and counts as saved.

use crate::engine::record::Record;
use crate::engine::table::Table;
use std::sync::Arc;

/// Takes the records of a snapshot. Called under the shard's lock: it serializes or copies, and does not wait.
pub trait SnapshotSink: Send + Sync {
    fn save(&self, db: usize, record: &Record);

    /// False once the snapshot was given up: what is not saved yet need not be.
    fn is_wanted(&self) -> bool {
        true
    }
}

pub struct Progress {
    db: usize,
    buckets: usize,
    next: usize,
    saved: Vec<u64>,
    sink: Arc<dyn SnapshotSink>,
}

impl Progress {
    pub(super) fn new(db: usize, buckets: usize, sink: Arc<dyn SnapshotSink>) -> Self {
        Progress { db, buckets, next: 0, saved: vec![0; buckets.div_ceil(64)], sink }
    }

    pub(super) fn restart(&mut self, buckets: usize) {
        *self = Progress::new(self.db, buckets, Arc::clone(&self.sink));
    }

    #[cold]
    pub(super) fn save_before_change(&mut self, table: &Table<Record>, hash: u64) {
        if self.buckets > 0 {
            self.save(table, table.bucket_of(hash));
        }
    }

    pub(super) fn is_wanted(&self) -> bool {
        self.sink.is_wanted()
    }

    /// Saves up to `count` buckets; true when all are saved.
    pub(super) fn advance(&mut self, table: &Table<Record>, count: usize) -> bool {
        let end = self.buckets.min(self.next + count);
        while self.next < end {
            self.save(table, self.next);
            self.next += 1;
        }
        self.next == self.buckets
    }

    pub(super) fn save_rest(&mut self, table: &Table<Record>) {
        self.advance(table, usize::MAX - self.next);
    }

    fn save(&mut self, table: &Table<Record>, bucket: usize) {
        let Some(word) = self.saved.get_mut(bucket / 64) else { return };
        let bit = 1 << (bucket % 64);
        if *word & bit == 0 {
            *word |= bit;
            table.visit_bucket(bucket, &mut |record| self.sink.save(self.db, record));
        }
    }
}
