//! LMPOP, and the list commands that wait: BLPOP, BRPOP, BLMPOP, BLMOVE, BRPOPLPUSH, BLMOVEM. Each runs from the start again when
//! one of its keys changes; to the stream it is the command that does not wait.

use super::args;
use super::context::{KeyContext, KeyFlow, OnTimeout};
use super::error::{CommandError, CommandResult};
use super::flags::Flags;
use super::keyspec::KeySpec;
use super::list::{end_of, pop_many, pop_one};
use super::list_move::{Amount, MOVE, Route, move_many, move_one};
use super::pop_first::{self, wait_for};
use super::spec::{Group, KeyCommand};
use crate::base::number::IntText;
use crate::engine::quicklist::End;
use crate::resp::{Args, OwnedArgs};

const POP_BEFORE_TIMEOUT: &[KeySpec] = &[KeySpec::range(1, -2, 1).rw().access().delete()];

pub const COMMANDS: &[KeyCommand] = &[
    blocking_pop("blpop", blpop, "Takes the first element of the first list that has any, or waits for one."),
    blocking_pop("brpop", brpop, "Takes the last element of the first list that has any, or waits for one."),
    KeyCommand::new("lmpop", -4, lmpop)
        .group(Group::List)
        .since("7.0.0")
        .write()
        .keys(&[KeySpec::counted(1).rw().access().delete()])
        .syntax("numkeys key [key ...] <LEFT | RIGHT> [COUNT count]")
        .summary("Takes elements of the first list that has any.")
        .complexity("O(N+M) where N is the number of keys and M the number of elements returned"),
    KeyCommand::new("blmpop", -5, blmpop)
        .group(Group::List)
        .since("7.0.0")
        .write()
        .flag(Flags::BLOCKING)
        .keys(&[KeySpec::counted(2).rw().access().delete()])
        .syntax("timeout numkeys key [key ...] <LEFT | RIGHT> [COUNT count]")
        .summary("Takes elements of the first list that has any, or waits for some.")
        .complexity("O(N+M) where N is the number of keys and M the number of elements returned"),
    KeyCommand::new("blmove", 6, blmove)
        .group(Group::List)
        .since("6.2.0")
        .write()
        .denyoom()
        .noscript()
        .flag(Flags::BLOCKING)
        .keys(MOVE)
        .syntax("source destination <LEFT | RIGHT> <LEFT | RIGHT> timeout")
        .summary("Moves an element from one list to another and returns it, or waits for one.")
        .complexity("O(1)"),
    KeyCommand::new("brpoplpush", 4, brpoplpush)
        .group(Group::List)
        .since("2.2.0")
        .write()
        .denyoom()
        .noscript()
        .flag(Flags::BLOCKING)
        .keys(MOVE)
        .syntax("source destination timeout")
        .summary("Moves the last element of a list to the head of another and returns it, or waits for one.")
        .complexity("O(1)"),
    KeyCommand::new("blmovem", -6, blmovem)
        .group(Group::List)
        .since("8.10.0")
        .write()
        .denyoom()
        .flag(Flags::BLOCKING)
        .keys(MOVE)
        .syntax(
            "source destination <LEFT | RIGHT> <LEFT | RIGHT> timeout [<COUNT count | EXACTLY exactly> <OBO | BULK>]",
        )
        .summary("Moves several elements from one list to another and returns them, or waits for them.")
        .complexity("O(N) where N is the number of elements moved"),
];

const fn blocking_pop(name: &'static str, handler: super::spec::KeyHandler, summary: &'static str) -> KeyCommand {
    KeyCommand::new(name, -3, handler)
        .group(Group::List)
        .since("2.0.0")
        .write()
        .noscript()
        .flag(Flags::BLOCKING)
        .keys(POP_BEFORE_TIMEOUT)
        .syntax("key [key ...] timeout")
        .summary(summary)
        .complexity("O(N) where N is the number of keys")
}

fn blpop(ctx: &mut KeyContext<'_>, args: Args<'_>) -> Result<KeyFlow, CommandError> {
    pop_or_wait(ctx, args, End::Head)
}

fn brpop(ctx: &mut KeyContext<'_>, args: Args<'_>) -> Result<KeyFlow, CommandError> {
    pop_or_wait(ctx, args, End::Tail)
}

fn pop_or_wait(ctx: &mut KeyContext<'_>, args: Args<'_>, end: End) -> Result<KeyFlow, CommandError> {
    pop_first::one_or_wait(ctx, args, |ctx, key| {
        let before = ctx.reply.len();
        ctx.reply.array(2);
        ctx.reply.bulk(key);
        let found = pop_one(ctx, key, end)?;
        if found {
            ctx.keys.propagate_as(&[verb(end), key]);
        } else {
            ctx.reply.truncate(before);
        }
        Ok(found)
    })
}

/// The command of the stream.
fn verb(end: End) -> &'static [u8] {
    match end {
        End::Head => b"LPOP",
        End::Tail => b"RPOP",
    }
}

/// Takes from a list and answers with its key and the elements; false if it has none.
fn take_many(ctx: &mut KeyContext<'_>, key: &[u8], end: End, count: usize) -> CommandResult<bool> {
    let before = ctx.reply.len();
    ctx.reply.array(2);
    ctx.reply.bulk(key);
    let Some(taken) = pop_many(ctx, key, end, count)? else {
        ctx.reply.truncate(before);
        return Ok(false);
    };
    ctx.keys.propagate_as(&[verb(end), key, &IntText::new(taken as i64)]);
    Ok(true)
}

fn lmpop(ctx: &mut KeyContext<'_>, args: Args<'_>) -> Result<KeyFlow, CommandError> {
    pop_first::many(ctx, args, end_of, take_many)
}

fn blmpop(ctx: &mut KeyContext<'_>, args: Args<'_>) -> Result<KeyFlow, CommandError> {
    pop_first::many_or_wait(ctx, args, end_of, take_many)
}

fn blmove(ctx: &mut KeyContext<'_>, args: Args<'_>) -> Result<KeyFlow, CommandError> {
    let route = Route::parse(&args)?;
    let timeout_ms = args::timeout_ms(&args[5])?;
    if !move_one(ctx, route)? {
        return Ok(wait_for(ctx, [route.source], timeout_ms, OnTimeout::Null));
    }
    ctx.keys.propagate_as(&[b"LMOVE", route.source, route.destination, &args[3], &args[4]]);
    Ok(KeyFlow::Done)
}

fn brpoplpush(ctx: &mut KeyContext<'_>, args: Args<'_>) -> Result<KeyFlow, CommandError> {
    let timeout_ms = args::timeout_ms(&args[3])?;
    let route = Route::tail_to_head(&args);
    if !move_one(ctx, route)? {
        return Ok(wait_for(ctx, [route.source], timeout_ms, OnTimeout::Null));
    }
    ctx.keys.propagate_as(&[b"RPOPLPUSH", route.source, route.destination]);
    Ok(KeyFlow::Done)
}

fn blmovem(ctx: &mut KeyContext<'_>, args: Args<'_>) -> Result<KeyFlow, CommandError> {
    let route = Route::parse(&args)?;
    let timeout_ms = args::timeout_ms(&args[5])?;
    let amount = Amount::parse(args, 6)?;
    if !move_many(ctx, route, amount)? {
        return Ok(wait_for(ctx, [route.source], timeout_ms, OnTimeout::NullArray));
    }
    let plain = args.iter().enumerate().filter(|(index, _)| *index != 5).map(|(_, arg)| arg).skip(1);
    let stream = OwnedArgs::new(std::iter::once(b"LMOVEM".as_slice()).chain(plain));
    ctx.keys.propagate_as(&stream.as_args().iter().collect::<Vec<_>>());
    Ok(KeyFlow::Done)
}
