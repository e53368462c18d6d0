//! Sets.
//!
//! ```text
//! 2  SET           count, members                what is written but for integers
//! 11 SET_INTSET    one intset
//! 20 SET_LISTPACK  one listpack (version 11): read only, so that 7.0 can read what we write
//! ```

use crate::engine::limits::Limits;
use crate::engine::set::{Packed, Set};
use crate::rdb::encode;
use crate::rdb::fault::Fault;
use crate::rdb::format::kind;
use crate::rdb::source::{Result, Source};
use crate::rdb::types::SLICE;

pub fn kind_of(set: &Set) -> u8 {
    match set.as_packed() {
        Packed::Intset(_) => kind::SET_INTSET,
        Packed::Listpack(_) | Packed::Table => kind::SET,
    }
}

pub fn put(out: &mut Vec<u8>, set: &Set, compress: bool) {
    if let Packed::Intset(blob) = set.as_packed() {
        encode::string(out, blob, compress);
        return;
    }
    encode::length(out, set.len() as u64);
    for member in set.iter() {
        encode::element(out, member, compress);
    }
}

/// Some members of a table; the place is its cursor. While nothing changes it shows each member once.
pub fn slice(out: &mut Vec<u8>, set: &Set, from: u64, compress: bool) -> Option<u64> {
    let (mut cursor, mut count) = (from, 0);
    while count < SLICE {
        cursor = set.scan(cursor, |member| {
            encode::element(out, member, compress);
            count += 1;
        });
        if cursor == 0 {
            return None;
        }
    }
    Some(cursor)
}

pub fn decode(kind: u8, source: &mut Source<'_>, limits: &Limits) -> Result<Set> {
    match kind {
        kind::SET_INTSET => {
            let blob = source.string()?;
            if blob.len() == 8 {
                return Err(Fault::Empty);
            }
            Set::from_intset_blob(&blob, limits).ok_or(Fault::fixed("Intset integrity check failed."))
        }
        kind::SET_LISTPACK => {
            let blob = source.string()?;
            if crate::rdb::types::is_empty_listpack(&blob) {
                return Err(Fault::Empty);
            }
            Set::from_listpack_blob(&blob, limits).ok_or(Fault::fixed("Set listpack integrity check failed."))
        }
        _ => decode_members(source, limits),
    }
}

fn decode_members(source: &mut Source<'_>, limits: &Limits) -> Result<Set> {
    let count = source.count()?;
    if count == 0 {
        return Err(Fault::Empty);
    }
    let first = source.string()?;
    // Room for what the bytes can hold at most: the count alone is not to be trusted.
    let mut set = Set::for_members(&first, count.min(source.rest() / 2 + 1), limits);
    set.add(&first, limits);
    for _ in 1..count {
        if !set.add(&source.string()?, limits) {
            return Err(Fault::fixed("Duplicate set members detected"));
        }
    }
    Ok(set)
}
