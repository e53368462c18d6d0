//! XREAD and XREADGROUP: entries above an id, or those that a group has not given out yet. Both may wait for some.
//!
//! ```text
//!   parse ─► resolve: an id per key (`$` becomes the last one, `>` asks the group) ─► serve key by key ─► reply
//!     ▲                                                                                  │ nothing
//!     └────────── run again when a key has changed, with the ids resolved ◄── block ◄────┘
//! ```
//! With CLAIM time alone makes entries available: such a reader also looks again when the next one will have been pending long enough.
//! To the stream of replicas and AOF XREADGROUP is what it does to the group: XCLAIM, XGROUP SETID, XGROUP CREATECONSUMER.

use super::args;
use super::context::{Block, KeyContext, KeyFlow, OnTimeout};
use super::error::{self, CommandError, CommandResult};
use super::flags::Flags;
use super::keyspec::{Find, KeySpec};
use super::spec::{Group as CommandGroup, KeyCommand};
use super::stream::{reply_entries, reply_entry};
use super::stream_id::{self, reply_id};
use super::stream_pending::{self, GroupPlace, Moved};
use crate::engine::stream::{Entry, StreamId};
use crate::resp::{Args, OwnedArgs, Reply};
use std::ops::Range;

const STREAMS: Find = Find::Range { last: -1, step: 1, limit: 2 };

pub const COMMANDS: &[KeyCommand] = &[
    KeyCommand::new("xread", -4, xread)
        .group(CommandGroup::Stream)
        .since("5.0.0")
        .readonly()
        .flag(Flags::BLOCKING)
        .keys(&[KeySpec::after("STREAMS", 1).find(STREAMS).ro().access()])
        .key_finder(keys_of)
        .syntax("[COUNT count] [BLOCK milliseconds] STREAMS key [key ...] id [id ...]")
        .summary("Returns the entries of streams above ids, or waits for some.")
        .complexity("For each stream mentioned: O(N) with N being the number of elements being returned, it means that XREAD-ing with a fixed COUNT is O(1). Note that when the BLOCK option is used, XADD will pay O(M) time in order to serve the M clients blocked on the stream getting new data."),
    KeyCommand::new("xreadgroup", -7, xreadgroup)
        .group(CommandGroup::Stream)
        .since("5.0.0")
        .write()
        .flag(Flags::BLOCKING)
        .keys(&[KeySpec::after("STREAMS", 4).find(STREAMS).ro().access()])
        .key_finder(keys_of)
        .syntax("GROUP group consumer [COUNT count] [BLOCK milliseconds] [CLAIM min-idle-time] [NOACK] STREAMS key [key ...] id [id ...]")
        .summary("Returns entries that a group has not given out yet, or those that a consumer has not acknowledged.")
        .complexity("For each stream mentioned: O(M) with M being the number of elements returned. If M is constant (e.g. always asking for the first 10 elements with COUNT), you can consider it O(1). On the other side when XREADGROUP blocks, XADD will pay the O(N) time in order to serve the N clients blocked on the stream getting new data."),
];

/// The keys behind STREAMS, where options are passed over as the command reads them: a consumer may be called STREAMS.
fn keys_of(args: Args<'_>) -> Vec<usize> {
    let mut index = 1;
    while index < args.len() {
        if args.is(index, "STREAMS") {
            let rest = args.len() - index - 1;
            return if rest.is_multiple_of(2) { (index + 1..index + 1 + rest / 2).collect() } else { Vec::new() };
        }
        index += if args.is(index, "GROUP") {
            3
        } else if ["BLOCK", "COUNT", "CLAIM"].iter().any(|word| args.is(index, word)) {
            2
        } else if args.is(index, "NOACK") {
            1
        } else {
            break;
        };
    }
    Vec::new()
}

/// Entries for a client that was blocked and has not said how many.
const WOKEN_COUNT: usize = 1000;

/// A reader with CLAIM that sees nothing pending looks again after its idle time, but no sooner than this.
const LOOK_MS: i64 = 50;

/// What a request asks for.
struct Wish<'a> {
    group: Option<GroupWish<'a>>,
    /// Entries of each stream; all without a number.
    count: Option<usize>,
    /// Blocks, for so long.
    block: Option<Option<u64>>,
    /// Indexes of the keys; the ids stand behind them.
    keys: Range<usize>,
}

#[derive(Clone, Copy)]
struct GroupWish<'a> {
    name: &'a [u8],
    consumer: &'a [u8],
    noack: bool,
    /// Entries that were pending for so long are taken over first.
    claim_idle_ms: Option<i64>,
}

/// From where a stream is read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum From {
    Above(StreamId),
    /// `>`
    NewToGroup,
}

/// Which of the two commands it is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reader {
    Anybody,
    Group,
}

fn xread(ctx: &mut KeyContext<'_>, args: Args<'_>) -> Result<KeyFlow, CommandError> {
    read(ctx, args, Reader::Anybody)
}

fn xreadgroup(ctx: &mut KeyContext<'_>, args: Args<'_>) -> Result<KeyFlow, CommandError> {
    read(ctx, args, Reader::Group)
}

fn read(ctx: &mut KeyContext<'_>, args: Args<'_>, reader: Reader) -> Result<KeyFlow, CommandError> {
    let wish = Wish::parse(ctx, args, reader)?;
    let mut from = Vec::with_capacity(wish.keys.len());
    for key_at in wish.keys.clone() {
        from.push(wish.resolve(ctx, &args[key_at], &args[key_at + wish.keys.len()])?);
    }
    let mark = ctx.reply.begin();
    let mut served = 0;
    for (key_at, from) in wish.keys.clone().zip(&from) {
        let before = ctx.reply.len();
        if !ctx.reply.is_resp3() {
            ctx.reply.array(2);
        }
        ctx.reply.bulk(&args[key_at]);
        if wish.serve(ctx, &args[key_at], *from)? {
            served += 1;
        } else {
            ctx.reply.truncate(before);
        }
    }
    if served > 0 {
        if ctx.reply.is_resp3() {
            ctx.reply.end_map(mark, served)
        } else {
            ctx.reply.end_array(mark, served)
        }
        return Ok(KeyFlow::Done);
    }
    let Some(timeout_ms) = wish.block.filter(|_| !ctx.deny_blocking) else {
        ctx.reply.null_array();
        return Ok(KeyFlow::Done);
    };
    Ok(KeyFlow::Block(Block {
        keys: args.iter().skip(wish.keys.start).take(wish.keys.len()).map(Box::from).collect(),
        timeout_ms,
        on_timeout: OnTimeout::NullArray,
        wakes_on_delete: reader == Reader::Group,
        look_again_ms: wish.look_again_ms(ctx, args, &from),
        args: Some(resolved(args, wish.keys.end, &from)),
    }))
}

/// The request with ids in the place of `$`: what was the last entry when the client went to sleep.
fn resolved(args: Args<'_>, ids_at: usize, from: &[From]) -> OwnedArgs {
    let texts: Vec<Option<_>> = from
        .iter()
        .map(|from| match from {
            From::Above(id) => Some(id.text()),
            From::NewToGroup => None,
        })
        .collect();
    OwnedArgs::new(args.iter().enumerate().map(|(index, arg)| {
        let text = index.checked_sub(ids_at).and_then(|at| texts.get(at)?.as_deref());
        text.unwrap_or(arg)
    }))
}

impl<'a> Wish<'a> {
    fn parse(ctx: &KeyContext<'_>, args: Args<'a>, reader: Reader) -> CommandResult<Self> {
        let only_for_groups = |option: &str| {
            CommandError::new(format!(
                "ERR The {option} option is only supported by XREADGROUP. You called XREAD instead."
            ))
        };
        let (mut group, mut count, mut block, mut noack, mut claim_idle_ms) = (None, 0, None, false, None);
        let mut index = 1;
        let keys = loop {
            let more = args.len().saturating_sub(index + 1);
            if args.is(index, "BLOCK") && more > 0 {
                if ctx.in_script {
                    let end = b" command is not allowed with BLOCK option from scripts";
                    return Err(CommandError::joined(&[b"ERR ", &args[0], end]));
                }
                block = Some(block_ms(&args[index + 1], ctx.keys.now_ms)?);
                index += 2;
            } else if args.is(index, "COUNT") && more > 0 {
                count = args::integer(&args[index + 1])?.max(0) as usize;
                index += 2;
            } else if args.is(index, "STREAMS") && more > 0 {
                if more % 2 == 1 {
                    return Err(CommandError::fixed(
                        "ERR Unbalanced XREAD list of streams: for each stream key an ID or '$' must be specified.",
                    ));
                }
                break index + 1..index + 1 + more / 2;
            } else if args.is(index, "GROUP") && more >= 2 {
                if reader == Reader::Anybody {
                    return Err(only_for_groups("GROUP"));
                }
                group = args.get(index + 1).zip(args.get(index + 2));
                index += 3;
            } else if args.is(index, "NOACK") {
                if reader == Reader::Anybody {
                    return Err(only_for_groups("NOACK"));
                }
                noack = true;
                index += 1;
            } else if args.is(index, "CLAIM") && more > 0 && reader == Reader::Group {
                let invalid = CommandError::fixed("ERR min-idle-time must be a positive integer");
                claim_idle_ms = Some(args::integer_in(&args[index + 1], 0..=i64::MAX, invalid)?);
                index += 2;
            } else {
                return Err(error::SYNTAX);
            }
        };
        if reader == Reader::Group && group.is_none() {
            return Err(CommandError::fixed("ERR Missing GROUP option for XREADGROUP"));
        }
        let group = group.map(|(name, consumer)| GroupWish { name, consumer, noack, claim_idle_ms });
        let count = match count {
            0 if ctx.is_woken => Some(WOKEN_COUNT),
            0 => None,
            count => Some(count),
        };
        Ok(Wish { group, count, block, keys })
    }

    /// From where to read a key, given the id as it was written.
    fn resolve(&self, ctx: &mut KeyContext<'_>, key: &[u8], id: &[u8]) -> CommandResult<From> {
        let is_woken = ctx.is_woken;
        let stream = match (ctx.keys.read_stream(key), self.group) {
            (Ok(None) | Err(_), Some(_)) if is_woken => {
                return Err(CommandError::fixed("UNBLOCKED the stream key no longer exists"));
            }
            // Who waits for several streams does not mind that one has become something else.
            (Err(_), None) if is_woken => None,
            (stream, _) => stream?,
        };
        if let Some(group) = self.group
            && stream.is_none_or(|stream| stream.group(group.name).is_none())
        {
            if is_woken {
                return Err(CommandError::fixed(
                    "NOGROUP the consumer group this client was blocked on no longer exists",
                ));
            }
            let (begin, end) = (b"NOGROUP No such key '", b"' in XREADGROUP with GROUP option");
            return Err(CommandError::joined(&[begin, key, b"' or consumer group '", group.name, end]));
        }
        let last_id = stream.map_or(StreamId::MIN, |stream| stream.last_id());
        match (id, self.group) {
            (b"$" | b"+", Some(_)) => {
                let id = char::from(id[0]);
                Err(CommandError::new(format!(
                    "ERR The {id} ID is meaningless in the context of XREADGROUP: you want to read the history of this \
                     consumer by specifying a proper ID, or use the > ID to get new messages. The {id} ID would just return \
                     an empty result set."
                )))
            }
            (b"$", None) => Ok(From::Above(last_id)),
            // The last entry; without one, as `$`.
            (b"+", None) => {
                let top = stream.and_then(|stream| stream.top_id()).and_then(StreamId::prev);
                Ok(From::Above(top.unwrap_or(last_id)))
            }
            (b">", Some(_)) => Ok(From::NewToGroup),
            (b">", None) => Err(CommandError::fixed(
                "ERR The > ID can be specified only when calling XREADGROUP using the GROUP <group> <consumer> option.",
            )),
            (text, _) => stream_id::strict(text, 0).map(From::Above),
        }
    }

    /// Appends the entries of one stream to the reply; false, and nothing, if there are none to wait for.
    fn serve(&self, ctx: &mut KeyContext<'_>, key: &[u8], from: From) -> CommandResult<bool> {
        match (self.group, from) {
            (None, From::NewToGroup) => Ok(false),
            (None, From::Above(id)) => self.serve_anybody(ctx, key, id),
            (Some(group), From::NewToGroup) => self.serve_new(ctx, key, group),
            (Some(group), From::Above(id)) => self.serve_history(ctx, key, group, id),
        }
    }

    fn serve_anybody(&self, ctx: &mut KeyContext<'_>, key: &[u8], id: StreamId) -> CommandResult<bool> {
        let found = ctx.keys.peek(key).map(|record| record.value());
        let Some(crate::engine::value::ValueRef::Stream(stream)) = found else { return Ok(false) };
        let Some(start) = id.next().filter(|start| stream.top_id().is_some_and(|top| top >= *start)) else {
            return Ok(false);
        };
        reply_entries(ctx.reply, stream.range(start, StreamId::MAX).take(self.count.unwrap_or(usize::MAX)));
        Ok(true)
    }

    /// When the next pending entry will have been idle for as long as CLAIM wants. What somebody gets later than now cannot be it
    /// any sooner than what is got now.
    fn look_again_ms(&self, ctx: &mut KeyContext<'_>, args: Args<'_>, from: &[From]) -> Option<i64> {
        let (group, idle_ms) = self.group.and_then(|group| Some((group, group.claim_idle_ms?)))?;
        let now_ms = ctx.keys.now_ms;
        let mut next_ms = now_ms.saturating_add(idle_ms.max(LOOK_MS));
        let asks_group = self.keys.clone().zip(from).filter(|(_, from)| **from == From::NewToGroup);
        let mut some = false;
        for (key_at, _) in asks_group {
            some = true;
            let stream = ctx.keys.write_stream(&args[key_at]).ok().flatten();
            let Some((_, group)) = stream.and_then(|stream| stream.split_mut(group.name)) else { continue };
            // What is idle for long enough and was not served is an entry that exists no more.
            let next = group.next_delivery_after(now_ms.saturating_sub(idle_ms));
            next_ms = next_ms.min(next.map_or(i64::MAX, |at| at.saturating_add(idle_ms)));
        }
        Some(next_ms).filter(|_| some)
    }

    /// Entries that the group has not given out yet; before them, with CLAIM, those that somebody has had for too long.
    fn serve_new(&self, ctx: &mut KeyContext<'_>, key: &[u8], wish: GroupWish<'_>) -> CommandResult<bool> {
        let (now_ms, mut left) = (ctx.keys.now_ms, self.count.unwrap_or(usize::MAX));
        let Some((entries, group)) = ctx.keys.write_stream(key)?.and_then(|stream| stream.split_mut(wish.name)) else {
            return Ok(false);
        };
        // Those that were released come before all others.
        let claimed = wish.claim_idle_ms.map_or(Vec::new(), |idle_ms| {
            group.longest_pending(now_ms.saturating_sub(idle_ms), left, |id| entries.contains(id))
        });
        left -= claimed.len();
        let has_new = left > 0 && entries.top_id().is_some_and(|top| top > group.last_id);
        if claimed.is_empty() && !has_new {
            return Ok(false);
        }
        let (consumer, is_new_consumer) = stream_pending::consumer_or_new(group, wish.consumer, now_ms);
        group.consumer_mut(consumer).active_ms = Some(now_ms);
        let mut moved = Vec::new();
        let mark = ctx.reply.begin();
        let mut count = claimed.len();
        for id in claimed {
            let (Some(pending), Some(entry)) = (group.find_pending(id).copied(), entries.find(id)) else { continue };
            let idle_ms = now_ms.saturating_sub(pending.delivered_ms).max(0);
            reply_entry_with(ctx.reply, &entry, idle_ms, pending.deliveries);
            group.assign(id, consumer, now_ms, pending.deliveries.saturating_add(1));
            moved.push(Moved::of(group, id));
        }
        let mut last_given = None;
        if let Some(start) = group.last_id.next().filter(|_| has_new) {
            let counter = entries.counter();
            for entry in entries.range(start, StreamId::MAX).take(left) {
                let id = entry.id();
                counter.advance(group, id);
                last_given = Some(id);
                match wish.claim_idle_ms {
                    Some(_) => reply_entry_with(ctx.reply, &entry, 0, 0),
                    None => reply_entry(ctx.reply, &entry),
                }
                if !wish.noack {
                    group.assign(id, consumer, now_ms, 1);
                    moved.push(Moved::of(group, id));
                }
                count += 1;
            }
        }
        ctx.reply.end_array(mark, count);
        let place = GroupPlace::new(key, wish.name, group);
        if is_new_consumer {
            ctx.keys.consumer_created(&place, wish.consumer, wish.noack);
        }
        ctx.keys.group_changed(1);
        moved.into_iter().for_each(|moved| ctx.keys.propagate_claim(&place, &moved));
        if wish.noack && last_given.is_some() {
            ctx.keys.propagate_group_id(&place);
        }
        Ok(true)
    }

    /// What this consumer has not acknowledged. There is always an answer, be it empty.
    fn serve_history(
        &self,
        ctx: &mut KeyContext<'_>,
        key: &[u8],
        wish: GroupWish<'_>,
        above: StreamId,
    ) -> CommandResult<bool> {
        let now_ms = ctx.keys.now_ms;
        let Some((entries, group)) = ctx.keys.write_stream(key)?.and_then(|stream| stream.split_mut(wish.name)) else {
            return Ok(false);
        };
        let (consumer, is_new_consumer) = stream_pending::consumer_or_new(group, wish.consumer, now_ms);
        let start = above.next();
        let ids: Vec<StreamId> = start.map_or(Vec::new(), |start| {
            group.consumer(consumer).pending(start..).take(self.count.unwrap_or(usize::MAX)).collect()
        });
        ctx.reply.array(ids.len());
        for id in ids {
            match entries.find(id) {
                Some(entry) => {
                    reply_entry(ctx.reply, &entry);
                    group.redeliver(id, now_ms);
                }
                // It was deleted since.
                None => {
                    ctx.reply.array(2);
                    reply_id(ctx.reply, id);
                    ctx.reply.null_array();
                }
            }
        }
        let place = GroupPlace::new(key, wish.name, group);
        if is_new_consumer {
            // No claim of an entry will make it on replicas.
            ctx.keys.consumer_created(&place, wish.consumer, true);
        }
        ctx.keys.group_changed(1);
        Ok(true)
    }
}

/// The entry with the time since its last delivery and the number of deliveries before this one.
fn reply_entry_with(reply: &mut Reply, entry: &Entry<'_>, idle_ms: i64, deliveries: u64) {
    let before = reply.len();
    reply_entry(reply, entry);
    // The array has two elements more.
    debug_assert_eq!(&reply.as_bytes()[before..before + 2], b"*2");
    reply.buffer_mut()[before + 1] = b'4';
    reply.integer(idle_ms);
    reply.integer(deliveries as i64);
}

/// BLOCK's milliseconds; zero waits for ever.
fn block_ms(text: &[u8], now_ms: i64) -> CommandResult<Option<u64>> {
    let ms = crate::base::number::parse_i64(text).ok_or(error::TIMEOUT_NOT_AN_INTEGER)?;
    if ms < 0 {
        return Err(error::TIMEOUT_NEGATIVE);
    }
    if now_ms.checked_add(ms).is_none() {
        return Err(error::TIMEOUT_OUT_OF_RANGE);
    }
    Ok(Some(ms as u64).filter(|ms| *ms > 0))
}
