//! SPOP and SRANDMEMBER: random members, taken out or only shown.

use super::args;
use super::context::{KeyContext, KeyFlow, Keys};
use super::effects::EventClasses;
use super::element::reply_element;
use super::error::{self, CommandError};
use super::keyspec::KeySpec;
use super::sample::{Choice, Sample, is_large_part};
use super::spec::{Group, KeyCommand};
use crate::base::random::Random;
use crate::engine::limits::Limits;
use crate::engine::listpack::Element;
use crate::engine::set::Set;
use crate::resp::{Args, Reply};
use std::collections::HashSet;

pub const COMMANDS: &[KeyCommand] = &[
    KeyCommand::new("spop", -2, spop)
        .group(Group::Set)
        .write()
        .fast()
        .tips(&["nondeterministic_output"])
        .keys(&[KeySpec::at(1).rw().access().delete()])
        .syntax("key [count]")
        .summary("Removes random members of a set and returns them.")
        .complexity("Without the count argument O(1), otherwise O(N) where N is the value of the passed count."),
    KeyCommand::new("srandmember", -2, srandmember)
        .group(Group::Set)
        .readonly()
        .tips(&["nondeterministic_output"])
        .keys(&[KeySpec::at(1).ro().access()])
        .syntax("key [count]")
        .summary("Returns random members of a set.")
        .complexity(
            "Without the count argument O(1), otherwise O(N) where N is the absolute value of the passed count.",
        ),
];

/// Members named by one SREM of the stream.
const SREM_BATCH: usize = 1024;

fn spop(ctx: &mut KeyContext<'_>, args: Args<'_>) -> Result<KeyFlow, CommandError> {
    match args.len() {
        2 => pop_one(ctx, &args[1]),
        3 => {
            let count = args::integer_in(&args[2], 0..=i64::MAX, error::MUST_BE_POSITIVE)?;
            pop_several(ctx, &args[1], count as usize)
        }
        _ => Err(error::SYNTAX),
    }
}

fn pop_one(ctx: &mut KeyContext<'_>, key: &[u8]) -> Result<KeyFlow, CommandError> {
    let Some(set) = ctx.keys.write_set(key)? else {
        ctx.reply.null();
        return Ok(KeyFlow::Done);
    };
    let Some(member) = set.pop(ctx.random) else {
        ctx.reply.null();
        return Ok(KeyFlow::Done);
    };
    let emptied = set.is_empty();
    ctx.keys.touch(key, EventClasses::SET, "spop");
    if emptied {
        ctx.keys.remove_emptied(key);
    }
    ctx.keys.propagate_as(&[b"SREM", key, &member]);
    ctx.reply.bulk(&member);
    Ok(KeyFlow::Done)
}

fn pop_several(ctx: &mut KeyContext<'_>, key: &[u8], count: usize) -> Result<KeyFlow, CommandError> {
    let limits = &ctx.keys.settings.limits;
    let journaled = ctx.keys.observers.journal;
    let Some(set) = ctx.keys.write_set(key)?.filter(|_| count > 0) else {
        ctx.reply.set(0);
        return Ok(KeyFlow::Done);
    };
    let len = set.len();
    ctx.reply.set(count.min(len));
    if count >= len {
        set.iter().for_each(|member| reply_element(ctx.reply, member));
        pop_everything(&mut ctx.keys, key, len);
        return Ok(KeyFlow::Done);
    }
    let mut popped = Popped { reply: ctx.reply, journaled, members: Vec::new() };
    take_some(set, count, ctx.random, limits, &mut popped);
    let members = popped.members;
    ctx.keys.effects.dirty += count as u64 - 1;
    ctx.keys.touch(key, EventClasses::SET, "spop");
    ctx.keys.propagate_nothing();
    for batch in members.chunks(SREM_BATCH) {
        let args: Vec<&[u8]> = [b"SREM".as_slice(), key].into_iter().chain(batch.iter().map(Vec::as_slice)).collect();
        ctx.keys.propagate_as(&args);
    }
    Ok(KeyFlow::Done)
}

/// The whole set was asked for: the stream needs no list of its members.
fn pop_everything(keys: &mut Keys<'_>, key: &[u8], len: usize) {
    keys.effects.dirty += len as u64 - 1;
    keys.touch(key, EventClasses::SET, "spop");
    keys.remove_emptied(key);
    let verb: &[u8] = if keys.settings.lazy_server_del { b"UNLINK" } else { b"DEL" };
    keys.propagate_as(&[verb, key]);
}

/// Where popped members go: to the client, and to the stream if anybody reads it.
struct Popped<'a> {
    reply: &'a mut Reply,
    journaled: bool,
    members: Vec<Vec<u8>>,
}

impl Popped<'_> {
    fn push(&mut self, member: Element<'_>) {
        reply_element(self.reply, member);
        if self.journaled {
            self.members.push(member.to_vec());
        }
    }
}

/// Takes `count` random members, fewer than there are. If few remain, the remaining ones are chosen and move to a new set.
fn take_some(set: &mut Set, count: usize, random: &mut Random, limits: &Limits, popped: &mut Popped<'_>) {
    let remaining = set.len() - count;
    if remaining.saturating_mul(5) > count {
        for _ in 0..count {
            if let Some(member) = set.pop(random) {
                popped.push(Element::Bytes(&member));
            }
        }
        return;
    }
    let mut choice = Choice::new(random, remaining, set.len());
    let mut rest = Set::new();
    for member in set.iter() {
        if choice.takes_next() {
            rest.add_element(member, limits);
        } else {
            popped.push(member);
        }
    }
    *set = rest;
}

fn srandmember(ctx: &mut KeyContext<'_>, args: Args<'_>) -> Result<KeyFlow, CommandError> {
    let sample = match args.len() {
        2 => None,
        3 => Some(Sample::parse(&args[2], ctx.reply)?),
        _ => return Err(error::SYNTAX),
    };
    let Some(set) = ctx.keys.read_set(&args[1])? else {
        if sample.is_none() {
            ctx.reply.null()
        } else {
            ctx.reply.array(0)
        }
        return Ok(KeyFlow::Done);
    };
    match sample {
        None => _ = set.random(ctx.random).map(|member| reply_element(ctx.reply, member)),
        Some(Sample::Repeating(count)) => {
            ctx.reply.array(count);
            for _ in 0..count {
                if ctx.reply.must_stop() {
                    break;
                }
                set.random(ctx.random).inspect(|member| reply_element(ctx.reply, *member));
            }
        }
        Some(Sample::Distinct(count)) => {
            let count = count.min(set.len());
            ctx.reply.array(count);
            distinct(set, count, ctx.random, |member| reply_element(ctx.reply, member));
        }
    }
    Ok(KeyFlow::Done)
}

/// Shows `count` different members, at most as many as there are.
fn distinct<'a>(set: &'a Set, count: usize, random: &mut Random, mut visit: impl FnMut(Element<'a>)) {
    if is_large_part(count, set.len()) || set.encoding() != "hashtable" {
        let mut choice = Choice::new(random, count, set.len());
        return set.iter().filter(|_| choice.takes_next()).for_each(visit);
    }
    let mut drawn: HashSet<&[u8], ahash::RandomState> = HashSet::with_capacity_and_hasher(count, Default::default());
    while drawn.len() < count {
        if let Some(member @ Element::Bytes(text)) = set.random(random)
            && drawn.insert(text)
        {
            visit(member);
        }
    }
}
