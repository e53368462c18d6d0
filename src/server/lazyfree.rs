//! Dropping big values off the workers' path. Whoever owns the background thread runs `run`; others only hand over.

use crate::engine::record::Record;
use crate::engine::table::Table;
use parking_lot::{Condvar, Mutex};
use std::sync::atomic::{AtomicU64, Ordering};

enum Garbage {
    Record(Record),
    Table(Table<Record>),
}

impl Garbage {
    fn free(self) {
        match self {
            Garbage::Record(record) => drop(record),
            Garbage::Table(table) => drop(table),
        }
    }

    fn objects(&self) -> u64 {
        match self {
            Garbage::Record(_) => 1,
            Garbage::Table(table) => table.len() as u64,
        }
    }
}

#[derive(Default)]
pub struct LazyFree {
    queue: Mutex<Vec<Garbage>>,
    arrived: Condvar,
    /// `lazyfree_pending_objects` and `lazyfreed_objects`.
    pub pending: AtomicU64,
    pub freed: AtomicU64,
}

impl LazyFree {
    pub fn drop_records(&self, records: Vec<Record>) {
        self.push(records.into_iter().map(Garbage::Record));
    }

    pub fn drop_table(&self, table: Table<Record>) {
        if !table.is_empty() {
            self.push([Garbage::Table(table)]);
        }
    }

    fn push(&self, garbage: impl IntoIterator<Item = Garbage>) {
        let mut queue = self.queue.lock();
        for item in garbage {
            self.pending.fetch_add(item.objects(), Ordering::Relaxed);
            queue.push(item);
        }
        self.arrived.notify_one();
    }

    /// The background thread: never returns.
    pub fn run(&self) -> ! {
        loop {
            let mut queue = self.queue.lock();
            while queue.is_empty() {
                self.arrived.wait(&mut queue);
            }
            let garbage = std::mem::take(&mut *queue);
            drop(queue);
            for item in garbage {
                let objects = item.objects();
                item.free();
                self.pending.fetch_sub(objects, Ordering::Relaxed);
                self.freed.fetch_add(objects, Ordering::Relaxed);
            }
        }
    }
}
