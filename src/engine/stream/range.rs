//! Walking over live entries between two ids, in both directions.

use super::id::StreamId;
use super::node::{Backward, Entry, Forward};
use crate::engine::listpack::Listpack;
use std::collections::btree_map;

type Nodes<'a> = btree_map::Range<'a, StreamId, Listpack>;

/// From the lowest id on.
pub struct Range<'a> {
    nodes: Nodes<'a>,
    entries: Option<Forward<'a>>,
    start: StreamId,
    end: StreamId,
}

impl<'a> Range<'a> {
    pub(super) fn new(nodes: Nodes<'a>, start: StreamId, end: StreamId) -> Self {
        Range { nodes, entries: None, start, end }
    }
}

impl<'a> Iterator for Range<'a> {
    type Item = Entry<'a>;

    fn next(&mut self) -> Option<Entry<'a>> {
        loop {
            if let Some(entries) = &mut self.entries {
                let found =
                    entries.find(|entry| entry.id() > self.end || (entry.id() >= self.start && !entry.is_deleted()));
                if let Some(entry) = found {
                    if entry.id() <= self.end {
                        return Some(entry);
                    }
                    self.nodes = Nodes::default();
                }
                self.entries = None;
            }
            let (id, pack) = self.nodes.next()?;
            self.entries = Some(Forward::new(pack, *id));
        }
    }
}

/// From the highest id on.
pub struct RangeRev<'a> {
    nodes: Nodes<'a>,
    entries: Option<Backward<'a>>,
    start: StreamId,
    end: StreamId,
}

impl<'a> RangeRev<'a> {
    pub(super) fn new(nodes: Nodes<'a>, start: StreamId, end: StreamId) -> Self {
        RangeRev { nodes, entries: None, start, end }
    }
}

impl<'a> Iterator for RangeRev<'a> {
    type Item = Entry<'a>;

    fn next(&mut self) -> Option<Entry<'a>> {
        loop {
            if let Some(entries) = &mut self.entries {
                let found =
                    entries.find(|entry| entry.id() < self.start || (entry.id() <= self.end && !entry.is_deleted()));
                if let Some(entry) = found {
                    if entry.id() >= self.start {
                        return Some(entry);
                    }
                    self.nodes = Nodes::default();
                }
                self.entries = None;
            }
            let (id, pack) = self.nodes.next_back()?;
            self.entries = Some(Backward::new(pack, *id));
        }
    }
}
