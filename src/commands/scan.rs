//! What SCAN, SSCAN, HSCAN and ZSCAN have in common: the cursor and the options.

use super::args;
use super::error::{self, CommandResult};
use crate::base::glob;
use crate::base::number::parse_i64;
use crate::engine::value::Kind;
use crate::resp::Args;

/// Options behind the cursor.
#[derive(Clone, Copy, Debug)]
pub struct ScanOptions<'a> {
    /// Elements to look at, roughly.
    pub count: usize,
    pattern: Option<&'a [u8]>,
    kind: Option<&'a [u8]>,
}

/// Which options a command knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScanTarget {
    /// SCAN: TYPE as well.
    Keys,
    Members,
}

impl<'a> ScanOptions<'a> {
    /// Reads the options from argument `first` on.
    pub fn parse(args: Args<'a>, first: usize, target: ScanTarget) -> CommandResult<Self> {
        let mut options = ScanOptions { count: 10, pattern: None, kind: None };
        let mut index = first;
        while index < args.len() {
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

    /// Whether a key fits TYPE. A name that is no type fits nothing.
    pub fn matches_kind(&self, kind: Kind) -> bool {
        self.kind.is_none_or(|wanted| wanted.eq_ignore_ascii_case(kind.name().as_bytes()))
    }
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
        ] {
            let owned = OwnedArgs::new(line.split(' ').map(str::as_bytes));
            let read = ScanOptions::parse(owned.as_args(), 2, target)
                .map(|options| (options.count, options.matches(b"abc"), options.matches_kind(Kind::ZSet)));
            assert_eq!(read, expected, "{line}");
        }
    }
}
