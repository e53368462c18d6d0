//! HINCRBYFLOAT, in the 80-bit arithmetic of Redis.

use super::context::{KeyContext, KeyFlow};
use super::effects::EventClasses;
use super::error::{self, CommandError};
use super::keyspec::KeySpec;
use super::spec::{Group, KeyCommand};
use crate::base::long_double::LongDouble;
use crate::base::number::IntText;
use crate::engine::hash::Hash;
use crate::resp::Args;

pub const COMMANDS: &[KeyCommand] = &[KeyCommand::new("hincrbyfloat", 4, hincrbyfloat)
    .since("2.6.0")
    .group(Group::Hash)
    .write()
    .denyoom()
    .fast()
    .keys(&[KeySpec::at(1).rw().access().update()])
    .syntax("key field increment")
    .summary("Adds a float to the number in a field; an absent one counts as 0.")
    .complexity("O(1)")];

const VALUE_NOT_A_FLOAT: CommandError = CommandError::fixed("ERR hash value is not a float");
const INCREMENT_INFINITE: CommandError = CommandError::fixed("ERR value is NaN or Infinity");

fn hincrbyfloat(ctx: &mut KeyContext<'_>, args: Args<'_>) -> Result<KeyFlow, CommandError> {
    let (key, field) = (&args[1], &args[2]);
    let increment = LongDouble::parse(&args[3]).ok_or(error::NOT_A_FLOAT)?;
    if !increment.is_finite() {
        return Err(INCREMENT_INFINITE);
    }
    let now = ctx.keys.field_now();
    let entry = ctx.keys.write_live_hash(key)?.and_then(|hash| hash.find(field)).filter(|entry| !entry.is_expired(now));
    let expires_at = entry.and_then(|entry| entry.expires_at);
    let old = match entry {
        Some(entry) => entry.value.with_bytes(LongDouble::parse).ok_or(VALUE_NOT_A_FLOAT)?,
        None => LongDouble::from(0),
    };
    let sum = old + increment;
    if !sum.is_finite() {
        return Err(error::NAN_OR_INFINITY);
    }
    let value = sum.text();
    let limits = &ctx.keys.settings.limits;
    let hash = ctx.keys.live_hash_or_new(key, |_| Hash::new())?;
    match expires_at {
        Some(_) => hash.set_keeping_ttl(field, value.as_bytes(), limits),
        None => hash.set(field, value.as_bytes(), limits),
    };
    ctx.keys.touch(key, EventClasses::HASH, "hincrbyfloat");
    // Others may round differently. HSET drops the expiry, so that follows.
    ctx.keys.propagate_as(&[b"HSET", key, field, value.as_bytes()]);
    if let Some(at) = expires_at {
        ctx.keys.propagate_as(&[b"HPEXPIREAT", key, &IntText::new(at), b"FIELDS", b"1", field]);
    }
    ctx.reply.bulk(value.as_bytes());
    Ok(KeyFlow::Done)
}
