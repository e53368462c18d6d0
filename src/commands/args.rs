//! Reading arguments: numbers and options with Redis's errors.

use super::error::{self, CommandError, CommandResult};
use crate::base::number::parse_i64;
use crate::resp::Args;

#[inline]
pub fn integer(text: &[u8]) -> CommandResult<i64> {
    parse_i64(text).ok_or(error::NOT_AN_INTEGER)
}

/// An integer of C's `int`.
pub fn int(text: &[u8]) -> CommandResult<i64> {
    let bounds = i64::from(i32::MIN)..=i64::from(i32::MAX);
    let value = integer(text)?;
    if bounds.contains(&value) { Ok(value) } else { Err(error::NOT_AN_INT) }
}

/// An integer within bounds, or the given error.
pub fn integer_in(text: &[u8], bounds: std::ops::RangeInclusive<i64>, otherwise: CommandError) -> CommandResult<i64> {
    parse_i64(text).filter(|value| bounds.contains(value)).ok_or(otherwise)
}

/// Unit of a time argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeUnit {
    Seconds,
    Milliseconds,
}

/// Origin of a time argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeBase {
    Relative,
    Absolute,
}

/// A time to live or a point in time as milliseconds since the epoch; zero, negative and overflowing ones are refused
/// where the command does not allow them (`command` names it in the error).
pub fn expire_at(text: &[u8], unit: TimeUnit, base: TimeBase, now_ms: i64, command: &str) -> CommandResult<i64> {
    let value = integer(text)?;
    if value <= 0 {
        return Err(CommandError::invalid_expire(command));
    }
    expire_at_any(value, unit, base, now_ms).ok_or_else(|| CommandError::invalid_expire(command))
}

/// The same for a parsed value of either sign; nothing on overflow.
pub fn expire_at_any(value: i64, unit: TimeUnit, base: TimeBase, now_ms: i64) -> Option<i64> {
    let ms = match unit {
        TimeUnit::Seconds => value.checked_mul(1000)?,
        TimeUnit::Milliseconds => value,
    };
    match base {
        TimeBase::Relative => ms.checked_add(now_ms),
        TimeBase::Absolute => Some(ms),
    }
}

/// The argument behind an option, or a syntax error.
#[inline]
pub fn value_of<'a>(args: Args<'a>, index: usize) -> CommandResult<&'a [u8]> {
    args.get(index).ok_or(error::SYNTAX)
}
