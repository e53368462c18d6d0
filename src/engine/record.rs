//! The record of a key: one allocation that holds key, expiry, access data and a small value or the word that owns a big one.
//!
//! ```text
//! 0       1       2       5        7        8
//! | form  | flags | access| key len| val len| [expiry i64] [word u64] [long key len u64] key … [inline value …]
//!   form     low 4 bits: Kind; high 4 bits: how the value is held (inline bytes, integer, block, collection)
//!   flags    bit 0: an expiry field is present; bit 1: the key length has a field of its own; bit 2: a hash, fields of which
//!            may expire
//!   access   24 bits: LRU clock in seconds, or LFU minutes (16) and counter (8)
//!   val len  of an inline string; 0 otherwise
//! ```
//!
//! A 16-byte key with a 64-byte value takes 8 + 16 + 64 = 88 bytes, jemalloc's class of 96; with an expiry it still fits.
//! The sizes of allocations are always rounded to the allocator's class, so a value may be overwritten in place whenever
//! the class stays the same.

use super::hash::Hash;
use super::list::List;
use super::memory::size_class;
use super::set::Set;
use super::stream::Stream;
use super::string::StringBlock;
use super::table::Entry;
use super::value::{Kind, StringRef, Value, ValueMut, ValueRef};
use super::zset::ZSet;
use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::ptr::NonNull;

const HEADER: usize = 8;
const HAS_EXPIRY: u8 = 1;
const LONG_KEY: u8 = 2;
const FIELDS_EXPIRE: u8 = 4;
/// Strings up to this length stay in the record.
pub const INLINE_MAX: usize = 255;
/// The expiry field of a key without one.
const NO_EXPIRY: i64 = -1;

/// How the value is held.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Form {
    Inline = 0,
    Integer = 1,
    Block = 2,
    Collection = 3,
}

#[repr(transparent)]
pub struct Record(NonNull<u8>);

// SAFETY: the record owns its allocation and its value.
unsafe impl Send for Record {}
// SAFETY: shared access only reads, but for the access bits, which only the holder of the shard's lock touches.
unsafe impl Sync for Record {}

// SAFETY: repr(transparent) over NonNull<u8>.
unsafe impl Entry for Record {
    #[inline]
    fn key(&self) -> &[u8] {
        let shape = self.shape();
        // SAFETY: the record holds `key_len` initialised bytes at that offset.
        unsafe { std::slice::from_raw_parts(self.at(shape.key_at()), self.key_len()) }
    }
}

/// Where the fields of a record stand.
#[derive(Clone, Copy)]
struct Shape {
    expiry: bool,
    word: bool,
    long_key: bool,
}

impl Shape {
    #[inline]
    fn word_at(self) -> usize {
        HEADER + 8 * usize::from(self.expiry)
    }

    #[inline]
    fn key_len_at(self) -> usize {
        self.word_at() + 8 * usize::from(self.word)
    }

    #[inline]
    fn key_at(self) -> usize {
        self.key_len_at() + 8 * usize::from(self.long_key)
    }
}

impl Record {
    /// A string: an integer in place where the text is canonical, else inline, else in a block.
    #[inline]
    pub fn string(key: &[u8], value: &[u8], expiry: Option<i64>) -> Self {
        if let Some(integer) = parse_integer(value) {
            return Self::integer(key, integer, expiry);
        }
        if value.len() > INLINE_MAX {
            return Self::with_word(key, Kind::String, Form::Block, word_of(StringBlock::new(value)), expiry);
        }
        let record = Self::allocate(key, Kind::String, Form::Inline, expiry, value.len());
        // SAFETY: `allocate` left room for the value behind the key.
        unsafe {
            let target = record.at(record.shape().key_at() + key.len());
            target.copy_from_nonoverlapping(value.as_ptr(), value.len());
        }
        record
    }

    pub fn integer(key: &[u8], value: i64, expiry: Option<i64>) -> Self {
        Self::with_word(key, Kind::String, Form::Integer, word_of_integer(value), expiry)
    }

    pub fn with_value(key: &[u8], value: Value, expiry: Option<i64>) -> Self {
        match value {
            Value::Int(integer) => Self::integer(key, integer, expiry),
            Value::Bytes(bytes) => Self::string(key, &bytes, expiry),
            Value::Block(block) => Self::with_word(key, Kind::String, Form::Block, word_of(block), expiry),
            Value::List(list) => Self::with_word(key, Kind::List, Form::Collection, word_of(list), expiry),
            Value::Set(set) => Self::with_word(key, Kind::Set, Form::Collection, word_of(set), expiry),
            Value::ZSet(zset) => Self::with_word(key, Kind::ZSet, Form::Collection, word_of(zset), expiry),
            Value::Stream(stream) => Self::with_word(key, Kind::Stream, Form::Collection, word_of(stream), expiry),
            Value::Hash(hash) => {
                let fields_expire = hash.has_expiries();
                let mut record = Self::with_word(key, Kind::Hash, Form::Collection, word_of(hash), expiry);
                record.set_flag(FIELDS_EXPIRE, fields_expire);
                record
            }
        }
    }

    fn with_word(key: &[u8], kind: Kind, form: Form, word: *mut u8, expiry: Option<i64>) -> Self {
        let mut record = Self::allocate(key, kind, form, expiry, 0);
        record.set_word(word);
        record
    }

    /// A record with everything written but the value.
    #[inline]
    fn allocate(key: &[u8], kind: Kind, form: Form, expiry: Option<i64>, inline_len: usize) -> Self {
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

    /// Overwrites a string in place if the new one needs the same allocation; the expiry field stays as it is.
    #[inline]
    pub fn overwrite_string(&mut self, value: &[u8]) -> bool {
        if self.kind() != Kind::String {
            return false;
        }
        match self.form() {
            Form::Inline => {
                if value.len() > INLINE_MAX || parse_integer(value).is_some() {
                    return false;
                }
                let start = self.shape().key_at() + self.key_len();
                let old = start + self.inline_len();
                if size_class(old) != size_class(start + value.len()) {
                    return false;
                }
                // SAFETY: both lengths fit the same allocation.
                unsafe {
                    self.at(start).copy_from_nonoverlapping(value.as_ptr(), value.len());
                    self.at(7).write(value.len() as u8);
                }
                true
            }
            Form::Integer => match parse_integer(value) {
                Some(integer) => {
                    self.set_word(word_of_integer(integer));
                    true
                }
                None => false,
            },
            Form::Block | Form::Collection => false,
        }
    }

    #[inline]
    pub fn kind(&self) -> Kind {
        match self.header() & 0x0f {
            0 => Kind::String,
            1 => Kind::List,
            2 => Kind::Set,
            3 => Kind::ZSet,
            4 => Kind::Hash,
            5 => Kind::Stream,
            other => unreachable!("kind {other} is never written"),
        }
    }

    /// The value if it is a string.
    #[inline]
    pub fn string_ref(&self) -> Option<StringRef<'_>> {
        match self.form() {
            Form::Integer => Some(StringRef::Int(self.word().addr() as i64)),
            Form::Inline => {
                let start = self.shape().key_at() + self.key_len();
                // SAFETY: the inline value stands behind the key.
                Some(StringRef::Bytes(unsafe { std::slice::from_raw_parts(self.at(start), self.inline_len()) }))
            }
            // SAFETY: form `Block` means that the word owns a `StringBlock`.
            Form::Block => Some(StringRef::Bytes(unsafe { self.word_as::<StringBlock>() }.as_bytes())),
            Form::Collection => None,
        }
    }

    #[inline]
    pub fn value(&self) -> ValueRef<'_> {
        if let Some(string) = self.string_ref() {
            return ValueRef::String(string);
        }
        // SAFETY: form `Collection`: the word owns the handle that the kind names.
        unsafe {
            match self.kind() {
                Kind::String => unreachable!("a string is no collection"),
                Kind::List => ValueRef::List(self.word_as()),
                Kind::Set => ValueRef::Set(self.word_as()),
                Kind::ZSet => ValueRef::ZSet(self.word_as()),
                Kind::Hash => ValueRef::Hash(self.word_as()),
                Kind::Stream => ValueRef::Stream(self.word_as()),
            }
        }
    }

    #[inline]
    pub fn value_mut(&mut self) -> ValueMut<'_> {
        if self.form() != Form::Collection {
            return match self.string_ref() {
                Some(string) => ValueMut::String(string),
                None => unreachable!("what is no collection is a string"),
            };
        }
        // SAFETY: as in `value`; the record is borrowed mutably.
        unsafe {
            match self.kind() {
                Kind::String => unreachable!("a string is no collection"),
                Kind::List => ValueMut::List(self.word_as_mut()),
                Kind::Set => ValueMut::Set(self.word_as_mut()),
                Kind::ZSet => ValueMut::ZSet(self.word_as_mut()),
                Kind::Hash => ValueMut::Hash(self.word_as_mut()),
                Kind::Stream => ValueMut::Stream(self.word_as_mut()),
            }
        }
    }

    /// Sets an integer in place; false if the value is held in another form.
    #[inline]
    pub fn overwrite_integer(&mut self, value: i64) -> bool {
        if self.kind() != Kind::String || self.form() != Form::Integer {
            return false;
        }
        self.set_word(word_of_integer(value));
        true
    }

    /// The string as a block that can grow; an inline string or integer is moved into one (and stays `raw` from then on).
    pub fn block_mut(&mut self) -> Option<&mut StringBlock> {
        let block = match self.string_ref()? {
            StringRef::Int(value) => Some(StringBlock::new(&crate::base::number::IntText::new(value))),
            StringRef::Bytes(bytes) => (self.form() != Form::Block).then(|| StringBlock::new(bytes)),
        };
        if let Some(block) = block {
            let record = Self::with_word(self.key(), Kind::String, Form::Block, word_of(block), self.expiry_field());
            record.set_access(self.access());
            *self = record;
        }
        // SAFETY: form `Block` now holds, whichever way.
        Some(unsafe { &mut *self.at(self.shape().word_at()).cast::<StringBlock>() })
    }

    /// Takes the value out; the record is gone.
    pub fn into_value(self) -> Value {
        // SAFETY: ownership moves out of the word; only the record's own memory is freed below.
        let value = unsafe {
            match (self.form(), self.kind()) {
                (Form::Integer | Form::Inline, _) => self.copy_value(),
                (Form::Block, _) => Value::Block(self.word_read()),
                (Form::Collection, Kind::List) => Value::List(self.word_read()),
                (Form::Collection, Kind::Set) => Value::Set(self.word_read()),
                (Form::Collection, Kind::ZSet) => Value::ZSet(self.word_read()),
                (Form::Collection, Kind::Hash) => Value::Hash(self.word_read()),
                (Form::Collection, Kind::Stream) => Value::Stream(self.word_read()),
                (Form::Collection, Kind::String) => unreachable!("a string is no collection"),
            }
        };
        self.free_block();
        std::mem::forget(self);
        value
    }

    /// A second value with the same content (COPY).
    pub fn copy_value(&self) -> Value {
        match self.value() {
            ValueRef::String(StringRef::Int(integer)) => Value::Int(integer),
            ValueRef::String(StringRef::Bytes(bytes)) if self.form() == Form::Inline => Value::Bytes(bytes.to_vec()),
            ValueRef::String(StringRef::Bytes(bytes)) => Value::Block(StringBlock::new(bytes)),
            ValueRef::List(list) => Value::List(list.clone()),
            ValueRef::Set(set) => Value::Set(set.clone()),
            ValueRef::ZSet(zset) => Value::ZSet(zset.clone()),
            ValueRef::Hash(hash) => Value::Hash(hash.clone()),
            ValueRef::Stream(stream) => Value::Stream(stream.clone()),
        }
    }

    /// Milliseconds since the epoch at which the key expires.
    #[inline]
    pub fn expiry(&self) -> Option<i64> {
        self.expiry_field().filter(|at| *at != NO_EXPIRY)
    }

    #[inline]
    fn expiry_field(&self) -> Option<i64> {
        // SAFETY: the field is there when the flag says so.
        (self.flags() & HAS_EXPIRY != 0).then(|| unsafe { self.at(HEADER).cast::<i64>().read() })
    }

    /// Sets or clears the expiry. A first one makes the record grow by 8 bytes; clearing keeps the field for the next.
    pub(in crate::engine) fn set_expiry(&mut self, expiry: Option<i64>) {
        if self.flags() & HAS_EXPIRY != 0 {
            // SAFETY: the field is there.
            unsafe { self.at(HEADER).cast::<i64>().write(expiry.unwrap_or(NO_EXPIRY)) };
            return;
        }
        if expiry.is_none() {
            return;
        }
        let shape = self.shape();
        let mut record = Self::allocate(self.key(), self.kind(), self.form(), expiry, self.inline_len());
        record.set_access(self.access());
        record.set_flag(FIELDS_EXPIRE, self.fields_expire());
        if shape.word {
            record.set_word(self.word());
        } else {
            let value_at = record.shape().key_at() + self.key_len();
            // SAFETY: both records have an inline value of this length behind their keys.
            unsafe { record.at(value_at).copy_from_nonoverlapping(self.at(value_at - 8), self.inline_len()) };
        }
        // The value's owner has moved: only this record's own memory goes.
        self.free_block();
        std::mem::forget(std::mem::replace(self, record));
    }

    /// Whether fields of this hash may expire. It is raised with the first expiry; when the last has gone, whoever notices
    /// lowers it (see `Db::review_field_expiry`), so a raised flag is a hint and a lowered one is certain.
    #[inline]
    pub fn fields_expire(&self) -> bool {
        self.flags() & FIELDS_EXPIRE != 0
    }

    /// When the next field expires; may lie in the past.
    pub fn earliest_field_expiry(&self) -> Option<i64> {
        match self.value() {
            ValueRef::Hash(hash) if self.fields_expire() => hash.earliest_expiry(),
            ValueRef::Hash(_)
            | ValueRef::String(_)
            | ValueRef::List(_)
            | ValueRef::Set(_)
            | ValueRef::ZSet(_)
            | ValueRef::Stream(_) => None,
        }
    }

    /// Raises or lowers the flag by what the hash holds now; whether it is raised.
    pub(in crate::engine) fn review_field_expiry(&mut self) -> bool {
        let fields_expire = match self.value() {
            ValueRef::Hash(hash) => hash.has_expiries(),
            ValueRef::String(_) | ValueRef::List(_) | ValueRef::Set(_) | ValueRef::ZSet(_) | ValueRef::Stream(_) => {
                false
            }
        };
        self.set_flag(FIELDS_EXPIRE, fields_expire);
        fields_expire
    }

    fn set_flag(&mut self, flag: u8, raised: bool) {
        let bit = u64::from(flag) << 8;
        let header = if raised { self.header() | bit } else { self.header() & !bit };
        // SAFETY: the header is always there, and the record is borrowed mutably.
        unsafe { self.0.cast::<u64>().write(header) };
    }

    /// 24 bits of LRU or LFU data.
    #[inline]
    pub fn access(&self) -> u32 {
        (self.header() >> 16) as u32 & 0x00ff_ffff
    }

    #[inline]
    pub fn set_access(&self, access: u32) {
        let header = self.header() & !(0x00ff_ffff << 16) | u64::from(access & 0x00ff_ffff) << 16;
        // SAFETY: the header is always there; only the holder of the shard's lock has a reference to the record.
        unsafe { self.0.cast::<u64>().write(header) };
    }

    /// OBJECT ENCODING's name.
    pub fn encoding(&self) -> &'static str {
        match self.value() {
            ValueRef::String(StringRef::Int(_)) => "int",
            ValueRef::String(StringRef::Bytes(bytes)) if self.form() == Form::Inline && bytes.len() <= 44 => "embstr",
            ValueRef::String(StringRef::Bytes(_)) => "raw",
            ValueRef::List(list) => list.encoding(),
            ValueRef::Set(set) => set.encoding(),
            ValueRef::ZSet(zset) => zset.encoding(),
            ValueRef::Hash(hash) => hash.encoding(),
            ValueRef::Stream(stream) => stream.encoding(),
        }
    }

    /// Bytes of the record itself, without what its word owns.
    pub fn own_memory(&self) -> usize {
        self.layout().size()
    }

    /// Bytes of record and value together; of a big collection `samples` members are looked at (0 = all).
    pub fn memory(&self, samples: usize) -> usize {
        let value = if self.form() == Form::Block {
            // SAFETY: form `Block`.
            unsafe { self.word_as::<StringBlock>() }.memory()
        } else {
            self.value().memory(samples)
        };
        self.own_memory() + value
    }

    /// See `ValueRef::free_effort`.
    pub fn free_effort(&self) -> usize {
        self.value().free_effort()
    }

    /// An address that stays while the value is changed in place (DEBUG OBJECT).
    pub fn address(&self) -> usize {
        self.0.as_ptr() as usize
    }

    #[inline]
    fn header(&self) -> u64 {
        // SAFETY: the header is always there.
        unsafe { self.0.cast::<u64>().read() }
    }

    #[inline]
    fn flags(&self) -> u8 {
        (self.header() >> 8) as u8
    }

    #[inline]
    fn form(&self) -> Form {
        match (self.header() >> 4) & 0x0f {
            0 => Form::Inline,
            1 => Form::Integer,
            2 => Form::Block,
            3 => Form::Collection,
            other => unreachable!("form {other} is never written"),
        }
    }

    #[inline]
    fn shape(&self) -> Shape {
        let header = self.header();
        let flags = (header >> 8) as u8;
        Shape { expiry: flags & HAS_EXPIRY != 0, word: header & 0xf0 != 0, long_key: flags & LONG_KEY != 0 }
    }

    #[inline]
    fn key_len(&self) -> usize {
        let header = self.header();
        if header & u64::from(LONG_KEY) << 8 != 0 {
            // SAFETY: the field is there when the flag says so.
            return unsafe { self.at(self.shape().key_len_at()).cast::<usize>().read() };
        }
        usize::from((header >> 40) as u16)
    }

    #[inline]
    fn inline_len(&self) -> usize {
        (self.header() >> 56) as usize
    }

    #[inline]
    fn word(&self) -> *mut u8 {
        // SAFETY: called for forms with a word only. An integer is read as a pointer that is never followed.
        unsafe { self.at(self.shape().word_at()).cast::<*mut u8>().read() }
    }

    fn set_word(&mut self, word: *mut u8) {
        // SAFETY: called for forms with a word only.
        unsafe { self.at(self.shape().word_at()).cast::<*mut u8>().write(word) };
    }

    /// # Safety
    /// The word owns a `T`, which is transparent over one pointer.
    #[inline]
    unsafe fn word_as<T>(&self) -> &T {
        // SAFETY: the caller's promise.
        unsafe { &*self.at(self.shape().word_at()).cast::<T>() }
    }

    /// # Safety
    /// As for `word_as`.
    #[inline]
    unsafe fn word_as_mut<T>(&mut self) -> &mut T {
        // SAFETY: the caller's promise.
        unsafe { &mut *self.at(self.shape().word_at()).cast::<T>() }
    }

    /// # Safety
    /// As for `word_as`; the word must not be used again.
    unsafe fn word_read<T>(&self) -> T {
        // SAFETY: the caller's promise.
        unsafe { self.at(self.shape().word_at()).cast::<T>().read() }
    }

    #[inline]
    fn at(&self, offset: usize) -> *mut u8 {
        // SAFETY: every offset used lies within the allocation of this record's shape.
        unsafe { self.0.as_ptr().add(offset) }
    }

    fn layout(&self) -> Layout {
        layout(self.shape().key_at() + self.key_len() + self.inline_len())
    }

    fn free_block(&self) {
        // SAFETY: allocated with this layout (overwriting in place keeps the size class); callers forget the record.
        unsafe { dealloc(self.0.as_ptr(), self.layout()) };
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        match self.form() {
            Form::Inline | Form::Integer => {}
            // SAFETY: the word owns what form and kind say; this is the only drop.
            Form::Block => drop(unsafe { self.word_read::<StringBlock>() }),
            Form::Collection => unsafe {
                match self.kind() {
                    Kind::String => unreachable!("a string is no collection"),
                    Kind::List => drop(self.word_read::<List>()),
                    Kind::Set => drop(self.word_read::<Set>()),
                    Kind::ZSet => drop(self.word_read::<ZSet>()),
                    Kind::Hash => drop(self.word_read::<Hash>()),
                    Kind::Stream => drop(self.word_read::<Stream>()),
                }
            },
        }
        self.free_block();
    }
}

/// Redis keeps a string as an integer if its text is a canonical i64 of at most 20 characters.
#[inline]
fn parse_integer(text: &[u8]) -> Option<i64> {
    if text.len() > 20 || text.first().is_none_or(|first| *first > b'9') {
        return None;
    }
    crate::base::number::parse_i64(text)
}

/// Turns a one-word handle into that word; the record owns it from now on.
fn word_of<T>(handle: T) -> *mut u8 {
    const { assert!(size_of::<T>() == size_of::<*mut u8>()) };
    let handle = std::mem::ManuallyDrop::new(handle);
    // SAFETY: all handles are transparent over one non-null pointer.
    unsafe { std::mem::transmute_copy::<T, *mut u8>(&handle) }
}

fn word_of_integer(value: i64) -> *mut u8 {
    std::ptr::without_provenance_mut(value as usize)
}

fn layout(bytes: usize) -> Layout {
    Layout::from_size_align(size_class(bytes.max(16)), 8).expect("keys are limited far below isize::MAX")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(record: &Record) -> Vec<u8> {
        match record.string_ref() {
            Some(StringRef::Int(value)) => value.to_string().into_bytes(),
            Some(StringRef::Bytes(bytes)) => bytes.to_vec(),
            None => panic!("a string was expected"),
        }
    }

    #[test]
    fn sizes_that_the_memory_aims_rest_on() {
        let key = [b'k'; 16];
        assert_eq!(Record::string(&key, &[b'v'; 64], None).own_memory(), 96);
        assert_eq!(Record::string(&key, &[b'v'; 64], Some(1)).own_memory(), 96);
        assert_eq!(Record::string(&key, b"123456", None).own_memory(), 32);
    }

    #[test]
    fn every_form_keeps_key_value_and_expiry() {
        let long_key = vec![b'K'; 70_000];
        for key in [b"k".as_slice(), b"", &long_key] {
            for value in [
                b"".as_slice(),
                b"abc",
                b"12",
                b"-9223372036854775808",
                b"012",
                &[b'x'; 255],
                &[b'y'; 256],
                &[b'z'; 5000],
            ] {
                let mut record = Record::string(key, value, None);
                assert_eq!((record.key(), text(&record), record.expiry()), (key, value.to_vec(), None));
                record.set_access(0x00ab_cdef);
                record.set_expiry(Some(77));
                assert_eq!((record.key(), text(&record), record.expiry()), (key, value.to_vec(), Some(77)));
                record.set_expiry(None);
                assert_eq!(record.expiry(), None);
                assert_eq!(record.access(), 0x00ab_cdef);
                record.block_mut().expect("a string").append(b"!");
                assert_eq!((record.encoding(), text(&record).last()), ("raw", Some(&b'!')));
                assert_eq!(record.key(), key);
                assert!(record.memory(0) > key.len() + value.len().min(20));
                let copy = Record::with_value(b"copy", record.copy_value(), None);
                let moved = Record::with_value(b"moved", record.into_value(), Some(5));
                assert_eq!(text(&copy), text(&moved));
            }
        }
    }

    #[test]
    fn overwrites_in_place_only_within_the_size_class() {
        let mut record = Record::string(b"0123456789abcdef", &[b'v'; 64], Some(9));
        assert!(record.overwrite_string(&[b'w'; 60]));
        assert_eq!((text(&record), record.expiry()), (vec![b'w'; 60], Some(9)));
        assert!(!record.overwrite_string(&[b'w'; 100]));
        assert!(!record.overwrite_string(b"12"));
        let mut number = Record::string(b"n", b"1", None);
        assert!(number.overwrite_string(b"-5") && number.overwrite_integer(7));
        assert_eq!(text(&number), b"7");
        assert!(!number.overwrite_string(b"x"));
    }
}
