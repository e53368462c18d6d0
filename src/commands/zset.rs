//! Sorted sets: adding, scores, ranks, counting, removing. Ranges are in `zset_range`, random members and ZSCAN in
//! `zset_scan`, unions and their kin in `zset_algebra`, pops in `zset_pop`.

use super::args;
use super::context::{KeyContext, KeyFlow};
use super::effects::EventClasses;
use super::element::reply_element;
use super::error::{self, CommandError, CommandResult};
use super::keyspec::KeySpec;
use super::spec::{Group, KeyCommand, KeyHandler};
use super::zset_range::{lex_range, score_range};
use crate::engine::listpack::Element;
use crate::engine::value::Value;
use crate::engine::zset::{Change, ZSet};
use crate::resp::{Args, Reply};

/// Keys that are only read, and from which members are removed.
pub const READ: &[KeySpec] = &[KeySpec::at(1).ro().access()];
pub const REMOVE: &[KeySpec] = &[KeySpec::at(1).rw().delete()];

pub const COMMANDS: &[KeyCommand] = &[
    KeyCommand::new("zadd", -4, zadd)
        .member(3)
        .group(Group::SortedSet)
        .since("1.2.0")
        .write()
        .denyoom()
        .fast()
        .keys(&[KeySpec::at(1).rw().update()])
        .syntax("key [NX | XX] [GT | LT] [CH] [INCR] score member [score member ...]")
        .summary("Adds members to a sorted set, or gives them new scores.")
        .complexity("O(log(N)) for each member, where N is the size of the sorted set"),
    KeyCommand::new("zincrby", 4, zincrby)
        .member(3)
        .group(Group::SortedSet)
        .since("1.2.0")
        .write()
        .denyoom()
        .fast()
        .keys(&[KeySpec::at(1).rw().access().update()])
        .syntax("key increment member")
        .summary("Adds to the score of a member.")
        .complexity("O(log(N)) where N is the size of the sorted set"),
    zset_reader("zcard", 2, zcard, "1.2.0", &[KeySpec::at(1).ro()])
        .syntax("key")
        .summary("Counts the members of a sorted set.")
        .complexity("O(1)"),
    zset_reader("zscore", 3, zscore, "1.2.0", READ)
        .member(2)
        .syntax("key member")
        .summary("Returns the score of a member.")
        .complexity("O(1)"),
    zset_reader("zmscore", -3, zmscore, "6.2.0", READ)
        .member(2)
        .syntax("key member [member ...]")
        .summary("Returns the scores of several members.")
        .complexity("O(N) where N is the number of members asked for"),
    zset_reader("zrank", -3, zrank, "2.0.0", READ)
        .member(2)
        .syntax("key member [WITHSCORE]")
        .summary("Returns the rank of a member, counted from the lowest score.")
        .complexity("O(log(N))"),
    zset_reader("zrevrank", -3, zrevrank, "2.0.0", READ)
        .member(2)
        .syntax("key member [WITHSCORE]")
        .summary("Returns the rank of a member, counted from the highest score.")
        .complexity("O(log(N))"),
    zset_reader("zcount", 4, zcount, "2.0.0", READ)
        .syntax("key min max")
        .summary("Counts the members whose scores lie in a range.")
        .complexity("O(log(N)) where N is the size of the sorted set"),
    zset_reader("zlexcount", 4, zlexcount, "2.8.9", READ)
        .syntax("key min max")
        .summary("Counts the members that lie in a lexicographical range.")
        .complexity("O(log(N)) where N is the size of the sorted set"),
    KeyCommand::new("zrem", -3, zrem)
        .member(2)
        .group(Group::SortedSet)
        .since("1.2.0")
        .write()
        .fast()
        .keys(REMOVE)
        .syntax("key member [member ...]")
        .summary("Removes members of a sorted set.")
        .complexity("O(M*log(N)) where N is the size of the sorted set and M the number of members to remove"),
];

const fn zset_reader(
    name: &'static str,
    arity: i32,
    handler: KeyHandler,
    since: &'static str,
    keys: &'static [KeySpec],
) -> KeyCommand {
    KeyCommand::new(name, arity, handler).group(Group::SortedSet).since(since).readonly().fast().keys(keys)
}

/// Members with or without their scores in a reply: pairs of their own in RESP3, one flat row in RESP2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scores {
    With,
    Without,
}

impl Scores {
    /// Begins an array of `count` members.
    pub fn begin(self, reply: &mut Reply, count: usize) {
        let flat = self == Scores::With && !reply.is_resp3();
        reply.array(if flat { count * 2 } else { count });
    }

    #[inline]
    pub fn reply_member(self, reply: &mut Reply, member: Element<'_>, score: f64) {
        match self {
            Scores::Without => reply_element(reply, member),
            Scores::With => {
                if reply.is_resp3() {
                    reply.array(2);
                }
                reply_element(reply, member);
                reply.double(score);
            }
        }
    }
}

/// Puts the result of a …STORE command at its destination, whatever was there, and answers with its size; an empty result deletes it.
pub fn store(ctx: &mut KeyContext<'_>, destination: &[u8], result: ZSet, event: &'static str) {
    let len = result.len();
    if len > 0 {
        if !ctx.keys.exists(destination) {
            ctx.keys.notify(destination, EventClasses::NEW, "new");
        }
        ctx.keys.insert(destination, Value::ZSet(result), None);
        ctx.keys.touch(destination, EventClasses::ZSET, event);
    } else if ctx.keys.delete(destination) {
        ctx.keys.touch(destination, EventClasses::GENERIC, "del");
    }
    ctx.reply.count(len);
}

#[derive(Clone, Copy, Default)]
struct AddOptions {
    absent_only: bool,
    present_only: bool,
    greater_only: bool,
    less_only: bool,
    count_changed: bool,
    increment: bool,
}

const XX_AND_NX: CommandError = CommandError::fixed("ERR XX and NX options at the same time are not compatible");
const GT_LT_NX: CommandError = CommandError::fixed("ERR GT, LT, and/or NX options at the same time are not compatible");
const SINGLE_INCR: CommandError = CommandError::fixed("ERR INCR option supports a single increment-element pair");
const NOT_A_NUMBER: CommandError = CommandError::fixed("ERR resulting score is not a number (NaN)");

impl AddOptions {
    /// The options, and the index of the first score.
    fn parse(args: Args<'_>) -> CommandResult<(Self, usize)> {
        let mut options = AddOptions::default();
        let mut index = 2;
        loop {
            let option = if args.is(index, "NX") {
                &mut options.absent_only
            } else if args.is(index, "XX") {
                &mut options.present_only
            } else if args.is(index, "GT") {
                &mut options.greater_only
            } else if args.is(index, "LT") {
                &mut options.less_only
            } else if args.is(index, "CH") {
                &mut options.count_changed
            } else if args.is(index, "INCR") {
                &mut options.increment
            } else {
                break;
            };
            *option = true;
            index += 1;
        }
        let rest = args.len().saturating_sub(index);
        if rest == 0 || rest % 2 == 1 {
            return Err(error::SYNTAX);
        }
        if options.absent_only && options.present_only {
            return Err(XX_AND_NX);
        }
        let (greater, less) = (options.greater_only, options.less_only);
        if (greater && less) || (options.absent_only && (greater || less)) {
            return Err(GT_LT_NX);
        }
        if options.increment && rest > 2 {
            return Err(SINGLE_INCR);
        }
        Ok((options, index))
    }

    /// The score that a member gets, or nothing if it is left alone.
    #[inline]
    fn decide(&self, old: Option<f64>, given: f64) -> Option<f64> {
        let Some(old) = old else { return (!self.present_only).then_some(given) };
        let new = if self.increment { old + given } else { given };
        let refused = self.absent_only || (self.less_only && new >= old) || (self.greater_only && new <= old);
        (!refused).then_some(new)
    }
}

pub fn zadd(ctx: &mut KeyContext<'_>, args: Args<'_>) -> Result<KeyFlow, CommandError> {
    let (options, first) = AddOptions::parse(args)?;
    if options.increment {
        let increment = args::float(&args[first])?;
        return increment_score(ctx, &args[1], increment, &args[first + 1], options);
    }
    // Nothing is added unless every score is a number.
    let first_score = args::float(&args[first])?;
    let others = (first + 2..args.len()).step_by(2).map(|index| args::float(&args[index]));
    let others = others.collect::<CommandResult<Vec<f64>>>()?;
    let (mut added, mut updated) = (0, 0);
    let limits = &ctx.keys.settings.limits;
    let zset = if options.present_only {
        ctx.keys.write_zset(&args[1])?
    } else {
        Some(ctx.keys.zset_or_new(&args[1], |_| ZSet::new())?)
    };
    if let Some(zset) = zset {
        let scores = std::iter::once(first_score).chain(others);
        for (index, score) in (first + 1..args.len()).step_by(2).zip(scores) {
            match zset.upsert(&args[index], limits, |old| options.decide(old, score)) {
                Change::Added => added += 1,
                Change::Updated(_) => updated += 1,
                Change::Same | Change::Declined => {}
            }
        }
    }
    if added + updated > 0 {
        ctx.keys.touch(&args[1], EventClasses::ZSET, "zadd");
        ctx.keys.effects.dirty += (added + updated) as u64 - 1;
    }
    ctx.reply.count(if options.count_changed { added + updated } else { added });
    Ok(KeyFlow::Done)
}

fn zincrby(ctx: &mut KeyContext<'_>, args: Args<'_>) -> Result<KeyFlow, CommandError> {
    let increment = args::float(&args[2])?;
    let options = AddOptions { increment: true, ..AddOptions::default() };
    increment_score(ctx, &args[1], increment, &args[3], options)
}

/// ZINCRBY and ZADD … INCR: answers with the new score, or null if the options left it alone.
fn increment_score(
    ctx: &mut KeyContext<'_>,
    key: &[u8],
    increment: f64,
    member: &[u8],
    options: AddOptions,
) -> Result<KeyFlow, CommandError> {
    let limits = &ctx.keys.settings.limits;
    let zset = if options.present_only {
        ctx.keys.write_zset(key)?
    } else {
        Some(ctx.keys.zset_or_new(key, |_| ZSet::new())?)
    };
    let Some(zset) = zset else {
        ctx.reply.null();
        return Ok(KeyFlow::Done);
    };
    let mut wanted = None;
    let change = zset.upsert(member, limits, |old| {
        wanted = options.decide(old, increment);
        wanted.filter(|score| !score.is_nan())
    });
    match wanted {
        Some(score) if score.is_nan() => return Err(NOT_A_NUMBER),
        Some(score) => ctx.reply.double(score),
        None => ctx.reply.null(),
    }
    if matches!(change, Change::Added | Change::Updated(_)) {
        ctx.keys.touch(key, EventClasses::ZSET, "zincr");
    }
    Ok(KeyFlow::Done)
}

fn zcard(ctx: &mut KeyContext<'_>, args: Args<'_>) -> Result<KeyFlow, CommandError> {
    let len = ctx.keys.read_zset(&args[1])?.map_or(0, ZSet::len);
    ctx.reply.count(len);
    Ok(KeyFlow::Done)
}

fn zscore(ctx: &mut KeyContext<'_>, args: Args<'_>) -> Result<KeyFlow, CommandError> {
    match ctx.keys.read_zset(&args[1])?.and_then(|zset| zset.score(&args[2])) {
        Some(score) => ctx.reply.double(score),
        None => ctx.reply.null(),
    }
    Ok(KeyFlow::Done)
}

fn zmscore(ctx: &mut KeyContext<'_>, args: Args<'_>) -> Result<KeyFlow, CommandError> {
    let zset = ctx.keys.read_zset(&args[1])?;
    ctx.reply.array(args.len() - 2);
    for member in args.from(2).iter() {
        match zset.and_then(|zset| zset.score(member)) {
            Some(score) => ctx.reply.double(score),
            None => ctx.reply.null(),
        }
    }
    Ok(KeyFlow::Done)
}

fn zrank(ctx: &mut KeyContext<'_>, args: Args<'_>) -> Result<KeyFlow, CommandError> {
    reply_rank(ctx, args, "zrank", |rank, _| rank)
}

fn zrevrank(ctx: &mut KeyContext<'_>, args: Args<'_>) -> Result<KeyFlow, CommandError> {
    reply_rank(ctx, args, "zrevrank", |rank, len| len - 1 - rank)
}

fn reply_rank(
    ctx: &mut KeyContext<'_>,
    args: Args<'_>,
    command: &str,
    from_end: fn(usize, usize) -> usize,
) -> Result<KeyFlow, CommandError> {
    if args.len() > 4 {
        return Err(CommandError::wrong_arity(command));
    }
    if args.len() == 4 && !args.is(3, "WITHSCORE") {
        return Err(error::SYNTAX);
    }
    let found = ctx.keys.read_zset(&args[1])?;
    let found = found.and_then(|zset| zset.rank(&args[2]).map(|(rank, score)| (from_end(rank, zset.len()), score)));
    match (found, args.len()) {
        (Some((rank, _)), 3) => ctx.reply.count(rank),
        (Some((rank, score)), _) => {
            ctx.reply.array(2);
            ctx.reply.count(rank);
            ctx.reply.double(score);
        }
        (None, 3) => ctx.reply.null(),
        (None, _) => ctx.reply.null_array(),
    }
    Ok(KeyFlow::Done)
}

fn zcount(ctx: &mut KeyContext<'_>, args: Args<'_>) -> Result<KeyFlow, CommandError> {
    let range = score_range(&args[2], &args[3])?;
    let count = ctx.keys.read_zset(&args[1])?.map_or(0, |zset| zset.score_ranks(&range).len());
    ctx.reply.count(count);
    Ok(KeyFlow::Done)
}

fn zlexcount(ctx: &mut KeyContext<'_>, args: Args<'_>) -> Result<KeyFlow, CommandError> {
    let range = lex_range(&args[2], &args[3])?;
    let count = ctx.keys.read_zset(&args[1])?.map_or(0, |zset| zset.lex_ranks(&range).len());
    ctx.reply.count(count);
    Ok(KeyFlow::Done)
}

fn zrem(ctx: &mut KeyContext<'_>, args: Args<'_>) -> Result<KeyFlow, CommandError> {
    let Some(zset) = ctx.keys.write_zset(&args[1])? else {
        ctx.reply.integer(0);
        return Ok(KeyFlow::Done);
    };
    let removed = args.from(2).iter().filter(|member| zset.remove(member).is_some()).count();
    let emptied = zset.is_empty();
    ctx.reply.count(removed);
    removed_members(ctx, &args[1], removed, emptied, "zrem");
    Ok(KeyFlow::Done)
}

/// What follows from the removal of members.
pub fn removed_members(ctx: &mut KeyContext<'_>, key: &[u8], removed: usize, emptied: bool, event: &'static str) {
    if removed == 0 {
        return;
    }
    ctx.keys.touch(key, EventClasses::ZSET, event);
    ctx.keys.effects.dirty += removed as u64 - 1;
    if emptied {
        ctx.keys.remove_emptied(key);
    }
}
