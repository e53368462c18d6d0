//! Quicklist: a long list as a deque of nodes, each a listpack of many elements, one big plain element, or either squeezed by LZF.
//!
//! ```text
//! head                                                             tail
//! [pack 431] [pack 430] [squeezed 430] [plain 1] [squeezed 400] … [pack 17]      the number: elements of the node
//!  `---- list-compress-depth nodes ----'                 the same at this end: never squeezed
//! ```
//!
//! The deque holds 32 bytes per node, so that an index is found by adding up counts without touching the nodes themselves.

mod change;
mod node;

use std::borrow::Cow;
use std::collections::VecDeque;

use super::limits::Limits;
use super::listpack::{Element, Listpack};
pub(super) use change::remove_equal_in;
pub(super) use node::NodeLimit;
pub use node::NodeView;
use node::{Form, Node};

/// An end of a list; also the direction of a walk, named by where it starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Head,
    Tail,
}

/// The big form of a list.
#[derive(Clone, Default)]
pub struct Quicklist {
    nodes: VecDeque<Node>,
    len: usize,
}

impl Quicklist {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The nodes as RDB stores them.
    pub fn nodes(&self) -> impl ExactSizeIterator<Item = NodeView<'_>> {
        self.nodes.iter().map(Node::view)
    }

    pub fn memory(&self) -> usize {
        self.nodes.capacity() * size_of::<Node>() + self.nodes.iter().map(Node::memory).sum::<usize>()
    }

    /// Visits `count` elements from `start` on (an index from the head), toward the tail if `from` is the head, else
    /// toward the head, until `visit` says false.
    pub fn walk(&self, start: usize, count: usize, from: End, visit: &mut dyn FnMut(Element<'_>) -> bool) {
        let Some((mut n, mut offset)) = self.locate(start) else { return };
        let mut left = count;
        loop {
            let node = &self.nodes[n];
            let goes_on = match node.contents() {
                Contents::Pack(pack) => walk_pack(&pack, offset, &mut left, from, visit),
                Contents::Plain(bytes) if left > 0 => {
                    left -= 1;
                    visit(Element::Bytes(&bytes))
                }
                Contents::Plain(_) => false,
            };
            if !goes_on || left == 0 {
                return;
            }
            match from {
                End::Head if n + 1 < self.nodes.len() => (n, offset) = (n + 1, 0),
                End::Tail if n > 0 => (n, offset) = (n - 1, self.nodes[n - 1].count() - 1),
                _ => return,
            }
        }
    }

    /// Node and offset of the element at `index`, adding up from the nearer end.
    fn locate(&self, index: usize) -> Option<(usize, usize)> {
        if index >= self.len {
            return None;
        }
        if index < self.len / 2 {
            let mut rest = index;
            for (n, node) in self.nodes.iter().enumerate() {
                if rest < node.count() {
                    return Some((n, rest));
                }
                rest -= node.count();
            }
        } else {
            let mut rest = self.len - index;
            for (n, node) in self.nodes.iter().enumerate().rev() {
                if rest <= node.count() {
                    return Some((n, node.count() - rest));
                }
                rest -= node.count();
            }
        }
        None
    }
}

/// What a node holds, decompressed if need be.
enum Contents<'a> {
    Pack(Cow<'a, Listpack>),
    Plain(Cow<'a, [u8]>),
}

/// The walk within one listpack; false when `visit` said so.
pub(super) fn walk_pack(
    pack: &Listpack,
    offset: usize,
    left: &mut usize,
    from: End,
    visit: &mut dyn FnMut(Element<'_>) -> bool,
) -> bool {
    let mut pos = pack.seek(offset as i64);
    while let Some(here) = pos
        && *left > 0
    {
        *left -= 1;
        if !visit(pack.get(here)) {
            return false;
        }
        pos = match from {
            End::Head => pack.next(here),
            End::Tail => pack.prev(here),
        };
    }
    true
}
