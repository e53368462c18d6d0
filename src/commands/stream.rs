//! Streams: adding, counting, showing and deleting entries.

use super::args;
use super::context::{KeyContext, KeyFlow};
use super::effects::EventClasses;
use super::element::reply_element;
use super::error::{self, CommandError};
use super::keyspec::KeySpec;
use super::spec::{Group, KeyCommand, KeyHandler};
use super::stream_id::{self, NewId, reply_id};
use super::stream_producer::Message;
use super::stream_trim::TrimOptions;
use crate::engine::stream::{Deletion, Entry, References, Refused, Stream, StreamId, Totals};
use crate::resp::{Args, Reply};

pub const COMMANDS: &[KeyCommand] = &[
    KeyCommand::new("xadd", -5, xadd)
        .group(Group::Stream)
        .since("5.0.0")
        .write()
        .denyoom()
        .fast()
        .tips(&["nondeterministic_output"])
        .keys(&[KeySpec::at(1).rw().update().notes("UPDATE instead of INSERT because of the optional trimming feature")])
        .syntax("key [NOMKSTREAM] [KEEPREF | DELREF | ACKED] [IDMPAUTO producer-id | IDMP producer-id idempotent-id] [<MAXLEN | MINID> [= | ~] threshold [LIMIT count]] <* | id> field value [field value ...]")
        .summary("Appends an entry to a stream.")
        .complexity("O(1) when adding a new entry, O(N) when trimming where N being the number of entries evicted."),
    KeyCommand::new("xlen", 2, xlen)
        .group(Group::Stream)
        .since("5.0.0")
        .readonly()
        .fast()
        .keys(&[KeySpec::at(1).ro()])
        .syntax("key")
        .summary("Counts the entries of a stream.")
        .complexity("O(1)"),
    range("xrange", xrange, "key start end [COUNT count]", "Returns the entries between two ids."),
    range("xrevrange", xrevrange, "key end start [COUNT count]", "Returns the entries between two ids, the newest first."),
    KeyCommand::new("xdel", -3, xdel)
        .group(Group::Stream)
        .since("5.0.0")
        .write()
        .fast()
        .keys(&[KeySpec::at(1).rw().delete()])
        .syntax("key id [id ...]")
        .summary("Deletes entries of a stream; tells how many there were.")
        .complexity("O(1) for each single item to delete in the stream, regardless of the stream size."),
    KeyCommand::new("xsetid", -3, xsetid)
        .group(Group::Stream)
        .since("5.0.0")
        .write()
        .denyoom()
        .fast()
        .keys(&[KeySpec::at(1).rw().update()])
        .syntax("key last-id [ENTRIESADDED entries-added] [MAXDELETEDID max-deleted-id]")
        .summary("Sets what a stream remembers of entries that it has no more. For internal use.")
        .complexity("O(1)"),
];

const READ: &[KeySpec] = &[KeySpec::at(1).ro().access()];

const fn range(name: &'static str, handler: KeyHandler, syntax: &'static str, summary: &'static str) -> KeyCommand {
    KeyCommand::new(name, -4, handler)
        .group(Group::Stream)
        .since("5.0.0")
        .readonly()
        .keys(READ)
        .syntax(syntax)
        .summary(summary)
        .complexity("O(N) with N being the number of elements being returned. If N is constant (e.g. always asking for the first 10 elements with COUNT), you can consider it O(1).")
}

/// `[id, [field, value, …]]`.
pub fn reply_entry(reply: &mut Reply, entry: &Entry<'_>) {
    reply.array(2);
    reply_id(reply, entry.id());
    reply.array(2 * entry.len());
    for (field, value) in entry.fields() {
        reply_element(reply, field);
        reply_element(reply, value);
    }
}

fn xadd(ctx: &mut KeyContext<'_>, args: Args<'_>) -> Result<KeyFlow, CommandError> {
    let key = &args[1];
    let mut options = TrimOptions::default();
    let (mut index, mut is_new_allowed, mut message) = (2, true, None);
    // What is no option is the id; a name of an option at the very end is an id that will be refused.
    while &args[index] != b"*" {
        match options.read(args, index)? {
            Some(next) => index = next,
            None if args.is(index, "NOMKSTREAM") => {
                is_new_allowed = false;
                index += 1;
            }
            None if Message::is_option(args, index) => {
                if message.is_some() {
                    return Err(error::SYNTAX);
                }
                let found = Message::read(args, index)?;
                index = found.behind;
                message = Some(found);
            }
            None => break,
        }
        if index >= args.len() {
            return Err(CommandError::wrong_arity("xadd"));
        }
    }
    let new_id = NewId::parse(&args[index])?;
    let wish = options.finish(ctx)?;
    let pairs = args.from(index + 1);
    if pairs.is_empty() || pairs.len() % 2 == 1 {
        return Err(CommandError::wrong_arity("xadd"));
    }
    if new_id == NewId::Given(StreamId::MIN) {
        return Err(CommandError::fixed("ERR The ID specified in XADD must be greater than 0-0"));
    }
    if !is_new_allowed && ctx.keys.write_stream(key)?.is_none() {
        ctx.reply.null();
        return Ok(KeyFlow::Done);
    }
    if let Some(message) = &mut message {
        message.complete(pairs);
        if let Some(id) = message.sent_before(&mut ctx.keys, key)? {
            reply_id(ctx.reply, id);
            return Ok(KeyFlow::Done);
        }
    }
    let (now_ms, limits) = (ctx.keys.now_ms, &ctx.keys.settings.limits);
    let stream = ctx.keys.stream_or_new(key, |_| Stream::new())?;
    if stream.last_id() == StreamId::MAX {
        return Err(CommandError::fixed("ERR The stream has exhausted the last possible ID, unable to add more items"));
    }
    const NOT_ABOVE: CommandError =
        CommandError::fixed("ERR The ID specified in XADD is equal or smaller than the target stream top item");
    let id = new_id.resolve(stream.last_id(), now_ms).ok_or(NOT_ABOVE)?;
    let pair = |at: usize| (pairs.get(2 * at).unwrap_or_default(), pairs.get(2 * at + 1).unwrap_or_default());
    stream.append(id, (0..pairs.len() / 2).map(pair), limits).map_err(|refused| match refused {
        Refused::NotAboveLast => NOT_ABOVE,
        Refused::TooLarge => CommandError::fixed("ERR Elements are too large to be stored"),
    })?;
    if let Some(message) = &message {
        message.record(stream, id, now_ms);
    }
    let text = id.text();
    ctx.reply.bulk(&text);
    ctx.keys.touch(key, EventClasses::STREAM, "xadd");
    let mut exact = None;
    if let Some(wish) = wish {
        wish.run(&mut ctx.keys, key)?;
        exact = ctx.keys.write_stream(key)?.and_then(|stream| wish.exact(stream));
    }
    match exact {
        _ if message.as_ref().is_some_and(Message::is_automatic) => {
            let threshold = exact.as_ref().map(|(at, threshold)| (*at, threshold.as_slice()));
            if let Some(message) = &message {
                message.propagate(&mut ctx.keys, args, threshold, (index, &text));
            }
        }
        Some((at, threshold)) => {
            ctx.keys.propagate_replacing(args, &[(at - 1, b"="), (at, &threshold), (index, &text)]);
        }
        None if !matches!(new_id, NewId::Given(_)) => ctx.keys.propagate_replacing(args, &[(index, &text)]),
        None => {}
    }
    Ok(KeyFlow::Done)
}

fn xlen(ctx: &mut KeyContext<'_>, args: Args<'_>) -> Result<KeyFlow, CommandError> {
    let len = ctx.keys.read_stream(&args[1])?.map_or(0, |stream| stream.len());
    ctx.reply.count(len);
    Ok(KeyFlow::Done)
}

fn xrange(ctx: &mut KeyContext<'_>, args: Args<'_>) -> Result<KeyFlow, CommandError> {
    reply_range(ctx, args, 2, 3)
}

fn xrevrange(ctx: &mut KeyContext<'_>, args: Args<'_>) -> Result<KeyFlow, CommandError> {
    reply_range(ctx, args, 3, 2)
}

fn reply_range(
    ctx: &mut KeyContext<'_>,
    args: Args<'_>,
    start_at: usize,
    end_at: usize,
) -> Result<KeyFlow, CommandError> {
    let (start, end) = (stream_id::start(&args[start_at])?, stream_id::end(&args[end_at])?);
    let mut count = None;
    let mut index = 4;
    while index < args.len() {
        if !args.is(index, "COUNT") || index + 1 == args.len() {
            return Err(error::SYNTAX);
        }
        count = Some(args::integer(&args[index + 1])?.max(0) as usize);
        index += 2;
    }
    let Some(stream) = ctx.keys.read_stream(&args[1])? else {
        ctx.reply.array(0);
        return Ok(KeyFlow::Done);
    };
    if count == Some(0) {
        ctx.reply.null_array();
        return Ok(KeyFlow::Done);
    }
    let count = count.unwrap_or(usize::MAX);
    if start_at < end_at {
        reply_entries(ctx.reply, stream.range(start, end).take(count));
    } else {
        reply_entries(ctx.reply, stream.range_rev(start, end).take(count));
    }
    Ok(KeyFlow::Done)
}

pub fn reply_entries<'a>(reply: &mut Reply, entries: impl Iterator<Item = Entry<'a>>) {
    let mark = reply.begin();
    let mut count = 0;
    for entry in entries {
        reply_entry(reply, &entry);
        count += 1;
    }
    reply.end_array(mark, count);
}

fn xdel(ctx: &mut KeyContext<'_>, args: Args<'_>) -> Result<KeyFlow, CommandError> {
    let key = &args[1];
    let mut deleted = 0;
    if let Some(stream) = ctx.keys.write_stream(key)? {
        let ids = stream_id::list(args, 2)?;
        deleted = ids.into_iter().filter(|id| stream.delete(*id, References::Keep) == Deletion::Deleted).count();
    }
    if deleted > 0 {
        ctx.keys.touch(key, EventClasses::STREAM, "xdel");
        ctx.keys.effects.dirty += deleted as u64 - 1;
    }
    ctx.reply.count(deleted);
    Ok(KeyFlow::Done)
}

fn xsetid(ctx: &mut KeyContext<'_>, args: Args<'_>) -> Result<KeyFlow, CommandError> {
    let last_id = stream_id::strict(&args[2], 0)?;
    let (mut entries_added, mut max_deleted_id) = (None, StreamId::MIN);
    let mut index = 3;
    while index < args.len() {
        let value = args.get(index + 1).ok_or(error::SYNTAX)?;
        if args.is(index, "ENTRIESADDED") {
            let added = u64::try_from(args::integer(value)?);
            entries_added = Some(added.map_err(|_| CommandError::fixed("ERR entries_added must be positive"))?);
        } else if args.is(index, "MAXDELETEDID") {
            max_deleted_id = stream_id::strict(value, 0)?;
            if last_id < max_deleted_id {
                return Err(CommandError::fixed(
                    "ERR The ID specified in XSETID is smaller than the provided max_deleted_entry_id",
                ));
            }
        } else {
            return Err(error::SYNTAX);
        }
        index += 2;
    }
    let stream = ctx.keys.write_stream(&args[1])?.ok_or(error::NO_SUCH_KEY)?;
    if stream.top_id().is_some_and(|top| last_id < top) {
        return Err(CommandError::fixed("ERR The ID specified in XSETID is smaller than the target stream top item"));
    }
    if entries_added.is_some_and(|added| added < stream.len() as u64) {
        return Err(CommandError::fixed(
            "ERR The entries_added specified in XSETID is smaller than the target stream length",
        ));
    }
    let before = stream.totals();
    stream.set_totals(Totals {
        last_id,
        max_deleted_id: if max_deleted_id.is_zero() { before.max_deleted_id } else { max_deleted_id },
        entries_added: entries_added.unwrap_or(before.entries_added),
    });
    ctx.reply.ok();
    ctx.keys.effects.dirty += 1;
    ctx.keys.notify(&args[1], EventClasses::STREAM, "xsetid");
    Ok(KeyFlow::Done)
}
