//! Listpack: many small elements in one block, in Redis's own byte layout, so that RDB and DUMP store it as it is.
//!
//! ```text
//! total bytes u32 LE | count u16 LE (65535: count them) | entry back-length | entry back-length | … | 0xff
//! ```
//!
//! The block's size is a function of the total: the total rounded up to the allocator's size class. So a push that stays within
//! the class moves nothing, pushes are amortised (classes grow by a fifth or more), and the handle needs no capacity: it is one word.
//! Reading goes through checked slices: a stale `Pos` may panic or read a wrong element, never foreign memory.

mod entry;

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error, realloc};
use std::ptr::NonNull;

pub use entry::Element;
use entry::{Draft, END, back_size, element, measure, read_back};

use super::memory::size_class;
use super::tagged::Word;
use crate::base::number::parse_i64;

/// Bytes before the first entry.
const HEADER: usize = 6;
/// The count that stands for "count them".
const UNKNOWN: u16 = u16::MAX;

/// An owned listpack; one word, and so is `Option<Listpack>`.
#[repr(transparent)]
pub struct Listpack(NonNull<u8>);

// SAFETY: the block is owned by the handle alone and holds plain bytes.
unsafe impl Send for Listpack {}
// SAFETY: as above; shared access only reads.
unsafe impl Sync for Listpack {}

// SAFETY: transparent over a pointer to a block aligned to eight.
unsafe impl Word for Listpack {
    const TAG: usize = 0;
}

/// Where an entry begins. It is valid until the listpack changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Pos(u32);

impl Pos {
    #[inline]
    fn new(at: usize) -> Self {
        Pos(at as u32)
    }

    #[inline]
    fn at(self) -> usize {
        self.0 as usize
    }
}

/// Making and reading.
impl Listpack {
    pub fn new() -> Self {
        Self::from_valid(&[HEADER as u8 + 1, 0, 0, 0, 0, 0, END])
    }

    /// Takes over bytes from outside. Everything is checked: sizes, kinds, back-lengths, the count.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let total = u32::from_le_bytes(bytes.get(..4)?.try_into().ok()?) as usize;
        let count = u16::from_le_bytes(bytes.get(4..HEADER)?.try_into().ok()?);
        if total != bytes.len() || total <= HEADER {
            return None;
        }
        let last = total - 1;
        let (mut at, mut seen) = (HEADER, 0usize);
        while at < last {
            let (head, data) = measure(bytes, at)?;
            let end = at + head + data + back_size(head + data);
            if end > last || read_back(bytes, end)? != head + data {
                return None;
            }
            at = end;
            seen += 1;
        }
        let count_holds = count == UNKNOWN || usize::from(count) == seen;
        (at == last && bytes[last] == END && count_holds).then(|| Self::from_valid(bytes))
    }

    fn from_valid(bytes: &[u8]) -> Self {
        let layout = block_layout(bytes.len());
        // SAFETY: the layout is never empty; the block is at least `bytes.len()` long and new, so it cannot overlap.
        unsafe {
            let block = NonNull::new(alloc(layout)).unwrap_or_else(|| handle_alloc_error(layout));
            std::ptr::copy_nonoverlapping(bytes.as_ptr(), block.as_ptr(), bytes.len());
            Listpack(block)
        }
    }

    /// The whole block as RDB stores it.
    #[inline]
    pub fn as_bytes(&self) -> &[u8] {
        // SAFETY: the block holds `byte_len` initialised bytes, which nobody changes while `self` is borrowed.
        unsafe { std::slice::from_raw_parts(self.0.as_ptr(), self.byte_len()) }
    }

    #[inline]
    fn as_bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `as_bytes`; `&mut self` makes the access exclusive.
        unsafe { std::slice::from_raw_parts_mut(self.0.as_ptr(), self.byte_len()) }
    }

    #[inline]
    pub fn byte_len(&self) -> usize {
        // SAFETY: every block begins with a header of six bytes and is aligned to eight.
        u32::from_le(unsafe { self.0.cast::<u32>().read() }) as usize
    }

    /// Bytes taken from the allocator.
    pub fn memory(&self) -> usize {
        block_layout(self.byte_len()).size()
    }

    /// Number of elements; a walk only beyond 65534 of them.
    #[inline]
    pub fn len(&self) -> usize {
        match self.known_len() {
            Some(count) => count,
            None => self.iter().count(),
        }
    }

    #[inline]
    fn known_len(&self) -> Option<usize> {
        // SAFETY: as in `byte_len`.
        let count = u16::from_le(unsafe { self.0.add(4).cast::<u16>().read() });
        (count != UNKNOWN).then_some(usize::from(count))
    }

    #[inline]
    pub fn is_empty(&self) -> bool {
        self.byte_len() == HEADER + 1
    }

    #[inline]
    pub fn get(&self, pos: Pos) -> Element<'_> {
        element(self.as_bytes(), pos.at())
    }

    #[inline]
    pub fn first(&self) -> Option<Pos> {
        (!self.is_empty()).then_some(Pos(HEADER as u32))
    }

    #[inline]
    pub fn last(&self) -> Option<Pos> {
        self.prev(Pos::new(self.byte_len() - 1))
    }

    #[inline]
    pub fn next(&self, pos: Pos) -> Option<Pos> {
        let bytes = self.as_bytes();
        let next = step(bytes, pos.at());
        (bytes[next] != END).then_some(Pos::new(next))
    }

    #[inline]
    pub fn prev(&self, pos: Pos) -> Option<Pos> {
        step_back(self.as_bytes(), pos.at()).map(Pos::new)
    }

    /// The entry at `index`, counted from the tail if negative (-1 is the last). Walks from the nearer end.
    pub fn seek(&self, index: i64) -> Option<Pos> {
        let mut from_tail = index < 0;
        let mut steps = if from_tail { index.unsigned_abs() as usize - 1 } else { index as usize };
        if let Some(count) = self.known_len() {
            if steps >= count {
                return None;
            }
            if steps > count / 2 {
                from_tail = !from_tail;
                steps = count - 1 - steps;
            }
        }
        let mut pos = if from_tail { self.last()? } else { self.first()? };
        for _ in 0..steps {
            pos = if from_tail { self.prev(pos)? } else { self.next(pos)? };
        }
        Some(pos)
    }

    /// The first entry equal to `needle`, comparing the one at `start` (by default the first), stepping over `skip`
    /// entries, comparing the next, and so on.
    pub fn find(&self, needle: &[u8], start: Option<Pos>, skip: usize) -> Option<Pos> {
        let bytes = self.as_bytes();
        let number = if needle.len() <= 20 { parse_i64(needle) } else { None };
        let mut at = start.map_or(HEADER, Pos::at);
        let mut wait = 0;
        loop {
            let first = bytes[at];
            if first == END {
                return None;
            }
            if wait > 0 {
                wait -= 1;
            } else {
                let found = match first {
                    0..=0x7f => number == Some(i64::from(first)),
                    0x80..=0xbf => {
                        let len = usize::from(first & 0x3f);
                        len == needle.len() && same(&bytes[at + 1..at + 1 + len], needle)
                    }
                    _ => match element(bytes, at) {
                        Element::Int(value) => number == Some(value),
                        Element::Bytes(text) => text == needle,
                    },
                };
                if found {
                    return Some(Pos::new(at));
                }
                wait = skip;
            }
            at = step(bytes, at);
        }
    }

    #[inline]
    pub fn iter(&self) -> Iter<'_> {
        let bytes = self.as_bytes();
        Iter { bytes, front: HEADER, back: bytes.len() - 1 }
    }

    /// Bytes that `text` takes as an entry.
    #[inline]
    pub fn entry_size(text: &[u8]) -> usize {
        Draft::new(text).total()
    }

    #[inline]
    pub fn int_size(value: i64) -> usize {
        Draft::int(value).total()
    }
}

/// Changing.
impl Listpack {
    #[inline]
    pub fn push_back(&mut self, text: &[u8]) {
        self.splice(self.byte_len() - 1, 0, &Draft::new(text));
    }

    #[inline]
    pub fn push_back_int(&mut self, value: i64) {
        self.splice(self.byte_len() - 1, 0, &Draft::int(value));
    }

    /// Appends several elements with one change of the block: `fill` writes exactly `count` of them, `bytes` in all.
    #[inline]
    pub fn extend(&mut self, bytes: usize, count: usize, fill: impl FnOnce(&mut Filler<'_>)) {
        self.store_count(self.known_len().map(|known| known + count));
        let mut filler = Filler { place: self.make_room(self.byte_len() - 1, 0, bytes) };
        fill(&mut filler);
        assert!(filler.place.is_empty(), "elements fill the room that was made for them");
    }

    pub fn push_front(&mut self, text: &[u8]) {
        self.splice(HEADER, 0, &Draft::new(text));
    }

    /// Inserts so that the new entry stands at `pos`.
    pub fn insert_before(&mut self, pos: Pos, text: &[u8]) -> Pos {
        self.splice(pos.at(), 0, &Draft::new(text));
        pos
    }

    pub fn insert_after(&mut self, pos: Pos, text: &[u8]) -> Pos {
        let at = step(self.as_bytes(), pos.at());
        self.splice(at, 0, &Draft::new(text));
        Pos::new(at)
    }

    pub fn replace(&mut self, pos: Pos, text: &[u8]) -> Pos {
        self.replace_with(pos, &Draft::new(text))
    }

    pub fn replace_int(&mut self, pos: Pos, value: i64) -> Pos {
        self.replace_with(pos, &Draft::int(value))
    }

    fn replace_with(&mut self, pos: Pos, draft: &Draft) -> Pos {
        let old = step(self.as_bytes(), pos.at()) - pos.at();
        self.splice(pos.at(), old, draft);
        pos
    }

    /// Removes an entry; the result is where its follower stands now, if it has one.
    pub fn remove(&mut self, pos: Pos) -> Option<Pos> {
        let end = step(self.as_bytes(), pos.at());
        self.cut(pos.at(), end, 1);
        (self.as_bytes()[pos.at()] != END).then_some(pos)
    }

    /// Removes up to `count` entries from `index` on.
    pub fn remove_range(&mut self, index: i64, count: usize) {
        let Some(start) = self.seek(index) else { return };
        let bytes = self.as_bytes();
        let (mut end, mut removed) = (start.at(), 0);
        while removed < count && bytes[end] != END {
            end = step(bytes, end);
            removed += 1;
        }
        self.cut(start.at(), end, removed);
    }

    /// Appends all entries of `other`: one copy, since entries do not depend on where they stand.
    pub fn append(&mut self, other: &Listpack) {
        let entries = &other.as_bytes()[HEADER..other.byte_len() - 1];
        let counts = self.known_len().zip(other.known_len());
        let at = self.byte_len() - 1;
        self.make_room(at, 0, entries.len()).copy_from_slice(entries);
        self.store_count(counts.map(|(ours, theirs)| ours + theirs));
    }

    /// Cuts in two before `pos`: keeps the head, returns the tail.
    pub fn split_off(&mut self, pos: Pos) -> Listpack {
        let mut tail = Listpack::new();
        let end = self.byte_len() - 1;
        let entries = &self.as_bytes()[pos.at()..end];
        let moved = Iter { bytes: self.as_bytes(), front: pos.at(), back: end }.count();
        tail.make_room(HEADER, 0, entries.len()).copy_from_slice(entries);
        tail.store_count(Some(moved));
        self.cut(pos.at(), end, moved);
        tail
    }

    /// Puts the draft in the place of the `old` bytes at `at`: nothing, or one entry.
    fn splice(&mut self, at: usize, old: usize, draft: &Draft) {
        draft.write(self.make_room(at, old, draft.total()));
        if old == 0 {
            self.store_count(self.known_len().map(|count| count + 1));
        }
    }

    fn cut(&mut self, start: usize, end: usize, removed: usize) {
        self.make_room(start, end - start, 0);
        self.store_count(self.known_len().map(|count| count - removed));
    }

    fn store_count(&mut self, count: Option<usize>) {
        let stored = count.and_then(|count| u16::try_from(count).ok()).unwrap_or(UNKNOWN);
        self.as_bytes_mut()[4..HEADER].copy_from_slice(&stored.to_le_bytes());
    }

    /// Replaces the `old` bytes at `at` by `new` bytes, lent to be filled; moves the tail and adjusts block and header.
    fn make_room(&mut self, at: usize, old: usize, new: usize) -> &mut [u8] {
        let len = self.byte_len();
        assert!(HEADER <= at && at + old < len, "stale position in a listpack");
        let total = len - old + new;
        assert!(u32::try_from(total).is_ok(), "a listpack holds less than 4 GB");
        if new > old {
            self.resize_block(len, total);
        }
        // SAFETY: the block holds at least max(len, total) bytes: it grows before and shrinks after the move. The moved
        // tail is `at + old .. len`, in bounds by the assertion; it lands at `at + new .. total`. Bytes in between were
        // written before or are `new` bytes that the caller fills: they are zeroed first, never read as they come.
        unsafe {
            let hole = self.0.as_ptr().add(at);
            std::ptr::copy(hole.add(old), hole.add(new), len - at - old);
            if new > old {
                std::ptr::write_bytes(hole.add(old), 0, new - old);
            }
            self.0.cast::<u32>().write((total as u32).to_le());
        }
        if new < old {
            self.resize_block(len, total);
        }
        &mut self.as_bytes_mut()[at..at + new]
    }

    fn resize_block(&mut self, from: usize, to: usize) {
        let (old, new) = (block_layout(from), block_layout(to));
        if old.size() != new.size() {
            // SAFETY: the block was allocated with `old`, the layout that belongs to its length.
            let block = unsafe { realloc(self.0.as_ptr(), old, new.size()) };
            self.0 = NonNull::new(block).unwrap_or_else(|| handle_alloc_error(new));
        }
    }
}

impl Default for Listpack {
    fn default() -> Self {
        Self::new()
    }
}

impl Clone for Listpack {
    fn clone(&self) -> Self {
        Self::from_valid(self.as_bytes())
    }
}

impl Drop for Listpack {
    fn drop(&mut self) {
        // SAFETY: the block was allocated with the layout that belongs to its length, and is freed once.
        unsafe { dealloc(self.0.as_ptr(), block_layout(self.byte_len())) }
    }
}

impl std::fmt::Debug for Listpack {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

/// Room at the end of a listpack, filled in order.
pub struct Filler<'a> {
    place: &'a mut [u8],
}

impl Filler<'_> {
    #[inline]
    pub fn text(&mut self, text: &[u8]) {
        self.draft(&Draft::new(text));
    }

    #[inline]
    pub fn int(&mut self, value: i64) {
        self.draft(&Draft::int(value));
    }

    #[inline]
    fn draft(&mut self, draft: &Draft<'_>) {
        let (here, rest) = std::mem::take(&mut self.place).split_at_mut(draft.total());
        draft.write(here);
        self.place = rest;
    }
}

/// Elements in order, from both ends.
#[derive(Clone)]
pub struct Iter<'a> {
    bytes: &'a [u8],
    front: usize,
    back: usize,
}

impl<'a> Iterator for Iter<'a> {
    type Item = Element<'a>;

    #[inline]
    fn next(&mut self) -> Option<Element<'a>> {
        if self.front >= self.back {
            return None;
        }
        let found = element(self.bytes, self.front);
        self.front = step(self.bytes, self.front);
        Some(found)
    }
}

impl DoubleEndedIterator for Iter<'_> {
    #[inline]
    fn next_back(&mut self) -> Option<Self::Item> {
        if self.front >= self.back {
            return None;
        }
        self.back = step_back(self.bytes, self.back)?;
        Some(element(self.bytes, self.back))
    }
}

impl std::iter::FusedIterator for Iter<'_> {}

/// Where the entry after the one at `at` begins.
#[inline]
fn step(bytes: &[u8], at: usize) -> usize {
    match bytes[at] {
        0..=0x7f => at + 2,
        first @ 0x80..=0xbf => at + 2 + usize::from(first & 0x3f),
        _ => match measure(bytes, at) {
            Some((head, data)) => at + head + data + back_size(head + data),
            None => panic!("no listpack entry at {at}"),
        },
    }
}

/// Where the entry that ends at `end` begins.
#[inline]
fn step_back(bytes: &[u8], end: usize) -> Option<usize> {
    if end <= HEADER {
        return None;
    }
    let size = read_back(bytes, end)?;
    end.checked_sub(size + back_size(size))
}

/// Equality of two texts of one length. Names that share a prefix mostly differ in their last byte: look at it first.
#[inline]
fn same(a: &[u8], b: &[u8]) -> bool {
    a.last() == b.last() && a == b
}

/// The block of a listpack of `len` bytes. Aligned to eight, so that the low bits of the word can carry a tag.
#[inline]
fn block_layout(len: usize) -> Layout {
    // SAFETY: eight is a power of two, and a length below 4 GB rounds up to less than isize::MAX.
    unsafe { Layout::from_size_align_unchecked(size_class(len), 8) }
}

#[cfg(test)]
mod tests;
