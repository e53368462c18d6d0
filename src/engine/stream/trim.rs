//! Trimming: the oldest entries go until few enough are left, or until all are young enough.
//!
//! Whole nodes go at once. Exact trimming then flags entries of one more node as deleted; approximate trimming stops before it.

use super::entries::Entries;
use super::id::StreamId;
use super::node;

/// What is to be left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Threshold {
    /// At most so many entries.
    MaxLen(u64),
    /// No entry with a lower id.
    MinId(StreamId),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trim {
    pub threshold: Threshold,
    /// Only whole nodes.
    pub approximate: bool,
    /// At most so many entries; 0 = any number.
    pub limit: u64,
}

impl Entries {
    /// Trims; how many entries went. With `admit`, an entry goes only if that says so, and it is asked for every one.
    pub(super) fn trim(&mut self, trim: &Trim, mut admit: Option<&mut dyn FnMut(StreamId) -> bool>) -> u64 {
        let before = self.len;
        let mut next = Some(StreamId::MIN);
        while let Some((&id, pack)) = next.and_then(|next| self.nodes.range_mut(next..).next()) {
            if matches!(trim.threshold, Threshold::MaxLen(max) if self.len <= max) {
                break;
            }
            let live = node::live(pack);
            if trim.limit != 0 && before - self.len + live > trim.limit {
                break;
            }
            let is_whole = match trim.threshold {
                Threshold::MaxLen(max) => self.len - live >= max,
                Threshold::MinId(min) => node::Backward::new(pack, id).next().is_some_and(|last| last.id() < min),
            };
            if !is_whole && trim.approximate {
                break;
            }
            if is_whole && admit.is_none() {
                self.nodes.remove(&id);
                self.len -= live;
                continue;
            }
            let mut victims = Vec::new();
            let mut is_reached = false;
            for entry in node::Forward::new(pack, id).filter(|entry| !entry.is_deleted()) {
                is_reached = match trim.threshold {
                    Threshold::MaxLen(max) => self.len - victims.len() as u64 <= max,
                    Threshold::MinId(min) => entry.id() >= min,
                };
                if is_reached {
                    break;
                }
                if admit.as_mut().is_none_or(|admit| admit(entry.id())) {
                    victims.push(entry.flags_at());
                }
            }
            self.len -= victims.len() as u64;
            if node::flag_deleted(pack, &victims) == 0 {
                self.nodes.remove(&id);
            }
            if is_reached {
                break;
            }
            next = id.next();
        }
        before - self.len
    }
}
