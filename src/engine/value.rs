//! What a key can hold. No `match` on these enums has a wildcard arm, so a new type shows every place that must know it.

use super::hash::Hash;
use super::list::List;
use super::set::Set;
use super::stream::Stream;
use super::string::StringBlock;
use super::zset::ZSet;

/// The type of a key, as TYPE names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    String = 0,
    List = 1,
    Set = 2,
    ZSet = 3,
    Hash = 4,
    Stream = 5,
}

impl Kind {
    pub const ALL: [Kind; 6] = [Kind::String, Kind::List, Kind::Set, Kind::ZSet, Kind::Hash, Kind::Stream];

    pub fn name(self) -> &'static str {
        match self {
            Kind::String => "string",
            Kind::List => "list",
            Kind::Set => "set",
            Kind::ZSet => "zset",
            Kind::Hash => "hash",
            Kind::Stream => "stream",
        }
    }
}

/// A string on loan: integers are kept as such.
#[derive(Clone, Copy, Debug)]
pub enum StringRef<'a> {
    Int(i64),
    Bytes(&'a [u8]),
}

/// A value that belongs to nobody's record: taken out of one key, on its way into another.
#[derive(Clone)]
pub enum Value {
    Int(i64),
    Bytes(Vec<u8>),
    Block(StringBlock),
    List(List),
    Set(Set),
    ZSet(ZSet),
    Hash(Hash),
    Stream(Stream),
}

/// A value on loan.
pub enum ValueRef<'a> {
    String(StringRef<'a>),
    List(&'a List),
    Set(&'a Set),
    ZSet(&'a ZSet),
    Hash(&'a Hash),
    Stream(&'a Stream),
}

/// A collection on loan for change. Strings change through `Db`, because they may need a larger record.
pub enum ValueMut<'a> {
    String(StringRef<'a>),
    List(&'a mut List),
    Set(&'a mut Set),
    ZSet(&'a mut ZSet),
    Hash(&'a mut Hash),
    Stream(&'a mut Stream),
}

/// A step of a look-up that can be done ahead: what it touches is brought into the cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ahead {
    Bucket,
    /// The entry that the bucket (now in the cache) most likely means.
    Entry,
}

impl ValueRef<'_> {
    /// Brings a member of a big collection closer; `hash` is that of its text.
    #[inline]
    pub fn prefetch_member(&self, hash: u64, step: Ahead) {
        match self {
            ValueRef::Set(set) => set.prefetch(hash, step),
            ValueRef::ZSet(zset) => zset.prefetch(hash, step),
            ValueRef::Hash(fields) => fields.prefetch(hash, step),
            ValueRef::String(_) | ValueRef::List(_) | ValueRef::Stream(_) => {}
        }
    }

    /// How many allocations dropping the value frees, roughly: above some number that is left to the background.
    pub fn free_effort(&self) -> usize {
        match self {
            ValueRef::String(_) => 1,
            ValueRef::List(list) if !list.is_packed() => list.len() / 64,
            ValueRef::List(_) => 1,
            ValueRef::Set(set) if set.encoding() == "hashtable" => set.len(),
            ValueRef::Set(_) => 1,
            ValueRef::ZSet(zset) if zset.encoding() == "skiplist" => zset.len(),
            ValueRef::ZSet(_) => 1,
            ValueRef::Hash(hash) if hash.encoding() == "hashtable" => hash.len(),
            ValueRef::Hash(_) => 1,
            ValueRef::Stream(stream) => stream.free_effort(),
        }
    }

    /// Bytes that the value takes outside of its record; `samples` bounds the members looked at, 0 = all.
    pub fn memory(&self, samples: usize) -> usize {
        match self {
            ValueRef::String(_) => 0,
            ValueRef::List(list) => list.memory(),
            ValueRef::Set(set) => set.memory_usage(samples),
            ValueRef::ZSet(zset) => zset.memory(),
            ValueRef::Hash(hash) => hash.memory_usage(samples),
            ValueRef::Stream(stream) => stream.memory_usage(samples),
        }
    }
}
