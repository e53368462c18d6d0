//! XDELEX, XACKDEL: deleting entries with regard to the groups. XNACK: giving pending entries back to the group.

use super::args;
use super::context::{KeyContext, KeyFlow};
use super::effects::EventClasses;
use super::error::{self, CommandError, CommandResult};
use super::keyspec::KeySpec;
use super::spec::{Group as CommandGroup, KeyCommand};
use super::stream_group::no_key_or_group;
use super::stream_id;
use super::stream_trim::read_references;
use crate::engine::stream::{Deletion, References, StreamId};
use crate::resp::Args;

pub const COMMANDS: &[KeyCommand] = &[
    KeyCommand::new("xdelex", -5, xdelex)
        .group(CommandGroup::Stream)
        .since("8.2.0")
        .write()
        .fast()
        .keys(&[KeySpec::at(1).rw().delete()])
        .syntax("key [KEEPREF | DELREF | ACKED] IDS numids id [id ...]")
        .summary("Deletes entries of a stream with regard to its groups; tells what became of each.")
        .complexity("O(1) for each single item to delete in the stream, regardless of the stream size."),
    KeyCommand::new("xackdel", -6, xackdel)
        .group(CommandGroup::Stream)
        .since("8.2.0")
        .write()
        .fast()
        .keys(&[KeySpec::at(1).rw().update().delete()])
        .syntax("key group [KEEPREF | DELREF | ACKED] IDS numids id [id ...]")
        .summary("Acknowledges entries of a group and deletes them; tells what became of each.")
        .complexity("O(1) for each entry ID processed."),
    KeyCommand::new("xnack", -7, xnack)
        .group(CommandGroup::Stream)
        .since("8.8.0")
        .write()
        .fast()
        .keys(&[KeySpec::at(1).rw().update()])
        .syntax("key group <SILENT | FAIL | FATAL> IDS numids id [id ...] [RETRYCOUNT count] [FORCE]")
        .summary("Gives pending entries back to the group, for anybody to claim at once.")
        .complexity("O(1) for each message ID processed."),
];

/// `IDS numids id [id ...]` among other options, which `other` reads: it returns how many arguments it took.
fn parse_ids(
    args: Args<'_>,
    first: usize,
    mut other: impl FnMut(usize) -> CommandResult<usize>,
) -> CommandResult<Vec<StreamId>> {
    let mut ids = None;
    let mut index = first;
    while index < args.len() {
        if !args.is(index, "IDS") || ids.is_some() {
            index += other(index)?;
            continue;
        }
        let positive = CommandError::fixed("ERR Number of IDs must be a positive integer");
        let count = args::integer_in(args.get(index + 1).ok_or(error::SYNTAX)?, 1..=i64::MAX, positive)? as usize;
        let start = index + 2;
        let end = start.checked_add(count).filter(|end| *end <= args.len());
        let end = end.ok_or(CommandError::fixed("ERR The `numids` parameter must match the number of arguments"))?;
        ids = Some(stream_id::list(args.first(end), start)?);
        index = end;
    }
    ids.ok_or(error::SYNTAX)
}

/// The ids and the option about references, once.
fn parse_deletion(args: Args<'_>, first: usize) -> CommandResult<(Vec<StreamId>, References)> {
    let mut references = None;
    let ids = parse_ids(args, first, |index| {
        // What stands behind the ids is one id too many.
        let found = read_references(args, index).filter(|_| references.is_none()).ok_or(error::SYNTAX)?;
        references = Some(found);
        Ok(1)
    })?;
    Ok((ids, references.unwrap_or_default()))
}

const fn code(deletion: Deletion) -> i64 {
    match deletion {
        Deletion::NotFound => -1,
        Deletion::Deleted => 1,
        Deletion::Referenced => 2,
    }
}

fn xdelex(ctx: &mut KeyContext<'_>, args: Args<'_>) -> Result<KeyFlow, CommandError> {
    let key = &args[1];
    let (ids, references) = parse_deletion(args, 2)?;
    ctx.reply.array(ids.len());
    let (mut deleted, mut dropped) = (0, 0);
    let mut stream = ctx.keys.write_stream(key)?;
    for id in ids {
        let pending = |stream: &crate::engine::stream::Stream| {
            stream.groups().filter(|(_, group)| group.find_pending(id).is_some()).count() as u64
        };
        let before = stream.as_deref().map_or(0, pending);
        let deletion = stream.as_mut().map_or(Deletion::NotFound, |stream| stream.delete(id, references));
        deleted += u64::from(deletion == Deletion::Deleted);
        dropped += before - stream.as_deref().map_or(0, pending);
        ctx.reply.integer(code(deletion));
    }
    finish(ctx, key, deleted, dropped);
    Ok(KeyFlow::Done)
}

/// Entries were deleted, or only ceased to be pending.
fn finish(ctx: &mut KeyContext<'_>, key: &[u8], deleted: u64, dropped: u64) {
    if deleted > 0 {
        ctx.keys.touch(key, EventClasses::STREAM, "xdel");
        ctx.keys.effects.dirty += deleted - 1;
    }
    ctx.keys.effects.dirty += dropped;
}

fn xackdel(ctx: &mut KeyContext<'_>, args: Args<'_>) -> Result<KeyFlow, CommandError> {
    let (key, name) = (&args[1], &args[2]);
    let (ids, references) = parse_deletion(args, 3)?;
    ctx.reply.array(ids.len());
    let (mut deleted, mut acknowledged) = (0, 0);
    let mut stream = ctx.keys.write_stream(key)?;
    for id in ids {
        let Some(stream) = stream.as_mut().filter(|stream| stream.group(name).is_some()) else {
            ctx.reply.integer(-1);
            continue;
        };
        if !stream.group_mut(name).is_some_and(|group| group.acknowledge(id)) {
            ctx.reply.integer(-1);
            continue;
        }
        acknowledged += 1;
        match stream.delete(id, references) {
            Deletion::Referenced => ctx.reply.integer(code(Deletion::Referenced)),
            deletion => {
                deleted += u64::from(deletion == Deletion::Deleted);
                ctx.reply.integer(code(Deletion::Deleted));
            }
        }
    }
    finish(ctx, key, deleted, acknowledged);
    Ok(KeyFlow::Done)
}

/// How XNACK counts deliveries.
#[derive(Clone, Copy)]
enum Verdict {
    /// The delivery does not count.
    Silent,
    Fail,
    /// Nobody is to try again.
    Fatal,
}

/// The number of deliveries of an entry that nobody is to try again.
const FATAL: u64 = i64::MAX as u64;

fn xnack(ctx: &mut KeyContext<'_>, args: Args<'_>) -> Result<KeyFlow, CommandError> {
    let (key, name) = (&args[1], &args[2]);
    let verdicts = [("SILENT", Verdict::Silent), ("FAIL", Verdict::Fail), ("FATAL", Verdict::Fatal)];
    let verdict = verdicts.into_iter().find(|(word, _)| args.is(3, word)).map(|(_, verdict)| verdict);
    let verdict = verdict.ok_or(error::SYNTAX)?;
    let (mut deliveries, mut force) = (None, false);
    let ids = parse_ids(args, 4, |index| {
        if args.is(index, "FORCE") {
            force = true;
            return Ok(1);
        }
        if !args.is(index, "RETRYCOUNT") || index + 1 == args.len() {
            return Err(error::SYNTAX);
        }
        let invalid = CommandError::fixed("ERR Invalid RETRYCOUNT option argument for XNACK");
        deliveries = Some(args::integer_in(&args[index + 1], 0..=i64::MAX, invalid)? as u64);
        Ok(2)
    })?;
    let found = ctx.keys.write_stream(key)?.and_then(|stream| stream.split_mut(name));
    let (entries, group) = found.ok_or_else(|| no_key_or_group(key, name))?;
    let mut released = 0;
    for id in ids {
        let before = match group.find_pending(id) {
            Some(pending) => Some(pending.deliveries),
            None if force && entries.contains(id) => Some(0),
            None => None,
        };
        let Some(before) = before else { continue };
        let counted = match verdict {
            Verdict::Silent => before.saturating_sub(1),
            Verdict::Fail => before,
            Verdict::Fatal => FATAL,
        };
        // Pending since ever, so whoever claims finds it first.
        group.release(id, 0, deliveries.unwrap_or(counted));
        released += 1;
    }
    ctx.keys.effects.dirty += released;
    if released > 0 {
        // Who waits with CLAIM has something to take.
        ctx.keys.wake(key);
    }
    ctx.reply.count(released as usize);
    Ok(KeyFlow::Done)
}
