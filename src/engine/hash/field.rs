//! A field of the table form: one block that holds field, value and, where set, the expiry.
//!
//! ```text
//! | prefix of field, flag = has expiry | expiry i64 LE, if flagged | field | prefix of value | value |
//! ```
//!
//! 15 bytes each make a block of 32. A new value of nearly the same length is written in place.

use std::ptr::NonNull;

use crate::engine::block::{self, Prefix};
use crate::engine::memory::size_class;
use crate::engine::table::Entry;

const EXPIRY: usize = size_of::<i64>();

#[repr(transparent)]
pub struct Field(NonNull<u8>);

// SAFETY: owns plain bytes.
unsafe impl Send for Field {}
// SAFETY: shared access only reads plain bytes.
unsafe impl Sync for Field {}

// SAFETY: repr(transparent) over NonNull<u8>.
unsafe impl Entry for Field {
    #[inline]
    fn key(&self) -> &[u8] {
        let (_, field) = self.head();
        field
    }
}

impl Field {
    pub fn new(field: &[u8], value: &[u8], expires_at: Option<i64>) -> Self {
        let block = block::allocate(Self::size_for(field.len(), value.len(), expires_at.is_some()));
        let head = Prefix { len: field.len(), flag: expires_at.is_some() };
        // SAFETY: `size_for` counted every part that is written; the block is new, so it overlaps nothing.
        unsafe {
            let mut at = head.write(block.as_ptr());
            if let Some(expiry) = expires_at {
                at = block::put(at, &expiry.to_le_bytes());
            }
            at = block::put(at, field);
            block::put(Prefix::of(value.len()).write(at), value);
        }
        Field(block)
    }

    /// The field that `address()` named.
    ///
    /// # Safety
    /// That field lives and has not moved. Two owners exist now: one of them must not be dropped.
    pub unsafe fn at(address: NonNull<u8>) -> Self {
        Field(address)
    }

    /// The expiry and the field's bytes.
    #[inline]
    fn head(&self) -> (Option<i64>, &[u8]) {
        // SAFETY: `new` wrote these parts in this order; they live as long as `self` is borrowed.
        unsafe {
            let (prefix, mut at) = Prefix::read(self.0.as_ptr());
            let mut expires_at = None;
            if prefix.flag {
                expires_at = Some(i64::from_le(at.cast::<i64>().read_unaligned()));
                at = at.add(EXPIRY);
            }
            (expires_at, std::slice::from_raw_parts(at, prefix.len))
        }
    }

    #[inline]
    pub fn value(&self) -> &[u8] {
        let (_, field) = self.head();
        // SAFETY: as in `head`: the value's prefix stands right behind the field, within the same block. The address is made from
        // the block's own pointer, since the slice's may not leave the slice.
        unsafe {
            let offset = field.as_ptr().addr() + field.len() - self.0.addr().get();
            let (prefix, at) = Prefix::read(self.0.as_ptr().add(offset));
            std::slice::from_raw_parts(at, prefix.len)
        }
    }

    #[inline]
    pub fn expires_at(&self) -> Option<i64> {
        self.head().0
    }

    /// The address of the block: what the expiry index knows a field by. It stays until value or expiry are set.
    pub fn address(&self) -> NonNull<u8> {
        self.0
    }

    /// Bytes of the allocator.
    pub fn memory(&self) -> usize {
        size_class(self.size())
    }

    pub fn set_value(&mut self, value: &[u8]) {
        let (expires_at, field) = self.head();
        let size = Self::size_for(field.len(), value.len(), expires_at.is_some());
        if size_class(size) != self.memory() {
            *self = Field::new(field, value, expires_at);
            return;
        }
        let offset = field.as_ptr().addr() + field.len() - self.0.addr().get();
        // SAFETY: the block has the class of `size`, which counts prefix and value behind the field; `value` is not in the block,
        // which is borrowed exclusively.
        unsafe { block::put(Prefix::of(value.len()).write(self.0.as_ptr().add(offset)), value) };
    }

    pub fn set_expiry(&mut self, expires_at: Option<i64>) {
        *self = Field::new(self.key(), self.value(), expires_at);
    }

    fn size(&self) -> usize {
        let (expires_at, field) = self.head();
        Self::size_for(field.len(), self.value().len(), expires_at.is_some())
    }

    fn size_for(field: usize, value: usize, expires: bool) -> usize {
        let head = Prefix { len: field, flag: expires }.size() + if expires { EXPIRY } else { 0 };
        head + field + Prefix::of(value).size() + value
    }
}

impl Drop for Field {
    fn drop(&mut self) {
        // SAFETY: the block came from `allocate` with a size of this class and is freed once.
        unsafe { block::free(self.0, self.size()) };
    }
}
