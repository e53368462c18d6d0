//! What producers have sent already, so that what they send again is not added again (redis.io, "Idempotent message processing").
//!
//! ```text
//!   producer ──► keys of its latest messages, oldest first, each with the id of its entry
//!                forgotten after a time, or when there are too many
//! ```

use super::group::TREE_SLACK;
use super::id::StreamId;
use std::collections::{BTreeMap, HashMap, VecDeque};

#[derive(Clone)]
pub struct Producers {
    /// For how long a key is remembered.
    pub duration_s: u64,
    /// How many are, of each producer.
    pub keys_max: usize,
    /// Messages with keys that were ever added.
    pub added: u64,
    /// Those that were not added again.
    pub duplicates: u64,
    by_name: BTreeMap<Box<[u8]>, Producer>,
}

#[derive(Clone, Default)]
struct Producer {
    /// Entries by their keys, with the time at which each was added, in milliseconds since the epoch.
    entries: HashMap<Box<[u8]>, (StreamId, i64)>,
    order: VecDeque<Box<[u8]>>,
}

impl Default for Producers {
    fn default() -> Self {
        Producers { duration_s: 100, keys_max: 100, added: 0, duplicates: 0, by_name: BTreeMap::new() }
    }
}

impl Producers {
    pub fn producers_len(&self) -> usize {
        self.by_name.len()
    }

    pub fn keys_len(&self) -> usize {
        self.by_name.values().map(|producer| producer.order.len()).sum()
    }

    /// The entry that a producer has sent with a key, if that is not forgotten.
    pub fn find(&self, producer: &[u8], key: &[u8], now_ms: i64) -> Option<StreamId> {
        let (id, at_ms) = *self.by_name.get(producer)?.entries.get(key)?;
        (now_ms.saturating_sub(at_ms) < self.duration_ms()).then_some(id)
    }

    fn duration_ms(&self) -> i64 {
        self.duration_s.saturating_mul(1000) as i64
    }

    /// A producer has sent a message with a key. What is too old or too much is forgotten.
    pub fn record(&mut self, producer: &[u8], key: &[u8], id: StreamId, at_ms: i64, now_ms: i64) {
        let duration_ms = self.duration_ms();
        let producer = self.by_name.entry(producer.into()).or_default();
        if producer.entries.insert(key.into(), (id, at_ms)).is_some() {
            producer.order.retain(|other| &**other != key);
        }
        producer.order.push_back(key.into());
        while let Some(oldest) = producer.order.front().filter(|_| producer.order.len() > 1) {
            let is_old =
                producer.entries.get(oldest).is_none_or(|(_, at_ms)| now_ms.saturating_sub(*at_ms) >= duration_ms);
            if !is_old && producer.order.len() <= self.keys_max {
                break;
            }
            if let Some(oldest) = producer.order.pop_front() {
                producer.entries.remove(&oldest);
            }
        }
    }

    /// New limits; other ones than before make it forget everything.
    pub fn configure(&mut self, duration_s: u64, keys_max: usize) {
        if (duration_s, keys_max) != (self.duration_s, self.keys_max) {
            (self.duration_s, self.keys_max) = (duration_s, keys_max);
            self.by_name.clear();
        }
    }

    /// Producers with their keys and the entries' ids, oldest first.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], impl ExactSizeIterator<Item = (&[u8], StreamId)>)> {
        self.by_name.iter().map(|(name, producer)| {
            let id = move |key: &[u8]| producer.entries.get(key).map_or(StreamId::MIN, |(id, _)| *id);
            (&**name, producer.order.iter().map(move |key| (&**key, id(key))))
        })
    }

    /// Bytes taken from the allocator, roughly.
    pub(super) fn memory(&self) -> usize {
        let key = size_of::<(Box<[u8]>, StreamId, i64)>() + size_of::<Box<[u8]>>();
        let mut sum = size_of::<Producers>();
        for (name, producer) in &self.by_name {
            let texts: usize = producer.order.iter().map(|text| 2 * text.len()).sum();
            sum += name.len() + size_of::<Producer>() + TREE_SLACK + texts + key * producer.order.len();
        }
        sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_remembered_for_a_time_and_up_to_a_number() {
        let mut producers = Producers::default();
        producers.configure(10, 3);
        let id = |n| StreamId::new(n, 0);
        for n in 0..5u8 {
            producers.record(b"p", &[n], id(u64::from(n)), 1000 * i64::from(n), 1000 * i64::from(n));
        }
        producers.record(b"q", &[4], id(9), 4000, 4000);
        assert_eq!((producers.producers_len(), producers.keys_len()), (2, 4));
        assert_eq!(producers.find(b"p", &[1], 4000), None, "too many");
        assert_eq!((producers.find(b"p", &[2], 4000), producers.find(b"q", &[4], 4000)), (Some(id(2)), Some(id(9))));
        assert_eq!((producers.find(b"p", &[2], 12_000), producers.find(b"p", &[3], 12_000)), (None, Some(id(3))));
        producers.record(b"p", &[7], id(20), 13_500, 13_500);
        let keys: Vec<(&[u8], StreamId)> = producers.iter().next().map(|(_, keys)| keys.collect()).unwrap_or_default();
        assert_eq!(keys, [(&[4u8][..], id(4)), (&[7], id(20))], "the old ones went");
        producers.configure(10, 3);
        assert_eq!(producers.keys_len(), 3);
        producers.configure(10, 4);
        assert_eq!(producers.keys_len(), 0);
    }
}
