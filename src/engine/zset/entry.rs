//! One member of a big sorted set: a block shared by the tree and the member table.
//!
//! ```text
//! score f64 | length u32 | member       16 bytes of member make 28: the allocator's class of 32
//! ```

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::ptr::NonNull;

use crate::engine::btree::Ranked;
use crate::engine::memory::size_class;
use crate::engine::table::Entry;

const HEADER: usize = 12;

/// Owns the block; held by the member table.
#[repr(transparent)]
pub(super) struct ZEntry(NonNull<u8>);

/// Refers to a block that the member table owns; held by the tree.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(super) struct ZRef(NonNull<u8>);

// SAFETY: the block is owned by the set that holds both; it is plain bytes.
unsafe impl Send for ZEntry {}
// SAFETY: shared access only reads.
unsafe impl Sync for ZEntry {}
// SAFETY: as for `ZEntry`, beside which it lives.
unsafe impl Send for ZRef {}
// SAFETY: shared access only reads.
unsafe impl Sync for ZRef {}

fn layout(len: usize) -> Layout {
    Layout::from_size_align(HEADER + len, 8).expect("a member is shorter than the address space")
}

impl ZEntry {
    pub(super) fn new(member: &[u8], score: f64) -> Self {
        let len = u32::try_from(member.len()).expect("a member is at most 512 MB long");
        let layout = layout(member.len());
        // SAFETY: the layout is not empty; the header and the member fit the new block, which is aligned for an f64.
        unsafe {
            let block = NonNull::new(alloc(layout)).unwrap_or_else(|| handle_alloc_error(layout));
            block.cast::<f64>().write(score);
            block.add(8).cast::<u32>().write(len);
            std::ptr::copy_nonoverlapping(member.as_ptr(), block.add(HEADER).as_ptr(), member.len());
            ZEntry(block)
        }
    }

    /// A reference for the tree.
    ///
    /// # Safety
    /// It is not used after the entry is dropped.
    pub(super) unsafe fn lend(&self) -> ZRef {
        ZRef(self.0)
    }

    pub(super) fn set_score(&mut self, score: f64) {
        // SAFETY: the block begins with an aligned f64; the set that owns the entry is borrowed mutably.
        unsafe { self.0.cast::<f64>().write(score) }
    }

    #[inline]
    pub(super) fn score(&self) -> f64 {
        ZRef(self.0).score()
    }

    #[inline]
    pub(super) fn member(&self) -> &[u8] {
        bytes(&self.0)
    }

    /// Bytes taken from the allocator.
    pub(super) fn memory(&self) -> usize {
        size_class(HEADER + self.member().len())
    }
}

#[inline]
fn bytes(block: &NonNull<u8>) -> &[u8] {
    // SAFETY: block layout; it outlives what borrows it (`lend` promises that for a `ZRef`).
    unsafe {
        let len = block.add(8).cast::<u32>().read() as usize;
        std::slice::from_raw_parts(block.add(HEADER).as_ptr(), len)
    }
}

impl ZRef {
    /// The member for as long as the set is borrowed.
    ///
    /// # Safety
    /// The set that owns the entry is borrowed for `'a`.
    pub(super) unsafe fn member_for<'a>(self) -> &'a [u8] {
        // SAFETY: the caller's promise.
        unsafe { &*std::ptr::from_ref(bytes(&self.0)) }
    }
}

impl Ranked for ZRef {
    #[inline]
    fn score(&self) -> f64 {
        // SAFETY: the block begins with an aligned f64 and lives (`lend`).
        unsafe { self.0.cast::<f64>().read() }
    }

    #[inline]
    fn member(&self) -> &[u8] {
        bytes(&self.0)
    }
}

// SAFETY: transparent over NonNull<u8>.
unsafe impl Entry for ZEntry {
    #[inline]
    fn key(&self) -> &[u8] {
        self.member()
    }
}

impl Drop for ZEntry {
    fn drop(&mut self) {
        let layout = layout(self.member().len());
        // SAFETY: the block was allocated with this layout and is freed once.
        unsafe { dealloc(self.0.as_ptr(), layout) }
    }
}
