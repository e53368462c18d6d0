//! ZSCAN and ZRANDMEMBER: members in an order that is nobody's business.

use super::context::{KeyContext, KeyFlow};
use super::element::reply_element;
use super::error::{self, CommandError};
use super::sample::{Choice, Sample, is_large_part};
use super::scan::{ScanOptions, ScanTarget, parse_cursor, reply_empty_page, reply_page};
use super::spec::{Group, KeyCommand};
use super::zset::{READ, Scores};
use crate::base::number::DoubleText;
use crate::resp::{Args, Reply};
use std::collections::HashSet;

pub const COMMANDS: &[KeyCommand] = &[
    KeyCommand::new("zscan", -3, zscan)
        .group(Group::SortedSet)
        .since("2.8.0")
        .readonly()
        .tips(&["nondeterministic_output"])
        .keys(READ)
        .syntax("key cursor [MATCH pattern] [COUNT count]")
        .summary("Walks over the members and scores of a sorted set in steps.")
        .complexity("O(1) for every call, O(N) for a whole walk, where N is the size of the sorted set"),
    KeyCommand::new("zrandmember", -2, zrandmember)
        .group(Group::SortedSet)
        .since("6.2.0")
        .readonly()
        .tips(&["nondeterministic_output"])
        .keys(READ)
        .syntax("key [count [WITHSCORES]]")
        .summary("Returns random members of a sorted set.")
        .complexity("O(N) where N is the number of members returned"),
];

fn zscan(ctx: &mut KeyContext<'_>, args: Args<'_>) -> Result<KeyFlow, CommandError> {
    let cursor = parse_cursor(&args[2])?;
    let Some(zset) = ctx.keys.read_zset(&args[1])? else {
        reply_empty_page(ctx.reply);
        return Ok(KeyFlow::Done);
    };
    let options = ScanOptions::parse(args, 3, ScanTarget::Members)?;
    let (mut page, mut items) = (Reply::new(ctx.reply.is_resp3()), 0);
    let next = options.walk(cursor, |cursor| {
        let mut seen = 0;
        let next = zset.scan(cursor, |member, score| {
            seen += 1;
            if member.with_bytes(|member| options.matches(member)) {
                reply_element(&mut page, member);
                // A score is text here, even in RESP3.
                page.bulk(&DoubleText::new(score));
                items += 2;
            }
        });
        (next, seen)
    });
    reply_page(ctx.reply, next, items, &page);
    Ok(KeyFlow::Done)
}

fn zrandmember(ctx: &mut KeyContext<'_>, args: Args<'_>) -> Result<KeyFlow, CommandError> {
    if args.len() > 2 {
        return sample_members(ctx, args);
    }
    match ctx.keys.read_zset(&args[1])? {
        None => ctx.reply.null(),
        Some(zset) => {
            let rank = ctx.random.below(zset.len() as u64) as usize;
            zset.at(rank).into_iter().for_each(|(member, _)| reply_element(ctx.reply, member));
        }
    }
    Ok(KeyFlow::Done)
}

fn sample_members(ctx: &mut KeyContext<'_>, args: Args<'_>) -> Result<KeyFlow, CommandError> {
    let with_scores = args.len() > 3;
    let sample = Sample::parse(&args[2], ctx.reply)?;
    if args.len() > 4 || (with_scores && !args.is(3, "WITHSCORES")) {
        return Err(error::SYNTAX);
    }
    let sample = if with_scores { Sample::parse_with_values(&args[2], ctx.reply)? } else { sample };
    let scores = if with_scores { Scores::With } else { Scores::Without };
    let Some(zset) = ctx.keys.read_zset(&args[1])? else {
        ctx.reply.array(0);
        return Ok(KeyFlow::Done);
    };
    let len = zset.len();
    let reply_at = |reply: &mut Reply, rank: usize| {
        zset.at(rank).into_iter().for_each(|(member, score)| scores.reply_member(reply, member, score));
    };
    match sample {
        Sample::Repeating(count) => {
            scores.begin(ctx.reply, count);
            for _ in 0..count {
                if ctx.reply.must_stop() {
                    break;
                }
                reply_at(ctx.reply, ctx.random.below(len as u64) as usize);
            }
        }
        Sample::Distinct(count) if is_large_part(count, len) => {
            let count = count.min(len);
            scores.begin(ctx.reply, count);
            let mut choice = Choice::new(ctx.random, count, len);
            for (member, score) in zset.iter().filter(|_| choice.takes_next()) {
                scores.reply_member(ctx.reply, member, score);
            }
        }
        Sample::Distinct(count) => {
            scores.begin(ctx.reply, count);
            let mut seen = HashSet::with_capacity(count);
            while seen.len() < count {
                let rank = ctx.random.below(len as u64) as usize;
                if seen.insert(rank) {
                    reply_at(ctx.reply, rank);
                }
            }
        }
    }
    Ok(KeyFlow::Done)
}
