//! BITFIELD: integers of any width in a string, with three ways to overflow.

use super::args;
use super::bitmap::bit_offset;
use super::context::{KeyContext, KeyFlow, Keys};
use super::effects::EventClasses;
use super::error::{self, CommandError, CommandResult};
use super::keyspec::{KeyFlags, KeySpec};
use super::spec::{Group, KeyCommand};
use super::string::with_text;
use crate::base::number::parse_i64;
use crate::engine::bits;
use crate::resp::Args;

pub const COMMANDS: &[KeyCommand] = &[
    KeyCommand::new("bitfield", -2, bitfield)
        .since("3.2.0")
        .group(Group::Bitmap)
        .write()
        .denyoom()
        .keys(&[KeySpec::at(1)
            .rw()
            .update()
            .access()
            .variable_flags()
            .notes("This command allows both access and modification of the key")])
        .flags_by_use(flags_of)
        .syntax("key [GET encoding offset | [OVERFLOW <WRAP | SAT | FAIL>] <SET encoding offset value | INCRBY encoding offset increment> ...]")
        .summary("Reads, sets and increments integers of any width in the string at a key.")
        .complexity("O(1) for each subcommand specified"),
    KeyCommand::new("bitfield_ro", -2, bitfield_ro)
        .since("6.0.0")
        .group(Group::Bitmap)
        .readonly()
        .fast()
        .keys(&[KeySpec::at(1).ro().access()])
        .syntax("key [GET encoding offset ...]")
        .summary("Reads integers of any width from the string at a key.")
        .complexity("O(1) for each subcommand specified"),
];

/// With nothing but GETs, and OVERFLOWs that are about nothing, it only reads. What cannot be read may be anything.
fn flags_of(args: Args<'_>, _: usize, _: KeyFlags) -> KeyFlags {
    let mut index = 2;
    while index < args.len() {
        index += if args.is(index, "GET") {
            3
        } else if args.is(index, "OVERFLOW") {
            2
        } else {
            return KeyFlags::READS_AND_CHANGES;
        };
    }
    if index == args.len() { KeyFlags::READS } else { KeyFlags::READS_AND_CHANGES }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Overflow {
    Wrap,
    Saturate,
    Fail,
}

#[derive(Clone, Copy)]
struct Field {
    signed: bool,
    width: u32,
    offset: usize,
}

#[derive(Clone, Copy)]
enum Action {
    Get,
    Set(i64),
    Increment(i64),
}

struct Step {
    field: Field,
    action: Action,
    overflow: Overflow,
}

impl Field {
    fn parse(keys: &Keys<'_>, encoding: &[u8], offset: &[u8]) -> CommandResult<Self> {
        const BAD: CommandError = CommandError::fixed(
            "ERR Invalid bitfield type. Use something like i16 u8. Note that u64 is not supported but i64 is.",
        );
        let (signed, digits, widest) = match encoding {
            [b'i', digits @ ..] => (true, digits, 64),
            [b'u', digits @ ..] => (false, digits, 63),
            _ => return Err(BAD),
        };
        let width = parse_i64(digits).filter(|width| (1..=widest).contains(width)).ok_or(BAD)? as u32;
        Ok(Field { signed, width, offset: bit_offset(keys, offset, Some(width))? })
    }

    fn read(&self, bytes: &[u8]) -> i64 {
        self.narrow(bits::field(bytes, self.offset, self.width))
    }

    /// The low bits of a number as this field holds them.
    fn narrow(&self, value: u64) -> i64 {
        let unused = 64 - self.width;
        if self.signed { (value << unused) as i64 >> unused } else { (value << unused >> unused) as i64 }
    }

    /// A number as it fits, or nothing if it does not and must not.
    fn fit(&self, value: i128, overflow: Overflow) -> Option<i64> {
        let (min, max) = if self.signed {
            (-(1i128 << (self.width - 1)), (1i128 << (self.width - 1)) - 1)
        } else {
            (0, (1i128 << self.width) - 1)
        };
        if (min..=max).contains(&value) {
            return Some(value as i64);
        }
        match overflow {
            Overflow::Wrap => Some(self.narrow(value as u64)),
            Overflow::Saturate => Some(value.clamp(min, max) as i64),
            Overflow::Fail => None,
        }
    }

    /// What SET means: a negative number for an unsigned field is a very large one.
    fn given(&self, value: i64) -> i128 {
        if self.signed { i128::from(value) } else { i128::from(value as u64) }
    }
}

fn bitfield(ctx: &mut KeyContext<'_>, args: Args<'_>) -> Result<KeyFlow, CommandError> {
    run(ctx, args, true)
}

fn bitfield_ro(ctx: &mut KeyContext<'_>, args: Args<'_>) -> Result<KeyFlow, CommandError> {
    run(ctx, args, false)
}

fn run(ctx: &mut KeyContext<'_>, args: Args<'_>, may_write: bool) -> Result<KeyFlow, CommandError> {
    let steps = parse(&ctx.keys, args)?;
    let key = &args[1];
    let last_written = steps
        .iter()
        .filter(|step| !matches!(step.action, Action::Get))
        .map(|step| step.field.offset + step.field.width as usize - 1)
        .max();
    let Some(last_written) = last_written else {
        let value = ctx.keys.read_string(key)?;
        let reply = &mut *ctx.reply;
        reply.array(steps.len());
        let mut read_all = |text: &[u8]| steps.iter().for_each(|step| reply.integer(step.field.read(text)));
        match value {
            None => read_all(b""),
            Some(value) => with_text(value, read_all),
        }
        return Ok(KeyFlow::Done);
    };
    if !may_write {
        return Err(CommandError::fixed("ERR BITFIELD_RO only supports the GET subcommand"));
    }
    let block = ctx.keys.string_block(key)?;
    let old_len = block.len();
    block.extend_zeroed(last_written / 8 + 1);
    let grew = block.len() != old_len;
    let mut changes = 0;
    ctx.reply.array(steps.len());
    for step in &steps {
        match step.run(block.as_mut_bytes()) {
            Some((answer, changed)) => {
                ctx.reply.integer(answer);
                changes += u64::from(changed || (grew && !matches!(step.action, Action::Get)));
            }
            None => ctx.reply.null(),
        }
    }
    if changes > 0 {
        ctx.keys.touch(key, EventClasses::STRING, "setbit");
        ctx.keys.effects.dirty += changes - 1;
    }
    Ok(KeyFlow::Done)
}

impl Step {
    /// The answer and whether the field has changed; nothing if it would overflow and must not.
    fn run(&self, bytes: &mut [u8]) -> Option<(i64, bool)> {
        let field = self.field;
        let old = field.read(bytes);
        let (new, answer) = match self.action {
            Action::Get => return Some((old, false)),
            Action::Set(value) => (field.fit(field.given(value), self.overflow)?, old),
            Action::Increment(by) => {
                let new = field.fit(i128::from(old) + i128::from(by), self.overflow)?;
                (new, new)
            }
        };
        bits::set_field(bytes, field.offset, field.width, new as u64);
        Some((answer, new != old))
    }
}

fn parse(keys: &Keys<'_>, args: Args<'_>) -> CommandResult<Vec<Step>> {
    let mut steps = Vec::new();
    let mut overflow = Overflow::Wrap;
    let mut index = 2;
    while index < args.len() {
        let more = args.len() - index - 1;
        if args.is(index, "OVERFLOW") && more >= 1 {
            overflow = if args.is(index + 1, "WRAP") {
                Overflow::Wrap
            } else if args.is(index + 1, "SAT") {
                Overflow::Saturate
            } else if args.is(index + 1, "FAIL") {
                Overflow::Fail
            } else {
                return Err(CommandError::fixed("ERR Invalid OVERFLOW type specified"));
            };
            index += 2;
            continue;
        }
        let action: fn(i64) -> Action = if args.is(index, "GET") && more >= 2 {
            |_| Action::Get
        } else if args.is(index, "SET") && more >= 3 {
            Action::Set
        } else if args.is(index, "INCRBY") && more >= 3 {
            Action::Increment
        } else {
            return Err(error::SYNTAX);
        };
        let field = Field::parse(keys, &args[index + 1], &args[index + 2])?;
        let (value, taken) = match action(0) {
            Action::Get => (0, 3),
            Action::Set(_) | Action::Increment(_) => (args::integer(&args[index + 3])?, 4),
        };
        steps.push(Step { field, action: action(value), overflow });
        index += taken;
    }
    Ok(steps)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_overflow_in_three_ways() {
        let unsigned = Field { signed: false, width: 8, offset: 0 };
        let signed = Field { signed: true, width: 8, offset: 0 };
        assert_eq!(unsigned.fit(300, Overflow::Wrap), Some(44));
        assert_eq!(unsigned.fit(300, Overflow::Saturate), Some(255));
        assert_eq!(unsigned.fit(-1, Overflow::Saturate), Some(0));
        assert_eq!(unsigned.fit(-1, Overflow::Fail), None);
        assert_eq!(unsigned.fit(unsigned.given(-1), Overflow::Saturate), Some(255));
        assert_eq!(signed.fit(128, Overflow::Wrap), Some(-128));
        assert_eq!(signed.fit(-200, Overflow::Saturate), Some(-128));
        let widest = Field { signed: true, width: 64, offset: 0 };
        assert_eq!(widest.fit(i128::from(i64::MAX) + 1, Overflow::Wrap), Some(i64::MIN));
    }
}
