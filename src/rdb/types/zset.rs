//! Sorted sets.
//!
//! ```text
//! 3  ZSET           count, (member, score as text)
//! 5  ZSET_2         count, (member, score as f64)   what is written when big
//! 12 ZSET_ZIPLIST   one ziplist
//! 17 ZSET_LISTPACK  one listpack                    what is written when small
//! ```

use crate::engine::limits::Limits;
use crate::engine::listpack::{Element, Listpack};
use crate::engine::zset::{Change, ZSet};
use crate::rdb::encode;
use crate::rdb::fault::Fault;
use crate::rdb::format::kind;
use crate::rdb::legacy::ziplist;
use crate::rdb::source::{Result, Source};
use crate::rdb::types::SLICE;

pub fn kind_of(zset: &ZSet) -> u8 {
    if zset.as_pack().is_some() { kind::ZSET_LISTPACK } else { kind::ZSET_2 }
}

pub fn put(out: &mut Vec<u8>, zset: &ZSet, compress: bool) {
    if let Some(pack) = zset.as_pack() {
        encode::string(out, pack.as_bytes(), compress);
        return;
    }
    encode::length(out, zset.len() as u64);
    put_members(out, zset.iter(), compress);
}

/// The members of some ranks.
pub fn slice(out: &mut Vec<u8>, zset: &ZSet, from: u64, compress: bool) -> Option<u64> {
    let from = from as usize;
    let end = zset.len().min(from + SLICE);
    put_members(out, zset.range(from..end), compress);
    (end < zset.len()).then_some(end as u64)
}

fn put_members<'a>(out: &mut Vec<u8>, members: impl Iterator<Item = (Element<'a>, f64)>, compress: bool) {
    for (member, score) in members {
        encode::element(out, member, compress);
        out.extend_from_slice(&score.to_le_bytes());
    }
}

pub fn decode(kind: u8, source: &mut Source<'_>, limits: &Limits) -> Result<ZSet> {
    match kind {
        kind::ZSET_ZIPLIST => {
            let pack = ziplist::to_listpack(&source.string()?);
            from_pack(pack.map_err(|_| Fault::fixed("Zset ziplist integrity check failed."))?, limits)
        }
        kind::ZSET_LISTPACK => {
            let pack =
                Listpack::from_bytes(&source.string()?).ok_or(Fault::fixed("Zset listpack integrity check failed."))?;
            from_pack(pack, limits)
        }
        _ => decode_members(kind, source, limits),
    }
}

fn from_pack(pack: Listpack, limits: &Limits) -> Result<ZSet> {
    if pack.is_empty() {
        return Err(Fault::Empty);
    }
    ZSet::from_pack(pack, limits).ok_or(Fault::fixed("Zset listpack integrity check failed."))
}

fn decode_members(kind: u8, source: &mut Source<'_>, limits: &Limits) -> Result<ZSet> {
    let count = source.count()?;
    if count == 0 {
        return Err(Fault::Empty);
    }
    let mut zset = ZSet::with_capacity(count.min(source.rest() / 4), 0, limits);
    for _ in 0..count {
        let member = source.string()?;
        let score = if kind == kind::ZSET { source.score_text()? } else { source.score()? };
        if zset.insert(&member, score, limits) != Change::Added {
            return Err(Fault::fixed("Zset with dup fields detected"));
        }
    }
    Ok(zset)
}
