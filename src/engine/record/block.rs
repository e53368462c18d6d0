//! The allocation of a record: which field stands where, and what is read and written there.

use super::Record;
use crate::engine::memory::size_class;
use crate::engine::value::Kind;
use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::ptr::NonNull;

pub(super) const HEADER: usize = 8;
pub(super) const HAS_EXPIRY: u8 = 1;
pub(super) const LONG_KEY: u8 = 2;
pub(super) const FIELDS_EXPIRE: u8 = 4;

/// How the value is held.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Form {
    Inline = 0,
    Integer = 1,
    Block = 2,
    Collection = 3,
}

/// Where the fields of a record stand.
#[derive(Clone, Copy)]
pub(super) struct Shape {
    pub expiry: bool,
    pub word: bool,
    pub long_key: bool,
}

impl Shape {
    #[inline]
    pub fn word_at(self) -> usize {
        HEADER + 8 * usize::from(self.expiry)
    }

    #[inline]
    pub fn key_len_at(self) -> usize {
        self.word_at() + 8 * usize::from(self.word)
    }

    #[inline]
    pub fn key_at(self) -> usize {
        self.key_len_at() + 8 * usize::from(self.long_key)
    }
}

/// The record as bytes.
impl Record {
    /// A record with everything written but the value.
    #[inline]
    pub(super) fn allocate(key: &[u8], kind: Kind, form: Form, expiry: Option<i64>, inline_len: usize) -> Self {
        let shape =
            Shape { expiry: expiry.is_some(), word: form != Form::Inline, long_key: key.len() > usize::from(u16::MAX) };
        let layout = layout(shape.key_at() + key.len() + inline_len);
        // SAFETY: not an empty layout.
        let block = NonNull::new(unsafe { alloc(layout) }).unwrap_or_else(|| handle_alloc_error(layout));
        let record = Record(block);
        let flags = if shape.expiry { HAS_EXPIRY } else { 0 } | if shape.long_key { LONG_KEY } else { 0 };
        let short_key_len = if shape.long_key { 0 } else { key.len() as u64 };
        let header = (kind as u64 | (form as u64) << 4)
            | u64::from(flags) << 8
            | short_key_len << 40
            | (inline_len as u64) << 56;
        // SAFETY: all offsets lie inside the layout computed from the same shape.
        unsafe {
            block.cast::<u64>().write(header);
            if let Some(at) = expiry {
                record.at(HEADER).cast::<i64>().write(at);
            }
            if shape.long_key {
                record.at(shape.key_len_at()).cast::<usize>().write(key.len());
            }
            record.at(shape.key_at()).copy_from_nonoverlapping(key.as_ptr(), key.len());
        }
        record
    }

    #[inline]
    pub(super) fn header(&self) -> u64 {
        // SAFETY: the header is always there.
        unsafe { self.0.cast::<u64>().read() }
    }

    #[inline]
    pub(super) fn flags(&self) -> u8 {
        (self.header() >> 8) as u8
    }

    #[inline]
    pub(super) fn form(&self) -> Form {
        match (self.header() >> 4) & 0x0f {
            0 => Form::Inline,
            1 => Form::Integer,
            2 => Form::Block,
            3 => Form::Collection,
            other => unreachable!("form {other} is never written"),
        }
    }

    #[inline]
    pub(super) fn shape(&self) -> Shape {
        let header = self.header();
        let flags = (header >> 8) as u8;
        Shape { expiry: flags & HAS_EXPIRY != 0, word: header & 0xf0 != 0, long_key: flags & LONG_KEY != 0 }
    }

    #[inline]
    pub(super) fn key_len(&self) -> usize {
        let header = self.header();
        if header & u64::from(LONG_KEY) << 8 != 0 {
            // SAFETY: the field is there when the flag says so.
            return unsafe { self.at(self.shape().key_len_at()).cast::<usize>().read() };
        }
        usize::from((header >> 40) as u16)
    }

    #[inline]
    pub(super) fn inline_len(&self) -> usize {
        (self.header() >> 56) as usize
    }

    #[inline]
    pub(super) fn word(&self) -> *mut u8 {
        // SAFETY: called for forms with a word only. An integer is read as a pointer that is never followed.
        unsafe { self.at(self.shape().word_at()).cast::<*mut u8>().read() }
    }

    pub(super) fn set_word(&mut self, word: *mut u8) {
        // SAFETY: called for forms with a word only.
        unsafe { self.at(self.shape().word_at()).cast::<*mut u8>().write(word) };
    }

    /// # Safety
    /// The word owns a `T`, which is transparent over one pointer.
    #[inline]
    pub(super) unsafe fn word_as<T>(&self) -> &T {
        // SAFETY: the caller's promise.
        unsafe { &*self.at(self.shape().word_at()).cast::<T>() }
    }

    /// # Safety
    /// As for `word_as`.
    #[inline]
    pub(super) unsafe fn word_as_mut<T>(&mut self) -> &mut T {
        // SAFETY: the caller's promise.
        unsafe { &mut *self.at(self.shape().word_at()).cast::<T>() }
    }

    /// # Safety
    /// As for `word_as`; the word must not be used again.
    pub(super) unsafe fn word_read<T>(&self) -> T {
        // SAFETY: the caller's promise.
        unsafe { self.at(self.shape().word_at()).cast::<T>().read() }
    }

    #[inline]
    pub(super) fn at(&self, offset: usize) -> *mut u8 {
        // SAFETY: every offset used lies within the allocation of this record's shape.
        unsafe { self.0.as_ptr().add(offset) }
    }

    pub(super) fn layout(&self) -> Layout {
        layout(self.shape().key_at() + self.key_len() + self.inline_len())
    }

    pub(super) fn free_block(&self) {
        // SAFETY: allocated with this layout (overwriting in place keeps the size class); callers forget the record.
        unsafe { dealloc(self.0.as_ptr(), self.layout()) };
    }
}

/// Turns a one-word handle into that word; the record owns it from now on.
pub(super) fn word_of<T>(handle: T) -> *mut u8 {
    const { assert!(size_of::<T>() == size_of::<*mut u8>()) };
    let handle = std::mem::ManuallyDrop::new(handle);
    // SAFETY: all handles are transparent over one non-null pointer.
    unsafe { std::mem::transmute_copy::<T, *mut u8>(&handle) }
}

pub(super) fn word_of_integer(value: i64) -> *mut u8 {
    std::ptr::without_provenance_mut(value as usize)
}

pub(super) fn layout(bytes: usize) -> Layout {
    Layout::from_size_align(size_class(bytes.max(16)), 8).expect("keys are limited far below isize::MAX")
}
