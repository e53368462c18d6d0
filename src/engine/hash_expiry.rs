//! Expiry of single fields: the packed form that keeps it (`listpackex`), and what a hash answers and changes about it.
//!
//! ```text
//! listpack of triples, by expiry, those without last:
//!   field value 1700000000000   field value 1700000005000   field value 0   field value 0
//! ```
//!
//! So the earliest expiry is the third element and expired fields are a prefix. A hash gets this form with its first expiry
//! and keeps it, as in Redis. Times are Unix milliseconds; a field is expired once its time is *before* now, as a key is.

use crate::base::number::IntText;
use crate::engine::distinct::all_distinct;
use crate::engine::hash::{self, Hash};
use crate::engine::listpack::{Element, Listpack, Pos};

/// The greatest expiry that Redis stores (48 bits, less the two marks).
pub const MAX_EXPIRY: i64 = (1 << 48) - 3;

/// What a new value does to the expiry of its field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ttl {
    Drop,
    Keep,
}

/// The elements of one triple.
const TRIPLE: usize = 3;

/// The packed form with expiries.
#[derive(Clone)]
pub(super) struct Triples {
    packed: Listpack,
}

impl Triples {
    /// From a listpack of pairs; no field expires.
    pub fn from_pairs(pairs: &Listpack) -> Self {
        let mut packed = Listpack::new();
        for (index, element) in pairs.iter().enumerate() {
            element.with_bytes(|text| packed.push_back(text));
            if index % 2 == 1 {
                packed.push_back_int(0);
            }
        }
        Triples { packed }
    }

    /// Checks a blob from outside; one that is not in order is put in order.
    pub fn from_blob(blob: &[u8]) -> Option<Self> {
        let packed = Listpack::from_bytes(blob)?;
        if packed.is_empty() || !packed.len().is_multiple_of(TRIPLE) || !all_distinct(packed.iter().step_by(TRIPLE)) {
            return None;
        }
        let expiries: Option<Vec<i64>> = packed.iter().skip(TRIPLE - 1).step_by(TRIPLE).map(stored_expiry).collect();
        let triples = Triples { packed };
        if expiries?.is_sorted_by_key(|expiry| order(*expiry)) {
            return Some(triples);
        }
        let mut entries: Vec<_> = triples.iter().collect();
        entries.sort_by_key(|entry| order(entry.expires_at.unwrap_or(0)));
        let mut sorted = Triples { packed: Listpack::new() };
        for entry in entries {
            entry.field.with_bytes(|field| entry.value.with_bytes(|value| sorted.push(field, value, entry.expires_at)));
        }
        Some(sorted)
    }

    pub fn packed(&self) -> &Listpack {
        &self.packed
    }

    pub fn len(&self) -> usize {
        self.packed.len() / TRIPLE
    }

    /// In the order of expiry, those without last.
    pub fn iter(&self) -> hash::Iter<'_> {
        hash::Iter::Triples(self.packed.iter())
    }

    pub fn find(&self, field: &[u8]) -> Option<Pos> {
        self.packed.find(field, None, TRIPLE - 1)
    }

    /// The triple whose field stands at `place`.
    pub fn entry(&self, place: Pos) -> Option<hash::Entry<'_>> {
        let value = self.packed.next(place)?;
        let expiry = self.packed.next(value)?;
        let packed = &self.packed;
        Some(hash::Entry { field: packed.get(place), value: packed.get(value), expires_at: loaded(packed.get(expiry)) })
    }

    pub fn nth(&self, index: usize) -> Option<hash::Entry<'_>> {
        self.packed.seek((index * TRIPLE) as i64).and_then(|place| self.entry(place))
    }

    /// Whether the field is new.
    pub fn set(&mut self, field: &[u8], value: &[u8], ttl: Ttl) -> bool {
        let Some(place) = self.find(field) else {
            self.push(field, value, None);
            return true;
        };
        let expires = self.entry(place).is_some_and(|entry| entry.expires_at.is_some());
        if expires && ttl == Ttl::Drop {
            self.remove_at(place);
            self.push(field, value, None);
        } else if let Some(value_at) = self.packed.next(place) {
            self.packed.replace(value_at, value);
        }
        false
    }

    /// False if there is no such field.
    pub fn set_expiry(&mut self, field: &[u8], expires_at: Option<i64>) -> bool {
        let Some(place) = self.find(field) else { return false };
        let Some(entry) = self.entry(place) else { return false };
        if entry.expires_at != expires_at {
            let value = entry.value.to_vec();
            self.remove_at(place);
            self.insert_in_order(field, &value, expires_at);
        }
        true
    }

    pub fn remove(&mut self, field: &[u8]) -> bool {
        let place = self.find(field);
        if let Some(place) = place {
            self.remove_at(place);
        }
        place.is_some()
    }

    pub fn earliest_expiry(&self) -> Option<i64> {
        self.packed.seek(TRIPLE as i64 - 1).and_then(|place| loaded(self.packed.get(place)))
    }

    pub fn expired_count(&self, now: i64) -> usize {
        self.iter().take_while(|entry| entry.is_expired(now)).count()
    }

    /// Takes out the field that expired first, if it did before `now`.
    pub fn pop_expired(&mut self, now: i64) -> Option<Vec<u8>> {
        let place = self.packed.first()?;
        let field = self.entry(place).filter(|entry| entry.is_expired(now))?.field.to_vec();
        self.remove_at(place);
        Some(field)
    }

    fn insert_in_order(&mut self, field: &[u8], value: &[u8], expires_at: Option<i64>) {
        let mut place = self.packed.first();
        while let Some(at) = place {
            let later = self
                .entry(at)
                .is_some_and(|entry| order(entry.expires_at.unwrap_or(0)) > order(expires_at.unwrap_or(0)));
            if later {
                let value_after = self.packed.insert_before(at, field);
                let expiry_after = self.packed.insert_after(value_after, value);
                self.packed.insert_after(expiry_after, &IntText::new(expires_at.unwrap_or(0)));
                return;
            }
            place = self.after(at);
        }
        self.push(field, value, expires_at);
    }

    /// The field of the next triple.
    fn after(&self, place: Pos) -> Option<Pos> {
        (0..TRIPLE).try_fold(place, |place, _| self.packed.next(place))
    }

    fn push(&mut self, field: &[u8], value: &[u8], expires_at: Option<i64>) {
        self.packed.push_back(field);
        self.packed.push_back(value);
        self.packed.push_back_int(expires_at.unwrap_or(0));
    }

    fn remove_at(&mut self, place: Pos) {
        for _ in 0..TRIPLE {
            self.packed.remove(place);
        }
    }
}

/// No expiry, stored as 0, comes after every expiry.
fn order(stored: i64) -> i64 {
    if stored == 0 { i64::MAX } else { stored }
}

/// The third element of a triple from outside: an integer in range, or the triple is refused.
fn stored_expiry(element: Element<'_>) -> Option<i64> {
    element.as_i64().filter(|expiry| (0..=MAX_EXPIRY).contains(expiry))
}

/// An expiry as the listpack holds it; 0 stands for none.
pub(super) fn loaded(element: Element<'_>) -> Option<i64> {
    element.as_i64().filter(|expiry| *expiry != 0)
}

/// Field expiry of a hash.
impl Hash {
    /// None: no such field. `Some(None)`: it does not expire.
    pub fn expiry(&self, field: &[u8]) -> Option<Option<i64>> {
        self.find(field).map(|entry| entry.expires_at)
    }

    /// Sets (Unix ms, 1..=`MAX_EXPIRY`) or, with `None`, removes the expiry of a field. False if there is no such field.
    pub fn set_expiry(&mut self, field: &[u8], expires_at: Option<i64>) -> bool {
        debug_assert!(expires_at.is_none_or(|expiry| (1..=MAX_EXPIRY).contains(&expiry)));
        match self.expiry(field) {
            None => false,
            Some(present) if present == expires_at => true,
            Some(_) => self.with_expiries(
                |triples| triples.set_expiry(field, expires_at),
                |fields| fields.set_expiry(field, expires_at),
            ),
        }
    }

    /// Whether any field has an expiry.
    pub fn has_expiries(&self) -> bool {
        self.earliest_expiry().is_some()
    }

    /// When the next field expires; may lie in the past. O(1) packed, O(log n) in a table.
    pub fn earliest_expiry(&self) -> Option<i64> {
        match self.form() {
            hash::Form::Pairs(_) => None,
            hash::Form::Triples(triples) => triples.earliest_expiry(),
            hash::Form::Fields(fields) => fields.earliest_expiry(),
        }
    }

    /// Number of fields that have not expired at `now`.
    pub fn live_len(&self, now: i64) -> usize {
        let expired = match self.form() {
            hash::Form::Pairs(_) => 0,
            hash::Form::Triples(triples) => triples.expired_count(now),
            hash::Form::Fields(fields) => fields.expired_count(now),
        };
        self.len() - expired
    }

    /// Removes up to `limit` fields that have expired at `now`, earliest first, and names them.
    pub fn take_expired(&mut self, now: i64, limit: usize) -> Vec<Vec<u8>> {
        let mut taken = Vec::new();
        if self.earliest_expiry().is_none_or(|earliest| earliest >= now) {
            return taken;
        }
        while taken.len() < limit
            && let Some(field) = self.pop_expired(now)
        {
            taken.push(field);
        }
        taken
    }
}

#[cfg(test)]
mod tests;
