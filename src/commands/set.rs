//! Sets: adding, removing, moving and looking up members.

use super::context::{KeyContext, KeyFlow};
use super::effects::EventClasses;
use super::element::reply_element;
use super::error::CommandError;
use super::keyspec::KeySpec;
use super::scan::{ScanOptions, ScanTarget, parse_cursor, reply_empty_page, reply_page};
use super::spec::{Group, KeyCommand};
use crate::engine::set::Set;
use crate::resp::{Args, Reply};

pub const COMMANDS: &[KeyCommand] = &[
    KeyCommand::new("sadd", -3, sadd)
        .member(2)
        .group(Group::Set)
        .write()
        .denyoom()
        .fast()
        .keys(&[KeySpec::at(1).rw().insert()])
        .syntax("key member [member ...]")
        .summary("Adds members to a set; counts those that are new.")
        .complexity("O(1) for each element added, so O(N) to add N elements when the command is called with multiple arguments."),
    KeyCommand::new("srem", -3, srem)
        .member(2)
        .group(Group::Set)
        .write()
        .fast()
        .keys(&[KeySpec::at(1).rw().delete()])
        .syntax("key member [member ...]")
        .summary("Removes members of a set, and the key with the last one.")
        .complexity("O(N) where N is the number of members to be removed."),
    KeyCommand::new("smove", 4, smove)
        .group(Group::Set)
        .write()
        .fast()
        .keys(&[KeySpec::at(1).rw().access().delete(), KeySpec::at(2).rw().insert()])
        .syntax("source destination member")
        .summary("Moves a member from one set to another.")
        .complexity("O(1)"),
    KeyCommand::new("sismember", 3, sismember)
        .member(2)
        .group(Group::Set)
        .readonly()
        .fast()
        .keys(&[KeySpec::at(1).ro()])
        .syntax("key member")
        .summary("Tells whether a set has a member.")
        .complexity("O(1)"),
    KeyCommand::new("smismember", -3, smismember)
        .since("6.2.0")
        .group(Group::Set)
        .readonly()
        .fast()
        .keys(&[KeySpec::at(1).ro().access()])
        .syntax("key member [member ...]")
        .summary("Tells of each of several members whether a set has it.")
        .complexity("O(N) where N is the number of elements being checked for membership"),
    KeyCommand::new("scard", 2, scard)
        .group(Group::Set)
        .readonly()
        .fast()
        .keys(&[KeySpec::at(1).ro()])
        .syntax("key")
        .summary("Counts the members of a set.")
        .complexity("O(1)"),
    KeyCommand::new("smembers", 2, smembers)
        .group(Group::Set)
        .readonly()
        .tips(&["nondeterministic_output_order"])
        .keys(&[KeySpec::at(1).ro().access()])
        .syntax("key")
        .summary("Returns every member of a set.")
        .complexity("O(N) where N is the set cardinality."),
    KeyCommand::new("sscan", -3, sscan)
        .since("2.8.0")
        .group(Group::Set)
        .readonly()
        .tips(&["nondeterministic_output"])
        .keys(&[KeySpec::at(1).ro().access()])
        .syntax("key cursor [MATCH pattern] [COUNT count]")
        .summary("Walks the members of a set in steps.")
        .complexity("O(1) for every call. O(N) for a complete iteration, including enough command calls for the cursor to return back to 0. N is the number of elements inside the collection."),
];

fn sadd(ctx: &mut KeyContext<'_>, args: Args<'_>) -> Result<KeyFlow, CommandError> {
    let (key, first, count) = (&args[1], &args[2], args.len() - 2);
    let limits = &ctx.keys.settings.limits;
    let set = ctx.keys.set_or_new(key, |limits| Set::for_members(first, count, limits))?;
    let added = if count == 1 {
        usize::from(set.add(first, limits))
    } else {
        set.expect(count, limits);
        args.from(2).iter().filter(|member| set.add(member, limits)).count()
    };
    if added > 0 {
        ctx.keys.effects.dirty += added as u64 - 1;
        ctx.keys.touch(key, EventClasses::SET, "sadd");
    }
    ctx.reply.count(added);
    Ok(KeyFlow::Done)
}

fn srem(ctx: &mut KeyContext<'_>, args: Args<'_>) -> Result<KeyFlow, CommandError> {
    let key = &args[1];
    let Some(set) = ctx.keys.write_set(key)? else {
        ctx.reply.integer(0);
        return Ok(KeyFlow::Done);
    };
    let removed = args.from(2).iter().filter(|member| set.remove(member)).count();
    let emptied = set.is_empty();
    if removed > 0 {
        ctx.keys.effects.dirty += removed as u64 - 1;
        ctx.keys.touch(key, EventClasses::SET, "srem");
        if emptied {
            ctx.keys.remove_emptied(key);
        }
    }
    ctx.reply.count(removed);
    Ok(KeyFlow::Done)
}

fn smove(ctx: &mut KeyContext<'_>, args: Args<'_>) -> Result<KeyFlow, CommandError> {
    let (source, target, member) = (&args[1], &args[2], &args[3]);
    let Some(found) = ctx.keys.write_set(source)?.map(|set| set.contains(member)) else {
        ctx.reply.integer(0);
        return Ok(KeyFlow::Done);
    };
    ctx.keys.write_set(target)?;
    if source == target || !found {
        ctx.reply.integer(i64::from(found));
        return Ok(KeyFlow::Done);
    }
    let mut emptied = false;
    if let Some(set) = ctx.keys.write_set(source)? {
        set.remove(member);
        emptied = set.is_empty();
    }
    ctx.keys.touch(source, EventClasses::SET, "srem");
    if emptied {
        ctx.keys.remove_emptied(source);
    }
    let limits = &ctx.keys.settings.limits;
    let set = ctx.keys.set_or_new(target, |limits| Set::for_members(member, 1, limits))?;
    if set.add(member, limits) {
        ctx.keys.touch(target, EventClasses::SET, "sadd");
    }
    ctx.reply.integer(1);
    Ok(KeyFlow::Done)
}

fn sismember(ctx: &mut KeyContext<'_>, args: Args<'_>) -> Result<KeyFlow, CommandError> {
    let is_member = ctx.keys.read_set(&args[1])?.is_some_and(|set| set.contains(&args[2]));
    ctx.reply.integer(i64::from(is_member));
    Ok(KeyFlow::Done)
}

fn smismember(ctx: &mut KeyContext<'_>, args: Args<'_>) -> Result<KeyFlow, CommandError> {
    let set = ctx.keys.read_set(&args[1])?;
    ctx.reply.array(args.len() - 2);
    for member in args.from(2).iter() {
        ctx.reply.integer(i64::from(set.is_some_and(|set| set.contains(member))));
    }
    Ok(KeyFlow::Done)
}

fn scard(ctx: &mut KeyContext<'_>, args: Args<'_>) -> Result<KeyFlow, CommandError> {
    let len = ctx.keys.read_set(&args[1])?.map_or(0, Set::len);
    ctx.reply.count(len);
    Ok(KeyFlow::Done)
}

fn smembers(ctx: &mut KeyContext<'_>, args: Args<'_>) -> Result<KeyFlow, CommandError> {
    let set = ctx.keys.read_set(&args[1])?;
    ctx.reply.set(set.map_or(0, Set::len));
    set.into_iter().flat_map(Set::iter).for_each(|member| reply_element(ctx.reply, member));
    Ok(KeyFlow::Done)
}

fn sscan(ctx: &mut KeyContext<'_>, args: Args<'_>) -> Result<KeyFlow, CommandError> {
    let cursor = parse_cursor(&args[2])?;
    let Some(set) = ctx.keys.read_set(&args[1])? else {
        reply_empty_page(ctx.reply);
        return Ok(KeyFlow::Done);
    };
    let options = ScanOptions::parse(args, 3, ScanTarget::Members)?;
    let (mut page, mut items) = (Reply::new(ctx.reply.is_resp3()), 0);
    let next = options.walk(cursor, |cursor| {
        let mut seen = 0;
        let next = set.scan(cursor, |member| {
            seen += 1;
            if member.with_bytes(|text| options.matches(text)) {
                reply_element(&mut page, member);
                items += 1;
            }
        });
        (next, seen)
    });
    reply_page(ctx.reply, next, items, &page);
    Ok(KeyFlow::Done)
}
