//! Hashes: setting, getting, counting and removing fields.

use super::args;
use super::context::{KeyContext, KeyFlow};
use super::effects::EventClasses;
use super::element::reply_element;
use super::error::{self, CommandError};
use super::field_expiry::has_expired;
use super::keyspec::KeySpec;
use super::spec::{Group, KeyCommand, KeyHandler};
use crate::base::number::IntText;
use crate::engine::hash::Hash;
use crate::resp::Args;

const fn read(name: &'static str, arity: i32, handler: KeyHandler) -> KeyCommand {
    KeyCommand::new(name, arity, handler).since("2.0.0").group(Group::Hash).readonly()
}

const fn write(name: &'static str, arity: i32, handler: KeyHandler) -> KeyCommand {
    KeyCommand::new(name, arity, handler).since("2.0.0").group(Group::Hash).write().fast()
}

pub const COMMANDS: &[KeyCommand] = &[
    write("hset", -4, hset)
        .member(2)
        .denyoom()
        .keys(&[KeySpec::at(1).rw().update()])
        .syntax("key field value [field value ...]")
        .summary("Sets fields of a hash; counts those that are new.")
        .complexity("O(1) for each field/value pair added, so O(N) to add N field/value pairs when the command is called with multiple field/value pairs."),
    write("hmset", -4, hmset)
        .denyoom()
        .keys(&[KeySpec::at(1).rw().update()])
        .syntax("key field value [field value ...]")
        .summary("Sets fields of a hash; HSET is the newer form.")
        .complexity("O(N) where N is the number of fields being set."),
    write("hsetnx", 4, hsetnx)
        .denyoom()
        .keys(&[KeySpec::at(1).rw().insert()])
        .syntax("key field value")
        .summary("Sets a field of a hash unless it is there already.")
        .complexity("O(1)"),
    read("hget", 3, hget)
        .member(2)
        .fast()
        .keys(&[KeySpec::at(1).ro().access()])
        .syntax("key field")
        .summary("Returns the value of one field of a hash.")
        .complexity("O(1)"),
    read("hmget", -3, hmget)
        .fast()
        .keys(&[KeySpec::at(1).ro().access()])
        .syntax("key field [field ...]")
        .summary("Returns the values of several fields of a hash.")
        .complexity("O(N) where N is the number of fields being requested."),
    write("hdel", -3, hdel)
        .member(2)
        .keys(&[KeySpec::at(1).rw().delete()])
        .syntax("key field [field ...]")
        .summary("Removes fields of a hash, and the key with the last one.")
        .complexity("O(N) where N is the number of fields to be removed."),
    read("hlen", 2, hlen)
        .fast()
        .keys(&[KeySpec::at(1).ro()])
        .syntax("key")
        .summary("Counts the fields of a hash.")
        .complexity("O(1)"),
    read("hstrlen", 3, hstrlen)
        .since("3.2.0")
        .fast()
        .keys(&[KeySpec::at(1).ro()])
        .syntax("key field")
        .summary("Returns how long the value of a field is.")
        .complexity("O(1)"),
    read("hexists", 3, hexists)
        .member(2)
        .fast()
        .keys(&[KeySpec::at(1).ro()])
        .syntax("key field")
        .summary("Tells whether a hash has a field.")
        .complexity("O(1)"),
    read("hgetall", 2, hgetall)
        .tips(&["nondeterministic_output_order"])
        .keys(&[KeySpec::at(1).ro().access()])
        .syntax("key")
        .summary("Returns every field of a hash with its value.")
        .complexity("O(N) where N is the size of the hash."),
    read("hkeys", 2, hkeys)
        .tips(&["nondeterministic_output_order"])
        .keys(&[KeySpec::at(1).ro().access()])
        .syntax("key")
        .summary("Returns the name of every field of a hash.")
        .complexity("O(N) where N is the size of the hash."),
    read("hvals", 2, hvals)
        .tips(&["nondeterministic_output_order"])
        .keys(&[KeySpec::at(1).ro().access()])
        .syntax("key")
        .summary("Returns the value of every field of a hash.")
        .complexity("O(N) where N is the size of the hash."),
    write("hincrby", 4, hincrby)
        .member(2)
        .denyoom()
        .keys(&[KeySpec::at(1).rw().access().update()])
        .syntax("key field increment")
        .summary("Adds an integer to the number in a field; an absent one counts as 0.")
        .complexity("O(1)"),
];

const VALUE_NOT_AN_INTEGER: CommandError = CommandError::fixed("ERR hash value is not an integer");

fn hset(ctx: &mut KeyContext<'_>, args: Args<'_>) -> Result<KeyFlow, CommandError> {
    let created = set_pairs(ctx, args, "hset")?;
    ctx.reply.count(created);
    Ok(KeyFlow::Done)
}

fn hmset(ctx: &mut KeyContext<'_>, args: Args<'_>) -> Result<KeyFlow, CommandError> {
    set_pairs(ctx, args, "hmset")?;
    ctx.reply.ok();
    Ok(KeyFlow::Done)
}

/// Sets the pairs behind the key; how many fields are new.
fn set_pairs(ctx: &mut KeyContext<'_>, args: Args<'_>, command: &str) -> Result<usize, CommandError> {
    if args.len() % 2 == 1 {
        return Err(CommandError::wrong_arity(command));
    }
    let (key, pairs) = (&args[1], (args.len() - 2) / 2);
    let limits = &ctx.keys.settings.limits;
    let hash = ctx.keys.live_hash_or_new(key, |limits| Hash::for_fields(pairs, limits))?;
    let mut created = 0;
    if pairs == 1 {
        created += usize::from(hash.set(&args[2], &args[3], limits));
    } else {
        hash.expect(pairs, args.from(2).iter().map(<[u8]>::len), limits);
        let mut texts = args.from(2).iter();
        while let (Some(field), Some(value)) = (texts.next(), texts.next()) {
            created += usize::from(hash.set(field, value, limits));
        }
    }
    ctx.keys.effects.dirty += pairs as u64 - 1;
    ctx.keys.touch(key, EventClasses::HASH, "hset");
    Ok(created)
}

fn hsetnx(ctx: &mut KeyContext<'_>, args: Args<'_>) -> Result<KeyFlow, CommandError> {
    let (key, field, value) = (&args[1], &args[2], &args[3]);
    let now = ctx.keys.field_now();
    if ctx.keys.write_live_hash(key)?.is_some_and(|hash| hash.contains(field, now)) {
        ctx.reply.integer(0);
        return Ok(KeyFlow::Done);
    }
    let limits = &ctx.keys.settings.limits;
    ctx.keys.live_hash_or_new(key, |_| Hash::new())?.set(field, value, limits);
    ctx.keys.touch(key, EventClasses::HASH, "hset");
    ctx.reply.integer(1);
    Ok(KeyFlow::Done)
}

fn hget(ctx: &mut KeyContext<'_>, args: Args<'_>) -> Result<KeyFlow, CommandError> {
    let (key, now) = (&args[1], ctx.keys.field_now());
    let Some(hash) = ctx.keys.read_hash(key)? else {
        ctx.reply.null();
        return Ok(KeyFlow::Done);
    };
    match hash.get(&args[2], now) {
        Some(value) => reply_element(ctx.reply, value),
        None => ctx.reply.null(),
    }
    let stale = has_expired(hash, now);
    ctx.keys.expire_fields_if(key, stale);
    Ok(KeyFlow::Done)
}

fn hmget(ctx: &mut KeyContext<'_>, args: Args<'_>) -> Result<KeyFlow, CommandError> {
    let (key, now) = (&args[1], ctx.keys.field_now());
    let hash = ctx.keys.read_hash(key)?;
    ctx.reply.array(args.len() - 2);
    for field in args.from(2).iter() {
        match hash.and_then(|hash| hash.get(field, now)) {
            Some(value) => reply_element(ctx.reply, value),
            None => ctx.reply.null(),
        }
    }
    let stale = hash.is_some_and(|hash| has_expired(hash, now));
    ctx.keys.expire_fields_if(key, stale);
    Ok(KeyFlow::Done)
}

fn hdel(ctx: &mut KeyContext<'_>, args: Args<'_>) -> Result<KeyFlow, CommandError> {
    let key = &args[1];
    let Some(hash) = ctx.keys.write_live_hash(key)? else {
        ctx.reply.integer(0);
        return Ok(KeyFlow::Done);
    };
    let removed = args.from(2).iter().filter(|field| hash.remove(field)).count();
    let emptied = hash.is_empty();
    if removed > 0 {
        ctx.keys.effects.dirty += removed as u64 - 1;
        ctx.keys.touch(key, EventClasses::HASH, "hdel");
        if emptied {
            ctx.keys.remove_emptied(key);
        }
    }
    ctx.reply.count(removed);
    Ok(KeyFlow::Done)
}

/// Counts expired fields until they are taken out, as Redis does: telling them apart would not be O(1).
fn hlen(ctx: &mut KeyContext<'_>, args: Args<'_>) -> Result<KeyFlow, CommandError> {
    let len = ctx.keys.read_hash(&args[1])?.map_or(0, Hash::len);
    ctx.reply.count(len);
    Ok(KeyFlow::Done)
}

fn hstrlen(ctx: &mut KeyContext<'_>, args: Args<'_>) -> Result<KeyFlow, CommandError> {
    let (key, now) = (&args[1], ctx.keys.field_now());
    let hash = ctx.keys.read_hash(key)?;
    let len = hash.and_then(|hash| hash.get(&args[2], now)).map_or(0, |value| value.len());
    let stale = hash.is_some_and(|hash| has_expired(hash, now));
    ctx.keys.expire_fields_if(key, stale);
    ctx.reply.count(len);
    Ok(KeyFlow::Done)
}

fn hexists(ctx: &mut KeyContext<'_>, args: Args<'_>) -> Result<KeyFlow, CommandError> {
    let (key, now) = (&args[1], ctx.keys.field_now());
    let hash = ctx.keys.read_hash(key)?;
    let exists = hash.is_some_and(|hash| hash.contains(&args[2], now));
    let stale = hash.is_some_and(|hash| has_expired(hash, now));
    ctx.keys.expire_fields_if(key, stale);
    ctx.reply.integer(i64::from(exists));
    Ok(KeyFlow::Done)
}

/// What HGETALL and its kin show of a field.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Parts {
    Fields,
    Values,
    Both,
}

fn hgetall(ctx: &mut KeyContext<'_>, args: Args<'_>) -> Result<KeyFlow, CommandError> {
    reply_all(ctx, &args[1], Parts::Both)
}

fn hkeys(ctx: &mut KeyContext<'_>, args: Args<'_>) -> Result<KeyFlow, CommandError> {
    reply_all(ctx, &args[1], Parts::Fields)
}

fn hvals(ctx: &mut KeyContext<'_>, args: Args<'_>) -> Result<KeyFlow, CommandError> {
    reply_all(ctx, &args[1], Parts::Values)
}

fn reply_all(ctx: &mut KeyContext<'_>, key: &[u8], parts: Parts) -> Result<KeyFlow, CommandError> {
    let now = ctx.keys.field_now();
    let hash = ctx.keys.read_hash(key)?;
    let len = hash.map_or(0, |hash| hash.live_len(now));
    match parts {
        Parts::Both => ctx.reply.map(len),
        Parts::Fields | Parts::Values => ctx.reply.array(len),
    }
    for entry in hash.into_iter().flat_map(Hash::iter).filter(|entry| !entry.is_expired(now)) {
        if parts != Parts::Values {
            reply_element(ctx.reply, entry.field);
        }
        if parts != Parts::Fields {
            reply_element(ctx.reply, entry.value);
        }
    }
    Ok(KeyFlow::Done)
}

fn hincrby(ctx: &mut KeyContext<'_>, args: Args<'_>) -> Result<KeyFlow, CommandError> {
    let (key, field) = (&args[1], &args[2]);
    let increment = args::integer(&args[3])?;
    let now = ctx.keys.field_now();
    let old = match ctx.keys.write_live_hash(key)?.and_then(|hash| hash.get(field, now)) {
        Some(value) => Some(value.as_i64().ok_or(VALUE_NOT_AN_INTEGER)?),
        None => None,
    };
    let value = old.unwrap_or(0).checked_add(increment).ok_or(error::OVERFLOW)?;
    let limits = &ctx.keys.settings.limits;
    let hash = ctx.keys.live_hash_or_new(key, |_| Hash::new())?;
    match old {
        Some(_) => hash.set_keeping_ttl(field, &IntText::new(value), limits),
        None => hash.set(field, &IntText::new(value), limits),
    };
    ctx.keys.touch(key, EventClasses::HASH, "hincrby");
    ctx.reply.integer(value);
    Ok(KeyFlow::Done)
}
