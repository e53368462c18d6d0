//! Walks from a rank, in either direction.

use super::*;

/// Inner levels of the tallest tree: neighbours that fit into one node are joined, so a level holds at least eleven times as
/// many nodes as the one above.
const MAX_HEIGHT: usize = 10;

/// The children of an inner node, and the one the path goes through.
type Step<'a, R> = (&'a Run<Child<R>, INNER>, usize);

/// Items in order, or in reverse, from a rank on.
pub struct Iter<'a, R> {
    path: [Option<Step<'a, R>>; MAX_HEIGHT],
    depth: usize,
    leaf: &'a [R],
    /// Next item going up; one past the next item going down.
    at: usize,
    reverse: bool,
    left: usize,
}

impl<R: Ranked> Tree<R> {
    /// `count` items from `start` on, ascending.
    pub fn iter(&self, start: usize, count: usize) -> Iter<'_, R> {
        self.iter_from(start, count.min(self.len().saturating_sub(start)), false)
    }

    /// `count` items from `start` on, descending: the item at rank `start` comes first.
    pub fn iter_rev(&self, start: usize, count: usize) -> Iter<'_, R> {
        let left = if start < self.len() { count.min(start + 1) } else { 0 };
        self.iter_from(start, left, true)
    }

    fn iter_from(&self, start: usize, left: usize, reverse: bool) -> Iter<'_, R> {
        let mut iter = Iter { path: [None; MAX_HEIGHT], depth: 0, leaf: &[], at: 0, reverse, left };
        if left == 0 {
            return iter;
        }
        let (mut node, mut rest) = (&self.root, start);
        while let Node::Inner(children) = node {
            let Some((i, before)) = find_rank(children, rest) else { return iter };
            iter.path[iter.depth] = Some((children, i));
            iter.depth += 1;
            rest -= before;
            node = &children[i].node;
        }
        if let Node::Leaf(leaf) = node {
            iter.leaf = leaf;
            iter.at = if reverse { rest + 1 } else { rest };
        }
        iter
    }
}

impl<R: Ranked> Iter<'_, R> {
    /// Enters the neighbouring leaf: up until there is a sibling, then down along its near edge.
    fn turn_page(&mut self) -> Option<()> {
        let mut level = self.depth;
        let mut node = loop {
            level = level.checked_sub(1)?;
            let (children, i) = self.path[level].as_mut()?;
            *i = if self.reverse { i.wrapping_sub(1) } else { *i + 1 };
            if let Some(child) = children.get(*i) {
                break &child.node;
            }
        };
        while let Node::Inner(children) = node {
            level += 1;
            let i = if self.reverse { children.len() - 1 } else { 0 };
            self.path[level] = Some((children, i));
            node = &children[i].node;
        }
        if let Node::Leaf(leaf) = node {
            self.leaf = leaf;
            self.at = if self.reverse { leaf.len() } else { 0 };
        }
        Some(())
    }
}

impl<R: Ranked> Iterator for Iter<'_, R> {
    type Item = R;

    #[inline]
    fn next(&mut self) -> Option<R> {
        if self.left == 0 {
            return None;
        }
        self.left -= 1;
        if self.reverse {
            if self.at == 0 {
                self.turn_page()?;
            }
            self.at -= 1;
            self.leaf.get(self.at).copied()
        } else {
            if self.at == self.leaf.len() {
                self.turn_page()?;
            }
            self.at += 1;
            self.leaf.get(self.at - 1).copied()
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl<R: Ranked> ExactSizeIterator for Iter<'_, R> {}
