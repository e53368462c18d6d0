//! One node of a stream: up to a hundred entries in one listpack, in Redis's own layout, so that RDB and DUMP store it as it is.
//!
//! ```text
//! head    live | deleted | n | field 1 … field n | 0
//! entry   flags | ms delta | seq delta | value 1 … value n                               | elements of the entry     same fields
//! entry   flags | ms delta | seq delta | m | field 1 | value 1 … field m | value m       | elements of the entry     other fields
//! ```
//! The fields of the first entry stand in the head, and entries with the same ones leave them out. The deltas are those to the id
//! under which the stream holds the node. An entry is deleted by a flag: the node goes when no live entry is left. The number at
//! the end of an entry (and the zero of the head) lets a reader walk backwards.

use super::NODE_BYTES_MAX;
use super::id::StreamId;
use crate::engine::limits::Limits;
use crate::engine::listpack::{Element, Listpack, Pos};

const DELETED: i64 = 1;
const SAME_FIELDS: i64 = 2;
/// Elements of an entry besides fields, values and their number: flags and two deltas.
const FIXED: usize = 3;

/// The head of a node.
#[derive(Clone, Copy)]
struct Head {
    live: i64,
    deleted: i64,
    fields: usize,
    /// Of the first field; of the zero behind them if there is none.
    first_field: Pos,
    /// Of the zero.
    end: Pos,
}

/// An entry on loan.
#[derive(Clone, Copy)]
pub struct Entry<'a> {
    pack: &'a Listpack,
    id: StreamId,
    is_deleted: bool,
    has_own_fields: bool,
    len: usize,
    flags: Pos,
    /// The first field of the head, or of the entry itself.
    field: Pos,
    /// The first value; the first field where the entry has its own.
    data: Pos,
}

impl<'a> Entry<'a> {
    pub fn id(&self) -> StreamId {
        self.id
    }

    /// Number of fields.
    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub(super) fn is_deleted(&self) -> bool {
        self.is_deleted
    }

    pub(super) fn flags_at(&self) -> Pos {
        self.flags
    }

    /// Fields with their values.
    pub fn fields(&self) -> impl Iterator<Item = (Element<'a>, Element<'a>)> + use<'a> {
        let Entry { pack, has_own_fields, mut field, mut data, len, .. } = *self;
        (0..len).map(move |index| {
            if has_own_fields {
                let value = behind(pack, data);
                let pair = (pack.get(data), pack.get(value));
                if index + 1 < len {
                    data = behind(pack, value);
                }
                return pair;
            }
            let pair = (pack.get(field), pack.get(data));
            if index + 1 < len {
                (field, data) = (behind(pack, field), behind(pack, data));
            }
            pair
        })
    }

    /// Where the number of its elements stands.
    fn end(&self) -> Pos {
        let elements = if self.has_own_fields { 2 * self.len } else { self.len };
        (0..elements).fold(self.data, |pos, _| behind(self.pack, pos))
    }
}

/// A node without entries, with the fields of the entry to come.
pub(super) fn new<'a>(fields: impl ExactSizeIterator<Item = &'a [u8]>) -> Listpack {
    let mut pack = Listpack::new();
    [0, 0, fields.len() as i64].into_iter().for_each(|number| pack.push_back_int(number));
    fields.for_each(|field| pack.push_back(field));
    pack.push_back_int(0);
    pack
}

/// Appends an entry; its id is greater than every other.
#[inline]
pub(super) fn append<'a>(
    pack: &mut Listpack,
    node: StreamId,
    id: StreamId,
    pairs: impl ExactSizeIterator<Item = (&'a [u8], &'a [u8])> + Clone,
) {
    let head = head(pack);
    let len = pairs.len();
    let (ms, seq) = id.delta(node);
    let has_own_fields = !has_fields(pack, &head, pairs.clone().map(|(field, _)| field));
    let elements = if has_own_fields { FIXED + 1 + 2 * len } else { FIXED + len };
    let flags = if has_own_fields { 0 } else { SAME_FIELDS };
    let mut bytes: usize = [flags, ms, seq, elements as i64].into_iter().map(Listpack::int_size).sum();
    if has_own_fields {
        bytes += Listpack::int_size(len as i64);
    }
    for (field, value) in pairs.clone() {
        bytes += Listpack::entry_size(value) + if has_own_fields { Listpack::entry_size(field) } else { 0 };
    }
    pack.extend(bytes, elements + 1, |filler| {
        [flags, ms, seq].into_iter().for_each(|number| filler.int(number));
        if has_own_fields {
            filler.int(len as i64);
        }
        for (field, value) in pairs {
            if has_own_fields {
                filler.text(field);
            }
            filler.text(value);
        }
        filler.int(elements as i64);
    });
    set_live(pack, head.live + 1);
}

fn has_fields<'a>(pack: &Listpack, head: &Head, fields: impl ExactSizeIterator<Item = &'a [u8]>) -> bool {
    if fields.len() != head.fields {
        return false;
    }
    let mut pos = head.first_field;
    for field in fields {
        if !pack.get(pos).eq_bytes(field) {
            return false;
        }
        pos = behind(pack, pos);
    }
    true
}

#[inline]
fn head(pack: &Listpack) -> Head {
    let live = first(pack);
    let deleted = behind(pack, live);
    let count = behind(pack, deleted);
    let first_field = behind(pack, count);
    let fields = number(pack, count) as usize;
    let end = (0..fields).fold(first_field, |pos, _| behind(pack, pos));
    Head { live: number(pack, live), deleted: number(pack, deleted), fields, first_field, end }
}

/// Flags live entries as deleted; how many are left. A node without any is to be dropped.
pub(super) fn flag_deleted(pack: &mut Listpack, entries: &[Pos]) -> i64 {
    for flags in entries {
        // Flags are small numbers: nothing moves.
        let value = number(pack, *flags) | DELETED;
        pack.replace_int(*flags, value);
    }
    let head = head(pack);
    let (gone, live) = (entries.len() as i64, head.live - entries.len() as i64);
    if gone > 0 {
        set_live(pack, live);
        let deleted = behind(pack, first(pack));
        pack.replace_int(deleted, head.deleted + gone);
    }
    live
}

fn set_live(pack: &mut Listpack, live: i64) {
    let at = first(pack);
    pack.replace_int(at, live);
}

/// Number of live entries.
pub(super) fn live(pack: &Listpack) -> u64 {
    number(pack, first(pack)) as u64
}

/// Whether an entry of so many bytes may be appended.
#[inline]
pub(super) fn has_room(pack: &Listpack, bytes: usize, limits: &Limits) -> bool {
    let bytes_max = match limits.stream_node_max_bytes {
        0 => NODE_BYTES_MAX,
        max => max.min(NODE_BYTES_MAX),
    };
    let live = first(pack);
    let entries = number(pack, live) + number(pack, behind(pack, live));
    let entries_max = limits.stream_node_max_entries;
    pack.byte_len() + bytes < bytes_max && (entries_max == 0 || (entries as u64) < entries_max as u64)
}

/// Entries from the first on, the deleted ones included.
#[derive(Clone)]
pub(super) struct Forward<'a> {
    pack: &'a Listpack,
    node: StreamId,
    head: Head,
    next: Option<Pos>,
}

impl<'a> Forward<'a> {
    pub(super) fn new(pack: &'a Listpack, node: StreamId) -> Self {
        let head = head(pack);
        Forward { pack, node, head, next: pack.next(head.end) }
    }
}

impl<'a> Iterator for Forward<'a> {
    type Item = Entry<'a>;

    fn next(&mut self) -> Option<Entry<'a>> {
        let found = entry(self.pack, self.node, &self.head, self.next?);
        self.next = self.pack.next(found.end());
        Some(found)
    }
}

/// Entries from the last on, the deleted ones included.
pub(super) struct Backward<'a> {
    pack: &'a Listpack,
    node: StreamId,
    head: Head,
    /// Of the number of elements at an entry's end.
    next: Option<Pos>,
}

impl<'a> Backward<'a> {
    pub(super) fn new(pack: &'a Listpack, node: StreamId) -> Self {
        Backward { pack, node, head: head(pack), next: pack.last() }
    }
}

impl<'a> Iterator for Backward<'a> {
    type Item = Entry<'a>;

    fn next(&mut self) -> Option<Entry<'a>> {
        let end = self.next?;
        let flags = (0..number(self.pack, end)).try_fold(end, |pos, _| self.pack.prev(pos))?;
        if flags == self.head.end || end == self.head.end {
            self.next = None;
            return None;
        }
        self.next = self.pack.prev(flags);
        Some(entry(self.pack, self.node, &self.head, flags))
    }
}

/// The entry whose flags stand at `flags`.
fn entry<'a>(pack: &'a Listpack, node: StreamId, head: &Head, flags: Pos) -> Entry<'a> {
    let bits = number(pack, flags);
    let ms = behind(pack, flags);
    let seq = behind(pack, ms);
    let id = node.plus(number(pack, ms), number(pack, seq));
    let next = behind(pack, seq);
    let is_deleted = bits & DELETED != 0;
    if bits & SAME_FIELDS != 0 {
        let (len, field) = (head.fields, head.first_field);
        return Entry { pack, id, is_deleted, has_own_fields: false, len, flags, field, data: next };
    }
    let (len, data) = (number(pack, next) as usize, behind(pack, next));
    Entry { pack, id, is_deleted, has_own_fields: true, len, flags, field: data, data }
}

/// What a check of a node from outside found.
pub(super) struct Checked {
    pub live: u64,
    /// Of the last entry, deleted or not.
    pub last_id: StreamId,
}

/// Checks every element of a node from outside: after that, reading it cannot fail.
pub(super) fn check(pack: &Listpack, node: StreamId) -> Option<Checked> {
    let mut elements = pack.iter();
    let mut number = || elements.next()?.as_i64();
    let (live, deleted) = (number()?, number()?);
    let fields = usize::try_from(number()?).ok()?;
    for _ in 0..fields {
        elements.next()?;
    }
    if elements.next()?.as_i64()? != 0 || live < 0 || deleted < 0 {
        return None;
    }
    let (mut seen_live, mut seen_deleted, mut last_id) = (0, 0, None);
    while let Some(flags) = elements.next() {
        let flags = flags.as_i64()?;
        let mut number = || elements.next()?.as_i64();
        let id = node.plus(number()?, number()?);
        if id < node || last_id.is_some_and(|last| id <= last) {
            return None;
        }
        last_id = Some(id);
        let own = flags & SAME_FIELDS == 0;
        let len = if own { usize::try_from(number()?).ok()? } else { fields };
        let data = if own { len.checked_mul(2)? } else { len };
        for _ in 0..data {
            elements.next()?;
        }
        let expected = data.checked_add(FIXED + usize::from(own))?;
        if elements.next()?.as_i64()? != expected as i64 {
            return None;
        }
        if flags & DELETED != 0 { seen_deleted += 1 } else { seen_live += 1 }
    }
    let counts_hold = (live, deleted) == (seen_live, seen_deleted);
    counts_hold.then_some(Checked { live: live as u64, last_id: last_id? })
}

#[inline]
fn first(pack: &Listpack) -> Pos {
    pack.first().expect("a node has a head")
}

/// Where the next element stands; there always is one within a head or an entry.
#[inline]
fn behind(pack: &Listpack, pos: Pos) -> Pos {
    pack.next(pos).expect("a node ends with the end of an entry")
}

#[inline]
fn number(pack: &Listpack, pos: Pos) -> i64 {
    pack.get(pos).as_i64().expect("numbers of a node were checked or written by us")
}
