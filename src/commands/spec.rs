//! The declaration of a command: everything about it in one const entry beside its handler.

use super::context::{KeyContext, KeyFlow};
use super::error::CommandError;
use super::flags::Flags;
use super::keyspec::{KeyFlags, KeySpec};
use crate::resp::Args;

/// COMMAND DOCS' group; most groups are also the name of an ACL category.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
    Bitmap,
    Cluster,
    Connection,
    Generic,
    Geo,
    Hash,
    HyperLogLog,
    List,
    PubSub,
    Scripting,
    Sentinel,
    Server,
    Set,
    SortedSet,
    Stream,
    String,
    Transactions,
}

impl Group {
    pub const fn name(self) -> &'static str {
        match self {
            Group::Bitmap => "bitmap",
            Group::Cluster => "cluster",
            Group::Connection => "connection",
            Group::Generic => "generic",
            Group::Geo => "geo",
            Group::Hash => "hash",
            Group::HyperLogLog => "hyperloglog",
            Group::List => "list",
            Group::PubSub => "pubsub",
            Group::Scripting => "scripting",
            Group::Sentinel => "sentinel",
            Group::Server => "server",
            Group::Set => "set",
            Group::SortedSet => "sorted-set",
            Group::Stream => "stream",
            Group::String => "string",
            Group::Transactions => "transactions",
        }
    }
}

/// Which arguments name channels, and what the command does to them: ACL rules ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Channels {
    None,
    /// The first argument is published to.
    Publish,
    /// All arguments are listened to.
    Subscribe,
    /// All arguments are patterns of channels that are listened to.
    SubscribePatterns,
}

/// What is known of a command without running it.
#[derive(Clone, Copy)]
pub struct Spec {
    /// Lower case; of a subcommand only the second word.
    pub name: &'static str,
    /// Arguments with the name(s); negative: at least that many.
    pub arity: i32,
    pub group: Group,
    pub since: &'static str,
    pub flags: Flags,
    /// ACL categories besides those that follow from flags and group, without `@`.
    pub categories: &'static [&'static str],
    pub tips: &'static [&'static str],
    pub keys: &'static [KeySpec],
    /// Arguments as redis.io writes them: `key seconds [NX | XX]`.
    pub syntax: &'static str,
    pub summary: &'static str,
    pub complexity: &'static str,
    /// The argument that names a member (or field) of the collection at the only key, to look it up ahead.
    pub member: Option<usize>,
    /// The keys, where specifications cannot tell: visits argument indexes.
    pub key_finder: Option<fn(Args<'_>) -> Vec<usize>>,
    /// What the command does to the key at an argument, where that depends on the options: takes the declared flags.
    pub flags_by_use: Option<fn(Args<'_>, usize, KeyFlags) -> KeyFlags>,
    pub channels: Channels,
    /// Whether a request may touch keys that nothing can tell beforehand: then it runs with every shard locked.
    pub every_shard_if: Option<fn(Args<'_>) -> bool>,
}

/// A command with its handler, or a container of subcommands.
#[derive(Clone, Copy)]
pub struct Command<H: 'static> {
    pub spec: Spec,
    pub handler: Option<H>,
    pub subcommands: &'static [Command<H>],
}

/// Handler of a command on keys.
pub type KeyHandler = fn(&mut KeyContext<'_>, Args<'_>) -> Result<KeyFlow, CommandError>;
pub type KeyCommand = Command<KeyHandler>;

impl<H: Copy + 'static> Command<H> {
    pub const fn new(name: &'static str, arity: i32, handler: H) -> Self {
        Command { spec: Spec::new(name, arity), handler: Some(handler), subcommands: &[] }
    }

    /// A container: the second word chooses the subcommand.
    pub const fn container(name: &'static str, subcommands: &'static [Command<H>]) -> Self {
        Command { spec: Spec::new(name, -2), handler: None, subcommands }
    }

    /// A container whose handler runs when no subcommand is given (`COMMAND`).
    pub const fn with_subcommands(mut self, subcommands: &'static [Command<H>]) -> Self {
        self.subcommands = subcommands;
        self
    }

    pub const fn since(mut self, version: &'static str) -> Self {
        self.spec.since = version;
        self
    }

    pub const fn group(mut self, group: Group) -> Self {
        self.spec.group = group;
        self
    }

    pub const fn flag(mut self, flags: Flags) -> Self {
        self.spec.flags = self.spec.flags.with(flags);
        self
    }

    pub const fn write(self) -> Self {
        self.flag(Flags::WRITE)
    }

    pub const fn readonly(self) -> Self {
        self.flag(Flags::READONLY)
    }

    pub const fn denyoom(self) -> Self {
        self.flag(Flags::DENYOOM)
    }

    pub const fn fast(self) -> Self {
        self.flag(Flags::FAST)
    }

    pub const fn admin(self) -> Self {
        self.flag(Flags::ADMIN)
    }

    pub const fn noscript(self) -> Self {
        self.flag(Flags::NOSCRIPT)
    }

    pub const fn loading_stale(self) -> Self {
        self.flag(Flags::LOADING).flag(Flags::STALE)
    }

    pub const fn categories(mut self, categories: &'static [&'static str]) -> Self {
        self.spec.categories = categories;
        self
    }

    pub const fn tips(mut self, tips: &'static [&'static str]) -> Self {
        self.spec.tips = tips;
        self
    }

    pub const fn keys(mut self, keys: &'static [KeySpec]) -> Self {
        self.spec.keys = keys;
        self
    }

    pub const fn key_finder(mut self, finder: fn(Args<'_>) -> Vec<usize>) -> Self {
        self.spec.key_finder = Some(finder);
        self.flag(Flags::MOVABLE_KEYS)
    }

    pub const fn flags_by_use(mut self, narrow: fn(Args<'_>, usize, KeyFlags) -> KeyFlags) -> Self {
        self.spec.flags_by_use = Some(narrow);
        self
    }

    pub const fn channels(mut self, channels: Channels) -> Self {
        self.spec.channels = channels;
        self
    }

    pub const fn every_shard_if(mut self, condition: fn(Args<'_>) -> bool) -> Self {
        self.spec.every_shard_if = Some(condition);
        self
    }

    pub const fn member(mut self, index: usize) -> Self {
        self.spec.member = Some(index);
        self
    }

    pub const fn syntax(mut self, syntax: &'static str) -> Self {
        self.spec.syntax = syntax;
        self
    }

    pub const fn summary(mut self, summary: &'static str) -> Self {
        self.spec.summary = summary;
        self
    }

    pub const fn complexity(mut self, complexity: &'static str) -> Self {
        self.spec.complexity = complexity;
        self
    }
}

impl Spec {
    const fn new(name: &'static str, arity: i32) -> Self {
        Spec {
            name,
            arity,
            group: Group::Generic,
            since: "1.0.0",
            flags: Flags::NONE,
            categories: &[],
            tips: &[],
            keys: &[],
            syntax: "",
            summary: "",
            complexity: "",
            member: None,
            key_finder: None,
            flags_by_use: None,
            channels: Channels::None,
            every_shard_if: None,
        }
    }

    #[inline]
    pub fn accepts_arity(&self, count: usize) -> bool {
        let count = count as i32;
        if self.arity >= 0 { count == self.arity } else { count >= -self.arity }
    }

    /// Every ACL category of the command, without `@`: the explicit ones and those that flags and group imply.
    pub fn acl_categories(&self) -> Vec<&'static str> {
        let mut names = Vec::new();
        let flags = self.flags;
        for (flag, name) in [
            (Flags::WRITE, "write"),
            (Flags::READONLY, "read"),
            (Flags::ADMIN, "admin"),
            (Flags::ADMIN, "dangerous"),
            (Flags::PUBSUB, "pubsub"),
            (Flags::FAST, "fast"),
            (Flags::BLOCKING, "blocking"),
        ] {
            // PUBSUB-like reads without keys are no reads of data; what a script does, nobody can tell.
            let is_no_read = self.categories.contains(&"-read") || self.group == Group::Scripting;
            if flags.has(flag) && !(name == "read" && is_no_read) {
                names.push(name);
            }
        }
        names.extend(self.categories.iter().filter(|name| !name.starts_with('-')));
        if !flags.has(Flags::FAST) {
            names.push("slow");
        }
        let group = match self.group {
            Group::Bitmap => Some("bitmap"),
            Group::Connection => Some("connection"),
            Group::Geo => Some("geo"),
            Group::Hash => Some("hash"),
            Group::HyperLogLog => Some("hyperloglog"),
            Group::List => Some("list"),
            Group::PubSub => Some("pubsub"),
            Group::Scripting => Some("scripting"),
            Group::Set => Some("set"),
            Group::SortedSet => Some("sortedset"),
            Group::Stream => Some("stream"),
            Group::String => Some("string"),
            Group::Transactions => Some("transaction"),
            Group::Generic if !self.keys.is_empty() && !self.categories.contains(&"-keyspace") => Some("keyspace"),
            Group::Generic | Group::Cluster | Group::Sentinel | Group::Server => None,
        };
        // Nor do all containers and HELPs belong where their group does.
        let is_left_out = |group: &str| self.categories.iter().any(|name| name.strip_prefix('-') == Some(group));
        names.extend(group.filter(|group| !names.contains(group) && !is_left_out(group)));
        names
    }

    /// First key, last key (negative: from the end) and step, COMMAND INFO's old form of the first specification.
    pub fn legacy_range(&self) -> (i64, i64, i64) {
        use super::keyspec::{Begin, Find};
        let known = self.keys.iter().find_map(|spec| match (spec.begin, spec.find) {
            (Begin::Index(first), Find::Range { last, step, .. }) => Some((first, last, step)),
            _ => None,
        });
        let Some((first, last, step)) = known else { return (0, 0, 0) };
        // Ranges that adjoin count as one: the destination of SDIFFSTORE and its sources, the two keys of SMOVE.
        let mut last = if last >= 0 { first as isize + last } else { last };
        for spec in self.keys {
            if let (Begin::Index(at), Find::Range { last: more, step: its, .. }) = (spec.begin, spec.find)
                && (at as isize, its) == (last + 1, step)
            {
                last = if more >= 0 { at as isize + more } else { more };
            }
        }
        let last = last as i64;
        (first as i64, last, step as i64)
    }
}
