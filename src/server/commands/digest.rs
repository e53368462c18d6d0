//! A fingerprint of what a key, or the whole data set, holds: the same whatever the order of insertion, the encoding, the
//! number of shards and the process, so that primary and replica, or before and after a reload, can be compared.
//!
//! ```text
//!   word   = three 64-bit lanes of a byte string, each mixed with a multiplier of its own
//!   list   = words chained in their order            set, hash, zset = sum of the members' words
//!   stream = words of its entries chained
//!   key    = chain(name, type, value, expiry)        data set        = sum over keys of chain(database, key)
//! ```

use crate::engine::keyspace::{Locked, SHARDS};
use crate::engine::listpack::Element;
use crate::engine::record::Record;
use crate::engine::stream::StreamId;
use crate::engine::table::Entry as _;
use crate::engine::value::{StringRef, ValueRef};

/// 192 bits, of which 160 are shown. Nothing is zero.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Digest([u64; 3]);

const MULTIPLIERS: [u64; 3] = [0x9e37_79b9_7f4a_7c15, 0xc2b2_ae3d_27d4_eb4f, 0xd6e8_feb8_6659_fd93];

impl Digest {
    /// Appends bytes; their length counts, so that ("ab", "c") differs from ("a", "bc").
    pub fn chain(&mut self, bytes: &[u8]) {
        self.chain_word(bytes.len() as u64);
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            for (target, byte) in word.iter_mut().zip(chunk) {
                *target = *byte;
            }
            self.chain_word(u64::from_le_bytes(word));
        }
    }

    fn chain_word(&mut self, word: u64) {
        for (lane, multiplier) in self.0.iter_mut().zip(MULTIPLIERS) {
            // The finalizer of splitmix64 over the running state.
            let mut mixed = lane.rotate_left(23).wrapping_mul(multiplier) ^ word.wrapping_add(multiplier);
            mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            *lane = mixed ^ (mixed >> 31);
        }
    }

    fn chain_element(&mut self, element: Element<'_>) {
        element.with_bytes(|bytes| self.chain(bytes));
    }

    fn chain_digest(&mut self, other: Digest) {
        other.0.into_iter().for_each(|word| self.chain_word(word));
    }

    /// Adds something whose place among the others does not count.
    pub fn add(&mut self, other: Digest) {
        for (lane, word) in self.0.iter_mut().zip(other.0) {
            *lane = lane.wrapping_add(word);
        }
    }

    /// 40 hexadecimal digits; all zeros for nothing at all.
    pub fn text(self) -> String {
        let [first, second, third] = self.0;
        format!("{first:016x}{second:016x}{:08x}", third as u32)
    }
}

/// Of one key's type, value and expiry.
pub fn of_record(record: &Record) -> Digest {
    let mut digest = Digest::default();
    digest.chain(record.kind().name().as_bytes());
    digest.chain_digest(of_value(record.value()));
    if let Some(at) = record.expiry() {
        digest.chain_word(at as u64);
    }
    digest
}

fn of_value(value: ValueRef<'_>) -> Digest {
    let mut digest = Digest::default();
    match value {
        ValueRef::String(StringRef::Int(value)) => digest.chain_element(Element::Int(value)),
        ValueRef::String(StringRef::Bytes(bytes)) => digest.chain(bytes),
        ValueRef::List(list) => list.for_each(|element| digest.chain_element(element)),
        ValueRef::Set(set) => set.iter().for_each(|member| digest.add(of_member(member, &[], None))),
        ValueRef::ZSet(zset) => zset.iter().for_each(|(member, score)| {
            digest.add(of_member(member, &score.to_bits().to_le_bytes(), None));
        }),
        ValueRef::Hash(hash) => hash.iter().for_each(|entry| {
            entry.value.with_bytes(|value| digest.add(of_member(entry.field, value, entry.expires_at)));
        }),
        // Groups do not count, as in Redis: reading by NOACK need not leave the same ones everywhere.
        ValueRef::Stream(stream) => stream.range(StreamId::MIN, StreamId::MAX).for_each(|entry| {
            digest.chain(&entry.id().to_bytes());
            for (field, value) in entry.fields() {
                digest.chain_element(field);
                digest.chain_element(value);
            }
        }),
    }
    digest
}

fn of_member(member: Element<'_>, value: &[u8], expires_at: Option<i64>) -> Digest {
    let mut digest = Digest::default();
    digest.chain_element(member);
    digest.chain(value);
    if let Some(at) = expires_at {
        digest.chain_word(at as u64);
    }
    digest
}

/// Of every key of every database.
pub fn of_keyspace(locked: &Locked, databases: usize) -> Digest {
    let mut sum = Digest::default();
    for shard in 0..SHARDS {
        for (db, part) in locked.shard(shard).dbs().iter().enumerate().take(databases) {
            for record in part.table().iter() {
                let mut digest = Digest::default();
                digest.chain_word(db as u64);
                digest.chain(record.key());
                digest.chain_digest(of_record(record));
                sum.add(digest);
            }
        }
    }
    sum
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
    }

    #[test]
    fn integers_are_their_text_and_expiry_counts() {
        assert_eq!(of_record(&Record::integer(b"k", 12, None)), of_record(&Record::string(b"k", b"12", None)));
        assert_ne!(of_record(&Record::integer(b"k", 12, Some(5))), of_record(&Record::integer(b"k", 12, None)));
    }
}
