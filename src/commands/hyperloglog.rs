//! PFADD, PFCOUNT, PFMERGE: estimates of how many different elements there were.

use super::context::{KeyContext, KeyFlow, Keys};
use super::effects::EventClasses;
use super::error::{CommandError, CommandResult};
use super::flags::Flags;
use super::keyspec::KeySpec;
use super::spec::{Group, KeyCommand};
use crate::engine::hll::{self, REGISTERS};
use crate::engine::string::StringBlock;
use crate::engine::value::{StringRef, Value};
use crate::resp::Args;

pub const COMMANDS: &[KeyCommand] = &[
    KeyCommand::new("pfadd", -2, pfadd)
        .since("2.8.9")
        .group(Group::HyperLogLog)
        .write()
        .denyoom()
        .fast()
        .keys(&[KeySpec::at(1).rw().insert()])
        .syntax("key [element [element ...]]")
        .summary("Shows elements to a HyperLogLog, which is created if there is none.")
        .complexity("O(1) to add every element."),
    KeyCommand::new("pfcount", -2, pfcount)
        .since("2.8.9")
        .group(Group::HyperLogLog)
        .readonly()
        .flag(Flags::MAY_REPLICATE)
        .keys(&[KeySpec::range(1, -1, 1)
            .rw()
            .access()
            .notes("RW because it may change the internal representation of the key, and propagate to replicas")])
        .syntax("key [key ...]")
        .summary("Estimates how many different elements HyperLogLogs have seen together.")
        .complexity("O(1) for one key; O(N) with large constants for N keys"),
    KeyCommand::new("pfmerge", -2, pfmerge)
        .since("2.8.9")
        .group(Group::HyperLogLog)
        .write()
        .denyoom()
        .keys(&[KeySpec::at(1).rw().access().insert(), KeySpec::range(2, -1, 1).ro().access()])
        .syntax("destkey [sourcekey [sourcekey ...]]")
        .summary("Merges HyperLogLogs into one.")
        .complexity("O(N) to merge N HyperLogLogs, but with high constant times."),
    KeyCommand::new("pfdebug", 3, pfdebug)
        .since("2.8.9")
        .group(Group::HyperLogLog)
        .write()
        .denyoom()
        .admin()
        .keys(&[KeySpec::at(2).rw().access()])
        .syntax("subcommand key")
        .summary("Shows the inside of a HyperLogLog.")
        .complexity("N/A"),
    KeyCommand::new("pfselftest", 1, pfselftest)
        .since("2.8.9")
        .group(Group::HyperLogLog)
        .admin()
        .summary("Tests the HyperLogLog itself.")
        .complexity("N/A"),
];

const NOT_AN_HLL: CommandError = CommandError::fixed("WRONGTYPE Key is not a valid HyperLogLog string value.");
const CORRUPT: CommandError = CommandError::fixed("INVALIDOBJ Corrupted HLL object detected");

impl From<hll::Corrupt> for CommandError {
    fn from(_: hll::Corrupt) -> Self {
        CORRUPT
    }
}

fn checked(value: StringRef<'_>) -> CommandResult<&[u8]> {
    match value {
        StringRef::Bytes(bytes) if hll::is_valid(bytes) => Ok(bytes),
        StringRef::Bytes(_) | StringRef::Int(_) => Err(NOT_AN_HLL),
    }
}

/// The HyperLogLog at a key that will be changed, new if there is none; whether it is new.
fn block_at<'k>(keys: &'k mut Keys<'_>, key: &[u8]) -> CommandResult<(&'k mut StringBlock, bool)> {
    let is_new = match keys.write_string(key)?.and_then(|record| record.string_ref()) {
        Some(value) => checked(value).map(|_| false)?,
        None => true,
    };
    if is_new {
        keys.store(key, Value::Block(StringBlock::new(&hll::empty())));
    }
    Ok((keys.string_block(key)?, is_new))
}

fn pfadd(ctx: &mut KeyContext<'_>, args: Args<'_>) -> Result<KeyFlow, CommandError> {
    let key = &args[1];
    let sparse_len_max = ctx.keys.settings.limits.hll_sparse_max_bytes;
    let (block, is_new) = block_at(&mut ctx.keys, key)?;
    let mut changes = u64::from(is_new);
    for element in args.from(2).iter() {
        changes += u64::from(hll::add(block, element, sparse_len_max)?);
    }
    if changes > 0 {
        hll::invalidate_cache(block.as_mut_bytes());
        ctx.keys.touch(key, EventClasses::STRING, "pfadd");
        ctx.keys.effects.dirty += changes - 1;
    }
    ctx.reply.integer(i64::from(changes > 0));
    Ok(KeyFlow::Done)
}

fn pfcount(ctx: &mut KeyContext<'_>, args: Args<'_>) -> Result<KeyFlow, CommandError> {
    if args.len() > 2 {
        let mut registers = Box::new([0; REGISTERS]);
        for key in args.from(1).iter() {
            if let Some(value) = ctx.keys.read_string(key)? {
                hll::merge(&mut registers, checked(value)?)?;
            }
        }
        ctx.reply.integer(hll::cardinality_of_registers(&registers) as i64);
        return Ok(KeyFlow::Done);
    }
    let key = &args[1];
    let Some(value) = ctx.keys.read_string(key)? else {
        ctx.reply.integer(0);
        return Ok(KeyFlow::Done);
    };
    let bytes = checked(value)?;
    let cardinality = match hll::cached_cardinality(bytes) {
        Some(cardinality) => cardinality,
        None => {
            let cardinality = hll::cardinality(bytes)?;
            // The string changes by that, so replicas count as well.
            hll::cache_cardinality(ctx.keys.string_block(key)?.as_mut_bytes(), cardinality);
            ctx.keys.modified(key);
            cardinality
        }
    };
    ctx.reply.integer(cardinality as i64);
    Ok(KeyFlow::Done)
}

fn pfmerge(ctx: &mut KeyContext<'_>, args: Args<'_>) -> Result<KeyFlow, CommandError> {
    let target = &args[1];
    let sparse_len_max = ctx.keys.settings.limits.hll_sparse_max_bytes;
    let mut registers = Box::new([0; REGISTERS]);
    let mut dense = false;
    // The target is one of the sources.
    for key in args.from(1).iter() {
        if let Some(value) = ctx.keys.read_string(key)? {
            let bytes = checked(value)?;
            dense |= !hll::is_sparse(bytes);
            hll::merge(&mut registers, bytes)?;
        }
    }
    let (block, _) = block_at(&mut ctx.keys, target)?;
    if dense {
        hll::make_dense(block)?;
    }
    for (index, count) in registers.iter().enumerate().filter(|(_, count)| **count > 0) {
        hll::raise(block, index, *count, sparse_len_max)?;
    }
    hll::invalidate_cache(block.as_mut_bytes());
    ctx.keys.touch(target, EventClasses::STRING, "pfadd");
    ctx.reply.ok();
    Ok(KeyFlow::Done)
}

fn pfdebug(ctx: &mut KeyContext<'_>, args: Args<'_>) -> Result<KeyFlow, CommandError> {
    let key = &args[2];
    let Some(value) = ctx.keys.read_string(key)? else {
        return Err(CommandError::fixed("ERR The specified key does not exist"));
    };
    let bytes = checked(value)?;
    if args.is(1, "GETREG") {
        let registers = hll::registers(bytes)?;
        make_dense(ctx, key)?;
        ctx.reply.array(REGISTERS);
        registers.iter().for_each(|value| ctx.reply.integer(i64::from(*value)));
    } else if args.is(1, "DECODE") {
        if !hll::is_sparse(bytes) {
            return Err(CommandError::fixed("ERR HLL encoding is not sparse"));
        }
        ctx.reply.bulk(hll::decode(bytes).as_bytes());
    } else if args.is(1, "ENCODING") {
        ctx.reply.simple(if hll::is_sparse(bytes) { "sparse" } else { "dense" });
    } else if args.is(1, "TODENSE") {
        let converted = make_dense(ctx, key)?;
        ctx.reply.integer(i64::from(converted));
    } else {
        return Err(CommandError::joined(&[b"ERR Unknown PFDEBUG subcommand '", &args[1], b"'"]));
    }
    Ok(KeyFlow::Done)
}

fn make_dense(ctx: &mut KeyContext<'_>, key: &[u8]) -> CommandResult<bool> {
    let converted = hll::make_dense(ctx.keys.string_block(key)?)?;
    if converted {
        ctx.keys.modified(key);
    }
    Ok(converted)
}

fn pfselftest(ctx: &mut KeyContext<'_>, _: Args<'_>) -> Result<KeyFlow, CommandError> {
    let sparse_len_max = ctx.keys.settings.limits.hll_sparse_max_bytes;
    hll::self_test(ctx.random, sparse_len_max).map_err(|fault| CommandError::new(format!("ERR {fault}")))?;
    ctx.reply.ok();
    Ok(KeyFlow::Done)
}
