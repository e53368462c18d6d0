//! What SCAN, SSCAN, HSCAN and ZSCAN have in common: the cursor and the options.

use super::args;
use super::error::{self, CommandError, CommandResult};
use crate::base::glob;
use crate::base::number::parse_i64;
use crate::engine::value::Kind;
use crate::resp::{Args, Reply};

/// Options behind the cursor.
#[derive(Clone, Copy, Debug)]
pub struct ScanOptions<'a> {
    /// Elements to look at, roughly.
    pub count: usize,
    pattern: Option<&'a [u8]>,
    kind: Option<&'a [u8]>,
    /// HSCAN: names only.
    pub no_values: bool,
}

/// Which options a command knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScanTarget {
    /// SCAN: TYPE as well.
    Keys,
    Members,
    /// HSCAN: NOVALUES as well.
    Fields,
}

/// Buckets looked at per element wanted, so that a sparse table does not keep the others waiting.
const BUCKETS_PER_ELEMENT: usize = 10;
const ONLY_HSCAN: CommandError = CommandError::fixed("ERR NOVALUES option can only be used in HSCAN");

impl<'a> ScanOptions<'a> {
    /// Reads the options from argument `first` on.
    pub fn parse(args: Args<'a>, first: usize, target: ScanTarget) -> CommandResult<Self> {
        let mut options = ScanOptions { count: 10, pattern: None, kind: None, no_values: false };
        let mut index = first;
        while index < args.len() {
            if args.is(index, "NOVALUES") {
                if target != ScanTarget::Fields {
                    return Err(ONLY_HSCAN);
                }
                options.no_values = true;
                index += 1;
                continue;
            }
            let value = args.get(index + 1).ok_or(error::SYNTAX)?;
            if args.is(index, "COUNT") {
                options.count = usize::try_from(args::integer(value)?).ok().filter(|n| *n > 0).ok_or(error::SYNTAX)?;
            } else if args.is(index, "MATCH") {
                options.pattern = Some(value).filter(|pattern| *pattern != b"*");
            } else if args.is(index, "TYPE") && target == ScanTarget::Keys {
                options.kind = Some(value);
            } else {
                return Err(error::SYNTAX);
            }
            index += 2;
        }
        Ok(options)
    }

    /// Whether a key or member fits MATCH.
    pub fn matches(&self, name: &[u8]) -> bool {
        self.pattern.is_none_or(|pattern| glob::matches(pattern, name))
    }

    /// Calls `step`, which visits a bucket and returns the next cursor and the number of elements seen, until COUNT is reached
    /// or the walk is over; the cursor to go on with.
    pub fn walk(&self, mut cursor: u64, mut step: impl FnMut(u64) -> (u64, usize)) -> u64 {
        let (mut seen, mut buckets) = (0, self.count.saturating_mul(BUCKETS_PER_ELEMENT));
        loop {
            let (next, elements) = step(cursor);
            cursor = next;
            seen += elements;
            buckets -= 1;
            if cursor == 0 || buckets == 0 || seen >= self.count {
                return cursor;
            }
        }
    }

    /// Whether a key fits TYPE. A name that is no type fits nothing.
    pub fn matches_kind(&self, kind: Kind) -> bool {
        self.kind.is_none_or(|wanted| wanted.eq_ignore_ascii_case(kind.name().as_bytes()))
    }
}

/// A page of SSCAN, HSCAN or ZSCAN: the cursor to go on with and `items` bulk strings that are written already.
pub fn reply_page(reply: &mut Reply, cursor: u64, items: usize, page: &Reply) {
    reply.array(2);
    reply.bulk(cursor.to_string().as_bytes());
    reply.array(items);
    reply.raw(page.as_bytes());
}

/// The page of a key that is not there.
pub fn reply_empty_page(reply: &mut Reply) {
    reply.array(2);
    reply.bulk(b"0");
    reply.array(0);
}

/// A cursor as C's `strtoul` reads it: the whole range of 64 bits, and a minus wraps around.
pub fn parse_cursor(text: &[u8]) -> CommandResult<u64> {
    let (is_negative, digits) = match text {
        [b'-', digits @ ..] => (true, digits),
        [b'+', digits @ ..] => (false, digits),
        digits => (false, digits),
    };
    if text.is_empty() {
        return Ok(0);
    }
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return Err(error::INVALID_CURSOR);
    }
    let short = parse_i64(digits).and_then(|value| u64::try_from(value).ok());
    let value = match short {
        Some(value) => value,
        None => std::str::from_utf8(digits).ok().and_then(|digits| digits.parse().ok()).ok_or(error::INVALID_CURSOR)?,
    };
    Ok(if is_negative { value.wrapping_neg() } else { value })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resp::OwnedArgs;

    #[test]
    fn cursors_take_the_whole_range() {
        for (text, cursor) in [
            ("0", Some(0)),
            ("", Some(0)),
            ("007", Some(7)),
            ("18446744073709551615", Some(u64::MAX)),
            ("-1", Some(u64::MAX)),
            ("+5", Some(5)),
            ("18446744073709551616", None),
            (" 1", None),
            ("1x", None),
            ("-", None),
        ] {
            assert_eq!(parse_cursor(text.as_bytes()).ok(), cursor, "{text}");
        }
    }

    #[test]
    fn options_and_their_errors() {
        for (line, target, expected) in [
            ("SCAN 0 COUNT 5 MATCH a* TYPE ZSET", ScanTarget::Keys, Ok((5, true, true))),
            ("SCAN 0 MATCH b", ScanTarget::Keys, Ok((10, false, true))),
            ("SCAN 0 TYPE nonsense", ScanTarget::Keys, Ok((10, true, false))),
            ("SCAN 0 COUNT 0", ScanTarget::Keys, Err(error::SYNTAX)),
            ("SCAN 0 COUNT x", ScanTarget::Keys, Err(error::NOT_AN_INTEGER)),
            ("SCAN 0 COUNT", ScanTarget::Keys, Err(error::SYNTAX)),
            ("SSCAN 0 TYPE set", ScanTarget::Members, Err(error::SYNTAX)),
            ("SSCAN 0 NOVALUES", ScanTarget::Members, Err(ONLY_HSCAN)),
            ("HSCAN 0 NOVALUES COUNT 3", ScanTarget::Fields, Ok((3, true, true))),
        ] {
            let owned = OwnedArgs::new(line.split(' ').map(str::as_bytes));
            let read = ScanOptions::parse(owned.as_args(), 2, target)
                .map(|options| (options.count, options.matches(b"abc"), options.matches_kind(Kind::ZSet)));
            assert_eq!(read, expected, "{line}");
        }
    }

    #[test]
    fn walks_until_enough_was_seen() {
        let parse = |line: &str| {
            let args = OwnedArgs::new(line.split(' ').map(str::as_bytes));
            ScanOptions::parse(args.as_args(), 0, ScanTarget::Members).map(|options| options.count)
        };
        let options = |count| ScanOptions { count, pattern: None, kind: None, no_values: false };
        assert_eq!(options(3).walk(1, |cursor| (cursor + 1, 1)), 4);
        assert_eq!(options(3).walk(1, |_| (0, 1)), 0);
        assert_eq!(options(3).walk(0, |cursor| (cursor + 1, 0)), 30);
        let widest = parse("COUNT 9223372036854775807").expect("well formed");
        assert_eq!(options(widest).walk(9, |cursor| (cursor - 1, 1)), 0);
    }
}
