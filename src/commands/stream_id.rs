//! Ids of stream entries as clients write them.
//!
//! ```text
//!   id      ms | ms-seq          sequence numbers that are left out are 0, or the greatest at the end of a range
//!   XADD    * | ms-*             the whole id, or its sequence number, is chosen here
//!   range   - | + | id | (id     the lowest, the highest, from and to an id, and without it
//! ```

use super::error::{CommandError, CommandResult};
use crate::base::number::{parse_i64, parse_u64};
use crate::engine::stream::StreamId;
use crate::resp::{Args, Reply};

pub const INVALID_ID: CommandError = CommandError::fixed("ERR Invalid stream ID specified as stream command argument");

/// Longest text that is looked at.
const TEXT_MAX: usize = 127;

/// The id of an entry to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NewId {
    /// `*`
    Auto,
    /// `ms-*`
    AutoSeq(u64),
    Given(StreamId),
}

impl NewId {
    pub fn parse(text: &[u8]) -> CommandResult<Self> {
        if text == b"*" {
            return Ok(NewId::Auto);
        }
        if let Some(ms) = c_string(text)?.strip_suffix(b"-*")
            && !ms.contains(&b'-')
        {
            return Ok(NewId::AutoSeq(number(ms)?));
        }
        strict(text, 0).map(NewId::Given)
    }

    /// The id itself, given the last one of the stream; nothing if there is none above that.
    pub fn resolve(self, last: StreamId, now_ms: i64) -> Option<StreamId> {
        match self {
            NewId::Given(id) => Some(id),
            NewId::AutoSeq(ms) if ms == last.ms => last.seq.checked_add(1).map(|seq| StreamId::new(ms, seq)),
            NewId::AutoSeq(ms) => Some(StreamId::new(ms, 0)),
            NewId::Auto if now_ms as u64 > last.ms => Some(StreamId::new(now_ms as u64, 0)),
            NewId::Auto => last.next(),
        }
    }
}

/// An id, neither `-` nor `+`.
pub fn strict(text: &[u8], missing_seq: u64) -> CommandResult<StreamId> {
    if matches!(text, b"-" | b"+") {
        return Err(INVALID_ID);
    }
    let text = c_string(text)?;
    let (ms, seq) = match text.iter().position(|byte| *byte == b'-') {
        Some(dash) => (&text[..dash], number(&text[dash + 1..])?),
        None => (text, missing_seq),
    };
    Ok(StreamId::new(number(ms)?, seq))
}

/// An id, or one of the ends.
pub fn any(text: &[u8], missing_seq: u64) -> CommandResult<StreamId> {
    match text {
        b"-" => Ok(StreamId::MIN),
        b"+" => Ok(StreamId::MAX),
        _ => strict(text, missing_seq),
    }
}

/// The lower end of a range.
pub fn start(text: &[u8]) -> CommandResult<StreamId> {
    match open_end(text) {
        Some(text) => strict(text, 0)?.next().ok_or(CommandError::fixed("ERR invalid start ID for the interval")),
        None => any(text, 0),
    }
}

/// The upper end of a range.
pub fn end(text: &[u8]) -> CommandResult<StreamId> {
    match open_end(text) {
        Some(text) => strict(text, u64::MAX)?.prev().ok_or(CommandError::fixed("ERR invalid end ID for the interval")),
        None => any(text, u64::MAX),
    }
}

fn open_end(text: &[u8]) -> Option<&[u8]> {
    text.strip_prefix(b"(").filter(|rest| !rest.is_empty())
}

/// All arguments from an index on, which are ids.
pub fn list(args: Args<'_>, first: usize) -> CommandResult<Vec<StreamId>> {
    args.iter().skip(first).map(|text| strict(text, 0)).collect()
}

pub fn reply_id(reply: &mut Reply, id: StreamId) {
    reply.bulk(&id.text());
}

/// Redis reads ids with C's functions: a zero byte ends the text.
fn c_string(text: &[u8]) -> CommandResult<&[u8]> {
    if text.len() > TEXT_MAX {
        return Err(INVALID_ID);
    }
    Ok(text.split(|byte| *byte == 0).next().unwrap_or_default())
}

/// A number as `strtoull` reads it, but for negative ones in canonical form.
fn number(text: &[u8]) -> CommandResult<u64> {
    if let Some(value) = parse_i64(text) {
        return u64::try_from(value).map_err(|_| INVALID_ID);
    }
    let text = text.trim_ascii_start();
    let (is_negative, digits) = match text {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        _ => (false, text),
    };
    if !digits.first().is_some_and(u8::is_ascii_digit) {
        return Err(INVALID_ID);
    }
    let zeros = digits.iter().take_while(|digit| **digit == b'0').count().min(digits.len() - 1);
    let value = parse_u64(&digits[zeros..]).ok_or(INVALID_ID)?;
    Ok(if is_negative { value.wrapping_neg() } else { value })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_read_as_c_reads_them() {
        for (text, id) in [
            ("5", Some((5, 7))),
            ("5-3", Some((5, 3))),
            ("0-0", Some((0, 0))),
            ("05-03", Some((5, 3))),
            (" 5-+3", Some((5, 3))),
            ("18446744073709551615-18446744073709551615", Some((u64::MAX, u64::MAX))),
            ("5-3\0rest", Some((5, 3))),
            ("1--0", Some((1, 0))),
            ("18446744073709551616", None),
            ("1--5", None),
            ("", None),
            ("-", None),
            ("+", None),
            ("5-", None),
            ("-5", None),
            ("5-3-1", None),
            ("5-*", None),
            ("x", None),
            ("1.5", None),
        ] {
            let expected = id.map(|(ms, seq)| StreamId::new(ms, seq)).ok_or(INVALID_ID);
            assert_eq!(strict(text.as_bytes(), 7), expected, "{text}");
        }
        assert_eq!(start(b"(1-1"), Ok(StreamId::new(1, 2)));
        assert_eq!(end(b"(2"), Ok(StreamId::new(2, u64::MAX - 1)));
        assert_eq!((start(b"-"), end(b"+")), (Ok(StreamId::MIN), Ok(StreamId::MAX)));
        assert!(start(b"(-").is_err() && start(b"(").is_err() && end(b"(0-0").is_err());
    }

    #[test]
    fn new_ids_go_upwards() {
        let last = StreamId::new(10, u64::MAX);
        assert_eq!(NewId::parse(b"*").map(|id| id.resolve(last, 5)), Ok(Some(StreamId::new(11, 0))));
        assert_eq!(NewId::parse(b"*").map(|id| id.resolve(last, 12)), Ok(Some(StreamId::new(12, 0))));
        assert_eq!(NewId::parse(b"10-*").map(|id| id.resolve(last, 5)), Ok(None));
        assert_eq!(NewId::parse(b"11-*").map(|id| id.resolve(last, 5)), Ok(Some(StreamId::new(11, 0))));
        assert_eq!(NewId::parse(b"7-7"), Ok(NewId::Given(StreamId::new(7, 7))));
        assert!(NewId::parse(b"7-8-*").is_err() && NewId::parse(b"+").is_err());
    }
}
