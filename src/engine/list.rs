//! The list: one listpack while it fits `list-max-listpack-size`, then a quicklist; back again when it has shrunk to half of that.
//!
//! Elements are lent to closures, because those of a squeezed node exist only while they are looked at.

use super::limits::Limits;
use super::listpack::{Element, Listpack};
use super::quicklist::{End, NodeLimit, NodeView, Quicklist, remove_equal_in, walk_pack};
use super::tagged::{Boxed, Tagged, View, ViewMut};

/// The value of a list key; one word.
#[repr(transparent)]
pub struct List(Tagged<Listpack, Boxed<Quicklist, 1>>);

/// What LPOS looks for: from an end, past the first `skip` matches, up to `count` of them, among `maxlen` elements.
pub struct Search {
    pub from: End,
    pub skip: usize,
    pub count: usize,
    pub maxlen: usize,
}

/// Reading.
impl List {
    pub fn new() -> Self {
        Self::packed(Listpack::new())
    }

    fn packed(pack: Listpack) -> Self {
        List(Tagged::first(pack))
    }

    fn big(quicklist: Quicklist) -> Self {
        List(Tagged::second(Boxed::new(quicklist)))
    }

    pub fn len(&self) -> usize {
        match self.0.view() {
            View::First(pack) => pack.len(),
            View::Second(quicklist) => quicklist.len(),
            View::Third(never) => match *never {},
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Redis's name of the encoding. 7.0 calls every list a quicklist, and its suite insists; a small one is a single listpack all
    /// the same.
    pub fn encoding(&self) -> &'static str {
        "quicklist"
    }

    /// Whether it is one listpack.
    pub fn is_packed(&self) -> bool {
        matches!(self.0.view(), View::First(_))
    }

    /// Bytes taken from the allocator, without the word itself.
    pub fn memory(&self) -> usize {
        match self.0.view() {
            View::First(pack) => pack.memory(),
            View::Second(quicklist) => size_of::<Quicklist>() + quicklist.memory(),
            View::Third(never) => match *never {},
        }
    }

    /// The nodes as RDB stores them; a small list is one.
    pub fn nodes(&self) -> Box<dyn ExactSizeIterator<Item = NodeView<'_>> + '_> {
        match self.0.view() {
            View::First(pack) => Box::new(std::iter::once(NodeView::Pack(pack.as_bytes()))),
            View::Second(quicklist) => Box::new(quicklist.nodes()),
            View::Third(never) => match *never {},
        }
    }

    /// Visits `count` elements from `start` on (an index from the head), toward the tail if `from` is the head, else
    /// toward the head, until `visit` says false.
    pub fn walk(&self, start: usize, count: usize, from: End, visit: &mut dyn FnMut(Element<'_>) -> bool) {
        match self.0.view() {
            View::First(pack) => _ = walk_pack(pack, start, &mut { count }, from, visit),
            View::Second(quicklist) => quicklist.walk(start, count, from, visit),
            View::Third(never) => match *never {},
        }
    }

    /// All elements from head to tail.
    pub fn for_each(&self, mut visit: impl FnMut(Element<'_>)) {
        self.walk(0, usize::MAX, End::Head, &mut |element| {
            visit(element);
            true
        });
    }

    /// Lends the element at `index`, negative from the tail.
    pub fn with_index<R>(&self, index: i64, f: impl FnOnce(Element<'_>) -> R) -> Option<R> {
        let (mut f, mut result) = (Some(f), None);
        self.walk(self.resolve(index)?, 1, End::Head, &mut |element| {
            result = f.take().map(|f| f(element));
            false
        });
        result
    }

    /// The index from the head that `index`, negative from the tail, means; `None` if it is out of range.
    pub fn resolve(&self, index: i64) -> Option<usize> {
        let len = self.len();
        let index = if index < 0 { len.checked_sub(index.unsigned_abs() as usize)? } else { index as usize };
        (index < len).then_some(index)
    }

    /// Calls `found` with the indices (from the head) of the elements equal to `text`.
    pub fn search(&self, text: &[u8], search: &Search, mut found: impl FnMut(usize)) {
        let len = self.len();
        if len == 0 || search.count == 0 {
            return;
        }
        let start = if search.from == End::Head { 0 } else { len - 1 };
        let (mut index, mut matches) = (start, 0);
        self.walk(start, search.maxlen, search.from, &mut |element| {
            if element.eq_bytes(text) {
                matches += 1;
                if matches > search.skip {
                    found(index);
                }
            }
            index = if search.from == End::Head { index + 1 } else { index.wrapping_sub(1) };
            matches < search.skip.saturating_add(search.count)
        });
    }
}

/// Changing.
impl List {
    pub fn push(&mut self, end: End, text: &[u8], limits: &Limits) {
        self.grow_for(text.len(), 1, limits);
        match self.0.view_mut() {
            ViewMut::First(pack) => match end {
                End::Head => pack.push_front(text),
                End::Tail => pack.push_back(text),
            },
            ViewMut::Second(quicklist) => quicklist.push(end, text, limits),
            ViewMut::Third(never) => match *never {},
        }
    }

    /// Becomes a quicklist if `count` more elements of `bytes` in all do not fit a small list.
    fn grow_for(&mut self, bytes: usize, count: usize, limits: &Limits) {
        let ViewMut::First(pack) = self.0.view_mut() else { return };
        if NodeLimit::new(limits).holds(pack.byte_len() + bytes, pack.len() + count) {
            return;
        }
        let pack = std::mem::take(pack);
        let mut quicklist = Quicklist::new();
        quicklist.append_pack(pack, limits);
        *self = Self::big(quicklist);
    }

    fn shrink(&mut self, limits: &Limits) {
        if let ViewMut::Second(quicklist) = self.0.view_mut()
            && let Some(pack) = quicklist.take_small(limits)
        {
            *self = Self::packed(pack);
        }
    }

    /// Appends a listpack that RDB held as one node.
    pub fn append_pack(&mut self, pack: Listpack, limits: &Limits) {
        let fits = NodeLimit::new(limits).holds(pack.byte_len(), pack.len());
        if self.is_empty() && fits {
            *self = Self::packed(pack);
            return;
        }
        self.grow_for(pack.byte_len(), pack.len(), limits);
        match self.0.view_mut() {
            ViewMut::First(own) => own.append(&pack),
            ViewMut::Second(quicklist) => quicklist.append_pack(pack, limits),
            ViewMut::Third(never) => match *never {},
        }
    }

    /// Appends one element that RDB held as a plain node.
    pub fn append_plain(&mut self, bytes: Vec<u8>, limits: &Limits) {
        self.grow_for(bytes.len(), 1, limits);
        match self.0.view_mut() {
            ViewMut::First(pack) => pack.push_back(&bytes),
            ViewMut::Second(quicklist) => quicklist.append_plain(bytes, limits),
            ViewMut::Third(never) => match *never {},
        }
    }

    /// Takes the element at one end, lent to `take`.
    pub fn pop<R>(&mut self, end: End, limits: &Limits, take: impl FnOnce(Element<'_>) -> R) -> Option<R> {
        let result = match self.0.view_mut() {
            ViewMut::First(pack) => {
                let pos = match end {
                    End::Head => pack.first(),
                    End::Tail => pack.last(),
                }?;
                let result = take(pack.get(pos));
                pack.remove(pos);
                result
            }
            ViewMut::Second(quicklist) => quicklist.pop(end, limits, take)?,
            ViewMut::Third(never) => match *never {},
        };
        self.shrink(limits);
        Some(result)
    }

    /// Replaces the element at `index` (negative from the tail); false if there is none.
    pub fn set(&mut self, index: i64, text: &[u8], limits: &Limits) -> bool {
        let Some(index) = self.resolve(index) else { return false };
        self.grow_for(text.len(), 0, limits);
        match self.0.view_mut() {
            ViewMut::First(pack) => {
                if let Some(pos) = pack.seek(index as i64) {
                    pack.replace(pos, text);
                }
            }
            ViewMut::Second(quicklist) => _ = quicklist.set(index, text, limits),
            ViewMut::Third(never) => match *never {},
        }
        self.shrink(limits);
        true
    }

    /// Inserts so that the new element stands at `index`, which is at most the length.
    pub fn insert(&mut self, index: usize, text: &[u8], limits: &Limits) {
        self.grow_for(text.len(), 1, limits);
        match self.0.view_mut() {
            ViewMut::First(pack) => match pack.seek(index as i64) {
                Some(pos) => _ = pack.insert_before(pos, text),
                None => pack.push_back(text),
            },
            ViewMut::Second(quicklist) => quicklist.insert(index, text, limits),
            ViewMut::Third(never) => match *never {},
        }
    }

    /// Removes up to `count` elements from `start` on.
    pub fn remove_range(&mut self, start: usize, count: usize, limits: &Limits) {
        match self.0.view_mut() {
            ViewMut::First(pack) => pack.remove_range(start as i64, count),
            ViewMut::Second(quicklist) => quicklist.remove_range(start, count, limits),
            ViewMut::Third(never) => match *never {},
        }
        self.shrink(limits);
    }

    /// Removes up to `count` elements equal to `text`, looking from one end; the number removed.
    pub fn remove_equal(&mut self, text: &[u8], count: usize, from: End, limits: &Limits) -> usize {
        let removed = match self.0.view_mut() {
            ViewMut::First(pack) => remove_equal_in(pack, text, count, from),
            ViewMut::Second(quicklist) => quicklist.remove_equal(text, count, from, limits),
            ViewMut::Third(never) => match *never {},
        };
        self.shrink(limits);
        removed
    }
}

impl Default for List {
    fn default() -> Self {
        Self::new()
    }
}

impl Clone for List {
    fn clone(&self) -> Self {
        match self.0.view() {
            View::First(pack) => Self::packed(pack.clone()),
            View::Second(quicklist) => Self::big(Quicklist::clone(quicklist)),
            View::Third(never) => match *never {},
        }
    }
}

#[cfg(test)]
mod tests;
