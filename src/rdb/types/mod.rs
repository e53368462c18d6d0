//! Each data type's forms in RDB. A new type adds a file and an arm in every `match` here and in `value` and `frame`.
//!
//! Where the version is pinned below what a value needs (rdb-version), it is written as far as that version goes:
//!
//! ```text
//!   below 12   hashes whose fields expire     without their expiries; fields that have expired are left out, and empty hashes
//!   below 13   streams with producers         without what producers have sent
//!   below 14   streams with released entries  these belong to a consumer without a name, whence anybody may claim them
//! ```

pub mod hash;
pub mod list;
pub mod set;
pub mod stream;
pub mod zset;

use super::encode::{self, Options};
use super::format::kind;
use crate::engine::keyspace::snapshot::Place;
use crate::engine::value::{StringRef, ValueRef};

/// The type byte under which a value is written.
pub fn kind_of(value: &ValueRef<'_>, options: Options) -> u8 {
    match value {
        ValueRef::String(_) => kind::STRING,
        ValueRef::List(_) => kind::LIST_QUICKLIST_2,
        ValueRef::Set(value) => set::kind_of(value),
        ValueRef::ZSet(value) => zset::kind_of(value),
        ValueRef::Hash(value) => hash::kind_of(value, options),
        ValueRef::Stream(value) => stream::kind_of(value, options.version),
    }
}

/// Whether nothing of a value can be written: it is not written at all.
pub fn leaves_nothing(value: &ValueRef<'_>, options: Options) -> bool {
    match value {
        ValueRef::Hash(value) => hash::leaves_nothing(value, options),
        ValueRef::String(_) | ValueRef::List(_) | ValueRef::Set(_) | ValueRef::ZSet(_) | ValueRef::Stream(_) => false,
    }
}

/// The value behind its type byte (and key).
pub fn put(out: &mut Vec<u8>, value: &ValueRef<'_>, options: Options) {
    let compress = options.compress;
    match value {
        ValueRef::String(text) => encode::string_ref(out, *text, compress),
        ValueRef::List(value) => list::put(out, value, compress),
        ValueRef::Set(value) => set::put(out, value, compress),
        ValueRef::ZSet(value) => zset::put(out, value, compress),
        ValueRef::Hash(value) => hash::put(out, value, options),
        ValueRef::Stream(value) => stream::put(out, value, options),
    }
}

/// Bytes from which a string, and elements from which a collection is long: writing it whole would take a millisecond or more.
const LONG_STRING: usize = 1 << 20;
const LONG: usize = 8192;
/// Bytes and elements of a slice.
const SLICE_BYTES: usize = 256 * 1024;
pub const SLICE: usize = 512;

/// Whether a value is worth being written in slices, with the shard's lock released in between: `begin`, then `slice` until
/// it returns nothing, give the same as `put`, but that a long string is not compressed.
pub fn is_long(value: &ValueRef<'_>) -> bool {
    match value {
        ValueRef::String(StringRef::Int(_)) => false,
        ValueRef::String(StringRef::Bytes(text)) => text.len() >= LONG_STRING,
        ValueRef::List(list) => list.len() >= LONG && !list.is_packed(),
        ValueRef::Set(value) => value.len() >= LONG && set::kind_of(value) == kind::SET,
        ValueRef::ZSet(value) => value.len() >= LONG && value.as_pack().is_none(),
        ValueRef::Hash(value) => value.len() >= LONG && hash::is_table(value),
        ValueRef::Stream(value) => stream::is_long(value, LONG),
    }
}

/// What stands before the first element of a long value.
pub fn begin(out: &mut Vec<u8>, value: &ValueRef<'_>, options: Options) {
    match value {
        ValueRef::String(StringRef::Int(number)) => encode::integer(out, *number),
        ValueRef::String(StringRef::Bytes(text)) => encode::length(out, text.len() as u64),
        ValueRef::List(value) => encode::length(out, value.nodes().len() as u64),
        ValueRef::Set(value) => encode::length(out, value.len() as u64),
        ValueRef::ZSet(value) => encode::length(out, value.len() as u64),
        ValueRef::Hash(value) => hash::begin(out, value, options),
        ValueRef::Stream(value) => stream::begin(out, value),
    }
}

/// The elements of a long value from a place on; where the next slice begins, nothing at the end.
pub fn slice(out: &mut Vec<u8>, value: &ValueRef<'_>, from: Place, options: Options) -> Option<Place> {
    let compress = options.compress;
    let at = from.at as u64;
    let next = match value {
        ValueRef::String(StringRef::Int(_)) => None,
        ValueRef::String(StringRef::Bytes(text)) => {
            let rest = text.get(at as usize..)?;
            out.extend_from_slice(&rest[..rest.len().min(SLICE_BYTES)]);
            (rest.len() > SLICE_BYTES).then_some(at + SLICE_BYTES as u64)
        }
        ValueRef::List(value) => list::slice(out, value, at, compress),
        ValueRef::Set(value) => set::slice(out, value, at, compress),
        ValueRef::ZSet(value) => zset::slice(out, value, at, compress),
        ValueRef::Hash(value) => hash::slice(out, value, at, options),
        ValueRef::Stream(value) => return stream::slice(out, value, from, options),
    };
    next.map(Place::at)
}

/// A listpack without entries: a collection that should not have been written.
pub fn is_empty_listpack(blob: &[u8]) -> bool {
    blob == [7, 0, 0, 0, 0, 0, 0xff]
}
