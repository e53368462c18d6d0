//! Changes of a quicklist. Every one ends in `settle`, which restores the rule about squeezed nodes.

use super::*;

impl Quicklist {
    pub fn push(&mut self, end: End, text: &[u8], limits: &Limits) {
        let limit = NodeLimit::new(limits);
        let node = match end {
            End::Head => self.nodes.front_mut(),
            End::Tail => self.nodes.back_mut(),
        };
        self.len += 1;
        match node {
            Some(node) if limit.accepts(node, text) => node.change_pack(|pack| match end {
                End::Head => pack.push_front(text),
                End::Tail => pack.push_back(text),
            }),
            _ => {
                let node = Node::single(text, &limit);
                match end {
                    End::Head => self.nodes.push_front(node),
                    End::Tail => self.nodes.push_back(node),
                }
                self.settle(None, limits);
            }
        }
    }

    /// Appends a whole node, as loading does.
    pub fn append_pack(&mut self, pack: Listpack, limits: &Limits) {
        if !pack.is_empty() {
            self.len += pack.len();
            self.nodes.push_back(Node::pack(pack));
            self.settle(None, limits);
        }
    }

    /// Appends one element as a plain node, as loading does.
    pub fn append_plain(&mut self, bytes: Vec<u8>, limits: &Limits) {
        self.len += 1;
        self.nodes.push_back(Node::plain(bytes));
        self.settle(None, limits);
    }

    /// Inserts so that the new element stands at `index`, which is at most the length.
    pub fn insert(&mut self, index: usize, text: &[u8], limits: &Limits) {
        if index == 0 {
            return self.push(End::Head, text, limits);
        }
        let Some((n, offset)) = self.locate(index) else {
            return self.push(End::Tail, text, limits);
        };
        let limit = NodeLimit::new(limits);
        self.len += 1;
        let large = limit.is_large(text);
        if !large {
            self.nodes[n].unsqueeze();
            if limit.accepts(&self.nodes[n], text) {
                self.nodes[n].change_pack(|pack| match pack.seek(offset as i64) {
                    Some(pos) => _ = pack.insert_before(pos, text),
                    None => pack.push_back(text),
                });
                return self.settle(Some(n), limits);
            }
            if offset == 0 {
                self.nodes[n - 1].unsqueeze();
                if limit.accepts(&self.nodes[n - 1], text) {
                    self.nodes[n - 1].change_pack(|pack| pack.push_back(text));
                    return self.settle(Some(n - 1), limits);
                }
            }
        }
        let n = if offset == 0 { n } else { self.split(n, offset) };
        if !large && offset > 0 && limit.accepts(&self.nodes[n - 1], text) {
            self.nodes[n - 1].change_pack(|pack| pack.push_back(text));
        } else if !large && offset > 0 && limit.accepts(&self.nodes[n], text) {
            self.nodes[n].change_pack(|pack| pack.push_front(text));
        } else {
            self.nodes.insert(n, Node::single(text, &limit));
        }
        self.merge_around(n, &limit);
        self.settle(Some(n), limits);
    }

    /// Replaces the element at `index`; false if there is none.
    pub fn set(&mut self, index: usize, text: &[u8], limits: &Limits) -> bool {
        let Some((n, offset)) = self.locate(index) else { return false };
        let limit = NodeLimit::new(limits);
        let node = &mut self.nodes[n];
        let (large, alone) = (limit.is_large(text), node.count() == 1);
        match node.form_mut() {
            Form::Plain(bytes) if large => *bytes = text.into(),
            Form::Pack(pack) if !large && limit.holds(pack.byte_len() + Listpack::entry_size(text), 0) => {
                if let Some(pos) = pack.seek(offset as i64) {
                    pack.replace(pos, text);
                }
            }
            _ if alone => *node = Node::single(text, &limit),
            _ => {
                self.remove_range(index, 1, limits);
                self.insert(index, text, limits);
                return true;
            }
        }
        self.settle(Some(n), limits);
        true
    }

    /// Takes the element at one end, lent to `take`.
    pub fn pop<R>(&mut self, end: End, limits: &Limits, take: impl FnOnce(Element<'_>) -> R) -> Option<R> {
        let n = match end {
            End::Head => 0,
            End::Tail => self.nodes.len().checked_sub(1)?,
        };
        let node = self.nodes.get_mut(n)?;
        let (result, now_empty) = match node.form_mut() {
            Form::Pack(pack) => {
                let pos = match end {
                    End::Head => pack.first(),
                    End::Tail => pack.last(),
                }?;
                let result = take(pack.get(pos));
                node.change_pack(|pack| pack.remove(pos));
                (result, node.count() == 0)
            }
            Form::Plain(bytes) => (take(Element::Bytes(bytes)), true),
            Form::Squeezed(_) => unreachable!("form_mut unsqueezes"),
        };
        self.len -= 1;
        if now_empty {
            self.nodes.remove(n);
            self.settle(None, limits);
        }
        Some(result)
    }

    /// Removes up to `count` elements from `start` on.
    pub fn remove_range(&mut self, start: usize, count: usize, limits: &Limits) {
        let count = count.min(self.len.saturating_sub(start));
        let Some((first, offset)) = self.locate(start) else { return };
        let (mut n, mut offset, mut left) = (first, offset, count);
        let mut gone = first..first;
        while left > 0 {
            let size = self.nodes[n].count();
            let here = left.min(size - offset);
            if here == size {
                if gone.is_empty() {
                    gone = n..n;
                }
                gone.end = n + 1;
            } else {
                self.nodes[n].change_pack(|pack| pack.remove_range(offset as i64, here));
            }
            left -= here;
            (n, offset) = (n + 1, 0);
        }
        self.len -= count;
        let seam = gone.start;
        self.nodes.drain(gone);
        self.merge_around(seam, &NodeLimit::new(limits));
        self.settle(Some(seam), limits);
    }

    /// Removes up to `count` elements equal to `text`, looking from one end; the number removed.
    pub fn remove_equal(&mut self, text: &[u8], count: usize, from: End, limits: &Limits) -> usize {
        let (mut removed, mut steps) = (0, 0..self.nodes.len());
        loop {
            let step = match from {
                End::Head => steps.next(),
                End::Tail => steps.next_back(),
            };
            let Some(n) = step.filter(|_| removed < count) else { break };
            let holds_some = match self.nodes[n].contents() {
                Contents::Pack(pack) => pack.find(text, None, 0).is_some(),
                Contents::Plain(bytes) => *bytes == *text,
            };
            if holds_some && self.nodes[n].is_plain() {
                removed += 1;
                self.nodes[n] = Node::pack(Listpack::new());
            } else if holds_some {
                removed += self.nodes[n].change_pack(|pack| remove_equal_in(pack, text, count - removed, from));
            }
        }
        if removed > 0 {
            self.len -= removed;
            self.nodes.retain(|node| node.count() > 0);
            self.settle_all(limits);
        }
        removed
    }

    /// The only listpack, taken out, if it has shrunk to half of what a small list may hold.
    pub fn take_small(&mut self, limits: &Limits) -> Option<Listpack> {
        if self.nodes.len() != 1 {
            return None;
        }
        let node = self.nodes.front_mut()?;
        let limit = NodeLimit::new(limits);
        node.unsqueeze();
        if !node.as_pack().is_some_and(|pack| limit.holds_twice(pack.byte_len(), pack.len())) {
            return None;
        }
        self.len = 0;
        self.nodes.pop_front()?.into_pack()
    }

    /// Cuts node `n` in two before `offset`; the number of the second part.
    fn split(&mut self, n: usize, offset: usize) -> usize {
        let tail = self.nodes[n].change_pack(|pack| pack.seek(offset as i64).map(|pos| pack.split_off(pos)));
        if let Some(tail) = tail {
            self.nodes.insert(n + 1, Node::pack(tail));
        }
        n + 1
    }

    /// Joins neighbours around `n` that fill less than half a node together, so that splits and removals leave no crumbs.
    fn merge_around(&mut self, n: usize, limit: &NodeLimit) {
        let from = n.saturating_sub(1);
        for left in (from..=n + 1).rev() {
            let Some((a, b)) = self.nodes.get(left).zip(self.nodes.get(left + 1)) else { continue };
            let Some((a, b)) = a.as_pack().zip(b.as_pack()) else { continue };
            if limit.holds_twice(a.byte_len() + b.byte_len(), a.len() + b.len())
                && let Some(tail) = self.nodes.remove(left + 1).and_then(Node::into_pack)
            {
                self.nodes[left].change_pack(|pack| pack.append(&tail));
            }
        }
    }

    /// Unsqueezes the ends and squeezes what a change may have left raw: around `touched` and where the ends begin.
    fn settle(&mut self, touched: Option<usize>, limits: &Limits) {
        let (depth, len) = (limits.list_compress_depth as usize, self.nodes.len());
        if depth == 0 {
            return;
        }
        for i in 0..depth.min(len) {
            self.nodes[i].unsqueeze();
            self.nodes[len - 1 - i].unsqueeze();
        }
        let interior = depth..len.saturating_sub(depth);
        let around = touched.map_or(0..0, |n| n.saturating_sub(2)..n + 3);
        for i in around.chain([depth, depth + 1]).chain([len.wrapping_sub(depth + 1), len.wrapping_sub(depth + 2)]) {
            if interior.contains(&i) {
                self.nodes[i].squeeze();
            }
        }
    }

    fn settle_all(&mut self, limits: &Limits) {
        self.settle(None, limits);
        let (depth, len) = (limits.list_compress_depth as usize, self.nodes.len());
        if depth > 0 {
            (depth..len.saturating_sub(depth)).for_each(|i| self.nodes[i].squeeze());
        }
    }
}

/// Removes up to `count` entries equal to `text` from one listpack, looking from one end.
pub(in crate::engine) fn remove_equal_in(pack: &mut Listpack, text: &[u8], count: usize, from: End) -> usize {
    let mut removed = 0;
    match from {
        End::Head => {
            let mut pos = pack.first();
            while removed < count
                && let Some(found) = pos.and_then(|pos| pack.find(text, Some(pos), 0))
            {
                pos = pack.remove(found);
                removed += 1;
            }
        }
        End::Tail => {
            let mut pos = pack.last();
            while removed < count
                && let Some(here) = pos
            {
                // What stands before an entry does not move when it goes.
                pos = pack.prev(here);
                if pack.get(here).eq_bytes(text) {
                    pack.remove(here);
                    removed += 1;
                }
            }
        }
    }
    removed
}
