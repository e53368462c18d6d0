//! DEL, EXISTS, RENAME, COPY and their kin: keys whatever they hold.

use super::args;
use super::context::{KeyContext, KeyFlow};
use super::effects::EventClasses;
use super::error::{self, CommandError, CommandResult};
use super::keyspec::KeySpec;
use super::spec::{Group, KeyCommand};
use crate::engine::record::Record;
use crate::resp::Args;

pub const COMMANDS: &[KeyCommand] = &[
    KeyCommand::new("copy", -3, copy)
        .group(Group::Generic)
        .since("6.2.0")
        .write()
        .denyoom()
        .keys(&[KeySpec::at(1).ro().access(), KeySpec::at(2).ow().update()])
        .syntax("source destination [DB destination-db] [REPLACE]")
        .summary("Copies the value of a key, with its expiry, to another key.")
        .complexity("O(N) worst case for collections, where N is the number of nested items. O(1) for string values."),
    KeyCommand::new("del", -2, del)
        .group(Group::Generic)
        .write()
        .keys(&[KeySpec::range(1, -1, 1).rm().delete()])
        .tips(&["request_policy:multi_shard", "response_policy:agg_sum"])
        .syntax("key [key ...]")
        .summary("Deletes keys.")
        .complexity("O(N) where N is the number of keys that will be removed; a big value is freed in the background"),
    KeyCommand::new("unlink", -2, del)
        .group(Group::Generic)
        .since("4.0.0")
        .write()
        .fast()
        .keys(&[KeySpec::range(1, -1, 1).rm().delete()])
        .tips(&["request_policy:multi_shard", "response_policy:agg_sum"])
        .syntax("key [key ...]")
        .summary("Deletes keys; their values are freed in the background.")
        .complexity("O(1) for each key, whatever its size; the background does O(N) work"),
    KeyCommand::new("exists", -2, exists)
        .group(Group::Generic)
        .readonly()
        .fast()
        .keys(&[KeySpec::range(1, -1, 1).ro()])
        .tips(&["request_policy:multi_shard", "response_policy:agg_sum"])
        .syntax("key [key ...]")
        .summary("Counts the given keys that exist.")
        .complexity("O(N) where N is the number of keys to check."),
    KeyCommand::new("touch", -2, touch)
        .group(Group::Generic)
        .since("3.2.1")
        .readonly()
        .fast()
        .keys(&[KeySpec::range(1, -1, 1).ro()])
        .tips(&["request_policy:multi_shard", "response_policy:agg_sum"])
        .syntax("key [key ...]")
        .summary("Counts the given keys that exist, and marks them as just accessed.")
        .complexity("O(N) where N is the number of keys that will be touched."),
    KeyCommand::new("type", 2, type_)
        .group(Group::Generic)
        .readonly()
        .fast()
        .keys(&[KeySpec::at(1).ro()])
        .syntax("key")
        .summary("Names the type of the value at a key.")
        .complexity("O(1)"),
    KeyCommand::new("rename", 3, rename)
        .group(Group::Generic)
        .write()
        .keys(&[KeySpec::at(1).rw().access().delete(), KeySpec::at(2).ow().update()])
        .syntax("key newkey")
        .summary("Renames a key, in place of whatever has the new name.")
        .complexity("O(1)"),
    KeyCommand::new("renamenx", 3, renamenx)
        .group(Group::Generic)
        .write()
        .fast()
        .keys(&[KeySpec::at(1).rw().access().delete(), KeySpec::at(2).ow().insert()])
        .syntax("key newkey")
        .summary("Renames a key if nothing has the new name.")
        .complexity("O(1)"),
    KeyCommand::new("move", 3, move_)
        .group(Group::Generic)
        .write()
        .fast()
        .keys(&[KeySpec::at(1).rw().access().update()])
        .syntax("key db")
        .summary("Moves a key to another database.")
        .complexity("O(1)"),
];

/// DEL and UNLINK are the same here: whatever takes long to free is left to the background.
fn del(ctx: &mut KeyContext<'_>, args: Args<'_>) -> Result<KeyFlow, CommandError> {
    let mut deleted = 0;
    for key in args.from(1).iter() {
        if ctx.keys.delete(key) {
            ctx.keys.touch(key, EventClasses::GENERIC, "del");
            deleted += 1;
        }
    }
    ctx.reply.integer(deleted);
    Ok(KeyFlow::Done)
}

fn exists(ctx: &mut KeyContext<'_>, args: Args<'_>) -> Result<KeyFlow, CommandError> {
    ctx.keys.no_touch = true;
    touch(ctx, args)
}

fn touch(ctx: &mut KeyContext<'_>, args: Args<'_>) -> Result<KeyFlow, CommandError> {
    let found = args.from(1).iter().filter(|key| ctx.keys.read(key).is_some()).count();
    ctx.reply.count(found);
    Ok(KeyFlow::Done)
}

fn type_(ctx: &mut KeyContext<'_>, args: Args<'_>) -> Result<KeyFlow, CommandError> {
    ctx.keys.no_touch = true;
    let name = ctx.keys.read(&args[1]).map_or("none", |record| record.kind().name());
    ctx.reply.simple(name);
    Ok(KeyFlow::Done)
}

fn rename(ctx: &mut KeyContext<'_>, args: Args<'_>) -> Result<KeyFlow, CommandError> {
    if rename_key(ctx, &args[1], &args[2], |_| false)? {
        ctx.reply.ok();
    }
    Ok(KeyFlow::Done)
}

fn renamenx(ctx: &mut KeyContext<'_>, args: Args<'_>) -> Result<KeyFlow, CommandError> {
    let renamed = rename_key(ctx, &args[1], &args[2], |target_exists| target_exists)?;
    // Under its own name a key exists already.
    ctx.reply.integer(i64::from(renamed && args[1] != args[2]));
    Ok(KeyFlow::Done)
}

/// Renames a key unless `refuse` objects to a target that exists; whether the key has the new name now.
fn rename_key(ctx: &mut KeyContext<'_>, key: &[u8], new_key: &[u8], refuse: fn(bool) -> bool) -> CommandResult<bool> {
    if ctx.keys.write(key).is_none() {
        return Err(error::NO_SUCH_KEY);
    }
    if key == new_key {
        return Ok(true);
    }
    let target_exists = ctx.keys.write(new_key).is_some();
    if refuse(target_exists) {
        return Ok(false);
    }
    let Some(record) = ctx.keys.take(key) else { return Err(error::NO_SUCH_KEY) };
    put(ctx, new_key, record);
    ctx.keys.signal(key);
    ctx.keys.modified(new_key);
    ctx.keys.notify(key, EventClasses::GENERIC, "rename_from");
    ctx.keys.notify(new_key, EventClasses::GENERIC, "rename_to");
    Ok(true)
}

/// Puts a record under another name or into another database, as it is: with expiry and access data.
fn put(ctx: &mut KeyContext<'_>, key: &[u8], record: Record) {
    let (expiry, access) = (record.expiry(), record.access());
    ctx.keys.insert(key, record.into_value(), expiry);
    if let Some(record) = ctx.keys.part(key).find(crate::engine::keyspace::Locked::hash(key), key) {
        record.set_access(access);
    }
    ctx.keys.notify(key, EventClasses::NEW, "new");
}

fn move_(ctx: &mut KeyContext<'_>, args: Args<'_>) -> Result<KeyFlow, CommandError> {
    if ctx.keys.settings.cluster_enabled {
        return Err(CommandError::fixed("ERR MOVE is not allowed in cluster mode"));
    }
    let (key, source) = (&args[1], ctx.keys.db);
    let target = database(ctx, &args[2])?;
    if target == source {
        return Err(error::SAME_OBJECT);
    }
    let exists = ctx.keys.write(key).is_some();
    let taken = exists && in_database(ctx, target, |ctx| ctx.keys.write(key).is_some());
    let record = if exists && !taken { ctx.keys.take(key) } else { None };
    let Some(record) = record else {
        ctx.reply.integer(0);
        return Ok(KeyFlow::Done);
    };
    ctx.keys.modified(key);
    ctx.keys.notify(key, EventClasses::GENERIC, "move_from");
    in_database(ctx, target, |ctx| {
        put(ctx, key, record);
        ctx.keys.signal(key);
        ctx.keys.notify(key, EventClasses::GENERIC, "move_to");
    });
    ctx.reply.integer(1);
    Ok(KeyFlow::Done)
}

fn copy(ctx: &mut KeyContext<'_>, args: Args<'_>) -> Result<KeyFlow, CommandError> {
    let (key, new_key) = (&args[1], &args[2]);
    let (mut target, mut replace) = (ctx.keys.db, false);
    let mut index = 3;
    while index < args.len() {
        if args.is(index, "REPLACE") {
            replace = true;
        } else if args.is(index, "DB") && index + 1 < args.len() {
            target = database(ctx, &args[index + 1])?;
            index += 1;
        } else {
            return Err(error::SYNTAX);
        }
        index += 1;
    }
    if ctx.keys.settings.cluster_enabled && target != 0 {
        return Err(CommandError::fixed("ERR Copying to another database is not allowed in cluster mode"));
    }
    if target == ctx.keys.db && key == new_key {
        return Err(error::SAME_OBJECT);
    }
    let Some(record) = ctx.keys.read(key) else {
        ctx.reply.integer(0);
        return Ok(KeyFlow::Done);
    };
    let expiry = record.expiry();
    if in_database(ctx, target, |ctx| ctx.keys.write(new_key).is_some()) && !replace {
        ctx.reply.integer(0);
        return Ok(KeyFlow::Done);
    }
    let Some(value) = ctx.keys.peek(key).map(Record::copy_value) else {
        ctx.reply.integer(0);
        return Ok(KeyFlow::Done);
    };
    in_database(ctx, target, |ctx| {
        ctx.keys.insert(new_key, value, expiry);
        ctx.keys.notify(new_key, EventClasses::NEW, "new");
        ctx.keys.touch(new_key, EventClasses::GENERIC, "copy_to");
    });
    ctx.reply.integer(1);
    Ok(KeyFlow::Done)
}

/// The number of a database.
fn database(ctx: &KeyContext<'_>, text: &[u8]) -> CommandResult<usize> {
    let number = args::int(text)?;
    usize::try_from(number).ok().filter(|db| *db < ctx.keys.settings.databases).ok_or(error::DB_OUT_OF_RANGE)
}

/// Works in another database for a moment: the shards of the keys are the same.
fn in_database<T>(ctx: &mut KeyContext<'_>, db: usize, work: impl FnOnce(&mut KeyContext<'_>) -> T) -> T {
    let selected = std::mem::replace(&mut ctx.keys.db, db);
    let result = work(ctx);
    ctx.keys.db = selected;
    result
}
