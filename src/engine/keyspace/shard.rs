//! A shard: every database's part of the keys that hash to it, and who waits for or watches those keys.

use super::db::Db;
use super::place;
use super::waiters::Waiters;
use super::watch::Watches;
use std::ops::Range;

#[derive(Default)]
pub struct Shard {
    /// By database, in cluster mode by slot (see `place`). At least as long as the highest that has been written here; the rest
    /// is empty.
    dbs: Vec<Db>,
    pub waiters: Waiters,
    pub watches: Watches,
}

/// Databases that every shard has from the start. Their 112 bytes a piece would otherwise be taken by the first write to each
/// of 64 shards, and look like data: with a small maxmemory nothing would be left of it for keys.
const DBS_FROM_START: usize = 16;

impl Shard {
    /// A shard of a keyspace of so many databases.
    pub fn new(databases: usize) -> Self {
        let mut shard = Shard::default();
        let parts = if place::is_by_slot() { place::PARTS } else { databases.min(DBS_FROM_START) };
        shard.dbs.resize_with(parts, Db::default);
        shard
    }

    /// One table, by its place.
    #[inline]
    pub fn part(&self, index: usize) -> Option<&Db> {
        self.dbs.get(index)
    }

    #[inline]
    pub fn part_mut(&mut self, index: usize) -> &mut Db {
        if index >= self.dbs.len() {
            self.add_dbs(index);
        }
        &mut self.dbs[index]
    }

    /// Every table of a database: one, or in cluster mode those of all slots.
    pub fn parts(&self, db: usize) -> impl Iterator<Item = &Db> + Clone {
        self.dbs[self.places(db)].iter()
    }

    /// The same, to change them.
    pub fn parts_mut(&mut self, db: usize) -> impl Iterator<Item = &mut Db> {
        let places = self.places(db);
        self.dbs[places].iter_mut()
    }

    fn places(&self, db: usize) -> Range<usize> {
        let len = self.dbs.len();
        match place::is_by_slot() {
            true if db == 0 => 0..len,
            true => 0..0,
            false => db.min(len)..(db + 1).min(len),
        }
    }

    #[cold]
    fn add_dbs(&mut self, index: usize) {
        self.dbs.resize_with(index + 1, Db::default);
    }

    /// All tables, by place.
    pub fn dbs(&self) -> &[Db] {
        &self.dbs
    }

    pub fn dbs_mut(&mut self) -> &mut [Db] {
        &mut self.dbs
    }

    /// Swaps all databases with those of another shard; whoever waits or watches stays.
    pub fn exchange_dbs(&mut self, other: &mut Shard) {
        std::mem::swap(&mut self.dbs, &mut other.dbs);
    }

    pub fn swap(&mut self, first: usize, second: usize) {
        self.part_mut(first.max(second));
        self.dbs.swap(first, second);
    }
}
