//! The counting allocator: jemalloc underneath, `used_memory` exact and cheap above.
//!
//! Each thread adds to a counter in a cache line of its own; reading sums them. A counter may be negative (a thread that
//! frees what another allocated); only the sum means anything. Sizes are counted as jemalloc rounds them, so that the sum is
//! what the allocator has really given out.

use std::alloc::{GlobalAlloc, Layout};
use std::cell::Cell;
use std::ffi::{CStr, c_char};
use std::sync::atomic::{AtomicIsize, AtomicUsize, Ordering};

/// One counter per thread up to this many threads; those beyond share the last one.
const COUNTERS: usize = 64;

#[repr(align(64))]
struct Counter(AtomicIsize);

static ALLOCATED: [Counter; COUNTERS] = [const { Counter(AtomicIsize::new(0)) }; COUNTERS];
static THREADS: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    /// 0 = not assigned yet; const-initialised and without a destructor, so that it may be touched inside the allocator.
    static COUNTER: Cell<usize> = const { Cell::new(0) };
}

/// Bytes that the program holds from the allocator.
pub fn used() -> usize {
    let threads = THREADS.load(Ordering::Relaxed).min(COUNTERS);
    let sum: isize = ALLOCATED.iter().take(threads).map(|counter| counter.0.load(Ordering::Relaxed)).sum();
    usize::try_from(sum).unwrap_or(0)
}

/// Makes jemalloc return the pages that it keeps for later: every arena is told to keep none, then to go on as before.
pub fn purge() {
    let arenas = tikv_jemalloc_ctl::arenas::narenas::read().unwrap_or(0);
    for arena in 0..arenas {
        let name = format!("arena.{arena}.dirty_decay_ms\0");
        for decay_ms in [0isize, DIRTY_DECAY_MS] {
            // SAFETY: the name ends in a zero byte, and jemalloc documents its value as an ssize_t. An arena that was never
            // used answers an error, which is of no interest.
            let _ = unsafe { tikv_jemalloc_ctl::raw::write(name.as_bytes(), decay_ms) };
        }
    }
}

/// Whether jemalloc gives back freed pages in a thread of its own. Without one it does so only while the arena that they belong to is
/// at work: after mass deletion by clients that then fall silent, it would be never.
pub fn set_background_thread(on: bool) {
    // Refused where there are no threads to be had: then it is as without.
    let _ = tikv_jemalloc_ctl::background_thread::write(on);
}

/// A number among jemalloc's settings and figures (`arenas.page`), whatever its width.
pub fn allocator_figure(name: &[u8]) -> Option<u64> {
    let name = [name, b"\0"].concat();
    // SAFETY: the name ends in a zero byte. jemalloc compares the size that is asked for with that of the value and answers an error,
    // untouched, if they differ; any bytes are a valid integer.
    unsafe {
        let wide = tikv_jemalloc_ctl::raw::read::<u64>(&name).ok();
        let word = || tikv_jemalloc_ctl::raw::read::<u32>(&name).ok().map(u64::from);
        let byte = || tikv_jemalloc_ctl::raw::read::<u8>(&name).ok().map(u64::from);
        wide.or_else(word).or_else(byte)
    }
}

/// How jemalloc cuts its slabs, in pages for a class of sizes. Each slab has a descriptor of 128 bytes, and a slab of jemalloc's choice
/// holds as few blocks as fill whole pages. Small ones, which most records are, hold up to 512 here, which is the most. Of big ones,
/// the nodes of lists and streams gain by sharing a descriptor among two or four; the other classes stay as they are, because a slab
/// goes back only when it is empty: with bigger ones (32 KB for all up to 8 KB) a data set of mixed sizes kept a quarter more after
/// nine of ten keys were deleted at random, with these it keeps no more than with jemalloc's own.
///
/// ```text
/// class             16   32   48   64   80   96  128   2K   8K
/// its own choice   256  128  256   64  256  128   32    2    1   blocks
/// here             512  512  512  512  512  512  256    4    2
/// ```
const SLABS: &CStr = c"slab_sizes:16-16:2|32-32:4|48-48:6|64-64:8|80-80:10|96-96:12|128-128:8|2048-2048:2|8192-8192:4";

/// The settings that jemalloc is built to look for in the program, as its manual describes.
#[repr(transparent)]
pub struct Settings(*const c_char);

// SAFETY: the pointer is to a constant that nobody changes.
unsafe impl Sync for Settings {}

// SAFETY: jemalloc, built with this prefix, declares the symbol as a pointer to a C string and gives none itself but a weak one.
#[cfg(not(miri))]
#[unsafe(export_name = "_rjem_malloc_conf")]
pub static SETTINGS: Settings = Settings(SLABS.as_ptr());

/// jemalloc's default.
const DIRTY_DECAY_MS: isize = 10_000;

#[inline]
fn count(delta: isize) {
    let mut index = COUNTER.get();
    if index == 0 {
        index = 1 + THREADS.fetch_add(1, Ordering::Relaxed).min(COUNTERS - 1);
        COUNTER.set(index);
    }
    let counter = &ALLOCATED[index - 1].0;
    if index < COUNTERS {
        // Only this thread writes here: a plain add, no locked instruction.
        counter.store(counter.load(Ordering::Relaxed).wrapping_add(delta), Ordering::Relaxed);
    } else {
        counter.fetch_add(delta, Ordering::Relaxed);
    }
}

/// The size that jemalloc gives for a request: multiples of 16 up to 128, then four classes per doubling.
#[inline]
pub const fn size_class(size: usize) -> usize {
    if size <= 128 {
        return if size <= 8 { 8 } else { (size + 15) & !15 };
    }
    let step = 1usize << ((usize::BITS - 1 - (size - 1).leading_zeros()) - 2);
    (size + step - 1) & !(step - 1)
}

/// The global allocator of the server binary.
pub struct Counting<A>(pub A);

// SAFETY: every call is passed on unchanged to the inner allocator; counting has no effect on memory.
unsafe impl<A: GlobalAlloc> GlobalAlloc for Counting<A> {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(size_class(layout.size()) as isize);
        // SAFETY: the caller's contract is the inner allocator's.
        unsafe { self.0.alloc(layout) }
    }

    #[inline]
    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        count(-(size_class(layout.size()) as isize));
        // SAFETY: as above.
        unsafe { self.0.dealloc(block, layout) }
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(size_class(layout.size()) as isize);
        // SAFETY: as above.
        unsafe { self.0.alloc_zeroed(layout) }
    }

    #[inline]
    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size_class(size) as isize - size_class(layout.size()) as isize);
        // SAFETY: as above.
        unsafe { self.0.realloc(block, layout, size) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(not(miri))]
    fn slabs_are_cut_as_we_say() {
        for (bin, class, blocks) in [(2, 32, 512), (6, 96, 512), (8, 128, 256), (24, 2048, 4), (32, 8192, 2)] {
            let figure = |what| allocator_figure(format!("arenas.bin.{bin}.{what}").as_bytes());
            assert_eq!((figure("size"), figure("nregs")), (Some(class), Some(blocks)));
        }
    }

    #[test]
    fn classes_are_jemallocs() {
        for (size, class) in [
            (1, 8),
            (9, 16),
            (17, 32),
            (96, 96),
            (97, 112),
            (128, 128),
            (129, 160),
            (161, 192),
            (257, 320),
            (4096, 4096),
            (4097, 5120),
        ] {
            assert_eq!(size_class(size), class, "{size}");
        }
    }
}
