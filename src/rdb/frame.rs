//! Where a value ends: only its lengths are read. So a loader finds the next key without decoding this one, and whoever
//! meets a value of no known type (a module's) can skip it.

use super::fault::Fault;
use super::format::{Lineage, kind};
use super::source::{Result, Source};

/// How far the elements of a value were passed over before its bytes ended, so that a value that arrives in many pieces
/// is not walked from its start for each of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Where the next element begins, counted as the source counts; 0 = nothing was passed yet.
    at: usize,
    left: u64,
}

/// Moves the source behind a value.
pub fn skip(kind: u8, lineage: Lineage, source: &mut Source<'_>, progress: &mut Progress) -> Result<()> {
    match kind {
        kind::STRING
        | kind::HASH_ZIPMAP
        | kind::LIST_ZIPLIST
        | kind::SET_INTSET
        | kind::ZSET_ZIPLIST
        | kind::HASH_ZIPLIST
        | kind::HASH_LISTPACK
        | kind::ZSET_LISTPACK
        | kind::SET_LISTPACK => source.skip_string(),
        kind::LIST | kind::SET | kind::LIST_QUICKLIST => resume(source, progress, Source::skip_string),
        kind::HASH => resume(source, progress, skip_pair),
        kind::ZSET => resume(source, progress, |source| {
            source.skip_string()?;
            match source.byte()? {
                253..=255 => Ok(()),
                len => source.take(usize::from(len)).map(drop),
            }
        }),
        kind::ZSET_2 => resume(source, progress, |source| {
            source.skip_string()?;
            source.take(8).map(drop)
        }),
        kind::LIST_QUICKLIST_2 => resume(source, progress, |source| {
            source.number()?;
            source.skip_string()
        }),
        kind::MODULE_2 => {
            source.number()?;
            module_value(source)
        }
        kind::STREAM | kind::STREAM_2 | kind::STREAM_3 | kind::STREAM_4 | kind::STREAM_5 => {
            stream(kind, source, progress)
        }
        kind::HASH_METADATA_PRE_GA if lineage == Lineage::Valkey => resume(source, progress, |source| {
            skip_pair(source)?;
            source.take(8).map(drop)
        }),
        _ if lineage == Lineage::Valkey => Err(unknown(kind)),
        kind::HASH_METADATA_PRE_GA => resume(source, progress, skip_triple),
        kind::HASH_METADATA => {
            source.take(8)?;
            resume(source, progress, skip_triple)
        }
        kind::HASH_LISTPACK_EX_PRE_GA => source.skip_string(),
        kind::HASH_LISTPACK_EX => {
            source.take(8)?;
            source.skip_string()
        }
        kind::MODULE => Err(Fault::fixed("a module value of a release candidate of Redis 4.0")),
        _ => Err(unknown(kind)),
    }
}

fn unknown(kind: u8) -> Fault {
    Fault::Damaged(format!("Unknown RDB encoding type {kind}").into())
}

/// The elements of the outermost collection.
fn resume<'a>(
    source: &mut Source<'a>,
    progress: &mut Progress,
    mut one: impl FnMut(&mut Source<'a>) -> Result<()>,
) -> Result<()> {
    if progress.at == 0 {
        let left = source.number()?;
        *progress = Progress { at: source.at(), left };
    }
    source.go_to(progress.at)?;
    while progress.left > 0 {
        one(source)?;
        *progress = Progress { at: source.at(), left: progress.left - 1 };
    }
    Ok(())
}

fn repeat<'a>(source: &mut Source<'a>, mut one: impl FnMut(&mut Source<'a>) -> Result<()>) -> Result<()> {
    // Each step takes at least one byte, so an absurd count ends with the bytes.
    for _ in 0..source.number()? {
        one(source)?;
    }
    Ok(())
}

fn skip_pair(source: &mut Source<'_>) -> Result<()> {
    source.skip_string()?;
    source.skip_string()
}

fn skip_triple(source: &mut Source<'_>) -> Result<()> {
    source.number()?;
    skip_pair(source)
}

/// The parts of a module's value say what they are; zero ends them.
pub fn module_value(source: &mut Source<'_>) -> Result<()> {
    loop {
        match source.number()? {
            0 => return Ok(()),
            1 | 2 => source.number().map(drop)?,
            3 => source.take(4).map(drop)?,
            4 => source.take(8).map(drop)?,
            5 => source.skip_string()?,
            _ => return Err(Fault::fixed("an unknown opcode in a module's value")),
        }
    }
}

/// The nine characters of a module type's name are the upper 54 bits of its number.
pub fn module_name(number: u64) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    (0..9).map(|at| char::from(LETTERS[(number >> (10 + 6 * (8 - at)) & 63) as usize])).collect()
}

/// ```text
/// nodes: (first id 16 B, listpack)* | length | last id | [2: first id, max deleted id, entries added] | groups:
///   name | last id | [2: entries read] | pending: (id 16 B, time 8 B, deliveries)* | consumers:
///     name | seen 8 B | [3: active 8 B] | pending: (id 16 B)*
///   [5: released: (id 16 B)*]
/// [4: idempotent producers]
/// ```
fn stream(kind: u8, source: &mut Source<'_>, progress: &mut Progress) -> Result<()> {
    resume(source, progress, skip_pair)?;
    let with_totals = kind != kind::STREAM;
    numbers(source, if with_totals { 8 } else { 3 })?;
    repeat(source, |source| {
        source.skip_string()?;
        numbers(source, if with_totals { 3 } else { 2 })?;
        repeat(source, |source| {
            source.take(24)?;
            source.number().map(drop)
        })?;
        let times = if kind >= kind::STREAM_3 { 16 } else { 8 };
        repeat(source, |source| {
            source.skip_string()?;
            source.take(times)?;
            repeat(source, |source| source.take(16).map(drop))
        })?;
        if kind >= kind::STREAM_5 {
            repeat(source, |source| source.take(16).map(drop))?;
        }
        Ok(())
    })?;
    if kind >= kind::STREAM_4 {
        numbers(source, 2)?;
        repeat(source, |source| {
            source.skip_string()?;
            repeat(source, |source| {
                source.skip_string()?;
                numbers(source, 2)
            })
        })?;
        numbers(source, 2)?;
    }
    Ok(())
}

fn numbers(source: &mut Source<'_>, count: usize) -> Result<()> {
    for _ in 0..count {
        source.number()?;
    }
    Ok(())
}
