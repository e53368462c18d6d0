//! Ways through the table: SCAN's cursor, whole buckets, every entry, a random one.

use super::bucket::{Bucket, SLOTS, Slots};
use super::{Entry, Place, Table};
use crate::base::random::Random;
use std::ptr::NonNull;

impl<E: Entry> Table<E> {
    /// Visits the entries under one cursor and returns the next cursor; 0 starts and ends (see the top of the file).
    pub fn scan(&self, cursor: u64, mut visit: impl FnMut(&E)) -> u64 {
        if self.chunks.is_empty() {
            return 0;
        }
        let mask = (1u64 << self.level) - 1;
        let index = (cursor & mask) as usize;
        self.visit_bucket(index, &mut visit);
        if index < self.split {
            self.visit_bucket(index + (1 << self.level), &mut visit);
        }
        (cursor | !mask).reverse_bits().wrapping_add(1).reverse_bits()
    }

    /// Visits every entry of one bucket and its chain.
    pub fn visit_bucket(&self, index: usize, visit: &mut impl FnMut(&E)) {
        self.visit_slots(index, |_, _| true, &mut |entry| visit(entry));
    }

    /// Visits the marked entries of one bucket; false if it has none (cheap: one look at the bucket).
    pub fn visit_marked(&self, index: usize, visit: &mut impl FnMut(&E)) -> bool {
        let mut any = false;
        self.visit_slots(index, |bucket, slot| bucket.is_marked(slot), &mut |entry| {
            any = true;
            visit(entry);
        });
        any
    }

    fn visit_slots(&self, index: usize, wanted: impl Fn(&Bucket, usize) -> bool, visit: &mut impl FnMut(&E)) {
        let mut current = Some(self.bucket(index));
        while let Some(pointer) = current {
            // SAFETY: live bucket of this table, which is borrowed.
            let bucket = unsafe { pointer.as_ref() };
            for slot in Slots(bucket.occupied()) {
                if wanted(bucket, slot) {
                    visit(self.entry(Place { bucket: pointer, slot }));
                }
            }
            current = bucket.next();
        }
    }

    /// Every entry, in no particular order.
    pub fn iter(&self) -> Iter<'_, E> {
        let current = (!self.chunks.is_empty()).then(|| self.bucket(0));
        Iter { table: self, index: 0, current, slots: Slots(current.map_or(0, occupied_slots)) }
    }

    /// A uniformly random entry: a random bucket, a random position in the longest possible chain, again until it hits.
    pub fn random(&self, random: &mut Random) -> Option<&E> {
        if self.len == 0 {
            return None;
        }
        loop {
            let index = random.below(self.buckets() as u64) as usize;
            let position = random.below((self.depth * SLOTS) as u64) as usize;
            let mut current = Some(self.bucket(index));
            for _ in 0..position / SLOTS {
                // SAFETY: live bucket.
                current = current.and_then(|bucket| unsafe { bucket.as_ref() }.next());
            }
            let Some(bucket) = current else { continue };
            let slot = position % SLOTS;
            // SAFETY: live bucket.
            if unsafe { bucket.as_ref() }.tag(slot) != 0 {
                return Some(self.entry(Place { bucket, slot }));
            }
        }
    }

    /// Buckets by number of entries, for DEBUG HTSTATS.
    pub fn chain_lengths(&self) -> Vec<usize> {
        let mut lengths = Vec::new();
        for index in 0..self.buckets() {
            let mut entries = 0;
            self.visit_bucket(index, &mut |_| entries += 1);
            if lengths.len() <= entries {
                lengths.resize(entries + 1, 0);
            }
            lengths[entries] += 1;
        }
        lengths
    }
}

pub struct Iter<'a, E: Entry> {
    table: &'a Table<E>,
    index: usize,
    current: Option<NonNull<Bucket>>,
    slots: Slots,
}

impl<'a, E: Entry> Iterator for Iter<'a, E> {
    type Item = &'a E;

    fn next(&mut self) -> Option<&'a E> {
        loop {
            let bucket = self.current?;
            if let Some(slot) = self.slots.next() {
                return Some(self.table.entry(Place { bucket, slot }));
            }
            // SAFETY: live bucket of a table borrowed for 'a.
            self.current = unsafe { bucket.as_ref() }.next().or_else(|| {
                self.index += 1;
                (self.index < self.table.buckets()).then(|| self.table.bucket(self.index))
            });
            self.slots = Slots(self.current.map_or(0, occupied_slots));
        }
    }
}

fn occupied_slots(bucket: NonNull<Bucket>) -> u64 {
    // SAFETY: called with live buckets of a borrowed table only.
    unsafe { bucket.as_ref() }.occupied()
}
