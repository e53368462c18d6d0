//! INCREX: a counter with bounds and an expiry in one command (redis.io, "INCREX").

use super::args::{self, TimeBase};
use super::context::{KeyContext, KeyFlow};
use super::counter::{float_at, integer_at};
use super::effects::EventClasses;
use super::error::{self, CommandError, CommandResult};
use super::keyspec::KeySpec;
use super::spec::{Group, KeyCommand};
use super::string::delete_elapsed;
use super::string_set::TimeOption;
use crate::base::long_double::LongDouble;
use crate::base::number::{IntText, parse_i64};
use crate::engine::keyspace::NewExpiry;
use crate::resp::{Args, Reply};

pub const COMMANDS: &[KeyCommand] = &[KeyCommand::new("increx", -2, increx)
    .since("8.8.0")
    .group(Group::String)
    .write()
    .denyoom()
    .fast()
    .keys(&[KeySpec::at(1).rw().access().update()])
    .syntax(concat!(
        "key [BYFLOAT increment | BYINT increment] [LBOUND lowerbound] [UBOUND upperbound] [SATURATE] ",
        "[EX seconds | PX milliseconds | EXAT unix-time-seconds | PXAT unix-time-milliseconds | PERSIST] [ENX]"
    ))
    .summary("Adds to the number at a key within bounds and sets its expiry.")
    .complexity("O(1)")];

/// What to add, and between which bounds the sum must lie.
enum Step {
    Integer { by: i64, low: i64, high: i64 },
    Float { by: LongDouble, low: LongDouble, high: LongDouble },
}

/// A counter of either kind.
enum Number {
    Integer(i64),
    Float(LongDouble),
}

/// What the command comes to: the new number and what was added, or nothing if the bounds forbid it.
struct Sum {
    value: Number,
    added: Number,
    is_allowed: bool,
}

#[derive(Default)]
struct Options<'a> {
    by_int: Option<&'a [u8]>,
    by_float: Option<&'a [u8]>,
    low: Option<&'a [u8]>,
    high: Option<&'a [u8]>,
    saturate: bool,
    time: Option<TimeOption<'a>>,
    persist: bool,
    only_without_expiry: bool,
}

impl Number {
    fn text(&self) -> Vec<u8> {
        match self {
            Number::Integer(value) => IntText::new(*value).to_vec(),
            Number::Float(value) => value.text().into_bytes(),
        }
    }

    fn write(&self, reply: &mut Reply) {
        match self {
            Number::Integer(value) => reply.integer(*value),
            Number::Float(value) => reply.double_text(value.text().as_bytes()),
        }
    }

    fn event(&self) -> &'static str {
        match self {
            Number::Integer(_) => "incrby",
            Number::Float(_) => "incrbyfloat",
        }
    }
}

fn increx(ctx: &mut KeyContext<'_>, args: Args<'_>) -> Result<KeyFlow, CommandError> {
    let key = &args[1];
    let options = Options::parse(args)?;
    let step = options.step()?;
    let now_ms = ctx.keys.now_ms;
    let at = options.time.map(|time| time.at(now_ms, "increx").map(|at| (at, time.base))).transpose()?;
    let sum = match step {
        Step::Integer { by, low, high } => {
            add_integer(integer_at(&mut ctx.keys, key)?.unwrap_or(0), by, low, high, options.saturate)?
        }
        Step::Float { by, low, high } => {
            add_float(float_at(&mut ctx.keys, key)?.unwrap_or(LongDouble::ZERO), by, low, high, options.saturate)?
        }
    };
    if sum.is_allowed {
        store(ctx, key, &options, &sum.value, at);
    }
    ctx.reply.array(2);
    sum.value.write(ctx.reply);
    sum.added.write(ctx.reply);
    Ok(KeyFlow::Done)
}

fn store(ctx: &mut KeyContext<'_>, key: &[u8], options: &Options<'_>, value: &Number, at: Option<(i64, TimeBase)>) {
    let keys = &mut ctx.keys;
    let had_expiry = keys.peek(key).is_some_and(|record| record.expiry().is_some());
    let at = at.filter(|_| !(options.only_without_expiry && had_expiry));
    let text = value.text();
    if let Some((at, TimeBase::Absolute)) = at
        && at <= keys.now_ms
        && !keys.is_replica()
    {
        if !keys.exists(key) {
            keys.propagate_nothing();
            return;
        }
        return delete_elapsed(keys, key);
    }
    let expiry = match at {
        Some((at, _)) => NewExpiry::At(at),
        None if options.persist => NewExpiry::Clear,
        None => NewExpiry::Keep,
    };
    keys.set_string(key, &text, expiry);
    keys.touch(key, EventClasses::STRING, value.event());
    match expiry {
        NewExpiry::At(at) => {
            keys.notify(key, EventClasses::GENERIC, "expire");
            keys.propagate_as(&[b"SET", key, &text, b"PXAT", &IntText::new(at)]);
        }
        NewExpiry::Clear => {
            if had_expiry {
                keys.notify(key, EventClasses::GENERIC, "persist");
            }
            keys.propagate_as(&[b"SET", key, &text]);
        }
        NewExpiry::Keep => keys.propagate_as(&[b"SET", key, &text, b"KEEPTTL"]),
    }
}

fn add_integer(old: i64, by: i64, low: i64, high: i64, saturate: bool) -> CommandResult<Sum> {
    let exact = i128::from(old) + i128::from(by);
    let bounded = exact.clamp(i128::from(low), i128::from(high)) as i64;
    if i128::from(bounded) == exact {
        return Ok(Sum { value: Number::Integer(bounded), added: Number::Integer(by), is_allowed: true });
    }
    if !saturate {
        return Ok(Sum { value: Number::Integer(old), added: Number::Integer(0), is_allowed: false });
    }
    let added = bounded.checked_sub(old).ok_or(CommandError::fixed("ERR applied increment would overflow"))?;
    Ok(Sum { value: Number::Integer(bounded), added: Number::Integer(added), is_allowed: true })
}

fn add_float(old: LongDouble, by: LongDouble, low: LongDouble, high: LongDouble, saturate: bool) -> CommandResult<Sum> {
    if !old.is_finite() {
        return Err(CommandError::fixed("ERR value cannot be Infinity"));
    }
    let exact = old + by;
    let bounded = if exact > high {
        high
    } else if exact < low {
        low
    } else {
        return Ok(Sum { value: Number::Float(exact), added: Number::Float(by), is_allowed: true });
    };
    if !saturate {
        return Ok(Sum { value: Number::Float(old), added: Number::Float(LongDouble::ZERO), is_allowed: false });
    }
    let added = bounded - old;
    if !added.is_finite() {
        return Err(CommandError::fixed("ERR applied increment would produce Infinity"));
    }
    Ok(Sum { value: Number::Float(bounded), added: Number::Float(added), is_allowed: true })
}

impl<'a> Options<'a> {
    /// Each option at most once; the increments and the ways to expire exclude each other.
    fn parse(args: Args<'a>) -> CommandResult<Self> {
        let mut options = Options::default();
        let mut index = 2;
        while index < args.len() {
            let value = args.get(index + 1);
            let has_increment = options.by_int.is_some() || options.by_float.is_some();
            let has_expiry = options.time.is_some() || options.persist;
            let taken = if args.is(index, "SATURATE") && !options.saturate {
                options.saturate = true;
                1
            } else if args.is(index, "ENX") && !options.only_without_expiry && !options.persist {
                options.only_without_expiry = true;
                1
            } else if args.is(index, "PERSIST") && !has_expiry && !options.only_without_expiry {
                options.persist = true;
                1
            } else if let Some(time) = TimeOption::parse(args, index).filter(|_| !has_expiry) {
                options.time = Some(time);
                2
            } else {
                let slot = if args.is(index, "BYINT") && !has_increment {
                    &mut options.by_int
                } else if args.is(index, "BYFLOAT") && !has_increment {
                    &mut options.by_float
                } else if args.is(index, "LBOUND") && options.low.is_none() {
                    &mut options.low
                } else if args.is(index, "UBOUND") && options.high.is_none() {
                    &mut options.high
                } else {
                    return Err(error::SYNTAX);
                };
                *slot = Some(value.ok_or(error::SYNTAX)?);
                2
            };
            index += taken;
        }
        if options.only_without_expiry && options.time.is_none() {
            return Err(CommandError::fixed("ERR ENX flag requires an expiration (EX/PX/EXAT/PXAT)"));
        }
        Ok(options)
    }

    fn step(&self) -> CommandResult<Step> {
        let crossed = CommandError::fixed("ERR LBOUND can't be greater than UBOUND");
        if let Some(by) = self.by_float {
            let by = LongDouble::parse(by).ok_or(CommandError::fixed("ERR Increment is not a valid float"))?;
            if !by.is_finite() {
                return Err(CommandError::fixed("ERR BYFLOAT increment cannot be Infinity"));
            }
            let bound = |text: Option<&[u8]>, otherwise: LongDouble| match text {
                None => Ok(otherwise),
                Some(text) => LongDouble::parse(text)
                    .filter(|bound| bound.is_finite())
                    .ok_or(CommandError::fixed("ERR bound is not a valid float")),
            };
            let (low, high) = (bound(self.low, -LongDouble::MAX)?, bound(self.high, LongDouble::MAX)?);
            return if low > high { Err(crossed) } else { Ok(Step::Float { by, low, high }) };
        }
        let by = match self.by_int {
            None => 1,
            Some(text) => {
                parse_i64(text).ok_or(CommandError::fixed("ERR Increment is not an integer or out of range"))?
            }
        };
        let bound = |text: Option<&[u8]>, otherwise| text.map_or(Ok(otherwise), args::integer);
        let (low, high) = (bound(self.low, i64::MIN)?, bound(self.high, i64::MAX)?);
        if low > high { Err(crossed) } else { Ok(Step::Integer { by, low, high }) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn integers(old: i64, by: i64, low: i64, high: i64, saturate: bool) -> Option<(i64, i64, bool)> {
        match add_integer(old, by, low, high, saturate).ok()? {
            Sum { value: Number::Integer(value), added: Number::Integer(added), is_allowed } => {
                Some((value, added, is_allowed))
            }
            _ => None,
        }
    }

    #[test]
    fn bounds_refuse_or_saturate() {
        assert_eq!(integers(10, 5, i64::MIN, 100, false), Some((15, 5, true)));
        assert_eq!(integers(10, 10, i64::MIN, 15, false), Some((10, 0, false)));
        assert_eq!(integers(10, 10, i64::MIN, 15, true), Some((15, 5, true)));
        assert_eq!(integers(50, 5, i64::MIN, 30, true), Some((30, -20, true)));
        assert_eq!(integers(50, -25, i64::MIN, 30, false), Some((25, -25, true)));
        assert_eq!(integers(i64::MAX - 7, i64::MAX, i64::MIN, i64::MAX, true), Some((i64::MAX, 7, true)));
        assert_eq!(integers(i64::MAX - 7, 1, i64::MIN, i64::MIN, true), None);
    }
}
