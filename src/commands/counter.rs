//! INCR and its kin. Integers are changed in place; floats are long doubles, as in Redis.

use super::args;
use super::context::{KeyContext, KeyFlow, Keys};
use super::effects::EventClasses;
use super::error::{self, CommandError, CommandResult};
use super::keyspec::KeySpec;
use super::spec::{Group, KeyCommand, KeyHandler};
use super::string::{set_integer, with_text};
use crate::base::long_double::LongDouble;
use crate::base::number::parse_i64;
use crate::engine::keyspace::NewExpiry;
use crate::engine::value::StringRef;
use crate::resp::Args;

const NUMBER: &[KeySpec] = &[KeySpec::at(1).rw().access().update()];

const fn counter(name: &'static str, arity: i32, handler: KeyHandler) -> KeyCommand {
    KeyCommand::new(name, arity, handler).group(Group::String).write().denyoom().fast().keys(NUMBER).complexity("O(1)")
}

pub const COMMANDS: &[KeyCommand] = &[
    counter("incr", 2, incr)
        .syntax("key")
        .summary("Adds one to the integer at a key, which counts as 0 if there is none."),
    counter("decr", 2, decr)
        .syntax("key")
        .summary("Takes one from the integer at a key, which counts as 0 if there is none."),
    counter("incrby", 3, incrby)
        .syntax("key increment")
        .summary("Adds to the integer at a key, which counts as 0 if there is none."),
    counter("decrby", 3, decrby)
        .syntax("key decrement")
        .summary("Takes from the integer at a key, which counts as 0 if there is none."),
    counter("incrbyfloat", 3, incrbyfloat)
        .since("2.6.0")
        .syntax("key increment")
        .summary("Adds to the floating-point number at a key, which counts as 0 if there is none."),
];

fn incr(ctx: &mut KeyContext<'_>, args: Args<'_>) -> Result<KeyFlow, CommandError> {
    add(ctx, &args[1], 1)
}

fn decr(ctx: &mut KeyContext<'_>, args: Args<'_>) -> Result<KeyFlow, CommandError> {
    add(ctx, &args[1], -1)
}

fn incrby(ctx: &mut KeyContext<'_>, args: Args<'_>) -> Result<KeyFlow, CommandError> {
    let by = args::integer(&args[2])?;
    add(ctx, &args[1], by)
}

fn decrby(ctx: &mut KeyContext<'_>, args: Args<'_>) -> Result<KeyFlow, CommandError> {
    let by = args::integer(&args[2])?;
    let by = by.checked_neg().ok_or(CommandError::fixed("ERR decrement would overflow"))?;
    add(ctx, &args[1], by)
}

fn add(ctx: &mut KeyContext<'_>, key: &[u8], by: i64) -> Result<KeyFlow, CommandError> {
    let old = integer_at(&mut ctx.keys, key)?.unwrap_or(0);
    let new = old.checked_add(by).ok_or(error::OVERFLOW)?;
    set_integer(&mut ctx.keys, key, new);
    ctx.keys.touch(key, EventClasses::STRING, "incrby");
    ctx.reply.integer(new);
    Ok(KeyFlow::Done)
}

/// The integer at a key that will be changed.
pub fn integer_at(keys: &mut Keys<'_>, key: &[u8]) -> CommandResult<Option<i64>> {
    match keys.write_string(key)?.and_then(|record| record.string_ref()) {
        None => Ok(None),
        Some(StringRef::Int(value)) => Ok(Some(value)),
        Some(StringRef::Bytes(text)) => parse_i64(text).map(Some).ok_or(error::NOT_AN_INTEGER),
    }
}

/// The number at a key that will be changed.
pub fn float_at(keys: &mut Keys<'_>, key: &[u8]) -> CommandResult<Option<LongDouble>> {
    match keys.write_string(key)?.and_then(|record| record.string_ref()) {
        None => Ok(None),
        Some(value) => with_text(value, LongDouble::parse).map(Some).ok_or(error::NOT_A_FLOAT),
    }
}

/// A floating-point argument.
pub fn float(text: &[u8]) -> CommandResult<LongDouble> {
    LongDouble::parse(text).ok_or(error::NOT_A_FLOAT)
}

fn incrbyfloat(ctx: &mut KeyContext<'_>, args: Args<'_>) -> Result<KeyFlow, CommandError> {
    let key = &args[1];
    let old = float_at(&mut ctx.keys, key)?.unwrap_or(LongDouble::ZERO);
    let new = old + float(&args[2])?;
    if !new.is_finite() {
        return Err(error::NAN_OR_INFINITY);
    }
    let text = new.text();
    ctx.keys.set_string(key, text.as_bytes(), NewExpiry::Keep);
    ctx.keys.touch(key, EventClasses::STRING, "incrbyfloat");
    // The sum goes out, not the summand, so that another machine's arithmetic cannot come to another result.
    ctx.keys.propagate_as(&[b"SET", key, text.as_bytes(), b"KEEPTTL"]);
    ctx.reply.bulk(text.as_bytes());
    Ok(KeyFlow::Done)
}
