//! The bucket table: the keyspace's main table and the big form of hashes, sets and sorted sets' member index.
//!
//! Linear hashing over buckets of one cache line. It grows one bucket at a time, so there is no second table, no pause
//! and no moment of double memory; and a bucket never moves once the table has more than one chunk.
//!
//! ```text
//! bucket (64 bytes)    0      1         7         8        16                 64
//!                      | tag0 | … tag6 | control | slot 0 | slot 1 | … slot 6 |
//!   tag      0 = slot empty, else 8 bits of the hash (0 is stored as 1)
//!   control  bits 0–6: mark of each slot (the keyspace marks keys that have an expiry); bit 7: slot 6 is a link
//!   slot     one word that owns an entry; when the bucket is full, slot 6 becomes the link to an overflow bucket
//!
//! level L, split pointer s:   buckets = 2^L + s,   index(h) = h mod 2^L, or h mod 2^(L+1) where that is below s
//!   0 … s−1    s … 2^L−1    2^L … 2^L+s−1
//!   already    still        the other halves
//!   split      whole        of the split ones
//! ```
//!
//! SCAN uses a reverse-binary cursor over the 2^L buckets of the current level: a bucket and its other half are visited
//! together, so an entry present throughout is returned at least once however the table grows or shrinks between calls.

mod bucket;
mod walk;

use crate::base::hash;
use crate::engine::value::Ahead;
use bucket::{Bucket, CHAINED, SLOTS, Slots, allocate_buckets, free_buckets, tag_of};
use std::marker::PhantomData;
use std::ptr::NonNull;

pub(crate) use bucket::prefetch;
pub use walk::Iter;

/// What a table holds: one word that owns an allocation with a byte-string key.
///
/// # Safety
/// The type is `repr(transparent)` over `NonNull<u8>`: the table keeps it as a bare pointer and hands out references to it.
pub unsafe trait Entry: Sized {
    fn key(&self) -> &[u8];
}

/// Buckets of a chunk once the table has grown beyond one (4 KB).
const CHUNK: usize = 64;
/// The table grows when entries exceed 11/2 per bucket, and shrinks below 2: between them a size is stable.
const GROW_NUMERATOR: usize = 11;
const GROW_DENOMINATOR: usize = 2;
const SHRINK_PER_BUCKET: usize = 2;

/// A place in the table, valid until the table changes.
#[derive(Clone, Copy)]
pub(in crate::engine) struct Place {
    bucket: NonNull<Bucket>,
    slot: usize,
}

pub struct Table<E: Entry> {
    /// Chunks of `CHUNK` buckets; while there is only one it may be smaller (a power of two).
    chunks: Vec<NonNull<Bucket>>,
    level: u32,
    /// Buckets that the first chunk holds.
    first_chunk: u32,
    /// While resizing is paused (a snapshot walks the buckets) the shape stays as it is and chains take the overflow.
    paused: bool,
    split: usize,
    len: usize,
    overflow: usize,
    /// Upper bound of the buckets in a chain, for uniform sampling.
    depth: usize,
    entries: PhantomData<E>,
}

// SAFETY: the table owns its entries through the bare words; it is as transferable as they are.
unsafe impl<E: Entry + Send> Send for Table<E> {}
// SAFETY: shared access only reads.
unsafe impl<E: Entry + Sync> Sync for Table<E> {}

impl<E: Entry> Default for Table<E> {
    fn default() -> Self {
        Self::new()
    }
}

impl<E: Entry> Table<E> {
    /// An empty table holds no memory.
    pub const fn new() -> Self {
        Table {
            chunks: Vec::new(),
            level: 0,
            first_chunk: 0,
            paused: false,
            split: 0,
            len: 0,
            overflow: 0,
            depth: 1,
            entries: PhantomData,
        }
    }

    /// A table that takes `entries` without splitting on the way.
    pub fn with_capacity(entries: usize) -> Self {
        let mut table = Self::new();
        table.reserve(entries);
        table
    }

    /// Grows an empty table to the shape it would have with `entries`; does nothing to one in use.
    pub fn reserve(&mut self, entries: usize) {
        if self.len > 0 || entries <= SLOTS {
            return;
        }
        let buckets = (entries * GROW_DENOMINATOR / GROW_NUMERATOR + 1).max(1);
        self.level = buckets.ilog2();
        self.split = buckets - (1 << self.level);
        self.grow_chunks(buckets);
    }

    #[inline]
    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Number of buckets, overflow buckets aside.
    #[inline]
    pub fn buckets(&self) -> usize {
        if self.chunks.is_empty() { 0 } else { (1 << self.level) + self.split }
    }

    /// Bytes that the buckets take.
    pub fn memory(&self) -> usize {
        let primary = match self.chunks.len() {
            0 => 0,
            1 => self.first_chunk as usize,
            chunks => chunks * CHUNK,
        };
        (primary + self.overflow) * size_of::<Bucket>() + self.chunks.capacity() * size_of::<usize>()
    }

    /// Stops or allows growth and shrinkage: bucket numbers are stable while paused.
    pub fn pause_resize(&mut self, paused: bool) {
        self.paused = paused;
    }

    #[inline]
    pub fn bucket_of(&self, hash: u64) -> usize {
        let low = hash as usize & ((1 << self.level) - 1);
        if low < self.split { hash as usize & ((2 << self.level) - 1) } else { low }
    }

    #[inline]
    fn bucket(&self, index: usize) -> NonNull<Bucket> {
        debug_assert!(index < self.buckets());
        // SAFETY: `index` is below `buckets()`, and the chunks hold at least that many buckets.
        unsafe { self.chunks.get_unchecked(index / CHUNK).add(index % CHUNK) }
    }

    #[inline]
    pub fn prefetch(&self, hash: u64, step: Ahead) {
        match step {
            Ahead::Bucket => self.prefetch_bucket(hash),
            Ahead::Entry => self.prefetch_entry(hash),
        }
    }

    /// Starts to bring the bucket of `hash` into the cache.
    #[inline]
    pub fn prefetch_bucket(&self, hash: u64) {
        if !self.chunks.is_empty() {
            prefetch(self.bucket(self.bucket_of(hash)).as_ptr().cast());
        }
    }

    /// Starts to bring the first lines of the likely entry of `hash` into the cache.
    #[inline]
    pub fn prefetch_entry(&self, hash: u64) {
        if self.chunks.is_empty() {
            return;
        }
        // SAFETY: `bucket` returns a live bucket.
        let bucket = unsafe { self.bucket(self.bucket_of(hash)).as_ref() };
        let matching = bucket.matching(tag_of(hash));
        if matching != 0 {
            let entry = bucket.slots[matching.trailing_zeros() as usize / 8];
            prefetch(entry);
            prefetch(entry.wrapping_add(64));
        }
    }

    #[inline]
    pub(in crate::engine) fn place(&self, hash: u64, key: &[u8]) -> Option<Place> {
        if self.len == 0 {
            return None;
        }
        let tag = tag_of(hash);
        let mut current = self.bucket(self.bucket_of(hash));
        loop {
            // SAFETY: live bucket; nobody changes it while `self` is borrowed.
            let bucket = unsafe { current.as_ref() };
            for slot in Slots(bucket.matching(tag)) {
                let place = Place { bucket: current, slot };
                if self.entry(place).key() == key {
                    return Some(place);
                }
            }
            current = bucket.next()?;
        }
    }

    #[inline]
    pub(in crate::engine) fn entry(&self, place: Place) -> &E {
        // SAFETY: an occupied slot holds the word of an `E`, which is transparent over a non-null pointer.
        unsafe { &*(&raw const (*place.bucket.as_ptr()).slots[place.slot]).cast::<E>() }
    }

    #[inline]
    pub(in crate::engine) fn entry_mut(&mut self, place: Place) -> &mut E {
        // SAFETY: as in `entry`; the table is borrowed mutably.
        unsafe { &mut *(&raw mut (*place.bucket.as_ptr()).slots[place.slot]).cast::<E>() }
    }

    #[inline]
    pub fn find(&self, hash: u64, key: &[u8]) -> Option<&E> {
        self.place(hash, key).map(|place| self.entry(place))
    }

    /// The entry's key must stay the same.
    #[inline]
    pub fn find_mut(&mut self, hash: u64, key: &[u8]) -> Option<&mut E> {
        self.place(hash, key).map(|place| self.entry_mut(place))
    }

    #[inline]
    pub(in crate::engine) fn set_mark(&mut self, place: Place, marked: bool) {
        // SAFETY: a place names a live bucket; the table is borrowed mutably.
        let bucket = unsafe { &mut *place.bucket.as_ptr() };
        let bit = 1 << (56 + place.slot);
        bucket.meta = if marked { bucket.meta | bit } else { bucket.meta & !bit };
    }

    /// Adds an entry whose key is known to be absent.
    #[inline]
    pub(in crate::engine) fn insert_new(&mut self, hash: u64, entry: E) -> Place {
        if self.chunks.is_empty() {
            self.grow_chunks(1);
        } else if (self.len + 1) * GROW_DENOMINATOR > self.buckets() * GROW_NUMERATOR && !self.paused {
            // Before the entry goes in, so that its place is final.
            self.grow();
        }
        self.len += 1;
        self.attach(self.bucket_of(hash), into_word(entry), tag_of(hash), false)
    }

    /// Adds an entry or takes the place of the one with its key, which is returned.
    pub fn replace(&mut self, hash: u64, entry: E) -> Option<E> {
        match self.place(hash, entry.key()) {
            Some(place) => Some(std::mem::replace(self.entry_mut(place), entry)),
            None => {
                self.insert_new(hash, entry);
                None
            }
        }
    }

    pub fn remove(&mut self, hash: u64, key: &[u8]) -> Option<E> {
        let place = self.place(hash, key)?;
        Some(self.remove_at(hash, place))
    }

    /// Takes out the entry at a place found for `hash`.
    pub(in crate::engine) fn remove_at(&mut self, hash: u64, place: Place) -> E {
        // SAFETY: a place names a live bucket; the table is borrowed mutably.
        let bucket = unsafe { &mut *place.bucket.as_ptr() };
        let word = bucket.slots[place.slot];
        bucket.clear(place.slot);
        self.len -= 1;
        self.fill_hole(self.bucket_of(hash), place);
        if self.len < self.buckets() * SHRINK_PER_BUCKET && !self.paused {
            self.shrink();
        }
        // SAFETY: the word came from `into_word` of an `E`, and its slot is empty now.
        unsafe { from_word(word) }
    }

    /// Takes every entry out, leaving an empty table that holds no memory.
    pub fn drain(&mut self, mut visit: impl FnMut(E)) {
        for index in 0..self.buckets() {
            let mut current = Some(self.bucket(index));
            while let Some(pointer) = current {
                // SAFETY: live bucket; each word is taken out once, the buckets are freed below.
                let bucket = unsafe { pointer.as_ref() };
                for slot in Slots(bucket.occupied()) {
                    // SAFETY: an occupied slot owns an `E`.
                    visit(unsafe { from_word(bucket.slots[slot]) });
                }
                current = bucket.next();
                if pointer != self.bucket(index) {
                    free_buckets(pointer, 1);
                }
            }
        }
        self.free_chunks();
        self.level = 0;
        self.split = 0;
        self.len = 0;
        self.overflow = 0;
        self.depth = 1;
    }

    /// Puts a word into the first free slot of a chain, lengthening the chain if there is none.
    #[inline]
    fn attach(&mut self, index: usize, word: *mut u8, tag: u8, marked: bool) -> Place {
        let mut current = self.bucket(index);
        let mut depth = 1;
        loop {
            // SAFETY: live bucket; the table is borrowed mutably.
            let bucket = unsafe { &mut *current.as_ptr() };
            if let Some(slot) = bucket.free_slot() {
                bucket.put(slot, word, tag, marked);
                return Place { bucket: current, slot };
            }
            depth += 1;
            current = match bucket.next() {
                Some(next) => next,
                None => self.chain(bucket, depth),
            };
        }
    }

    /// Turns the last slot of a full bucket into a link to a new bucket, which takes over the displaced entry.
    #[cold]
    fn chain(&mut self, bucket: &mut Bucket, depth: usize) -> NonNull<Bucket> {
        let last = SLOTS - 1;
        let mut next = allocate_buckets(1);
        // SAFETY: freshly allocated, zeroed, ours alone.
        unsafe { next.as_mut() }.put(0, bucket.slots[last], bucket.tag(last), bucket.is_marked(last));
        bucket.clear(last);
        bucket.slots[last] = next.as_ptr().cast();
        bucket.meta |= CHAINED;
        self.overflow += 1;
        self.depth = self.depth.max(depth);
        next
    }

    /// Moves an entry from the end of a chain into a hole, so that overflow buckets empty out and are freed.
    fn fill_hole(&mut self, index: usize, hole: Place) {
        let mut parent = self.bucket(index);
        // SAFETY: all are live buckets of one chain; the table is borrowed mutably.
        let Some(mut tail) = (unsafe { parent.as_ref() }).next() else { return };
        // SAFETY: as above.
        while let Some(next) = unsafe { tail.as_ref() }.next() {
            parent = tail;
            tail = next;
        }
        // SAFETY: as above; `tail` is not the first bucket, `hole.bucket` may equal `tail`.
        let (occupied, moved) = unsafe {
            let bucket = tail.as_ref();
            let occupied = bucket.occupied();
            let slot = Slots(occupied).next();
            (occupied, slot.map(|slot| (slot, bucket.slots[slot], bucket.tag(slot), bucket.is_marked(slot))))
        };
        let mut left = occupied.count_ones();
        if let Some((slot, word, tag, marked)) = moved
            && hole.bucket != tail
        {
            // SAFETY: as above; two different buckets.
            unsafe {
                (*tail.as_ptr()).clear(slot);
                (*hole.bucket.as_ptr()).put(hole.slot, word, tag, marked);
            }
            left -= 1;
        }
        if left == 0 {
            // SAFETY: `parent` links to `tail`, which is empty and freed exactly once.
            unsafe {
                (*parent.as_ptr()).slots[SLOTS - 1] = std::ptr::null_mut();
                (*parent.as_ptr()).meta &= !CHAINED;
            }
            free_buckets(tail, 1);
            self.overflow -= 1;
        }
    }

    /// Splits the bucket at the split pointer; twice where a pause has left the table behind.
    #[cold]
    fn grow(&mut self) {
        for _ in 0..2 {
            if (self.len + 1) * GROW_DENOMINATOR <= self.buckets() * GROW_NUMERATOR {
                break;
            }
            let source = self.split;
            self.grow_chunks(self.buckets() + 1);
            let bit = 1u64 << self.level;
            self.split += 1;
            if self.split == 1 << self.level {
                self.level += 1;
                self.split = 0;
            }
            self.move_chain(
                source,
                |entry| {
                    if hash::bytes(entry.key()) & bit != 0 { source + bit as usize } else { source }
                },
            );
        }
        // The next victims will be read soon; without this their keys would be cache misses.
        // SAFETY: live bucket: the split pointer is below `buckets()`.
        let next = unsafe { self.bucket(self.split).as_ref() };
        for slot in Slots(next.occupied()) {
            prefetch(next.slots[slot]);
        }
    }

    /// Takes a chain apart, frees its overflow buckets and puts each entry into the bucket that `route` names.
    fn move_chain(&mut self, index: usize, route: impl Fn(&E) -> usize) {
        let first = self.bucket(index);
        // SAFETY: live bucket; its content is copied out and then cleared, so each word has one owner.
        let mut held = unsafe { first.read() };
        // SAFETY: as above.
        unsafe { (*first.as_ptr()).meta = 0 };
        loop {
            for slot in Slots(held.occupied()) {
                let word = held.slots[slot];
                // SAFETY: the word owns an `E`, which is only read here.
                let target = route(unsafe { &*(&raw const word).cast::<E>() });
                self.attach(target, word, held.tag(slot), held.is_marked(slot));
            }
            let Some(next) = held.next() else { return };
            // SAFETY: an overflow bucket of the chain, read once and freed.
            held = unsafe { next.read() };
            free_buckets(next, 1);
            self.overflow -= 1;
        }
    }

    /// Joins the last bucket with its other half.
    #[cold]
    fn shrink(&mut self) {
        if self.buckets() <= 1 {
            return;
        }
        let last = self.buckets() - 1;
        let (level, split) =
            if self.split == 0 { (self.level - 1, 1 << (self.level - 1)) } else { (self.level, self.split) };
        self.move_chain(last, |_| split - 1);
        (self.level, self.split) = (level, split - 1);
        // One spare chunk stays, so that a table at the border does not allocate and free it over and over.
        while self.chunks.len() > 1 && self.buckets() + 2 * CHUNK <= self.chunks.len() * CHUNK {
            if let Some(chunk) = self.chunks.pop() {
                free_buckets(chunk, CHUNK);
            }
        }
        if self.overflow == 0 {
            self.depth = 1;
        }
    }

    /// Makes room for `buckets` buckets: the first chunk doubles up to `CHUNK`, then whole chunks follow.
    fn grow_chunks(&mut self, buckets: usize) {
        let wanted = buckets.next_power_of_two().min(CHUNK);
        let held = self.first_chunk as usize;
        if held < wanted {
            let new = allocate_buckets(wanted);
            match self.chunks.first_mut() {
                None => self.chunks.push(new),
                Some(first) => {
                    // SAFETY: the old block holds `held` buckets, the new one more; they do not overlap.
                    unsafe { new.copy_from_nonoverlapping(*first, held) };
                    free_buckets(std::mem::replace(first, new), held);
                }
            }
            self.first_chunk = wanted as u32;
        }
        while self.chunks.len() * CHUNK < buckets {
            self.chunks.push(allocate_buckets(CHUNK));
        }
    }

    fn free_chunks(&mut self) {
        for (index, chunk) in std::mem::take(&mut self.chunks).into_iter().enumerate() {
            free_buckets(chunk, if index == 0 { self.first_chunk as usize } else { CHUNK });
        }
        self.first_chunk = 0;
    }
}

impl<E: Entry> Drop for Table<E> {
    fn drop(&mut self) {
        self.drain(drop);
    }
}

fn into_word<E: Entry>(entry: E) -> *mut u8 {
    const { assert!(size_of::<E>() == size_of::<*mut u8>()) };
    let entry = std::mem::ManuallyDrop::new(entry);
    // SAFETY: `E` is transparent over `NonNull<u8>` (the trait's contract); ownership moves into the word.
    unsafe { std::mem::transmute_copy::<E, *mut u8>(&entry) }
}

/// # Safety
/// `word` came from `into_word::<E>` and is not used again.
unsafe fn from_word<E: Entry>(word: *mut u8) -> E {
    // SAFETY: the caller's promise.
    unsafe { std::mem::transmute_copy::<*mut u8, E>(&word) }
}

#[cfg(test)]
mod tests;
