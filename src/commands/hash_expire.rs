//! Expiry of fields: HEXPIRE and its kin set it, HTTL and its kin tell it, HPERSIST removes it.
//!
//! Each field gets an answer of its own. What goes to the stream is absolute and names only the fields that took it:
//! HPEXPIREAT for those with a new expiry, HDEL for those whose new expiry had passed already.

use super::args::{self, TimeBase, TimeUnit};
use super::context::{KeyContext, KeyFlow, Keys};
use super::effects::EventClasses;
use super::error::{CommandError, CommandResult};
use super::keyspec::KeySpec;
use super::spec::{Group, KeyCommand};
use crate::base::number::IntText;
use crate::engine::hash::Hash;
use crate::engine::hash_expiry::MAX_EXPIRY;
use crate::engine::keyspace::OnExpired;
use crate::resp::Args;

pub const COMMANDS: &[KeyCommand] = &[
    expire("hexpire", hexpire, "key seconds [NX | XX | GT | LT] FIELDS numfields field [field ...]")
        .summary("Sets in how many seconds fields of a hash expire."),
    expire("hpexpire", hpexpire, "key milliseconds [NX | XX | GT | LT] FIELDS numfields field [field ...]")
        .summary("Sets in how many milliseconds fields of a hash expire."),
    expire("hexpireat", hexpireat, "key unix-time-seconds [NX | XX | GT | LT] FIELDS numfields field [field ...]")
        .summary("Sets the second of Unix time at which fields of a hash expire."),
    expire(
        "hpexpireat",
        hpexpireat,
        "key unix-time-milliseconds [NX | XX | GT | LT] FIELDS numfields field [field ...]",
    )
    .summary("Sets the millisecond of Unix time at which fields of a hash expire."),
    ttl("httl", httl).summary("Tells in how many seconds fields of a hash expire."),
    ttl("hpttl", hpttl).summary("Tells in how many milliseconds fields of a hash expire."),
    ttl("hexpiretime", hexpiretime).summary("Tells the second of Unix time at which fields of a hash expire."),
    ttl("hpexpiretime", hpexpiretime).summary("Tells the millisecond of Unix time at which fields of a hash expire."),
    KeyCommand::new("hpersist", -5, hpersist)
        .since("7.4.0")
        .group(Group::Hash)
        .write()
        .fast()
        .keys(&[KeySpec::at(1).rw().update()])
        .syntax("key FIELDS numfields field [field ...]")
        .summary("Keeps fields of a hash from expiring.")
        .complexity("O(N) where N is the number of specified fields"),
];

type Handler = super::spec::KeyHandler;

const CHANGED: &[KeySpec] = &[KeySpec::at(1).rw().update()];
const READ: &[KeySpec] = &[KeySpec::at(1).ro().access()];

const fn expire(name: &'static str, handler: Handler, syntax: &'static str) -> KeyCommand {
    KeyCommand::new(name, -6, handler)
        .since("7.4.0")
        .group(Group::Hash)
        .write()
        .denyoom()
        .fast()
        .keys(CHANGED)
        .syntax(syntax)
        .complexity("O(N) where N is the number of specified fields")
}

const fn ttl(name: &'static str, handler: Handler) -> KeyCommand {
    KeyCommand::new(name, -5, handler)
        .since("7.4.0")
        .group(Group::Hash)
        .readonly()
        .fast()
        .tips(&["nondeterministic_output"])
        .keys(READ)
        .syntax("key FIELDS numfields field [field ...]")
        .complexity("O(N) where N is the number of specified fields")
}

/// The latest expiry that commands accept: Redis keeps two bits of its 48 in reserve.
pub const LATEST_EXPIRY: i64 = MAX_EXPIRY >> 2;

/// Answers for one field.
const NO_FIELD: i64 = -2;
const NO_EXPIRY: i64 = -1;
const CONDITION_NOT_MET: i64 = 0;
const DONE: i64 = 1;
const DELETED: i64 = 2;

const FIELDS_MISSING: CommandError =
    CommandError::fixed("ERR Mandatory argument FIELDS is missing or not at the right position");
const NUMFIELDS_TOO_SMALL: CommandError = CommandError::fixed("ERR Parameter `numFields` should be greater than 0");
const NUMFIELDS_NOT_POSITIVE: CommandError = CommandError::fixed("ERR Number of fields must be a positive integer");
const NUMFIELDS_MISMATCH: CommandError =
    CommandError::fixed("ERR The `numfields` parameter must match the number of arguments");
const EXPIRE_NEGATIVE: CommandError = CommandError::fixed("ERR invalid expire time, must be >= 0");

/// When a new expiry is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Condition {
    Always,
    /// NX: there is none yet.
    Absent,
    /// XX: there is one.
    Present,
    /// GT: the new one is later; none counts as never.
    Later,
    /// LT: the new one is earlier.
    Earlier,
}

impl Condition {
    fn parse(args: Args<'_>, index: usize) -> Option<Self> {
        [("NX", Self::Absent), ("XX", Self::Present), ("GT", Self::Later), ("LT", Self::Earlier)]
            .into_iter()
            .find_map(|(word, condition)| args.is(index, word).then_some(condition))
    }

    fn admits(self, old: Option<i64>, new: i64) -> bool {
        match self {
            Condition::Always => true,
            Condition::Absent => old.is_none(),
            Condition::Present => old.is_some(),
            Condition::Later => old.is_some_and(|old| new > old),
            Condition::Earlier => old.is_none_or(|old| new < old),
        }
    }
}

/// The fields behind `FIELDS numfields`, which must end the command.
pub fn fields_at<'a>(args: Args<'a>, index: usize) -> CommandResult<Args<'a>> {
    fields_behind(args, index, 1, NUMFIELDS_NOT_POSITIVE)
}

/// The same, each field being `each` arguments.
pub fn fields_behind<'a>(
    args: Args<'a>,
    index: usize,
    each: usize,
    too_small: CommandError,
) -> CommandResult<Args<'a>> {
    if !args.is(index, "FIELDS") {
        return Err(FIELDS_MISSING);
    }
    let count = args.get(index + 1).unwrap_or_default();
    let count = args::integer_in(count, 1..=i64::MAX, too_small)?;
    let fields = args.from(index + 2);
    if usize::try_from(count).ok().and_then(|count| count.checked_mul(each)) != Some(fields.len()) {
        return Err(NUMFIELDS_MISMATCH);
    }
    Ok(fields)
}

/// An expiry of fields as milliseconds of Unix time.
pub fn field_expiry(text: &[u8], unit: TimeUnit, base: TimeBase, now_ms: i64, command: &str) -> CommandResult<i64> {
    let value = args::integer(text)?;
    if value < 0 {
        return Err(EXPIRE_NEGATIVE);
    }
    args::expire_at_any(value, unit, base, now_ms)
        .filter(|at| *at <= LATEST_EXPIRY)
        .ok_or_else(|| CommandError::invalid_expire(command))
}

/// What became of the fields of one command.
#[derive(Default)]
pub struct Outcome<'a> {
    pub updated: Vec<&'a [u8]>,
    pub deleted: Vec<&'a [u8]>,
}

/// Gives a field an expiry, or removes it if that has passed; on a replica and while loading it is left to the stream.
pub fn set_field_expiry<'a>(
    hash: &mut Hash,
    field: &'a [u8],
    expires_at: i64,
    now: i64,
    on_expired: OnExpired,
    outcome: &mut Outcome<'a>,
) -> i64 {
    if expires_at <= now && on_expired == OnExpired::Remove {
        hash.remove(field);
        outcome.deleted.push(field);
        return DELETED;
    }
    hash.set_expiry(field, Some(expires_at.max(1)));
    outcome.updated.push(field);
    DONE
}

impl Outcome<'_> {
    pub fn is_empty(&self) -> bool {
        self.updated.is_empty() && self.deleted.is_empty()
    }

    /// Publishes the outcome: events, stream, and the end of a key that has lost its last field. `changed` names the event of
    /// fields that stayed.
    pub fn publish(&self, keys: &mut Keys<'_>, key: &[u8], changed: &'static str) {
        keys.effects.dirty += (self.updated.len() + self.deleted.len()) as u64 - 1;
        keys.modified(key);
        keys.review_field_expiry(key);
        if !self.updated.is_empty() {
            keys.notify(key, EventClasses::HASH, changed);
        }
        if !self.deleted.is_empty() {
            keys.notify(key, EventClasses::HASH, "hexpired");
            keys.stats.expired_fields.add(self.deleted.len() as u64);
            if keys.hash_in_place(key).is_some_and(|hash| hash.is_empty()) {
                keys.remove_emptied(key);
            }
        }
    }

    /// HDEL of the fields that went and HPEXPIREAT of those that stayed.
    pub fn propagate(&self, keys: &mut Keys<'_>, key: &[u8], expires_at: i64) {
        if !self.deleted.is_empty() {
            keys.propagate_as(&[&[b"HDEL".as_slice(), key], self.deleted.as_slice()].concat());
        }
        if !self.updated.is_empty() {
            let (at, count) = (IntText::new(expires_at), IntText::new(self.updated.len() as i64));
            let head = [b"HPEXPIREAT".as_slice(), key, &at, b"FIELDS", &count];
            keys.propagate_as(&[&head, self.updated.as_slice()].concat());
        }
    }
}

fn hexpire(ctx: &mut KeyContext<'_>, args: Args<'_>) -> Result<KeyFlow, CommandError> {
    set_expiry(ctx, args, TimeUnit::Seconds, TimeBase::Relative, "hexpire")
}

fn hpexpire(ctx: &mut KeyContext<'_>, args: Args<'_>) -> Result<KeyFlow, CommandError> {
    set_expiry(ctx, args, TimeUnit::Milliseconds, TimeBase::Relative, "hpexpire")
}

fn hexpireat(ctx: &mut KeyContext<'_>, args: Args<'_>) -> Result<KeyFlow, CommandError> {
    set_expiry(ctx, args, TimeUnit::Seconds, TimeBase::Absolute, "hexpireat")
}

fn hpexpireat(ctx: &mut KeyContext<'_>, args: Args<'_>) -> Result<KeyFlow, CommandError> {
    set_expiry(ctx, args, TimeUnit::Milliseconds, TimeBase::Absolute, "hpexpireat")
}

fn set_expiry(
    ctx: &mut KeyContext<'_>,
    args: Args<'_>,
    unit: TimeUnit,
    base: TimeBase,
    command: &str,
) -> Result<KeyFlow, CommandError> {
    let (key, now_ms, now) = (&args[1], ctx.keys.now_ms, ctx.keys.field_now());
    let on_expired = ctx.keys.settings.on_expired;
    let hash = ctx.keys.write_live_hash(key)?;
    let expires_at = field_expiry(&args[2], unit, base, now_ms, command)?;
    let condition = Condition::parse(args, 3);
    let fields_index = 3 + usize::from(condition.is_some());
    let condition = condition.unwrap_or(Condition::Always);
    let fields = fields_behind(args, fields_index, 1, NUMFIELDS_TOO_SMALL)?;
    ctx.reply.array(fields.len());
    let Some(hash) = hash else {
        fields.iter().for_each(|_| ctx.reply.integer(NO_FIELD));
        return Ok(KeyFlow::Done);
    };
    let mut outcome = Outcome::default();
    for field in fields.iter() {
        let answer = match hash.find(field).filter(|entry| !entry.is_expired(now)) {
            None => NO_FIELD,
            Some(entry) if !condition.admits(entry.expires_at, expires_at) => CONDITION_NOT_MET,
            Some(_) => set_field_expiry(hash, field, expires_at, now_ms, on_expired, &mut outcome),
        };
        ctx.reply.integer(answer);
    }
    if !outcome.is_empty() {
        outcome.publish(&mut ctx.keys, key, "hexpire");
        outcome.propagate(&mut ctx.keys, key, expires_at);
    }
    Ok(KeyFlow::Done)
}

fn httl(ctx: &mut KeyContext<'_>, args: Args<'_>) -> Result<KeyFlow, CommandError> {
    tell_expiry(ctx, args, TimeUnit::Seconds, TimeBase::Relative)
}

fn hpttl(ctx: &mut KeyContext<'_>, args: Args<'_>) -> Result<KeyFlow, CommandError> {
    tell_expiry(ctx, args, TimeUnit::Milliseconds, TimeBase::Relative)
}

fn hexpiretime(ctx: &mut KeyContext<'_>, args: Args<'_>) -> Result<KeyFlow, CommandError> {
    tell_expiry(ctx, args, TimeUnit::Seconds, TimeBase::Absolute)
}

fn hpexpiretime(ctx: &mut KeyContext<'_>, args: Args<'_>) -> Result<KeyFlow, CommandError> {
    tell_expiry(ctx, args, TimeUnit::Milliseconds, TimeBase::Absolute)
}

fn tell_expiry(
    ctx: &mut KeyContext<'_>,
    args: Args<'_>,
    unit: TimeUnit,
    base: TimeBase,
) -> Result<KeyFlow, CommandError> {
    let (now_ms, now) = (ctx.keys.now_ms, ctx.keys.field_now());
    let hash = ctx.keys.read_hash(&args[1])?;
    let fields = fields_at(args, 2)?;
    ctx.reply.array(fields.len());
    for field in fields.iter() {
        let entry = hash.and_then(|hash| hash.find(field)).filter(|entry| !entry.is_expired(now));
        let answer = match entry.map(|entry| entry.expires_at) {
            None => NO_FIELD,
            Some(None) => NO_EXPIRY,
            Some(Some(at)) => {
                let ms = if base == TimeBase::Relative { (at - now_ms).max(0) } else { at };
                // Seconds are rounded up: a field with any time left has one second.
                if unit == TimeUnit::Seconds { (ms + 999) / 1000 } else { ms }
            }
        };
        ctx.reply.integer(answer);
    }
    Ok(KeyFlow::Done)
}

fn hpersist(ctx: &mut KeyContext<'_>, args: Args<'_>) -> Result<KeyFlow, CommandError> {
    let (key, now) = (&args[1], ctx.keys.field_now());
    let hash = ctx.keys.write_live_hash(key)?;
    let fields = fields_at(args, 2)?;
    ctx.reply.array(fields.len());
    let Some(hash) = hash else {
        fields.iter().for_each(|_| ctx.reply.integer(NO_FIELD));
        return Ok(KeyFlow::Done);
    };
    let mut persisted = 0;
    for field in fields.iter() {
        let entry = hash.find(field).filter(|entry| !entry.is_expired(now));
        let answer = match entry.map(|entry| entry.expires_at) {
            None => NO_FIELD,
            Some(None) => NO_EXPIRY,
            Some(Some(_)) => {
                hash.set_expiry(field, None);
                persisted += 1;
                DONE
            }
        };
        ctx.reply.integer(answer);
    }
    if persisted > 0 {
        ctx.keys.effects.dirty += persisted - 1;
        ctx.keys.review_field_expiry(key);
        ctx.keys.touch(key, EventClasses::HASH, "hpersist");
    }
    Ok(KeyFlow::Done)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_expiry_counts_as_never() {
        for (condition, none, earlier, later) in [
            (Condition::Always, true, true, true),
            (Condition::Absent, true, false, false),
            (Condition::Present, false, true, true),
            (Condition::Later, false, true, false),
            (Condition::Earlier, true, false, true),
        ] {
            let admitted = [None, Some(10), Some(30)].map(|old| condition.admits(old, 20));
            assert_eq!(admitted, [none, earlier, later], "{condition:?}");
            assert!(!matches!(condition, Condition::Later | Condition::Earlier) || !condition.admits(Some(20), 20));
        }
    }

    #[test]
    fn the_latest_expiry_has_46_bits() {
        let at = |ms: i64| field_expiry(&IntText::new(ms), TimeUnit::Milliseconds, TimeBase::Absolute, 0, "x");
        assert_eq!(at((1 << 46) - 1), Ok((1 << 46) - 1));
        assert!(at(1 << 46).is_err());
        let relative = |text: &[u8]| field_expiry(text, TimeUnit::Seconds, TimeBase::Relative, 1000, "x");
        assert_eq!(relative(b"0"), Ok(1000));
        assert_eq!(relative(b"-1"), Err(EXPIRE_NEGATIVE));
        assert!(relative(b"9223372036854775807").is_err());
    }
}
