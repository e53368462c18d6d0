//! EXPIRE and its kin: setting, reading and removing the expiry of keys.

use super::args::{self, TimeBase, TimeUnit};
use super::context::{KeyContext, KeyFlow};
use super::effects::EventClasses;
use super::error::{CommandError, CommandResult};
use super::keyspec::KeySpec;
use super::spec::{Group, KeyCommand, KeyHandler};
use crate::base::number::IntText;
use crate::resp::Args;

pub const COMMANDS: &[KeyCommand] = &[
    setter("expire", expire)
        .syntax("key seconds [NX | XX | GT | LT]")
        .summary("Sets the time to live of a key in seconds."),
    setter("pexpire", pexpire)
        .since("2.6.0")
        .syntax("key milliseconds [NX | XX | GT | LT]")
        .summary("Sets the time to live of a key in milliseconds."),
    setter("expireat", expireat)
        .since("1.2.0")
        .syntax("key unix-time-seconds [NX | XX | GT | LT]")
        .summary("Sets the Unix time, in seconds, at which a key expires."),
    setter("pexpireat", pexpireat)
        .since("2.6.0")
        .syntax("key unix-time-milliseconds [NX | XX | GT | LT]")
        .summary("Sets the Unix time, in milliseconds, at which a key expires."),
    reader("ttl", ttl).tips(&["nondeterministic_output"]).summary("Tells the time to live of a key in seconds."),
    reader("pttl", pttl)
        .since("2.6.0")
        .tips(&["nondeterministic_output"])
        .summary("Tells the time to live of a key in milliseconds."),
    reader("expiretime", expiretime).since("7.0.0").summary("Tells the Unix time, in seconds, at which a key expires."),
    reader("pexpiretime", pexpiretime)
        .since("7.0.0")
        .summary("Tells the Unix time, in milliseconds, at which a key expires."),
    KeyCommand::new("persist", 2, persist)
        .group(Group::Generic)
        .since("2.2.0")
        .write()
        .fast()
        .keys(WRITTEN)
        .syntax("key")
        .summary("Removes the expiry of a key.")
        .complexity("O(1)"),
];

const WRITTEN: &[KeySpec] = &[KeySpec::at(1).rw().update()];
const READ: &[KeySpec] = &[KeySpec::at(1).ro().access()];

/// What the commands that set an expiry have in common.
const fn setter(name: &'static str, handler: KeyHandler) -> KeyCommand {
    KeyCommand::new(name, -3, handler).group(Group::Generic).write().fast().keys(WRITTEN).complexity("O(1)")
}

/// What the commands that read an expiry have in common.
const fn reader(name: &'static str, handler: KeyHandler) -> KeyCommand {
    KeyCommand::new(name, 2, handler)
        .group(Group::Generic)
        .readonly()
        .fast()
        .keys(READ)
        .syntax("key")
        .complexity("O(1)")
}

fn expire(ctx: &mut KeyContext<'_>, args: Args<'_>) -> Result<KeyFlow, CommandError> {
    set_expiry(ctx, args, TimeUnit::Seconds, TimeBase::Relative, "expire")
}

fn pexpire(ctx: &mut KeyContext<'_>, args: Args<'_>) -> Result<KeyFlow, CommandError> {
    set_expiry(ctx, args, TimeUnit::Milliseconds, TimeBase::Relative, "pexpire")
}

fn expireat(ctx: &mut KeyContext<'_>, args: Args<'_>) -> Result<KeyFlow, CommandError> {
    set_expiry(ctx, args, TimeUnit::Seconds, TimeBase::Absolute, "expireat")
}

fn pexpireat(ctx: &mut KeyContext<'_>, args: Args<'_>) -> Result<KeyFlow, CommandError> {
    set_expiry(ctx, args, TimeUnit::Milliseconds, TimeBase::Absolute, "pexpireat")
}

/// NX, XX, GT, LT.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Conditions {
    nx: bool,
    xx: bool,
    gt: bool,
    lt: bool,
}

impl Conditions {
    fn parse(args: Args<'_>) -> CommandResult<Self> {
        let mut conditions = Conditions::default();
        for option in args.from(3).iter() {
            match option.to_ascii_uppercase().as_slice() {
                b"NX" => conditions.nx = true,
                b"XX" => conditions.xx = true,
                b"GT" => conditions.gt = true,
                b"LT" => conditions.lt = true,
                _ => {
                    return Err(CommandError::joined(&[b"ERR Unsupported option ", option]));
                }
            }
        }
        conditions.check()
    }

    fn check(self) -> CommandResult<Self> {
        if self.nx && (self.xx || self.gt || self.lt) {
            return Err(CommandError::fixed("ERR NX and XX, GT or LT options at the same time are not compatible"));
        }
        if self.gt && self.lt {
            return Err(CommandError::fixed("ERR GT and LT options at the same time are not compatible"));
        }
        Ok(self)
    }

    /// Whether the expiry may become `at`. A key without one counts as one that lives for ever.
    fn allow(self, current: Option<i64>, at: i64) -> bool {
        match current {
            Some(current) => !self.nx && (!self.gt || at > current) && (!self.lt || at < current),
            None => !self.xx && !self.gt,
        }
    }
}

fn set_expiry(
    ctx: &mut KeyContext<'_>,
    args: Args<'_>,
    unit: TimeUnit,
    base: TimeBase,
    command: &str,
) -> Result<KeyFlow, CommandError> {
    let conditions = Conditions::parse(args)?;
    let value = args::integer(&args[2])?;
    let at =
        args::expire_at_any(value, unit, base, ctx.keys.now_ms).ok_or_else(|| CommandError::invalid_expire(command))?;
    let key = &args[1];
    let is_allowed = ctx.keys.write(key).is_some_and(|record| conditions.allow(record.expiry(), at));
    if !is_allowed {
        ctx.reply.integer(0);
        return Ok(KeyFlow::Done);
    }
    // A replica sets a time in the past like any other, and waits for the deletion.
    if at <= ctx.keys.now_ms && !ctx.keys.is_replica() {
        delete_now(ctx, key);
    } else {
        ctx.keys.set_expiry(key, Some(at));
        propagate_time(ctx, args, at);
        ctx.keys.touch(key, EventClasses::GENERIC, "expire");
    }
    ctx.reply.integer(1);
    Ok(KeyFlow::Done)
}

/// The time has passed already: the key goes, and the stream says so.
fn delete_now(ctx: &mut KeyContext<'_>, key: &[u8]) {
    ctx.keys.delete(key);
    let verb: &[u8] = if ctx.keys.settings.lazy_expire { b"UNLINK" } else { b"DEL" };
    ctx.keys.propagate_as(&[verb, key]);
    ctx.keys.touch(key, EventClasses::GENERIC, "del");
}

/// Replicas and the AOF get a point in time; the options follow as they came.
fn propagate_time(ctx: &mut KeyContext<'_>, args: Args<'_>, at: i64) {
    let text = IntText::new(at);
    let mut command: Vec<&[u8]> = vec![b"PEXPIREAT", &args[1], &text];
    command.extend(args.from(3).iter());
    ctx.keys.propagate_as(&command);
}

fn ttl(ctx: &mut KeyContext<'_>, args: Args<'_>) -> Result<KeyFlow, CommandError> {
    reply_expiry(ctx, args, |at, now_ms| rounded_seconds((at - now_ms).max(0)))
}

fn pttl(ctx: &mut KeyContext<'_>, args: Args<'_>) -> Result<KeyFlow, CommandError> {
    reply_expiry(ctx, args, |at, now_ms| (at - now_ms).max(0))
}

fn expiretime(ctx: &mut KeyContext<'_>, args: Args<'_>) -> Result<KeyFlow, CommandError> {
    reply_expiry(ctx, args, |at, _| rounded_seconds(at.max(0)))
}

fn pexpiretime(ctx: &mut KeyContext<'_>, args: Args<'_>) -> Result<KeyFlow, CommandError> {
    reply_expiry(ctx, args, |at, _| at.max(0))
}

/// Half a second counts as one; the farthest time does not overflow.
fn rounded_seconds(ms: i64) -> i64 {
    ms / 1000 + i64::from(ms % 1000 >= 500)
}

/// -2 without the key, -1 without an expiry.
fn reply_expiry(ctx: &mut KeyContext<'_>, args: Args<'_>, show: fn(i64, i64) -> i64) -> Result<KeyFlow, CommandError> {
    ctx.keys.no_touch = true;
    let now_ms = ctx.keys.now_ms;
    let shown = match ctx.keys.read(&args[1]) {
        None => -2,
        Some(record) => record.expiry().map_or(-1, |at| show(at, now_ms)),
    };
    ctx.reply.integer(shown);
    Ok(KeyFlow::Done)
}

fn persist(ctx: &mut KeyContext<'_>, args: Args<'_>) -> Result<KeyFlow, CommandError> {
    let key = &args[1];
    let had_expiry = ctx.keys.write(key).is_some_and(|record| record.expiry().is_some());
    if had_expiry {
        ctx.keys.set_expiry(key, None);
        ctx.keys.touch(key, EventClasses::GENERIC, "persist");
    }
    ctx.reply.integer(i64::from(had_expiry));
    Ok(KeyFlow::Done)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_are_rounded() {
        for (ms, seconds) in [(0, 0), (499, 0), (500, 1), (1499, 1), (i64::MAX, 9_223_372_036_854_776)] {
            assert_eq!(rounded_seconds(ms), seconds);
        }
    }
    use crate::resp::OwnedArgs;

    fn conditions(line: &str) -> CommandResult<Conditions> {
        Conditions::parse(OwnedArgs::new(line.split(' ').map(str::as_bytes)).as_args())
    }

    #[test]
    fn conditions_that_exclude_each_other() {
        for (line, fine) in [
            ("EXPIRE k 1", true),
            ("EXPIRE k 1 xx gt", true),
            ("EXPIRE k 1 XX LT", true),
            ("EXPIRE k 1 NX GT", false),
            ("EXPIRE k 1 nx xx", false),
            ("EXPIRE k 1 GT LT", false),
            ("EXPIRE k 1 AB", false),
        ] {
            assert_eq!(conditions(line).is_ok(), fine, "{line}");
        }
    }

    #[test]
    fn a_key_without_expiry_lives_for_ever() {
        for (line, current, allowed) in [
            ("E k 1 NX", None, true),
            ("E k 1 NX", Some(5), false),
            ("E k 1 XX", None, false),
            ("E k 1 XX", Some(5), true),
            ("E k 1 GT", None, false),
            ("E k 1 GT", Some(9), true),
            ("E k 1 GT", Some(10), false),
            ("E k 1 LT", None, true),
            ("E k 1 LT", Some(11), true),
            ("E k 1 LT", Some(10), false),
            ("E k 1 XX LT", None, false),
        ] {
            assert_eq!(conditions(line).expect("fine").allow(current, 10), allowed, "{line} {current:?}");
        }
    }
}
