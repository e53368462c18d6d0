//! A selector: a set of commands, key patterns and channel patterns that count together. A user has one of its own (the root)
//! and any number of further ones in parentheses; a request is allowed if one selector allows all of it.

use crate::base::glob;
use crate::commands::flags::Flags;
use crate::commands::keyspec::KeyFlags;
use crate::commands::spec::Channels;
use crate::resp::Args;
use crate::server::plan;
use crate::server::table::{CommandTable, Entry};
use std::collections::BTreeMap;

/// Commands by their id in the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommandSet {
    bits: Box<[u64]>,
    /// Began with `+@all`: commands that a later version brings are allowed. The text of the rules begins accordingly.
    pub future: bool,
}

impl CommandSet {
    pub fn none(table: &CommandTable) -> Self {
        CommandSet { bits: vec![0; table.len().div_ceil(64)].into(), future: false }
    }

    pub fn all(table: &CommandTable) -> Self {
        CommandSet { bits: vec![u64::MAX; table.len().div_ceil(64)].into(), future: true }
    }

    #[inline]
    pub fn contains(&self, entry: &Entry) -> bool {
        self.bits.get(entry.id / 64).is_some_and(|word| word & 1 << (entry.id % 64) != 0)
    }

    fn put(&mut self, entry: &Entry, allowed: bool) {
        if let Some(word) = self.bits.get_mut(entry.id / 64) {
            let bit = 1 << (entry.id % 64);
            *word = if allowed { *word | bit } else { *word & !bit };
        }
    }

    /// A command with all its subcommands.
    pub fn change(&mut self, table: &CommandTable, entry: &Entry, allowed: bool) {
        self.put(entry, allowed);
        entry.subcommands.iter().for_each(|id| self.put(table.entry(*id), allowed));
    }

    fn has_all(&self, table: &CommandTable) -> bool {
        self.future && table.iter().all(|entry| self.contains(entry))
    }
}

/// `~pattern`, `%R~pattern` or `%W~pattern`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyPattern {
    pub pattern: Box<[u8]>,
    pub read: bool,
    pub write: bool,
}

impl KeyPattern {
    /// Whether the pattern gives the rights that such a use of a key needs. Some uses (EXISTS) need none in particular.
    fn grants(&self, flags: KeyFlags) -> bool {
        (self.read || !flags.needs_read()) && (self.write || !flags.needs_write())
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selector {
    pub commands: CommandSet,
    /// Commands that are allowed with certain first arguments only (`+select|0`), by id.
    pub first_args: BTreeMap<usize, Vec<Box<[u8]>>>,
    pub all_keys: bool,
    pub keys: Vec<KeyPattern>,
    pub all_channels: bool,
    pub channels: Vec<Box<[u8]>>,
}

/// Why a request is refused; with the argument at fault. Ordered: what names more of the request is the better explanation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Denied {
    Command,
    Key(usize),
    Channel(usize),
}

impl Selector {
    pub fn new(table: &CommandTable, all_channels: bool) -> Self {
        Selector {
            commands: CommandSet::none(table),
            first_args: BTreeMap::new(),
            all_keys: false,
            keys: Vec::new(),
            all_channels,
            channels: Vec::new(),
        }
    }

    /// Whether every request is allowed, whatever its arguments.
    pub fn is_unrestricted(&self, table: &CommandTable) -> bool {
        self.all_keys && self.all_channels && self.commands.has_all(table)
    }

    pub fn check(&self, entry: &Entry, args: Args<'_>) -> Result<(), Denied> {
        if !self.allows_command(entry, args) {
            return Err(Denied::Command);
        }
        if !self.all_keys {
            self.check_keys(entry, args)?;
        }
        if !self.all_channels {
            self.check_channels(entry, args)?;
        }
        Ok(())
    }

    fn allows_command(&self, entry: &Entry, args: Args<'_>) -> bool {
        let by_first_arg = || {
            let allowed = self.first_args.get(&entry.id);
            allowed
                .zip(args.get(1))
                .is_some_and(|(allowed, arg)| allowed.iter().any(|one| one.eq_ignore_ascii_case(arg)))
        };
        self.commands.contains(entry) || entry.spec.flags.has(Flags::NO_AUTH) || by_first_arg()
    }

    /// The keys are those that are locked for the command: both ask `plan`.
    fn check_keys(&self, entry: &Entry, args: Args<'_>) -> Result<(), Denied> {
        let mut denied = None;
        plan::visit_keys(entry, args, &mut |index, flags| {
            if denied.is_none()
                && !flags.has(KeyFlags::NOT_KEY)
                && args.get(index).is_some_and(|key| !self.allows_key(key, flags))
            {
                denied = Some(Denied::Key(index));
            }
        });
        denied.map_or(Ok(()), Err)
    }

    pub fn allows_key(&self, key: &[u8], flags: KeyFlags) -> bool {
        self.all_keys || self.keys.iter().any(|pattern| pattern.grants(flags) && glob::matches(&pattern.pattern, key))
    }

    /// Whether any key may be read: SORT's patterns name keys that nobody can check one by one.
    pub fn reads_every_key(&self) -> bool {
        self.all_keys || self.keys.iter().any(|pattern| pattern.read && *pattern.pattern == *b"*")
    }

    fn check_channels(&self, entry: &Entry, args: Args<'_>) -> Result<(), Denied> {
        let (count, is_pattern) = match entry.spec.channels {
            Channels::None => return Ok(()),
            Channels::Publish => (1, false),
            Channels::Subscribe => (usize::MAX, false),
            Channels::SubscribePatterns => (usize::MAX, true),
        };
        let mut names = args.from(1).iter().take(count);
        match names.position(|name| !self.allows_channel(name, is_pattern)) {
            Some(index) => Err(Denied::Channel(index + 1)),
            None => Ok(()),
        }
    }

    pub fn allows_channel(&self, name: &[u8], is_pattern: bool) -> bool {
        self.all_channels || allows_channel(self.channels.iter().map(|rule| &**rule), name, is_pattern)
    }
}

/// A pattern that a client listens to must be among the rules to the letter: what it would match cannot be told beforehand.
pub fn allows_channel<'a>(mut rules: impl Iterator<Item = &'a [u8]>, name: &[u8], is_pattern: bool) -> bool {
    rules.any(|rule| if is_pattern { rule == name } else { glob::matches(rule, name) })
}
