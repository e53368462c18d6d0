//! A shard: every database's part of the keys that hash to it, and who waits for or watches those keys.

use super::db::Db;
use super::waiters::Waiters;
use super::watch::Watches;

#[derive(Default)]
pub struct Shard {
    /// At least as long as the highest database that has been written here; the rest is empty.
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
        shard.dbs.resize_with(databases.min(DBS_FROM_START), Db::default);
        shard
    }

    #[inline]
    pub fn db(&self, index: usize) -> Option<&Db> {
        self.dbs.get(index)
    }

    #[inline]
    pub fn db_mut(&mut self, index: usize) -> &mut Db {
        if index >= self.dbs.len() {
            self.add_dbs(index);
        }
        &mut self.dbs[index]
    }

    #[cold]
    fn add_dbs(&mut self, index: usize) {
        self.dbs.resize_with(index + 1, Db::default);
    }

    /// The databases that have a place here.
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
        self.db_mut(first.max(second));
        self.dbs.swap(first, second);
    }
}
