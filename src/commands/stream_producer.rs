//! Messages with keys of their producers: what is sent again is not added again. XADD's IDMP and IDMPAUTO, XCFGSET, XIDMPRECORD.

use super::args;
use super::context::{KeyContext, KeyFlow, Keys};
use super::error::{self, CommandError, CommandResult};
use super::keyspec::KeySpec;
use super::spec::{Group, KeyCommand};
use super::stream_id;
use crate::engine::stream::{Stream, StreamId};
use crate::resp::Args;
use sha1::{Digest, Sha1};
use std::borrow::Cow;

pub const COMMANDS: &[KeyCommand] = &[
    KeyCommand::new("xcfgset", -2, xcfgset)
        .group(Group::Stream)
        .since("8.6.0")
        .write()
        .fast()
        .keys(&[KeySpec::at(1).rw().update()])
        .syntax("key [IDMP-DURATION idmp-duration] [IDMP-MAXSIZE idmp-maxsize]")
        .summary("Sets for how long a stream remembers what its producers have sent, and how much of it.")
        .complexity("O(1)"),
    KeyCommand::new("xidmprecord", 5, xidmprecord)
        .group(Group::Stream)
        .since("8.8.0")
        .write()
        .fast()
        .keys(&[KeySpec::at(1).rw().update()])
        .syntax("key pid iid stream-id")
        .summary("Tells which entry a producer has sent with a key. For internal use.")
        .complexity("O(1)"),
];

/// Longest time and greatest number that may be set.
const DURATION_MAX_S: i64 = 86_400;
const KEYS_MAX: i64 = 10_000;

/// A message to be added, with its producer and key.
pub struct Message<'a> {
    producer: &'a [u8],
    /// Nothing yet where it follows from the content.
    key: Option<Cow<'a, [u8]>>,
    option_at: usize,
    /// The argument index behind the option.
    pub behind: usize,
}

impl<'a> Message<'a> {
    pub fn is_option(args: Args<'_>, index: usize) -> bool {
        args.is(index, "IDMP") || args.is(index, "IDMPAUTO")
    }

    pub fn read(args: Args<'a>, index: usize) -> CommandResult<Self> {
        let word = |at: usize| args.get(at).filter(|word| !word.is_empty()).ok_or(error::SYNTAX);
        let producer = word(index + 1)?;
        if args.is(index, "IDMPAUTO") {
            return Ok(Message { producer, key: None, option_at: index, behind: index + 2 });
        }
        Ok(Message { producer, key: Some(Cow::Borrowed(word(index + 2)?)), option_at: index, behind: index + 3 })
    }

    /// The key of a message without one is a digest of its fields and values, the same on every server.
    pub fn complete(&mut self, pairs: Args<'_>) {
        self.key.get_or_insert_with(|| {
            let mut digest = Sha1::new();
            for word in pairs.iter() {
                digest.update((word.len() as u64).to_le_bytes());
                digest.update(word);
            }
            Cow::Owned(digest.finalize().to_vec())
        });
    }

    fn key(&self) -> &[u8] {
        self.key.as_deref().unwrap_or_default()
    }

    /// Whether the stream, and so its replicas, must be told a key that the request does not name.
    pub fn is_automatic(&self) -> bool {
        matches!(self.key, Some(Cow::Owned(_)))
    }

    /// The entry that the message has become already.
    pub fn sent_before(&self, keys: &mut Keys<'_>, key: &[u8]) -> CommandResult<Option<StreamId>> {
        let now_ms = keys.now_ms;
        let Some(stream) = keys.write_stream(key)?.filter(|stream| stream.producers().is_some()) else {
            return Ok(None);
        };
        let producers = stream.producers_mut();
        let found = producers.find(self.producer, self.key(), now_ms);
        producers.duplicates += u64::from(found.is_some());
        Ok(found)
    }

    pub fn record(&self, stream: &mut Stream, id: StreamId, now_ms: i64) {
        let producers = stream.producers_mut();
        producers.record(self.producer, self.key(), id, now_ms, now_ms);
        producers.added += 1;
    }

    /// The request with the key that was found for the message; `threshold` and `id` as they have become.
    pub fn propagate(
        &self,
        keys: &mut Keys<'_>,
        args: Args<'_>,
        threshold: Option<(usize, &[u8])>,
        id: (usize, &[u8]),
    ) {
        let mut words: Vec<&[u8]> = Vec::with_capacity(args.len() + 1);
        for (index, word) in args.iter().enumerate() {
            words.push(match threshold {
                _ if index == self.option_at => b"IDMP",
                _ if index == id.0 => id.1,
                Some((at, threshold)) if index == at => threshold,
                Some((at, _)) if index + 1 == at => b"=",
                Some(_) | None => word,
            });
            if index == self.option_at + 1 {
                words.push(self.key());
            }
        }
        keys.propagate_as(&words);
    }
}

fn xcfgset(ctx: &mut KeyContext<'_>, args: Args<'_>) -> Result<KeyFlow, CommandError> {
    let (mut duration_s, mut keys_max) = (None, None);
    let mut index = 2;
    while index < args.len() {
        let value = args.get(index + 1).ok_or(error::SYNTAX)?;
        if args.is(index, "IDMP-DURATION") {
            let invalid = CommandError::fixed("ERR invalid duration");
            duration_s = Some(args::integer_in(value, 1..=DURATION_MAX_S, invalid)? as u64);
        } else if args.is(index, "IDMP-MAXSIZE") {
            let invalid = CommandError::fixed("ERR invalid maxsize");
            keys_max = Some(args::integer_in(value, 1..=KEYS_MAX, invalid)? as usize);
        } else {
            return Err(error::SYNTAX);
        }
        index += 2;
    }
    if duration_s.is_none() && keys_max.is_none() {
        return Err(error::SYNTAX);
    }
    let stream = ctx.keys.write_stream(&args[1])?.ok_or(error::NO_SUCH_KEY)?;
    let producers = stream.producers_mut();
    producers.configure(duration_s.unwrap_or(producers.duration_s), keys_max.unwrap_or(producers.keys_max));
    ctx.keys.effects.dirty += 1;
    ctx.reply.ok();
    Ok(KeyFlow::Done)
}

fn xidmprecord(ctx: &mut KeyContext<'_>, args: Args<'_>) -> Result<KeyFlow, CommandError> {
    let (producer, key) = (&args[2], &args[3]);
    if producer.is_empty() || key.is_empty() {
        return Err(CommandError::fixed("ERR producer and message ids must not be empty"));
    }
    let id = stream_id::strict(&args[4], 0)?;
    let now_ms = ctx.keys.now_ms;
    let stream = ctx.keys.write_stream(&args[1])?.ok_or(error::NO_SUCH_KEY)?;
    if !stream.contains(id) {
        return Err(CommandError::fixed("ERR no such entry in the stream"));
    }
    let producers = stream.producers_mut();
    match producers.find(producer, key, now_ms) {
        Some(known) if known != id => return Err(CommandError::fixed("ERR the message has become another entry")),
        Some(_) => {}
        None => {
            let at_ms = i64::try_from(id.ms).unwrap_or(i64::MAX).min(now_ms);
            producers.record(producer, key, id, at_ms, now_ms);
            producers.added += 1;
            ctx.keys.effects.dirty += 1;
        }
    }
    ctx.reply.ok();
    Ok(KeyFlow::Done)
}
