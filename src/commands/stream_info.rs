//! XINFO: what is known of a stream, its groups and their consumers.

use super::args;
use super::context::{KeyContext, KeyFlow};
use super::error::{self, CommandError, CommandResult};
use super::keyspec::KeySpec;
use super::spec::{Group as CommandGroup, KeyCommand, KeyHandler};
use super::stream::{reply_entries, reply_entry};
use super::stream_group::no_group_of_key;
use super::stream_id::reply_id;
use crate::engine::stream::{Consumer, Counter, Entry, Group, Stream, StreamId};
use crate::resp::{Args, Reply};

pub const COMMANDS: &[KeyCommand] = &[KeyCommand::container(
    "xinfo",
    &[
        subcommand("consumers", 4, xinfo_consumers)
            .tips(&["nondeterministic_output"])
            .syntax("key group")
            .summary("Lists the consumers of a group."),
        subcommand("groups", 3, xinfo_groups).syntax("key").summary("Lists the groups of a stream."),
        subcommand("stream", -3, xinfo_stream).syntax("key [FULL [COUNT count]]").summary("Tells about a stream."),
        KeyCommand::new("help", 2, help)
            .group(CommandGroup::Stream)
            .since("5.0.0")
            .loading_stale()
            .summary("Explains the subcommands.")
            .complexity("O(1)"),
    ],
)
.group(CommandGroup::Stream)
.categories(&["-stream"])
.since("5.0.0")
.summary("A container for stream introspection commands.")
.complexity("Depends on subcommand.")];

const READ: &[KeySpec] = &[KeySpec::at(2).ro().access()];

const fn subcommand(name: &'static str, arity: i32, handler: KeyHandler) -> KeyCommand {
    KeyCommand::new(name, arity, handler)
        .group(CommandGroup::Stream)
        .since("5.0.0")
        .readonly()
        .keys(READ)
        .complexity("O(1)")
}

fn stream<'k>(ctx: &'k mut KeyContext<'_>, key: &[u8]) -> CommandResult<(&'k mut Reply, &'k Stream)> {
    let stream = ctx.keys.read_stream(key)?.ok_or(error::NO_SUCH_KEY)?;
    Ok((ctx.reply, stream))
}

fn xinfo_groups(ctx: &mut KeyContext<'_>, args: Args<'_>) -> Result<KeyFlow, CommandError> {
    let (reply, stream) = stream(ctx, &args[2])?;
    let counter = stream.counter();
    reply.array(stream.groups_len());
    for (name, group) in stream.groups() {
        reply.map(6);
        reply.bulk(b"name");
        reply.bulk(name);
        field(reply, "consumers", group.consumers_len());
        field(reply, "pending", group.pending_len());
        reply.bulk(b"last-delivered-id");
        reply_id(reply, group.last_id);
        reply_progress(reply, &counter, group);
    }
    Ok(KeyFlow::Done)
}

fn field(reply: &mut Reply, name: &str, count: usize) {
    reply.bulk(name.as_bytes());
    reply.count(count);
}

fn reply_progress(reply: &mut Reply, counter: &Counter, group: &Group) {
    reply.bulk(b"entries-read");
    number_or_null(reply, group.entries_read.map(|read| read as i64));
    reply.bulk(b"lag");
    number_or_null(reply, counter.lag(group));
}

fn number_or_null(reply: &mut Reply, number: Option<i64>) {
    match number {
        Some(number) => reply.integer(number),
        None => reply.null(),
    }
}

fn xinfo_consumers(ctx: &mut KeyContext<'_>, args: Args<'_>) -> Result<KeyFlow, CommandError> {
    let now_ms = ctx.keys.now_ms;
    let (reply, stream) = stream(ctx, &args[2])?;
    let group = stream.group(&args[3]).ok_or_else(|| no_group_of_key(&args[2], &args[3]))?;
    reply.array(group.consumers_len());
    for consumer in group.consumers() {
        reply.map(3);
        reply.bulk(b"name");
        reply.bulk(consumer.name());
        field(reply, "pending", consumer.pending_len());
        reply.bulk(b"idle");
        reply.integer(now_ms.saturating_sub(consumer.seen_ms).max(0));
    }
    Ok(KeyFlow::Done)
}

/// Entries and pending entries that FULL shows without COUNT.
const FULL_COUNT: i64 = 10;

/// How many of everything FULL shows; nothing without FULL.
fn full_count(args: Args<'_>) -> CommandResult<Option<usize>> {
    let wrong = || CommandError::unknown_subcommand_arity(&args[0], &args[1]);
    if args.len() == 3 {
        return Ok(None);
    }
    let fits = args.is(3, "FULL") && (args.len() == 4 || (args.len() == 6 && args.is(4, "COUNT")));
    if !fits {
        return Err(wrong());
    }
    let count = args.get(5).map_or(Ok(FULL_COUNT), args::integer)?;
    Ok(Some(match count {
        0 => usize::MAX,
        count if count < 0 => FULL_COUNT as usize,
        count => count as usize,
    }))
}

fn xinfo_stream(ctx: &mut KeyContext<'_>, args: Args<'_>) -> Result<KeyFlow, CommandError> {
    let (reply, stream) = stream(ctx, &args[2])?;
    let full = full_count(args)?;
    let totals = stream.totals();
    let producers = stream.producers();
    reply.map(if full.is_some() { 9 } else { 10 } + if producers.is_some() { 6 } else { 0 });
    field(reply, "length", stream.len());
    field(reply, "radix-tree-keys", stream.nodes().len());
    field(reply, "radix-tree-nodes", stream.radix_nodes());
    for (name, id) in [("last-generated-id", totals.last_id), ("max-deleted-entry-id", totals.max_deleted_id)] {
        reply.bulk(name.as_bytes());
        reply_id(reply, id);
    }
    field(reply, "entries-added", totals.entries_added as usize);
    reply.bulk(b"recorded-first-entry-id");
    reply_id(reply, stream.first_id());
    if let Some(producers) = producers {
        field(reply, "idmp-duration", producers.duration_s as usize);
        field(reply, "idmp-maxsize", producers.keys_max);
        field(reply, "pids-tracked", producers.producers_len());
        field(reply, "iids-tracked", producers.keys_len());
        field(reply, "iids-added", producers.added as usize);
        field(reply, "iids-duplicates", producers.duplicates as usize);
    }
    match full {
        None => {
            field(reply, "groups", stream.groups_len());
            reply.bulk(b"first-entry");
            reply_edge(reply, stream.range(StreamId::MIN, StreamId::MAX).next());
            reply.bulk(b"last-entry");
            reply_edge(reply, stream.range_rev(StreamId::MIN, StreamId::MAX).next());
        }
        Some(count) => {
            reply.bulk(b"entries");
            reply_entries(reply, stream.range(StreamId::MIN, StreamId::MAX).take(count));
            reply.bulk(b"groups");
            let counter = stream.counter();
            reply.array(stream.groups_len());
            stream.groups().for_each(|(name, group)| reply_full_group(reply, &counter, name, group, count));
        }
    }
    Ok(KeyFlow::Done)
}

fn reply_edge(reply: &mut Reply, entry: Option<Entry<'_>>) {
    match entry {
        Some(entry) => reply_entry(reply, &entry),
        None => reply.null(),
    }
}

fn reply_full_group(reply: &mut Reply, counter: &Counter, name: &[u8], group: &Group, count: usize) {
    reply.map(7);
    reply.bulk(b"name");
    reply.bulk(name);
    reply.bulk(b"last-delivered-id");
    reply_id(reply, group.last_id);
    reply_progress(reply, counter, group);
    field(reply, "pel-count", group.pending_len());
    reply.bulk(b"pending");
    reply.array(group.pending_len().min(count));
    for (id, pending) in group.pending(..).take(count) {
        reply.array(4);
        reply_id(reply, id);
        reply.bulk(group.owner_name(pending));
        reply.integer(pending.delivered_ms);
        reply.integer(pending.deliveries as i64);
    }
    reply.bulk(b"consumers");
    reply.array(group.consumers_len());
    group.consumers().for_each(|consumer| reply_full_consumer(reply, group, consumer, count));
}

fn reply_full_consumer(reply: &mut Reply, group: &Group, consumer: &Consumer, count: usize) {
    reply.map(4);
    reply.bulk(b"name");
    reply.bulk(consumer.name());
    reply.bulk(b"seen-time");
    reply.integer(consumer.seen_ms);
    field(reply, "pel-count", consumer.pending_len());
    reply.bulk(b"pending");
    reply.array(consumer.pending_len().min(count));
    for pending in consumer.pending(..).take(count).filter_map(|id| group.find_pending(id).map(|found| (id, found))) {
        let (id, pending) = pending;
        reply.array(3);
        reply_id(reply, id);
        reply.integer(pending.delivered_ms);
        reply.integer(pending.deliveries as i64);
    }
}

const HELP: &[&str] = &[
    "XINFO <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
    "CONSUMERS <key> <groupname>",
    "    Show consumers of <groupname>.",
    "GROUPS <key>",
    "    Show the stream consumer groups.",
    "STREAM <key> [FULL [COUNT <count>]",
    "    Show information about the stream.",
    "HELP",
    "    Prints this help.",
];

fn help(ctx: &mut KeyContext<'_>, _: Args<'_>) -> Result<KeyFlow, CommandError> {
    ctx.reply.array(HELP.len());
    HELP.iter().for_each(|line| ctx.reply.simple(line));
    Ok(KeyFlow::Done)
}
