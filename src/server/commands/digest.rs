//! DEBUG DIGEST: a fingerprint of what a key, or the whole data set, holds: the same whatever the order of insertion, the encoding
//! and the number of shards, and the same as that of a Redis server with this data, so that primary and replica can be compared.
//!
//! ```text
//!   xor(d, x) = d ^ SHA1(x)        order does not count        mix(d, x) = SHA1(d ^ SHA1(x))        it does
//!
//!   data set   per database that has keys: mix its number; then xor each key's digest
//!   key        mix the name, then the number of the type, then what the value holds; xor a mark if it expires
//!   list, stream: mix the parts in order        set: xor the members        hash, zset: xor a digest per member
//! ```

use crate::base::number::{IntText, text_g17};
use crate::engine::keyspace::{Locked, SHARDS};
use crate::engine::record::Record;
use crate::engine::stream::StreamId;
use crate::engine::table::Entry as _;
use crate::engine::value::{Kind, StringRef, ValueRef};
use sha1::{Digest as _, Sha1};

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Digest([u8; 20]);

impl Digest {
    /// Adds something whose place among the others does not count.
    fn xor(&mut self, bytes: &[u8]) {
        let hash = Sha1::digest(bytes);
        self.0.iter_mut().zip(hash).for_each(|(byte, other)| *byte ^= other);
    }

    /// Appends something.
    fn mix(&mut self, bytes: &[u8]) {
        self.xor(bytes);
        self.0 = Sha1::digest(self.0).into();
    }

    /// 40 hexadecimal digits; all zeros for nothing at all.
    pub fn text(self) -> String {
        self.0.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// Of one key's type, value and whether it expires.
pub fn of_record(record: &Record) -> Digest {
    let mut digest = Digest::default();
    mix_record(&mut digest, record);
    digest
}

fn mix_record(digest: &mut Digest, record: &Record) {
    digest.mix(&type_number(record.kind()).to_be_bytes());
    mix_value(digest, record.value());
    if record.expiry().is_some() {
        digest.xor(b"!!expire!!");
    }
}

/// Redis's numbers of the types.
fn type_number(kind: Kind) -> u32 {
    match kind {
        Kind::String => 0,
        Kind::List => 1,
        Kind::Set => 2,
        Kind::ZSet => 3,
        Kind::Hash => 4,
        Kind::Stream => 6,
    }
}

fn mix_value(digest: &mut Digest, value: ValueRef<'_>) {
    match value {
        ValueRef::String(StringRef::Int(value)) => digest.mix(&IntText::new(value)),
        ValueRef::String(StringRef::Bytes(bytes)) => digest.mix(bytes),
        ValueRef::List(list) => list.for_each(|element| element.with_bytes(|bytes| digest.mix(bytes))),
        ValueRef::Set(set) => set.iter().for_each(|member| member.with_bytes(|bytes| digest.xor(bytes))),
        ValueRef::ZSet(zset) => zset.iter().for_each(|(member, score)| {
            let mut pair = Digest::default();
            member.with_bytes(|bytes| pair.mix(bytes));
            pair.mix(text_g17(score).as_bytes());
            digest.xor(&pair.0);
        }),
        ValueRef::Hash(hash) => hash.iter().for_each(|entry| {
            let mut pair = Digest::default();
            entry.field.with_bytes(|bytes| pair.mix(bytes));
            entry.value.with_bytes(|bytes| pair.mix(bytes));
            if entry.expires_at.is_some() {
                pair.xor(b"!!hexpire!!");
            }
            digest.xor(&pair.0);
        }),
        // Groups do not count: reading by NOACK need not leave the same ones everywhere.
        ValueRef::Stream(stream) => stream.range(StreamId::MIN, StreamId::MAX).for_each(|entry| {
            let id = entry.id();
            digest.mix(format!("{}.{}", id.ms, id.seq).as_bytes());
            for (field, value) in entry.fields() {
                field.with_bytes(|bytes| digest.mix(bytes));
                value.with_bytes(|bytes| digest.mix(bytes));
            }
        }),
    }
}

/// Of every key of every database.
pub fn of_keyspace(locked: &Locked, databases: usize) -> Digest {
    let mut all = Digest::default();
    for db in 0..databases {
        let parts = || (0..SHARDS).flat_map(|shard| locked.shard(shard).parts(db));
        if parts().all(|part| part.is_empty()) {
            continue;
        }
        all.mix(&(db as u32).to_be_bytes());
        for record in parts().flat_map(|part| part.table().iter()) {
            let mut digest = Digest::default();
            digest.mix(record.key());
            mix_record(&mut digest, record);
            all.xor(&digest.0);
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::limits::Limits;
    use crate::engine::list::List;
    use crate::engine::quicklist::End;
    use crate::engine::set::Set;
    use crate::engine::value::Value;

    fn set(members: &[&str], limits: &Limits) -> Record {
        let mut set = Set::new();
        members.iter().for_each(|member| {
            set.add(member.as_bytes(), limits);
        });
        Record::with_value(b"k", Value::Set(set), None)
    }

    #[test]
    fn order_and_encoding_do_not_count_but_content_does() {
        let packed = Limits::default();
        let big = Limits { set_max_intset_entries: 0, set_max_listpack_entries: 0, ..Limits::default() };
        let first = of_record(&set(&["1", "2", "30"], &packed));
        assert_eq!(first, of_record(&set(&["30", "2", "1"], &big)));
        assert_ne!(first, of_record(&set(&["1", "2", "31"], &packed)));
        assert_ne!(first, of_record(&set(&["1", "2"], &packed)));
        assert_eq!(first.text().len(), 40);
        assert_eq!(Digest::default().text(), "0".repeat(40));
    }

    #[test]
    fn a_list_is_its_order() {
        let limits = Limits::default();
        let list = |elements: &[&str]| {
            let mut list = List::new();
            elements.iter().for_each(|element| list.push(End::Tail, element.as_bytes(), &limits));
            of_record(&Record::with_value(b"k", Value::List(list), None))
        };
        assert_ne!(list(&["a", "b"]), list(&["b", "a"]));
        assert_ne!(list(&["ab", "c"]), list(&["a", "bc"]));
        assert_ne!(list(&[]), list(&[""]));
    }

    #[test]
    fn integers_are_their_text_and_expiry_counts() {
        assert_eq!(of_record(&Record::integer(b"k", 12, None)), of_record(&Record::string(b"k", b"12", None)));
        assert_ne!(of_record(&Record::integer(b"k", 12, Some(5))), of_record(&Record::integer(b"k", 12, None)));
    }

    /// What Redis 7.0.15 answers for `SET k v`.
    #[test]
    fn a_string_has_redis_digest() {
        let text = of_record(&Record::string(b"k", b"v", None)).text();
        assert_eq!(text, "d79ee9fe5d5ad902d7f6620efc3b07b75ddd742f");
    }
}
