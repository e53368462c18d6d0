//! One allocation that holds length-prefixed byte strings: what an entry of a big set or hash is made of.
//!
//! ```text
//! prefix   0llllll … 11110111            length < 248 in the byte itself, flag clear
//!          11111wwf  length LE           w = 0..3: the length follows in 1, 2, 4 or 8 bytes; f = the flag
//! ```
//!
//! So a short string costs one byte on top, and the flag (a hash field uses it for "has an expiry") costs nothing where it is
//! clear. Blocks are asked for in whole size classes of the allocator: a change that stays in the class happens in place.

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::ptr::NonNull;

use crate::engine::memory::size_class;

/// Alignment of every block: the low bits of its address are free for its owner.
pub(super) const ALIGN: usize = 8;
/// The first value of the first byte that announces a length of its own.
const WIDE: u8 = 0xf8;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Prefix {
    pub len: usize,
    pub flag: bool,
}

impl Prefix {
    pub const fn of(len: usize) -> Self {
        Prefix { len, flag: false }
    }

    #[inline]
    fn is_narrow(self) -> bool {
        self.len < WIDE as usize && !self.flag
    }

    /// log2 of the bytes that a wide prefix spends on the length.
    fn width(self) -> u8 {
        match self.len {
            0..=0xff => 0,
            0x100..=0xffff => 1,
            0x1_0000..=0xffff_ffff => 2,
            _ => 3,
        }
    }

    /// Bytes that the prefix takes.
    #[inline]
    pub fn size(self) -> usize {
        if self.is_narrow() { 1 } else { 1 + (1 << self.width()) }
    }

    /// Writes the prefix and returns the address behind it.
    ///
    /// # Safety
    /// `size()` bytes from `at` on may be written.
    #[inline]
    pub unsafe fn write(self, at: *mut u8) -> *mut u8 {
        // SAFETY: the caller's promise covers the first byte and, where wide, the length behind it.
        unsafe {
            if self.is_narrow() {
                at.write(self.len as u8);
                return at.add(1);
            }
            let width = self.width();
            at.write(WIDE | width << 1 | u8::from(self.flag));
            let bytes = 1 << width;
            at.add(1).copy_from_nonoverlapping((self.len as u64).to_le_bytes().as_ptr(), bytes);
            at.add(1 + bytes)
        }
    }

    /// Reads the prefix at `at` and returns it with the address behind it.
    ///
    /// # Safety
    /// `at` points to what `write` wrote.
    #[inline]
    pub unsafe fn read(at: *const u8) -> (Prefix, *const u8) {
        // SAFETY: the caller's promise.
        let first = unsafe { at.read() };
        if first < WIDE {
            // SAFETY: a narrow prefix is one byte of a longer or equally long block.
            return (Prefix { len: usize::from(first), flag: false }, unsafe { at.add(1) });
        }
        // SAFETY: the caller's promise.
        unsafe { Self::read_wide(first, at) }
    }

    /// # Safety
    /// As for `read`; `first` is the byte at `at` and announces a length.
    #[cold]
    unsafe fn read_wide(first: u8, at: *const u8) -> (Prefix, *const u8) {
        let bytes = 1 << (first >> 1 & 3);
        let mut len = [0; 8];
        // SAFETY: `write` put `bytes` bytes of length behind the first byte.
        let rest = unsafe {
            len.as_mut_ptr().copy_from_nonoverlapping(at.add(1), bytes);
            at.add(1 + bytes)
        };
        (Prefix { len: u64::from_le_bytes(len) as usize, flag: first & 1 != 0 }, rest)
    }
}

/// Copies `bytes` to `at` and returns the address behind them.
///
/// # Safety
/// `bytes.len()` bytes from `at` on may be written and do not overlap `bytes`.
#[inline]
pub(super) unsafe fn put(at: *mut u8, bytes: &[u8]) -> *mut u8 {
    // SAFETY: the caller's promise.
    unsafe {
        at.copy_from_nonoverlapping(bytes.as_ptr(), bytes.len());
        at.add(bytes.len())
    }
}

/// Room for at least `size` bytes, uninitialised. Freed by `free` with any size of the same class.
pub(super) fn allocate(size: usize) -> NonNull<u8> {
    let layout = layout(size);
    // SAFETY: a size class is at least eight bytes.
    NonNull::new(unsafe { alloc(layout) }).unwrap_or_else(|| handle_alloc_error(layout))
}

/// # Safety
/// `block` came from `allocate` with a size of the same class and is not used again.
pub(super) unsafe fn free(block: NonNull<u8>, size: usize) {
    // SAFETY: the caller's promise; equal classes have equal layouts.
    unsafe { dealloc(block.as_ptr(), layout(size)) }
}

fn layout(size: usize) -> Layout {
    Layout::from_size_align(size_class(size), ALIGN).expect("a block holds less than isize::MAX bytes")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_come_back() {
        for len in [0, 1, 247, 248, 255, 256, 65_535, 65_536, 0xffff_ffff, 0x1_0000_0000] {
            for flag in [false, true] {
                let prefix = Prefix { len, flag };
                let mut buffer = [0xaa; 12];
                let end = unsafe { prefix.write(buffer.as_mut_ptr()) };
                assert_eq!(end.addr() - buffer.as_ptr().addr(), prefix.size());
                assert_eq!(buffer[prefix.size()], 0xaa);
                let (read, rest) = unsafe { Prefix::read(buffer.as_ptr()) };
                assert_eq!((read, rest.addr()), (prefix, end.addr()));
            }
        }
        assert_eq!([Prefix::of(247).size(), Prefix::of(248).size(), Prefix::of(300).size()], [1, 2, 3]);
    }
}
