//! A string value in a block of its own: what APPEND, SETRANGE and SETBIT grow, and what is too long for the key's record.
//!
//! ```text
//! 0        8          16
//! | length | capacity | bytes … spare |
//! ```

use super::memory::size_class;
use std::alloc::{Layout, alloc, dealloc, handle_alloc_error, realloc};
use std::ptr::NonNull;

const HEADER: usize = 16;

#[repr(transparent)]
pub struct StringBlock(NonNull<u8>);

// SAFETY: the block is owned by this one handle.
unsafe impl Send for StringBlock {}
// SAFETY: shared access only reads.
unsafe impl Sync for StringBlock {}

impl StringBlock {
    pub fn new(content: &[u8]) -> Self {
        let mut block = Self::with_capacity(content.len());
        block.append(content);
        block
    }

    pub fn with_capacity(bytes: usize) -> Self {
        let size = size_class(HEADER + bytes);
        let layout = layout(size);
        // SAFETY: not an empty layout.
        let block = NonNull::new(unsafe { alloc(layout) }).unwrap_or_else(|| handle_alloc_error(layout));
        let mut block = StringBlock(block);
        block.write_header(0, size - HEADER);
        block
    }

    #[inline]
    pub fn len(&self) -> usize {
        // SAFETY: the header is always written.
        unsafe { self.0.cast::<usize>().read() }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn capacity(&self) -> usize {
        // SAFETY: the header is always written.
        unsafe { self.0.cast::<usize>().add(1).read() }
    }

    /// Bytes of the allocation.
    pub fn memory(&self) -> usize {
        HEADER + self.capacity()
    }

    #[inline]
    pub fn as_bytes(&self) -> &[u8] {
        // SAFETY: `len` bytes behind the header are initialised.
        unsafe { std::slice::from_raw_parts(self.0.as_ptr().add(HEADER), self.len()) }
    }

    pub fn as_mut_bytes(&mut self) -> &mut [u8] {
        // SAFETY: as above; the handle is borrowed mutably.
        unsafe { std::slice::from_raw_parts_mut(self.0.as_ptr().add(HEADER), self.len()) }
    }

    pub fn append(&mut self, tail: &[u8]) {
        let len = self.len();
        self.reserve(len + tail.len());
        // SAFETY: the capacity suffices; `tail` cannot overlap a block that is borrowed mutably.
        unsafe { self.0.as_ptr().add(HEADER + len).copy_from_nonoverlapping(tail.as_ptr(), tail.len()) };
        self.write_header(len + tail.len(), self.capacity());
    }

    /// Lengthens with zero bytes up to `len`; never shortens.
    pub fn extend_zeroed(&mut self, len: usize) {
        let old = self.len();
        if len <= old {
            return;
        }
        self.reserve(len);
        // SAFETY: the capacity suffices.
        unsafe { self.0.as_ptr().add(HEADER + old).write_bytes(0, len - old) };
        self.write_header(len, self.capacity());
    }

    /// Shortens to `len`; the room stays.
    pub fn truncate(&mut self, len: usize) {
        if len < self.len() {
            self.write_header(len, self.capacity());
        }
    }

    /// Grows by doubling below 1 MB and by 1 MB above, as Redis's strings do, so that appending is amortised.
    fn reserve(&mut self, len: usize) {
        let capacity = self.capacity();
        if len <= capacity {
            return;
        }
        let generous = if self.is_empty() { len } else { len + len.min(1 << 20) };
        let size = size_class(HEADER + generous);
        // SAFETY: the block was allocated with the layout of its capacity; the new size is larger.
        let block = unsafe { realloc(self.0.as_ptr(), layout(HEADER + capacity), size) };
        self.0 = NonNull::new(block).unwrap_or_else(|| handle_alloc_error(layout(size)));
        self.write_header(self.len(), size - HEADER);
    }

    #[inline]
    fn write_header(&mut self, len: usize, capacity: usize) {
        // SAFETY: every block has room for its header.
        unsafe {
            self.0.cast::<usize>().write(len);
            self.0.cast::<usize>().add(1).write(capacity);
        }
    }
}

impl Drop for StringBlock {
    fn drop(&mut self) {
        // SAFETY: allocated with this layout.
        unsafe { dealloc(self.0.as_ptr(), layout(self.memory())) };
    }
}

impl Clone for StringBlock {
    fn clone(&self) -> Self {
        Self::new(self.as_bytes())
    }
}

fn layout(size: usize) -> Layout {
    Layout::from_size_align(size, 8).expect("string sizes are limited far below isize::MAX")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grows_and_pads() {
        let mut block = StringBlock::new(b"hello");
        block.append(b" world");
        block.extend_zeroed(13);
        block.extend_zeroed(4);
        block.as_mut_bytes()[0] = b'H';
        assert_eq!(block.clone().as_bytes(), b"Hello world\0\0");
        for _ in 0..100 {
            block.append(&[7; 33]);
        }
        assert_eq!(block.len(), 13 + 3300);
        assert_eq!(block.memory(), size_class(block.memory()));
    }
}
