//! A B+ tree ordered by (score, member), with counts: the order of a big sorted set.
//!
//! ```text
//! inner   | first score · first item · count · node | …    up to 31 children, 40 bytes each
//!             /                  \
//! leaf    | item item … |     | item item … |              up to 63 one-word items: 512 bytes
//! ```
//!
//! The score and the item that a subtree begins with are kept exactly, so that a descent reads no entry unless scores tie;
//! only the last half dozen comparisons, within the leaf, look at entries. Scores beside the items would save those, but cost
//! 10 bytes per element at the usual fill.
//! Full leaves first give to a neighbour, and a split at either end of the tree leaves the old leaf full: random
//! insertion fills leaves to about 85 %, ascending to 98 %.
//!
//! There are no links between leaves or to parents: an iterator carries its path.

mod insert;
mod iter;
mod remove;
mod run;

use std::cmp::Ordering;

pub use iter::Iter;
use run::Run;

/// What the tree orders: a copyable reference to an entry that lives elsewhere.
pub trait Ranked: Copy {
    /// Never NaN.
    fn score(&self) -> f64;
    fn member(&self) -> &[u8];
}

const LEAF: usize = 63;
const INNER: usize = 31;

/// The tree. Its items are pairwise different in (score, member).
pub struct Tree<R> {
    root: Node<R>,
}

enum Node<R> {
    Leaf(Box<Run<R, LEAF>>),
    Inner(Box<Run<Child<R>, INNER>>),
}

/// A subtree: what it begins with, how much it holds. Subtrees are never empty, except while a removal is on its way up.
struct Child<R> {
    score: f64,
    first: R,
    count: usize,
    node: Node<R>,
}

/// A place in the order.
#[derive(Clone, Copy)]
struct Key<'a> {
    score: f64,
    member: &'a [u8],
}

impl Key<'_> {
    #[inline]
    fn compare<R: Ranked>(&self, score: f64, item: &R) -> Ordering {
        if score < self.score {
            Ordering::Less
        } else if score > self.score {
            Ordering::Greater
        } else {
            item.member().cmp(self.member)
        }
    }
}

impl<R: Ranked> Tree<R> {
    pub fn new() -> Self {
        Tree { root: Node::Leaf(Run::new()) }
    }

    pub fn len(&self) -> usize {
        self.root.count()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes of all nodes.
    pub fn memory(&self) -> usize {
        self.root.memory()
    }

    /// How many items come before the first one that is not `before`, which must hold for a prefix of the order. It is given
    /// the score beside the item, so that a bound on scores need not touch the entry.
    pub fn partition_point(&self, before: impl Fn(f64, &R) -> bool) -> usize {
        let (mut node, mut rank) = (&self.root, 0);
        loop {
            match node {
                Node::Leaf(leaf) => return rank + leaf.partition_point(|item| before(item.score(), item)),
                Node::Inner(children) => {
                    let after = children.partition_point(|child| before(child.score, &child.first));
                    // The border is at the very start, or inside the last child that begins before it.
                    let Some(inside) = after.checked_sub(1) else { return rank };
                    rank += children[..inside].iter().map(|child| child.count).sum::<usize>();
                    node = &children[inside].node;
                }
            }
        }
    }

    /// The number of items before (score, member).
    pub fn rank(&self, score: f64, member: &[u8]) -> usize {
        let key = Key { score, member };
        self.partition_point(|score, item| key.compare(score, item) == Ordering::Less)
    }

    pub fn at(&self, rank: usize) -> Option<R> {
        let (mut node, mut rest) = (&self.root, rank);
        loop {
            match node {
                Node::Leaf(leaf) => return leaf.get(rest).copied(),
                Node::Inner(children) => {
                    let (i, before) = find_rank(children, rest)?;
                    rest -= before;
                    node = &children[i].node;
                }
            }
        }
    }

    /// Whether the item at (score, member) would keep its place with `new_score`, judged by its neighbours in one leaf; the
    /// first of a leaf never would, since its score is also kept above.
    pub fn keeps_place(&self, score: f64, member: &[u8], new_score: f64) -> bool {
        let (old, new) = (Key { score, member }, Key { score: new_score, member });
        let mut node = &self.root;
        loop {
            match node {
                Node::Inner(children) => node = &children[child_for(children, &old)].node,
                Node::Leaf(leaf) => {
                    let at = leaf.partition_point(|item| old.compare(item.score(), item) == Ordering::Less);
                    return at > 0
                        && at + 1 < leaf.len()
                        && new.compare(leaf[at - 1].score(), &leaf[at - 1]) == Ordering::Less
                        && new.compare(leaf[at + 1].score(), &leaf[at + 1]) == Ordering::Greater;
                }
            }
        }
    }
}

impl<R: Ranked> Default for Tree<R> {
    fn default() -> Self {
        Self::new()
    }
}

impl<R: Ranked> Node<R> {
    fn count(&self) -> usize {
        match self {
            Node::Leaf(leaf) => leaf.len(),
            Node::Inner(children) => children.iter().map(|child| child.count).sum(),
        }
    }

    fn is_full(&self) -> bool {
        match self {
            Node::Leaf(leaf) => leaf.len() == LEAF,
            Node::Inner(children) => children.len() == INNER,
        }
    }

    fn memory(&self) -> usize {
        match self {
            Node::Leaf(_) => size_of::<Run<R, LEAF>>(),
            Node::Inner(children) => {
                size_of::<Run<Child<R>, INNER>>() + children.iter().map(|child| child.node.memory()).sum::<usize>()
            }
        }
    }

    /// The score and item that a node begins with; `None` if it is empty.
    fn head(&self) -> Option<(f64, R)> {
        match self {
            Node::Leaf(leaf) => leaf.first().map(|item| (item.score(), *item)),
            Node::Inner(children) => children.first().map(|child| (child.score, child.first)),
        }
    }
}

impl<R: Ranked> Child<R> {
    /// Wraps a node; `None` if it is empty.
    fn of(node: Node<R>) -> Option<Self> {
        let (score, first) = node.head()?;
        Some(Child { score, first, count: node.count(), node })
    }

    /// Takes over what the node begins with and holds after it has changed.
    fn refresh(&mut self) {
        self.count = self.node.count();
        if let Some((score, first)) = self.node.head() {
            (self.score, self.first) = (score, first);
        }
    }
}

/// The child in which `key` is or belongs: the last that does not begin after it, or the first.
#[inline]
fn child_for<R: Ranked>(children: &[Child<R>], key: &Key) -> usize {
    children.partition_point(|child| key.compare(child.score, &child.first) != Ordering::Greater).saturating_sub(1)
}

/// The child that holds the item number `rank`, and how many items come before that child.
#[inline]
fn find_rank<R>(children: &[Child<R>], rank: usize) -> Option<(usize, usize)> {
    let mut before = 0;
    for (i, child) in children.iter().enumerate() {
        if rank < before + child.count {
            return Some((i, before));
        }
        before += child.count;
    }
    None
}

#[cfg(test)]
mod tests;
