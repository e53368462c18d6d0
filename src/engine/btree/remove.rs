//! Removal: down to the leaf, and repairs on the way up. Nodes may become rather empty; two that fit well into one are joined.

use std::ops::Range;

use super::*;

impl<R: Ranked> Tree<R> {
    /// Removes the item at (score, member); false if there is none.
    pub fn remove(&mut self, score: f64, member: &[u8]) -> bool {
        let removed = remove_from(&mut self.root, &Key { score, member });
        self.lower_root();
        removed
    }

    /// Removes the items of a range of ranks, each handed to `gone`, which may free what it refers to.
    pub fn remove_ranks(&mut self, ranks: Range<usize>, gone: &mut impl FnMut(R)) {
        let ranks = ranks.start..ranks.end.min(self.len());
        if !ranks.is_empty() {
            cut(&mut self.root, ranks, gone);
            self.lower_root();
        }
    }

    /// A root with one child is one level too many.
    fn lower_root(&mut self) {
        while let Node::Inner(children) = &mut self.root
            && children.len() <= 1
        {
            self.root = if children.is_empty() { Node::Leaf(Run::new()) } else { children.remove(0).node };
        }
    }
}

fn remove_from<R: Ranked>(node: &mut Node<R>, key: &Key) -> bool {
    match node {
        Node::Leaf(leaf) => {
            let at = leaf.partition_point(|item| key.compare(item.score(), item) == Ordering::Less);
            let found = leaf.get(at).is_some_and(|item| key.compare(item.score(), item) == Ordering::Equal);
            if found {
                leaf.remove(at);
            }
            found
        }
        Node::Inner(children) => {
            let i = child_for(children, key);
            if !remove_from(&mut children[i].node, key) {
                return false;
            }
            let child = &mut children[i];
            child.count -= 1;
            if let Some((score, first)) = child.node.head() {
                (child.score, child.first) = (score, first);
            } else {
                children.remove(i);
            }
            join_around(children, i);
            true
        }
    }
}

/// Removes the ranks of a non-empty range, counted within the node.
fn cut<R: Ranked>(node: &mut Node<R>, ranks: Range<usize>, gone: &mut impl FnMut(R)) {
    match node {
        Node::Leaf(leaf) => {
            leaf[ranks.clone()].iter().for_each(|item| gone(*item));
            leaf.remove_range(ranks);
        }
        Node::Inner(children) => {
            let Some((first, mut before)) = find_rank(children, ranks.start) else { return };
            let mut i = first;
            while i < children.len() && before < ranks.end {
                let child = &mut children[i];
                let count = child.count;
                cut(&mut child.node, ranks.start.saturating_sub(before)..(ranks.end - before).min(count), gone);
                child.refresh();
                before += count;
                i += 1;
            }
            let emptied = children[first..i].iter().map(|child| child.count == 0);
            let (skip, empty) =
                emptied.enumerate().filter(|(_, e)| *e).fold((i - first, 0), |(s, n), (k, _)| (s.min(k), n + 1));
            if empty > 0 {
                children.remove_range(first + skip..first + skip + empty);
            }
            join_around(children, first);
            join_around(children, first + 1);
        }
    }
}

/// Joins child `i` with a neighbour if both together leave a quarter of a node free.
fn join_around<R: Ranked>(children: &mut Run<Child<R>, INNER>, i: usize) {
    for left in [i, i.wrapping_sub(1)] {
        let Some([a, b]) = children.get_mut(left..left.wrapping_add(2)) else { continue };
        match (&mut a.node, &mut b.node) {
            (Node::Leaf(a), Node::Leaf(b)) if a.len() + b.len() <= LEAF * 3 / 4 => a.take_head(b.len(), b),
            (Node::Inner(a), Node::Inner(b)) if a.len() + b.len() <= INNER * 3 / 4 => a.take_head(b.len(), b),
            _ => continue,
        }
        a.count += b.count;
        children.remove(left + 1);
    }
}
