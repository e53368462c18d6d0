//! A sorted array of integers in Redis's layout: the whole of a small set of integers in one block.
//!
//! ```text
//!  0         4         8
//!  +---------+---------+------+------+----+------+
//!  | width   | length  | int0 | int1 | …  | intN |   all little-endian; width is 2, 4 or 8 bytes
//!  +---------+---------+------+------+----+------+   and only grows, ints ascend strictly
//! ```
//!
//! The block is exactly as long as its header says, so the header is all there is to know for freeing it. It grows by one member at
//! a time: the allocator's size classes make most of these calls cheap, and a spare capacity would not be in the RDB blob.

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error, realloc};
use std::ptr::NonNull;

use crate::base::random::Random;
use crate::engine::tagged::Word;

const HEADER: usize = 8;

/// One word that owns the block.
#[repr(transparent)]
pub struct Intset {
    tagged: NonNull<u8>,
}

// SAFETY: repr(transparent); the block is aligned to 8 and every store to `tagged` goes through `tag`.
unsafe impl Word for Intset {
    const TAG: usize = 1;
}

// SAFETY: owns plain bytes.
unsafe impl Send for Intset {}
// SAFETY: shared access only reads plain bytes.
unsafe impl Sync for Intset {}

impl Intset {
    pub fn new() -> Self {
        Self::from_parts(2, 0, HEADER)
    }

    /// Takes over a blob from outside; `None` if anything about it is wrong, an empty one included (Redis refuses it too).
    pub fn from_bytes(blob: &[u8]) -> Option<Self> {
        let width = u32::from_le_bytes(blob.get(..4)?.try_into().ok()?) as usize;
        let len = u32::from_le_bytes(blob.get(4..HEADER)?.try_into().ok()?) as usize;
        if !matches!(width, 2 | 4 | 8) || len == 0 || HEADER + len * width != blob.len() {
            return None;
        }
        let mut set = Self::from_parts(width, len, blob.len());
        set.block_mut().copy_from_slice(blob);
        let ascending = (1..len).all(|index| set.at(index - 1) < set.at(index));
        ascending.then_some(set)
    }

    /// The blob as RDB stores it.
    #[inline]
    pub fn as_bytes(&self) -> &[u8] {
        let header = self.header();
        // SAFETY: the block is exactly as long as its header says, initialised, and borrowed with `self`.
        unsafe { std::slice::from_raw_parts(self.base(), HEADER + header.width * header.len) }
    }

    #[inline]
    pub fn len(&self) -> usize {
        self.header().len
    }

    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes asked of the allocator.
    pub fn memory(&self) -> usize {
        self.as_bytes().len()
    }

    /// The member at a rank in ascending order.
    #[inline]
    pub fn get(&self, rank: usize) -> Option<i64> {
        (rank < self.len()).then(|| self.at(rank))
    }

    pub fn min(&self) -> Option<i64> {
        self.get(0)
    }

    pub fn max(&self) -> Option<i64> {
        self.get(self.len().wrapping_sub(1))
    }

    pub fn random(&self, random: &mut Random) -> Option<i64> {
        if self.is_empty() { None } else { self.get(random.below(self.len() as u64) as usize) }
    }

    #[inline]
    pub fn contains(&self, value: i64) -> bool {
        self.search(value).is_ok()
    }

    /// False if it was a member already.
    pub fn insert(&mut self, value: i64) -> bool {
        let width = width_of(value);
        if width > self.header().width {
            self.widen(width);
        }
        let Err(rank) = self.search(value) else { return false };
        let Header { width, len } = self.header();
        self.resize(width, len + 1);
        let place = HEADER + rank * width;
        let end = HEADER + len * width;
        self.block_mut().copy_within(place..end, place + width);
        self.put(rank, value);
        true
    }

    /// False if it was no member. The width stays, as in Redis.
    pub fn remove(&mut self, value: i64) -> bool {
        let Ok(rank) = self.search(value) else { return false };
        let Header { width, len } = self.header();
        let place = HEADER + rank * width;
        self.block_mut().copy_within(place + width.., place);
        self.resize(width, len - 1);
        true
    }

    pub fn iter(&self) -> impl DoubleEndedIterator<Item = i64> + ExactSizeIterator + Clone + '_ {
        (0..self.len()).map(|rank| self.at(rank))
    }

    /// The rank of a member, or where it would stand.
    fn search(&self, value: i64) -> Result<usize, usize> {
        let (mut low, mut high) = (0, self.len());
        // Sets are mostly filled in ascending order, so the far end is worth a look first.
        if high > 0 && self.at(high - 1) < value {
            return Err(high);
        }
        while low < high {
            let middle = (low + high) / 2;
            match self.at(middle).cmp(&value) {
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Greater => high = middle,
                std::cmp::Ordering::Equal => return Ok(middle),
            }
        }
        Err(low)
    }

    /// `rank` must be below the length; a slice would panic otherwise, never read outside.
    #[inline]
    fn at(&self, rank: usize) -> i64 {
        let width = self.header().width;
        let place = HEADER + rank * width;
        let bytes = &self.as_bytes()[place..place + width];
        match *bytes {
            [a, b] => i64::from(i16::from_le_bytes([a, b])),
            [a, b, c, d] => i64::from(i32::from_le_bytes([a, b, c, d])),
            [a, b, c, d, e, f, g, h] => i64::from_le_bytes([a, b, c, d, e, f, g, h]),
            _ => unreachable!("an intset is 2, 4 or 8 bytes wide"),
        }
    }

    fn put(&mut self, rank: usize, value: i64) {
        let width = self.header().width;
        let place = HEADER + rank * width;
        self.block_mut()[place..place + width].copy_from_slice(&value.to_le_bytes()[..width]);
    }

    /// Rewrites all members in a greater width. At most twice in a set's life, so a copy aside is cheap enough.
    fn widen(&mut self, width: usize) {
        let Header { width: old, len } = self.header();
        let members: Vec<i64> = self.iter().collect();
        debug_assert!(old < width);
        self.resize(width, len);
        for (rank, value) in members.into_iter().enumerate() {
            self.put(rank, value);
        }
    }

    #[inline]
    fn base(&self) -> *mut u8 {
        // SAFETY: `tag` added TAG inside the block, which has at least HEADER bytes.
        unsafe { self.tagged.as_ptr().sub(Self::TAG) }
    }

    #[inline]
    fn header(&self) -> Header {
        let base = self.base();
        // SAFETY: every block has an initialised header and is aligned to 8.
        let (width, len) = unsafe { (base.cast::<u32>().read(), base.cast::<u32>().add(1).read()) };
        Header { width: u32::from_le(width) as usize, len: u32::from_le(len) as usize }
    }

    fn set_header(&mut self, width: usize, len: usize) {
        let base = self.base();
        // SAFETY: as in `header`; `self` is borrowed exclusively.
        unsafe {
            base.cast::<u32>().write((width as u32).to_le());
            base.cast::<u32>().add(1).write((len as u32).to_le());
        }
    }

    #[inline]
    fn block_mut(&mut self) -> &mut [u8] {
        let len = self.as_bytes().len();
        // SAFETY: as in `as_bytes`, and `self` is borrowed exclusively.
        unsafe { std::slice::from_raw_parts_mut(self.base(), len) }
    }

    fn from_parts(width: usize, len: usize, size: usize) -> Self {
        let layout = layout(size);
        // SAFETY: the layout is not empty; the bytes are zeroed, as nothing may see uninitialised members.
        let block = unsafe {
            let block = alloc(layout);
            if block.is_null() {
                handle_alloc_error(layout);
            }
            block.write_bytes(0, size);
            block
        };
        let mut set = Intset { tagged: tag(block) };
        set.set_header(width, len);
        set
    }

    /// Moves to a block for `len` members of `width`; members that fit stay as they are, new bytes are zero.
    fn resize(&mut self, width: usize, len: usize) {
        let old = self.as_bytes().len();
        let new = HEADER + width * len;
        // SAFETY: the block came from this allocator with the size that its header says; new bytes are zeroed before use.
        unsafe {
            let block = realloc(self.base(), layout(old), new);
            if block.is_null() {
                handle_alloc_error(layout(new));
            }
            if new > old {
                block.add(old).write_bytes(0, new - old);
            }
            self.tagged = tag(block);
        }
        self.set_header(width, len);
    }
}

struct Header {
    width: usize,
    len: usize,
}

fn width_of(value: i64) -> usize {
    if i16::try_from(value).is_ok() {
        2
    } else if i32::try_from(value).is_ok() {
        4
    } else {
        8
    }
}

fn layout(size: usize) -> Layout {
    Layout::from_size_align(size, 8).expect("an intset holds at most 2^32 members of 8 bytes")
}

fn tag(block: *mut u8) -> NonNull<u8> {
    // SAFETY: a live block is not null and has at least HEADER bytes, so that one byte further is inside.
    unsafe { NonNull::new_unchecked(block.add(Intset::TAG)) }
}

impl Default for Intset {
    fn default() -> Self {
        Self::new()
    }
}

impl Clone for Intset {
    fn clone(&self) -> Self {
        let Header { width, len } = self.header();
        let mut copy = Self::from_parts(width, len, self.as_bytes().len());
        copy.block_mut().copy_from_slice(self.as_bytes());
        copy
    }
}

impl Drop for Intset {
    fn drop(&mut self) {
        // SAFETY: the block came from this allocator with the size that its header says, and is freed once.
        unsafe { dealloc(self.base(), layout(self.as_bytes().len())) };
    }
}

impl std::fmt::Debug for Intset {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    #[test]
    fn the_blob_is_redis_layout() {
        let mut set = Intset::new();
        for value in [5, -1, 300] {
            assert!(set.insert(value));
        }
        assert_eq!(set.as_bytes(), [2, 0, 0, 0, 3, 0, 0, 0, 255, 255, 5, 0, 44, 1]);
        assert!(set.insert(70_000));
        assert_eq!(set.as_bytes()[..12], [4, 0, 0, 0, 4, 0, 0, 0, 255, 255, 255, 255]);
        assert!(!set.insert(5));
        assert_eq!((set.min(), set.max()), (Some(-1), Some(70_000)));
    }

    #[test]
    fn foreign_blobs_are_checked() {
        let good = [2, 0, 0, 0, 2, 0, 0, 0, 1, 0, 2, 0];
        assert!(Intset::from_bytes(&good).is_some());
        let spoiled: [&[u8]; 7] = [
            b"",
            &good[..7],
            &good[..11],
            &[2, 0, 0, 0, 0, 0, 0, 0],
            &[3, 0, 0, 0, 2, 0, 0, 0, 1, 0, 2, 0, 0, 0],
            &[2, 0, 0, 0, 2, 0, 0, 0, 2, 0, 2, 0],
            &[2, 0, 0, 0, 2, 0, 0, 0, 3, 0, 2, 0],
        ];
        for blob in spoiled {
            assert!(Intset::from_bytes(blob).is_none(), "{blob:?}");
        }
        assert!(Intset::from_bytes(&[8, 0, 0, 0, 255, 255, 255, 255, 1]).is_none());
    }

    fn value() -> impl Strategy<Value = i64> {
        prop_oneof![4 => -20i64..20, 2 => any::<i16>().prop_map(i64::from), 1 => any::<i32>().prop_map(i64::from), 1 => any::<i64>()]
    }

    proptest! {
        #[test]
        fn behaves_as_a_btree_set(steps in prop::collection::vec((any::<bool>(), value()), 0..if cfg!(miri) { 60 } else { 200 })) {
            let (mut set, mut model) = (Intset::new(), BTreeSet::new());
            let mut random = Random::seeded(1);
            for (insert, value) in steps {
                if insert {
                    prop_assert_eq!(set.insert(value), model.insert(value));
                } else {
                    prop_assert_eq!(set.remove(value), model.remove(&value));
                }
                prop_assert_eq!(set.contains(value), insert);
                prop_assert_eq!(set.len(), model.len());
            }
            prop_assert!(set.iter().eq(model.iter().copied()));
            prop_assert_eq!(set.random(&mut random).is_some_and(|member| model.contains(&member)), !model.is_empty());
            if !set.is_empty() {
                let copy = Intset::from_bytes(set.as_bytes()).expect("our own blob");
                prop_assert!(copy.iter().eq(set.clone().iter()));
            }
        }

        #[test]
        fn any_blob_is_refused_or_sound(blob in prop::collection::vec(any::<u8>(), 0..40)) {
            if let Some(set) = Intset::from_bytes(&blob) {
                prop_assert_eq!(set.as_bytes(), &blob[..]);
            }
        }
    }
}
