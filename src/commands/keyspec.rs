//! Where a command's keys are (redis.io, "Command key specifications"). Locks, cluster slots, ACL patterns and COMMAND
//! GETKEYS all ask here, so they cannot disagree with each other.

use crate::resp::Args;

/// Where the keys begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Begin {
    /// At this argument.
    Index(usize),
    /// Behind this word, searched from an argument on (negative: from the end, backwards).
    Keyword(&'static str, isize),
    /// Somewhere that only the command knows (SORT's BY and GET).
    Unknown,
}

/// How far they go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Find {
    /// From the first to `last` (relative to it; negative: from the end), every `step`; `limit` n: only the first 1/n of the rest.
    Range {
        last: isize,
        step: usize,
        limit: usize,
    },
    /// A count stands `count_at` behind the beginning, the keys from `first` on.
    Count {
        count_at: usize,
        first: usize,
        step: usize,
    },
    Unknown,
}

/// What the command does to such a key; names as in COMMAND INFO.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyFlags(u16);

impl KeyFlags {
    pub const RW: KeyFlags = KeyFlags(1);
    pub const RO: KeyFlags = KeyFlags(1 << 1);
    pub const OW: KeyFlags = KeyFlags(1 << 2);
    pub const RM: KeyFlags = KeyFlags(1 << 3);
    pub const ACCESS: KeyFlags = KeyFlags(1 << 4);
    pub const UPDATE: KeyFlags = KeyFlags(1 << 5);
    pub const INSERT: KeyFlags = KeyFlags(1 << 6);
    pub const DELETE: KeyFlags = KeyFlags(1 << 7);
    pub const NOT_KEY: KeyFlags = KeyFlags(1 << 8);
    pub const INCOMPLETE: KeyFlags = KeyFlags(1 << 9);
    pub const VARIABLE_FLAGS: KeyFlags = KeyFlags(1 << 10);

    pub const NAMES: &'static [(KeyFlags, &'static str)] = &[
        (KeyFlags::RO, "RO"),
        (KeyFlags::RW, "RW"),
        (KeyFlags::OW, "OW"),
        (KeyFlags::RM, "RM"),
        (KeyFlags::ACCESS, "access"),
        (KeyFlags::UPDATE, "update"),
        (KeyFlags::INSERT, "insert"),
        (KeyFlags::DELETE, "delete"),
        (KeyFlags::NOT_KEY, "not_key"),
        (KeyFlags::INCOMPLETE, "incomplete"),
        (KeyFlags::VARIABLE_FLAGS, "variable_flags"),
    ];

    /// What a command does that only looks, only puts something new in place, or does both.
    pub const READS: KeyFlags = KeyFlags(Self::RO.0 | Self::ACCESS.0);
    pub const OVERWRITES: KeyFlags = KeyFlags(Self::OW.0 | Self::UPDATE.0);
    pub const READS_AND_CHANGES: KeyFlags = KeyFlags(Self::RW.0 | Self::ACCESS.0 | Self::UPDATE.0);
    pub const READS_AND_DELETES: KeyFlags = KeyFlags(Self::RW.0 | Self::ACCESS.0 | Self::DELETE.0);

    pub const fn has(self, flag: KeyFlags) -> bool {
        self.0 & flag.0 != 0
    }

    pub fn names(self) -> impl Iterator<Item = &'static str> {
        KeyFlags::NAMES.iter().filter(move |(flag, _)| self.has(*flag)).map(|(_, name)| *name)
    }

    /// Whether the user needs the right to read the key: its value becomes known, or is moved elsewhere.
    pub const fn needs_read(self) -> bool {
        self.0 & KeyFlags::ACCESS.0 != 0
    }

    /// Whether the user needs the right to write the key.
    pub const fn needs_write(self) -> bool {
        self.0 & (KeyFlags::INSERT.0 | KeyFlags::DELETE.0 | KeyFlags::UPDATE.0) != 0
    }

    /// Whether the command changes the key.
    pub const fn writes(self) -> bool {
        self.0 & (KeyFlags::RW.0 | KeyFlags::OW.0 | KeyFlags::RM.0) != 0
    }
}

#[derive(Clone, Copy, Debug)]
pub struct KeySpec {
    pub begin: Begin,
    pub find: Find,
    pub flags: KeyFlags,
    pub notes: &'static str,
}

impl KeySpec {
    /// One key at an argument.
    pub const fn at(index: usize) -> Self {
        KeySpec {
            begin: Begin::Index(index),
            find: Find::Range { last: 0, step: 1, limit: 0 },
            flags: KeyFlags(0),
            notes: "",
        }
    }

    /// Keys from an argument to `last` (negative: from the end), every `step`.
    pub const fn range(index: usize, last: isize, step: usize) -> Self {
        let mut spec = Self::at(index);
        spec.find = Find::Range { last, step, limit: 0 };
        spec
    }

    /// `numkeys key [key …]`, the count at an argument.
    pub const fn counted(index: usize) -> Self {
        let mut spec = Self::at(index);
        spec.find = Find::Count { count_at: 0, first: 1, step: 1 };
        spec
    }

    /// One key behind a word.
    pub const fn after(word: &'static str, from: isize) -> Self {
        let mut spec = Self::at(0);
        spec.begin = Begin::Keyword(word, from);
        spec
    }

    /// Keys that no specification can find.
    pub const fn unknown() -> Self {
        let mut spec = Self::at(0);
        spec.begin = Begin::Unknown;
        spec.find = Find::Unknown;
        spec.flag(KeyFlags::INCOMPLETE)
    }

    pub const fn find(mut self, find: Find) -> Self {
        self.find = find;
        self
    }

    pub const fn notes(mut self, notes: &'static str) -> Self {
        self.notes = notes;
        self
    }

    const fn flag(mut self, flag: KeyFlags) -> Self {
        self.flags = KeyFlags(self.flags.0 | flag.0);
        self
    }

    pub const fn ro(self) -> Self {
        self.flag(KeyFlags::RO)
    }

    pub const fn rw(self) -> Self {
        self.flag(KeyFlags::RW)
    }

    pub const fn ow(self) -> Self {
        self.flag(KeyFlags::OW)
    }

    pub const fn rm(self) -> Self {
        self.flag(KeyFlags::RM)
    }

    pub const fn access(self) -> Self {
        self.flag(KeyFlags::ACCESS)
    }

    pub const fn update(self) -> Self {
        self.flag(KeyFlags::UPDATE)
    }

    pub const fn insert(self) -> Self {
        self.flag(KeyFlags::INSERT)
    }

    pub const fn delete(self) -> Self {
        self.flag(KeyFlags::DELETE)
    }

    pub const fn not_key(self) -> Self {
        self.flag(KeyFlags::NOT_KEY)
    }

    pub const fn incomplete(self) -> Self {
        self.flag(KeyFlags::INCOMPLETE)
    }

    pub const fn variable_flags(self) -> Self {
        self.flag(KeyFlags::VARIABLE_FLAGS)
    }

    /// Calls `visit` with the argument index of each key; false if the arguments do not fit the specification.
    pub fn visit(&self, args: Args<'_>, visit: &mut impl FnMut(usize, KeyFlags)) -> bool {
        let Some(first) = self.first(args) else { return matches!(self.begin, Begin::Keyword(..) | Begin::Unknown) };
        let (first, last, step) = match self.find {
            Find::Range { last, step, limit } => {
                let end = args.len() as isize - 1;
                let last = if last >= 0 {
                    first as isize + last
                } else if limit <= 1 {
                    end + last + 1
                } else {
                    first as isize + (end - first as isize + 1) / limit as isize - 1
                };
                (first, last, step)
            }
            Find::Count { count_at, first: offset, step } => {
                let count = args.get(first + count_at).and_then(crate::base::number::parse_i64);
                let Some(count) = count.filter(|count| (1..=args.len() as i64).contains(count)) else { return false };
                let first = first + offset;
                (first, first as isize + (count as isize - 1) * step as isize, step)
            }
            Find::Unknown => return true,
        };
        if last >= args.len() as isize {
            return false;
        }
        let mut index = first;
        while (index as isize) <= last {
            visit(index, self.flags);
            index += step;
        }
        true
    }

    fn first(&self, args: Args<'_>) -> Option<usize> {
        match self.begin {
            Begin::Index(index) => Some(index).filter(|index| *index < args.len()),
            Begin::Keyword(word, from) if from >= 0 => {
                (from as usize..args.len()).find(|index| args.is(*index, word)).map(|index| index + 1)
            }
            Begin::Keyword(word, from) => {
                let start = args.len().checked_add_signed(from)?;
                (1..=start).rev().find(|index| args.is(*index, word)).map(|index| index + 1)
            }
            Begin::Unknown => None,
        }
        .filter(|index| *index < args.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resp::OwnedArgs;

    fn keys(spec: KeySpec, line: &str) -> Option<Vec<String>> {
        let owned = OwnedArgs::new(line.split(' ').map(str::as_bytes));
        let mut found = Vec::new();
        let fits = spec.visit(owned.as_args(), &mut |index, _| {
            found.push(String::from_utf8_lossy(&owned.as_args()[index]).into_owned());
        });
        fits.then_some(found)
    }

    fn some(keys: &[&str]) -> Option<Vec<String>> {
        Some(keys.iter().map(|key| key.to_string()).collect())
    }

    #[test]
    fn the_documented_forms() {
        assert_eq!(keys(KeySpec::at(1), "GET k"), some(&["k"]));
        assert_eq!(keys(KeySpec::range(1, -1, 2), "MSET a 1 b 2"), some(&["a", "b"]));
        assert_eq!(keys(KeySpec::range(1, -2, 1), "BLPOP a b 0"), some(&["a", "b"]));
        assert_eq!(keys(KeySpec::counted(1), "SINTERCARD 2 a b LIMIT 1"), some(&["a", "b"]));
        assert_eq!(keys(KeySpec::counted(1), "SINTERCARD 3 a b"), None);
        assert_eq!(keys(KeySpec::counted(1), "SINTERCARD x a b"), None);
        let streams = KeySpec::after("STREAMS", 1).find(Find::Range { last: -1, step: 1, limit: 2 });
        assert_eq!(keys(streams, "XREAD COUNT 2 STREAMS a b 0 0"), some(&["a", "b"]));
        assert_eq!(keys(KeySpec::after("STORE", 6), "GEORADIUS k 1 1 1 km STORE x"), some(&["x"]));
        assert_eq!(keys(KeySpec::after("STORE", 6), "GEORADIUS k 1 1 1 km"), some(&[]));
    }
}
