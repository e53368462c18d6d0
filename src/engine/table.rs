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

use crate::base::{hash, random::Random};
use crate::engine::value::Ahead;
use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::marker::PhantomData;
use std::ptr::NonNull;

/// What a table holds: one word that owns an allocation with a byte-string key.
///
/// # Safety
/// The type is `repr(transparent)` over `NonNull<u8>`: the table keeps it as a bare pointer and hands out references to it.
pub unsafe trait Entry: Sized {
    fn key(&self) -> &[u8];
}

/// Slots of a bucket.
const SLOTS: usize = 7;
/// Buckets of a chunk once the table has grown beyond one (4 KB).
const CHUNK: usize = 64;
/// The table grows when entries exceed 11/2 per bucket, and shrinks below 2: between them a size is stable.
const GROW_NUMERATOR: usize = 11;
const GROW_DENOMINATOR: usize = 2;
const SHRINK_PER_BUCKET: usize = 2;

const CHAINED: u64 = 0x80 << 56;
const LOW: u64 = 0x0001_0101_0101_0101;
const HIGH: u64 = 0x0080_8080_8080_8080;
const LOW7: u64 = 0x007f_7f7f_7f7f_7f7f;

#[repr(C, align(64))]
struct Bucket {
    meta: u64,
    slots: [*mut u8; SLOTS],
}

impl Bucket {
    /// High bit of each tag byte that equals `tag`; exact, unlike the borrow-propagating variant.
    #[inline]
    fn matching(&self, tag: u8) -> u64 {
        let x = self.meta ^ (LOW * u64::from(tag));
        !(((x & LOW7) + LOW7) | x | LOW7) & HIGH
    }

    #[inline]
    fn occupied(&self) -> u64 {
        (((self.meta & LOW7) + LOW7) | self.meta) & HIGH
    }

    /// The first free slot; a chained bucket's link slot does not count.
    #[inline]
    fn free_slot(&self) -> Option<usize> {
        let usable = if self.is_chained() { HIGH >> 8 } else { HIGH };
        let free = !self.occupied() & usable;
        (free != 0).then(|| free.trailing_zeros() as usize / 8)
    }

    #[inline]
    fn is_chained(&self) -> bool {
        self.meta & CHAINED != 0
    }

    #[inline]
    fn next(&self) -> Option<NonNull<Bucket>> {
        if self.is_chained() { NonNull::new(self.slots[SLOTS - 1].cast()) } else { None }
    }

    #[inline]
    fn put(&mut self, slot: usize, word: *mut u8, tag: u8, marked: bool) {
        self.slots[slot] = word;
        self.meta |= u64::from(tag) << (8 * slot);
        self.meta |= u64::from(marked) << (56 + slot);
    }

    #[inline]
    fn clear(&mut self, slot: usize) {
        self.meta &= !(0xff << (8 * slot)) & !(1 << (56 + slot));
    }

    #[inline]
    fn is_marked(&self, slot: usize) -> bool {
        self.meta & (1 << (56 + slot)) != 0
    }

    fn tag(&self, slot: usize) -> u8 {
        (self.meta >> (8 * slot)) as u8
    }
}

/// Iterates the slot numbers of a mask made by `matching` or `occupied`.
struct Slots(u64);

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
fn tag_of(hash: u64) -> u8 {
    ((hash >> 48) as u8).max(1)
}

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

    /// Visits the entries under one cursor and returns the next cursor; 0 starts and ends (see the top of the file).
    pub fn scan(&self, cursor: u64, mut visit: impl FnMut(&E)) -> u64 {
        if self.chunks.is_empty() {
            return 0;
        }
        let mask = (1u64 << self.level) - 1;
        let index = (cursor & mask) as usize;
        self.visit_bucket(index, &mut visit);
        if index < self.split {
            self.visit_bucket(index + (1 << self.level), &mut visit);
        }
        (cursor | !mask).reverse_bits().wrapping_add(1).reverse_bits()
    }

    /// Visits every entry of one bucket and its chain.
    pub fn visit_bucket(&self, index: usize, visit: &mut impl FnMut(&E)) {
        self.visit_slots(index, |_, _| true, &mut |entry| visit(entry));
    }

    /// Visits the marked entries of one bucket; false if it has none (cheap: one look at the bucket).
    pub fn visit_marked(&self, index: usize, visit: &mut impl FnMut(&E)) -> bool {
        let mut any = false;
        self.visit_slots(index, |bucket, slot| bucket.is_marked(slot), &mut |entry| {
            any = true;
            visit(entry);
        });
        any
    }

    fn visit_slots(&self, index: usize, wanted: impl Fn(&Bucket, usize) -> bool, visit: &mut impl FnMut(&E)) {
        let mut current = Some(self.bucket(index));
        while let Some(pointer) = current {
            // SAFETY: live bucket of this table, which is borrowed.
            let bucket = unsafe { pointer.as_ref() };
            for slot in Slots(bucket.occupied()) {
                if wanted(bucket, slot) {
                    visit(self.entry(Place { bucket: pointer, slot }));
                }
            }
            current = bucket.next();
        }
    }

    /// Every entry, in no particular order.
    pub fn iter(&self) -> Iter<'_, E> {
        let current = (!self.chunks.is_empty()).then(|| self.bucket(0));
        Iter { table: self, index: 0, current, slots: Slots(current.map_or(0, occupied_slots)) }
    }

    /// A uniformly random entry: a random bucket, a random position in the longest possible chain, again until it hits.
    pub fn random(&self, random: &mut Random) -> Option<&E> {
        if self.len == 0 {
            return None;
        }
        loop {
            let index = random.below(self.buckets() as u64) as usize;
            let position = random.below((self.depth * SLOTS) as u64) as usize;
            let mut current = Some(self.bucket(index));
            for _ in 0..position / SLOTS {
                // SAFETY: live bucket.
                current = current.and_then(|bucket| unsafe { bucket.as_ref() }.next());
            }
            let Some(bucket) = current else { continue };
            let slot = position % SLOTS;
            // SAFETY: live bucket.
            if unsafe { bucket.as_ref() }.tag(slot) != 0 {
                return Some(self.entry(Place { bucket, slot }));
            }
        }
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

    /// Buckets by number of entries, for DEBUG HTSTATS.
    pub fn chain_lengths(&self) -> Vec<usize> {
        let mut lengths = Vec::new();
        for index in 0..self.buckets() {
            let mut entries = 0;
            self.visit_bucket(index, &mut |_| entries += 1);
            if lengths.len() <= entries {
                lengths.resize(entries + 1, 0);
            }
            lengths[entries] += 1;
        }
        lengths
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

pub struct Iter<'a, E: Entry> {
    table: &'a Table<E>,
    index: usize,
    current: Option<NonNull<Bucket>>,
    slots: Slots,
}

impl<'a, E: Entry> Iterator for Iter<'a, E> {
    type Item = &'a E;

    fn next(&mut self) -> Option<&'a E> {
        loop {
            let bucket = self.current?;
            if let Some(slot) = self.slots.next() {
                return Some(self.table.entry(Place { bucket, slot }));
            }
            // SAFETY: live bucket of a table borrowed for 'a.
            self.current = unsafe { bucket.as_ref() }.next().or_else(|| {
                self.index += 1;
                (self.index < self.table.buckets()).then(|| self.table.bucket(self.index))
            });
            self.slots = Slots(self.current.map_or(0, occupied_slots));
        }
    }
}

fn occupied_slots(bucket: NonNull<Bucket>) -> u64 {
    // SAFETY: called with live buckets of a borrowed table only.
    unsafe { bucket.as_ref() }.occupied()
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

fn allocate_buckets(count: usize) -> NonNull<Bucket> {
    let layout = bucket_layout(count);
    // SAFETY: the layout is not empty. Zeroed buckets are valid: no tag, no link.
    NonNull::new(unsafe { alloc_zeroed(layout) }.cast()).unwrap_or_else(|| handle_alloc_error(layout))
}

fn free_buckets(buckets: NonNull<Bucket>, count: usize) {
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::{HashMap, HashSet};

    /// A test entry: a boxed key and value behind one word.
    #[repr(transparent)]
    struct Pair(NonNull<u8>);

    impl Pair {
        fn new(key: &[u8], value: u32) -> Self {
            let boxed = Box::new((key.to_vec(), value));
            Pair(NonNull::from(Box::leak(boxed)).cast())
        }

        fn content(&self) -> &(Vec<u8>, u32) {
            // SAFETY: made by `new`.
            unsafe { self.0.cast().as_ref() }
        }
    }

    impl Drop for Pair {
        fn drop(&mut self) {
            // SAFETY: made by `new`, dropped once.
            drop(unsafe { Box::from_raw(self.0.cast::<(Vec<u8>, u32)>().as_ptr()) });
        }
    }

    // SAFETY: repr(transparent) over NonNull<u8>.
    unsafe impl Entry for Pair {
        fn key(&self) -> &[u8] {
            &self.content().0
        }
    }

    fn key(n: u32) -> Vec<u8> {
        format!("key:{n}").into_bytes()
    }

    #[derive(Clone, Debug)]
    enum Step {
        Put(u32, u32),
        Remove(u32),
        Mark(u32),
        Pause(bool),
        Drain,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            60 => (0..400u32, any::<u32>()).prop_map(|(k, v)| Step::Put(k, v)),
            30 => (0..400u32).prop_map(Step::Remove),
            8 => (0..400u32).prop_map(Step::Mark),
            2 => any::<bool>().prop_map(Step::Pause),
            1 => Just(Step::Drain),
        ];
        prop::collection::vec(step, 0..if cfg!(miri) { 60 } else { 1500 })
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: if cfg!(miri) { 4 } else { 128 }, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn behaves_as_a_map(steps in steps()) {
            let mut table = Table::new();
            let mut model: HashMap<Vec<u8>, (u32, bool)> = HashMap::new();
            for step in steps {
                match step {
                    Step::Put(k, v) => {
                        let old = table.replace(hash::bytes(&key(k)), Pair::new(&key(k), v)).map(|pair| pair.content().1);
                        let marked = model.get(&key(k)).is_some_and(|(_, marked)| *marked);
                        prop_assert_eq!(old, model.insert(key(k), (v, marked)).map(|(v, _)| v));
                    }
                    Step::Remove(k) => {
                        let old = table.remove(hash::bytes(&key(k)), &key(k)).map(|pair| pair.content().1);
                        prop_assert_eq!(old, model.remove(&key(k)).map(|(v, _)| v));
                    }
                    Step::Mark(k) => {
                        if let Some(place) = table.place(hash::bytes(&key(k)), &key(k)) {
                            table.set_mark(place, true);
                            model.get_mut(&key(k)).expect("in the table").1 = true;
                        }
                    }
                    Step::Pause(paused) => table.pause_resize(paused),
                    Step::Drain => {
                        table.drain(drop);
                        model.clear();
                    }
                }
                prop_assert_eq!(table.len(), model.len());
            }
            let content: HashMap<_, _> = table.iter().map(|pair| (pair.key().to_vec(), pair.content().1)).collect();
            prop_assert_eq!(content.len(), model.len());
            let mut marked = HashSet::new();
            for index in 0..table.buckets() {
                table.visit_marked(index, &mut |pair: &Pair| { marked.insert(pair.key().to_vec()); });
            }
            for (k, (v, mark)) in &model {
                prop_assert_eq!(content.get(k), Some(v));
                prop_assert_eq!(marked.contains(k), *mark);
            }
        }

        /// Every key present throughout a scan is returned, however the table changes between the calls.
        #[test]
        fn scan_misses_nothing(stable in 1..300u32, churn in prop::collection::vec((any::<bool>(), 0..600u32), 0..600)) {
            let mut table = Table::new();
            for n in 0..stable {
                table.replace(hash::bytes(&key(n)), Pair::new(&key(n), 0));
            }
            let mut seen = HashSet::new();
            let mut cursor = 0;
            let mut churn = churn.into_iter();
            loop {
                cursor = table.scan(cursor, |pair| { seen.insert(pair.key().to_vec()); });
                if cursor == 0 {
                    break;
                }
                for (add, n) in churn.by_ref().take(40) {
                    let k = key(1000 + n);
                    if add {
                        table.replace(hash::bytes(&k), Pair::new(&k, 1));
                    } else {
                        table.remove(hash::bytes(&k), &k);
                    }
                }
            }
            for n in 0..stable {
                prop_assert!(seen.contains(&key(n)), "key {} was missed", n);
            }
        }
    }

    #[test]
    #[cfg_attr(miri, ignore)]
    fn random_is_uniform() {
        let mut table = Table::new();
        for n in 0..100 {
            table.insert_new(hash::bytes(&key(n)), Pair::new(&key(n), n));
        }
        let mut random = Random::seeded(7);
        let mut hits = [0f64; 100];
        for _ in 0..100_000 {
            hits[table.random(&mut random).expect("not empty").content().1 as usize] += 1.0;
        }
        let chi_square: f64 = hits.iter().map(|hits| (hits - 1000.0).powi(2) / 1000.0).sum();
        assert!(chi_square < 160.0, "chi square {chi_square} of 99 degrees of freedom");
    }

    #[test]
    #[cfg_attr(miri, ignore)]
    fn memory_stays_near_twelve_bytes_an_entry() {
        let mut table = Table::new();
        for n in 0..200_000 {
            table.insert_new(hash::bytes(&key(n)), Pair::new(&key(n), n));
        }
        let each = table.memory() as f64 / 200_000.0;
        assert!(each < 14.5, "{each} bytes an entry");
    }
}
