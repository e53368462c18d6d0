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
use crate::engine::listpack::Listpack;
use crate::rdb::encode::{self, Options};
use crate::rdb::fault::Fault;
use crate::rdb::format::{VERSION_FIELD_EXPIRY, kind};
use crate::rdb::legacy::{ziplist, zipmap};
use crate::rdb::source::{Result, Source};
use crate::rdb::types::{SLICE, is_empty_listpack};

/// When its earliest field expires, if the file can tell.
fn told_expiry(hash: &Hash, options: Options) -> Option<i64> {
    hash.earliest_expiry().filter(|_| options.version >= VERSION_FIELD_EXPIRY)
}

/// Fields expire, but the file cannot tell.
fn is_reduced(hash: &Hash, options: Options) -> bool {
    hash.has_expiries() && options.version < VERSION_FIELD_EXPIRY
}

fn is_alive(entry: &Entry<'_>, options: Options) -> bool {
    entry.expires_at.is_none_or(|at| at > options.now_ms)
}

pub fn leaves_nothing(hash: &Hash, options: Options) -> bool {
    is_reduced(hash, options) && !hash.iter().any(|entry| is_alive(&entry, options))
}

/// How many fields are written.
fn written_len(hash: &Hash, options: Options) -> u64 {
    if is_reduced(hash, options) {
        hash.iter().filter(|entry| is_alive(entry, options)).count() as u64
    } else {
        hash.len() as u64
    }
}

pub fn kind_of(hash: &Hash, options: Options) -> u8 {
    match hash.as_packed() {
        Packed::Pairs(_) => kind::HASH_LISTPACK,
        Packed::Triples(_) if told_expiry(hash, options).is_some() => kind::HASH_LISTPACK_EX,
        Packed::Table if told_expiry(hash, options).is_some() => kind::HASH_METADATA,
        Packed::Triples(_) | Packed::Table => kind::HASH,
    }
}

pub fn put(out: &mut Vec<u8>, hash: &Hash, options: Options) {
    match (hash.as_packed(), told_expiry(hash, options)) {
        (Packed::Pairs(blob), _) => encode::string(out, blob, options.compress),
        (Packed::Triples(blob), Some(earliest)) => {
            out.extend_from_slice(&earliest.to_le_bytes());
            encode::string(out, blob, options.compress);
        }
        (Packed::Triples(_) | Packed::Table, _) => {
            begin(out, hash, options);
            let earliest = told_expiry(hash, options);
            let is_reduced = is_reduced(hash, options);
            for entry in hash.iter().filter(|entry| !is_reduced || is_alive(entry, options)) {
                put_field(out, &entry, earliest, options.compress);
            }
        }
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
pub fn begin(out: &mut Vec<u8>, hash: &Hash, options: Options) {
    if let Some(earliest) = told_expiry(hash, options) {
        out.extend_from_slice(&earliest.to_le_bytes());
    }
    encode::length(out, written_len(hash, options));
}

/// Some fields of a table; the place is its cursor. While nothing changes it shows each field once.
pub fn slice(out: &mut Vec<u8>, hash: &Hash, from: u64, options: Options) -> Option<u64> {
    let (earliest, is_reduced) = (told_expiry(hash, options), is_reduced(hash, options));
    let (mut cursor, mut count) = (from, 0);
    while count < SLICE {
        cursor = hash.scan(cursor, |entry| {
            if !is_reduced || is_alive(&entry, options) {
                put_field(out, &entry, earliest, options.compress);
            }
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
    let hash = Hash::from_pairs_blob(blob, limits).ok_or_else(|| fault_of_pairs(blob))?;
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

/// Why a blob of pairs was refused. Redis tells twice the same field from other damage, in its log.
fn fault_of_pairs(blob: &[u8]) -> Fault {
    match Listpack::from_bytes(blob) {
        Some(pairs) if pairs.len().is_multiple_of(2) => {
            Fault::fixed("Hash listpack integrity check failed: listpack with dup elements.")
        }
        _ => Fault::fixed("Hash listpack integrity check failed."),
    }
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
