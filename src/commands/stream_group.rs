//! XGROUP: consumer groups come and go. XACK, XPENDING: what was given out, and what of it was acknowledged.

use super::args;
use super::context::{KeyContext, KeyFlow};
use super::effects::EventClasses;
use super::error::{self, CommandError, CommandResult};
use super::keyspec::KeySpec;
use super::spec::{Group as CommandGroup, KeyCommand, KeyHandler};
use super::stream_id::{self, reply_id};
use super::stream_pending::GroupPlace;
use crate::engine::stream::{Group, Stream, StreamId};
use crate::resp::{Args, Reply};

pub const COMMANDS: &[KeyCommand] = &[
    KeyCommand::container(
        "xgroup",
        &[
            subcommand("create", -5, xgroup_create, &[KeySpec::at(2).rw().insert()])
                .denyoom()
                .syntax("key group <id | $> [MKSTREAM] [ENTRIESREAD entries-read]")
                .summary("Creates a consumer group."),
            subcommand("createconsumer", 5, xgroup_createconsumer, &[KeySpec::at(2).rw().insert()])
                .since("6.2.0")
                .denyoom()
                .syntax("key group consumer")
                .summary("Creates a consumer in a group."),
            subcommand("delconsumer", 5, xgroup_delconsumer, &[KeySpec::at(2).rw().delete()])
                .syntax("key group consumer")
                .summary("Removes a consumer from a group; tells how many entries it had not acknowledged."),
            subcommand("destroy", 4, xgroup_destroy, &[KeySpec::at(2).rw().delete()])
                .syntax("key group")
                .summary("Removes a consumer group.")
                .complexity("O(N) where N is the number of entries in the group's pending entries list (PEL)."),
            subcommand("setid", -5, xgroup_setid, &[KeySpec::at(2).rw().update()])
                .syntax("key group <id | $> [ENTRIESREAD entries-read]")
                .summary("Sets the id up to which a group has read."),
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
    .summary("A container for consumer groups commands.")
    .complexity("Depends on subcommand."),
    KeyCommand::new("xack", -4, xack)
        .group(CommandGroup::Stream)
        .since("5.0.0")
        .write()
        .fast()
        .keys(&[KeySpec::at(1).rw().update()])
        .syntax("key group id [id ...]")
        .summary("Acknowledges entries: they are no longer pending. Tells how many were.")
        .complexity("O(1) for each message ID processed."),
    KeyCommand::new("xpending", -3, xpending)
        .group(CommandGroup::Stream)
        .since("5.0.0")
        .readonly()
        .tips(&["nondeterministic_output"])
        .keys(&[KeySpec::at(1).ro().access()])
        .syntax("key group [[IDLE min-idle-time] start end count [consumer]]")
        .summary("Tells what a group has given out and nobody has acknowledged.")
        .complexity("O(N) with N being the number of elements returned, so asking for a small fixed number of entries per call is O(1). O(M), where M is the total number of entries scanned when used with the IDLE filter. When the command returns just the summary and the list of consumers is small, it runs in O(1) time; otherwise, an additional O(N) time for iterating every consumer."),
];

const fn subcommand(name: &'static str, arity: i32, handler: KeyHandler, keys: &'static [KeySpec]) -> KeyCommand {
    KeyCommand::new(name, arity, handler)
        .group(CommandGroup::Stream)
        .since("5.0.0")
        .write()
        .keys(keys)
        .complexity("O(1)")
}

pub fn no_group_of_key(key: &[u8], group: &[u8]) -> CommandError {
    CommandError::joined(&[b"NOGROUP No such consumer group '", group, b"' for key name '", key, b"'"])
}

pub fn no_key_or_group(key: &[u8], group: &[u8]) -> CommandError {
    CommandError::joined(&[b"NOGROUP No such key '", key, b"' or consumer group '", group, b"'"])
}

const KEY_REQUIRED: CommandError = CommandError::fixed(
    "ERR The XGROUP subcommand requires the key to exist. Note that for CREATE you may want to use the MKSTREAM option to \
     create an empty stream automatically.",
);

/// Options of CREATE and SETID.
#[derive(Default)]
struct CreateOptions {
    make_stream: bool,
    entries_read: Option<u64>,
}

impl CreateOptions {
    /// MKSTREAM is wrong where no stream is made.
    fn parse(args: Args<'_>, allows_new_stream: bool) -> CommandResult<Self> {
        let mut options = CreateOptions::default();
        let mut index = 5;
        while index < args.len() {
            if allows_new_stream && args.is(index, "MKSTREAM") {
                options.make_stream = true;
                index += 1;
            } else if args.is(index, "ENTRIESREAD") && index + 1 < args.len() {
                options.entries_read = match args::integer(&args[index + 1])? {
                    -1 => None,
                    read => Some(
                        u64::try_from(read)
                            .map_err(|_| CommandError::fixed("ERR value for ENTRIESREAD must be positive or -1"))?,
                    ),
                };
                index += 2;
            } else {
                return Err(CommandError::unknown_subcommand_arity(&args[0], &args[1]));
            }
        }
        Ok(options)
    }
}

/// More than so many arguments are options that come twice: noticed only where there is a key to work on.
fn refuse_repeated(args: Args<'_>, most: usize) -> CommandResult<()> {
    if args.len() > most { Err(CommandError::unknown_subcommand_arity(&args[0], &args[1])) } else { Ok(()) }
}

fn xgroup_create(ctx: &mut KeyContext<'_>, args: Args<'_>) -> Result<KeyFlow, CommandError> {
    let (key, name) = (&args[2], &args[3]);
    let options = CreateOptions::parse(args, true)?;
    let stream = ctx.keys.write_stream(key)?;
    if stream.is_none() && !options.make_stream {
        return Err(KEY_REQUIRED);
    }
    refuse_repeated(args, 8)?;
    let last_id = match (&args[4], &stream) {
        (b"$", Some(stream)) => stream.last_id(),
        (b"$", None) => StreamId::MIN,
        (text, _) => stream_id::strict(text, 0)?,
    };
    if stream.is_none() {
        ctx.keys.stream_or_new(key, |_| Stream::new())?;
        ctx.keys.signal(key);
    }
    let stream = ctx.keys.stream_or_new(key, |_| Stream::new())?;
    if !stream.create_group(name, Group::new(last_id, options.entries_read)) {
        return Err(CommandError::fixed("BUSYGROUP Consumer Group name already exists"));
    }
    ctx.reply.ok();
    done(ctx, key, "xgroup-create")
}

/// The group that a subcommand needs.
fn group_mut<'k>(ctx: &'k mut KeyContext<'_>, args: Args<'_>) -> CommandResult<(StreamId, &'k mut Group)> {
    let (key, name) = (&args[2], &args[3]);
    let stream = ctx.keys.write_stream(key)?.ok_or(KEY_REQUIRED)?;
    let last_id = stream.last_id();
    let group = stream.group_mut(name).ok_or_else(|| no_group_of_key(key, name))?;
    Ok((last_id, group))
}

/// One change of a group, which neither watchers nor waiters of the key need to know.
fn done(ctx: &mut KeyContext<'_>, key: &[u8], event: &'static str) -> Result<KeyFlow, CommandError> {
    ctx.keys.effects.dirty += 1;
    ctx.keys.notify(key, EventClasses::STREAM, event);
    Ok(KeyFlow::Done)
}

fn xgroup_setid(ctx: &mut KeyContext<'_>, args: Args<'_>) -> Result<KeyFlow, CommandError> {
    let options = CreateOptions::parse(args, false)?;
    let (last_id, group) = group_mut(ctx, args)?;
    refuse_repeated(args, 7)?;
    group.last_id = if &args[4] == b"$" { last_id } else { stream_id::any(&args[4], 0)? };
    group.entries_read = options.entries_read;
    ctx.reply.ok();
    done(ctx, &args[2], "xgroup-setid")
}

fn xgroup_destroy(ctx: &mut KeyContext<'_>, args: Args<'_>) -> Result<KeyFlow, CommandError> {
    let key = &args[2];
    let existed = ctx.keys.write_stream(key)?.ok_or(KEY_REQUIRED)?.remove_group(&args[3]);
    ctx.reply.integer(i64::from(existed));
    if !existed {
        return Ok(KeyFlow::Done);
    }
    // Whoever waits for the group's entries waits in vain.
    ctx.keys.wake(key);
    done(ctx, key, "xgroup-destroy")
}

fn xgroup_createconsumer(ctx: &mut KeyContext<'_>, args: Args<'_>) -> Result<KeyFlow, CommandError> {
    let now_ms = ctx.keys.now_ms;
    let (_, group) = group_mut(ctx, args)?;
    let is_new = group.create_consumer(&args[4], now_ms).is_some();
    let place = GroupPlace::new(&args[2], &args[3], group);
    if is_new {
        ctx.keys.consumer_created(&place, &args[4], false);
    }
    ctx.reply.integer(i64::from(is_new));
    Ok(KeyFlow::Done)
}

fn xgroup_delconsumer(ctx: &mut KeyContext<'_>, args: Args<'_>) -> Result<KeyFlow, CommandError> {
    let (_, group) = group_mut(ctx, args)?;
    let pending = group.remove_consumer(&args[4]);
    ctx.reply.count(pending.unwrap_or(0));
    match pending {
        Some(_) => done(ctx, &args[2], "xgroup-delconsumer"),
        None => Ok(KeyFlow::Done),
    }
}

fn xack(ctx: &mut KeyContext<'_>, args: Args<'_>) -> Result<KeyFlow, CommandError> {
    let mut acknowledged = 0;
    if let Some(group) = ctx.keys.write_stream(&args[1])?.and_then(|stream| stream.group_mut(&args[2])) {
        let ids = stream_id::list(args, 3)?;
        acknowledged = ids.into_iter().filter(|id| group.acknowledge(*id)).count();
    }
    ctx.keys.effects.dirty += acknowledged as u64;
    ctx.reply.count(acknowledged);
    Ok(KeyFlow::Done)
}

/// The range form of XPENDING.
struct PendingRange<'a> {
    min_idle_ms: i64,
    start: StreamId,
    end: StreamId,
    count: usize,
    consumer: Option<&'a [u8]>,
}

impl<'a> PendingRange<'a> {
    fn parse(args: Args<'a>) -> CommandResult<Option<Self>> {
        if args.len() == 3 {
            return Ok(None);
        }
        if !(6..=9).contains(&args.len()) {
            return Err(error::SYNTAX);
        }
        let (mut at, mut min_idle_ms) = (3, 0);
        if args.is(3, "IDLE") {
            min_idle_ms = args::integer(&args[4])?;
            if args.len() < 8 {
                return Err(error::SYNTAX);
            }
            at = 5;
        }
        let count = args::integer(&args[at + 2])?.max(0) as usize;
        let (start, end) = (stream_id::start(&args[at])?, stream_id::end(&args[at + 1])?);
        Ok(Some(PendingRange { min_idle_ms, start, end, count, consumer: args.get(at + 3) }))
    }
}

fn xpending(ctx: &mut KeyContext<'_>, args: Args<'_>) -> Result<KeyFlow, CommandError> {
    let range = PendingRange::parse(args)?;
    let now_ms = ctx.keys.now_ms;
    let group = ctx.keys.read_stream(&args[1])?.and_then(|stream| stream.group(&args[2]));
    let group = group.ok_or_else(|| no_key_or_group(&args[1], &args[2]))?;
    match range {
        None => reply_summary(ctx.reply, group),
        Some(range) => reply_pending(ctx.reply, group, &range, now_ms),
    }
    Ok(KeyFlow::Done)
}

fn reply_summary(reply: &mut Reply, group: &Group) {
    reply.array(4);
    reply.count(group.pending_len());
    let ends = group.pending(..).next().zip(group.pending(..).next_back());
    let Some(((first, _), (last, _))) = ends else {
        reply.null();
        reply.null();
        reply.null_array();
        return;
    };
    reply_id(reply, first);
    reply_id(reply, last);
    let mark = reply.begin();
    let mut count = 0;
    for consumer in group.consumers().filter(|consumer| consumer.pending_len() > 0) {
        reply.array(2);
        reply.bulk(consumer.name());
        reply.bulk_integer(consumer.pending_len() as i64);
        count += 1;
    }
    reply.end_array(mark, count);
}

fn reply_pending(reply: &mut Reply, group: &Group, range: &PendingRange<'_>, now_ms: i64) {
    let PendingRange { min_idle_ms, start, end, count, consumer } = *range;
    let owner = consumer.map(|name| group.find_consumer(name));
    if start > end || owner == Some(None) {
        return reply.array(0);
    }
    let mark = reply.begin();
    let mut line = |id: StreamId| {
        let Some(pending) = group.find_pending(id) else { return false };
        let idle_ms = now_ms.saturating_sub(pending.delivered_ms);
        if min_idle_ms != 0 && idle_ms < min_idle_ms {
            return false;
        }
        reply.array(4);
        reply_id(reply, id);
        reply.bulk(group.owner_name(pending));
        // An entry that was released is nobody's, and has no idle time.
        reply.integer(if pending.owner.is_some() { idle_ms.max(0) } else { -1 });
        reply.integer(pending.deliveries as i64);
        true
    };
    let shown = match owner.flatten() {
        Some(owner) => group.consumer(owner).pending(start..=end).filter(|id| line(*id)).take(count).count(),
        None => group.pending(start..=end).filter(|(id, _)| line(*id)).take(count).count(),
    };
    reply.end_array(mark, shown);
}

const HELP: &[&str] = &[
    "XGROUP <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
    "CREATE <key> <groupname> <id|$> [option]",
    "    Create a new consumer group. Options are:",
    "    * MKSTREAM",
    "      Create the empty stream if it does not exist.",
    "    * ENTRIESREAD entries_read",
    "      Set the group's entries_read counter (internal use).",
    "CREATECONSUMER <key> <groupname> <consumer>",
    "    Create a new consumer in the specified group.",
    "DELCONSUMER <key> <groupname> <consumer>",
    "    Remove the specified consumer.",
    "DESTROY <key> <groupname>",
    "    Remove the specified group.",
    "SETID <key> <groupname> <id|$> [ENTRIESREAD entries_read]",
    "    Set the current group ID and entries_read counter.",
    "HELP",
    "    Prints this help.",
];

fn help(ctx: &mut KeyContext<'_>, _: Args<'_>) -> Result<KeyFlow, CommandError> {
    ctx.reply.array(HELP.len());
    HELP.iter().for_each(|line| ctx.reply.simple(line));
    Ok(KeyFlow::Done)
}
