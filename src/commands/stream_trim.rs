//! XTRIM, and the options that it shares with XADD.

use super::args;
use super::context::{KeyContext, KeyFlow, Keys};
use super::effects::EventClasses;
use super::error::{self, CommandError, CommandResult};
use super::keyspec::KeySpec;
use super::spec::{Group, KeyCommand};
use super::stream_id;
use crate::base::number::IntText;
use crate::engine::stream::{References, Stream, StreamId, Threshold, Trim};
use crate::resp::Args;

pub const COMMANDS: &[KeyCommand] = &[KeyCommand::new("xtrim", -4, xtrim)
    .group(Group::Stream)
    .since("5.0.0")
    .write()
    .tips(&["nondeterministic_output"])
    .keys(&[KeySpec::at(1).rw().delete()])
    .syntax("key <MAXLEN | MINID> [= | ~] threshold [LIMIT count] [KEEPREF | DELREF | ACKED]")
    .summary("Deletes entries from the beginning of a stream.")
    .complexity("O(N), with N being the number of evicted entries. Constant times are very small however, since entries are organized in macro nodes containing multiple entries that can be released with a single deallocation.")];

/// Options of XADD and XTRIM, read one at a time.
#[derive(Default)]
pub struct TrimOptions {
    threshold: Option<Threshold>,
    /// Argument index of the threshold.
    threshold_at: usize,
    approximate: bool,
    limit: Option<i64>,
    pub references: Option<References>,
}

impl TrimOptions {
    /// Reads the option at an index; the index behind it, or nothing if it is none.
    pub fn read(&mut self, args: Args<'_>, index: usize) -> CommandResult<Option<usize>> {
        let has_more = index + 1 < args.len();
        if has_more && (args.is(index, "MAXLEN") || args.is(index, "MINID")) {
            if self.threshold.is_some() {
                return Err(CommandError::fixed(
                    "ERR syntax error, MAXLEN and MINID options at the same time are not compatible",
                ));
            }
            return self.read_threshold(args, index).map(Some);
        }
        if has_more && args.is(index, "LIMIT") {
            let limit = args::integer(&args[index + 1])?;
            if limit < 0 {
                return Err(CommandError::fixed("ERR The LIMIT argument must be >= 0."));
            }
            self.limit = Some(limit);
            return Ok(Some(index + 2));
        }
        match read_references(args, index) {
            Some(_) if self.references.is_some() => Err(error::SYNTAX),
            Some(references) => {
                self.references = Some(references);
                Ok(Some(index + 1))
            }
            None => Ok(None),
        }
    }

    fn read_threshold(&mut self, args: Args<'_>, index: usize) -> CommandResult<usize> {
        let mut at = index + 1;
        if at + 1 < args.len() && matches!(&args[at], b"~" | b"=") {
            self.approximate = &args[at] == b"~";
            at += 1;
        }
        self.threshold = Some(if args.is(index, "MAXLEN") {
            let len = args::integer(&args[at])?;
            Threshold::MaxLen(
                u64::try_from(len).map_err(|_| CommandError::fixed("ERR The MAXLEN argument must be >= 0."))?,
            )
        } else {
            Threshold::MinId(stream_id::strict(&args[at], 0)?)
        });
        self.threshold_at = at;
        Ok(at + 1)
    }

    /// Checks that the options go together; nothing to trim without a threshold.
    pub fn finish(self, ctx: &KeyContext<'_>) -> CommandResult<Option<TrimWish>> {
        let Some(threshold) = self.threshold else {
            return match self.limit {
                Some(limit) if limit > 0 => Err(CommandError::fixed(
                    "ERR syntax error, LIMIT cannot be used without specifying a trimming strategy",
                )),
                Some(_) | None => Ok(None),
            };
        };
        // The stream holds thresholds that need no limit, beside limits that are there for history.
        let limit = if ctx.is_replay {
            0
        } else if self.approximate {
            let per_node = ctx.keys.settings.limits.stream_node_max_entries as i64;
            self.limit.unwrap_or_else(|| match per_node.saturating_mul(LIMIT_NODES) {
                0 => LIMIT_WITHOUT_NODES,
                limit => limit.min(LIMIT_MAX),
            })
        } else if self.limit.is_some() {
            return Err(CommandError::fixed("ERR syntax error, LIMIT cannot be used without the special ~ option"));
        } else {
            0
        };
        let trim = Trim { threshold, approximate: self.approximate, limit: limit as u64 };
        Ok(Some(TrimWish { trim, references: self.references.unwrap_or_default(), threshold_at: self.threshold_at }))
    }
}

/// Approximate trimming takes at most so many nodes at a time.
const LIMIT_NODES: i64 = 100;
const LIMIT_WITHOUT_NODES: i64 = 10_000;
const LIMIT_MAX: i64 = 1_000_000;

/// KEEPREF, DELREF, ACKED.
pub fn read_references(args: Args<'_>, index: usize) -> Option<References> {
    let words = [("KEEPREF", References::Keep), ("DELREF", References::Delete), ("ACKED", References::Respect)];
    words.into_iter().find(|(word, _)| args.is(index, word)).map(|(_, references)| references)
}

/// A trim that was asked for.
pub struct TrimWish {
    trim: Trim,
    references: References,
    threshold_at: usize,
}

impl TrimWish {
    /// Trims, and tells of it; how many entries went.
    pub fn run(&self, keys: &mut Keys<'_>, key: &[u8]) -> CommandResult<u64> {
        let Some(stream) = keys.write_stream(key)? else { return Ok(0) };
        let deleted = stream.trim(&self.trim, self.references);
        if deleted > 0 {
            keys.notify(key, EventClasses::STREAM, "xtrim");
        }
        Ok(deleted)
    }

    /// What stands in the stream instead of an approximate threshold: the exact one that has the same effect, and `=`.
    pub fn exact(&self, stream: &Stream) -> Option<(usize, Vec<u8>)> {
        let threshold = match self.trim.threshold {
            Threshold::MaxLen(_) => IntText::new(stream.len() as i64).to_vec(),
            Threshold::MinId(_) => stream.first_held_id().unwrap_or(StreamId::MAX).text().to_vec(),
        };
        self.trim.approximate.then_some((self.threshold_at, threshold))
    }
}

fn xtrim(ctx: &mut KeyContext<'_>, args: Args<'_>) -> Result<KeyFlow, CommandError> {
    let key = &args[1];
    let mut options = TrimOptions::default();
    let mut index = 2;
    while index < args.len() {
        index = options.read(args, index)?.ok_or(error::SYNTAX)?;
    }
    let wish = options
        .finish(ctx)?
        .ok_or(CommandError::fixed("ERR syntax error, XTRIM must be called with a trimming strategy"))?;
    let deleted = wish.run(&mut ctx.keys, key)?;
    if deleted > 0 {
        ctx.keys.modified(key);
        ctx.keys.effects.dirty += deleted - 1;
        if let Some((at, threshold)) = ctx.keys.write_stream(key)?.and_then(|stream| wish.exact(stream)) {
            ctx.keys.propagate_replacing(args, &[(at - 1, b"="), (at, &threshold)]);
        }
    }
    ctx.reply.integer(deleted as i64);
    Ok(KeyFlow::Done)
}
