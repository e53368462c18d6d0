//! LMOVE, RPOPLPUSH, LMOVEM: from the end of one list to the end of another, or of the same.

use super::args;
use super::context::{KeyContext, KeyFlow};
use super::effects::EventClasses;
use super::error::{self, CommandError, CommandResult};
use super::keyspec::KeySpec;
use super::list::{end_of, pop_event, push_event};
use super::spec::{Group, KeyCommand};
use crate::engine::list::List;
use crate::engine::quicklist::End;
use crate::resp::Args;

/// Source and destination.
pub const MOVE: &[KeySpec] = &[KeySpec::at(1).rw().access().delete(), KeySpec::at(2).rw().insert()];

pub const COMMANDS: &[KeyCommand] = &[
    KeyCommand::new("lmove", 5, lmove)
        .group(Group::List)
        .since("6.2.0")
        .write()
        .denyoom()
        .keys(MOVE)
        .syntax("source destination <LEFT | RIGHT> <LEFT | RIGHT>")
        .summary("Moves an element from one list to another and returns it.")
        .complexity("O(1)"),
    KeyCommand::new("rpoplpush", 3, rpoplpush)
        .group(Group::List)
        .since("1.2.0")
        .write()
        .denyoom()
        .keys(MOVE)
        .syntax("source destination")
        .summary("Moves the last element of a list to the head of another and returns it.")
        .complexity("O(1)"),
    KeyCommand::new("lmovem", -5, lmovem)
        .group(Group::List)
        .since("8.10.0")
        .write()
        .denyoom()
        .keys(MOVE)
        .syntax("source destination <LEFT | RIGHT> <LEFT | RIGHT> [<COUNT count | EXACTLY exactly> <OBO | BULK>]")
        .summary("Moves several elements from one list to another and returns them.")
        .complexity("O(N) where N is the number of elements moved"),
];

/// From where to where.
#[derive(Clone, Copy)]
pub struct Route<'a> {
    pub source: &'a [u8],
    pub destination: &'a [u8],
    pub from: End,
    pub to: End,
}

impl<'a> Route<'a> {
    /// `source destination LEFT|RIGHT LEFT|RIGHT`, from the first argument on.
    pub fn parse(args: &'a Args<'a>) -> CommandResult<Self> {
        Ok(Route { source: &args[1], destination: &args[2], from: end_of(*args, 3)?, to: end_of(*args, 4)? })
    }

    /// `source destination` of RPOPLPUSH.
    pub fn tail_to_head(args: &'a Args<'a>) -> Self {
        Route { source: &args[1], destination: &args[2], from: End::Tail, to: End::Head }
    }
}

/// How many elements LMOVEM moves, and whether their order turns around as with one LMOVE after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Amount {
    pub count: usize,
    /// All of them or none.
    pub exactly: bool,
    pub one_by_one: bool,
}

impl Amount {
    /// `[<COUNT count | EXACTLY exactly> <OBO | BULK>]`, from an argument to the end.
    pub fn parse(args: Args<'_>, index: usize) -> CommandResult<Self> {
        if args.len() == index {
            return Ok(Amount { count: 1, exactly: false, one_by_one: true });
        }
        let exactly = args.is(index, "EXACTLY");
        let one_by_one = args.is(index + 2, "OBO");
        if args.len() != index + 3
            || !(exactly || args.is(index, "COUNT"))
            || !(one_by_one || args.is(index + 2, "BULK"))
        {
            return Err(error::SYNTAX);
        }
        let count = args::integer_in(&args[index + 1], 1..=i64::MAX, error::MUST_BE_POSITIVE)?;
        Ok(Amount { count: count as usize, exactly, one_by_one })
    }
}

fn lmove(ctx: &mut KeyContext<'_>, args: Args<'_>) -> Result<KeyFlow, CommandError> {
    let route = Route::parse(&args)?;
    if !move_one(ctx, route)? {
        ctx.reply.null();
    }
    Ok(KeyFlow::Done)
}

fn rpoplpush(ctx: &mut KeyContext<'_>, args: Args<'_>) -> Result<KeyFlow, CommandError> {
    if !move_one(ctx, Route::tail_to_head(&args))? {
        ctx.reply.null();
    }
    Ok(KeyFlow::Done)
}

fn lmovem(ctx: &mut KeyContext<'_>, args: Args<'_>) -> Result<KeyFlow, CommandError> {
    let route = Route::parse(&args)?;
    let amount = Amount::parse(args, 5)?;
    if !move_many(ctx, route, amount)? {
        // Up to so many of nothing are none; exactly so many cannot be had.
        if amount.exactly { ctx.reply.null_array() } else { ctx.reply.array(0) }
    }
    Ok(KeyFlow::Done)
}

/// Moves one element and answers with it; false if the source does not exist.
pub fn move_one(ctx: &mut KeyContext<'_>, route: Route<'_>) -> CommandResult<bool> {
    let Some(elements) = take(ctx, route, 1, false)? else { return Ok(false) };
    elements.iter().for_each(|element| ctx.reply.bulk(element));
    put(ctx, route, elements)?;
    Ok(true)
}

/// Moves several elements and answers with them in their new order; false if there are too few.
pub fn move_many(ctx: &mut KeyContext<'_>, route: Route<'_>, amount: Amount) -> CommandResult<bool> {
    let Some(mut elements) = take(ctx, route, amount.count, amount.exactly)? else { return Ok(false) };
    // As a block they keep the order that they had in the source, so those that are pushed to the same end go in last first.
    if !amount.one_by_one && route.from == route.to {
        elements.reverse();
    }
    ctx.reply.array(elements.len());
    let in_new_order = |index: usize| if route.to == End::Head { elements.len() - 1 - index } else { index };
    (0..elements.len()).for_each(|index| ctx.reply.bulk(&elements[in_new_order(index)]));
    put(ctx, route, elements)?;
    Ok(true)
}

/// Takes elements out of the source, in the order of popping, once it is certain that the destination can take them.
fn take(
    ctx: &mut KeyContext<'_>,
    route: Route<'_>,
    count: usize,
    exactly: bool,
) -> CommandResult<Option<Vec<Vec<u8>>>> {
    let limits = &ctx.keys.settings.limits;
    if ctx.keys.write_list(route.source)?.is_none_or(|list| exactly && list.len() < count) {
        return Ok(None);
    }
    if route.source != route.destination {
        ctx.keys.write_list(route.destination)?;
    }
    let Some(list) = ctx.keys.write_list(route.source)? else { return Ok(None) };
    let count = count.min(list.len());
    let mut elements = Vec::with_capacity(count);
    while elements.len() < count
        && let Some(element) = list.pop(route.from, limits, |element| element.to_vec())
    {
        elements.push(element);
    }
    Ok(Some(elements))
}

fn put(ctx: &mut KeyContext<'_>, route: Route<'_>, elements: Vec<Vec<u8>>) -> CommandResult<()> {
    let limits = &ctx.keys.settings.limits;
    let list = ctx.keys.list_or_new(route.destination, |_| List::new())?;
    elements.iter().for_each(|element| list.push(route.to, element, limits));
    ctx.keys.touch(route.destination, EventClasses::LIST, push_event(route.to));
    ctx.keys.touch(route.source, EventClasses::LIST, pop_event(route.from));
    if ctx.keys.write_list(route.source)?.is_some_and(|list| list.is_empty()) {
        ctx.keys.remove_emptied(route.source);
    }
    Ok(())
}
