//! A vector of fixed capacity inside its node: no second allocation, no pointer between header and items.

use std::mem::MaybeUninit;
use std::ops::{Deref, DerefMut, Range};
use std::ptr;

#[repr(C)]
pub(super) struct Run<T, const N: usize> {
    len: usize,
    items: [MaybeUninit<T>; N],
}

impl<T, const N: usize> Run<T, N> {
    pub(super) fn new() -> Box<Self> {
        Box::new(Run { len: 0, items: [const { MaybeUninit::uninit() }; N] })
    }

    fn base(&mut self) -> *mut T {
        self.items.as_mut_ptr().cast()
    }

    pub(super) fn insert(&mut self, at: usize, item: T) {
        assert!(at <= self.len && self.len < N);
        // SAFETY: `at <= len < N`: the moved items and the new one stay inside the array.
        unsafe {
            let place = self.base().add(at);
            ptr::copy(place, place.add(1), self.len - at);
            place.write(item);
        }
        self.len += 1;
    }

    pub(super) fn push(&mut self, item: T) {
        self.insert(self.len, item);
    }

    pub(super) fn remove(&mut self, at: usize) -> T {
        assert!(at < self.len);
        self.len -= 1;
        // SAFETY: `at` was below the length: the item is initialised; it is read once, then overwritten or beyond the length.
        unsafe {
            let place = self.base().add(at);
            let item = place.read();
            ptr::copy(place.add(1), place, self.len - at);
            item
        }
    }

    /// Drops the items of a range.
    pub(super) fn remove_range(&mut self, range: Range<usize>) {
        assert!(range.start <= range.end && range.end <= self.len);
        let (len, gone) = (self.len, range.end - range.start);
        // Should a drop panic, the items are leaked rather than seen twice.
        self.len = range.start;
        // SAFETY: the range and the tail lie below the old length; the tail moves within the array.
        unsafe {
            let place = self.base().add(range.start);
            ptr::drop_in_place(ptr::slice_from_raw_parts_mut(place, gone));
            ptr::copy(place.add(gone), place, len - range.end);
        }
        self.len = len - gone;
    }

    /// Moves the last `count` items to the front of `right`.
    pub(super) fn move_tail(&mut self, count: usize, right: &mut Self) {
        assert!(count <= self.len && right.len + count <= N);
        self.len -= count;
        // SAFETY: both ranges are inside their arrays, the two runs are different objects; each item ends up in one of them.
        unsafe {
            let front = right.base();
            ptr::copy(front, front.add(count), right.len);
            ptr::copy_nonoverlapping(self.base().add(self.len), front, count);
        }
        right.len += count;
    }

    /// Moves the first `count` items of `right` to the end.
    pub(super) fn take_head(&mut self, count: usize, right: &mut Self) {
        assert!(count <= right.len && self.len + count <= N);
        right.len -= count;
        // SAFETY: as in `move_tail`.
        unsafe {
            let front = right.base();
            ptr::copy_nonoverlapping(front, self.base().add(self.len), count);
            ptr::copy(front.add(count), front, right.len);
        }
        self.len += count;
    }
}

impl<T, const N: usize> Deref for Run<T, N> {
    type Target = [T];

    #[inline]
    fn deref(&self) -> &[T] {
        // SAFETY: the first `len` items are initialised.
        unsafe { std::slice::from_raw_parts(self.items.as_ptr().cast(), self.len) }
    }
}

impl<T, const N: usize> DerefMut for Run<T, N> {
    #[inline]
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: the first `len` items are initialised.
        unsafe { std::slice::from_raw_parts_mut(self.items.as_mut_ptr().cast(), self.len) }
    }
}

impl<T, const N: usize> Drop for Run<T, N> {
    fn drop(&mut self) {
        self.remove_range(0..self.len);
    }
}
