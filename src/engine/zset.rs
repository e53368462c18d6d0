//! The sorted set: a listpack of (member, score) pairs in order while small, then a B+ tree beside a member table.
//!
//! Every question about a range (by rank, score or member) is first turned into a range of ranks; walking, counting and removing
//! then take ranks only.

mod big;
mod entry;
mod packed;
mod range;

use std::ops::Range;

use super::limits::Limits;
use super::listpack::{Element, Listpack};
use super::tagged::{Boxed, Tagged, View, ViewMut};
use super::value::Ahead;
use big::BigZSet;
pub use range::{LexBound, LexRange, ScoreBound, ScoreRange};

/// The value of a sorted set key; one word.
#[repr(transparent)]
pub struct ZSet(Tagged<Listpack, Boxed<BigZSet, 1>>);

/// What became of a member.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Change {
    Added,
    /// It had the other score before.
    Updated(f64),
    /// It has that score already.
    Same,
    /// The decision was to leave it as it is.
    Declined,
}

/// Reading.
impl ZSet {
    pub fn new() -> Self {
        Self::packed(Listpack::new())
    }

    /// Big from the start if `members` of up to `longest` bytes will come.
    pub fn with_capacity(members: usize, longest: usize, limits: &Limits) -> Self {
        if members <= limits.zset_max_listpack_entries && longest <= limits.zset_max_listpack_value {
            Self::new()
        } else {
            Self::big(BigZSet::with_capacity(members))
        }
    }

    fn packed(pack: Listpack) -> Self {
        ZSet(Tagged::first(pack))
    }

    fn big(big: BigZSet) -> Self {
        ZSet(Tagged::second(Boxed::new(big)))
    }

    pub fn len(&self) -> usize {
        match self.0.view() {
            View::First(pack) => packed::len(pack),
            View::Second(big) => big.len(),
            View::Third(never) => match *never {},
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Buckets by number of members, if there is a table; for DEBUG HTSTATS-KEY.
    pub fn chain_lengths(&self) -> Option<Vec<usize>> {
        match self.0.view() {
            View::First(_) => None,
            View::Second(big) => Some(big.chain_lengths()),
            View::Third(never) => match *never {},
        }
    }

    pub fn encoding(&self) -> &'static str {
        match self.0.view() {
            View::First(_) => "listpack",
            View::Second(_) => "skiplist",
            View::Third(never) => match *never {},
        }
    }

    /// Bytes taken from the allocator, without the word itself.
    pub fn memory(&self) -> usize {
        match self.0.view() {
            View::First(pack) => pack.memory(),
            View::Second(big) => size_of::<BigZSet>() + big.memory(),
            View::Third(never) => match *never {},
        }
    }

    /// The blob of a small set, as RDB stores it.
    pub fn as_pack(&self) -> Option<&Listpack> {
        match self.0.view() {
            View::First(pack) => Some(pack),
            View::Second(_) => None,
            View::Third(never) => match *never {},
        }
    }

    /// See `ValueRef::prefetch_member`.
    #[inline]
    pub fn prefetch(&self, hash: u64, step: Ahead) {
        if let View::Second(big) = self.0.view() {
            big.prefetch(hash, step);
        }
    }

    pub fn score(&self, member: &[u8]) -> Option<f64> {
        match self.0.view() {
            View::First(pack) => packed::find(pack, member).map(|pos| packed::score_of(pack, pos)),
            View::Second(big) => big.score(member),
            View::Third(never) => match *never {},
        }
    }

    /// Rank from the lowest score, and the score.
    pub fn rank(&self, member: &[u8]) -> Option<(usize, f64)> {
        match self.0.view() {
            View::First(pack) => packed::rank(pack, member),
            View::Second(big) => big.rank(member),
            View::Third(never) => match *never {},
        }
    }

    /// The ranks whose scores lie in the range.
    pub fn score_ranks(&self, range: &ScoreRange) -> Range<usize> {
        let start = self.partition_point(|score, _| !range.min.admits_from_below(score));
        let end = self.partition_point(|score, _| range.max.admits_from_above(score));
        start..end.max(start)
    }

    /// The ranks whose members lie in the range, given that all scores are equal.
    pub fn lex_ranks(&self, range: &LexRange) -> Range<usize> {
        let start = self.partition_point(|_, member| !member.with_bytes(|m| range.min.admits_from_below(m)));
        let end = self.partition_point(|_, member| member.with_bytes(|m| range.max.admits_from_above(m)));
        start..end.max(start)
    }

    fn partition_point(&self, before: impl Fn(f64, Element<'_>) -> bool) -> usize {
        match self.0.view() {
            View::First(pack) => packed::iter(pack).take_while(|(member, score)| before(*score, *member)).count(),
            View::Second(big) => big.partition_point(before),
            View::Third(never) => match *never {},
        }
    }

    /// The member at a rank.
    pub fn at(&self, rank: usize) -> Option<(Element<'_>, f64)> {
        self.range(rank..rank.saturating_add(1)).next()
    }

    /// Everything from the lowest score on.
    pub fn iter(&self) -> Iter<'_> {
        self.range(0..usize::MAX)
    }

    /// Members of these ranks, lowest first.
    pub fn range(&self, ranks: Range<usize>) -> Iter<'_> {
        match self.0.view() {
            View::First(pack) => Iter::Packed(packed::range(pack, ranks)),
            View::Second(big) => Iter::Big(big.range(ranks)),
            View::Third(never) => match *never {},
        }
    }

    /// Members of these ranks, highest first.
    pub fn range_rev(&self, ranks: Range<usize>) -> Iter<'_> {
        match self.0.view() {
            View::First(pack) => Iter::Packed(packed::range_rev(pack, ranks)),
            View::Second(big) => Iter::Big(big.range_rev(ranks)),
            View::Third(never) => match *never {},
        }
    }

    /// One step of ZSCAN: a small set is visited at once. Returns the next cursor, zero at the end.
    pub fn scan(&self, cursor: u64, mut visit: impl FnMut(Element<'_>, f64)) -> u64 {
        match self.0.view() {
            View::First(pack) => {
                packed::iter(pack).for_each(|(member, score)| visit(member, score));
                0
            }
            View::Second(big) => big.scan(cursor, visit),
            View::Third(never) => match *never {},
        }
    }
}

/// Changing.
impl ZSet {
    /// Sets the score of a member.
    pub fn insert(&mut self, member: &[u8], score: f64, limits: &Limits) -> Change {
        self.upsert(member, limits, |_| Some(score))
    }

    /// Adds or updates a member in one lookup: `decide` is given its score, if it is there, and may answer with a new one,
    /// which must not be NaN.
    pub fn upsert(
        &mut self,
        member: &[u8],
        limits: &Limits,
        decide: impl FnOnce(Option<f64>) -> Option<f64>,
    ) -> Change {
        match self.0.view_mut() {
            ViewMut::First(pack) => {
                let found = packed::find(pack, member);
                let old = found.map(|pos| packed::score_of(pack, pos));
                let (score, change) = match (old, decide(old)) {
                    (_, None) => return Change::Declined,
                    (Some(old), Some(new)) if old == new => return Change::Same,
                    (Some(old), Some(new)) => (new, Change::Updated(old)),
                    (None, Some(new)) => (new, Change::Added),
                };
                if let Some(pos) = found {
                    packed::remove(pack, pos);
                } else if packed::len(pack) >= limits.zset_max_listpack_entries
                    || member.len() > limits.zset_max_listpack_value
                {
                    self.unpack(1).insert_new(member, score);
                    return change;
                }
                packed::insert(pack, member, score);
                change
            }
            ViewMut::Second(big) => big.upsert(member, decide),
            ViewMut::Third(never) => match *never {},
        }
    }

    /// Removes a member; its score if it was there.
    pub fn remove(&mut self, member: &[u8]) -> Option<f64> {
        match self.0.view_mut() {
            ViewMut::First(pack) => {
                let pos = packed::find(pack, member)?;
                let score = packed::score_of(pack, pos);
                packed::remove(pack, pos);
                Some(score)
            }
            ViewMut::Second(big) => big.remove(member),
            ViewMut::Third(never) => match *never {},
        }
    }

    /// Removes these ranks, each member lent to `visit` before it goes; how many there were.
    pub fn remove_ranks(&mut self, ranks: Range<usize>, mut visit: impl FnMut(Element<'_>, f64)) -> usize {
        let ranks = ranks.start..ranks.end.min(self.len());
        if ranks.is_empty() {
            return 0;
        }
        match self.0.view_mut() {
            ViewMut::First(pack) => {
                packed::range(pack, ranks.clone()).for_each(|(member, score)| visit(member, score));
                pack.remove_range(2 * ranks.start as i64, 2 * ranks.len());
            }
            ViewMut::Second(big) => big.remove_ranks(ranks.clone(), &mut visit),
            ViewMut::Third(never) => match *never {},
        }
        ranks.len()
    }

    /// Takes over the blob of a small set from outside: `None` unless it holds pairs of a member and a number, each member
    /// once. One that is out of order is put in order, one beyond the limits becomes big.
    pub fn from_pack(pack: Listpack, limits: &Limits) -> Option<Self> {
        let longest = packed::validate(&pack)?;
        let len = packed::len(&pack);
        let fits = len <= limits.zset_max_listpack_entries && longest <= limits.zset_max_listpack_value;
        let sorted = packed::is_sorted(&pack);
        let mut zset = Self::packed(pack);
        if !fits || !sorted {
            zset.unpack(0);
        }
        zset.pack_if_small(limits);
        Some(zset)
    }

    /// Becomes a listpack if the limits allow: only stores (ZUNIONSTORE and its like) ask for that.
    pub fn pack_if_small(&mut self, limits: &Limits) {
        if let ViewMut::Second(big) = self.0.view_mut()
            && big.len() <= limits.zset_max_listpack_entries
            && big.range(0..usize::MAX).all(|item| item.member().len() <= limits.zset_max_listpack_value)
        {
            let mut pack = Listpack::new();
            big.range(0..usize::MAX).for_each(|item| packed::push(&mut pack, item.member(), item.score()));
            *self = Self::packed(pack);
        }
    }

    /// Becomes big, with room for `more` members.
    fn unpack(&mut self, more: usize) -> &mut BigZSet {
        if let ViewMut::First(pack) = self.0.view_mut() {
            let mut big = BigZSet::with_capacity(packed::len(pack) + more);
            packed::iter(pack).for_each(|(member, score)| member.with_bytes(|m| big.insert_new(m, score)));
            *self = Self::big(big);
        }
        match self.0.view_mut() {
            ViewMut::Second(big) => big,
            ViewMut::First(_) => unreachable!("it has just become big"),
            ViewMut::Third(never) => match *never {},
        }
    }
}

impl Default for ZSet {
    fn default() -> Self {
        Self::new()
    }
}

impl Clone for ZSet {
    fn clone(&self) -> Self {
        match self.0.view() {
            View::First(pack) => Self::packed(pack.clone()),
            View::Second(big) => Self::big(BigZSet::clone(big)),
            View::Third(never) => match *never {},
        }
    }
}

/// Members with their scores.
pub enum Iter<'a> {
    Packed(packed::Pairs<'a>),
    Big(big::Range<'a>),
}

impl<'a> Iterator for Iter<'a> {
    type Item = (Element<'a>, f64);

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        match self {
            Iter::Packed(pairs) => pairs.next(),
            Iter::Big(range) => range.next().map(|item| (Element::Bytes(item.member()), item.score())),
        }
    }
}

#[cfg(test)]
mod tests;
