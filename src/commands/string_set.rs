//! SET, GETEX and MSETEX with their options; DIGEST, DELEX and DELIFEQ, which compare before they act.

use super::args::{self, TimeBase, TimeUnit};
use super::context::{KeyContext, KeyFlow, Keys};
use super::effects::EventClasses;
use super::error::{self, CommandError, CommandResult};
use super::keyspec::{Find, KeyFlags, KeySpec};
use super::spec::{Group, KeyCommand};
use super::string::{delete_as, delete_elapsed, reply_value, user_deletion, with_text};
use crate::base::hash::xxh3;
use crate::base::number::{IntText, parse_i64};
use crate::engine::keyspace::NewExpiry;
use crate::engine::value::StringRef;
use crate::resp::Args;

pub const COMMANDS: &[KeyCommand] = &[
    KeyCommand::new("set", -3, set)
        .group(Group::String)
        .write()
        .denyoom()
        .keys(&[KeySpec::at(1).rw().access().update().variable_flags()
            .notes("RW and ACCESS due to the optional `GET` argument")])
        .flags_by_use(set_flags)
        .syntax("key value [NX | XX | IFEQ ifeq-value | IFNE ifne-value | IFDEQ ifdeq-digest | IFDNE ifdne-digest] [GET] [EX seconds | PX milliseconds | EXAT unix-time-seconds | PXAT unix-time-milliseconds | KEEPTTL]")
        .summary("Sets a key to a string, whatever it held before.")
        .complexity("O(1)"),
    KeyCommand::new("getex", -2, getex)
        .since("6.2.0")
        .group(Group::String)
        .write()
        .fast()
        .keys(&[KeySpec::at(1).rw().access().update().notes("RW and UPDATE because it changes the TTL")])
        .syntax("key [EX seconds | PX milliseconds | EXAT unix-time-seconds | PXAT unix-time-milliseconds | PERSIST]")
        .summary("Returns the string at a key and sets or removes its expiry.")
        .complexity("O(1)"),
    KeyCommand::new("msetex", -4, msetex)
        .since("8.4.0")
        .group(Group::String)
        .write()
        .denyoom()
        .tips(&["request_policy:multi_shard", "response_policy:all_succeeded"])
        .keys(&[KeySpec::counted(1).find(Find::Count { count_at: 0, first: 1, step: 2 }).ow().update()])
        .flag(super::flags::Flags::MOVABLE_KEYS)
        .syntax("numkeys key value [key value ...] [NX | XX] [EX seconds | PX milliseconds | EXAT unix-time-seconds | PXAT unix-time-milliseconds | KEEPTTL]")
        .summary("Sets several keys to strings at once, with one expiry for all.")
        .complexity("O(N) where N is the number of keys"),
    KeyCommand::new("digest", 2, digest)
        .since("8.4.0")
        .group(Group::String)
        .readonly()
        .fast()
        .keys(&[KeySpec::at(1).ro().access()])
        .syntax("key")
        .summary("Returns the XXH3 digest of the string at a key in hexadecimal.")
        .complexity("O(N) where N is the length of the string"),
    KeyCommand::new("delex", -2, delex)
        .since("8.4.0")
        .group(Group::String)
        .write()
        .fast()
        .keys(&[KeySpec::at(1).rw().delete().variable_flags()])
        .flags_by_use(|args, _, plain| if args.len() > 2 { KeyFlags::READS_AND_DELETES } else { plain })
        .syntax("key [IFEQ ifeq-value | IFNE ifne-value | IFDEQ ifdeq-digest | IFDNE ifdne-digest]")
        .summary("Deletes a key if its string, or the digest of it, compares as asked.")
        .complexity("O(1) for IFEQ/IFNE, O(N) for IFDEQ/IFDNE where N is the length of the string"),
    KeyCommand::new("delifeq", 3, delifeq)
        .since("9.0.0")
        .group(Group::String)
        .write()
        .fast()
        .keys(&[KeySpec::at(1).rw().delete()])
        .syntax("key value")
        .summary("Deletes a key if it holds exactly this string.")
        .complexity("O(1)"),
];

/// SET tells the old value with GET, and something about it with a comparison; without these it needs no right to read.
fn set_flags(args: Args<'_>, _: usize, _: KeyFlags) -> KeyFlags {
    let tells =
        (3..args.len()).any(|index| ["GET", "IFEQ", "IFNE", "IFDEQ", "IFDNE"].iter().any(|word| args.is(index, word)));
    if tells { KeyFlags::READS_AND_CHANGES } else { KeyFlags::OVERWRITES }
}

/// What must be true of the key before the command acts.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Condition<'a> {
    Always,
    Absent,
    Present,
    Equal(&'a [u8]),
    NotEqual(&'a [u8]),
    DigestEqual(u64),
    DigestNotEqual(u64),
}

impl<'a> Condition<'a> {
    /// IFEQ and its kin with the argument behind; nothing if the word is another.
    fn parse_comparison(args: Args<'a>, index: usize) -> CommandResult<Option<Self>> {
        let Some(value) = args.get(index + 1) else { return Ok(None) };
        Ok(Some(if args.is(index, "IFEQ") {
            Condition::Equal(value)
        } else if args.is(index, "IFNE") {
            Condition::NotEqual(value)
        } else if args.is(index, "IFDEQ") {
            Condition::DigestEqual(parse_digest(value, "IFDEQ")?)
        } else if args.is(index, "IFDNE") {
            Condition::DigestNotEqual(parse_digest(value, "IFDNE")?)
        } else {
            return Ok(None);
        }))
    }

    fn compares(self) -> bool {
        !matches!(self, Condition::Always | Condition::Absent | Condition::Present)
    }

    /// Whether the key is as wanted; to compare a value that is no string is an error.
    fn holds(self, keys: &mut Keys<'_>, key: &[u8]) -> CommandResult<bool> {
        match self {
            Condition::Always => return Ok(true),
            Condition::Absent => return Ok(!keys.exists(key)),
            Condition::Present => return Ok(keys.exists(key)),
            _ => {}
        }
        let Some(record) = keys.peek(key) else {
            return Ok(matches!(self, Condition::NotEqual(_) | Condition::DigestNotEqual(_)));
        };
        let value = record.string_ref().ok_or(error::WRONG_TYPE)?;
        Ok(with_text(value, |text| match self {
            Condition::Equal(wanted) => text == wanted,
            Condition::NotEqual(unwanted) => text != unwanted,
            Condition::DigestEqual(wanted) => xxh3(text) == wanted,
            Condition::DigestNotEqual(unwanted) => xxh3(text) != unwanted,
            Condition::Always | Condition::Absent | Condition::Present => true,
        }))
    }
}

/// A digest: 16 hexadecimal digits of either case.
fn parse_digest(text: &[u8], option: &str) -> CommandResult<u64> {
    std::str::from_utf8(text)
        .ok()
        .filter(|text| text.len() == 16 && text.bytes().all(|byte| byte.is_ascii_hexdigit()))
        .and_then(|text| u64::from_str_radix(text, 16).ok())
        .ok_or_else(|| CommandError::new(format!("ERR {option} must be exactly 16 hexadecimal characters")))
}

/// EX, PX, EXAT, PXAT, as they came: the number is looked at only after every option has proved to be one.
#[derive(Clone, Copy)]
pub struct TimeOption<'a> {
    unit: TimeUnit,
    pub base: TimeBase,
    text: &'a [u8],
}

impl<'a> TimeOption<'a> {
    /// The option at an index, if it is one and has its argument.
    pub fn parse(args: Args<'a>, index: usize) -> Option<Self> {
        let (unit, base) = if args.is(index, "EX") {
            (TimeUnit::Seconds, TimeBase::Relative)
        } else if args.is(index, "PX") {
            (TimeUnit::Milliseconds, TimeBase::Relative)
        } else if args.is(index, "EXAT") {
            (TimeUnit::Seconds, TimeBase::Absolute)
        } else if args.is(index, "PXAT") {
            (TimeUnit::Milliseconds, TimeBase::Absolute)
        } else {
            return None;
        };
        args.get(index + 1).map(|text| TimeOption { unit, base, text })
    }

    /// The same option twice is no error, the last one counts; two different ones are.
    fn may_replace(&self, other: &TimeOption<'_>) -> bool {
        self.unit == other.unit && self.base == other.base
    }

    pub fn at(&self, now_ms: i64, command: &str) -> CommandResult<i64> {
        args::expire_at(self.text, self.unit, self.base, now_ms, command)
    }
}

/// The expiry options of SET and MSETEX.
#[derive(Clone, Copy, Default)]
struct Expiry<'a> {
    time: Option<TimeOption<'a>>,
    keep: bool,
}

impl<'a> Expiry<'a> {
    /// Takes the option at an index: how many arguments it is long, or nothing if it does not fit.
    fn take(&mut self, args: Args<'a>, index: usize) -> Option<usize> {
        if args.is(index, "KEEPTTL") && self.time.is_none() {
            self.keep = true;
            return Some(1);
        }
        let time = TimeOption::parse(args, index)?;
        if self.keep || self.time.is_some_and(|old| !time.may_replace(&old)) {
            return None;
        }
        self.time = Some(time);
        Some(2)
    }

    fn resolve(&self, now_ms: i64, command: &str) -> CommandResult<NewExpiry> {
        match self.time {
            Some(time) => Ok(NewExpiry::At(time.at(now_ms, command)?)),
            None if self.keep => Ok(NewExpiry::Keep),
            None => Ok(NewExpiry::Clear),
        }
    }
}

struct SetOptions<'a> {
    condition: Condition<'a>,
    expiry: Expiry<'a>,
    get: bool,
}

fn set(ctx: &mut KeyContext<'_>, args: Args<'_>) -> Result<KeyFlow, CommandError> {
    let (key, value) = (&args[1], &args[2]);
    if args.len() == 3 {
        ctx.keys.set_string(key, value, NewExpiry::Clear);
        ctx.keys.touch(key, EventClasses::STRING, "set");
        ctx.reply.ok();
        return Ok(KeyFlow::Done);
    }
    let options = set_options(args)?;
    let expiry = options.expiry.resolve(ctx.keys.now_ms, "set")?;
    if options.get {
        reply_value(ctx, key)?;
    }
    if !options.condition.holds(&mut ctx.keys, key)? {
        if !options.get {
            ctx.reply.null();
        }
        return Ok(KeyFlow::Done);
    }
    ctx.keys.set_string(key, value, expiry);
    ctx.keys.touch(key, EventClasses::STRING, "set");
    propagate_set(&mut ctx.keys, args, &options, expiry);
    if !options.get {
        ctx.reply.ok();
    }
    Ok(KeyFlow::Done)
}

/// What replicas get of a SET: an absolute time instead of a relative one, no GET, and nothing that only newer servers know.
fn propagate_set(keys: &mut Keys<'_>, args: Args<'_>, options: &SetOptions<'_>, expiry: NewExpiry) {
    let (key, value) = (&args[1], &args[2]);
    if let NewExpiry::At(at) = expiry {
        keys.notify(key, EventClasses::GENERIC, "expire");
        return keys.propagate_as(&[b"SET", key, value, b"PXAT", &IntText::new(at)]);
    }
    if options.condition.compares() {
        let kept: &[&[u8]] = if expiry == NewExpiry::Keep { &[b"KEEPTTL"] } else { &[] };
        return keys.propagate_as(&[&[b"SET", key, value], kept].concat());
    }
    if options.get {
        let kept = |(index, arg): (usize, &[u8])| index < 3 || !arg.eq_ignore_ascii_case(b"GET");
        let args: Vec<&[u8]> = args.iter().enumerate().filter(|item| kept(*item)).map(|(_, arg)| arg).collect();
        keys.propagate_as(&args);
    }
}

fn set_options(args: Args<'_>) -> CommandResult<SetOptions<'_>> {
    let mut options = SetOptions { condition: Condition::Always, expiry: Expiry::default(), get: false };
    let mut index = 3;
    while index < args.len() {
        if args.is(index, "GET") {
            options.get = true;
            index += 1;
        } else if args.is(index, "NX") && matches!(options.condition, Condition::Always | Condition::Absent) {
            options.condition = Condition::Absent;
            index += 1;
        } else if args.is(index, "XX") && matches!(options.condition, Condition::Always | Condition::Present) {
            options.condition = Condition::Present;
            index += 1;
        } else if let Some(taken) = options.expiry.take(args, index) {
            index += taken;
        } else if options.condition == Condition::Always
            && let Some(condition) = Condition::parse_comparison(args, index)?
        {
            options.condition = condition;
            index += 2;
        } else {
            return Err(error::SYNTAX);
        }
    }
    Ok(options)
}

fn getex(ctx: &mut KeyContext<'_>, args: Args<'_>) -> Result<KeyFlow, CommandError> {
    let (mut time, mut persist) = (None::<TimeOption<'_>>, false);
    let mut index = 2;
    while index < args.len() {
        if args.is(index, "PERSIST") && time.is_none() {
            persist = true;
            index += 1;
            continue;
        }
        let next = TimeOption::parse(args, index).ok_or(error::SYNTAX)?;
        if persist || time.is_some_and(|old| !next.may_replace(&old)) {
            return Err(error::SYNTAX);
        }
        time = Some(next);
        index += 2;
    }
    let key = &args[1];
    if !reply_value(ctx, key)? {
        return Ok(KeyFlow::Done);
    }
    let keys = &mut ctx.keys;
    if let Some(time) = time {
        let at = time.at(keys.now_ms, "getex")?;
        if time.base == TimeBase::Absolute && at <= keys.now_ms && !keys.is_replica() {
            delete_elapsed(keys, key);
        } else {
            keys.set_expiry(key, Some(at));
            keys.touch(key, EventClasses::GENERIC, "expire");
            keys.propagate_as(&[b"PEXPIREAT", key, &IntText::new(at)]);
        }
    } else if persist && keys.peek(key).is_some_and(|record| record.expiry().is_some()) {
        keys.set_expiry(key, None);
        keys.touch(key, EventClasses::GENERIC, "persist");
        keys.propagate_as(&[b"PERSIST", key]);
    }
    Ok(KeyFlow::Done)
}

fn msetex(ctx: &mut KeyContext<'_>, args: Args<'_>) -> Result<KeyFlow, CommandError> {
    let count = parse_i64(&args[1])
        .filter(|count| (1..=i64::from(i32::MAX)).contains(count))
        .ok_or(CommandError::fixed("ERR invalid numkeys value"))? as usize;
    let end = 2 + 2 * count;
    if end > args.len() {
        return Err(CommandError::fixed("ERR wrong number of key-value pairs"));
    }
    let (mut expiry, mut condition) = (Expiry::default(), Condition::Always);
    let mut index = end;
    while index < args.len() {
        if args.is(index, "NX") && condition != Condition::Present {
            condition = Condition::Absent;
            index += 1;
        } else if args.is(index, "XX") && condition != Condition::Absent {
            condition = Condition::Present;
            index += 1;
        } else {
            index += expiry.take(args, index).ok_or(error::SYNTAX)?;
        }
    }
    let expiry = expiry.resolve(ctx.keys.now_ms, "msetex")?;
    for pair in 0..count {
        if !condition.holds(&mut ctx.keys, &args[2 + 2 * pair])? {
            ctx.reply.integer(0);
            return Ok(KeyFlow::Done);
        }
    }
    for pair in 0..count {
        let (key, value) = (&args[2 + 2 * pair], &args[3 + 2 * pair]);
        ctx.keys.set_string(key, value, expiry);
        ctx.keys.touch(key, EventClasses::STRING, "set");
        // Servers without MSETEX understand one SET for each key just as well.
        match expiry {
            NewExpiry::At(at) => {
                ctx.keys.notify(key, EventClasses::GENERIC, "expire");
                ctx.keys.propagate_as(&[b"SET", key, value, b"PXAT", &IntText::new(at)]);
            }
            NewExpiry::Keep => ctx.keys.propagate_as(&[b"SET", key, value, b"KEEPTTL"]),
            NewExpiry::Clear => ctx.keys.propagate_as(&[b"SET", key, value]),
        }
    }
    ctx.reply.integer(1);
    Ok(KeyFlow::Done)
}

fn digest(ctx: &mut KeyContext<'_>, args: Args<'_>) -> Result<KeyFlow, CommandError> {
    let value: Option<StringRef<'_>> = ctx.keys.read_string(&args[1])?;
    match value {
        None => ctx.reply.null(),
        Some(value) => ctx.reply.bulk(format!("{:016x}", with_text(value, xxh3)).as_bytes()),
    }
    Ok(KeyFlow::Done)
}

fn delex(ctx: &mut KeyContext<'_>, args: Args<'_>) -> Result<KeyFlow, CommandError> {
    let condition = match args.len() {
        2 => Condition::Present,
        4 => Condition::parse_comparison(args, 2)?
            .ok_or(CommandError::fixed("ERR Invalid condition. Use IFEQ, IFNE, IFDEQ, or IFDNE"))?,
        _ => return Err(CommandError::wrong_arity("delex")),
    };
    delete_if(ctx, &args[1], condition)
}

fn delifeq(ctx: &mut KeyContext<'_>, args: Args<'_>) -> Result<KeyFlow, CommandError> {
    delete_if(ctx, &args[1], Condition::Equal(&args[2]))
}

fn delete_if(ctx: &mut KeyContext<'_>, key: &[u8], condition: Condition<'_>) -> Result<KeyFlow, CommandError> {
    let deleted = condition.holds(&mut ctx.keys, key)? && {
        let verb = user_deletion(&ctx.keys);
        delete_as(&mut ctx.keys, key, verb)
    };
    ctx.reply.integer(i64::from(deleted));
    Ok(KeyFlow::Done)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resp::OwnedArgs;

    fn parses(line: &str) -> bool {
        let owned = OwnedArgs::new(line.split(' ').map(str::as_bytes));
        set_options(owned.as_args()).is_ok()
    }

    #[test]
    fn options_of_set_exclude_each_other() {
        for good in ["SET k v NX GET", "SET k v EX 1 EX 2", "SET k v ifeq x GET keepttl", "SET k v XX PXAT 5 XX"] {
            assert!(parses(good), "{good}");
        }
        for bad in [
            "SET k v NX XX",
            "SET k v EX",
            "SET k v EX 1 PX 2",
            "SET k v KEEPTTL EX 1",
            "SET k v IFEQ a NX",
            "SET k v IFEQ",
            "SET k v IFDEQ 12",
            "SET k v NX IFNE a",
            "SET k v x",
        ] {
            assert!(!parses(bad), "{bad}");
        }
    }

    #[test]
    fn the_digest_of_the_documentation() {
        assert_eq!(xxh3(b"Hello world"), 0xb6ac_b9d8_4a38_ff74);
    }
}
