//! HGETDEL, HGETEX, HSETEX: fields together with their removal or expiry.
//!
//! The stream gets what servers since 7.4 know: HSET, HPEXPIREAT, HPERSIST, HDEL.

use super::args::{self, TimeBase, TimeUnit};
use super::context::{KeyContext, KeyFlow};
use super::effects::EventClasses;
use super::element::reply_element;
use super::error::{CommandError, CommandResult};
use super::hash_expire::{Outcome, field_expiry, fields_at, set_field_expiry};
use super::keyspec::KeySpec;
use super::spec::{Group, KeyCommand};
use crate::base::number::IntText;
use crate::engine::hash::Hash;
use crate::resp::{Args, Reply};

pub const COMMANDS: &[KeyCommand] = &[
    KeyCommand::new("hgetdel", -5, hgetdel)
        .since("8.0.0")
        .group(Group::Hash)
        .write()
        .fast()
        .keys(&[KeySpec::at(1).rw().access().delete()])
        .syntax("key FIELDS numfields field [field ...]")
        .summary("Returns the values of fields of a hash and removes the fields.")
        .complexity("O(N) where N is the number of specified fields"),
    KeyCommand::new("hgetex", -5, hgetex)
        .since("8.0.0")
        .group(Group::Hash)
        .write()
        .fast()
        .keys(&[KeySpec::at(1).rw().access().update().notes("RW and UPDATE because it changes the TTL")])
        .syntax("key [EX seconds | PX milliseconds | EXAT unix-time-seconds | PXAT unix-time-milliseconds | PERSIST] FIELDS numfields field [field ...]")
        .summary("Returns the values of fields of a hash and sets or removes their expiry.")
        .complexity("O(N) where N is the number of specified fields"),
    KeyCommand::new("hsetex", -6, hsetex)
        .since("8.0.0")
        .group(Group::Hash)
        .write()
        .denyoom()
        .fast()
        .keys(&[KeySpec::at(1).rw().update()])
        .syntax("key [FNX | FXX] [EX seconds | PX milliseconds | EXAT unix-time-seconds | PXAT unix-time-milliseconds | KEEPTTL] FIELDS numfields field value [field value ...]")
        .summary("Sets fields of a hash together with their expiry.")
        .complexity("O(N) where N is the number of fields being set."),
];

const ONE_EXPIRY: CommandError =
    CommandError::fixed("ERR Only one of EX, PX, EXAT, PXAT or KEEPTTL arguments can be specified");
const ONE_CONDITION: CommandError = CommandError::fixed("ERR Only one of FXX or FNX arguments can be specified");
const FIELDS_MISSING: CommandError = CommandError::fixed("ERR missing FIELDS argument");
const NUMFIELDS_INVALID: CommandError = CommandError::fixed("ERR invalid number of fields");

/// The values of fields, absent and expired ones as null.
fn reply_values(reply: &mut Reply, hash: Option<&Hash>, fields: Args<'_>, now: i64) {
    reply.array(fields.len());
    for field in fields.iter() {
        match hash.and_then(|hash| hash.get(field, now)) {
            Some(value) => reply_element(reply, value),
            None => reply.null(),
        }
    }
}

fn hgetdel(ctx: &mut KeyContext<'_>, args: Args<'_>) -> Result<KeyFlow, CommandError> {
    let (key, now) = (&args[1], ctx.keys.field_now());
    let hash = ctx.keys.write_live_hash(key)?;
    let fields = fields_at(args, 2)?;
    reply_values(ctx.reply, hash.as_deref(), fields, now);
    let Some(hash) = hash else { return Ok(KeyFlow::Done) };
    let mut removed = vec![b"HDEL".as_slice(), key];
    removed.extend(fields.iter().filter(|field| hash.remove(field)));
    if removed.len() == 2 {
        return Ok(KeyFlow::Done);
    }
    let emptied = hash.is_empty();
    ctx.keys.effects.dirty += removed.len() as u64 - 3;
    ctx.keys.touch(key, EventClasses::HASH, "hdel");
    if emptied {
        ctx.keys.remove_emptied(key);
    }
    ctx.keys.propagate_as(&removed);
    Ok(KeyFlow::Done)
}

/// The options of a time, as HGETEX and HSETEX take them.
fn time_option(args: Args<'_>, index: usize) -> Option<(TimeUnit, TimeBase)> {
    [
        ("EX", TimeUnit::Seconds, TimeBase::Relative),
        ("PX", TimeUnit::Milliseconds, TimeBase::Relative),
        ("EXAT", TimeUnit::Seconds, TimeBase::Absolute),
        ("PXAT", TimeUnit::Milliseconds, TimeBase::Absolute),
    ]
    .into_iter()
    .find_map(|(word, unit, base)| args.is(index, word).then_some((unit, base)))
}

/// What becomes of the expiry of fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum NewFieldExpiry {
    Keep,
    Remove,
    At(i64),
}

fn hgetex(ctx: &mut KeyContext<'_>, args: Args<'_>) -> Result<KeyFlow, CommandError> {
    let (key, now_ms, now) = (&args[1], ctx.keys.now_ms, ctx.keys.field_now());
    let on_expired = ctx.keys.settings.on_expired;
    let hash = ctx.keys.write_live_hash(key)?;
    let (expiry, fields_index) = match time_option(args, 2) {
        Some((unit, base)) => {
            let text = args.get(3).unwrap_or_default();
            let fields = fields_at(args, 4).map(|_| 4);
            (NewFieldExpiry::At(field_expiry(text, unit, base, now_ms, "hgetex")?), fields?)
        }
        None if args.is(2, "PERSIST") => (NewFieldExpiry::Remove, 3),
        None => (NewFieldExpiry::Keep, 2),
    };
    let fields = fields_at(args, fields_index)?;
    reply_values(ctx.reply, hash.as_deref(), fields, now);
    let Some(hash) = hash else { return Ok(KeyFlow::Done) };
    let mut outcome = Outcome::default();
    for field in fields.iter() {
        let Some(entry) = hash.find(field).filter(|entry| !entry.is_expired(now)) else { continue };
        match expiry {
            NewFieldExpiry::Keep => {}
            NewFieldExpiry::Remove if entry.expires_at.is_none() => {}
            NewFieldExpiry::Remove => {
                hash.set_expiry(field, None);
                outcome.updated.push(field);
            }
            NewFieldExpiry::At(at) => _ = set_field_expiry(hash, field, at, now_ms, on_expired, &mut outcome),
        }
    }
    match expiry {
        _ if outcome.is_empty() => {}
        NewFieldExpiry::Keep => {}
        NewFieldExpiry::Remove => {
            outcome.publish(&mut ctx.keys, key, "hpersist");
            let count = IntText::new(outcome.updated.len() as i64);
            ctx.keys.propagate_as(&[&[b"HPERSIST", key, b"FIELDS", &count], outcome.updated.as_slice()].concat());
        }
        NewFieldExpiry::At(at) => {
            outcome.publish(&mut ctx.keys, key, "hexpire");
            outcome.propagate(&mut ctx.keys, key, at);
        }
    }
    Ok(KeyFlow::Done)
}

/// HSETEX's condition on the fields that it names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FieldCondition {
    Always,
    /// FNX: none of them exists.
    AllAbsent,
    /// FXX: all of them exist.
    AllPresent,
}

struct SetOptions<'a> {
    condition: FieldCondition,
    expiry: NewFieldExpiry,
    /// field, value, …
    pairs: Args<'a>,
}

fn set_options<'a>(args: Args<'a>, now_ms: i64) -> CommandResult<SetOptions<'a>> {
    let (mut condition, mut expiry) = (FieldCondition::Always, None);
    let mut index = 2;
    while index < args.len() {
        if args.is(index, "FIELDS") {
            let pairs = pairs_behind(args, index)?;
            return Ok(SetOptions { condition, expiry: expiry.unwrap_or(NewFieldExpiry::Remove), pairs });
        }
        if let Some((unit, base)) = time_option(args, index) {
            if expiry.is_some() {
                return Err(ONE_EXPIRY);
            }
            let text = args.get(index + 1).ok_or_else(|| CommandError::wrong_arity("hsetex"))?;
            expiry = Some(NewFieldExpiry::At(field_expiry(text, unit, base, now_ms, "hsetex")?));
            index += 2;
            continue;
        }
        if args.is(index, "KEEPTTL") {
            if expiry.replace(NewFieldExpiry::Keep).is_some() {
                return Err(ONE_EXPIRY);
            }
        } else if args.is(index, "FNX") || args.is(index, "FXX") {
            if condition != FieldCondition::Always {
                return Err(ONE_CONDITION);
            }
            let absent = args.is(index, "FNX");
            condition = if absent { FieldCondition::AllAbsent } else { FieldCondition::AllPresent };
        } else {
            return Err(CommandError::joined(&[b"ERR unknown argument: ", &args[index]]));
        }
        index += 1;
    }
    Err(FIELDS_MISSING)
}

fn pairs_behind<'a>(args: Args<'a>, fields_index: usize) -> CommandResult<Args<'a>> {
    let count = args.get(fields_index + 1).ok_or_else(|| CommandError::wrong_arity("hsetex"))?;
    let count = args::integer_in(count, 1..=i64::from(i32::MAX), NUMFIELDS_INVALID)?;
    let pairs = args.from(fields_index + 2);
    if pairs.len() as i64 != count * 2 {
        return Err(CommandError::wrong_arity("hsetex"));
    }
    Ok(pairs)
}

fn hsetex(ctx: &mut KeyContext<'_>, args: Args<'_>) -> Result<KeyFlow, CommandError> {
    let (key, now_ms, now) = (&args[1], ctx.keys.now_ms, ctx.keys.field_now());
    let hash = ctx.keys.write_live_hash(key)?;
    let SetOptions { condition, expiry, pairs } = set_options(args, now_ms)?;
    let mut fields = pairs.iter().step_by(2);
    let exists = |field: &[u8]| hash.as_deref().is_some_and(|hash| hash.contains(field, now));
    let admitted = match condition {
        FieldCondition::Always => true,
        FieldCondition::AllAbsent => !fields.any(exists),
        FieldCondition::AllPresent => fields.all(exists),
    };
    if !admitted {
        ctx.reply.integer(0);
        return Ok(KeyFlow::Done);
    }
    let (limits, on_expired) = (&ctx.keys.settings.limits, ctx.keys.settings.on_expired);
    let hash = ctx.keys.live_hash_or_new(key, |limits| Hash::for_fields(pairs.len() / 2, limits))?;
    hash.expect(pairs.len() / 2, pairs.iter().map(<[u8]>::len), limits);
    let mut outcome = Outcome::default();
    let mut texts = pairs.iter();
    while let (Some(field), Some(value)) = (texts.next(), texts.next()) {
        let keeps = expiry == NewFieldExpiry::Keep && hash.contains(field, now);
        if keeps {
            hash.set_keeping_ttl(field, value, limits)
        } else {
            hash.set(field, value, limits)
        };
        if let NewFieldExpiry::At(at) = expiry {
            set_field_expiry(hash, field, at, now_ms, on_expired, &mut outcome);
        }
    }
    ctx.keys.effects.dirty += pairs.len() as u64 / 2 - 1;
    ctx.keys.touch(key, EventClasses::HASH, "hset");
    let count = IntText::new(pairs.len() as i64 / 2);
    let pairs: Vec<&[u8]> = pairs.iter().collect();
    if expiry == NewFieldExpiry::Keep {
        ctx.keys.propagate_as(&[&[b"HSETEX", key, b"KEEPTTL", b"FIELDS", &count], pairs.as_slice()].concat());
    } else {
        ctx.keys.propagate_as(&[&[b"HSET", key], pairs.as_slice()].concat());
    }
    if let NewFieldExpiry::At(at) = expiry {
        outcome.publish(&mut ctx.keys, key, "hexpire");
        outcome.propagate(&mut ctx.keys, key, at);
    }
    ctx.reply.integer(1);
    Ok(KeyFlow::Done)
}
