//! SETBIT, GETBIT, BITCOUNT, BITPOS, BITOP: strings as bitmaps.

use super::args;
use super::context::{KeyContext, KeyFlow, Keys};
use super::effects::EventClasses;
use super::error::{self, CommandError, CommandResult};
use super::keyspec::KeySpec;
use super::spec::{Group, KeyCommand};
use super::string::with_text;
use crate::base::number::parse_i64;
use crate::engine::bits::{self, Combination, Operation};
use crate::engine::keyspace::OnExpired;
use crate::engine::string::StringBlock;
use crate::engine::value::Value;
use crate::resp::Args;
use std::ops::Range;

pub const COMMANDS: &[KeyCommand] = &[
    KeyCommand::new("setbit", 4, setbit)
        .since("2.2.0")
        .group(Group::Bitmap)
        .write()
        .denyoom()
        .keys(&[KeySpec::at(1).rw().access().update()])
        .syntax("key offset value")
        .summary("Sets or clears a bit of the string at a key and returns the old one.")
        .complexity("O(1)"),
    KeyCommand::new("getbit", 3, getbit)
        .since("2.2.0")
        .group(Group::Bitmap)
        .readonly()
        .fast()
        .keys(&[KeySpec::at(1).ro().access()])
        .syntax("key offset")
        .summary("Returns a bit of the string at a key.")
        .complexity("O(1)"),
    KeyCommand::new("bitcount", -2, bitcount)
        .since("2.6.0")
        .group(Group::Bitmap)
        .readonly()
        .keys(&[KeySpec::at(1).ro().access()])
        .syntax("key [start end [BYTE | BIT]]")
        .summary("Counts the bits that are set in the string at a key.")
        .complexity("O(N)"),
    KeyCommand::new("bitpos", -3, bitpos)
        .since("2.8.7")
        .group(Group::Bitmap)
        .readonly()
        .keys(&[KeySpec::at(1).ro().access()])
        .syntax("key bit [start [end [BYTE | BIT]]]")
        .summary("Finds the first bit that is set, or clear, in the string at a key.")
        .complexity("O(N)"),
    KeyCommand::new("bitop", -4, bitop)
        .since("2.6.0")
        .group(Group::Bitmap)
        .write()
        .denyoom()
        .keys(&[KeySpec::at(2).ow().update(), KeySpec::range(3, -1, 1).ro().access()])
        .syntax("<AND | OR | XOR | NOT | DIFF | DIFF1 | ANDOR | ONE> destkey key [key ...]")
        .summary("Combines strings bit by bit and stores the result.")
        .complexity("O(N)"),
];

const BAD_OFFSET: CommandError = CommandError::fixed("ERR bit offset is not an integer or out of range");
const BAD_BIT: CommandError = CommandError::fixed("ERR bit is not an integer or out of range");

/// A bit offset within the longest string that may be. `#n` means the n-th field, where a field width is given.
pub fn bit_offset(keys: &Keys<'_>, text: &[u8], field_width: Option<u32>) -> CommandResult<usize> {
    let (digits, factor) = match (text, field_width) {
        ([b'#', digits @ ..], Some(width)) => (digits, i64::from(width)),
        _ => (text, 1),
    };
    let limit = match keys.settings.on_expired {
        OnExpired::Ignore => i64::MAX,
        _ => (keys.settings.bulk_len_max as i64).saturating_mul(8),
    };
    parse_i64(digits)
        .and_then(|offset| offset.checked_mul(factor))
        .filter(|offset| (0..limit).contains(offset))
        .map(|offset| offset as usize)
        .ok_or(BAD_OFFSET)
}

fn setbit(ctx: &mut KeyContext<'_>, args: Args<'_>) -> Result<KeyFlow, CommandError> {
    let key = &args[1];
    let offset = bit_offset(&ctx.keys, &args[2], None)?;
    let value = match parse_i64(&args[3]) {
        Some(0) => false,
        Some(1) => true,
        _ => return Err(BAD_BIT),
    };
    let block = ctx.keys.string_block(key)?;
    let old_len = block.len();
    block.extend_zeroed(offset / 8 + 1);
    let grew = block.len() != old_len;
    let old = bits::set(block.as_mut_bytes(), offset, value);
    if grew || old != value {
        ctx.keys.touch(key, EventClasses::STRING, "setbit");
    }
    ctx.reply.integer(i64::from(old));
    Ok(KeyFlow::Done)
}

fn getbit(ctx: &mut KeyContext<'_>, args: Args<'_>) -> Result<KeyFlow, CommandError> {
    let offset = bit_offset(&ctx.keys, &args[2], None)?;
    let value = ctx.keys.read_string(&args[1])?.is_some_and(|value| with_text(value, |text| bits::get(text, offset)));
    ctx.reply.integer(i64::from(value));
    Ok(KeyFlow::Done)
}

/// BYTE or BIT at an argument, if there is one: whether indexes count bits.
fn counts_bits(args: Args<'_>, index: usize) -> CommandResult<bool> {
    match args.get(index) {
        None => Ok(false),
        Some(_) if args.is(index, "BIT") => Ok(true),
        Some(_) if args.is(index, "BYTE") => Ok(false),
        Some(_) => Err(error::SYNTAX),
    }
}

/// Indexes from `start` to `end`, both included and negative ones counted from the end, as a range of bits.
fn bit_range(byte_len: usize, start: i64, end: i64, in_bits: bool) -> Range<usize> {
    let len = byte_len as i64 * if in_bits { 8 } else { 1 };
    let absolute = |index: i64| if index < 0 { (len + index).max(0) } else { index };
    let (start, end) = (absolute(start), absolute(end).min(len - 1));
    if start > end {
        return 0..0;
    }
    let unit = if in_bits { 1 } else { 8 };
    start as usize * unit..(end as usize + 1) * unit
}

fn bitcount(ctx: &mut KeyContext<'_>, args: Args<'_>) -> Result<KeyFlow, CommandError> {
    let Some(value) = ctx.keys.read_string(&args[1])? else {
        ctx.reply.integer(0);
        return Ok(KeyFlow::Done);
    };
    let (start, end, in_bits) = match args.len() {
        2 => (0, -1, false),
        4 | 5 => {
            let (start, end) = (args::integer(&args[2])?, args::integer(&args[3])?);
            if start < 0 && end < 0 && start > end {
                ctx.reply.integer(0);
                return Ok(KeyFlow::Done);
            }
            (start, end, counts_bits(args, 4)?)
        }
        _ => return Err(error::SYNTAX),
    };
    let count = with_text(value, |text| bits::count(text, bit_range(text.len(), start, end, in_bits)));
    ctx.reply.count(count);
    Ok(KeyFlow::Done)
}

fn bitpos(ctx: &mut KeyContext<'_>, args: Args<'_>) -> Result<KeyFlow, CommandError> {
    let bit = match args::integer(&args[2])? {
        0 => false,
        1 => true,
        _ => return Err(CommandError::fixed("ERR The bit argument must be 1 or 0.")),
    };
    let Some(value) = ctx.keys.read_string(&args[1])? else {
        ctx.reply.integer(if bit { -1 } else { 0 });
        return Ok(KeyFlow::Done);
    };
    if args.len() > 6 {
        return Err(error::SYNTAX);
    }
    let start = args.get(3).map_or(Ok(0), args::integer)?;
    let in_bits = counts_bits(args, 5)?;
    let end = args.get(4).map(args::integer).transpose()?;
    let position = with_text(value, |text| {
        let range = bit_range(text.len(), start, end.unwrap_or(-1), in_bits);
        let beyond = range.end;
        let is_empty = range.is_empty();
        match bits::find(text, bit, range) {
            Some(position) => position as i64,
            // Without an end the string goes on in zeros for ever.
            None if !bit && end.is_none() && !is_empty => beyond as i64,
            None => -1,
        }
    });
    ctx.reply.integer(position);
    Ok(KeyFlow::Done)
}

fn operation(args: Args<'_>) -> CommandResult<Operation> {
    let known = [
        ("AND", Operation::And),
        ("OR", Operation::Or),
        ("XOR", Operation::Xor),
        ("NOT", Operation::Not),
        ("DIFF", Operation::Diff),
        ("DIFF1", Operation::Diff1),
        ("ANDOR", Operation::AndOr),
        ("ONE", Operation::One),
    ];
    let (name, operation) = *known.iter().find(|(name, _)| args.is(1, name)).ok_or(error::SYNTAX)?;
    match operation {
        Operation::Not if args.len() != 4 => {
            Err(CommandError::fixed("ERR BITOP NOT must be called with a single source key."))
        }
        Operation::Diff | Operation::Diff1 | Operation::AndOr if args.len() < 5 => {
            Err(CommandError::new(format!("ERR BITOP {name} must be called with at least two source keys.")))
        }
        _ => Ok(operation),
    }
}

fn bitop(ctx: &mut KeyContext<'_>, args: Args<'_>) -> Result<KeyFlow, CommandError> {
    let mut combination = Combination::new(operation(args)?);
    for key in args.from(3).iter() {
        match ctx.keys.read_string(key)? {
            None => combination.add(b""),
            Some(value) => with_text(value, |text| combination.add(text)),
        }
    }
    let (target, result) = (&args[2], combination.finish());
    if !result.is_empty() {
        // Always a raw string, even if the bytes happen to be digits.
        ctx.keys.store(target, Value::Block(StringBlock::new(&result)));
        ctx.keys.touch(target, EventClasses::STRING, "set");
    } else if ctx.keys.delete(target) {
        ctx.keys.touch(target, EventClasses::GENERIC, "del");
    }
    ctx.reply.count(result.len());
    Ok(KeyFlow::Done)
}

#[cfg(test)]
mod tests {
    use super::bit_range;

    #[test]
    fn indexes_become_bits() {
        assert_eq!(bit_range(3, 0, -1, false), 0..24);
        assert_eq!(bit_range(3, 1, 1, false), 8..16);
        assert_eq!(bit_range(3, 5, 30, true), 5..24);
        assert_eq!(bit_range(3, -2, -1, true), 22..24);
        assert_eq!(bit_range(3, 2, 1, false), 0..0);
        assert_eq!(bit_range(0, 0, -1, false), 0..0);
    }
}
