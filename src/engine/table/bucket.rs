//! A bucket of the table: one cache line of tags, marks and words (see the drawing in `table.rs`), and its allocation.

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::ptr::NonNull;

/// Slots of a bucket.
pub(super) const SLOTS: usize = 7;

pub(super) const CHAINED: u64 = 0x80 << 56;
const LOW: u64 = 0x0001_0101_0101_0101;
const HIGH: u64 = 0x0080_8080_8080_8080;
const LOW7: u64 = 0x007f_7f7f_7f7f_7f7f;

#[repr(C, align(64))]
pub(super) struct Bucket {
    pub(super) meta: u64,
    pub(super) slots: [*mut u8; SLOTS],
}

impl Bucket {
    /// High bit of each tag byte that equals `tag`; exact, unlike the borrow-propagating variant.
    #[inline]
    pub(super) fn matching(&self, tag: u8) -> u64 {
        let x = self.meta ^ (LOW * u64::from(tag));
        !(((x & LOW7) + LOW7) | x | LOW7) & HIGH
    }

    #[inline]
    pub(super) fn occupied(&self) -> u64 {
        (((self.meta & LOW7) + LOW7) | self.meta) & HIGH
    }

    /// The first free slot; a chained bucket's link slot does not count.
    #[inline]
    pub(super) fn free_slot(&self) -> Option<usize> {
        let usable = if self.is_chained() { HIGH >> 8 } else { HIGH };
        let free = !self.occupied() & usable;
        (free != 0).then(|| free.trailing_zeros() as usize / 8)
    }

    #[inline]
    pub(super) fn is_chained(&self) -> bool {
        self.meta & CHAINED != 0
    }

    #[inline]
    pub(super) fn next(&self) -> Option<NonNull<Bucket>> {
        if self.is_chained() { NonNull::new(self.slots[SLOTS - 1].cast()) } else { None }
    }

    #[inline]
    pub(super) fn put(&mut self, slot: usize, word: *mut u8, tag: u8, marked: bool) {
        self.slots[slot] = word;
        self.meta |= u64::from(tag) << (8 * slot);
        self.meta |= u64::from(marked) << (56 + slot);
    }

    #[inline]
    pub(super) fn clear(&mut self, slot: usize) {
        self.meta &= !(0xff << (8 * slot)) & !(1 << (56 + slot));
    }

    #[inline]
    pub(super) fn is_marked(&self, slot: usize) -> bool {
        self.meta & (1 << (56 + slot)) != 0
    }

    pub(super) fn tag(&self, slot: usize) -> u8 {
        (self.meta >> (8 * slot)) as u8
    }
}

/// Iterates the slot numbers of a mask made by `matching` or `occupied`.
pub(super) struct Slots(pub(super) u64);

impl Iterator for Slots {
    type Item = usize;

    #[inline]
    fn next(&mut self) -> Option<usize> {
        if self.0 == 0 {
            return None;
        }
        let slot = self.0.trailing_zeros() as usize / 8;
        self.0 &= self.0 - 1;
        Some(slot)
    }
}

#[inline]
pub(super) fn tag_of(hash: u64) -> u8 {
    ((hash >> 48) as u8).max(1)
}

pub(super) fn allocate_buckets(count: usize) -> NonNull<Bucket> {
    let layout = bucket_layout(count);
    // SAFETY: the layout is not empty. Zeroed buckets are valid: no tag, no link.
    NonNull::new(unsafe { alloc_zeroed(layout) }.cast()).unwrap_or_else(|| handle_alloc_error(layout))
}

pub(super) fn free_buckets(buckets: NonNull<Bucket>, count: usize) {
    // SAFETY: every caller passes the pointer and count of an `allocate_buckets`, once.
    unsafe { dealloc(buckets.as_ptr().cast(), bucket_layout(count)) }
}

fn bucket_layout(count: usize) -> Layout {
    Layout::array::<Bucket>(count).expect("a chunk of buckets is far below isize::MAX")
}

#[inline]
pub(crate) fn prefetch(address: *const u8) {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    // SAFETY: a prefetch is a hint; it never faults, whatever the address.
    unsafe {
        std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T0 }>(address.cast())
    };
    #[cfg(not(all(target_arch = "x86_64", not(miri))))]
    let _ = address;
}
