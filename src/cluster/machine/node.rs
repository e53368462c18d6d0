//! A node as the others know it: name, address, role, slots, how it is.

use crate::base::crc16::SLOTS;
use crate::base::random::Random;
use std::fmt;

/// Forty hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(pub [u8; 40]);

impl Name {
    /// In a message: nobody.
    pub const NONE: Name = Name([0; 40]);

    pub fn random(random: &mut Random) -> Self {
        Name(std::array::from_fn(|_| b"0123456789abcdef"[random.below(16) as usize]))
    }

    pub fn parse(text: &[u8]) -> Option<Self> {
        let is_valid = text.iter().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
        text.try_into().ok().filter(|_| is_valid).map(Name)
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(&self.0))
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

const WORDS: usize = SLOTS as usize / 64;

/// A set of slots; on the wire the lowest bit of the first byte is slot 0.
#[derive(Clone, PartialEq, Eq)]
pub struct SlotSet([u64; WORDS]);

impl SlotSet {
    pub fn boxed() -> Box<Self> {
        Box::new(SlotSet([0; WORDS]))
    }

    /// Of 2048 bytes.
    pub fn from_bytes(bytes: &[u8]) -> Box<Self> {
        let mut set = Self::boxed();
        for (word, chunk) in set.0.iter_mut().zip(bytes.chunks_exact(8)) {
            *word = chunk.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte));
        }
        set
    }

    pub fn to_bytes(&self) -> impl Iterator<Item = u8> {
        self.0.iter().flat_map(|word| word.to_le_bytes())
    }

    pub fn contains(&self, slot: u16) -> bool {
        self.0[usize::from(slot) / 64] >> (slot % 64) & 1 == 1
    }

    pub fn insert(&mut self, slot: u16) {
        self.0[usize::from(slot) / 64] |= 1 << (slot % 64);
    }

    pub fn remove(&mut self, slot: u16) {
        self.0[usize::from(slot) / 64] &= !(1 << (slot % 64));
    }

    pub fn len(&self) -> usize {
        self.0.iter().map(|word| word.count_ones() as usize).sum()
    }

    pub fn is_empty(&self) -> bool {
        self.0.iter().all(|word| *word == 0)
    }

    /// Ascending.
    pub fn iter(&self) -> impl Iterator<Item = u16> {
        self.0.iter().zip(0u16..).filter(|(word, _)| **word != 0).flat_map(|(word, index)| {
            let mut rest = *word;
            std::iter::from_fn(move || {
                let bit = (rest != 0).then(|| rest.trailing_zeros() as u16)?;
                rest &= rest - 1;
                Some(index * 64 + bit)
            })
        })
    }

    /// Those that another set has not.
    pub fn without(&self, other: &SlotSet) -> Box<SlotSet> {
        let mut rest = Box::new(self.clone());
        rest.0.iter_mut().zip(&other.0).for_each(|(word, other)| *word &= !other);
        rest
    }

    /// Runs of neighbours: first and last.
    pub fn ranges(&self) -> Vec<(u16, u16)> {
        let mut ranges: Vec<(u16, u16)> = Vec::new();
        for slot in self.iter() {
            match ranges.last_mut() {
                Some((_, last)) if *last + 1 == slot => *last = slot,
                _ => ranges.push((slot, slot)),
            }
        }
        ranges
    }
}

impl fmt::Debug for SlotSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.ranges()).finish()
    }
}

/// What is true of a node, in the bits of the wire.
pub mod flag {
    pub const PRIMARY: u16 = 1;
    pub const REPLICA: u16 = 2;
    /// It has not answered in time; others may know better.
    pub const SUSPECTED: u16 = 4;
    /// Most primaries have said so.
    pub const FAILED: u16 = 8;
    pub const MYSELF: u16 = 16;
    /// Its name is not known yet.
    pub const HANDSHAKE: u16 = 32;
    pub const NO_ADDRESS: u16 = 64;
    /// It is to be sent a MEET.
    pub const MEET: u16 = 128;
    /// A primary that replicas may move to.
    pub const MIGRATE_TO: u16 = 256;
    pub const NO_FAILOVER: u16 = 512;

    /// As CLUSTER NODES writes them.
    pub const NAMES: [(u16, &str); 8] = [
        (MYSELF, "myself"),
        (PRIMARY, "master"),
        (REPLICA, "slave"),
        (SUSPECTED, "fail?"),
        (FAILED, "fail"),
        (HANDSHAKE, "handshake"),
        (NO_ADDRESS, "noaddr"),
        (NO_FAILOVER, "nofailover"),
    ];
}

/// Nodes refer to each other by this; it never comes again.
pub type Id = u32;
pub type LinkId = u64;

#[derive(Clone, Debug)]
pub struct Node {
    pub name: Name,
    pub flags: u16,
    pub created_ms: i64,
    pub config_epoch: u64,
    pub slots: Box<SlotSet>,
    pub primary: Option<Id>,
    pub ip: String,
    pub port: u16,
    /// Of a cluster that speaks TLS: the port for those who do not.
    pub plain_port: u16,
    pub bus_port: u16,
    pub hostname: String,
    /// When the ping went out that has no answer yet; 0: there is none.
    pub ping_sent_ms: i64,
    pub pong_received_ms: i64,
    pub data_received_ms: i64,
    pub failed_ms: i64,
    /// When this node gave its vote to a replica of that one.
    pub voted_ms: i64,
    pub orphaned_ms: i64,
    pub offset: u64,
    /// The link that we have opened, and the one that it has.
    pub link: Option<LinkId>,
    pub inbound: Option<LinkId>,
    /// Primaries that report it as failing, and when they did last.
    pub reports: Vec<(Id, i64)>,
    /// The message in whose gossip it was last.
    pub gossiped: u64,
}

impl Node {
    pub fn new(name: Name, flags: u16, now_ms: i64) -> Self {
        Node {
            name,
            flags,
            created_ms: now_ms,
            config_epoch: 0,
            slots: SlotSet::boxed(),
            primary: None,
            ip: String::new(),
            port: 0,
            plain_port: 0,
            bus_port: 0,
            hostname: String::new(),
            ping_sent_ms: 0,
            pong_received_ms: 0,
            data_received_ms: 0,
            failed_ms: 0,
            voted_ms: 0,
            orphaned_ms: 0,
            offset: 0,
            link: None,
            inbound: None,
            reports: Vec::new(),
            gossiped: 0,
        }
    }

    pub fn has(&self, flags: u16) -> bool {
        self.flags & flags != 0
    }

    pub fn set(&mut self, flags: u16, on: bool) {
        if on {
            self.flags |= flags;
        } else {
            self.flags &= !flags;
        }
    }

    pub fn is_primary(&self) -> bool {
        self.has(flag::PRIMARY)
    }

    pub fn is_replica(&self) -> bool {
        self.has(flag::REPLICA)
    }

    pub fn is_failed(&self) -> bool {
        self.has(flag::FAILED)
    }

    /// Serves slots and counts in votes.
    pub fn counts(&self) -> bool {
        self.is_primary() && !self.slots.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_of_slots() {
        let mut set = SlotSet::boxed();
        for slot in [0, 1, 2, 7, 63, 64, 16383] {
            set.insert(slot);
        }
        assert_eq!(set.ranges(), [(0, 2), (7, 7), (63, 64), (16383, 16383)]);
        let bytes: Vec<u8> = set.to_bytes().collect();
        assert_eq!((bytes.len(), bytes[0], bytes[7], bytes[8], bytes[2047]), (2048, 0x87, 0x80, 1, 0x80));
        assert_eq!(SlotSet::from_bytes(&bytes), set);
        set.remove(64);
        assert_eq!((set.len(), set.contains(64), set.contains(63)), (6, false, true));
        assert_eq!(SlotSet::from_bytes(&bytes).without(&set).ranges(), [(64, 64)]);
    }

    #[test]
    fn names_are_forty_small_letters_and_digits() {
        let name = Name::random(&mut Random::seeded(1));
        assert_eq!(Name::parse(name.to_string().as_bytes()), Some(name));
        assert_eq!(Name::parse(&[b'a'; 39]), None);
        assert_eq!(Name::parse(&[b'A'; 40]), None);
    }
}
