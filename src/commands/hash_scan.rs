//! HSCAN and HRANDFIELD: a part of a hash at a time.

use super::context::{KeyContext, KeyFlow};
use super::element::reply_element;
use super::error::{self, CommandError};
use super::field_expiry::LAZY_FIELDS;
use super::field_expiry::{expire_fields, has_expired};
use super::keyspec::KeySpec;
use super::sample::{Choice, Sample, is_large_part};
use super::scan::{ScanOptions, ScanTarget, parse_cursor, reply_empty_page, reply_page};
use super::spec::{Group, KeyCommand};
use crate::base::random::Random;
use crate::engine::hash::{Entry, Hash};
use crate::engine::listpack::Element;
use crate::resp::{Args, Reply};
use std::collections::HashSet;

pub const COMMANDS: &[KeyCommand] = &[
    KeyCommand::new("hscan", -3, hscan)
        .since("2.8.0")
        .group(Group::Hash)
        .readonly()
        .tips(&["nondeterministic_output"])
        .keys(&[KeySpec::at(1).ro().access()])
        .syntax("key cursor [MATCH pattern] [COUNT count] [NOVALUES]")
        .summary("Walks the fields of a hash in steps.")
        .complexity("O(1) for every call. O(N) for a complete iteration, including enough command calls for the cursor to return back to 0. N is the number of elements inside the collection."),
    KeyCommand::new("hrandfield", -2, hrandfield)
        .since("6.2.0")
        .group(Group::Hash)
        .readonly()
        .tips(&["nondeterministic_output"])
        .keys(&[KeySpec::at(1).ro().access()])
        .syntax("key [count [WITHVALUES]]")
        .summary("Returns random fields of a hash.")
        .complexity("O(N) where N is the number of fields returned"),
];

fn hscan(ctx: &mut KeyContext<'_>, args: Args<'_>) -> Result<KeyFlow, CommandError> {
    let cursor = parse_cursor(&args[2])?;
    let now = ctx.keys.field_now();
    let Some(hash) = ctx.keys.read_hash(&args[1])? else {
        reply_empty_page(ctx.reply);
        return Ok(KeyFlow::Done);
    };
    let options = ScanOptions::parse(args, 3, ScanTarget::Fields)?;
    let (mut page, mut items) = (Reply::new(ctx.reply.is_resp3()), 0);
    let next = options.walk(cursor, |cursor| {
        let mut seen = 0;
        let next = hash.scan(cursor, |entry| {
            seen += 1;
            if entry.is_expired(now) || !entry.field.with_bytes(|field| options.matches(field)) {
                return;
            }
            reply_element(&mut page, entry.field);
            items += 1;
            if !options.no_values {
                reply_element(&mut page, entry.value);
                items += 1;
            }
        });
        (next, seen)
    });
    reply_page(ctx.reply, next, items, &page);
    Ok(KeyFlow::Done)
}

fn hrandfield(ctx: &mut KeyContext<'_>, args: Args<'_>) -> Result<KeyFlow, CommandError> {
    let (key, now) = (&args[1], ctx.keys.field_now());
    let with_values = args.len() == 4 && args.is(3, "WITHVALUES");
    let sample = match args.get(2) {
        None => None,
        Some(count) => {
            let sample = Sample::parse(count, ctx.reply)?;
            if args.len() > 4 || (args.len() == 4 && !with_values) {
                return Err(error::SYNTAX);
            }
            Some(if with_values { Sample::parse_with_values(count, ctx.reply)? } else { sample })
        }
    };
    // Expired fields would be drawn again and again.
    if ctx.keys.read_hash(key)?.is_some_and(|hash| has_expired(hash, now)) {
        expire_fields(&mut ctx.keys, key, LAZY_FIELDS);
    }
    let hash = ctx.keys.hash_in_place(key).map(|hash| &*hash);
    let live = hash.map_or(0, |hash| hash.live_len(now));
    let Some(hash) = hash.filter(|_| live > 0) else {
        if sample.is_none() {
            ctx.reply.null()
        } else {
            ctx.reply.array(0)
        }
        return Ok(KeyFlow::Done);
    };
    let fields = Fields { hash, live, now, with_values };
    match sample {
        None => fields.draw(ctx.random, |entry| reply_element(ctx.reply, entry.field)),
        Some(Sample::Repeating(count)) => {
            fields.begin(ctx.reply, count);
            for _ in 0..count {
                if ctx.reply.must_stop() {
                    break;
                }
                fields.draw(ctx.random, |entry| fields.reply(ctx.reply, entry));
            }
        }
        Some(Sample::Distinct(count)) => {
            let count = count.min(live);
            fields.begin(ctx.reply, count);
            fields.distinct(ctx.random, count, |entry| fields.reply(ctx.reply, entry));
        }
    }
    Ok(KeyFlow::Done)
}

/// The fields of a hash to draw from.
struct Fields<'a> {
    hash: &'a Hash,
    /// How many have not expired; at least one.
    live: usize,
    now: i64,
    with_values: bool,
}

impl<'a> Fields<'a> {
    /// Pairs are nested in RESP3 and flat in RESP2.
    fn begin(&self, reply: &mut Reply, count: usize) {
        let flat = self.with_values && !reply.is_resp3();
        reply.array(if flat { 2 * count } else { count });
    }

    fn reply(&self, reply: &mut Reply, entry: Entry<'_>) {
        if self.with_values && reply.is_resp3() {
            reply.array(2);
        }
        reply_element(reply, entry.field);
        if self.with_values {
            reply_element(reply, entry.value);
        }
    }

    fn draw(&self, random: &mut Random, visit: impl FnOnce(Entry<'a>)) {
        loop {
            match self.hash.random(random) {
                Some(entry) if entry.is_expired(self.now) => {}
                Some(entry) => return visit(entry),
                None => return,
            }
        }
    }

    fn distinct(&self, random: &mut Random, count: usize, mut visit: impl FnMut(Entry<'a>)) {
        if is_large_part(count, self.live) || self.hash.encoding() != "hashtable" {
            let mut choice = Choice::new(random, count, self.live);
            let live = self.hash.iter().filter(|entry| !entry.is_expired(self.now));
            return live.filter(|_| choice.takes_next()).for_each(visit);
        }
        let mut drawn: HashSet<&[u8], ahash::RandomState> =
            HashSet::with_capacity_and_hasher(count, Default::default());
        while drawn.len() < count {
            self.draw(random, |entry| {
                if let Element::Bytes(field) = entry.field
                    && drawn.insert(field)
                {
                    visit(entry);
                }
            });
        }
    }
}
