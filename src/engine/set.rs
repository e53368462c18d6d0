//! A set behind one word: intset → listpack or table.
//!
//! ```text
//!            a member that is no integer, few and short
//!   intset ────────────────────────────────────────────▶ listpack
//!      │ too many members, or the newcomer does not suit      │ too many members, or a long one
//!      └──────────────────────▶ hashtable ◀───────────────────┘
//! ```
//!
//! The conversions are those of Redis since 7.2 (`setTypeAdd`), and one-way. A member of the table form is one
//! allocation behind one slot of a bucket. Intersections and unions belong to the commands.

use std::ptr::NonNull;

use crate::base::number::{IntText, parse_i64};
use crate::base::{hash, random::Random};
use crate::engine::block::{self, Prefix};
use crate::engine::distinct::all_distinct;
use crate::engine::intset::Intset;
use crate::engine::limits::Limits;
use crate::engine::listpack::{self, Element, Listpack};
use crate::engine::memory::size_class;
use crate::engine::table::{self, Entry, Table};
use crate::engine::tagged::{Boxed, Tagged, View, ViewMut};
use crate::engine::value::Ahead;

type Members = Boxed<Table<Member>, 2>;
type Forms = Tagged<Listpack, Intset, Members>;

/// The bound of a listpack in bytes, whatever the configuration allows.
const LISTPACK_SAFETY_LIMIT: usize = 1 << 30;
/// The bound of an intset's length, whatever the configuration allows.
const INTSET_LENGTH_LIMIT: usize = 1 << 30;

#[repr(transparent)]
pub struct Set(Forms);

/// The blob of a packed set, as RDB stores it.
pub enum Packed<'a> {
    Intset(&'a [u8]),
    Listpack(&'a [u8]),
    /// Not packed: write the members one by one.
    Table,
}

/// A set for its first members.
impl Set {
    /// An empty set in the form that suits `first` and about `count` members.
    pub fn for_members(first: &[u8], count: usize, limits: &Limits) -> Self {
        if count <= limits.set_max_intset_entries && parse_i64(first).is_some() {
            Self::new()
        } else if count <= limits.set_max_listpack_entries {
            Set(Forms::first(Listpack::new()))
        } else {
            Self::table(Table::with_capacity(count))
        }
    }

    /// An empty set that becomes whatever its members need.
    pub fn new() -> Self {
        Self::intset(Intset::new())
    }

    /// A blob of RDB's intset type. `None` if it is malformed, unsorted or empty.
    pub fn from_intset_blob(blob: &[u8], limits: &Limits) -> Option<Self> {
        let mut set = Self::intset(Intset::from_bytes(blob)?);
        if set.len() > intset_limit(limits) {
            set.become_table(0);
        }
        Some(set)
    }

    /// A blob of RDB's set-listpack type. `None` if it is malformed, empty or has a member twice.
    pub fn from_listpack_blob(blob: &[u8], limits: &Limits) -> Option<Self> {
        let members = Listpack::from_bytes(blob)?;
        if members.is_empty() || !all_distinct(members.iter()) {
            return None;
        }
        let too_many = members.len() > limits.set_max_listpack_entries;
        let mut set = Set(Forms::first(members));
        if too_many {
            set.become_table(0);
        }
        Some(set)
    }

    fn intset(integers: Intset) -> Self {
        Set(Forms::second(integers))
    }

    fn table(table: Table<Member>) -> Self {
        Set(Forms::third(Boxed::new(table)))
    }
}

/// Reading.
impl Set {
    pub fn len(&self) -> usize {
        match self.0.view() {
            View::First(packed) => packed.len(),
            View::Second(integers) => integers.len(),
            View::Third(table) => table.len(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn contains(&self, member: &[u8]) -> bool {
        match self.0.view() {
            View::First(packed) => packed.find(member, None, 0).is_some(),
            View::Second(integers) => parse_i64(member).is_some_and(|value| integers.contains(value)),
            View::Third(table) => table.find(hash::bytes(member), member).is_some(),
        }
    }

    /// See `ValueRef::prefetch_member`.
    #[inline]
    pub fn prefetch(&self, hash: u64, step: Ahead) {
        if let View::Third(table) = self.0.view() {
            table.prefetch(hash, step);
        }
    }

    /// Spares the text of a number where both sets hold numbers.
    pub fn contains_element(&self, member: Element<'_>) -> bool {
        match (self.0.view(), member) {
            (View::Second(integers), Element::Int(value)) => integers.contains(value),
            _ => member.with_bytes(|text| self.contains(text)),
        }
    }

    /// Buckets by number of members, if it is a table; for DEBUG HTSTATS-KEY.
    pub fn chain_lengths(&self) -> Option<Vec<usize>> {
        if let View::Third(table) = self.0.view() { Some(table.chain_lengths()) } else { None }
    }

    /// Members in no particular order (an intset: ascending; a listpack: oldest first).
    pub fn iter(&self) -> Iter<'_> {
        match self.0.view() {
            View::First(packed) => Iter::Packed(packed.iter()),
            View::Second(integers) => Iter::Integers { integers, rank: 0 },
            View::Third(table) => Iter::Table(table.iter()),
        }
    }

    /// A member, each with the same probability.
    pub fn random(&self, random: &mut Random) -> Option<Element<'_>> {
        match self.0.view() {
            View::First(packed) if packed.is_empty() => None,
            View::First(packed) => {
                let index = random.below(packed.len() as u64);
                packed.seek(index as i64).map(|place| packed.get(place))
            }
            View::Second(integers) => integers.random(random).map(Element::Int),
            View::Third(table) => table.random(random).map(|member| Element::Bytes(member.key())),
        }
    }

    /// SSCAN: visits some members and returns the next cursor. A packed set is visited whole.
    pub fn scan(&self, cursor: u64, mut visit: impl FnMut(Element<'_>)) -> u64 {
        match self.0.view() {
            View::Third(table) => table.scan(cursor, |member| visit(Element::Bytes(member.key()))),
            View::First(_) | View::Second(_) => {
                self.iter().for_each(visit);
                0
            }
        }
    }

    /// The name that OBJECT ENCODING answers.
    pub fn encoding(&self) -> &'static str {
        match self.0.view() {
            View::First(_) => "listpack",
            View::Second(_) => "intset",
            View::Third(_) => "hashtable",
        }
    }

    /// Bytes of the allocator that the set holds; members of a table are extrapolated from `samples` of them (0 = all).
    pub fn memory_usage(&self, samples: usize) -> usize {
        match self.0.view() {
            View::First(packed) => packed.memory(),
            View::Second(integers) => size_class(integers.memory()),
            View::Third(table) => {
                let samples = if samples == 0 { table.len() } else { samples.min(table.len()) };
                let sampled: usize = table.iter().take(samples).map(|member| size_class(member.size())).sum();
                let members =
                    if samples == 0 { 0 } else { (sampled as u128 * table.len() as u128 / samples as u128) as usize };
                size_class(size_of::<Table<Member>>()) + table.memory() + members
            }
        }
    }

    pub fn as_packed(&self) -> Packed<'_> {
        match self.0.view() {
            View::First(packed) => Packed::Listpack(packed.as_bytes()),
            View::Second(integers) => Packed::Intset(integers.as_bytes()),
            View::Third(_) => Packed::Table,
        }
    }
}

/// Changing.
impl Set {
    /// Takes the form that `count` members will need, before the first of them comes. Does nothing to a table.
    pub fn expect(&mut self, count: usize, limits: &Limits) {
        let too_many = match self.0.view() {
            View::First(_) => count > limits.set_max_listpack_entries,
            View::Second(_) => count > limits.set_max_intset_entries,
            View::Third(_) => false,
        };
        if too_many {
            self.become_table(count);
        }
    }

    /// False if it was a member already.
    pub fn add(&mut self, member: &[u8], limits: &Limits) -> bool {
        match self.0.view_mut() {
            ViewMut::First(packed) => {
                if packed.find(member, None, 0).is_some() {
                    return false;
                }
                if packed.len() < limits.set_max_listpack_entries && suits_listpack(member, packed.byte_len(), limits) {
                    packed.push_back(member);
                    return true;
                }
            }
            ViewMut::Second(_) => {
                if let Some(value) = parse_i64(member) {
                    return self.add_int(value, limits);
                }
                if self.integers_suit_listpack(member, limits) {
                    self.become_listpack().push_back(member);
                    return true;
                }
            }
            ViewMut::Third(table) => return add_to_table(table, member),
        }
        let members = self.len() + 1;
        add_to_table(self.become_table(members), member)
    }

    /// The same for a member of another set; spares the text of a number where it can.
    pub fn add_element(&mut self, member: Element<'_>, limits: &Limits) -> bool {
        match (self.0.view(), member) {
            (View::Second(_), Element::Int(value)) => self.add_int(value, limits),
            _ => member.with_bytes(|text| self.add(text, limits)),
        }
    }

    fn add_int(&mut self, value: i64, limits: &Limits) -> bool {
        let ViewMut::Second(integers) = self.0.view_mut() else { return self.add(&IntText::new(value), limits) };
        let added = integers.insert(value);
        if added && integers.len() > intset_limit(limits) {
            self.become_table(0);
        }
        added
    }

    /// False if it was no member. The form stays.
    pub fn remove(&mut self, member: &[u8]) -> bool {
        match self.0.view_mut() {
            ViewMut::First(packed) => match packed.find(member, None, 0) {
                Some(place) => {
                    packed.remove(place);
                    true
                }
                None => false,
            },
            ViewMut::Second(integers) => parse_i64(member).is_some_and(|value| integers.remove(value)),
            ViewMut::Third(table) => table.remove(hash::bytes(member), member).is_some(),
        }
    }

    /// Takes a random member out.
    pub fn pop(&mut self, random: &mut Random) -> Option<Vec<u8>> {
        if let ViewMut::First(packed) = self.0.view_mut() {
            if packed.is_empty() {
                return None;
            }
            let place = packed.seek(random.below(packed.len() as u64) as i64)?;
            let member = packed.get(place).to_vec();
            packed.remove(place);
            return Some(member);
        }
        let member = self.random(random)?.to_vec();
        self.remove(&member);
        Some(member)
    }

    /// Becomes an intset if all members are integers and few: what a stored result of SINTER or SDIFF is compacted to.
    pub fn compact(&mut self, limits: &Limits) {
        if matches!(self.0.view(), View::Second(_)) || self.len() > intset_limit(limits) {
            return;
        }
        let mut integers = Intset::new();
        for member in self.iter() {
            match member.as_i64() {
                Some(value) => integers.insert(value),
                None => return,
            };
        }
        *self = Self::intset(integers);
    }

    /// Whether an intset and one more member, which is no integer, may become a listpack. Counts the longest integer for all.
    fn integers_suit_listpack(&self, member: &[u8], limits: &Limits) -> bool {
        let View::Second(integers) = self.0.view() else { return false };
        let widest =
            [integers.min(), integers.max()].into_iter().flatten().map(|value| IntText::new(value).len()).max();
        let widest = widest.unwrap_or(0);
        integers.len() < limits.set_max_listpack_entries
            && widest <= limits.set_max_listpack_value
            && suits_listpack(member, integers.len() * (widest + 2), limits)
    }

    fn become_listpack(&mut self) -> &mut Listpack {
        let mut packed = Listpack::new();
        for member in self.iter() {
            match member {
                Element::Int(value) => packed.push_back_int(value),
                Element::Bytes(text) => packed.push_back(text),
            }
        }
        self.0.replace(Forms::first(packed));
        match self.0.view_mut() {
            ViewMut::First(packed) => packed,
            _ => unreachable!("a listpack was put in place above"),
        }
    }

    /// Becomes a table with room for `count` members, or for those it has.
    fn become_table(&mut self, count: usize) -> &mut Table<Member> {
        let mut table = Table::with_capacity(count.max(self.len()));
        for member in self.iter() {
            member.with_bytes(|text| table.insert_new(hash::bytes(text), Member::new(text)));
        }
        self.0.replace(Forms::third(Boxed::new(table)));
        match self.0.view_mut() {
            ViewMut::Third(table) => table,
            _ => unreachable!("a table was put in place above"),
        }
    }
}

fn intset_limit(limits: &Limits) -> usize {
    limits.set_max_intset_entries.min(INTSET_LENGTH_LIMIT)
}

fn suits_listpack(member: &[u8], packed_bytes: usize, limits: &Limits) -> bool {
    member.len() <= limits.set_max_listpack_value && packed_bytes + member.len() <= LISTPACK_SAFETY_LIMIT
}

fn add_to_table(table: &mut Table<Member>, member: &[u8]) -> bool {
    let hash = hash::bytes(member);
    let absent = table.place(hash, member).is_none();
    if absent {
        table.insert_new(hash, Member::new(member));
    }
    absent
}

impl Default for Set {
    fn default() -> Self {
        Self::new()
    }
}

impl Clone for Set {
    fn clone(&self) -> Self {
        match self.0.view() {
            View::First(packed) => Set(Forms::first(packed.clone())),
            View::Second(integers) => Self::intset(integers.clone()),
            View::Third(members) => {
                let mut table = Table::with_capacity(members.len());
                for member in members.iter() {
                    table.insert_new(hash::bytes(member.key()), Member::new(member.key()));
                }
                Self::table(table)
            }
        }
    }
}

impl std::fmt::Debug for Set {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

/// The members of a set.
pub enum Iter<'a> {
    Packed(listpack::Iter<'a>),
    Integers { integers: &'a Intset, rank: usize },
    Table(table::Iter<'a, Member>),
}

impl<'a> Iterator for Iter<'a> {
    type Item = Element<'a>;

    #[inline]
    fn next(&mut self) -> Option<Element<'a>> {
        match self {
            Iter::Packed(packed) => packed.next(),
            Iter::Integers { integers, rank } => {
                let value = integers.get(*rank)?;
                *rank += 1;
                Some(Element::Int(value))
            }
            Iter::Table(table) => table.next().map(|member| Element::Bytes(member.key())),
        }
    }
}

/// A member of the table form: one block, whose length stands before the bytes or in the word itself.
///
/// ```text
/// word = block address | 0    | prefix | bytes |
/// word = block address | k    | 16 · k bytes   |    k = 1..7
/// ```
///
/// The allocator hands out multiples of 16, so for just these lengths (16 bytes, the 32 digits of a UUID, the 64 of a digest) a
/// prefix would cost a class more.
#[repr(transparent)]
pub struct Member(NonNull<u8>);

// SAFETY: owns plain bytes.
unsafe impl Send for Member {}
// SAFETY: shared access only reads plain bytes.
unsafe impl Sync for Member {}

// SAFETY: repr(transparent) over NonNull<u8>.
unsafe impl Entry for Member {
    #[inline]
    fn key(&self) -> &[u8] {
        let units = self.units();
        // SAFETY: `new` wrote what is read here; it lives as long as `self` is borrowed.
        unsafe {
            if units > 0 {
                return std::slice::from_raw_parts(self.block().as_ptr(), units * UNIT);
            }
            let (prefix, bytes) = Prefix::read(self.0.as_ptr());
            std::slice::from_raw_parts(bytes, prefix.len)
        }
    }
}

/// Step of the lengths that the word itself can tell.
const UNIT: usize = 16;
/// Greatest count of units that fits below the address of a block aligned to eight.
const MAX_UNITS: usize = block::ALIGN - 1;

impl Member {
    fn new(member: &[u8]) -> Self {
        let prefix = Prefix::of(member.len());
        let units = units_of(member.len());
        let block = block::allocate(Self::size_for(member.len()));
        // SAFETY: the block has room for the prefix, where it has one, and the bytes; it is new, so it overlaps nothing. Where
        // there are units it has at least UNIT bytes, so the tagged address is inside.
        unsafe {
            let bytes = if units == 0 { prefix.write(block.as_ptr()) } else { block.as_ptr() };
            block::put(bytes, member);
            Member(block.add(units))
        }
    }

    /// The count of units that the word tells; 0 if a prefix tells the length.
    #[inline]
    fn units(&self) -> usize {
        self.0.addr().get() % block::ALIGN
    }

    #[inline]
    fn block(&self) -> NonNull<u8> {
        // SAFETY: `new` added the units inside the block.
        unsafe { self.0.sub(self.units()) }
    }

    fn size(&self) -> usize {
        Self::size_for(self.key().len())
    }

    fn size_for(len: usize) -> usize {
        if units_of(len) > 0 { len } else { Prefix::of(len).size() + len }
    }
}

fn units_of(len: usize) -> usize {
    if len.is_multiple_of(UNIT) && len / UNIT <= MAX_UNITS { len / UNIT } else { 0 }
}

impl Drop for Member {
    fn drop(&mut self) {
        // SAFETY: the block came from `allocate` with this size and is freed once.
        unsafe { block::free(self.block(), self.size()) };
    }
}

#[cfg(test)]
mod tests;
