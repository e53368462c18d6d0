//! Where a key lives: which shard, and which table in it. Both follow from the key's hash.
//!
//! ```text
//!   standalone   63 … 58 │ 57 56 │ 55 … 48 │ 47 …………………………… 0      the table is that of the database
//!                 shard             tag        bucket
//!   cluster      63 … 58 │ 57 56 │ 55 … 48 │ 47 … 40 │ 39 …… 0     the table is that of the slot; there is one database
//!                 shard             tag        part      bucket
//!                slot % 64                     slot / 64
//! ```
//! In cluster mode the slot is written into the hash, so whoever has the hash has the slot, and the keys of a slot are one table:
//! to count, list, or drop them touches nothing else. Neighbouring slots are in different shards, because nodes own ranges of slots.

use super::lock::SHARDS;
use crate::base::crc16::{SLOTS, key_slot};
use crate::base::hash;
use std::sync::atomic::{AtomicBool, Ordering};

/// Set once, before the first key. Of the process: a hash must mean the same wherever it was computed.
static BY_SLOT: AtomicBool = AtomicBool::new(false);

/// Tables that a shard has in cluster mode.
pub const PARTS: usize = SLOTS as usize / SHARDS;

const PART_BIT: u32 = 40;
const SHARD_BIT: u32 = 58;

/// From now on keys live by their slots. To be called before anything is stored.
pub fn live_by_slot() {
    BY_SLOT.store(true, Ordering::Release);
}

#[inline]
pub fn is_by_slot() -> bool {
    BY_SLOT.load(Ordering::Relaxed)
}

/// The hash of a key.
#[inline]
pub fn hash_of(key: &[u8]) -> u64 {
    let hash = hash::bytes(key);
    if is_by_slot() { with_slot_of(hash, key) } else { hash }
}

/// Kept out of the way of those who have no slots.
#[inline(never)]
fn with_slot_of(hash: u64, key: &[u8]) -> u64 {
    with_slot(hash, key_slot(key))
}

#[inline]
fn with_slot(hash: u64, slot: u16) -> u64 {
    let (shard, part) = (u64::from(slot) % SHARDS as u64, u64::from(slot) / SHARDS as u64);
    let kept = hash & !(0xff << PART_BIT | 0x3f << SHARD_BIT);
    kept | part << PART_BIT | shard << SHARD_BIT
}

/// The slot of a key, from its hash. Only in cluster mode.
#[inline]
pub fn slot_of(hash: u64) -> u16 {
    let part = (hash >> PART_BIT) as u16 & (PARTS - 1) as u16;
    part * SHARDS as u16 + (hash >> SHARD_BIT) as u16
}

/// Any hash that leads to the table of a slot.
pub fn hash_in(slot: u16) -> u64 {
    with_slot(0, slot)
}

/// The table, among those of its shard, in which a key with this hash lives.
#[inline]
pub fn part_of(hash: u64, db: usize) -> usize {
    if is_by_slot() { (hash >> PART_BIT) as usize % PARTS } else { db }
}

/// The database whose keys a table holds.
#[inline]
pub fn db_of(part: usize) -> usize {
    if is_by_slot() { 0 } else { part }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::keyspace::shard_of;

    #[test]
    fn a_hash_carries_its_slot() {
        for slot in [0, 1, 63, 64, 5461, 16383] {
            for rest in [0, u64::MAX, 0x0123_4567_89ab_cdef] {
                let hash = with_slot(rest, slot);
                assert_eq!((slot_of(hash), shard_of(hash)), (slot, usize::from(slot) % SHARDS));
                assert_eq!(hash & 0xff_ffff_ffff, rest & 0xff_ffff_ffff, "the bucket changed");
                assert_eq!(hash >> 48 & 0xff, rest >> 48 & 0xff, "the tag changed");
            }
        }
        assert!((1..64).all(|slot| shard_of(hash_in(slot)) != shard_of(hash_in(slot - 1))), "neighbours share a lock");
    }
}
