//! The big form: the tree gives the order, the table finds members, both refer to one block per member.

use super::entry::{ZEntry, ZRef};
use super::{Change, Element};
use crate::base::hash;
use crate::engine::btree::{self, Ranked, Tree};
use crate::engine::table::Table;
use crate::engine::value::Ahead;

/// Every block in `members` is in `tree` under its present score, and nothing else is: a block leaves the tree before it
/// leaves the table, and its score changes only while it is out of the tree or keeps its place there.
pub(super) struct BigZSet {
    tree: Tree<ZRef>,
    members: Table<ZEntry>,
    /// Bytes of the blocks.
    entry_bytes: usize,
}

impl BigZSet {
    pub(super) fn with_capacity(members: usize) -> Self {
        BigZSet { tree: Tree::new(), members: Table::with_capacity(members), entry_bytes: 0 }
    }

    pub(super) fn len(&self) -> usize {
        self.members.len()
    }

    pub(super) fn memory(&self) -> usize {
        self.tree.memory() + self.members.memory() + self.entry_bytes
    }

    pub(super) fn chain_lengths(&self) -> Vec<usize> {
        self.members.chain_lengths()
    }

    #[inline]
    pub(super) fn prefetch(&self, hash: u64, step: Ahead) {
        self.members.prefetch(hash, step);
    }

    pub(super) fn score(&self, member: &[u8]) -> Option<f64> {
        self.members.find(hash::bytes(member), member).map(ZEntry::score)
    }

    pub(super) fn rank(&self, member: &[u8]) -> Option<(usize, f64)> {
        let score = self.score(member)?;
        Some((self.tree.rank(score, member), score))
    }

    pub(super) fn partition_point(&self, before: impl Fn(f64, Element<'_>) -> bool) -> usize {
        self.tree.partition_point(|score, item| before(score, Element::Bytes(item.member())))
    }

    pub(super) fn range(&self, ranks: std::ops::Range<usize>) -> Range<'_> {
        Range(self.tree.iter(ranks.start, ranks.len()))
    }

    pub(super) fn range_rev(&self, ranks: std::ops::Range<usize>) -> Range<'_> {
        let end = ranks.end.min(self.len());
        let count = end.saturating_sub(ranks.start);
        Range(self.tree.iter_rev(end.saturating_sub(1), count))
    }

    pub(super) fn scan(&self, cursor: u64, mut visit: impl FnMut(Element<'_>, f64)) -> u64 {
        self.members.scan(cursor, |entry| visit(Element::Bytes(entry.member()), entry.score()))
    }

    /// Adds a member that is known to be absent.
    pub(super) fn insert_new(&mut self, member: &[u8], score: f64) {
        self.add(hash::bytes(member), member, score);
    }

    fn add(&mut self, hash: u64, member: &[u8], score: f64) {
        let entry = ZEntry::new(member, score);
        self.entry_bytes += entry.memory();
        // SAFETY: every way out of the table takes the block from the tree first.
        self.tree.insert(unsafe { entry.lend() });
        self.members.insert_new(hash, entry);
    }

    pub(super) fn upsert(&mut self, member: &[u8], decide: impl FnOnce(Option<f64>) -> Option<f64>) -> Change {
        let hash = hash::bytes(member);
        let Some(place) = self.members.place(hash, member) else {
            let Some(score) = decide(None) else { return Change::Declined };
            self.add(hash, member, score);
            return Change::Added;
        };
        let entry = self.members.entry_mut(place);
        let old = entry.score();
        let Some(new) = decide(Some(old)) else { return Change::Declined };
        if old == new {
            return Change::Same;
        }
        if self.tree.keeps_place(old, member, new) {
            entry.set_score(new);
        } else {
            self.tree.remove(old, member);
            entry.set_score(new);
            // SAFETY: as in `add`.
            self.tree.insert(unsafe { entry.lend() });
        }
        Change::Updated(old)
    }

    pub(super) fn remove(&mut self, member: &[u8]) -> Option<f64> {
        let hash = hash::bytes(member);
        let place = self.members.place(hash, member)?;
        let score = self.members.entry(place).score();
        self.tree.remove(score, member);
        self.entry_bytes -= self.members.remove_at(hash, place).memory();
        Some(score)
    }

    pub(super) fn remove_ranks(&mut self, ranks: std::ops::Range<usize>, visit: &mut impl FnMut(Element<'_>, f64)) {
        let Self { tree, members, entry_bytes } = self;
        tree.remove_ranks(ranks, &mut |item| {
            visit(Element::Bytes(item.member()), item.score());
            if let Some(entry) = members.remove(hash::bytes(item.member()), item.member()) {
                *entry_bytes -= entry.memory();
            }
        });
    }
}

impl Clone for BigZSet {
    fn clone(&self) -> Self {
        let mut copy = Self::with_capacity(self.len());
        self.range(0..usize::MAX).for_each(|item| copy.insert_new(item.member(), item.score()));
        copy
    }
}

/// Items of a range of ranks.
pub struct Range<'a>(btree::Iter<'a, ZRef>);

/// A member on loan from the set.
pub struct Item<'a> {
    member: &'a [u8],
    score: f64,
}

impl<'a> Item<'a> {
    pub(super) fn member(&self) -> &'a [u8] {
        self.member
    }

    pub(super) fn score(&self) -> f64 {
        self.score
    }
}

impl<'a> Iterator for Range<'a> {
    type Item = Item<'a>;

    #[inline]
    fn next(&mut self) -> Option<Item<'a>> {
        // SAFETY: the set is borrowed for 'a, so no block can go.
        self.0.next().map(|item| Item { member: unsafe { item.member_for() }, score: item.score() })
    }
}
