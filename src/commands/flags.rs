//! What is true of a command, as COMMAND INFO lists it; ACL categories that follow from it are derived in `spec`.

use std::ops::BitOr;

/// A set of command flags.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Flags(u32);

impl Flags {
    pub const NONE: Flags = Flags(0);
    pub const WRITE: Flags = Flags(1);
    pub const READONLY: Flags = Flags(1 << 1);
    pub const DENYOOM: Flags = Flags(1 << 2);
    pub const ADMIN: Flags = Flags(1 << 3);
    pub const PUBSUB: Flags = Flags(1 << 4);
    pub const NOSCRIPT: Flags = Flags(1 << 5);
    pub const BLOCKING: Flags = Flags(1 << 6);
    pub const LOADING: Flags = Flags(1 << 7);
    pub const STALE: Flags = Flags(1 << 8);
    pub const SKIP_MONITOR: Flags = Flags(1 << 9);
    pub const SKIP_SLOWLOG: Flags = Flags(1 << 10);
    pub const ASKING: Flags = Flags(1 << 11);
    pub const FAST: Flags = Flags(1 << 12);
    pub const NO_AUTH: Flags = Flags(1 << 13);
    pub const MAY_REPLICATE: Flags = Flags(1 << 14);
    pub const SENTINEL: Flags = Flags(1 << 15);
    pub const ONLY_SENTINEL: Flags = Flags(1 << 16);
    pub const NO_MANDATORY_KEYS: Flags = Flags(1 << 17);
    pub const PROTECTED: Flags = Flags(1 << 18);
    pub const NO_ASYNC_LOADING: Flags = Flags(1 << 19);
    pub const NO_MULTI: Flags = Flags(1 << 20);
    pub const ALLOW_BUSY: Flags = Flags(1 << 21);
    pub const MOVABLE_KEYS: Flags = Flags(1 << 22);
    /// Ours: works on the whole keyspace, so it runs with every shard locked.
    pub const ALL_SHARDS: Flags = Flags(1 << 23);
    /// Ours: goes through the shards one at a time by itself; inside a transaction or script it needs all.
    pub const SHARD_BY_SHARD: Flags = Flags(1 << 24);
    /// Ours: tells what other clients are doing, so it waits until everybody has got to what was sent before it.
    pub const TELLS_OF_ALL: Flags = Flags(1 << 25);

    /// Names in the order of Redis's COMMAND INFO.
    pub const NAMES: &'static [(Flags, &'static str)] = &[
        (Flags::WRITE, "write"),
        (Flags::READONLY, "readonly"),
        (Flags::DENYOOM, "denyoom"),
        (Flags::ADMIN, "admin"),
        (Flags::PUBSUB, "pubsub"),
        (Flags::NOSCRIPT, "noscript"),
        (Flags::BLOCKING, "blocking"),
        (Flags::LOADING, "loading"),
        (Flags::STALE, "stale"),
        (Flags::SKIP_MONITOR, "skip_monitor"),
        (Flags::SKIP_SLOWLOG, "skip_slowlog"),
        (Flags::ASKING, "asking"),
        (Flags::FAST, "fast"),
        (Flags::NO_AUTH, "no_auth"),
        (Flags::NO_MANDATORY_KEYS, "no_mandatory_keys"),
        (Flags::NO_ASYNC_LOADING, "no_async_loading"),
        (Flags::NO_MULTI, "no_multi"),
        (Flags::MOVABLE_KEYS, "movablekeys"),
        (Flags::ALLOW_BUSY, "allow_busy"),
    ];

    #[inline]
    pub const fn has(self, flag: Flags) -> bool {
        self.0 & flag.0 != 0
    }

    pub const fn with(self, flag: Flags) -> Flags {
        Flags(self.0 | flag.0)
    }

    /// Wire names of the flags that are set.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        Flags::NAMES.iter().filter(move |(flag, _)| self.has(*flag)).map(|(_, name)| *name)
    }
}

impl BitOr for Flags {
    type Output = Flags;

    fn bitor(self, other: Flags) -> Flags {
        self.with(other)
    }
}
