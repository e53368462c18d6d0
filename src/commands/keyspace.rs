//! KEYS and RANDOMKEY: looking over a whole database.

use super::context::{KeyContext, KeyFlow};
use super::error::CommandError;
use super::flags::Flags;
use super::spec::{Group, KeyCommand};
use crate::base::glob;
use crate::engine::keyspace::{Db, SHARDS};
use crate::engine::table::Entry;
use crate::resp::Args;

pub const COMMANDS: &[KeyCommand] = &[
    KeyCommand::new("keys", 2, keys)
        .group(Group::Generic)
        .readonly()
        .flag(Flags::ALL_SHARDS)
        .categories(&["keyspace", "dangerous"])
        .tips(&["request_policy:all_shards", "nondeterministic_output_order"])
        .syntax("pattern")
        .summary("Lists every key whose name matches a pattern.")
        .complexity("O(N) with N being the number of keys in the database"),
    KeyCommand::new("randomkey", 1, randomkey)
        .group(Group::Generic)
        .readonly()
        .flag(Flags::ALL_SHARDS)
        .categories(&["keyspace"])
        .tips(&["request_policy:all_shards", "nondeterministic_output"])
        .summary("Names a random key.")
        .complexity("O(1)"),
];

fn keys(ctx: &mut KeyContext<'_>, args: Args<'_>) -> Result<KeyFlow, CommandError> {
    let pattern = &args[1];
    let everything = pattern == b"*";
    let (db, now_ms) = (ctx.keys.db, ctx.keys.now_ms);
    let mark = ctx.reply.begin();
    let mut count = 0;
    'shards: for part in (0..SHARDS).flat_map(|shard| ctx.keys.locked.shard(shard).parts(db)) {
        for record in part.table().iter() {
            if ctx.reply.must_stop() {
                break 'shards;
            }
            let matches = everything || glob::matches(pattern, record.key());
            if matches && record.expiry().is_none_or(|at| at >= now_ms) {
                ctx.reply.bulk(record.key());
                count += 1;
            }
        }
    }
    ctx.reply.end_array(mark, count);
    Ok(KeyFlow::Done)
}

/// Tries on a replica, where keys that have expired stay: there may be no others.
const TRIES_MAX: usize = 100;

fn randomkey(ctx: &mut KeyContext<'_>, _: Args<'_>) -> Result<KeyFlow, CommandError> {
    let mut tries = 0;
    loop {
        let Some(key) = random_key(ctx) else {
            ctx.reply.null();
            return Ok(KeyFlow::Done);
        };
        tries += 1;
        if ctx.keys.peek(&key).is_some() || (ctx.keys.is_replica() && tries >= TRIES_MAX) {
            ctx.reply.bulk(&key);
            return Ok(KeyFlow::Done);
        }
    }
}

/// A shard by its share of the keys, then a key of it.
fn random_key(ctx: &mut KeyContext<'_>) -> Option<Box<[u8]>> {
    let db = ctx.keys.db;
    let locked = &*ctx.keys.locked;
    let parts = || (0..SHARDS).flat_map(|shard| locked.shard(shard).parts(db));
    let total: usize = parts().map(Db::len).sum();
    if total == 0 {
        return None;
    }
    let mut index = ctx.random.below(total as u64) as usize;
    for part in parts() {
        if index < part.len() {
            return part.table().random(ctx.random).map(|record| record.key().into());
        }
        index -= part.len();
    }
    None
}
