//! A hash behind one word: a listpack of pairs, one of triples once a field has an expiry, or a table.
//!
//! ```text
//!              first expiry of a field
//!   listpack ───────────────────────────▶ listpackex (see hash_expiry)
//!      │ too many fields, or a long field or value   │
//!      └───────────────▶ hashtable ◀─────────────────┘
//! ```
//!
//! The conversions are Redis's (`hashTypeSet`, `hashTypeTryConversion`) and one-way. A hash without expiries pays nothing for the
//! feature. Reading lends elements: no allocation.

mod field;
mod fields;

use std::sync::atomic::{AtomicBool, Ordering};

use crate::base::random::Random;
use crate::engine::distinct::all_distinct;
use crate::engine::hash_expiry::{self, Triples, Ttl};
use crate::engine::limits::Limits;
use crate::engine::listpack::{self, Element, Listpack};
use crate::engine::memory::size_class;
use crate::engine::table::{self, Entry as _};
use crate::engine::tagged::{Boxed, Tagged, View, ViewMut};
use crate::engine::value::Ahead;
use field::Field;
use fields::Fields;

type Forms = Tagged<Listpack, Boxed<Triples, 1>, Boxed<Fields, 2>>;

/// The bound of a listpack in bytes, whatever the configuration allows.
const LISTPACK_SAFETY_LIMIT: usize = 1 << 30;

#[repr(transparent)]
pub struct Hash(Forms);

/// A field on loan, expired or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry<'a> {
    pub field: Element<'a>,
    pub value: Element<'a>,
    /// Unix milliseconds.
    pub expires_at: Option<i64>,
}

impl Entry<'_> {
    #[inline]
    pub fn is_expired(&self, now: i64) -> bool {
        self.expires_at.is_some_and(|expires_at| expires_at < now)
    }
}

impl<'a> From<&'a Field> for Entry<'a> {
    #[inline]
    fn from(field: &'a Field) -> Self {
        Entry {
            field: Element::Bytes(field.key()),
            value: Element::Bytes(field.value()),
            expires_at: field.expires_at(),
        }
    }
}

/// The blob of a packed hash, as RDB stores it.
pub enum Packed<'a> {
    /// field, value, …
    Pairs(&'a [u8]),
    /// field, value, expiry in Unix ms or 0, …
    Triples(&'a [u8]),
    /// Not packed: write the fields one by one.
    Table,
}

pub(super) enum Form<'a> {
    Pairs(&'a Listpack),
    Triples(&'a Triples),
    Fields(&'a Fields),
}

/// Set with the first expiry of a field in this process. RDB files need a newer version from then on.
static EXPIRING_FIELDS_SEEN: AtomicBool = AtomicBool::new(false);

/// Making.
impl Hash {
    /// Whether any hash of this process ever had a field with an expiry.
    pub fn expiring_fields_seen() -> bool {
        EXPIRING_FIELDS_SEEN.load(Ordering::Relaxed)
    }

    pub fn new() -> Self {
        Hash(Forms::first(Listpack::new()))
    }

    /// An empty hash in the form that `count` fields need.
    pub fn for_fields(count: usize, limits: &Limits) -> Self {
        if count > limits.hash_max_listpack_entries {
            Self::from_fields(Fields::with_capacity(count))
        } else {
            Self::new()
        }
    }

    /// A blob of RDB's hash-listpack type. `None` if it is malformed, empty, of odd length or has a field twice.
    pub fn from_pairs_blob(blob: &[u8], limits: &Limits) -> Option<Self> {
        let pairs = Listpack::from_bytes(blob)?;
        if pairs.is_empty() || !pairs.len().is_multiple_of(2) || !all_distinct(pairs.iter().step_by(2)) {
            return None;
        }
        Some(Hash(Forms::first(pairs)).fitted(limits))
    }

    /// A blob of RDB's hash-listpack-with-expiry type (absolute times). `None` if anything about it is wrong.
    pub fn from_triples_blob(blob: &[u8], limits: &Limits) -> Option<Self> {
        let triples = Triples::from_blob(blob)?;
        EXPIRING_FIELDS_SEEN.store(true, Ordering::Relaxed);
        Some(Hash(Forms::second(Boxed::new(triples))).fitted(limits))
    }

    fn fitted(mut self, limits: &Limits) -> Self {
        if self.len() > limits.hash_max_listpack_entries {
            self.become_table(0);
        }
        self
    }

    fn from_fields(fields: Fields) -> Self {
        Hash(Forms::third(Boxed::new(fields)))
    }
}

/// Reading.
impl Hash {
    /// Buckets by number of fields, if it is a table; for DEBUG HTSTATS-KEY.
    pub fn chain_lengths(&self) -> Option<Vec<usize>> {
        if let Form::Fields(fields) = self.form() { Some(fields.table().chain_lengths()) } else { None }
    }

    #[inline]
    pub(super) fn form(&self) -> Form<'_> {
        match self.0.view() {
            View::First(pairs) => Form::Pairs(pairs),
            View::Second(triples) => Form::Triples(triples),
            View::Third(fields) => Form::Fields(fields),
        }
    }

    /// See `ValueRef::prefetch_member`.
    #[inline]
    pub fn prefetch(&self, hash: u64, step: Ahead) {
        if let Form::Fields(fields) = self.form() {
            fields.table().prefetch(hash, step);
        }
    }

    /// Number of fields, expired ones included until they are taken out: what HLEN answers.
    pub fn len(&self) -> usize {
        match self.form() {
            Form::Pairs(pairs) => pairs.len() / 2,
            Form::Triples(triples) => triples.len(),
            Form::Fields(fields) => fields.table().len(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The value of a field that has not expired at `now`.
    #[inline]
    pub fn get(&self, field: &[u8], now: i64) -> Option<Element<'_>> {
        self.find(field).filter(|entry| !entry.is_expired(now)).map(|entry| entry.value)
    }

    #[inline]
    pub fn contains(&self, field: &[u8], now: i64) -> bool {
        self.get(field, now).is_some()
    }

    /// A field, even if it has expired.
    pub fn find(&self, field: &[u8]) -> Option<Entry<'_>> {
        match self.form() {
            Form::Pairs(pairs) => {
                let place = pairs.find(field, None, 1)?;
                let value = pairs.next(place)?;
                Some(Entry { field: pairs.get(place), value: pairs.get(value), expires_at: None })
            }
            Form::Triples(triples) => triples.find(field).and_then(|place| triples.entry(place)),
            Form::Fields(fields) => fields.find(field).map(Entry::from),
        }
    }

    /// All fields, expired ones too, in no particular order (pairs: oldest first).
    pub fn iter(&self) -> Iter<'_> {
        match self.form() {
            Form::Pairs(pairs) => Iter::Pairs(pairs.iter()),
            Form::Triples(triples) => triples.iter(),
            Form::Fields(fields) => Iter::Table(fields.table().iter()),
        }
    }

    /// A field, expired or not, each with the same probability.
    pub fn random(&self, random: &mut Random) -> Option<Entry<'_>> {
        if let Form::Fields(fields) = self.form() {
            return fields.table().random(random).map(Entry::from);
        }
        let len = self.len();
        if len == 0 { None } else { self.nth_packed(random.below(len as u64) as usize) }
    }

    fn nth_packed(&self, index: usize) -> Option<Entry<'_>> {
        match self.form() {
            Form::Pairs(pairs) => {
                let place = pairs.seek(2 * index as i64)?;
                let value = pairs.next(place)?;
                Some(Entry { field: pairs.get(place), value: pairs.get(value), expires_at: None })
            }
            Form::Triples(triples) => triples.nth(index),
            Form::Fields(_) => None,
        }
    }

    /// HSCAN: visits some fields, expired ones too, and returns the next cursor. A packed hash is visited whole.
    pub fn scan(&self, cursor: u64, mut visit: impl FnMut(Entry<'_>)) -> u64 {
        match self.form() {
            Form::Fields(fields) => fields.table().scan(cursor, |field| visit(Entry::from(field))),
            Form::Pairs(_) | Form::Triples(_) => {
                self.iter().for_each(visit);
                0
            }
        }
    }

    /// The name that OBJECT ENCODING answers.
    pub fn encoding(&self) -> &'static str {
        match self.form() {
            Form::Pairs(_) => "listpack",
            Form::Triples(_) => "listpackex",
            Form::Fields(_) => "hashtable",
        }
    }

    /// Bytes of the allocator that the hash holds; fields of a table are extrapolated from `samples` of them (0 = all).
    pub fn memory_usage(&self, samples: usize) -> usize {
        match self.form() {
            Form::Pairs(pairs) => pairs.memory(),
            Form::Triples(triples) => size_class(size_of::<Triples>()) + triples.packed().memory(),
            Form::Fields(fields) => size_class(size_of::<Fields>()) + fields.memory_usage(samples),
        }
    }

    pub fn as_packed(&self) -> Packed<'_> {
        match self.form() {
            Form::Pairs(pairs) => Packed::Pairs(pairs.as_bytes()),
            Form::Triples(triples) => Packed::Triples(triples.packed().as_bytes()),
            Form::Fields(_) => Packed::Table,
        }
    }
}

/// Changing.
impl Hash {
    /// Takes the form that `count` more fields will need, whose texts (fields and values) have these lengths.
    pub fn expect(&mut self, count: usize, lengths: impl Iterator<Item = usize>, limits: &Limits) {
        let packed_bytes = match self.form() {
            Form::Pairs(pairs) => pairs.byte_len(),
            Form::Triples(triples) => triples.packed().byte_len(),
            Form::Fields(_) => return,
        };
        let mut total = packed_bytes;
        let fits = count <= limits.hash_max_listpack_entries
            && lengths.into_iter().all(|len| {
                total = total.saturating_add(len);
                len <= limits.hash_max_listpack_value
            });
        if !fits || total > LISTPACK_SAFETY_LIMIT {
            self.become_table(count);
        }
    }

    /// Sets a field, which loses its expiry; whether it is new.
    pub fn set(&mut self, field: &[u8], value: &[u8], limits: &Limits) -> bool {
        self.put(field, value, Ttl::Drop, limits)
    }

    /// Sets a field, which keeps its expiry; whether it is new.
    pub fn set_keeping_ttl(&mut self, field: &[u8], value: &[u8], limits: &Limits) -> bool {
        self.put(field, value, Ttl::Keep, limits)
    }

    /// Sets a field only if it is absent (an expired one that is still there counts as present); whether it did.
    pub fn set_nx(&mut self, field: &[u8], value: &[u8], limits: &Limits) -> bool {
        self.find(field).is_none() && self.set(field, value, limits)
    }

    fn put(&mut self, field: &[u8], value: &[u8], ttl: Ttl, limits: &Limits) -> bool {
        if field.len().max(value.len()) > limits.hash_max_listpack_value && !matches!(self.form(), Form::Fields(_)) {
            self.become_table(0);
        }
        let new = match self.0.view_mut() {
            ViewMut::First(pairs) => set_pair(pairs, field, value),
            ViewMut::Second(triples) => triples.set(field, value, ttl),
            ViewMut::Third(fields) => return fields.set(field, value, ttl),
        };
        if new && self.len() > limits.hash_max_listpack_entries {
            self.become_table(0);
        }
        new
    }

    /// False if there is no such field. The form stays.
    pub fn remove(&mut self, field: &[u8]) -> bool {
        match self.0.view_mut() {
            ViewMut::First(pairs) => match pairs.find(field, None, 1) {
                Some(place) => {
                    pairs.remove(place);
                    pairs.remove(place);
                    true
                }
                None => false,
            },
            ViewMut::Second(triples) => triples.remove(field),
            ViewMut::Third(fields) => fields.remove(field).is_some(),
        }
    }

    /// Runs the variant for the form that keeps expiries, which pairs become first.
    pub(super) fn with_expiries<R>(
        &mut self,
        packed: impl FnOnce(&mut Triples) -> R,
        table: impl FnOnce(&mut Fields) -> R,
    ) -> R {
        EXPIRING_FIELDS_SEEN.store(true, Ordering::Relaxed);
        if let View::First(pairs) = self.0.view() {
            let triples = Triples::from_pairs(pairs);
            self.0.replace(Forms::second(Boxed::new(triples)));
        }
        match self.0.view_mut() {
            ViewMut::First(_) => unreachable!("pairs became triples above"),
            ViewMut::Second(triples) => packed(triples),
            ViewMut::Third(fields) => table(fields),
        }
    }

    pub(super) fn pop_expired(&mut self, now: i64) -> Option<Vec<u8>> {
        match self.0.view_mut() {
            ViewMut::First(_) => None,
            ViewMut::Second(triples) => triples.pop_expired(now),
            ViewMut::Third(fields) => fields.pop_expired(now).map(|field| field.key().to_vec()),
        }
    }

    /// Becomes a table with room for `count` more fields.
    fn become_table(&mut self, count: usize) {
        let mut fields = Fields::with_capacity(self.len() + count);
        for entry in self.iter() {
            entry.field.with_bytes(|field| {
                entry.value.with_bytes(|value| fields.insert_new(field, value, entry.expires_at));
            });
        }
        *self = Self::from_fields(fields);
    }
}

/// Whether the field is new.
fn set_pair(pairs: &mut Listpack, field: &[u8], value: &[u8]) -> bool {
    let found = pairs.find(field, None, 1).and_then(|place| pairs.next(place));
    match found {
        Some(place) => {
            pairs.replace(place, value);
        }
        None => {
            pairs.push_back(field);
            pairs.push_back(value);
        }
    }
    found.is_none()
}

impl Default for Hash {
    fn default() -> Self {
        Self::new()
    }
}

impl Clone for Hash {
    fn clone(&self) -> Self {
        match self.form() {
            Form::Pairs(pairs) => Hash(Forms::first(pairs.clone())),
            Form::Triples(triples) => Hash(Forms::second(Boxed::new(triples.clone()))),
            Form::Fields(fields) => Self::from_fields(fields.clone()),
        }
    }
}

impl std::fmt::Debug for Hash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

/// The fields of a hash.
pub enum Iter<'a> {
    Pairs(listpack::Iter<'a>),
    Triples(listpack::Iter<'a>),
    Table(table::Iter<'a, Field>),
}

impl<'a> Iterator for Iter<'a> {
    type Item = Entry<'a>;

    #[inline]
    fn next(&mut self) -> Option<Entry<'a>> {
        match self {
            Iter::Pairs(elements) => {
                let (field, value) = (elements.next()?, elements.next()?);
                Some(Entry { field, value, expires_at: None })
            }
            Iter::Triples(elements) => {
                let (field, value, expiry) = (elements.next()?, elements.next()?, elements.next()?);
                Some(Entry { field, value, expires_at: hash_expiry::loaded(expiry) })
            }
            Iter::Table(fields) => fields.next().map(Entry::from),
        }
    }
}

#[cfg(test)]
mod tests;
