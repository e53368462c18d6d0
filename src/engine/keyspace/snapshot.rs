//! A snapshot's progress through one table: which buckets are saved.
//!
//! ```text
//!   buckets   0 1 2 3 | 4 5 6 7 8 …
//!   background walks ─►            bit set = saved
//!   writers                ▲       save the bucket they are about to change first, then change it
//!
//!   long values of saved buckets     [ begun: next slice at … ] [ not begun ] …
//!   background: slice by slice ─►      ▲ whoever is about to change one finishes it first
//! ```
//! The table does not resize meanwhile, so a bucket's number means the same from the cut to the end. A bucket that is
//! created after the cut (an empty table that gets its first key) holds nothing of the snapshot and counts as saved. A long
//! value does not hold up its bucket: only a change of that very key has to save it at once.

use crate::base::hash;
use crate::engine::record::Record;
use crate::engine::table::{Entry as _, Table};
use std::collections::VecDeque;
use std::sync::Arc;

/// Why a record is saved now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The background has come to it.
    Walk,
    /// A writer is about to change it, or its neighbour in the bucket.
    Change,
}

/// How far a long value is written: the beginning by default. What the numbers mean is the business of whoever writes such values.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Place {
    pub at: u128,
    /// Parts of a stream that are written: its entries, then groups, and of a group its pending entries, then consumers.
    pub group: u32,
    pub consumer: u32,
}

impl Place {
    pub fn at(at: u64) -> Self {
        Place { at: u128::from(at), ..Place::default() }
    }
}

/// Takes the records of a snapshot. Called under the shard's lock: it serializes or copies, and does not wait.
pub trait SnapshotSink: Send + Sync {
    fn save(&self, db: usize, record: &Record, cause: Cause);

    /// Whether the background should save a record in slices.
    fn is_long(&self, _: &Record) -> bool {
        false
    }

    /// Saves the next slice of a long record and moves `place` on (nothing: before the first); true when it is complete. The
    /// record has not changed since the first.
    fn save_slice(&self, db: usize, record: &Record, _place: &mut Option<Place>, cause: Cause) -> bool {
        self.save(db, record, cause);
        true
    }

    /// False once the snapshot was given up: what is not saved yet need not be.
    fn is_wanted(&self) -> bool {
        true
    }
}

/// A long value of a bucket that is saved but for it.
struct Long {
    hash: u64,
    key: Box<[u8]>,
    /// Where the next slice begins; nothing before the first.
    place: Option<Place>,
}

pub struct Progress {
    db: usize,
    buckets: usize,
    next: usize,
    saved: Vec<u64>,
    longs: VecDeque<Long>,
    sink: Arc<dyn SnapshotSink>,
}

impl Progress {
    pub(super) fn new(db: usize, buckets: usize, sink: Arc<dyn SnapshotSink>) -> Self {
        Progress { db, buckets, next: 0, saved: vec![0; buckets.div_ceil(64)], longs: VecDeque::new(), sink }
    }

    pub(super) fn restart(&mut self, buckets: usize) {
        *self = Progress::new(self.db, buckets, Arc::clone(&self.sink));
    }

    #[cold]
    pub(super) fn save_before_change(&mut self, table: &Table<Record>, hash: u64) {
        if self.buckets == 0 {
            return;
        }
        self.save(table, table.bucket_of(hash), Cause::Change);
        if let Some(index) = self.longs.iter().position(|long| long.hash == hash)
            && let Some(long) = self.longs.remove(index)
        {
            self.finish(table, long);
        }
    }

    pub(super) fn is_wanted(&self) -> bool {
        self.sink.is_wanted()
    }

    /// Saves one slice of a long value, or up to `count` buckets; true when all is saved.
    pub(super) fn advance(&mut self, table: &Table<Record>, count: usize) -> bool {
        if let Some(long) = self.longs.front_mut() {
            let record = table.find(long.hash, &long.key);
            if record.is_none_or(|record| self.sink.save_slice(self.db, record, &mut long.place, Cause::Walk)) {
                self.longs.pop_front();
            }
        } else {
            let end = self.buckets.min(self.next.saturating_add(count));
            while self.next < end {
                self.save(table, self.next, Cause::Walk);
                self.next += 1;
            }
        }
        self.next == self.buckets && self.longs.is_empty()
    }

    pub(super) fn save_rest(&mut self, table: &Table<Record>) {
        // What is begun must be complete before anything else comes.
        for long in std::mem::take(&mut self.longs) {
            self.finish(table, long);
        }
        for bucket in self.next..self.buckets {
            self.save(table, bucket, Cause::Change);
            for long in std::mem::take(&mut self.longs) {
                self.finish(table, long);
            }
        }
        self.next = self.buckets;
    }

    fn finish(&self, table: &Table<Record>, mut long: Long) {
        if let Some(record) = table.find(long.hash, &long.key) {
            while !self.sink.save_slice(self.db, record, &mut long.place, Cause::Change) {}
        }
    }

    fn save(&mut self, table: &Table<Record>, bucket: usize, cause: Cause) {
        let Some(word) = self.saved.get_mut(bucket / 64) else { return };
        let bit = 1 << (bucket % 64);
        if *word & bit == 0 {
            *word |= bit;
            let (db, sink, longs) = (self.db, &self.sink, &mut self.longs);
            table.visit_bucket(bucket, &mut |record| {
                if sink.is_long(record) {
                    let key = record.key();
                    longs.push_back(Long { hash: hash::bytes(key), key: key.into(), place: None });
                } else {
                    sink.save(db, record, cause);
                }
            });
        }
    }
}
