//! XCLAIM, XAUTOCLAIM: pending entries change hands. To the stream each is an XCLAIM that says everything.

use super::args;
use super::context::{KeyContext, KeyFlow};
use super::error::{self, CommandError, CommandResult};
use super::keyspec::KeySpec;
use super::spec::{Group as CommandGroup, KeyCommand};
use super::stream::reply_entry;
use super::stream_group::no_key_or_group;
use super::stream_id::{self, reply_id};
use super::stream_pending::{GroupPlace, Moved, consumer_or_new};
use crate::engine::stream::{ConsumerId, Entries, Group, StreamId};
use crate::resp::{Args, Reply};

pub const COMMANDS: &[KeyCommand] = &[
    KeyCommand::new("xclaim", -6, xclaim)
        .group(CommandGroup::Stream)
        .since("5.0.0")
        .write()
        .fast()
        .tips(&["nondeterministic_output"])
        .keys(&[KeySpec::at(1).rw().update()])
        .syntax("key group consumer min-idle-time id [id ...] [IDLE ms] [TIME unix-time-milliseconds] [RETRYCOUNT count] [FORCE] [JUSTID] [LASTID lastid]")
        .summary("Makes a consumer the owner of pending entries.")
        .complexity("O(log N) with N being the number of messages in the PEL of the consumer group."),
    KeyCommand::new("xautoclaim", -6, xautoclaim)
        .group(CommandGroup::Stream)
        .since("6.2.0")
        .write()
        .fast()
        .tips(&["nondeterministic_output"])
        .keys(&[KeySpec::at(1).rw().delete()])
        .syntax("key group consumer min-idle-time start [COUNT count] [JUSTID]")
        .summary("Makes a consumer the owner of entries that have been pending for too long.")
        .complexity("O(1) if COUNT is small."),
];

/// How entries are claimed, and what came of it.
struct Claimer<'a> {
    name: &'a [u8],
    now_ms: i64,
    min_idle_ms: i64,
    delivered_ms: i64,
    /// The number of deliveries from now on; counted up without it, but for JUSTID.
    deliveries: Option<u64>,
    only_id: bool,
    consumer: Option<ConsumerId>,
    is_new_consumer: bool,
    moved: Vec<Moved>,
    replies: usize,
}

impl<'a> Claimer<'a> {
    fn new(name: &'a [u8], now_ms: i64, min_idle_ms: i64) -> Self {
        Claimer {
            name,
            now_ms,
            min_idle_ms,
            delivered_ms: now_ms,
            deliveries: None,
            only_id: false,
            consumer: None,
            is_new_consumer: false,
            moved: Vec::new(),
            replies: 0,
        }
    }

    /// An entry that exists no more ceases to be pending. False if it exists.
    fn forget_deleted(&mut self, entries: &Entries, group: &mut Group, id: StreamId) -> bool {
        if entries.contains(id) {
            return false;
        }
        if group.find_pending(id).is_some() {
            self.moved.push(Moved::of(group, id));
            group.acknowledge(id);
        }
        true
    }

    /// Takes an entry over, unless somebody has had it for too short a time. `forced`: also one that nobody has.
    fn claim(&mut self, reply: &mut Reply, entries: &Entries, group: &mut Group, id: StreamId, forced: bool) -> bool {
        let pending = group.find_pending(id).copied();
        let deliveries = match pending {
            None if !forced => return false,
            None => 1,
            Some(pending) => {
                let idle_ms = self.now_ms.saturating_sub(pending.delivered_ms);
                if self.min_idle_ms > 0 && idle_ms < self.min_idle_ms {
                    return false;
                }
                pending.deliveries
            }
        };
        let consumer = *self.consumer.get_or_insert_with(|| {
            let (consumer, is_new) = consumer_or_new(group, self.name, self.now_ms);
            self.is_new_consumer = is_new;
            group.consumer_mut(consumer).active_ms = Some(self.now_ms);
            consumer
        });
        let counted = if self.only_id { deliveries } else { deliveries.saturating_add(1) };
        group.assign(id, consumer, self.delivered_ms, self.deliveries.unwrap_or(counted));
        match entries.find(id) {
            Some(entry) if !self.only_id => reply_entry(reply, &entry),
            Some(_) | None => reply_id(reply, id),
        }
        self.replies += 1;
        self.moved.push(Moved::of(group, id));
        true
    }

    /// Tells everybody.
    fn finish(self, ctx: &mut KeyContext<'_>, place: &GroupPlace<'_>, has_moved_on: bool) {
        if self.is_new_consumer {
            ctx.keys.consumer_created(place, self.name, false);
        }
        if has_moved_on && self.moved.is_empty() {
            ctx.keys.group_changed(1);
            ctx.keys.propagate_group_id(place);
        }
        for moved in &self.moved {
            ctx.keys.group_changed(1);
            ctx.keys.propagate_claim(place, moved);
        }
    }
}

/// The ids and options behind them.
struct ClaimWish {
    ids: Vec<StreamId>,
    delivered_ms: Option<i64>,
    deliveries: Option<u64>,
    force: bool,
    only_id: bool,
    last_id: StreamId,
}

impl ClaimWish {
    fn parse(args: Args<'_>, now_ms: i64) -> CommandResult<Self> {
        let invalid = |option: &str| CommandError::new(format!("ERR Invalid {option} option argument for XCLAIM"));
        let number = |text: &[u8], option: &str| args::integer(text).map_err(|_| invalid(option));
        let ids: Vec<StreamId> = args.iter().skip(5).map_while(|text| stream_id::strict(text, 0).ok()).collect();
        let mut index = 5 + ids.len();
        let mut wish = ClaimWish {
            ids,
            delivered_ms: None,
            deliveries: None,
            force: false,
            only_id: false,
            last_id: StreamId::MIN,
        };
        while index < args.len() {
            let value = args.get(index + 1);
            match value {
                _ if args.is(index, "FORCE") => wish.force = true,
                _ if args.is(index, "JUSTID") => wish.only_id = true,
                Some(value) if args.is(index, "IDLE") => {
                    wish.delivered_ms = Some(now_ms.wrapping_sub(number(value, "IDLE")?));
                }
                Some(value) if args.is(index, "TIME") => wish.delivered_ms = Some(number(value, "TIME")?),
                Some(value) if args.is(index, "RETRYCOUNT") => {
                    // A negative number is none.
                    wish.deliveries = u64::try_from(number(value, "RETRYCOUNT")?).ok();
                }
                Some(value) if args.is(index, "LASTID") => wish.last_id = stream_id::strict(value, 0)?,
                _ => {
                    return Err(CommandError::joined(&[b"ERR Unrecognized XCLAIM option '", &args[index], b"'"]));
                }
            }
            index += if args.is(index, "FORCE") || args.is(index, "JUSTID") { 1 } else { 2 };
        }
        Ok(wish)
    }
}

fn xclaim(ctx: &mut KeyContext<'_>, args: Args<'_>) -> Result<KeyFlow, CommandError> {
    let (key, name, now_ms) = (&args[1], &args[2], ctx.keys.now_ms);
    let found = ctx.keys.write_stream(key)?.and_then(|stream| stream.split_mut(name));
    let (entries, group) = found.ok_or_else(|| no_key_or_group(key, name))?;
    let min_idle_ms = min_idle(&args[4], "XCLAIM")?;
    let wish = ClaimWish::parse(args, now_ms)?;
    let has_moved_on = wish.last_id > group.last_id;
    group.last_id = group.last_id.max(wish.last_id);
    let mut claimer = Claimer::new(&args[3], now_ms, min_idle_ms);
    claimer.deliveries = wish.deliveries;
    claimer.only_id = wish.only_id;
    // A time that cannot be one is taken for a clock that is wrong, not for an error.
    claimer.delivered_ms = wish.delivered_ms.filter(|at| (0..=now_ms).contains(at)).unwrap_or(now_ms);
    let mark = ctx.reply.begin();
    for id in wish.ids {
        if !claimer.forget_deleted(entries, group, id) {
            claimer.claim(ctx.reply, entries, group, id, wish.force);
        }
    }
    ctx.reply.end_array(mark, claimer.replies);
    let place = GroupPlace::new(key, name, group);
    claimer.finish(ctx, &place, has_moved_on);
    if wish.delivered_ms.is_some() {
        // What counts as idle already is for whoever waits with CLAIM.
        ctx.keys.wake(key);
    }
    Ok(KeyFlow::Done)
}

fn min_idle(text: &[u8], command: &str) -> CommandResult<i64> {
    let invalid = || CommandError::new(format!("ERR Invalid min-idle-time argument for {command}"));
    args::integer(text).map(|ms| ms.max(0)).map_err(|_| invalid())
}

/// Entries looked at for each one that was asked for.
const ATTEMPTS: u64 = 10;
const AUTOCLAIM_COUNT: u64 = 100;
/// So many ids fit the memory that Redis reserves for the answer.
const AUTOCLAIM_COUNT_MAX: i64 = i64::MAX / 16;

fn xautoclaim(ctx: &mut KeyContext<'_>, args: Args<'_>) -> Result<KeyFlow, CommandError> {
    let (key, name, now_ms) = (&args[1], &args[2], ctx.keys.now_ms);
    let mut claimer = Claimer::new(&args[3], now_ms, min_idle(&args[4], "XAUTOCLAIM")?);
    let start = stream_id::start(&args[5])?;
    let mut count = AUTOCLAIM_COUNT;
    let mut index = 6;
    while index < args.len() {
        if args.is(index, "COUNT") && index + 1 < args.len() {
            let invalid = CommandError::fixed("ERR COUNT must be > 0");
            count = args::integer_in(&args[index + 1], 1..=AUTOCLAIM_COUNT_MAX, invalid)? as u64;
            index += 2;
        } else if args.is(index, "JUSTID") {
            claimer.only_id = true;
            index += 1;
        } else {
            return Err(error::SYNTAX);
        }
    }
    let found = ctx.keys.write_stream(key)?.and_then(|stream| stream.split_mut(name));
    let (entries, group) = found.ok_or_else(|| no_key_or_group(key, name))?;
    let (mut page, mut deleted) = (Reply::new(ctx.reply.is_resp3()), Vec::new());
    let mut next = Some(start);
    let mut attempts = count * ATTEMPTS;
    while attempts > 0 && count > 0 {
        let Some((id, _)) = next.and_then(|next| group.pending(next..).next()) else { break };
        next = id.next();
        attempts -= 1;
        if claimer.forget_deleted(entries, group, id) {
            deleted.push(id);
            count -= 1;
        } else if claimer.claim(&mut page, entries, group, id, false) {
            count -= 1;
        }
    }
    let rest = next.and_then(|next| group.pending(next..).next().map(|(id, _)| id));
    ctx.reply.array(3);
    reply_id(ctx.reply, rest.unwrap_or(StreamId::MIN));
    ctx.reply.array(claimer.replies);
    ctx.reply.raw(page.as_bytes());
    ctx.reply.array(deleted.len());
    deleted.into_iter().for_each(|id| reply_id(ctx.reply, id));
    let place = GroupPlace::new(key, name, group);
    claimer.finish(ctx, &place, false);
    Ok(KeyFlow::Done)
}
