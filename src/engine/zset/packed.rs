//! The small form: member, score, member, score… in one listpack, in order. A score is an integer entry where it is one, else text.

use std::io::Write;
use std::ops::Range;

use super::{Element, Listpack};
use crate::engine::listpack::Pos;

pub(super) fn len(pack: &Listpack) -> usize {
    pack.len() / 2
}

/// Where a member stands.
pub(super) fn find(pack: &Listpack, member: &[u8]) -> Option<Pos> {
    pack.find(member, None, 1)
}

/// The score of the member at `pos`.
pub(super) fn score_of(pack: &Listpack, pos: Pos) -> f64 {
    pack.next(pos).and_then(|score| read_score(pack.get(score))).expect("a score follows each member")
}

/// The number that an entry holds, unless it is none.
fn read_score(element: Element<'_>) -> Option<f64> {
    match element {
        Element::Int(value) => Some(value as f64),
        Element::Bytes(text) => std::str::from_utf8(text).ok()?.parse().ok().filter(|score: &f64| !score.is_nan()),
    }
}

pub(super) fn rank(pack: &Listpack, member: &[u8]) -> Option<(usize, f64)> {
    iter(pack).enumerate().find(|(_, (m, _))| m.eq_bytes(member)).map(|(rank, (_, score))| (rank, score))
}

/// Whether (member, score) comes after the other pair.
fn comes_after(member: Element<'_>, score: f64, other: &[u8], other_score: f64) -> bool {
    score > other_score || (score == other_score && member.with_bytes(|m| m > other))
}

/// Inserts a member that is absent at its place.
pub(super) fn insert(pack: &mut Listpack, member: &[u8], score: f64) {
    let mut pos = pack.first();
    while let Some(here) = pos {
        if comes_after(pack.get(here), score_of(pack, here), member, score) {
            let pos = pack.insert_before(here, member);
            with_score_text(score, |text| pack.insert_after(pos, text));
            return;
        }
        pos = pack.next(here).and_then(|score| pack.next(score));
    }
    push(pack, member, score);
}

/// Appends a pair that comes last.
pub(super) fn push(pack: &mut Listpack, member: &[u8], score: f64) {
    pack.push_back(member);
    with_score_text(score, |text| pack.push_back(text));
}

/// Removes a member and its score.
pub(super) fn remove(pack: &mut Listpack, pos: Pos) {
    if let Some(score) = pack.remove(pos) {
        pack.remove(score);
    }
}

/// The shortest text that reads back as the score; an integer without exponent, so that the listpack makes it an integer.
fn with_score_text<R>(score: f64, f: impl FnOnce(&[u8]) -> R) -> R {
    let mut text = [0u8; 40];
    let mut rest = &mut text[..];
    let integer = score as i64;
    // This makes 0 of -0, as Redis does in this form (and only in it).
    let written = if integer as f64 == score {
        write!(rest, "{integer}")
    } else {
        // The debug form uses exponents, where the plain one writes 1e300 in full.
        write!(rest, "{score:?}")
    };
    written.expect("a score's text is at most 25 bytes");
    let left = rest.len();
    f(&text[..40 - left])
}

/// Length of the longest member; `None` unless the entries are pairs of a member and a number, each member once.
pub(super) fn validate(pack: &Listpack) -> Option<usize> {
    let mut members = Vec::with_capacity(len(pack));
    let mut elements = pack.iter();
    while let Some(member) = elements.next() {
        read_score(elements.next()?)?;
        members.push(member.to_vec());
    }
    members.sort_unstable();
    let unique = members.windows(2).all(|pair| pair[0] != pair[1]);
    unique.then(|| members.iter().map(Vec::len).max().unwrap_or(0))
}

pub(super) fn is_sorted(pack: &Listpack) -> bool {
    let mut pairs = iter(pack).peekable();
    while let Some((member, score)) = pairs.next() {
        if let Some((next, next_score)) = pairs.peek()
            && !member.with_bytes(|member| comes_after(*next, *next_score, member, score))
        {
            return false;
        }
    }
    true
}

pub(super) fn iter(pack: &Listpack) -> Pairs<'_> {
    range(pack, 0..usize::MAX)
}

pub(super) fn range(pack: &Listpack, ranks: Range<usize>) -> Pairs<'_> {
    let pos = seek(pack, ranks.start);
    Pairs { pack, pos, left: ranks.len(), reverse: false }
}

pub(super) fn range_rev(pack: &Listpack, ranks: Range<usize>) -> Pairs<'_> {
    let end = ranks.end.min(len(pack));
    let pos = end.checked_sub(1).and_then(|rank| seek(pack, rank));
    Pairs { pack, pos, left: end.saturating_sub(ranks.start), reverse: true }
}

fn seek(pack: &Listpack, rank: usize) -> Option<Pos> {
    pack.seek(i64::try_from(rank).ok()?.checked_mul(2)?)
}

/// Pairs in order, or in reverse.
pub struct Pairs<'a> {
    pack: &'a Listpack,
    /// The next member.
    pos: Option<Pos>,
    left: usize,
    reverse: bool,
}

impl<'a> Iterator for Pairs<'a> {
    type Item = (Element<'a>, f64);

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        let pos = self.pos.filter(|_| self.left > 0)?;
        self.left -= 1;
        let score = self.pack.next(pos)?;
        let pair = (self.pack.get(pos), read_score(self.pack.get(score))?);
        self.pos = if self.reverse {
            self.pack.prev(pos).and_then(|score| self.pack.prev(score))
        } else {
            self.pack.next(score)
        };
        Some(pair)
    }
}
