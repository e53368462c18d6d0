//! What a command has done besides answering: collected while it runs, handed out by `server::propagation` afterwards,
//! still under the locks of its keys.

use crate::engine::record::Record;
use crate::resp::OwnedArgs;

/// Classes of keyspace events (redis.io, "Redis keyspace notifications").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EventClasses(u32);

impl EventClasses {
    pub const NONE: EventClasses = EventClasses(0);
    pub const KEYSPACE: EventClasses = EventClasses(1);
    pub const KEYEVENT: EventClasses = EventClasses(1 << 1);
    pub const GENERIC: EventClasses = EventClasses(1 << 2);
    pub const STRING: EventClasses = EventClasses(1 << 3);
    pub const LIST: EventClasses = EventClasses(1 << 4);
    pub const SET: EventClasses = EventClasses(1 << 5);
    pub const HASH: EventClasses = EventClasses(1 << 6);
    pub const ZSET: EventClasses = EventClasses(1 << 7);
    pub const EXPIRED: EventClasses = EventClasses(1 << 8);
    pub const EVICTED: EventClasses = EventClasses(1 << 9);
    pub const STREAM: EventClasses = EventClasses(1 << 10);
    pub const KEY_MISS: EventClasses = EventClasses(1 << 11);
    pub const MODULE: EventClasses = EventClasses(1 << 13);
    pub const NEW: EventClasses = EventClasses(1 << 14);
    /// `A`: every class but key misses and new keys.
    pub const ALL: EventClasses = EventClasses(
        Self::GENERIC.0
            | Self::STRING.0
            | Self::LIST.0
            | Self::SET.0
            | Self::HASH.0
            | Self::ZSET.0
            | Self::EXPIRED.0
            | Self::EVICTED.0
            | Self::STREAM.0
            | Self::MODULE.0,
    );

    /// The letters of notify-keyspace-events, in the order in which CONFIG GET prints them.
    pub const LETTERS: &'static [(EventClasses, char)] = &[
        (EventClasses::GENERIC, 'g'),
        (EventClasses::STRING, '$'),
        (EventClasses::LIST, 'l'),
        (EventClasses::SET, 's'),
        (EventClasses::HASH, 'h'),
        (EventClasses::ZSET, 'z'),
        (EventClasses::EXPIRED, 'x'),
        (EventClasses::EVICTED, 'e'),
        (EventClasses::STREAM, 't'),
        (EventClasses::MODULE, 'd'),
        (EventClasses::NEW, 'n'),
        (EventClasses::KEYSPACE, 'K'),
        (EventClasses::KEYEVENT, 'E'),
        (EventClasses::KEY_MISS, 'm'),
    ];

    #[inline]
    pub const fn has(self, class: EventClasses) -> bool {
        self.0 & class.0 != 0
    }

    pub const fn with(self, class: EventClasses) -> Self {
        EventClasses(self.0 | class.0)
    }

    pub const fn covers(self, class: EventClasses) -> bool {
        self.0 & class.0 == class.0
    }

    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Reads `KEA`-like letters; nothing if one is unknown.
    pub fn parse(letters: &str) -> Option<Self> {
        letters.chars().try_fold(EventClasses::NONE, |classes, letter| {
            if letter == 'A' {
                return Some(classes.with(EventClasses::ALL));
            }
            let (class, _) = EventClasses::LETTERS.iter().find(|(_, known)| *known == letter)?;
            Some(classes.with(*class))
        })
    }

    /// The letters again, `A` for all classes that it stands for.
    pub fn letters(self) -> String {
        let all = self.covers(EventClasses::ALL);
        let single = EventClasses::LETTERS
            .iter()
            .filter(|(class, _)| self.has(*class) && !(all && EventClasses::ALL.has(*class)))
            .map(|(_, letter)| *letter);
        all.then_some('A').into_iter().chain(single).collect()
    }
}

/// A keyspace event to publish.
#[derive(Clone, Debug)]
pub struct Event {
    pub class: EventClasses,
    pub name: &'static str,
    pub db: usize,
    pub key: Box<[u8]>,
}

/// What goes to replicas and AOF for a command that changed something.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Propagation {
    /// The request as it came.
    #[default]
    Verbatim,
    /// Only what `propagate_as` added.
    Rewritten,
    /// Nothing, although data changed.
    Nothing,
}

/// Who listens; with nobody, a change costs one addition.
#[derive(Clone, Copy, Debug)]
pub struct Observers {
    /// AOF, replicas or a backlog take the stream.
    pub journal: bool,
    /// Client-side caching is in use.
    pub tracking: bool,
    pub notify: EventClasses,
}

impl Observers {
    pub const NOBODY: Observers = Observers { journal: false, tracking: false, notify: EventClasses::NONE };
}

/// The effects of one command.
#[derive(Default)]
pub struct Effects {
    /// Changes of the data set (`rdb_changes_since_last_save`); a command that made none is not propagated.
    pub dirty: u64,
    pub propagation: Propagation,
    /// Commands for the stream: (database, arguments).
    pub commands: Vec<(usize, OwnedArgs)>,
    /// How many of them must go ahead of the command itself: deletions of keys found expired on the way.
    pub before: usize,
    pub events: Vec<Event>,
    /// Keys that were found expired and are gone, hashes that lost expired fields: (database, key).
    pub expired: Vec<(usize, Box<[u8]>)>,
    /// Keys that changed, for client-side caching: (database, key).
    pub changed: Vec<(usize, Box<[u8]>)>,
    /// Changed keys that somebody is blocked on, in order of their first change.
    pub ready: Vec<(usize, Box<[u8]>)>,
    /// Whole databases that changed: FLUSHDB (Some) and FLUSHALL (None).
    pub flushed: Vec<Option<usize>>,
    /// Values too big to drop here.
    pub garbage: Vec<Record>,
}

impl Effects {
    pub fn is_idle(&self) -> bool {
        self.dirty == 0 && self.commands.is_empty() && self.is_only_dirty()
    }

    /// Whether the count of changes is all there is to hand out besides the stream.
    #[inline]
    pub fn is_only_dirty(&self) -> bool {
        self.events.is_empty()
            && self.expired.is_empty()
            && self.changed.is_empty()
            && self.ready.is_empty()
            && self.flushed.is_empty()
            && self.garbage.is_empty()
    }

    /// Empties the collection for the next command; its buffers stay.
    pub fn clear(&mut self) {
        self.dirty = 0;
        self.propagation = Propagation::Verbatim;
        self.commands.clear();
        self.before = 0;
        self.events.clear();
        self.expired.clear();
        self.changed.clear();
        self.ready.clear();
        self.flushed.clear();
        self.garbage.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_are_canonical() {
        for (given, canonical) in [("KEA", "AKE"), ("", ""), ("Kg$lshzxetd", "AK"), ("Elg", "glE"), ("Km", "Km")] {
            assert_eq!(EventClasses::parse(given).map(EventClasses::letters).as_deref(), Some(canonical), "{given}");
        }
        assert_eq!(EventClasses::parse("KQ"), None);
    }
}
