//! OBJECT: how a value is held, and when it was last used.

use super::context::{self, KeyContext, KeyFlow};
use super::error::{CommandError, CommandResult};
use super::keyspec::KeySpec;
use super::settings::Settings;
use super::spec::{Group, KeyCommand, KeyHandler};
use crate::engine::record::Record;
use crate::engine::value::{StringRef, ValueRef};
use crate::resp::Args;

pub const COMMANDS: &[KeyCommand] = &[KeyCommand::container(
    "object",
    &[
        subcommand("encoding", encoding).summary("Names the internal form of the value at a key."),
        subcommand("freq", freq).since("4.0.0").summary("Tells the access frequency counter of a key."),
        subcommand("idletime", idletime).summary("Tells how many seconds ago a key was last used."),
        subcommand("refcount", refcount).summary("Tells how many keys share the value at a key."),
        KeyCommand::new("help", 2, help)
            .group(Group::Generic)
            .since("6.2.0")
            .loading_stale()
            .categories(&["keyspace"])
            .summary("Explains the subcommands.")
            .complexity("O(1)"),
    ],
)
.group(Group::Generic)
.since("2.2.3")
.summary("A container for looking into how values are held.")
.complexity("Depends on subcommand.")];

const READ: &[KeySpec] = &[KeySpec::at(2).ro()];

const fn subcommand(name: &'static str, handler: KeyHandler) -> KeyCommand {
    KeyCommand::new(name, 3, handler)
        .group(Group::Generic)
        .since("2.2.3")
        .readonly()
        .keys(READ)
        .tips(&["nondeterministic_output"])
        .syntax("key")
        .complexity("O(1)")
}

/// Integers below this are one shared object each in Redis; we hold them in the record but answer alike.
const SHARED_INTEGERS: i64 = 10_000;
/// The reference count of a shared object.
const SHARED_REFCOUNT: i64 = i32::MAX as i64;

/// The encoding by the name that the directive `encoding-names` asks for: Redis 7.0 had neither packed lists nor packed sets.
pub fn encoding_name(record: &Record, settings: &Settings) -> &'static str {
    let name = record.encoding();
    match record.value() {
        ValueRef::List(_) if settings.old_encoding_names => "quicklist",
        ValueRef::Set(_) if settings.old_encoding_names && name == "listpack" => "hashtable",
        ValueRef::String(_)
        | ValueRef::List(_)
        | ValueRef::Set(_)
        | ValueRef::ZSet(_)
        | ValueRef::Hash(_)
        | ValueRef::Stream(_) => name,
    }
}

fn encoding(ctx: &mut KeyContext<'_>, args: Args<'_>) -> Result<KeyFlow, CommandError> {
    let settings = ctx.keys.settings;
    match ctx.keys.peek(&args[2]) {
        Some(record) => ctx.reply.bulk(encoding_name(record, settings).as_bytes()),
        None => ctx.reply.null(),
    }
    Ok(KeyFlow::Done)
}

fn refcount(ctx: &mut KeyContext<'_>, args: Args<'_>) -> Result<KeyFlow, CommandError> {
    let shares = ctx.keys.settings.shares_integers;
    match ctx.keys.peek(&args[2]).map(Record::string_ref) {
        Some(Some(StringRef::Int(0..SHARED_INTEGERS))) if shares => ctx.reply.integer(SHARED_REFCOUNT),
        Some(_) => ctx.reply.integer(1),
        None => ctx.reply.null(),
    }
    Ok(KeyFlow::Done)
}

fn idletime(ctx: &mut KeyContext<'_>, args: Args<'_>) -> Result<KeyFlow, CommandError> {
    let (lfu, now_ms) = (ctx.keys.settings.lfu, ctx.keys.now_ms);
    reply_access(ctx, args, |record| {
        if lfu {
            return Err(CommandError::fixed(
                "ERR An LFU maxmemory policy is selected, idle time not tracked. Please note that when switching \
                 between policies at runtime LRU and LFU data will take some time to adjust.",
            ));
        }
        Ok(context::idle_seconds(record.access(), now_ms))
    })
}

fn freq(ctx: &mut KeyContext<'_>, args: Args<'_>) -> Result<KeyFlow, CommandError> {
    let (settings, now_ms) = (ctx.keys.settings, ctx.keys.now_ms);
    reply_access(ctx, args, |record| {
        if !settings.lfu {
            return Err(CommandError::fixed(
                "ERR An LFU maxmemory policy is not selected, access frequency not tracked. Please note that when \
                 switching between policies at runtime LRU and LFU data will take some time to adjust.",
            ));
        }
        Ok(context::lfu_decayed(record.access(), settings, now_ms))
    })
}

/// One figure about the use of a key; null without the key, whatever the policy.
fn reply_access(
    ctx: &mut KeyContext<'_>,
    args: Args<'_>,
    figure: impl FnOnce(&Record) -> CommandResult<u32>,
) -> Result<KeyFlow, CommandError> {
    match ctx.keys.peek(&args[2]) {
        Some(record) => {
            let value = figure(record)?;
            ctx.reply.integer(i64::from(value));
        }
        None => ctx.reply.null(),
    }
    Ok(KeyFlow::Done)
}

const HELP: &[&str] = &[
    "OBJECT <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
    "ENCODING <key>",
    "    Return the kind of internal representation used in order to store the value",
    "    associated with a <key>.",
    "FREQ <key>",
    "    Return the access frequency index of the <key>. The returned integer is",
    "    proportional to the logarithm of the recent access frequency of the key.",
    "IDLETIME <key>",
    "    Return the idle time of the <key>, that is the approximated number of",
    "    seconds elapsed since the last access to the key.",
    "REFCOUNT <key>",
    "    Return the number of references of the value associated with the specified",
    "    <key>.",
    "HELP",
    "    Prints this help.",
];

fn help(ctx: &mut KeyContext<'_>, _: Args<'_>) -> Result<KeyFlow, CommandError> {
    ctx.reply.array(HELP.len());
    for line in HELP {
        ctx.reply.simple(line);
    }
    Ok(KeyFlow::Done)
}
