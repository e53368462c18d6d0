//! The table against a map; SCAN's guarantee; uniform sampling; memory.

use super::*;
use crate::base::random::Random;
use proptest::prelude::*;
use std::collections::{HashMap, HashSet};

/// A test entry: a boxed key and value behind one word.
#[repr(transparent)]
struct Pair(NonNull<u8>);

impl Pair {
    fn new(key: &[u8], value: u32) -> Self {
        let boxed = Box::new((key.to_vec(), value));
        Pair(NonNull::from(Box::leak(boxed)).cast())
    }

    fn content(&self) -> &(Vec<u8>, u32) {
        // SAFETY: made by `new`.
        unsafe { self.0.cast().as_ref() }
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        // SAFETY: made by `new`, dropped once.
        drop(unsafe { Box::from_raw(self.0.cast::<(Vec<u8>, u32)>().as_ptr()) });
    }
}

// SAFETY: repr(transparent) over NonNull<u8>.
unsafe impl Entry for Pair {
    fn key(&self) -> &[u8] {
        &self.content().0
    }
}

fn key(n: u32) -> Vec<u8> {
    format!("key:{n}").into_bytes()
}

#[derive(Clone, Debug)]
enum Step {
    Put(u32, u32),
    Remove(u32),
    Mark(u32),
    Pause(bool),
    Drain,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        60 => (0..400u32, any::<u32>()).prop_map(|(k, v)| Step::Put(k, v)),
        30 => (0..400u32).prop_map(Step::Remove),
        8 => (0..400u32).prop_map(Step::Mark),
        2 => any::<bool>().prop_map(Step::Pause),
        1 => Just(Step::Drain),
    ];
    prop::collection::vec(step, 0..if cfg!(miri) { 60 } else { 1500 })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: if cfg!(miri) { 4 } else { 128 }, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn behaves_as_a_map(steps in steps()) {
        let mut table = Table::new();
        let mut model: HashMap<Vec<u8>, (u32, bool)> = HashMap::new();
        for step in steps {
            match step {
                Step::Put(k, v) => {
                    let old = table.replace(hash::bytes(&key(k)), Pair::new(&key(k), v)).map(|pair| pair.content().1);
                    let marked = model.get(&key(k)).is_some_and(|(_, marked)| *marked);
                    prop_assert_eq!(old, model.insert(key(k), (v, marked)).map(|(v, _)| v));
                }
                Step::Remove(k) => {
                    let old = table.remove(hash::bytes(&key(k)), &key(k)).map(|pair| pair.content().1);
                    prop_assert_eq!(old, model.remove(&key(k)).map(|(v, _)| v));
                }
                Step::Mark(k) => {
                    if let Some(place) = table.place(hash::bytes(&key(k)), &key(k)) {
                        table.set_mark(place, true);
                        model.get_mut(&key(k)).expect("in the table").1 = true;
                    }
                }
                Step::Pause(paused) => table.pause_resize(paused),
                Step::Drain => {
                    table.drain(drop);
                    model.clear();
                }
            }
            prop_assert_eq!(table.len(), model.len());
        }
        let content: HashMap<_, _> = table.iter().map(|pair| (pair.key().to_vec(), pair.content().1)).collect();
        prop_assert_eq!(content.len(), model.len());
        let mut marked = HashSet::new();
        for index in 0..table.buckets() {
            table.visit_marked(index, &mut |pair: &Pair| { marked.insert(pair.key().to_vec()); });
        }
        for (k, (v, mark)) in &model {
            prop_assert_eq!(content.get(k), Some(v));
            prop_assert_eq!(marked.contains(k), *mark);
        }
    }

    /// Every key present throughout a scan is returned, however the table changes between the calls.
    #[test]
    fn scan_misses_nothing(stable in 1..if cfg!(miri) { 80 } else { 300u32 }, churn in prop::collection::vec((any::<bool>(), 0..600u32), 0..if cfg!(miri) { 120 } else { 600 })) {
        let mut table = Table::new();
        for n in 0..stable {
            table.replace(hash::bytes(&key(n)), Pair::new(&key(n), 0));
        }
        let mut seen = HashSet::new();
        let mut cursor = 0;
        let mut churn = churn.into_iter();
        loop {
            cursor = table.scan(cursor, |pair| { seen.insert(pair.key().to_vec()); });
            if cursor == 0 {
                break;
            }
            for (add, n) in churn.by_ref().take(40) {
                let k = key(1000 + n);
                if add {
                    table.replace(hash::bytes(&k), Pair::new(&k, 1));
                } else {
                    table.remove(hash::bytes(&k), &k);
                }
            }
        }
        for n in 0..stable {
            prop_assert!(seen.contains(&key(n)), "key {} was missed", n);
        }
    }
}

#[test]
fn chains_shrink_as_their_entries_go() {
    let mut table = Table::new();
    table.pause_resize(true);
    for n in 0..60 {
        table.insert_new(hash::bytes(&key(n)), Pair::new(&key(n), n));
    }
    let full = table.memory();
    assert!(table.chain_lengths().len() > 2 * SLOTS, "three buckets to a chain at least");
    let mut random = Random::seeded(7);
    // From the front, where the last bucket of the chain gives its entries up for the holes, and from everywhere.
    for n in (0..20).chain((20..60).rev()) {
        assert!(table.random(&mut random).is_some());
        table.prefetch(hash::bytes(&key(n)), Ahead::Bucket);
        table.prefetch(hash::bytes(&key(n)), Ahead::Entry);
        assert_eq!(table.remove(hash::bytes(&key(n)), &key(n)).map(|pair| pair.content().1), Some(n));
        let rest: HashSet<u32> = table.iter().map(|pair| pair.content().1).collect();
        assert_eq!(rest.len(), table.len());
        assert!(!rest.contains(&n));
    }
    assert!(table.is_empty() && table.random(&mut random).is_none());
    assert!(table.memory() < full);
}

#[test]
#[cfg_attr(miri, ignore)]
fn random_is_uniform() {
    let mut table = Table::new();
    for n in 0..100 {
        table.insert_new(hash::bytes(&key(n)), Pair::new(&key(n), n));
    }
    let mut random = Random::seeded(7);
    let mut hits = [0f64; 100];
    for _ in 0..100_000 {
        hits[table.random(&mut random).expect("not empty").content().1 as usize] += 1.0;
    }
    let chi_square: f64 = hits.iter().map(|hits| (hits - 1000.0).powi(2) / 1000.0).sum();
    assert!(chi_square < 160.0, "chi square {chi_square} of 99 degrees of freedom");
}

#[test]
#[cfg_attr(miri, ignore)]
fn memory_stays_near_twelve_bytes_an_entry() {
    let mut table = Table::new();
    for n in 0..200_000 {
        table.insert_new(hash::bytes(&key(n)), Pair::new(&key(n), n));
    }
    let each = table.memory() as f64 / 200_000.0;
    assert!(each < 14.5, "{each} bytes an entry");
}
