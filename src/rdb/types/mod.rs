//! Each data type's forms in RDB. A new type adds a file and an arm in every `match` here and in `value` and `frame`.

pub mod hash;
pub mod list;
pub mod set;
pub mod stream;
pub mod zset;

use super::encode;
use super::format::kind;
use crate::engine::value::ValueRef;

/// The type byte under which a value is written.
pub fn kind_of(value: &ValueRef<'_>) -> u8 {
    match value {
        ValueRef::String(_) => kind::STRING,
        ValueRef::List(_) => kind::LIST_QUICKLIST_2,
        ValueRef::Set(value) => set::kind_of(value),
        ValueRef::ZSet(value) => zset::kind_of(value),
        ValueRef::Hash(value) => hash::kind_of(value),
        ValueRef::Stream(value) => stream::kind_of(value),
    }
}

/// The value behind its type byte (and key).
pub fn put(out: &mut Vec<u8>, value: &ValueRef<'_>, compress: bool) {
    match value {
        ValueRef::String(text) => encode::string_ref(out, *text, compress),
        ValueRef::List(value) => list::put(out, value, compress),
        ValueRef::Set(value) => set::put(out, value, compress),
        ValueRef::ZSet(value) => zset::put(out, value, compress),
        ValueRef::Hash(value) => hash::put(out, value, compress),
        ValueRef::Stream(value) => stream::put(out, value, compress),
    }
}

/// A listpack without entries: a collection that should not have been written.
pub fn is_empty_listpack(blob: &[u8]) -> bool {
    blob == [7, 0, 0, 0, 0, 0, 0xff]
}
