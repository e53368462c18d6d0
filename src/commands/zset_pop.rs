//! ZPOPMIN, ZPOPMAX, ZMPOP and their waiting forms.

use super::args;
use super::context::{KeyContext, KeyFlow};
use super::effects::EventClasses;
use super::element::reply_element;
use super::error::{self, CommandError, CommandResult};
use super::flags::Flags;
use super::keyspec::KeySpec;
use super::pop_first;
use super::spec::{Group, KeyCommand, KeyHandler};
use crate::base::number::IntText;
use crate::resp::Args;

const POP: &[KeySpec] = &[KeySpec::at(1).rw().access().delete()];
const POP_BEFORE_TIMEOUT: &[KeySpec] = &[KeySpec::range(1, -2, 1).rw().access().delete()];

pub const COMMANDS: &[KeyCommand] = &[
    pop_command("zpopmin", zpopmin).summary("Takes the members with the lowest scores and returns them."),
    pop_command("zpopmax", zpopmax).summary("Takes the members with the highest scores and returns them."),
    blocking_pop("bzpopmin", bzpopmin).summary("Takes the member with the lowest score, or waits for one."),
    blocking_pop("bzpopmax", bzpopmax).summary("Takes the member with the highest score, or waits for one."),
    KeyCommand::new("zmpop", -4, zmpop)
        .group(Group::SortedSet)
        .since("7.0.0")
        .write()
        .keys(&[KeySpec::counted(1).rw().access().delete()])
        .syntax("numkeys key [key ...] <MIN | MAX> [COUNT count]")
        .summary("Takes members of the first sorted set that has any.")
        .complexity("O(K)+O(M*log(N)) where K is the number of keys, N the size of the sorted set and M the number of members taken"),
    KeyCommand::new("bzmpop", -5, bzmpop)
        .group(Group::SortedSet)
        .since("7.0.0")
        .write()
        .flag(Flags::BLOCKING)
        .keys(&[KeySpec::counted(2).rw().access().delete()])
        .syntax("timeout numkeys key [key ...] <MIN | MAX> [COUNT count]")
        .summary("Takes members of the first sorted set that has any, or waits for some.")
        .complexity("O(K)+O(M*log(N)) where K is the number of keys, N the size of the sorted set and M the number of members taken"),
];

const fn pop_command(name: &'static str, handler: KeyHandler) -> KeyCommand {
    KeyCommand::new(name, -2, handler)
        .group(Group::SortedSet)
        .since("5.0.0")
        .write()
        .fast()
        .keys(POP)
        .syntax("key [count]")
        .complexity("O(log(N)*M) where N is the size of the sorted set and M the number of members taken")
}

const fn blocking_pop(name: &'static str, handler: KeyHandler) -> KeyCommand {
    KeyCommand::new(name, -3, handler)
        .group(Group::SortedSet)
        .since("5.0.0")
        .write()
        .noscript()
        .fast()
        .flag(Flags::BLOCKING)
        .keys(POP_BEFORE_TIMEOUT)
        .syntax("key [key ...] timeout")
        .complexity("O(log(N)) where N is the size of the sorted set")
}

/// Which end of the order is taken from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Extreme {
    Min,
    Max,
}

impl Extreme {
    fn event(self) -> &'static str {
        match self {
            Extreme::Min => "zpopmin",
            Extreme::Max => "zpopmax",
        }
    }

    /// The command of the stream.
    fn verb(self) -> &'static [u8] {
        match self {
            Extreme::Min => b"ZPOPMIN",
            Extreme::Max => b"ZPOPMAX",
        }
    }
}

/// How the members that are taken look in the reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shape {
    /// member, score, member, score…
    Flat,
    /// One array of two per member.
    Pairs,
    /// key, member, score.
    WithKey,
    /// The key, then pairs.
    KeyAndPairs,
}

/// Takes up to `count` members and answers with them; how many there were, or nothing without a sorted set.
fn take(
    ctx: &mut KeyContext<'_>,
    key: &[u8],
    extreme: Extreme,
    count: usize,
    shape: Shape,
) -> CommandResult<Option<usize>> {
    let Some(zset) = ctx.keys.write_zset(key)? else { return Ok(None) };
    let len = zset.len();
    let count = count.min(len);
    match shape {
        Shape::Flat => ctx.reply.array(count * 2),
        Shape::Pairs => ctx.reply.array(count),
        Shape::WithKey => {
            ctx.reply.array(count * 2 + 1);
            ctx.reply.bulk(key);
        }
        Shape::KeyAndPairs => {
            ctx.reply.array(2);
            ctx.reply.bulk(key);
            ctx.reply.array(count);
        }
    }
    if count == 0 {
        return Ok(Some(0));
    }
    let ranks = if extreme == Extreme::Min { 0..count } else { len - count..len };
    let members = match extreme {
        Extreme::Min => zset.range(ranks.clone()),
        Extreme::Max => zset.range_rev(ranks.clone()),
    };
    for (member, score) in members {
        if matches!(shape, Shape::Pairs | Shape::KeyAndPairs) {
            ctx.reply.array(2);
        }
        reply_element(ctx.reply, member);
        ctx.reply.double(score);
    }
    if count < len {
        zset.remove_ranks(ranks, |_, _| {});
    }
    ctx.keys.touch(key, EventClasses::ZSET, extreme.event());
    ctx.keys.effects.dirty += count as u64 - 1;
    if count == len {
        ctx.keys.remove_emptied(key);
    }
    Ok(Some(count))
}

fn zpopmin(ctx: &mut KeyContext<'_>, args: Args<'_>) -> Result<KeyFlow, CommandError> {
    pop(ctx, args, Extreme::Min)
}

fn zpopmax(ctx: &mut KeyContext<'_>, args: Args<'_>) -> Result<KeyFlow, CommandError> {
    pop(ctx, args, Extreme::Max)
}

fn pop(ctx: &mut KeyContext<'_>, args: Args<'_>, extreme: Extreme) -> Result<KeyFlow, CommandError> {
    let count = match args.len() {
        2 => None,
        3 => Some(args::integer_in(&args[2], 0..=i64::MAX, error::MUST_BE_POSITIVE)? as usize),
        _ => return Err(error::SYNTAX),
    };
    let shape = if count.is_some() && ctx.reply.is_resp3() { Shape::Pairs } else { Shape::Flat };
    if take(ctx, &args[1], extreme, count.unwrap_or(1), shape)?.is_none() {
        ctx.reply.array(0);
    }
    Ok(KeyFlow::Done)
}

fn bzpopmin(ctx: &mut KeyContext<'_>, args: Args<'_>) -> Result<KeyFlow, CommandError> {
    pop_or_wait(ctx, args, Extreme::Min)
}

fn bzpopmax(ctx: &mut KeyContext<'_>, args: Args<'_>) -> Result<KeyFlow, CommandError> {
    pop_or_wait(ctx, args, Extreme::Max)
}

fn pop_or_wait(ctx: &mut KeyContext<'_>, args: Args<'_>, extreme: Extreme) -> Result<KeyFlow, CommandError> {
    pop_first::one_or_wait(ctx, args, |ctx, key| {
        let found = take(ctx, key, extreme, 1, Shape::WithKey)?.is_some();
        if found {
            ctx.keys.propagate_as(&[extreme.verb(), key]);
        }
        Ok(found)
    })
}

fn extreme_of(args: Args<'_>, index: usize) -> CommandResult<Extreme> {
    if args.is(index, "MIN") {
        Ok(Extreme::Min)
    } else if args.is(index, "MAX") {
        Ok(Extreme::Max)
    } else {
        Err(error::SYNTAX)
    }
}

fn take_many(ctx: &mut KeyContext<'_>, key: &[u8], extreme: Extreme, count: usize) -> CommandResult<bool> {
    let Some(taken) = take(ctx, key, extreme, count, Shape::KeyAndPairs)? else { return Ok(false) };
    ctx.keys.propagate_as(&[extreme.verb(), key, &IntText::new(taken as i64)]);
    Ok(true)
}

fn zmpop(ctx: &mut KeyContext<'_>, args: Args<'_>) -> Result<KeyFlow, CommandError> {
    pop_first::many(ctx, args, extreme_of, take_many)
}

fn bzmpop(ctx: &mut KeyContext<'_>, args: Args<'_>) -> Result<KeyFlow, CommandError> {
    pop_first::many_or_wait(ctx, args, extreme_of, take_many)
}
