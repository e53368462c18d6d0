//! What SSCAN, HSCAN and ZSCAN have in common: cursor, options, and walking until enough was seen.

use super::args;
use super::error::{self, CommandError, CommandResult};
use crate::base::glob;
use crate::base::number::parse_u64;
use crate::resp::{Args, Reply};

/// The options behind the cursor.
pub struct ScanOptions<'a> {
    pattern: Option<&'a [u8]>,
    count: usize,
    /// HSCAN: names only.
    pub no_values: bool,
}

/// The type of collection, for its own options.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scanned {
    Hash,
    Other,
}

const ONLY_HSCAN: CommandError = CommandError::fixed("ERR NOVALUES option can only be used in HSCAN");
/// Buckets looked at per element wanted, so that a sparse table does not keep the others waiting.
const BUCKETS_PER_ELEMENT: usize = 10;

pub fn parse_cursor(text: &[u8]) -> CommandResult<u64> {
    parse_u64(text).ok_or(error::INVALID_CURSOR)
}

impl<'a> ScanOptions<'a> {
    /// Reads the options from an argument on.
    pub fn parse(args: Args<'a>, mut index: usize, scanned: Scanned) -> CommandResult<Self> {
        let mut options = ScanOptions { pattern: None, count: 10, no_values: false };
        while index < args.len() {
            if args.is(index, "COUNT") && index + 1 < args.len() {
                let count = args::integer(&args[index + 1])?;
                options.count = usize::try_from(count).ok().filter(|count| *count > 0).ok_or(error::SYNTAX)?;
                index += 2;
            } else if args.is(index, "MATCH") && index + 1 < args.len() {
                options.pattern = args.get(index + 1).filter(|pattern| *pattern != b"*");
                index += 2;
            } else if args.is(index, "NOVALUES") {
                if scanned != Scanned::Hash {
                    return Err(ONLY_HSCAN);
                }
                options.no_values = true;
                index += 1;
            } else {
                return Err(error::SYNTAX);
            }
        }
        Ok(options)
    }

    #[inline]
    pub fn matches(&self, text: &[u8]) -> bool {
        self.pattern.is_none_or(|pattern| glob::matches(pattern, text))
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
}

/// A finished page: the cursor, then what `write` replies; it returns the number of elements.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resp::OwnedArgs;

    #[test]
    fn walks_until_enough_was_seen() {
        let args = OwnedArgs::new([b"COUNT".as_slice(), b"3", b"match", b"a*"]);
        let options = ScanOptions::parse(args.as_args(), 0, Scanned::Other).expect("well formed");
        assert!(options.matches(b"ab") && !options.matches(b"b"));
        assert_eq!(options.walk(1, |cursor| (cursor + 1, 1)), 4);
        assert_eq!(options.walk(1, |_| (0, 1)), 0);
        assert_eq!(options.walk(0, |cursor| (cursor + 1, 0)), 30);
        let wide = OwnedArgs::new([b"COUNT".as_slice(), b"9223372036854775807"]);
        let options = ScanOptions::parse(wide.as_args(), 0, Scanned::Other).expect("well formed");
        assert_eq!(options.walk(9, |cursor| (cursor - 1, 1)), 0);
        for bad in [["COUNT", "0"], ["COUNT", "-1"], ["MATCH", "x COUNT"], ["NOVALUES", "x"]] {
            let line = bad.join(" ");
            let args = OwnedArgs::new(line.split(' ').map(str::as_bytes));
            assert!(ScanOptions::parse(args.as_args(), 0, Scanned::Other).is_err(), "{line}");
        }
    }
}
