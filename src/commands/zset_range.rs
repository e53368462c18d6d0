//! Ranges of sorted sets by rank, score and member: reading, storing, removing.

use super::args;
use super::context::{KeyContext, KeyFlow};
use super::error::{self, CommandError, CommandResult};
use super::keyspec::KeySpec;
use super::spec::{Group, KeyCommand, KeyHandler};
use super::zset::{READ, REMOVE, Scores, removed_members, store};
use crate::base::number::parse_f64_unbounded;
use crate::engine::zset::{LexBound, LexRange, ScoreBound, ScoreRange, ZSet};
use crate::resp::Args;
use std::ops::Range;

pub const COMMANDS: &[KeyCommand] = &[
    range_reader("zrange", zrange, "1.2.0")
        .syntax("key start stop [BYSCORE | BYLEX] [REV] [LIMIT offset count] [WITHSCORES]")
        .summary("Returns the members of a sorted set within a range."),
    range_reader("zrevrange", zrevrange, "1.2.0")
        .syntax("key start stop [WITHSCORES]")
        .summary("Returns members between two ranks, highest scores first."),
    range_reader("zrangebyscore", zrangebyscore, "1.0.5")
        .syntax("key min max [WITHSCORES] [LIMIT offset count]")
        .summary("Returns the members whose scores lie in a range."),
    range_reader("zrevrangebyscore", zrevrangebyscore, "2.2.0")
        .syntax("key max min [WITHSCORES] [LIMIT offset count]")
        .summary("Returns the members whose scores lie in a range, highest first."),
    range_reader("zrangebylex", zrangebylex, "2.8.9")
        .syntax("key min max [LIMIT offset count]")
        .summary("Returns the members that lie in a lexicographical range."),
    range_reader("zrevrangebylex", zrevrangebylex, "2.8.9")
        .syntax("key max min [LIMIT offset count]")
        .summary("Returns the members that lie in a lexicographical range, last first."),
    KeyCommand::new("zrangestore", -5, zrangestore)
        .group(Group::SortedSet)
        .since("6.2.0")
        .write()
        .denyoom()
        .keys(&[KeySpec::at(1).ow().update(), KeySpec::at(2).ro().access()])
        .syntax("dst src min max [BYSCORE | BYLEX] [REV] [LIMIT offset count]")
        .summary("Stores the members of a sorted set within a range.")
        .complexity("O(log(N)+M) where N is the size of the sorted set and M the number of members stored"),
    range_remover("zremrangebyrank", zremrangebyrank, "2.0.0")
        .syntax("key start stop")
        .summary("Removes the members between two ranks."),
    range_remover("zremrangebyscore", zremrangebyscore, "1.2.0")
        .syntax("key min max")
        .summary("Removes the members whose scores lie in a range."),
    range_remover("zremrangebylex", zremrangebylex, "2.8.9")
        .syntax("key min max")
        .summary("Removes the members that lie in a lexicographical range."),
];

const fn range_reader(name: &'static str, handler: KeyHandler, since: &'static str) -> KeyCommand {
    KeyCommand::new(name, -4, handler)
        .group(Group::SortedSet)
        .since(since)
        .readonly()
        .keys(READ)
        .complexity("O(log(N)+M) where N is the size of the sorted set and M the number of members returned")
}

const fn range_remover(name: &'static str, handler: KeyHandler, since: &'static str) -> KeyCommand {
    KeyCommand::new(name, 4, handler)
        .group(Group::SortedSet)
        .since(since)
        .write()
        .keys(REMOVE)
        .complexity("O(log(N)+M) where N is the size of the sorted set and M the number of members removed")
}

const BAD_SCORE_BOUND: CommandError = CommandError::fixed("ERR min or max is not a float");
const BAD_LEX_BOUND: CommandError = CommandError::fixed("ERR min or max not valid string range item");
const LIMIT_BY_RANK: CommandError =
    CommandError::fixed("ERR syntax error, LIMIT is only supported in combination with either BYSCORE or BYLEX");
const SCORES_BY_LEX: CommandError =
    CommandError::fixed("ERR syntax error, WITHSCORES not supported in combination with BYLEX");

/// `min` and `max`, each perhaps with `(` before it.
pub fn score_range(min: &[u8], max: &[u8]) -> CommandResult<ScoreRange> {
    Ok(ScoreRange { min: score_bound(min)?, max: score_bound(max)? })
}

fn score_bound(text: &[u8]) -> CommandResult<ScoreBound> {
    match text.strip_prefix(b"(") {
        Some(text) => bound_number(text).map(ScoreBound::Exclusive),
        None => bound_number(text).map(ScoreBound::Inclusive),
    }
    .ok_or(BAD_SCORE_BOUND)
}

/// Bounds go through C's plain `strtod` in Redis: no text is zero, leading space and overflow are accepted.
fn bound_number(text: &[u8]) -> Option<f64> {
    if text.is_empty() {
        return Some(0.0);
    }
    parse_f64_unbounded(text.trim_ascii_start())
}

/// `-`, `+`, `[member`, `(member`.
pub fn lex_range<'a>(min: &'a [u8], max: &'a [u8]) -> CommandResult<LexRange<'a>> {
    Ok(LexRange { min: lex_bound(min)?, max: lex_bound(max)? })
}

fn lex_bound(text: &[u8]) -> CommandResult<LexBound<'_>> {
    match text {
        b"-" => Ok(LexBound::Min),
        b"+" => Ok(LexBound::Max),
        [b'[', member @ ..] => Ok(LexBound::Inclusive(member)),
        [b'(', member @ ..] => Ok(LexBound::Exclusive(member)),
        _ => Err(BAD_LEX_BOUND),
    }
}

/// A range of ranks, negative ones counted from the highest score.
fn rank_range(start: i64, stop: i64, len: usize) -> Range<usize> {
    let (start, count) = super::list::resolve_range(start, stop, len);
    start..start + count
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum By {
    Rank,
    Score,
    Lex,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    Rising,
    Falling,
}

/// The bounds of a range, read.
enum Bounds<'a> {
    Ranks(i64, i64),
    Scores(ScoreRange),
    Members(LexRange<'a>),
}

/// What one of the range commands asks for.
struct Query<'a> {
    bounds: Bounds<'a>,
    order: Order,
    /// Negative: the whole range is skipped.
    offset: i64,
    /// Negative: no limit.
    limit: i64,
    scores: Scores,
}

/// Which options a command has; what its name fixes cannot be given again.
#[derive(Clone, Copy)]
struct Syntax {
    by: Option<By>,
    order: Option<Order>,
    stores: bool,
}

impl<'a> Query<'a> {
    /// Reads bounds and options from the first bound on.
    fn parse(args: &'a Args<'a>, bounds_at: usize, syntax: Syntax) -> CommandResult<Self> {
        let (mut by, mut order) = (syntax.by, syntax.order);
        let (mut offset, mut limit, mut scores) = (0, -1, Scores::Without);
        let mut index = bounds_at + 2;
        while index < args.len() {
            if !syntax.stores && args.is(index, "WITHSCORES") {
                scores = Scores::With;
            } else if args.is(index, "LIMIT") && index + 2 < args.len() {
                offset = args::integer(&args[index + 1])?;
                limit = args::integer(&args[index + 2])?;
                index += 2;
            } else if order.is_none() && args.is(index, "REV") {
                order = Some(Order::Falling);
            } else if by.is_none() && args.is(index, "BYLEX") {
                by = Some(By::Lex);
            } else if by.is_none() && args.is(index, "BYSCORE") {
                by = Some(By::Score);
            } else {
                return Err(error::SYNTAX);
            }
            index += 1;
        }
        let (by, order) = (by.unwrap_or(By::Rank), order.unwrap_or(Order::Rising));
        if limit != -1 && by == By::Rank {
            return Err(LIMIT_BY_RANK);
        }
        if scores == Scores::With && by == By::Lex {
            return Err(SCORES_BY_LEX);
        }
        let (first, second) = (&args[bounds_at], &args[bounds_at + 1]);
        let (min, max) = if order == Order::Falling { (second, first) } else { (first, second) };
        let bounds = match by {
            By::Rank => Bounds::Ranks(args::integer(first)?, args::integer(second)?),
            By::Score => Bounds::Scores(score_range(min, max)?),
            By::Lex => Bounds::Members(lex_range(min, max)?),
        };
        Ok(Query { bounds, order, offset, limit, scores })
    }

    /// The ranks, from the lowest score, that the query selects; falling order takes them from the end.
    fn ranks(&self, zset: &ZSet) -> Range<usize> {
        let len = zset.len();
        let all = match &self.bounds {
            Bounds::Ranks(start, stop) => {
                let ranks = rank_range(*start, *stop, len);
                return if self.order == Order::Falling { len - ranks.end..len - ranks.start } else { ranks };
            }
            Bounds::Scores(range) => zset.score_ranks(range),
            Bounds::Members(range) => zset.lex_ranks(range),
        };
        let Ok(offset) = usize::try_from(self.offset) else { return 0..0 };
        let skipped = offset.min(all.len());
        let count = usize::try_from(self.limit).map_or(all.len() - skipped, |limit| limit.min(all.len() - skipped));
        match self.order {
            Order::Rising => all.start + skipped..all.start + skipped + count,
            Order::Falling => all.end - skipped - count..all.end - skipped,
        }
    }

    fn reply(&self, ctx: &mut KeyContext<'_>, key: &[u8]) -> Result<KeyFlow, CommandError> {
        let Some(zset) = ctx.keys.read_zset(key)? else {
            ctx.reply.array(0);
            return Ok(KeyFlow::Done);
        };
        let ranks = self.ranks(zset);
        self.scores.begin(ctx.reply, ranks.len());
        let members = match self.order {
            Order::Rising => zset.range(ranks),
            Order::Falling => zset.range_rev(ranks),
        };
        members.for_each(|(member, score)| self.scores.reply_member(ctx.reply, member, score));
        Ok(KeyFlow::Done)
    }
}

fn read(
    ctx: &mut KeyContext<'_>,
    args: Args<'_>,
    by: Option<By>,
    order: Option<Order>,
) -> Result<KeyFlow, CommandError> {
    Query::parse(&args, 2, Syntax { by, order, stores: false })?.reply(ctx, &args[1])
}

fn zrange(ctx: &mut KeyContext<'_>, args: Args<'_>) -> Result<KeyFlow, CommandError> {
    read(ctx, args, None, None)
}

fn zrevrange(ctx: &mut KeyContext<'_>, args: Args<'_>) -> Result<KeyFlow, CommandError> {
    read(ctx, args, Some(By::Rank), Some(Order::Falling))
}

fn zrangebyscore(ctx: &mut KeyContext<'_>, args: Args<'_>) -> Result<KeyFlow, CommandError> {
    read(ctx, args, Some(By::Score), Some(Order::Rising))
}

fn zrevrangebyscore(ctx: &mut KeyContext<'_>, args: Args<'_>) -> Result<KeyFlow, CommandError> {
    read(ctx, args, Some(By::Score), Some(Order::Falling))
}

fn zrangebylex(ctx: &mut KeyContext<'_>, args: Args<'_>) -> Result<KeyFlow, CommandError> {
    read(ctx, args, Some(By::Lex), Some(Order::Rising))
}

fn zrevrangebylex(ctx: &mut KeyContext<'_>, args: Args<'_>) -> Result<KeyFlow, CommandError> {
    read(ctx, args, Some(By::Lex), Some(Order::Falling))
}

fn zrangestore(ctx: &mut KeyContext<'_>, args: Args<'_>) -> Result<KeyFlow, CommandError> {
    let query = Query::parse(&args, 3, Syntax { by: None, order: None, stores: true })?;
    let limits = &ctx.keys.settings.limits;
    let mut result = ZSet::new();
    if let Some(zset) = ctx.keys.read_zset(&args[2])? {
        for (member, score) in zset.range(query.ranks(zset)) {
            member.with_bytes(|member| result.insert(member, score, limits));
        }
    }
    store(ctx, &args[1], result, "zrangestore");
    Ok(KeyFlow::Done)
}

fn zremrangebyrank(ctx: &mut KeyContext<'_>, args: Args<'_>) -> Result<KeyFlow, CommandError> {
    let (start, stop) = (args::integer(&args[2])?, args::integer(&args[3])?);
    remove(ctx, &args[1], |zset| rank_range(start, stop, zset.len()), "zremrangebyrank")
}

fn zremrangebyscore(ctx: &mut KeyContext<'_>, args: Args<'_>) -> Result<KeyFlow, CommandError> {
    let range = score_range(&args[2], &args[3])?;
    remove(ctx, &args[1], |zset| zset.score_ranks(&range), "zremrangebyscore")
}

fn zremrangebylex(ctx: &mut KeyContext<'_>, args: Args<'_>) -> Result<KeyFlow, CommandError> {
    let range = lex_range(&args[2], &args[3])?;
    remove(ctx, &args[1], |zset| zset.lex_ranks(&range), "zremrangebylex")
}

fn remove(
    ctx: &mut KeyContext<'_>,
    key: &[u8],
    ranks: impl FnOnce(&ZSet) -> Range<usize>,
    event: &'static str,
) -> Result<KeyFlow, CommandError> {
    let (removed, emptied) = match ctx.keys.write_zset(key)? {
        None => (0, false),
        Some(zset) => {
            let ranks = ranks(zset);
            (zset.remove_ranks(ranks, |_, _| {}), zset.is_empty())
        }
    };
    ctx.reply.count(removed);
    removed_members(ctx, key, removed, emptied, event);
    Ok(KeyFlow::Done)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::limits::Limits;
    use crate::resp::OwnedArgs;

    fn selected(line: &str, syntax: Syntax) -> CommandResult<Vec<String>> {
        let (limits, mut zset) = (Limits::default(), ZSet::new());
        for (score, member) in ["a", "b", "c", "d", "e"].iter().enumerate() {
            zset.insert(member.as_bytes(), score as f64, &limits);
        }
        let args = OwnedArgs::new(line.split(' ').map(str::as_bytes));
        let args = args.as_args();
        let query = Query::parse(&args, 2, syntax)?;
        let ranks = query.ranks(&zset);
        let members = if query.order == Order::Falling { zset.range_rev(ranks) } else { zset.range(ranks) };
        Ok(members.map(|(member, _)| String::from_utf8_lossy(&member.to_vec()).into_owned()).collect())
    }

    #[test]
    fn ranges_limits_and_orders() {
        let free = Syntax { by: None, order: None, stores: false };
        for (line, expected) in [
            ("ZRANGE k 0 -1", "abcde"),
            ("ZRANGE k -2 -1", "de"),
            ("ZRANGE k 0 1 REV", "ed"),
            ("ZRANGE k 5 1", ""),
            ("ZRANGE k -9223372036854775808 9223372036854775807 REV", "edcba"),
            ("ZRANGE k (0 3 BYSCORE", "bcd"),
            ("ZRANGE k 3 (0 BYSCORE REV", "dcb"),
            ("ZRANGE k -inf +inf BYSCORE LIMIT 1 2", "bc"),
            ("ZRANGE k +inf -inf BYSCORE REV LIMIT 1 2", "dc"),
            ("ZRANGE k -inf +inf BYSCORE LIMIT -1 2", ""),
            ("ZRANGE k -inf +inf BYSCORE LIMIT 3 -5", "de"),
            ("ZRANGE k -inf +inf BYSCORE LIMIT 9223372036854775807 9223372036854775807", ""),
            ("ZRANGE k [b (e BYLEX", "bcd"),
            ("ZRANGE k + - BYLEX REV LIMIT 0 1", "e"),
        ] {
            assert_eq!(selected(line, free).map(|members| members.concat()).as_deref(), Ok(expected), "{line}");
        }
        for (line, error) in [
            ("ZRANGE k 0 1 LIMIT 0 1", LIMIT_BY_RANK),
            ("ZRANGE k - + BYLEX WITHSCORES", SCORES_BY_LEX),
            ("ZRANGE k a b BYSCORE", BAD_SCORE_BOUND),
            ("ZRANGE k nan 1 BYSCORE", BAD_SCORE_BOUND),
            ("ZRANGE k a b BYLEX", BAD_LEX_BOUND),
            ("ZRANGE k ++ - BYLEX", BAD_LEX_BOUND),
            ("ZRANGE k 0 1 BYSCORE LIMIT 1", error::SYNTAX),
            ("ZRANGE k x 1", error::NOT_AN_INTEGER),
            ("ZRANGE k 0 1 BYSCORE BYLEX", error::SYNTAX),
            ("ZRANGE k 0 1 REV REV", error::SYNTAX),
        ] {
            assert_eq!(selected(line, free), Err(error), "{line}");
        }
        let fixed = Syntax { by: Some(By::Rank), order: Some(Order::Falling), stores: false };
        assert_eq!(selected("ZREVRANGE k 0 1 REV", fixed), Err(error::SYNTAX));
    }
}
