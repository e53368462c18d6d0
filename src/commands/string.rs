//! GET, SET and their kin on whole strings.

use super::args::{self, TimeBase, TimeUnit};
use super::context::{KeyContext, KeyFlow};
use super::effects::EventClasses;
use super::error::{self, CommandError, CommandResult};
use super::keyspec::KeySpec;
use super::spec::{Group, KeyCommand};
use crate::base::number::IntText;
use crate::engine::keyspace::NewExpiry;
use crate::engine::value::StringRef;
use crate::resp::{Args, Reply};

pub const COMMANDS: &[KeyCommand] = &[
    KeyCommand::new("get", 2, get)
        .group(Group::String)
        .readonly()
        .fast()
        .keys(&[KeySpec::at(1).ro().access()])
        .syntax("key")
        .summary("Returns the string at a key.")
        .complexity("O(1)"),
    KeyCommand::new("set", -3, set)
        .group(Group::String)
        .write()
        .denyoom()
        .keys(&[KeySpec::at(1).rw().access().update().variable_flags()
            .notes("RW and ACCESS due to the optional `GET` argument")])
        .syntax("key value [NX | XX] [GET] [EX seconds | PX milliseconds | EXAT unix-time-seconds | PXAT unix-time-milliseconds | KEEPTTL]")
        .summary("Sets a key to a string, whatever it held before.")
        .complexity("O(1)"),
];

/// A string on loan as a bulk reply.
#[inline]
pub fn reply_string(reply: &mut Reply, value: StringRef<'_>) {
    match value {
        StringRef::Int(value) => reply.bulk_integer(value),
        StringRef::Bytes(bytes) => reply.bulk(bytes),
    }
}

fn get(ctx: &mut KeyContext<'_>, args: Args<'_>) -> Result<KeyFlow, CommandError> {
    match ctx.keys.read_string(&args[1])? {
        Some(value) => reply_string(ctx.reply, value),
        None => ctx.reply.null(),
    }
    Ok(KeyFlow::Done)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Condition {
    Always,
    Absent,
    Present,
}

struct SetOptions {
    condition: Condition,
    expiry: NewExpiry,
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
    let options = set_options(args, ctx.keys.now_ms)?;
    if options.get {
        match ctx.keys.read_string(key)? {
            Some(old) => reply_string(ctx.reply, old),
            None => ctx.reply.null(),
        }
    }
    let exists = options.condition != Condition::Always && ctx.keys.exists(key);
    let wanted = match options.condition {
        Condition::Always => true,
        Condition::Absent => !exists,
        Condition::Present => exists,
    };
    if !wanted {
        if !options.get {
            ctx.reply.null();
        }
        return Ok(KeyFlow::Done);
    }
    ctx.keys.set_string(key, value, options.expiry);
    ctx.keys.touch(key, EventClasses::STRING, "set");
    if let NewExpiry::At(at) = options.expiry {
        ctx.keys.notify(key, EventClasses::GENERIC, "expire");
        ctx.keys.propagate_as(&[b"SET", key, value, b"PXAT", &IntText::new(at)]);
    } else if options.get {
        // The old value is of no use to replicas.
        let kept: &[&[u8]] = if options.expiry == NewExpiry::Keep { &[b"KEEPTTL"] } else { &[] };
        ctx.keys.propagate_as(&[&[b"SET", key, value], kept].concat());
    }
    if !options.get {
        ctx.reply.ok();
    }
    Ok(KeyFlow::Done)
}

fn set_options(args: Args<'_>, now_ms: i64) -> CommandResult<SetOptions> {
    let mut options = SetOptions { condition: Condition::Always, expiry: NewExpiry::Clear, get: false };
    let mut index = 3;
    while index < args.len() {
        let time = if args.is(index, "EX") {
            Some((TimeUnit::Seconds, TimeBase::Relative))
        } else if args.is(index, "PX") {
            Some((TimeUnit::Milliseconds, TimeBase::Relative))
        } else if args.is(index, "EXAT") {
            Some((TimeUnit::Seconds, TimeBase::Absolute))
        } else if args.is(index, "PXAT") {
            Some((TimeUnit::Milliseconds, TimeBase::Absolute))
        } else {
            None
        };
        if let Some((unit, base)) = time {
            let text = args::value_of(args, index + 1)?;
            if options.expiry != NewExpiry::Clear {
                return Err(error::SYNTAX);
            }
            options.expiry = NewExpiry::At(args::expire_at(text, unit, base, now_ms, "set")?);
            index += 2;
            continue;
        }
        if args.is(index, "NX") && options.condition != Condition::Present {
            options.condition = Condition::Absent;
        } else if args.is(index, "XX") && options.condition != Condition::Absent {
            options.condition = Condition::Present;
        } else if args.is(index, "KEEPTTL") && options.expiry == NewExpiry::Clear {
            options.expiry = NewExpiry::Keep;
        } else if args.is(index, "GET") {
            options.get = true;
        } else {
            return Err(error::SYNTAX);
        }
        index += 1;
    }
    Ok(options)
}
