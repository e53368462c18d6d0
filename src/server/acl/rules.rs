//! The words of ACL SETUSER, of `user` lines and of the ACL file: each changes a user a little, in their order.
//!
//! ```text
//! on off nopass resetpass >pw <pw #hash !hash reset         the user itself
//! sanitize-payload skip-sanitize-payload
//! ( … ) clearselectors                                      further selectors
//! +cmd -cmd +cmd|sub +cmd|first-arg +@category -@category   a selector: the root, or the one in parentheses
//! allcommands nocommands ~pat %R~pat %W~pat %RW~pat allkeys resetkeys &pat allchannels resetchannels
//! ```

use super::categories;
use super::selector::{CommandSet, KeyPattern, Selector};
use super::user::{PasswordHash, Sanitize, User, hash_password};
use crate::base::quoting::split_args;
use crate::server::config::UserFault;
use crate::server::table::CommandTable;

/// Why a word is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RuleError {
    Syntax,
    Unknown,
    KeysAfterAll,
    ChannelsAfterAll,
    NoSuchPassword,
    BadHash,
    FirstArgOfSubcommand,
}

impl RuleError {
    pub fn text(self) -> &'static str {
        match self {
            RuleError::Syntax => "Syntax error",
            RuleError::Unknown => "Unknown command or category name in ACL",
            RuleError::KeysAfterAll => {
                "Adding a pattern after the * pattern (or the 'allkeys' flag) is not valid and does not have any effect. Try \
                 'resetkeys' to start with an empty list of patterns"
            }
            RuleError::ChannelsAfterAll => {
                "Adding a pattern after the * pattern (or the 'allchannels' flag) is not valid and does not have any effect. \
                 Try 'resetchannels' to start with an empty list of channels"
            }
            RuleError::NoSuchPassword => "The password you are trying to remove from the user does not exist",
            RuleError::BadHash => {
                "The password hash must be exactly 64 characters and contain only lowercase hexadecimal characters"
            }
            RuleError::FirstArgOfSubcommand => "Allowing first-arg of a subcommand is not supported",
        }
    }
}

/// What rules refer to.
#[derive(Clone, Copy)]
pub struct Rules<'a> {
    pub table: &'a CommandTable,
    /// acl-pubsub-default: what a new selector may listen to.
    pub all_channels: bool,
}

/// A selector may be cut into several words (`( ~k +get )`): joins them again. The error is the index of the word that opens a
/// parenthesis which nobody closes.
pub fn join_selectors<W: AsRef<[u8]>>(words: &[W]) -> Result<Vec<Vec<u8>>, usize> {
    let mut joined: Vec<Vec<u8>> = Vec::with_capacity(words.len());
    let mut open: Option<(usize, Vec<u8>)> = None;
    for (index, word) in words.iter().enumerate() {
        let word = word.as_ref();
        let closes = word.last() == Some(&b')');
        if word.first() == Some(&b'(') && !closes {
            open = Some((index, word.to_vec()));
        } else if let Some((_, text)) = &mut open {
            text.push(b' ');
            text.extend_from_slice(word);
            if closes && let Some((_, text)) = open.take() {
                joined.push(text);
            }
        } else {
            joined.push(word.to_vec());
        }
    }
    open.map_or(Ok(joined), |(index, _)| Err(index))
}

/// Whether a `user` line of the configuration can be meant seriously. Unknown commands show when the users are made.
pub fn check_declaration(table: &CommandTable, words: &[Vec<u8>]) -> Result<(), UserFault> {
    let Some((name, words)) = words.split_first() else { return Ok(()) };
    let fault = |index: usize, reason: &str| UserFault { word: index + 1, reason: reason.into() };
    let joined = join_selectors(words).map_err(|index| fault(index, "Unmatched parenthesis in acl selector"))?;
    let rules = Rules { table, all_channels: false };
    let mut user = User::new(0, name, table, false);
    for (index, word) in joined.iter().enumerate() {
        match rules.apply(&mut user, word) {
            Ok(()) | Err(RuleError::Unknown) => {}
            Err(error) => return Err(fault(index, error.text())),
        }
    }
    Ok(())
}

/// A word as errors show it: up to a NUL, where texts of Redis end.
pub fn shown(word: &[u8]) -> String {
    String::from_utf8_lossy(word.split(|byte| *byte == 0).next().unwrap_or_default()).into_owned()
}

/// A name that a user can have.
pub fn is_user_name(name: &[u8]) -> bool {
    !has_spaces(name)
}

/// Neither names nor patterns may contain what separates words in a file.
fn has_spaces(text: &[u8]) -> bool {
    text.iter().any(|byte| matches!(byte, b' ' | b'\t' | b'\n' | 0x0b | 0x0c | b'\r' | 0))
}

fn is(word: &[u8], name: &str) -> bool {
    word.eq_ignore_ascii_case(name.as_bytes())
}

impl Rules<'_> {
    pub fn apply(self, user: &mut User, word: &[u8]) -> Result<(), RuleError> {
        let Some((first, rest)) = word.split_first() else { return Ok(()) };
        match first {
            b'>' | b'#' => {
                let hash = if *first == b'>' { hash_password(rest) } else { read_hash(rest)? };
                if !user.passwords.contains(&hash) {
                    user.passwords.push(hash);
                }
                user.nopass = false;
            }
            b'<' | b'!' => {
                let hash = if *first == b'<' { hash_password(rest) } else { read_hash(rest)? };
                let known = user.passwords.iter().position(|known| *known == hash);
                user.passwords.remove(known.ok_or(RuleError::NoSuchPassword)?);
            }
            b'(' if word.last() == Some(&b')') => {
                let mut selector = Selector::new(self.table, self.all_channels);
                let inner = word.get(1..word.len() - 1).unwrap_or_default();
                for word in split_args(inner).ok_or(RuleError::Syntax)? {
                    self.apply_to_selector(&mut selector, &word)?;
                }
                user.selectors.push(selector);
            }
            _ => return self.apply_word(user, word),
        }
        Ok(())
    }

    fn apply_word(self, user: &mut User, word: &[u8]) -> Result<(), RuleError> {
        if is(word, "on") {
            user.enabled = true;
        } else if is(word, "off") {
            user.enabled = false;
        } else if is(word, "nopass") {
            user.nopass = true;
            user.passwords.clear();
        } else if is(word, "resetpass") {
            user.nopass = false;
            user.passwords.clear();
        } else if is(word, "skip-sanitize-payload") {
            user.sanitize = Sanitize::Skip;
        } else if is(word, "sanitize-payload") {
            user.sanitize = Sanitize::Yes;
        } else if is(word, "clearselectors") {
            user.selectors.clear();
        } else if is(word, "reset") {
            *user = User::new(user.id, &user.name, self.table, self.all_channels);
            user.sanitize = Sanitize::Yes;
        } else {
            return self.apply_to_selector(&mut user.root, word);
        }
        Ok(())
    }

    fn apply_to_selector(self, selector: &mut Selector, word: &[u8]) -> Result<(), RuleError> {
        if is(word, "allkeys") || is(word, "~*") {
            selector.all_keys = true;
            selector.keys.clear();
        } else if is(word, "resetkeys") {
            selector.all_keys = false;
            selector.keys.clear();
        } else if is(word, "allchannels") || is(word, "&*") {
            selector.all_channels = true;
            selector.channels.clear();
        } else if is(word, "resetchannels") {
            selector.all_channels = false;
            selector.channels.clear();
        } else if is(word, "allcommands") || is(word, "+@all") {
            selector.commands = CommandSet::all(self.table);
            selector.first_args.clear();
        } else if is(word, "nocommands") || is(word, "-@all") {
            selector.commands = CommandSet::none(self.table);
            selector.first_args.clear();
        } else {
            return match word {
                [b'~' | b'%', ..] => add_keys(selector, word),
                [b'&', pattern @ ..] => add_channels(selector, pattern),
                [sign @ (b'+' | b'-'), b'@', name @ ..] => self.change_category(selector, name, *sign == b'+'),
                [b'-', name @ ..] => self.change_command(selector, name, false),
                [b'+', name @ ..] => match name.iter().rposition(|byte| *byte == b'|') {
                    None => self.change_command(selector, name, true),
                    Some(bar) => self.allow_part(selector, name, bar),
                },
                _ => Err(RuleError::Syntax),
            };
        }
        Ok(())
    }

    pub fn change_category(self, selector: &mut Selector, name: &[u8], allowed: bool) -> Result<(), RuleError> {
        let category = categories::find(name).ok_or(RuleError::Unknown)?;
        for entry in self.table.iter().filter(|entry| categories::contains(category, entry)) {
            selector.commands.change(self.table, entry, allowed);
            selector.first_args.remove(&entry.id);
        }
        Ok(())
    }

    fn change_command(self, selector: &mut Selector, name: &[u8], allowed: bool) -> Result<(), RuleError> {
        let entry = self.table.find_declared(name).ok_or(RuleError::Unknown)?;
        selector.commands.change(self.table, entry, allowed);
        selector.first_args.remove(&entry.id);
        Ok(())
    }

    /// `+container|sub`, or `+command|first-arg` for a command without subcommands.
    fn allow_part(self, selector: &mut Selector, name: &[u8], bar: usize) -> Result<(), RuleError> {
        let (command, part) = (&name[..bar], &name[bar + 1..]);
        let entry = self.table.find_declared(command).ok_or(RuleError::Unknown)?;
        if entry.parent.is_some() {
            return Err(RuleError::FirstArgOfSubcommand);
        }
        // A line of the ACL file must not be broken by it.
        if part.is_empty() || has_spaces(part) {
            return Err(RuleError::Syntax);
        }
        if !entry.subcommands.is_empty() {
            return self.change_command(selector, name, true);
        }
        tracing::warn!(
            "Deprecation warning: Allowing a first arg of an otherwise blocked command is a misuse of ACL and may get \
             disabled in the future (offender: +{})",
            String::from_utf8_lossy(name)
        );
        let allowed = selector.first_args.entry(entry.id).or_default();
        if !allowed.iter().any(|known| known.eq_ignore_ascii_case(part)) {
            allowed.push(part.into());
        }
        Ok(())
    }
}

/// `~pattern`, or `%` with the rights and `~pattern`.
fn add_keys(selector: &mut Selector, word: &[u8]) -> Result<(), RuleError> {
    if selector.all_keys {
        return Err(RuleError::KeysAfterAll);
    }
    let (mut read, mut write, mut at) = (true, true, 1);
    if word.first() == Some(&b'%') {
        (read, write) = (false, false);
        while let Some(byte) = word.get(at) {
            at += 1;
            match byte {
                b'R' | b'r' if !read => read = true,
                b'W' | b'w' if !write => write = true,
                b'~' => break,
                _ => return Err(RuleError::Syntax),
            }
        }
        if !read && !write {
            return Err(RuleError::Syntax);
        }
    }
    let pattern = word.get(at..).unwrap_or_default();
    if has_spaces(pattern) {
        return Err(RuleError::Syntax);
    }
    match selector.keys.iter_mut().find(|known| *known.pattern == *pattern) {
        Some(known) => {
            known.read |= read;
            known.write |= write;
        }
        None => selector.keys.push(KeyPattern { pattern: pattern.into(), read, write }),
    }
    Ok(())
}

fn add_channels(selector: &mut Selector, pattern: &[u8]) -> Result<(), RuleError> {
    if selector.all_channels {
        return Err(RuleError::ChannelsAfterAll);
    }
    if has_spaces(pattern) {
        return Err(RuleError::Syntax);
    }
    if !selector.channels.iter().any(|known| **known == *pattern) {
        selector.channels.push(pattern.into());
    }
    Ok(())
}

fn read_hash(text: &[u8]) -> Result<PasswordHash, RuleError> {
    let hash = PasswordHash::try_from(text).map_err(|_| RuleError::BadHash)?;
    let is_hex = hash.iter().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    if is_hex { Ok(hash) } else { Err(RuleError::BadHash) }
}
