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

mod block;
#[cfg(test)]
mod tests;

use self::block::{FIELDS_EXPIRE, Form, HAS_EXPIRY, HEADER, word_of, word_of_integer};
use super::hash::Hash;
use super::list::List;
use super::memory::size_class;
use super::set::Set;
use super::stream::Stream;
use super::string::StringBlock;
use super::table::Entry;
use super::value::{Kind, StringRef, Value, ValueMut, ValueRef};
use super::zset::ZSet;
use std::ptr::NonNull;

/// Strings up to this length stay in the record.
pub const INLINE_MAX: usize = 255;
/// The expiry field of a key without one.
const NO_EXPIRY: i64 = -1;

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
