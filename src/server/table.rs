//! The command table: what every room declares, put together once at start.

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
    pub writes: bool,
}

pub struct CommandTable {
    entries: Vec<Entry>,
    names: HashMap<Box<[u8]>, usize, ahash::RandomState>,
}

/// Longest name that is looked up; no command's is longer.
const NAME_MAX: usize = 32;

impl CommandTable {
    /// Leaked on purpose, like the keyspace: sessions, queues and statistics refer to entries for as long as the process lives.
    pub fn leak(keys: &[&[KeyCommand]], sessions: &[&[SessionCommand]]) -> &'static Self {
        let mut table = CommandTable { entries: Vec::new(), names: HashMap::default() };
        for command in keys.iter().copied().flatten() {
            table.add(command, None, Handler::Key);
        }
        for command in sessions.iter().copied().flatten() {
            table.add(command, None, Handler::Session);
        }
        Box::leak(Box::new(table))
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
        }
        self.entries.push(Entry {
            id,
            full_name,
            handler: command.handler.map_or(Handler::Container, wrap),
            parent,
            subcommands: Vec::new(),
            single_key: single_key(&spec),
            writes: spec.flags.has(Flags::WRITE),
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
        let mut folded = [0u8; NAME_MAX];
        let folded = folded.get_mut(..name.len())?;
        for (target, byte) in folded.iter_mut().zip(name) {
            *target = byte.to_ascii_lowercase();
        }
        self.names.get(&*folded).map(|id| &self.entries[*id])
    }

    /// The subcommand of a container.
    pub fn find_sub(&self, parent: &Entry, name: &[u8]) -> Option<&Entry> {
        let is_it = |id: &&usize| self.entries[**id].spec.name.as_bytes().eq_ignore_ascii_case(name);
        parent.subcommands.iter().find(is_it).map(|id| &self.entries[*id])
    }

    /// `name` or `container|sub`, as ACL rules and COMMAND INFO write them.
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
        true
    }
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
