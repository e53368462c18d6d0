//! Unions, intersections and differences of sorted sets; plain sets take part as if every score were 1.

use super::args;
use super::context::{KeyContext, KeyFlow, Keys};
use super::error::{self, CommandError, CommandResult};
use super::keyspec::KeySpec;
use super::spec::{Group, KeyCommand, KeyHandler};
use super::zset::{Scores, store};
use crate::base::number::parse_f64;
use crate::engine::limits::Limits;
use crate::engine::listpack::Element;
use crate::engine::set::Set;
use crate::engine::value::ValueRef;
use crate::engine::zset::ZSet;
use crate::resp::Args;
use std::ops::Range;

const SOURCES: &[KeySpec] = &[KeySpec::counted(1).ro().access()];
const STORE: &[KeySpec] = &[KeySpec::at(1).ow().update(), KeySpec::counted(2).ro().access()];
const UNION_COMPLEXITY: &str = "O(N)+O(M*log(M)) where N is the sum of the sizes and M the size of the result";
const INTER_COMPLEXITY: &str = "O(N*K)+O(M*log(M)) where N is the size of the smallest sorted set, K the number of them and M the size of the result";
const DIFF_COMPLEXITY: &str =
    "O(L+(N-K)*log(N)) where L is the sum of the sizes, N the size of the first and K that of the result";

pub const COMMANDS: &[KeyCommand] = &[
    reader("zunion", zunion)
        .syntax(
            "numkeys key [key ...] [WEIGHTS weight [weight ...]] [AGGREGATE <SUM | MIN | MAX | COUNT>] [WITHSCORES]",
        )
        .summary("Returns the union of sorted sets.")
        .complexity(UNION_COMPLEXITY),
    storer("zunionstore", zunionstore, "2.0.0")
        .syntax("destination numkeys key [key ...] [WEIGHTS weight [weight ...]] [AGGREGATE <SUM | MIN | MAX | COUNT>]")
        .summary("Stores the union of sorted sets.")
        .complexity(UNION_COMPLEXITY),
    reader("zinter", zinter)
        .syntax(
            "numkeys key [key ...] [WEIGHTS weight [weight ...]] [AGGREGATE <SUM | MIN | MAX | COUNT>] [WITHSCORES]",
        )
        .summary("Returns the intersection of sorted sets.")
        .complexity(INTER_COMPLEXITY),
    storer("zinterstore", zinterstore, "2.0.0")
        .syntax("destination numkeys key [key ...] [WEIGHTS weight [weight ...]] [AGGREGATE <SUM | MIN | MAX | COUNT>]")
        .summary("Stores the intersection of sorted sets.")
        .complexity(INTER_COMPLEXITY),
    reader("zintercard", zintercard)
        .since("7.0.0")
        .syntax("numkeys key [key ...] [LIMIT limit]")
        .summary("Counts the members of the intersection of sorted sets.")
        .complexity("O(N*K) where N is the size of the smallest sorted set and K the number of them"),
    reader("zdiff", zdiff)
        .syntax("numkeys key [key ...] [WITHSCORES]")
        .summary("Returns the members of the first sorted set that are in no other.")
        .complexity(DIFF_COMPLEXITY),
    storer("zdiffstore", zdiffstore, "6.2.0")
        .syntax("destination numkeys key [key ...]")
        .summary("Stores the members of the first sorted set that are in no other.")
        .complexity(DIFF_COMPLEXITY),
];

const fn reader(name: &'static str, handler: KeyHandler) -> KeyCommand {
    KeyCommand::new(name, -3, handler).group(Group::SortedSet).since("6.2.0").readonly().keys(SOURCES)
}

const fn storer(name: &'static str, handler: KeyHandler, since: &'static str) -> KeyCommand {
    KeyCommand::new(name, -4, handler).group(Group::SortedSet).since(since).write().denyoom().keys(STORE)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operation {
    Union,
    Inter,
    Diff,
}

/// What becomes of the scores of one member in several sources.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Aggregate {
    Sum,
    Min,
    Max,
    /// The sum of the weights alone.
    Count,
}

impl Aggregate {
    /// What a score contributes. An infinity times zero counts as zero.
    #[inline]
    fn weigh(self, score: f64, weight: f64) -> f64 {
        let value = if self == Aggregate::Count { weight } else { score * weight };
        if value.is_nan() { 0.0 } else { value }
    }

    /// Two contributions. Infinities of both signs make zero.
    #[inline]
    fn combine(self, one: f64, other: f64) -> f64 {
        match self {
            Aggregate::Sum | Aggregate::Count => {
                let sum = one + other;
                if sum.is_nan() { 0.0 } else { sum }
            }
            Aggregate::Min => one.min(other),
            Aggregate::Max => one.max(other),
        }
    }
}

/// One of the inputs.
#[derive(Clone, Copy)]
enum Source<'a> {
    ZSet(&'a ZSet),
    Set(&'a Set),
    Missing,
}

impl Source<'_> {
    fn len(&self) -> usize {
        match self {
            Source::ZSet(zset) => zset.len(),
            Source::Set(set) => set.len(),
            Source::Missing => 0,
        }
    }

    #[inline]
    fn score(&self, member: Element<'_>) -> Option<f64> {
        match self {
            Source::ZSet(zset) => member.with_bytes(|member| zset.score(member)),
            Source::Set(set) => set.contains_element(member).then_some(1.0),
            Source::Missing => None,
        }
    }

    /// Visits the members until `visit` says false.
    fn walk(&self, mut visit: impl FnMut(Element<'_>, f64) -> bool) {
        match self {
            Source::ZSet(zset) => _ = zset.iter().all(|(member, score)| visit(member, score)),
            Source::Set(set) => _ = set.iter().all(|member| visit(member, 1.0)),
            Source::Missing => {}
        }
    }
}

/// The inputs of a command in the order of its arguments, with the options behind them.
struct Query {
    /// Indexes of the keys.
    keys: Range<usize>,
    /// Whether there is anything at each of them.
    present: Vec<bool>,
    weights: Vec<f64>,
    aggregate: Aggregate,
    scores: Scores,
    /// ZINTERCARD counts no further; zero has no end.
    limit: usize,
}

/// Which options a command takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    Members,
    Stored,
    Count,
}

const BAD_WEIGHT: CommandError = CommandError::fixed("ERR weight value is not a float");
const NEGATIVE_LIMIT: CommandError = CommandError::fixed("ERR LIMIT can't be negative");

impl Query {
    /// Reads the keys, then looks at what they hold, then reads the options: the order in which Redis finds fault.
    fn parse(
        keys: &mut Keys<'_>,
        args: Args<'_>,
        count_at: usize,
        operation: Operation,
        answer: Answer,
        command: &str,
    ) -> CommandResult<Self> {
        let range = source_keys(args, count_at, command)?;
        let mut query = Query {
            present: look_at(keys, args, range.clone())?,
            weights: vec![1.0; range.len()],
            keys: range.clone(),
            aggregate: Aggregate::Sum,
            scores: Scores::Without,
            limit: 0,
        };
        let aggregates = operation != Operation::Diff && answer != Answer::Count;
        let mut index = range.end;
        while index < args.len() {
            let left = args.len() - index;
            if aggregates && left > range.len() && args.is(index, "WEIGHTS") {
                for (weight, text) in query.weights.iter_mut().zip(args.from(index + 1).iter()) {
                    *weight = parse_f64(text).ok_or(BAD_WEIGHT)?;
                }
                index += range.len() + 1;
            } else if aggregates && left >= 2 && args.is(index, "AGGREGATE") {
                query.aggregate = aggregate(args, index + 1)?;
                index += 2;
            } else if answer == Answer::Members && args.is(index, "WITHSCORES") {
                query.scores = Scores::With;
                index += 1;
            } else if answer == Answer::Count && left >= 2 && args.is(index, "LIMIT") {
                query.limit = args::integer_in(&args[index + 1], 0..=i64::MAX, NEGATIVE_LIMIT)? as usize;
                index += 2;
            } else {
                return Err(error::SYNTAX);
            }
        }
        Ok(query)
    }

    /// The inputs with their weights.
    fn sources<'k>(&self, keys: &'k Keys<'_>, args: Args<'_>) -> Vec<(Source<'k>, f64)> {
        let found = |key: &[u8]| {
            let hash = keys.hash(key);
            match keys.locked.db(hash, keys.db).and_then(|db| db.find(hash, key)).map(|record| record.value()) {
                Some(ValueRef::ZSet(zset)) => Source::ZSet(zset),
                Some(ValueRef::Set(set)) => Source::Set(set),
                _ => Source::Missing,
            }
        };
        let names = self.keys.clone().map(|index| &args[index]);
        let sources =
            names.zip(&self.present).map(|(key, present)| if *present { found(key) } else { Source::Missing });
        sources.zip(self.weights.iter().copied()).collect()
    }

    fn run(&self, keys: &Keys<'_>, args: Args<'_>, operation: Operation) -> ZSet {
        let limits = &keys.settings.limits;
        let mut sources = self.sources(keys, args);
        match operation {
            Operation::Union => {
                sources.sort_by_key(|(source, _)| source.len());
                union(&sources, self.aggregate, limits)
            }
            Operation::Inter => {
                sources.sort_by_key(|(source, _)| source.len());
                let mut result = ZSet::new();
                intersect(&sources, self.aggregate, |member, score| {
                    member.with_bytes(|member| result.insert(member, score, limits));
                    true
                });
                result
            }
            Operation::Diff => difference(&sources, limits),
        }
    }
}

fn source_keys(args: Args<'_>, count_at: usize, command: &str) -> CommandResult<Range<usize>> {
    let count = args::integer(&args[count_at])?;
    if count < 1 {
        return Err(CommandError::new(format!("ERR at least 1 input key is needed for '{command}' command")));
    }
    let first = count_at + 1;
    if count as u64 > (args.len() - first) as u64 {
        return Err(error::SYNTAX);
    }
    Ok(first..first + count as usize)
}

/// Whether each key is there; only sorted sets and sets may be.
fn look_at(keys: &mut Keys<'_>, args: Args<'_>, range: Range<usize>) -> CommandResult<Vec<bool>> {
    let is_there = |index| match keys.read(&args[index]).map(|record| record.value()) {
        None => Ok(false),
        Some(ValueRef::ZSet(_) | ValueRef::Set(_)) => Ok(true),
        Some(_) => Err(error::WRONG_TYPE),
    };
    range.map(is_there).collect()
}

fn aggregate(args: Args<'_>, index: usize) -> CommandResult<Aggregate> {
    let names =
        [("SUM", Aggregate::Sum), ("MIN", Aggregate::Min), ("MAX", Aggregate::Max), ("COUNT", Aggregate::Count)];
    let found = names.into_iter().find(|(name, _)| args.is(index, name));
    found.map(|(_, aggregate)| aggregate).ok_or(error::SYNTAX)
}

fn union(sources: &[(Source<'_>, f64)], aggregate: Aggregate, limits: &Limits) -> ZSet {
    let mut result = ZSet::new();
    for (source, weight) in sources {
        source.walk(|member, score| {
            let value = aggregate.weigh(score, *weight);
            let combined = |old: Option<f64>| Some(old.map_or(value, |old| aggregate.combine(old, value)));
            member.with_bytes(|member| result.upsert(member, limits, combined));
            true
        });
    }
    result
}

/// Visits the members that are in every source, the first of which should be the smallest, until `visit` says false.
fn intersect(sources: &[(Source<'_>, f64)], aggregate: Aggregate, mut visit: impl FnMut(Element<'_>, f64) -> bool) {
    let Some(((first, first_weight), others)) = sources.split_first() else { return };
    first.walk(|member, score| {
        let start = aggregate.weigh(score, *first_weight);
        let everywhere = others.iter().try_fold(start, |combined, (source, weight)| {
            let score = source.score(member)?;
            Some(aggregate.combine(combined, aggregate.weigh(score, *weight)))
        });
        everywhere.is_none_or(|score| visit(member, score))
    });
}

fn difference(sources: &[(Source<'_>, f64)], limits: &Limits) -> ZSet {
    let mut result = ZSet::new();
    if let Some(((first, _), others)) = sources.split_first() {
        first.walk(|member, score| {
            if others.iter().all(|(source, _)| source.score(member).is_none()) {
                member.with_bytes(|member| result.insert(member, score, limits));
            }
            true
        });
    }
    result
}

fn zunion(ctx: &mut KeyContext<'_>, args: Args<'_>) -> Result<KeyFlow, CommandError> {
    reply(ctx, args, Operation::Union, "zunion")
}

fn zinter(ctx: &mut KeyContext<'_>, args: Args<'_>) -> Result<KeyFlow, CommandError> {
    reply(ctx, args, Operation::Inter, "zinter")
}

fn zdiff(ctx: &mut KeyContext<'_>, args: Args<'_>) -> Result<KeyFlow, CommandError> {
    reply(ctx, args, Operation::Diff, "zdiff")
}

fn reply(
    ctx: &mut KeyContext<'_>,
    args: Args<'_>,
    operation: Operation,
    command: &str,
) -> Result<KeyFlow, CommandError> {
    let query = Query::parse(&mut ctx.keys, args, 1, operation, Answer::Members, command)?;
    let result = query.run(&ctx.keys, args, operation);
    query.scores.begin(ctx.reply, result.len());
    result.iter().for_each(|(member, score)| query.scores.reply_member(ctx.reply, member, score));
    Ok(KeyFlow::Done)
}

fn zunionstore(ctx: &mut KeyContext<'_>, args: Args<'_>) -> Result<KeyFlow, CommandError> {
    store_result(ctx, args, Operation::Union, "zunionstore")
}

fn zinterstore(ctx: &mut KeyContext<'_>, args: Args<'_>) -> Result<KeyFlow, CommandError> {
    store_result(ctx, args, Operation::Inter, "zinterstore")
}

fn zdiffstore(ctx: &mut KeyContext<'_>, args: Args<'_>) -> Result<KeyFlow, CommandError> {
    store_result(ctx, args, Operation::Diff, "zdiffstore")
}

/// The event has the name of the command.
fn store_result(
    ctx: &mut KeyContext<'_>,
    args: Args<'_>,
    operation: Operation,
    command: &'static str,
) -> Result<KeyFlow, CommandError> {
    let query = Query::parse(&mut ctx.keys, args, 2, operation, Answer::Stored, command)?;
    let result = query.run(&ctx.keys, args, operation);
    store(ctx, &args[1], result, command);
    Ok(KeyFlow::Done)
}

fn zintercard(ctx: &mut KeyContext<'_>, args: Args<'_>) -> Result<KeyFlow, CommandError> {
    let query = Query::parse(&mut ctx.keys, args, 1, Operation::Inter, Answer::Count, "zintercard")?;
    let mut sources = query.sources(&ctx.keys, args);
    sources.sort_by_key(|(source, _)| source.len());
    let mut count = 0;
    intersect(&sources, Aggregate::Sum, |_, _| {
        count += 1;
        count != query.limit
    });
    ctx.reply.count(count);
    Ok(KeyFlow::Done)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn zset(members: &[(&str, f64)]) -> ZSet {
        let mut zset = ZSet::new();
        members.iter().for_each(|(member, score)| _ = zset.insert(member.as_bytes(), *score, &Limits::default()));
        zset
    }

    fn text(zset: &ZSet) -> String {
        let pair =
            |(member, score): (Element<'_>, f64)| format!("{}={score}", String::from_utf8_lossy(&member.to_vec()));
        zset.iter().map(pair).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn aggregates_with_weights_and_infinities() {
        let limits = Limits::default();
        let one = zset(&[("a", 1.0), ("b", 2.0), ("i", f64::INFINITY)]);
        let two = zset(&[("b", 5.0), ("c", 3.0), ("i", f64::NEG_INFINITY)]);
        let sources = [(Source::ZSet(&one), 1.0), (Source::ZSet(&two), 2.0)];
        for (aggregate, expected) in [
            (Aggregate::Sum, "i=0 a=1 c=6 b=12"),
            (Aggregate::Min, "i=-inf a=1 b=2 c=6"),
            (Aggregate::Max, "a=1 c=6 b=10 i=inf"),
            (Aggregate::Count, "a=1 c=2 b=3 i=3"),
        ] {
            assert_eq!(text(&union(&sources, aggregate, &limits)), expected);
        }
        assert_eq!(text(&difference(&sources, &limits)), "a=1");
        let mut both = Vec::new();
        intersect(&sources, Aggregate::Sum, |member, score| {
            both.push((member.to_vec(), score));
            true
        });
        assert_eq!(both, [(b"b".to_vec(), 12.0), (b"i".to_vec(), 0.0)]);
        assert_eq!(Aggregate::Sum.weigh(f64::INFINITY, 0.0), 0.0);
        assert_eq!(text(&union(&[(Source::Missing, 1.0)], Aggregate::Sum, &limits)), "");
    }
}
