//! LCS: the longest common subsequence of two strings, by dynamic programming.

use super::args;
use super::context::{KeyContext, KeyFlow};
use super::error::{self, CommandError, CommandResult};
use super::keyspec::KeySpec;
use super::spec::{Group, KeyCommand};
use super::string::with_text;
use crate::resp::{Args, Reply};
use std::ops::RangeInclusive;

pub const COMMANDS: &[KeyCommand] = &[KeyCommand::new("lcs", -3, lcs)
    .since("7.0.0")
    .group(Group::String)
    .readonly()
    .keys(&[KeySpec::range(1, 1, 1).ro().access()])
    .syntax("key1 key2 [LEN] [IDX] [MINMATCHLEN min-match-len] [WITHMATCHLEN]")
    .summary("Finds the longest common subsequence of two strings.")
    .complexity("O(N*M) where N and M are the lengths of the strings")];

#[derive(Default)]
struct Options {
    len: bool,
    idx: bool,
    min_match_len: i64,
    with_match_len: bool,
}

/// Lengths of the longest common subsequences of all pairs of prefixes, row by row.
struct Lengths {
    cells: Vec<u32>,
    width: usize,
}

impl Lengths {
    fn new(a: &[u8], b: &[u8]) -> Self {
        let width = b.len() + 1;
        let mut cells = vec![0; (a.len() + 1) * width];
        for (row, x) in a.iter().enumerate() {
            let (above, below) = cells[row * width..].split_at_mut(width);
            for (column, y) in b.iter().enumerate() {
                below[column + 1] = if x == y { above[column] + 1 } else { above[column + 1].max(below[column]) };
            }
        }
        Lengths { cells, width }
    }

    fn at(&self, row: usize, column: usize) -> u32 {
        self.cells[row * self.width + column]
    }

    /// Walks back from the ends; `matched` is given the positions of each common byte, last one first.
    fn walk_back(&self, a: &[u8], b: &[u8], mut matched: impl FnMut(usize, usize)) {
        let (mut row, mut column) = (a.len(), b.len());
        while row > 0 && column > 0 {
            if a[row - 1] == b[column - 1] {
                row -= 1;
                column -= 1;
                matched(row, column);
            } else if self.at(row - 1, column) > self.at(row, column - 1) {
                row -= 1;
            } else {
                column -= 1;
            }
        }
    }

    /// The common stretches, last one first.
    fn ranges(&self, a: &[u8], b: &[u8]) -> Vec<(RangeInclusive<usize>, RangeInclusive<usize>)> {
        let mut ranges: Vec<(RangeInclusive<usize>, RangeInclusive<usize>)> = Vec::new();
        self.walk_back(a, b, |row, column| match ranges.last_mut() {
            Some((left, right)) if *left.start() == row + 1 && *right.start() == column + 1 => {
                *left = row..=*left.end();
                *right = column..=*right.end();
            }
            _ => ranges.push((row..=row, column..=column)),
        });
        ranges
    }
}

fn lcs(ctx: &mut KeyContext<'_>, args: Args<'_>) -> Result<KeyFlow, CommandError> {
    let a = text_at(ctx, &args[1]);
    let b = text_at(ctx, &args[2]);
    let (a, b) = (a?, b?);
    let options = parse(args)?;
    let cells = (a.len() as u64 + 1) * (b.len() as u64 + 1);
    if cells * 4 > ctx.keys.settings.bulk_len_max as u64 {
        return Err(CommandError::fixed(
            "ERR Insufficient memory, transient memory for LCS exceeds proto-max-bulk-len",
        ));
    }
    let lengths = Lengths::new(&a, &b);
    if options.idx {
        reply_ranges(ctx.reply, &options, &lengths, &a, &b);
    } else if options.len {
        ctx.reply.integer(i64::from(lengths.at(a.len(), b.len())));
    } else {
        let mut common = Vec::with_capacity(lengths.at(a.len(), b.len()) as usize);
        lengths.walk_back(&a, &b, |row, _| common.push(a[row]));
        common.reverse();
        ctx.reply.bulk(&common);
    }
    Ok(KeyFlow::Done)
}

/// Both strings are needed at once, so each is copied; a missing one is empty.
fn text_at(ctx: &mut KeyContext<'_>, key: &[u8]) -> CommandResult<Vec<u8>> {
    match ctx.keys.read(key) {
        None => Ok(Vec::new()),
        Some(record) => record
            .string_ref()
            .map(|value| with_text(value, <[u8]>::to_vec))
            .ok_or(CommandError::fixed("ERR The specified keys must contain string values")),
    }
}

fn parse(args: Args<'_>) -> CommandResult<Options> {
    let mut options = Options::default();
    let mut index = 3;
    while index < args.len() {
        if args.is(index, "IDX") {
            options.idx = true;
        } else if args.is(index, "LEN") {
            options.len = true;
        } else if args.is(index, "WITHMATCHLEN") {
            options.with_match_len = true;
        } else if args.is(index, "MINMATCHLEN") && index + 1 < args.len() {
            index += 1;
            options.min_match_len = args::integer(&args[index])?;
        } else {
            return Err(error::SYNTAX);
        }
        index += 1;
    }
    if options.len && options.idx {
        return Err(CommandError::fixed("ERR If you want both the length and indexes, please just use IDX."));
    }
    Ok(options)
}

fn reply_ranges(reply: &mut Reply, options: &Options, lengths: &Lengths, a: &[u8], b: &[u8]) {
    let mut ranges = lengths.ranges(a, b);
    ranges.retain(|(left, _)| (left.end() - left.start() + 1) as i64 >= options.min_match_len);
    reply.map(2);
    reply.bulk(b"matches");
    reply.array(ranges.len());
    for (left, right) in &ranges {
        reply.array(2 + usize::from(options.with_match_len));
        for range in [left, right] {
            reply.array(2);
            reply.count(*range.start());
            reply.count(*range.end());
        }
        if options.with_match_len {
            reply.count(left.end() - left.start() + 1);
        }
    }
    reply.bulk(b"len");
    reply.integer(i64::from(lengths.at(a.len(), b.len())));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documented_example() {
        let (a, b) = (b"ohmytext", b"mynewtext");
        let lengths = Lengths::new(a, b);
        assert_eq!(lengths.at(a.len(), b.len()), 6);
        assert_eq!(lengths.ranges(a, b), [(4..=7, 5..=8), (2..=3, 0..=1)]);
    }
}
