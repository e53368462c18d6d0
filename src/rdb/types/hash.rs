//! Hashes.
//!
//! ```text
//! 4  HASH                 count, (field, value)                                what is written when big
//! 9  HASH_ZIPMAP          one zipmap           13 HASH_ZIPLIST   one ziplist
//! 16 HASH_LISTPACK        one listpack                                         what is written when small
//! 24 HASH_METADATA        earliest i64, count, (expiry − earliest + 1 or 0, field, value)   big, with expiries
//! 25 HASH_LISTPACK_EX     earliest i64, one listpack of triples                             small, with expiries
//! 22, 23                  the same before 7.4 was final: no `earliest`, absolute times
//! 22 in Valkey            count, (field, value, expiry i64 or −1)
//! ```

use crate::engine::hash::{Entry, Hash, Packed};
use crate::engine::hash_expiry::MAX_EXPIRY;
use crate::engine::limits::Limits;
use crate::rdb::encode;
use crate::rdb::fault::Fault;
use crate::rdb::format::kind;
use crate::rdb::legacy::{ziplist, zipmap};
use crate::rdb::source::{Result, Source};
use crate::rdb::types::{SLICE, is_empty_listpack};

pub fn kind_of(hash: &Hash) -> u8 {
    match hash.as_packed() {
        Packed::Pairs(_) => kind::HASH_LISTPACK,
        Packed::Triples(_) if hash.has_expiries() => kind::HASH_LISTPACK_EX,
        Packed::Table if hash.has_expiries() => kind::HASH_METADATA,
        Packed::Triples(_) | Packed::Table => kind::HASH,
    }
}

pub fn put(out: &mut Vec<u8>, hash: &Hash, compress: bool) {
    let earliest = hash.earliest_expiry();
    match (hash.as_packed(), earliest) {
        (Packed::Pairs(blob), _) => encode::string(out, blob, compress),
        (Packed::Triples(blob), Some(earliest)) => {
            out.extend_from_slice(&earliest.to_le_bytes());
            encode::string(out, blob, compress);
        }
        (Packed::Table, Some(earliest)) => {
            out.extend_from_slice(&earliest.to_le_bytes());
            put_fields(out, hash, Some(earliest), compress);
        }
        (Packed::Triples(_) | Packed::Table, None) => put_fields(out, hash, None, compress),
    }
}

fn put_fields(out: &mut Vec<u8>, hash: &Hash, earliest: Option<i64>, compress: bool) {
    encode::length(out, hash.len() as u64);
    for entry in hash.iter() {
        put_field(out, &entry, earliest, compress);
    }
}

fn put_field(out: &mut Vec<u8>, entry: &Entry<'_>, earliest: Option<i64>, compress: bool) {
    if let Some(earliest) = earliest {
        encode::length(out, entry.expires_at.map_or(0, |at| (at - earliest + 1) as u64));
    }
    encode::element(out, entry.field, compress);
    encode::element(out, entry.value, compress);
}

pub fn is_table(hash: &Hash) -> bool {
    matches!(hash.as_packed(), Packed::Table)
}

/// What stands before the first field of a table.
pub fn begin(out: &mut Vec<u8>, hash: &Hash) {
    if let Some(earliest) = hash.earliest_expiry() {
        out.extend_from_slice(&earliest.to_le_bytes());
    }
    encode::length(out, hash.len() as u64);
}

/// Some fields of a table; the place is its cursor. While nothing changes it shows each field once.
pub fn slice(out: &mut Vec<u8>, hash: &Hash, from: u64, compress: bool) -> Option<u64> {
    let earliest = hash.earliest_expiry();
    let (mut cursor, mut count) = (from, 0);
    while count < SLICE {
        cursor = hash.scan(cursor, |entry| {
            put_field(out, &entry, earliest, compress);
            count += 1;
        });
        if cursor == 0 {
            return None;
        }
    }
    Some(cursor)
}

pub fn decode(kind: u8, source: &mut Source<'_>, limits: &Limits) -> Result<Hash> {
    match kind {
        kind::HASH_LISTPACK => from_pairs(&source.string()?, limits),
        kind::HASH_ZIPLIST => from_pairs(ziplist::to_listpack(&source.string()?)?.as_bytes(), limits),
        kind::HASH_ZIPMAP => from_pairs(zipmap::to_listpack(&source.string()?)?.as_bytes(), limits),
        _ => decode_fields(source, limits, |source| Ok((None, source.string()?, source.string()?))),
    }
}

fn from_pairs(blob: &[u8], limits: &Limits) -> Result<Hash> {
    if is_empty_listpack(blob) {
        return Err(Fault::Empty);
    }
    let hash = Hash::from_pairs_blob(blob, limits).ok_or(Fault::fixed("Hash listpack integrity check failed."))?;
    let too_long = |len: usize| len > limits.hash_max_listpack_value;
    if !hash.iter().any(|entry| too_long(entry.field.len()) || too_long(entry.value.len())) {
        return Ok(hash);
    }
    // An element over the limit turns the hash into a table, as in Redis.
    let mut table = Hash::new();
    table.expect(hash.len(), std::iter::once(limits.hash_max_listpack_value + 1), limits);
    for entry in hash.iter() {
        entry.field.with_bytes(|field| entry.value.with_bytes(|value| table.set(field, value, limits)));
    }
    Ok(table)
}

type Field<'a> = (Option<i64>, std::borrow::Cow<'a, [u8]>, std::borrow::Cow<'a, [u8]>);

fn decode_fields<'a>(
    source: &mut Source<'a>,
    limits: &Limits,
    mut one: impl FnMut(&mut Source<'a>) -> Result<Field<'a>>,
) -> Result<Hash> {
    let count = source.count()?;
    if count == 0 {
        return Err(Fault::Empty);
    }
    let mut hash = Hash::for_fields(count.min(source.rest() / 4), limits);
    for _ in 0..count {
        let (expiry, field, value) = one(source)?;
        if !hash.set(&field, &value, limits) {
            return Err(Fault::fixed("Duplicate hash fields detected"));
        }
        if expiry.is_some() {
            hash.set_expiry(&field, expiry);
        }
    }
    Ok(hash)
}

/// Types 22 to 25 as Redis numbers them.
pub fn decode_expiring(kind: u8, source: &mut Source<'_>, limits: &Limits) -> Result<Hash> {
    let earliest = match kind {
        kind::HASH_METADATA | kind::HASH_LISTPACK_EX => Some(source.i64_le()?),
        _ => None,
    };
    if matches!(kind, kind::HASH_LISTPACK_EX | kind::HASH_LISTPACK_EX_PRE_GA) {
        let blob = source.string()?;
        if is_empty_listpack(&blob) {
            return Err(Fault::Empty);
        }
        return Hash::from_triples_blob(&blob, limits).ok_or(Fault::fixed("Hash listpack integrity check failed."));
    }
    decode_fields(source, limits, |source| {
        let expiry = match (source.number()?, earliest) {
            (0, _) => None,
            (delta, Some(earliest)) => Some(checked_expiry(i64::try_from(delta).ok(), earliest.checked_sub(1))?),
            (at, None) => Some(checked_expiry(i64::try_from(at).ok(), Some(0))?),
        };
        Ok((expiry, source.string()?, source.string()?))
    })
}

/// Valkey 9's form.
pub fn decode_valkey(source: &mut Source<'_>, limits: &Limits) -> Result<Hash> {
    decode_fields(source, limits, |source| {
        let (field, value) = (source.string()?, source.string()?);
        let expiry = match source.i64_le()? {
            -1 => None,
            at => Some(checked_expiry(Some(at), Some(0))?),
        };
        Ok((expiry, field, value))
    })
}

fn checked_expiry(at: Option<i64>, offset: Option<i64>) -> Result<i64> {
    at.zip(offset)
        .and_then(|(at, offset)| at.checked_add(offset))
        .filter(|at| (1..=MAX_EXPIRY).contains(at))
        .ok_or(Fault::fixed("invalid expiry of a hash field"))
}
