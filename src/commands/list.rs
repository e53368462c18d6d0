//! Lists: pushing and popping at both ends, looking, changing in the middle. Moves between lists are in `list_move`, blocking
//! forms in `list_blocking`.

use super::args;
use super::context::{KeyContext, KeyFlow};
use super::effects::EventClasses;
use super::element::reply_element;
use super::error::{self, CommandError, CommandResult};
use super::keyspec::KeySpec;
use super::spec::{Group, KeyCommand};
use crate::engine::list::{List, Search};
use crate::engine::quicklist::End;
use crate::resp::Args;

const PUSH: &[KeySpec] = &[KeySpec::at(1).rw().insert()];
const POP: &[KeySpec] = &[KeySpec::at(1).rw().access().delete()];
const READ: &[KeySpec] = &[KeySpec::at(1).ro().access()];
const TRIM: &[KeySpec] = &[KeySpec::at(1).rw().delete()];

pub const COMMANDS: &[KeyCommand] = &[
    push_command("lpush", lpush, "Puts elements at the head of a list, creating it if there is none.").since("1.0.0"),
    push_command("rpush", rpush, "Puts elements at the tail of a list, creating it if there is none.").since("1.0.0"),
    push_command("lpushx", lpushx, "Puts elements at the head of a list that exists.").since("2.2.0"),
    push_command("rpushx", rpushx, "Puts elements at the tail of a list that exists.").since("2.2.0"),
    pop_command("lpop", lpop, "Takes elements from the head of a list and returns them."),
    pop_command("rpop", rpop, "Takes elements from the tail of a list and returns them."),
    KeyCommand::new("llen", 2, llen)
        .group(Group::List)
        .readonly()
        .fast()
        .keys(&[KeySpec::at(1).ro()])
        .syntax("key")
        .summary("Counts the elements of a list.")
        .complexity("O(1)"),
    KeyCommand::new("lindex", 3, lindex)
        .group(Group::List)
        .readonly()
        .keys(READ)
        .syntax("key index")
        .summary("Returns the element at an index of a list.")
        .complexity("O(N) where N is the number of elements up to the index; O(1) at both ends"),
    KeyCommand::new("lrange", 4, lrange)
        .group(Group::List)
        .readonly()
        .keys(READ)
        .syntax("key start stop")
        .summary("Returns the elements between two indexes of a list.")
        .complexity("O(S+N) where S is the distance of the start from the nearer end and N the number of elements"),
    KeyCommand::new("lpos", -3, lpos)
        .group(Group::List)
        .since("6.0.6")
        .readonly()
        .keys(READ)
        .syntax("key element [RANK rank] [COUNT num-matches] [MAXLEN len]")
        .summary("Returns the indexes of matching elements of a list.")
        .complexity("O(N) where N is the number of elements looked at"),
    KeyCommand::new("lset", 4, lset)
        .group(Group::List)
        .write()
        .denyoom()
        .keys(&[KeySpec::at(1).rw().update()])
        .syntax("key index element")
        .summary("Replaces the element at an index of a list.")
        .complexity("O(N) where N is the length of the list; O(1) at both ends"),
    KeyCommand::new("linsert", 5, linsert)
        .group(Group::List)
        .since("2.2.0")
        .write()
        .denyoom()
        .keys(PUSH)
        .syntax("key <BEFORE | AFTER> pivot element")
        .summary("Inserts an element beside the first one that equals the pivot.")
        .complexity("O(N) where N is the number of elements up to the pivot"),
    KeyCommand::new("lrem", 4, lrem)
        .group(Group::List)
        .write()
        .keys(TRIM)
        .syntax("key count element")
        .summary("Removes elements that equal a value, from either end.")
        .complexity("O(N+M) where N is the length of the list and M the number of elements removed"),
    KeyCommand::new("ltrim", 4, ltrim)
        .group(Group::List)
        .write()
        .keys(TRIM)
        .syntax("key start stop")
        .summary("Removes the elements outside of a range of indexes.")
        .complexity("O(N) where N is the number of elements removed"),
];

const fn push_command(name: &'static str, handler: super::spec::KeyHandler, summary: &'static str) -> KeyCommand {
    KeyCommand::new(name, -3, handler)
        .group(Group::List)
        .write()
        .denyoom()
        .fast()
        .keys(PUSH)
        .syntax("key element [element ...]")
        .summary(summary)
        .complexity("O(N) where N is the number of elements added")
}

const fn pop_command(name: &'static str, handler: super::spec::KeyHandler, summary: &'static str) -> KeyCommand {
    KeyCommand::new(name, -2, handler)
        .group(Group::List)
        .write()
        .fast()
        .keys(POP)
        .syntax("key [count]")
        .summary(summary)
        .complexity("O(N) where N is the number of elements returned")
}

/// LEFT or RIGHT.
pub fn end_of(args: Args<'_>, index: usize) -> CommandResult<End> {
    if args.is(index, "LEFT") {
        Ok(End::Head)
    } else if args.is(index, "RIGHT") {
        Ok(End::Tail)
    } else {
        Err(error::SYNTAX)
    }
}

/// The event of a push to this end.
pub fn push_event(end: End) -> &'static str {
    if end == End::Head { "lpush" } else { "rpush" }
}

/// The event of a pop from this end.
pub fn pop_event(end: End) -> &'static str {
    if end == End::Head { "lpop" } else { "rpop" }
}

/// Indexes `start` and `stop`, negative from the end, as a first index and a count within `len` elements.
pub fn resolve_range(start: i64, stop: i64, len: usize) -> (usize, usize) {
    let len = len as i64;
    let from_head = |index: i64| if index < 0 { index.saturating_add(len) } else { index };
    let (start, stop) = (from_head(start).max(0), from_head(stop).min(len - 1));
    if start > stop { (0, 0) } else { (start as usize, (stop - start) as usize + 1) }
}

fn lpush(ctx: &mut KeyContext<'_>, args: Args<'_>) -> Result<KeyFlow, CommandError> {
    push(ctx, args, End::Head)
}

fn rpush(ctx: &mut KeyContext<'_>, args: Args<'_>) -> Result<KeyFlow, CommandError> {
    push(ctx, args, End::Tail)
}

fn push(ctx: &mut KeyContext<'_>, args: Args<'_>, end: End) -> Result<KeyFlow, CommandError> {
    let limits = &ctx.keys.settings.limits;
    let list = ctx.keys.list_or_new(&args[1], |_| List::new())?;
    args.from(2).iter().for_each(|element| list.push(end, element, limits));
    let len = list.len();
    pushed(ctx, args, end, len);
    Ok(KeyFlow::Done)
}

fn pushed(ctx: &mut KeyContext<'_>, args: Args<'_>, end: End, len: usize) {
    ctx.keys.touch(&args[1], EventClasses::LIST, push_event(end));
    ctx.keys.effects.dirty += args.len() as u64 - 3;
    ctx.reply.count(len);
}

fn lpushx(ctx: &mut KeyContext<'_>, args: Args<'_>) -> Result<KeyFlow, CommandError> {
    push_if_there(ctx, args, End::Head)
}

fn rpushx(ctx: &mut KeyContext<'_>, args: Args<'_>) -> Result<KeyFlow, CommandError> {
    push_if_there(ctx, args, End::Tail)
}

fn push_if_there(ctx: &mut KeyContext<'_>, args: Args<'_>, end: End) -> Result<KeyFlow, CommandError> {
    let limits = &ctx.keys.settings.limits;
    let Some(list) = ctx.keys.write_list(&args[1])? else {
        ctx.reply.integer(0);
        return Ok(KeyFlow::Done);
    };
    args.from(2).iter().for_each(|element| list.push(end, element, limits));
    let len = list.len();
    pushed(ctx, args, end, len);
    Ok(KeyFlow::Done)
}

fn lpop(ctx: &mut KeyContext<'_>, args: Args<'_>) -> Result<KeyFlow, CommandError> {
    pop(ctx, args, End::Head, "lpop")
}

fn rpop(ctx: &mut KeyContext<'_>, args: Args<'_>) -> Result<KeyFlow, CommandError> {
    pop(ctx, args, End::Tail, "rpop")
}

fn pop(ctx: &mut KeyContext<'_>, args: Args<'_>, end: End, command: &str) -> Result<KeyFlow, CommandError> {
    let key = &args[1];
    match args.len() {
        2 => {
            if !pop_one(ctx, key, end)? {
                ctx.reply.null();
            }
        }
        3 => {
            let count = args::integer_in(&args[2], 0..=i64::MAX, error::MUST_BE_POSITIVE)?;
            if pop_many(ctx, key, end, count as usize)?.is_none() {
                ctx.reply.null_array();
            }
        }
        _ => return Err(CommandError::wrong_arity(command)),
    }
    Ok(KeyFlow::Done)
}

/// Takes one element and answers with it; false if there is no such list.
pub fn pop_one(ctx: &mut KeyContext<'_>, key: &[u8], end: End) -> CommandResult<bool> {
    let limits = &ctx.keys.settings.limits;
    let Some(list) = ctx.keys.write_list(key)? else { return Ok(false) };
    let reply = &mut *ctx.reply;
    list.pop(end, limits, |element| reply_element(reply, element));
    let emptied = list.is_empty();
    ctx.keys.touch(key, EventClasses::LIST, pop_event(end));
    if emptied {
        ctx.keys.remove_emptied(key);
    }
    Ok(true)
}

/// Takes up to `count` elements and answers with an array of them; how many there were, or nothing without a list.
pub fn pop_many(ctx: &mut KeyContext<'_>, key: &[u8], end: End, count: usize) -> CommandResult<Option<usize>> {
    let limits = &ctx.keys.settings.limits;
    let Some(list) = ctx.keys.write_list(key)? else { return Ok(None) };
    let len = list.len();
    let count = count.min(len);
    ctx.reply.array(count);
    if count == 0 {
        return Ok(Some(0));
    }
    let start = if end == End::Head { 0 } else { len - 1 };
    let reply = &mut *ctx.reply;
    list.walk(start, count, end, &mut |element| {
        reply_element(reply, element);
        true
    });
    if count < len {
        list.remove_range(if end == End::Head { 0 } else { len - count }, count, limits);
    }
    ctx.keys.touch(key, EventClasses::LIST, pop_event(end));
    ctx.keys.effects.dirty += count as u64 - 1;
    if count == len {
        ctx.keys.remove_emptied(key);
    }
    Ok(Some(count))
}

fn llen(ctx: &mut KeyContext<'_>, args: Args<'_>) -> Result<KeyFlow, CommandError> {
    let len = ctx.keys.read_list(&args[1])?.map_or(0, List::len);
    ctx.reply.count(len);
    Ok(KeyFlow::Done)
}

fn lindex(ctx: &mut KeyContext<'_>, args: Args<'_>) -> Result<KeyFlow, CommandError> {
    let Some(list) = ctx.keys.read_list(&args[1])? else {
        ctx.reply.null();
        return Ok(KeyFlow::Done);
    };
    let index = args::integer(&args[2])?;
    let reply = &mut *ctx.reply;
    if list.with_index(index, |element| reply_element(reply, element)).is_none() {
        ctx.reply.null();
    }
    Ok(KeyFlow::Done)
}

fn lrange(ctx: &mut KeyContext<'_>, args: Args<'_>) -> Result<KeyFlow, CommandError> {
    let (start, stop) = (args::integer(&args[2])?, args::integer(&args[3])?);
    let Some(list) = ctx.keys.read_list(&args[1])? else {
        ctx.reply.array(0);
        return Ok(KeyFlow::Done);
    };
    let (start, count) = resolve_range(start, stop, list.len());
    ctx.reply.array(count);
    if count > 0 {
        let reply = &mut *ctx.reply;
        list.walk(start, count, End::Head, &mut |element| {
            reply_element(reply, element);
            true
        });
    }
    Ok(KeyFlow::Done)
}

const RANK_ZERO: CommandError = CommandError::fixed(
    "ERR RANK can't be zero: use 1 to start from the first match, 2 from the second ... or use negative to start from the end of the list",
);
fn lpos(ctx: &mut KeyContext<'_>, args: Args<'_>) -> Result<KeyFlow, CommandError> {
    let (mut rank, mut count, mut maxlen) = (1, None, 0);
    let mut index = 3;
    while index < args.len() {
        let value = args::value_of(args, index + 1)?;
        if args.is(index, "RANK") {
            rank = args::integer(value)?;
            if rank == 0 {
                return Err(RANK_ZERO);
            }
        } else if args.is(index, "COUNT") {
            let error = CommandError::fixed("ERR COUNT can't be negative");
            count = Some(args::integer_in(value, 0..=i64::MAX, error)?);
        } else if args.is(index, "MAXLEN") {
            let error = CommandError::fixed("ERR MAXLEN can't be negative");
            maxlen = args::integer_in(value, 0..=i64::MAX, error)?;
        } else {
            return Err(error::SYNTAX);
        }
        index += 2;
    }
    let all_if_zero = |count: i64| if count == 0 { usize::MAX } else { count as usize };
    let search = Search {
        from: if rank < 0 { End::Tail } else { End::Head },
        // The smallest integer has no opposite; Redis 7.0 then takes the first match from the end.
        skip: rank.checked_abs().map_or(0, |rank| rank as usize - 1),
        count: count.map_or(1, all_if_zero),
        maxlen: all_if_zero(maxlen),
    };
    let mut found = Vec::new();
    if let Some(list) = ctx.keys.read_list(&args[1])? {
        list.search(&args[2], &search, |index| found.push(index));
    }
    match (count, found.first()) {
        (None, Some(first)) => ctx.reply.count(*first),
        (None, None) => ctx.reply.null(),
        (Some(_), _) => {
            ctx.reply.array(found.len());
            found.into_iter().for_each(|index| ctx.reply.count(index));
        }
    }
    Ok(KeyFlow::Done)
}

fn lset(ctx: &mut KeyContext<'_>, args: Args<'_>) -> Result<KeyFlow, CommandError> {
    let limits = &ctx.keys.settings.limits;
    let Some(list) = ctx.keys.write_list(&args[1])? else { return Err(error::NO_SUCH_KEY) };
    let index = args::integer(&args[2])?;
    if !list.set(index, &args[3], limits) {
        return Err(error::OUT_OF_RANGE);
    }
    ctx.keys.touch(&args[1], EventClasses::LIST, "lset");
    ctx.reply.ok();
    Ok(KeyFlow::Done)
}

fn linsert(ctx: &mut KeyContext<'_>, args: Args<'_>) -> Result<KeyFlow, CommandError> {
    let offset = if args.is(2, "BEFORE") {
        0
    } else if args.is(2, "AFTER") {
        1
    } else {
        return Err(error::SYNTAX);
    };
    let limits = &ctx.keys.settings.limits;
    let Some(list) = ctx.keys.write_list(&args[1])? else {
        ctx.reply.integer(0);
        return Ok(KeyFlow::Done);
    };
    let mut pivot = None;
    let search = Search { from: End::Head, skip: 0, count: 1, maxlen: usize::MAX };
    list.search(&args[3], &search, |index| pivot = Some(index));
    let Some(pivot) = pivot else {
        ctx.reply.integer(-1);
        return Ok(KeyFlow::Done);
    };
    list.insert(pivot + offset, &args[4], limits);
    let len = list.len();
    ctx.keys.touch(&args[1], EventClasses::LIST, "linsert");
    ctx.reply.count(len);
    Ok(KeyFlow::Done)
}

fn lrem(ctx: &mut KeyContext<'_>, args: Args<'_>) -> Result<KeyFlow, CommandError> {
    let count = args::integer(&args[2])?;
    let limits = &ctx.keys.settings.limits;
    let Some(list) = ctx.keys.write_list(&args[1])? else {
        ctx.reply.integer(0);
        return Ok(KeyFlow::Done);
    };
    let from = if count < 0 { End::Tail } else { End::Head };
    let most = if count == 0 { usize::MAX } else { count.unsigned_abs() as usize };
    let removed = list.remove_equal(&args[3], most, from, limits);
    let emptied = list.is_empty();
    if removed > 0 {
        ctx.keys.touch(&args[1], EventClasses::LIST, "lrem");
        ctx.keys.effects.dirty += removed as u64 - 1;
    }
    if emptied {
        ctx.keys.remove_emptied(&args[1]);
    }
    ctx.reply.count(removed);
    Ok(KeyFlow::Done)
}

fn ltrim(ctx: &mut KeyContext<'_>, args: Args<'_>) -> Result<KeyFlow, CommandError> {
    let (start, stop) = (args::integer(&args[2])?, args::integer(&args[3])?);
    let limits = &ctx.keys.settings.limits;
    let key = &args[1];
    if let Some(list) = ctx.keys.write_list(key)? {
        let len = list.len();
        let (start, count) = resolve_range(start, stop, len);
        if count > 0 {
            list.remove_range(start + count, len - start - count, limits);
            list.remove_range(0, start, limits);
        }
        // Redis publishes the event and wakes watchers even if nothing was trimmed, but sends nothing to the stream then.
        ctx.keys.touch(key, EventClasses::LIST, "ltrim");
        ctx.keys.effects.dirty = ctx.keys.effects.dirty - 1 + (len - count) as u64;
        if count == 0 {
            ctx.keys.remove_emptied(key);
        }
    }
    ctx.reply.ok();
    Ok(KeyFlow::Done)
}

#[cfg(test)]
mod tests {
    use super::resolve_range;

    #[test]
    fn ranges_of_indexes_at_their_extremes() {
        for (start, stop, len, expected) in [
            (0, -1, 5, (0, 5)),
            (1, 2, 5, (1, 2)),
            (-3, -2, 5, (2, 2)),
            (-100, 100, 5, (0, 5)),
            (i64::MIN, i64::MAX, 5, (0, 5)),
            (i64::MIN, i64::MIN, 5, (0, 0)),
            (i64::MAX, i64::MAX, 5, (0, 0)),
            (3, 2, 5, (0, 0)),
            (5, 5, 5, (0, 0)),
            (0, 0, 0, (0, 0)),
        ] {
            assert_eq!(resolve_range(start, stop, len), expected, "{start} {stop} of {len}");
        }
    }
}
