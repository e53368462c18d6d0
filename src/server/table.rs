//! The command table: what every room declares, put together once at start.

use super::acl::categories;
use super::session::{SessionCommand, SessionHandler};
use crate::commands::flags::Flags;
use crate::commands::keyspec::{Begin, Find, KeySpec};
use crate::commands::spec::{Command, KeyCommand, KeyHandler, Spec};
use std::collections::HashMap;

/// What runs a command.
#[derive(Clone, Copy)]
pub enum Handler {
    Key(KeyHandler),
    Session(SessionHandler),
    /// Only its subcommands run.
    Container,
}

/// One command or subcommand.
pub struct Entry {
    /// Position in the table; statistics are kept by it.
    pub id: usize,
    pub spec: Spec,
    /// `get`, or `config|get`.
    pub full_name: String,
    pub handler: Handler,
    pub parent: Option<usize>,
    pub subcommands: Vec<usize>,
    /// The only key's argument, for the commands (most) that have exactly one key at a fixed place.
    pub single_key: Option<usize>,
    /// Index of the key that is worth looking up ahead of execution.
    pub ahead_key: Option<usize>,
    pub writes: bool,
    /// See `acl::categories`.
    pub categories: u32,
    /// There, but told by no list: Sentinel mode lists what stock Sentinel does.
    pub is_hidden: bool,
}

pub struct CommandTable {
    entries: Vec<Entry>,
    names: HashMap<Box<[u8]>, usize>,
    /// The same before `rename-command`: rules of users hold for a command whatever it is called.
    declared: HashMap<&'static str, usize>,
    /// `names` again for the hot path: names of up to 16 bytes as two integers, in an open-addressed table.
    short_names: Box<[(Word, u32)]>,
}

/// Slots of `short_names`: far more than commands, so that a look-up hits or misses at the first try.
const SHORT_SLOTS: usize = 4096;

impl CommandTable {
    /// The table for a whole process.
    pub fn leak(keys: &[&[KeyCommand]], sessions: &[&[SessionCommand]]) -> &'static Self {
        Self::new(keys, sessions).leaked()
    }

    /// Leaked on purpose, like the keyspace: sessions, queues and statistics refer to entries for as long as the process lives.
    pub fn leaked(self) -> &'static Self {
        Box::leak(Box::new(self))
    }

    pub fn new(keys: &[&[KeyCommand]], sessions: &[&[SessionCommand]]) -> Self {
        let mut table = CommandTable {
            entries: Vec::new(),
            names: HashMap::new(),
            declared: HashMap::new(),
            short_names: Box::default(),
        };
        for command in keys.iter().copied().flatten() {
            table.add(command, None, Handler::Key);
        }
        for command in sessions.iter().copied().flatten() {
            table.add(command, None, Handler::Session);
        }
        table.index_short_names();
        table
    }

    /// The table of Sentinel mode: the commands that are flagged so. `own` replaces those of the same name.
    pub fn for_sentinel(sessions: &[&[SessionCommand]], own: &[SessionCommand]) -> Self {
        let mut table = Self::new(&[], &[own]);
        for command in sessions.iter().copied().flatten() {
            let is_known = command.spec.flags.has(Flags::SENTINEL) && !table.declared.contains_key(command.spec.name);
            // Redis answers it before it looks for a command.
            let is_quit = command.spec.name == "quit";
            if is_known || is_quit {
                let id = table.add(command, None, Handler::Session);
                table.entries[id].is_hidden = is_quit;
            }
        }
        for entry in table.entries.iter_mut().filter(|entry| entry.parent.is_some()) {
            entry.is_hidden = is_newer_than_sentinel(entry.spec.since);
        }
        table.index_short_names();
        table
    }

    fn add<H: Copy + 'static>(&mut self, command: &Command<H>, parent: Option<usize>, wrap: fn(H) -> Handler) -> usize {
        let id = self.entries.len();
        let mut spec = command.spec;
        if spec.keys.iter().any(needs_parsing) {
            spec.flags = spec.flags.with(Flags::MOVABLE_KEYS);
        }
        let full_name = match parent {
            Some(parent) => format!("{}|{}", self.entries[parent].spec.name, spec.name),
            None => spec.name.to_owned(),
        };
        if parent.is_none() {
            let twice = self.names.insert(spec.name.as_bytes().into(), id);
            assert!(twice.is_none(), "the command '{}' is declared twice", spec.name);
            self.declared.insert(spec.name, id);
        }
        self.entries.push(Entry {
            id,
            full_name,
            handler: command.handler.map_or(Handler::Container, wrap),
            parent,
            subcommands: Vec::new(),
            single_key: single_key(&spec),
            ahead_key: ahead_key(&spec),
            writes: spec.flags.has(Flags::WRITE),
            categories: categories::bits_of(&spec),
            is_hidden: false,
            spec,
        });
        for subcommand in command.subcommands {
            let sub = self.add(subcommand, Some(id), wrap);
            self.entries[id].subcommands.push(sub);
        }
        id
    }

    /// Finds a command by name, in any letter case.
    #[inline]
    pub fn find(&self, name: &[u8]) -> Option<&Entry> {
        let Some(word) = fold_short(name) else { return self.find_long(name) };
        let mut slot = short_slot(word);
        loop {
            let (found, id) = self.short_names[slot];
            if found == word {
                return Some(&self.entries[id as usize]);
            }
            if found == [0; 2] {
                return None;
            }
            slot = (slot + 1) % SHORT_SLOTS;
        }
    }

    #[cold]
    fn find_long(&self, name: &[u8]) -> Option<&Entry> {
        self.names.get(name.to_ascii_lowercase().as_slice()).map(|id| &self.entries[*id])
    }

    fn index_short_names(&mut self) {
        let mut slots = vec![([0; 2], 0); SHORT_SLOTS];
        for (name, id) in &self.names {
            let Some(word) = fold_short(name) else { continue };
            let mut slot = short_slot(word);
            while slots[slot].0 != [0; 2] {
                slot = (slot + 1) % SHORT_SLOTS;
            }
            slots[slot] = (word, *id as u32);
        }
        self.short_names = slots.into();
    }

    /// The subcommand of a container.
    pub fn find_sub(&self, parent: &Entry, name: &[u8]) -> Option<&Entry> {
        let is_it = |id: &&usize| self.entries[**id].spec.name.as_bytes().eq_ignore_ascii_case(name);
        parent.subcommands.iter().find(is_it).map(|id| &self.entries[*id])
    }

    /// `name` or `container|sub` as rules of users write them: by the names that were declared.
    pub fn find_declared(&self, name: &[u8]) -> Option<&Entry> {
        let (name, sub) = match name.iter().position(|byte| *byte == b'|') {
            None => (name, None),
            Some(bar) => (&name[..bar], Some(&name[bar + 1..])),
        };
        let name = std::str::from_utf8(name).ok()?.to_ascii_lowercase();
        let entry = &self.entries[*self.declared.get(name.as_str())?];
        sub.map_or(Some(entry), |sub| self.find_sub(entry, sub))
    }

    /// `name` or `container|sub`, as COMMAND INFO writes them.
    pub fn find_full(&self, name: &[u8]) -> Option<&Entry> {
        match name.iter().position(|byte| *byte == b'|') {
            None => self.find(name),
            Some(bar) => self.find_sub(self.find(&name[..bar])?, &name[bar + 1..]),
        }
    }

    pub fn entry(&self, id: usize) -> &Entry {
        &self.entries[id]
    }

    pub fn len(&self) -> usize {
        self.entries.len()
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// All commands, without their subcommands.
    pub fn top_level(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter().filter(|entry| entry.parent.is_none())
    }

    /// What lists of commands tell, subcommands included.
    pub fn listed(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter().filter(|entry| !entry.is_hidden)
    }

    /// All entries, subcommands included.
    pub fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter()
    }

    /// `rename-command`: gives a command another name, or none. False if there is no such command.
    pub fn rename(&mut self, old: &[u8], new: &[u8]) -> bool {
        let Some(id) = self.names.remove(old.to_ascii_lowercase().as_slice()) else { return false };
        if !new.is_empty() {
            self.names.insert(new.to_ascii_lowercase().into(), id);
        }
        self.index_short_names();
        true
    }
}

/// Stock Sentinel is that of Redis 7.0: subcommands that came later work, but scripts count what it lists.
fn is_newer_than_sentinel(since: &str) -> bool {
    let mut numbers = since.split('.').map(|number| number.parse::<u32>().unwrap_or(0));
    (numbers.next(), numbers.next()) > (Some(7), Some(0))
}

/// A name of up to 16 bytes as two integers, filled up with zeros.
type Word = [u64; 2];

/// A name of 1 to 16 bytes as a word, ASCII case folded away; nothing for any other.
#[inline]
fn fold_short(name: &[u8]) -> Option<Word> {
    // A name that ends in a zero byte would look like the shorter one.
    if *name.last()? == 0 {
        return None;
    }
    // Pieces of fixed length that may overlap: cheaper than a copy of unknown length.
    Some(match (name, name.len()) {
        (_, 4..=8) => {
            let (low, high) = (name.first_chunk::<4>()?, name.last_chunk::<4>()?);
            let (low, high) = (u64::from(u32::from_le_bytes(*low)), u64::from(u32::from_le_bytes(*high)));
            [fold(low | high << (8 * (name.len() - 4))), 0]
        }
        ([one], _) => [fold(u64::from(*one)), 0],
        ([one, two], _) => [fold(u64::from_le_bytes([*one, *two, 0, 0, 0, 0, 0, 0])), 0],
        ([one, two, three], _) => [fold(u64::from_le_bytes([*one, *two, *three, 0, 0, 0, 0, 0])), 0],
        (_, 9..=16) => {
            let (low, high) = (name.first_chunk::<8>()?, name.last_chunk::<8>()?);
            [fold(u64::from_le_bytes(*low)), fold(u64::from_le_bytes(*high)) >> (8 * (16 - name.len()))]
        }
        _ => return None,
    })
}

/// Sets bit 5 of each byte that is an upper-case letter: 'A' to 'Z' differ from 'a' to 'z' by it alone.
#[inline]
fn fold(word: u64) -> u64 {
    const ONES: u64 = u64::from_le_bytes([1; 8]);
    let low = word & (ONES * 0x7f);
    let letters = (low + ONES * (0x80 - b'A' as u64)) & !(low + ONES * (0x80 - b'Z' as u64 - 1)) & !word;
    word | (letters & (ONES * 0x80)) >> 2
}

#[inline]
fn short_slot([low, high]: Word) -> usize {
    ((low ^ high.rotate_left(32)).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 52) as usize % SHORT_SLOTS
}

fn needs_parsing(spec: &KeySpec) -> bool {
    !matches!((spec.begin, spec.find), (Begin::Index(_), Find::Range { .. }))
}

fn single_key(spec: &Spec) -> Option<usize> {
    match spec.keys {
        [KeySpec { begin: Begin::Index(at), find: Find::Range { last: 0, .. }, .. }]
            if spec.key_finder.is_none()
                && !spec.flags.has(Flags::ALL_SHARDS)
                && !spec.keys[0].flags.has(crate::commands::keyspec::KeyFlags::NOT_KEY) =>
        {
            Some(*at)
        }
        _ => None,
    }
}

/// The key to look up ahead of execution: the single one, or the first of a script's.
fn ahead_key(spec: &Spec) -> Option<usize> {
    single_key(spec).or(match spec.keys {
        [KeySpec { begin: Begin::Index(at), find: Find::Count { first, .. }, .. }] => Some(at + first),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_names_fold_letters_only() {
        for (name, folded) in [("GET", "get"), ("gEt", "get"), ("zRangeByScore", "zrangebyscore"), ("A[`Z@{", "a[`z@{")]
        {
            assert_eq!(fold_short(name.as_bytes()), fold_short(folded.as_bytes()), "{name}");
        }
        assert_ne!(fold_short(b"@"), fold_short(b"`"));
        assert_ne!(fold_short(b"\xc1"), fold_short(b"\xe1"));
        assert_eq!(fold_short(b"get\0"), None);
        assert_eq!((fold_short(b""), fold_short(&[b'x'; 17])), (None, None));
        for len in 1..=16 {
            let mut padded = [0; 16];
            padded[..len].copy_from_slice(&b"abcdefghijklmnop"[..len]);
            let [low, high] = [&padded[..8], &padded[8..]].map(|half| u64::from_le_bytes(half.try_into().unwrap()));
            assert_eq!(fold_short(&padded[..len]), Some([low, high]), "{len} bytes");
        }
    }

    #[test]
    fn finds_in_any_case_and_renames() {
        let table = CommandTable::leak(crate::commands::FAMILIES, crate::server::commands::FAMILIES);
        assert_eq!(table.find(b"GeT").map(|entry| entry.spec.name), Some("get"));
        assert!(table.find(b"gett").is_none() && table.find(b"").is_none() && table.find(&[b'g'; 40]).is_none());
        for entry in table.iter().filter(|entry| entry.parent.is_none()) {
            assert_eq!(table.find(entry.spec.name.to_uppercase().as_bytes()).map(|found| found.id), Some(entry.id));
        }
    }
}
