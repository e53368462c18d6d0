//! GET, SETEX, APPEND and their kin: whole strings and parts of them. SET with its options is in `string_set`.

use super::args::{self, TimeBase, TimeUnit};
use super::context::{KeyContext, KeyFlow, Keys};
use super::effects::EventClasses;
use super::error::{self, CommandError, CommandResult};
use super::keyspec::KeySpec;
use super::spec::{Group, KeyCommand};
use crate::base::number::IntText;
use crate::engine::keyspace::{NewExpiry, OnExpired};
use crate::engine::value::{StringRef, Value};
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
    KeyCommand::new("getdel", 2, getdel)
        .since("6.2.0")
        .group(Group::String)
        .write()
        .fast()
        .keys(&[KeySpec::at(1).rw().access().delete()])
        .syntax("key")
        .summary("Returns the string at a key and deletes the key.")
        .complexity("O(1)"),
    KeyCommand::new("getset", 3, getset)
        .group(Group::String)
        .write()
        .denyoom()
        .fast()
        .keys(&[KeySpec::at(1).rw().access().update()])
        .syntax("key value")
        .summary("Sets a key to a string and returns the one it held before.")
        .complexity("O(1)"),
    KeyCommand::new("mget", -2, mget)
        .group(Group::String)
        .readonly()
        .fast()
        .tips(&["request_policy:multi_shard"])
        .keys(&[KeySpec::range(1, -1, 1).ro().access()])
        .syntax("key [key ...]")
        .summary("Returns the strings at several keys.")
        .complexity("O(N) where N is the number of keys"),
    KeyCommand::new("mset", -3, mset)
        .since("1.0.1")
        .group(Group::String)
        .write()
        .denyoom()
        .tips(&["request_policy:multi_shard", "response_policy:all_succeeded"])
        .keys(&[KeySpec::range(1, -1, 2).ow().update()])
        .syntax("key value [key value ...]")
        .summary("Sets several keys to strings at once.")
        .complexity("O(N) where N is the number of keys"),
    KeyCommand::new("msetnx", -3, msetnx)
        .since("1.0.1")
        .group(Group::String)
        .write()
        .denyoom()
        .tips(&["request_policy:multi_shard", "response_policy:agg_min"])
        .keys(&[KeySpec::range(1, -1, 2).ow().insert()])
        .syntax("key value [key value ...]")
        .summary("Sets several keys to strings, all of them or, if one of them exists, none.")
        .complexity("O(N) where N is the number of keys"),
    KeyCommand::new("setnx", 3, setnx)
        .group(Group::String)
        .write()
        .denyoom()
        .fast()
        .keys(&[KeySpec::at(1).ow().insert()])
        .syntax("key value")
        .summary("Sets a key to a string if the key does not exist.")
        .complexity("O(1)"),
    KeyCommand::new("setex", 4, setex)
        .since("2.0.0")
        .group(Group::String)
        .write()
        .denyoom()
        .keys(&[KeySpec::at(1).ow().update()])
        .syntax("key seconds value")
        .summary("Sets a key to a string that expires after some seconds.")
        .complexity("O(1)"),
    KeyCommand::new("psetex", 4, psetex)
        .since("2.6.0")
        .group(Group::String)
        .write()
        .denyoom()
        .keys(&[KeySpec::at(1).ow().update()])
        .syntax("key milliseconds value")
        .summary("Sets a key to a string that expires after some milliseconds.")
        .complexity("O(1)"),
    KeyCommand::new("strlen", 2, strlen)
        .since("2.2.0")
        .group(Group::String)
        .readonly()
        .fast()
        .keys(&[KeySpec::at(1).ro()])
        .syntax("key")
        .summary("Returns the length of the string at a key.")
        .complexity("O(1)"),
    KeyCommand::new("append", 3, append)
        .since("2.0.0")
        .group(Group::String)
        .write()
        .denyoom()
        .fast()
        .keys(&[KeySpec::at(1).rw().insert()])
        .syntax("key value")
        .summary("Appends to the string at a key, which is created if there is none.")
        .complexity("O(1) amortised, because the room for a string grows by doubling"),
    KeyCommand::new("getrange", 4, getrange)
        .since("2.4.0")
        .group(Group::String)
        .readonly()
        .keys(&[KeySpec::at(1).ro().access()])
        .syntax("key start end")
        .summary("Returns a part of the string at a key.")
        .complexity("O(N) where N is the length of that part"),
    KeyCommand::new("substr", 4, getrange)
        .group(Group::String)
        .readonly()
        .keys(&[KeySpec::at(1).ro().access()])
        .syntax("key start end")
        .summary("Returns a part of the string at a key.")
        .complexity("O(N) where N is the length of that part"),
    KeyCommand::new("setrange", 4, setrange)
        .since("2.2.0")
        .group(Group::String)
        .write()
        .denyoom()
        .keys(&[KeySpec::at(1).rw().update()])
        .syntax("key offset value")
        .summary("Overwrites a part of the string at a key, filling up with zero bytes.")
        .complexity("O(1) for short values, else O(M) where M is the length of the value"),
];

/// A string on loan as a bulk reply.
#[inline]
pub fn reply_string(reply: &mut Reply, value: StringRef<'_>) {
    match value {
        StringRef::Int(value) => reply.bulk_integer(value),
        StringRef::Bytes(bytes) => reply.bulk(bytes),
    }
}

/// Answers with the string at a key, or null.
#[inline]
pub fn reply_value(ctx: &mut KeyContext<'_>, key: &[u8]) -> CommandResult<bool> {
    match ctx.keys.read_string(key)? {
        Some(value) => {
            reply_string(ctx.reply, value);
            Ok(true)
        }
        None => {
            ctx.reply.null();
            Ok(false)
        }
    }
}

/// Sees to it that a string of `len + more` bytes may be made; what the primary sends is never refused.
pub fn check_length(keys: &Keys<'_>, len: usize, more: usize) -> CommandResult<()> {
    let fits = len.checked_add(more).is_some_and(|total| total <= keys.settings.bulk_len_max);
    if fits || keys.settings.on_expired == OnExpired::Ignore { Ok(()) } else { Err(error::STRING_TOO_LONG) }
}

/// Deletes a key whose new time to live lies in the past; replicas get the deletion.
pub fn delete_elapsed(keys: &mut Keys<'_>, key: &[u8]) {
    let verb: &[u8] = if keys.settings.lazy_expire { b"UNLINK" } else { b"DEL" };
    delete_as(keys, key, verb);
}

/// Deletes a key under the name of `verb` in the stream.
pub fn delete_as(keys: &mut Keys<'_>, key: &[u8], verb: &[u8]) -> bool {
    if !keys.delete(key) {
        return false;
    }
    keys.touch(key, EventClasses::GENERIC, "del");
    keys.propagate_as(&[verb, key]);
    true
}

/// The verb of a deletion that a user asked for.
pub fn user_deletion(keys: &Keys<'_>) -> &'static [u8] {
    if keys.settings.lazy_user_del { b"UNLINK" } else { b"DEL" }
}

fn get(ctx: &mut KeyContext<'_>, args: Args<'_>) -> Result<KeyFlow, CommandError> {
    reply_value(ctx, &args[1])?;
    Ok(KeyFlow::Done)
}

fn getdel(ctx: &mut KeyContext<'_>, args: Args<'_>) -> Result<KeyFlow, CommandError> {
    let key = &args[1];
    if reply_value(ctx, key)? {
        let verb = user_deletion(&ctx.keys);
        delete_as(&mut ctx.keys, key, verb);
    }
    Ok(KeyFlow::Done)
}

fn getset(ctx: &mut KeyContext<'_>, args: Args<'_>) -> Result<KeyFlow, CommandError> {
    let (key, value) = (&args[1], &args[2]);
    reply_value(ctx, key)?;
    ctx.keys.set_string(key, value, NewExpiry::Clear);
    ctx.keys.touch(key, EventClasses::STRING, "set");
    ctx.keys.propagate_as(&[b"SET", key, value]);
    Ok(KeyFlow::Done)
}

fn mget(ctx: &mut KeyContext<'_>, args: Args<'_>) -> Result<KeyFlow, CommandError> {
    ctx.reply.array(args.len() - 1);
    for key in args.from(1).iter() {
        match ctx.keys.read(key).and_then(|record| record.string_ref()) {
            Some(value) => reply_string(ctx.reply, value),
            None => ctx.reply.null(),
        }
    }
    Ok(KeyFlow::Done)
}

/// Keys and values, or the arity error of a missing value.
fn pairs<'a>(args: Args<'a>, name: &str) -> CommandResult<impl Iterator<Item = (&'a [u8], &'a [u8])> + Clone> {
    if args.len().is_multiple_of(2) {
        return Err(CommandError::wrong_arity(name));
    }
    let pairs = args.from(1);
    Ok((0..pairs.len() / 2).filter_map(move |pair| Some((pairs.get(2 * pair)?, pairs.get(2 * pair + 1)?))))
}

fn set_pairs<'a>(keys: &mut Keys<'_>, pairs: impl Iterator<Item = (&'a [u8], &'a [u8])>) {
    for (key, value) in pairs {
        keys.set_string(key, value, NewExpiry::Clear);
        keys.touch(key, EventClasses::STRING, "set");
    }
}

fn mset(ctx: &mut KeyContext<'_>, args: Args<'_>) -> Result<KeyFlow, CommandError> {
    set_pairs(&mut ctx.keys, pairs(args, "mset")?);
    ctx.reply.ok();
    Ok(KeyFlow::Done)
}

fn msetnx(ctx: &mut KeyContext<'_>, args: Args<'_>) -> Result<KeyFlow, CommandError> {
    let pairs = pairs(args, "msetnx")?;
    for (key, _) in pairs.clone() {
        if ctx.keys.exists(key) {
            ctx.reply.integer(0);
            return Ok(KeyFlow::Done);
        }
    }
    set_pairs(&mut ctx.keys, pairs);
    ctx.reply.integer(1);
    Ok(KeyFlow::Done)
}

fn setnx(ctx: &mut KeyContext<'_>, args: Args<'_>) -> Result<KeyFlow, CommandError> {
    let (key, value) = (&args[1], &args[2]);
    let absent = !ctx.keys.exists(key);
    if absent {
        ctx.keys.set_string(key, value, NewExpiry::Clear);
        ctx.keys.touch(key, EventClasses::STRING, "set");
    }
    ctx.reply.integer(i64::from(absent));
    Ok(KeyFlow::Done)
}

fn setex(ctx: &mut KeyContext<'_>, args: Args<'_>) -> Result<KeyFlow, CommandError> {
    set_expiring(ctx, args, TimeUnit::Seconds, "setex")
}

fn psetex(ctx: &mut KeyContext<'_>, args: Args<'_>) -> Result<KeyFlow, CommandError> {
    set_expiring(ctx, args, TimeUnit::Milliseconds, "psetex")
}

fn set_expiring(ctx: &mut KeyContext<'_>, args: Args<'_>, unit: TimeUnit, name: &str) -> Result<KeyFlow, CommandError> {
    let (key, value) = (&args[1], &args[3]);
    let at = args::expire_at(&args[2], unit, TimeBase::Relative, ctx.keys.now_ms, name)?;
    ctx.keys.set_string(key, value, NewExpiry::At(at));
    ctx.keys.touch(key, EventClasses::STRING, "set");
    ctx.keys.notify(key, EventClasses::GENERIC, "expire");
    ctx.keys.propagate_as(&[b"SET", key, value, b"PXAT", &IntText::new(at)]);
    ctx.reply.ok();
    Ok(KeyFlow::Done)
}

/// Length of a string as text.
pub fn string_len(value: StringRef<'_>) -> usize {
    match value {
        StringRef::Int(value) => IntText::new(value).len(),
        StringRef::Bytes(bytes) => bytes.len(),
    }
}

/// Lends a string as text.
pub fn with_text<T>(value: StringRef<'_>, read: impl FnOnce(&[u8]) -> T) -> T {
    match value {
        StringRef::Int(value) => read(&IntText::new(value)),
        StringRef::Bytes(bytes) => read(bytes),
    }
}

fn strlen(ctx: &mut KeyContext<'_>, args: Args<'_>) -> Result<KeyFlow, CommandError> {
    let len = ctx.keys.read_string(&args[1])?.map_or(0, string_len);
    ctx.reply.count(len);
    Ok(KeyFlow::Done)
}

fn append(ctx: &mut KeyContext<'_>, args: Args<'_>) -> Result<KeyFlow, CommandError> {
    let (key, tail) = (&args[1], &args[2]);
    let old = ctx.keys.write_string(key)?.and_then(|record| record.string_ref().map(string_len));
    let len = match old {
        None => {
            ctx.keys.set_string(key, tail, NewExpiry::Clear);
            tail.len()
        }
        Some(len) => {
            check_length(&ctx.keys, len, tail.len())?;
            let block = ctx.keys.string_block(key)?;
            block.append(tail);
            block.len()
        }
    };
    ctx.keys.touch(key, EventClasses::STRING, "append");
    ctx.reply.count(len);
    Ok(KeyFlow::Done)
}

fn getrange(ctx: &mut KeyContext<'_>, args: Args<'_>) -> Result<KeyFlow, CommandError> {
    let (start, end) = (args::integer(&args[2])?, args::integer(&args[3])?);
    match ctx.keys.read_string(&args[1])? {
        None => ctx.reply.bulk(b""),
        Some(value) => with_text(value, |text| ctx.reply.bulk(part(text, start, end))),
    }
    Ok(KeyFlow::Done)
}

/// The bytes from `start` to `end`, both included, negative ones counted from the end.
fn part(text: &[u8], start: i64, end: i64) -> &[u8] {
    if start < 0 && end < 0 && start > end {
        return b"";
    }
    let len = text.len() as i64;
    let absolute = |index: i64| if index < 0 { (len + index).max(0) } else { index };
    let (start, end) = (absolute(start), absolute(end).min(len - 1));
    if start > end { b"" } else { text.get(start as usize..=end as usize).unwrap_or(b"") }
}

fn setrange(ctx: &mut KeyContext<'_>, args: Args<'_>) -> Result<KeyFlow, CommandError> {
    let (key, value) = (&args[1], &args[3]);
    let offset = args::integer(&args[2])?;
    let offset = usize::try_from(offset).map_err(|_| CommandError::fixed("ERR offset is out of range"))?;
    let old = ctx.keys.write_string(key)?.and_then(|record| record.string_ref().map(string_len));
    if value.is_empty() {
        ctx.reply.count(old.unwrap_or(0));
        return Ok(KeyFlow::Done);
    }
    check_length(&ctx.keys, offset, value.len())?;
    let block = ctx.keys.string_block(key)?;
    block.extend_zeroed(offset + value.len());
    block.as_mut_bytes()[offset..offset + value.len()].copy_from_slice(value);
    let len = block.len();
    ctx.keys.touch(key, EventClasses::STRING, "setrange");
    ctx.reply.count(len);
    Ok(KeyFlow::Done)
}

/// Puts an integer in place of the string at a key; its expiry stays.
pub fn set_integer(keys: &mut Keys<'_>, key: &[u8], value: i64) {
    if let Some(record) = keys.write(key) {
        if record.overwrite_integer(value) {
            return;
        }
        keys.set_string(key, &IntText::new(value), NewExpiry::Keep);
        return;
    }
    keys.insert(key, Value::Int(value), None);
    keys.notify(key, EventClasses::NEW, "new");
}

#[cfg(test)]
mod tests {
    use super::part;

    #[test]
    fn parts_of_a_string() {
        for (start, end, expected) in [
            (0, 3, "This"),
            (-3, -1, "ing"),
            (0, -1, "This is a string"),
            (10, 100, "string"),
            (5, 3, ""),
            (-1, -3, ""),
            (-100, 2, "Thi"),
            (0, -100, "T"),
            (16, 20, ""),
            (i64::MIN, i64::MAX, "This is a string"),
        ] {
            assert_eq!(part(b"This is a string", start, end), expected.as_bytes(), "{start} {end}");
        }
        assert_eq!(part(b"", 0, -1), b"");
    }
}
