//! DUMP and RESTORE: one value as bytes of RDB.

use super::args;
use super::context::{KeyContext, KeyFlow, lru_clock};
use super::effects::EventClasses;
use super::error::{self, CommandError};
use super::flags::Flags;
use super::keyspec::KeySpec;
use super::spec::{Group, KeyCommand};
use crate::base::number::IntText;
use crate::rdb::dump::{self, Verify};
use crate::rdb::value;
use crate::resp::Args;

pub const COMMANDS: &[KeyCommand] = &[
    KeyCommand::new("dump", 2, dump_command)
        .since("2.6.0")
        .group(Group::Generic)
        .readonly()
        .categories(&["keyspace"])
        .tips(&["nondeterministic_output"])
        .keys(&[KeySpec::at(1).ro().access()])
        .syntax("key")
        .summary("Returns the value at a key in the form of an RDB file.")
        .complexity("O(1) to find the key, O(N) in the size of the value to write it"),
    KeyCommand::new("restore", -4, restore)
        .since("2.6.0")
        .group(Group::Generic)
        .write()
        .denyoom()
        .categories(&["keyspace", "dangerous"])
        .keys(&[KeySpec::at(1).ow().update()])
        .syntax("key ttl serialized-value [REPLACE] [ABSTTL] [IDLETIME seconds] [FREQ frequency]")
        .summary("Creates a key from what DUMP returned.")
        .complexity("O(N) in the size of the value; sorted sets O(N*log(N))"),
    KeyCommand::new("restore-asking", -4, restore)
        .since("3.0.0")
        .group(Group::Server)
        .write()
        .denyoom()
        .flag(Flags::ASKING)
        .categories(&["keyspace", "dangerous"])
        .keys(&[KeySpec::at(1).ow().update()])
        .syntax("key ttl serialized-value [REPLACE] [ABSTTL] [IDLETIME seconds] [FREQ frequency]")
        .summary("RESTORE for keys that move between nodes of a cluster.")
        .complexity("O(N) in the size of the value; sorted sets O(N*log(N))"),
];

fn dump_command(ctx: &mut KeyContext<'_>, args: Args<'_>) -> Result<KeyFlow, CommandError> {
    let compress = ctx.keys.settings.rdb_compression;
    match ctx.keys.read(&args[1]) {
        Some(record) => {
            let payload = dump::payload(record, compress);
            ctx.reply.bulk(&payload);
        }
        None => ctx.reply.null(),
    }
    Ok(KeyFlow::Done)
}

#[derive(Default)]
struct RestoreOptions {
    replace: bool,
    absolute: bool,
    idle_s: Option<i64>,
    frequency: Option<i64>,
}

fn restore_options(args: Args<'_>) -> Result<RestoreOptions, CommandError> {
    let mut options = RestoreOptions::default();
    let mut index = 4;
    while index < args.len() {
        let has_value = index + 1 < args.len();
        if args.is(index, "REPLACE") {
            options.replace = true;
        } else if args.is(index, "ABSTTL") {
            options.absolute = true;
        } else if args.is(index, "IDLETIME") && has_value && options.frequency.is_none() {
            let idle = args::integer(&args[index + 1])?;
            if idle < 0 {
                return Err(CommandError::fixed("ERR Invalid IDLETIME value, must be >= 0"));
            }
            options.idle_s = Some(idle);
            index += 1;
        } else if args.is(index, "FREQ") && has_value && options.idle_s.is_none() {
            let frequency = args::integer(&args[index + 1])?;
            if !(0..=255).contains(&frequency) {
                return Err(CommandError::fixed("ERR Invalid FREQ value, must be >= 0 and <= 255"));
            }
            options.frequency = Some(frequency);
            index += 1;
        } else {
            return Err(error::SYNTAX);
        }
        index += 1;
    }
    Ok(options)
}

fn restore(ctx: &mut KeyContext<'_>, args: Args<'_>) -> Result<KeyFlow, CommandError> {
    let key = &args[1];
    let options = restore_options(args)?;
    if !options.replace && ctx.keys.exists(key) {
        return Err(CommandError::fixed("BUSYKEY Target key name already exists."));
    }
    let ttl = args::integer(&args[2])?;
    if ttl < 0 {
        return Err(CommandError::fixed("ERR Invalid TTL value, must be >= 0"));
    }
    let verify = if ctx.keys.settings.skip_checksum { Verify::No } else { Verify::Yes };
    let (kind, lineage, body) = dump::open(&args[3], verify)
        .map_err(|_| CommandError::fixed("ERR DUMP payload version or checksum are wrong"))?;
    let value = value::decode(kind, lineage, body, &ctx.keys.settings.limits)
        .map_err(|fault| {
            // The client is told that there is a fault, the operator which one.
            tracing::debug!("Internal error in RDB reading of a RESTORE payload -> {fault}");
            CommandError::fixed("ERR Bad data format")
        })?
        .into_value();
    let now_ms = ctx.keys.now_ms;
    let expiry = match ttl {
        0 => None,
        at if options.absolute => Some(at),
        ttl => Some(ttl.saturating_add(now_ms)),
    };
    let existed = ctx.keys.delete(key);
    if expiry.is_some_and(|at| at <= now_ms) && !ctx.keys.is_replica() {
        if existed {
            ctx.keys.touch(key, EventClasses::GENERIC, "del");
            ctx.keys.propagate_as(&[b"DEL", key]);
        }
        ctx.reply.ok();
        return Ok(KeyFlow::Done);
    }
    ctx.keys.insert(key, value, expiry);
    set_access(ctx, key, &options);
    ctx.keys.touch(key, EventClasses::GENERIC, "restore");
    if let Some(at) = expiry.filter(|_| !options.absolute) {
        let at = IntText::new(at);
        let mut rewritten: Vec<&[u8]> = args.iter().collect();
        rewritten[2] = &at;
        rewritten.push(b"ABSTTL");
        ctx.keys.propagate_as(&rewritten);
    }
    ctx.reply.ok();
    Ok(KeyFlow::Done)
}

/// Takes over the idle time or frequency, whichever the eviction policy uses.
fn set_access(ctx: &mut KeyContext<'_>, key: &[u8], options: &RestoreOptions) {
    let (lfu, clock) = (ctx.keys.settings.lfu, lru_clock(ctx.keys.now_ms));
    let Some(record) = ctx.keys.peek(key) else { return };
    match (options.frequency, options.idle_s) {
        (Some(frequency), _) if lfu => record.set_access(record.access() & 0x00ff_ff00 | frequency as u32),
        (_, Some(idle)) if !lfu => record.set_access(clock.saturating_sub(idle.min(0x00ff_ffff) as u32)),
        _ => {}
    }
}
