//! Reading arguments: numbers and options with Redis's errors.

use super::error::{self, CommandError, CommandResult};
use crate::base::number::{parse_f64, parse_f64_unbounded, parse_i64};
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

#[inline]
pub fn float(text: &[u8]) -> CommandResult<f64> {
    parse_f64(text).ok_or(error::NOT_A_FLOAT)
}

/// The timeout of a blocking command, in seconds with a fraction, as milliseconds; zero waits for ever.
pub fn timeout_ms(text: &[u8]) -> CommandResult<Option<u64>> {
    let seconds = parse_f64_unbounded(text).ok_or(error::TIMEOUT_NOT_A_FLOAT)?;
    let ms = (seconds * 1000.0).ceil();
    // Redis 7.0 wraps a number of milliseconds that no 64-bit integer holds into a negative one, and clients see its error.
    if ms < 0.0 || ms >= i64::MAX as f64 {
        return Err(error::TIMEOUT_NEGATIVE);
    }
    Ok(Some(ms as u64).filter(|ms| *ms > 0))
}

/// `numkeys key [key ...]`: the indexes of the keys, and the index behind them, where something must follow.
pub fn numkeys(args: Args<'_>, count_at: usize) -> CommandResult<(std::ops::Range<usize>, usize)> {
    let count = integer_in(value_of(args, count_at)?, 1..=i64::MAX, error::NUMKEYS_NOT_POSITIVE)?;
    let first = count_at + 1;
    let next = usize::try_from(count).ok().and_then(|count| first.checked_add(count)).filter(|next| *next < args.len());
    let next = next.ok_or(error::SYNTAX)?;
    Ok((first..next, next))
}

/// `[COUNT count]` of LMPOP and ZMPOP, from an argument to the end.
pub fn pop_count(args: Args<'_>, mut index: usize) -> CommandResult<usize> {
    let mut count = None;
    while index < args.len() {
        if count.is_some() || !args.is(index, "COUNT") || index + 1 == args.len() {
            return Err(error::SYNTAX);
        }
        count = Some(integer_in(&args[index + 1], 1..=i64::MAX, error::COUNT_NOT_POSITIVE)?);
        index += 2;
    }
    Ok(count.unwrap_or(1) as usize)
}

/// The argument behind an option, or a syntax error.
#[inline]
pub fn value_of<'a>(args: Args<'a>, index: usize) -> CommandResult<&'a [u8]> {
    args.get(index).ok_or(error::SYNTAX)
}
