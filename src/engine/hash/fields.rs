//! The table form of a hash: a table of fields and, for those with an expiry, an index ordered by it.
//!
//! The index holds (expiry, address of the field's block): 16 bytes in a B-tree per field that expires and not a byte for
//! the others. It finds the earliest expiry and hands out expired fields in order, in O(log n).

use std::collections::BTreeSet;
use std::mem::ManuallyDrop;
use std::ptr::NonNull;

use super::field::Field;
use crate::base::hash;
use crate::engine::hash_expiry::Ttl;
use crate::engine::table::{Entry, Place, Table};

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Address(NonNull<u8>);

// SAFETY: a name for a field of the same `Fields`, read only while that is borrowed.
unsafe impl Send for Address {}
// SAFETY: as above.
unsafe impl Sync for Address {}

pub struct Fields {
    table: Table<Field>,
    /// Invariant: holds exactly the fields of `table` that have an expiry, under their present address.
    expiries: BTreeSet<(i64, Address)>,
}

impl Fields {
    pub fn with_capacity(count: usize) -> Self {
        Fields { table: Table::with_capacity(count), expiries: BTreeSet::new() }
    }

    pub fn table(&self) -> &Table<Field> {
        &self.table
    }

    #[inline]
    pub fn find(&self, field: &[u8]) -> Option<&Field> {
        self.table.find(hash::bytes(field), field)
    }

    /// Adds a field that is known to be absent.
    pub fn insert_new(&mut self, field: &[u8], value: &[u8], expires_at: Option<i64>) {
        self.insert_hashed(hash::bytes(field), field, value, expires_at);
    }

    fn insert_hashed(&mut self, hash: u64, field: &[u8], value: &[u8], expires_at: Option<i64>) {
        let place = self.table.insert_new(hash, Field::new(field, value, expires_at));
        self.index(place);
    }

    /// Whether the field is new.
    pub fn set(&mut self, field: &[u8], value: &[u8], ttl: Ttl) -> bool {
        let hash = hash::bytes(field);
        let Some(place) = self.table.place(hash, field) else {
            self.insert_hashed(hash, field, value, None);
            return true;
        };
        let indexed = self.unindex(place);
        let entry = self.table.entry_mut(place);
        if indexed && ttl == Ttl::Drop {
            *entry = Field::new(field, value, None);
        } else {
            entry.set_value(value);
        }
        self.index(place);
        false
    }

    /// False if there is no such field.
    pub fn set_expiry(&mut self, field: &[u8], expires_at: Option<i64>) -> bool {
        let Some(place) = self.table.place(hash::bytes(field), field) else { return false };
        self.unindex(place);
        self.table.entry_mut(place).set_expiry(expires_at);
        self.index(place);
        true
    }

    pub fn remove(&mut self, field: &[u8]) -> Option<Field> {
        let hash = hash::bytes(field);
        let place = self.table.place(hash, field)?;
        self.unindex(place);
        Some(self.table.remove_at(hash, place))
    }

    pub fn earliest_expiry(&self) -> Option<i64> {
        self.expiries.first().map(|(expires_at, _)| *expires_at)
    }

    /// Fields that expired before `now`; walks just these.
    pub fn expired_count(&self, now: i64) -> usize {
        self.expiries.iter().take_while(|(expires_at, _)| *expires_at < now).count()
    }

    /// Takes out the field that expired first, if it did before `now`.
    pub fn pop_expired(&mut self, now: i64) -> Option<Field> {
        let (_, Address(address)) = self.expiries.first().copied().filter(|(expires_at, _)| *expires_at < now)?;
        // SAFETY: by the invariant a field of the table has this address; ManuallyDrop leaves it to the table, and the
        // borrow of its key ends before the table changes.
        let indexed = unsafe { ManuallyDrop::new(Field::at(address)) };
        let hash = hash::bytes(indexed.key());
        let place = self.table.place(hash, indexed.key())?;
        self.unindex(place);
        Some(self.table.remove_at(hash, place))
    }

    /// Bytes of the allocator; fields are extrapolated from `samples` of them (0 = all).
    pub fn memory_usage(&self, samples: usize) -> usize {
        let samples = if samples == 0 { self.table.len() } else { samples.min(self.table.len()) };
        let sampled: usize = self.table.iter().take(samples).map(Field::memory).sum();
        let fields = sampled as u128 * self.table.len() as u128 / samples.max(1) as u128;
        // A B-tree node is about two thirds full.
        self.table.memory() + fields as usize + self.expiries.len() * size_of::<(i64, Address)>() * 3 / 2
    }

    fn index(&mut self, place: Place) {
        let entry = self.table.entry(place);
        if let Some(expires_at) = entry.expires_at() {
            self.expiries.insert((expires_at, Address(entry.address())));
        }
    }

    /// Whether the field was in the index.
    fn unindex(&mut self, place: Place) -> bool {
        let entry = self.table.entry(place);
        match entry.expires_at() {
            Some(expires_at) => self.expiries.remove(&(expires_at, Address(entry.address()))),
            None => false,
        }
    }
}

impl Clone for Fields {
    fn clone(&self) -> Self {
        let mut copy = Fields::with_capacity(self.table.len());
        for entry in self.table.iter() {
            copy.insert_new(entry.key(), entry.value(), entry.expires_at());
        }
        copy
    }
}
