//! Insertion: one descent; a full node on the way is relieved before it is entered, so nothing needs to be repaired upward.

use super::*;

/// Which part of a full node is split off.
enum Cut {
    Half,
    /// Insertion at the right end: the old node stays full.
    Right,
    /// Insertion at the left end.
    Left,
}

/// A neighbour must have this many free places before items are moved to it: fewer would move again at once.
const WORTH_SHARING: usize = 8;

impl<R: Ranked> Tree<R> {
    /// Inserts an item; none with its score and member may be there.
    pub fn insert(&mut self, item: R) {
        let score = item.score();
        let key = Key { score, member: item.member() };
        if self.root.is_full() {
            let old = std::mem::replace(&mut self.root, Node::Inner(Run::new()));
            if let (Node::Inner(children), Some(child)) = (&mut self.root, Child::of(old)) {
                children.push(child);
            }
        }
        let mut node = &mut self.root;
        loop {
            match node {
                Node::Leaf(leaf) => {
                    let at = leaf.partition_point(|other| key.compare(other.score(), other) == Ordering::Less);
                    return leaf.insert(at, item);
                }
                Node::Inner(children) => {
                    let mut i = child_for(children, &key);
                    if children[i].node.is_full() {
                        relieve(children, i, &key);
                        i = child_for(children, &key);
                    }
                    let child = &mut children[i];
                    child.count += 1;
                    if key.compare(child.score, &child.first) == Ordering::Greater {
                        (child.score, child.first) = (score, item);
                    }
                    node = &mut child.node;
                }
            }
        }
    }
}

/// Makes room in or around the full child `i`, which `key` will enter. The parent is not full.
fn relieve<R: Ranked>(children: &mut Run<Child<R>, INNER>, i: usize, key: &Key) {
    if !share(children, i) {
        let cut = match &children[i].node {
            Node::Leaf(leaf) => cut_of(i, children.len(), &leaf[LEAF - 1], leaf[LEAF - 1].score(), &children[i], key),
            Node::Inner(inner) => {
                let last = &inner[INNER - 1];
                cut_of(i, children.len(), &last.first, last.score, &children[i], key)
            }
        };
        split(children, i, cut);
    }
}

/// Where to cut child `i` of `len`, given what its last part begins with.
fn cut_of<R: Ranked>(i: usize, len: usize, last: &R, last_score: f64, child: &Child<R>, key: &Key) -> Cut {
    if i + 1 == len && key.compare(last_score, last) == Ordering::Less {
        Cut::Right
    } else if i == 0 && key.compare(child.score, &child.first) == Ordering::Greater {
        Cut::Left
    } else {
        Cut::Half
    }
}

/// Moves part of the full leaf `i` to a neighbour with room; false if there is none, or if it is no leaf.
fn share<R: Ranked>(children: &mut Run<Child<R>, INNER>, i: usize) -> bool {
    if i > 0
        && let [left, full] = &mut children[i - 1..=i]
        && let (Node::Leaf(left_leaf), Node::Leaf(leaf)) = (&mut left.node, &mut full.node)
        && left_leaf.len() + WORTH_SHARING <= LEAF
    {
        left_leaf.take_head((LEAF - left_leaf.len()) / 2, leaf);
    } else if let Some([full, right]) = children.get_mut(i..i + 2)
        && let (Node::Leaf(leaf), Node::Leaf(right_leaf)) = (&mut full.node, &mut right.node)
        && right_leaf.len() + WORTH_SHARING <= LEAF
    {
        leaf.move_tail((LEAF - right_leaf.len()) / 2, right_leaf);
    } else {
        return false;
    }
    let neighbours = i.saturating_sub(1)..(i + 2).min(children.len());
    children[neighbours].iter_mut().for_each(Child::refresh);
    true
}

fn split<R: Ranked>(children: &mut Run<Child<R>, INNER>, i: usize, cut: Cut) {
    let right = match &mut children[i].node {
        Node::Leaf(leaf) => {
            let mut right = Run::new();
            leaf.move_tail(moved(LEAF, &cut), &mut right);
            Node::Leaf(right)
        }
        Node::Inner(inner) => {
            let mut right = Run::new();
            inner.move_tail(moved(INNER, &cut), &mut right);
            Node::Inner(right)
        }
    };
    children[i].refresh();
    if let Some(child) = Child::of(right) {
        children.insert(i + 1, child);
    }
}

fn moved(full: usize, cut: &Cut) -> usize {
    match cut {
        Cut::Half => full / 2,
        Cut::Right => 1,
        Cut::Left => full - 1,
    }
}
