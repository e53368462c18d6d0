//! The sorted set against an ordered set of (score, member), small and big.

use std::collections::{BTreeSet, HashMap};

use proptest::prelude::*;

use super::*;

/// Scores whose order as pairs is that of the set: no zeros of either sign among them.
const SCORES: [f64; 12] =
    [f64::NEG_INFINITY, -1e300, -2.5, -1.0, 0.1, 0.25, 1.0, 2.0, 3.0, 1e17, 1.5e300, f64::INFINITY];

#[derive(Clone, Debug)]
enum Change {
    Insert(usize, Vec<u8>),
    Many(u16, usize),
    Remove(Vec<u8>),
    RemoveOne(usize),
    RemoveRanks(usize, usize),
    Pack,
    Reload,
}

fn any_member() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        (0i64..40).prop_map(|v| v.to_string().into_bytes()),
        proptest::collection::vec(b'a'..b'c', 0..4),
        proptest::collection::vec(any::<u8>(), 0..30),
    ]
}

fn any_change() -> impl Strategy<Value = Change> {
    let at = any::<usize>();
    prop_oneof![
        8 => (0..SCORES.len(), any_member()).prop_map(|(s, m)| Change::Insert(s, m)),
        1 => (1u16..if cfg!(miri) { 40 } else { 300 }, 0..SCORES.len()).prop_map(|(n, s)| Change::Many(n, s)),
        1 => any_member().prop_map(Change::Remove),
        2 => at.prop_map(Change::RemoveOne),
        1 => (at, 0usize..200).prop_map(|(i, n)| Change::RemoveRanks(i, n)),
        1 => Just(Change::Pack),
        1 => Just(Change::Reload),
    ]
}

/// The naive sorted set.
#[derive(Default)]
struct Model {
    scores: HashMap<Vec<u8>, usize>,
    order: BTreeSet<(usize, Vec<u8>)>,
}

impl Model {
    fn insert(&mut self, member: Vec<u8>, score: usize) -> super::Change {
        let old = self.scores.insert(member.clone(), score);
        if let Some(old) = old {
            self.order.remove(&(old, member.clone()));
        }
        self.order.insert((score, member));
        match old {
            None => super::Change::Added,
            Some(old) if old == score => super::Change::Same,
            Some(old) => super::Change::Updated(SCORES[old]),
        }
    }

    fn remove(&mut self, member: &[u8]) -> Option<f64> {
        let old = self.scores.remove(member)?;
        self.order.remove(&(old, member.to_vec()));
        Some(SCORES[old])
    }

    fn pairs(&self) -> Vec<(Vec<u8>, f64)> {
        self.order.iter().map(|(score, member)| (member.clone(), SCORES[*score])).collect()
    }
}

fn pairs<'a>(iter: impl Iterator<Item = (Element<'a>, f64)>) -> Vec<(Vec<u8>, f64)> {
    iter.map(|(member, score)| (member.to_vec(), score)).collect()
}

fn apply(change: Change, zset: &mut ZSet, model: &mut Model, limits: &Limits) {
    match change {
        Change::Insert(score, member) => {
            assert_eq!(zset.insert(&member, SCORES[score], limits), model.insert(member, score));
        }
        Change::Many(n, score) => (0..n).for_each(|i| {
            let (member, score) = (format!("m{}", i * 7).into_bytes(), (score + usize::from(i)) % SCORES.len());
            assert_eq!(zset.insert(&member, SCORES[score], limits), model.insert(member, score));
        }),
        Change::Remove(member) => assert_eq!(zset.remove(&member), model.remove(&member)),
        Change::RemoveOne(i) => {
            if let Some((member, score)) = model.pairs().into_iter().nth(i % (model.order.len() + 1)) {
                assert_eq!(zset.remove(&member), Some(score));
                model.remove(&member);
            }
        }
        Change::RemoveRanks(i, n) => {
            let start = i % (model.order.len() + 1);
            let expected: Vec<_> = model.pairs().into_iter().skip(start).take(n).collect();
            let mut gone = Vec::new();
            assert_eq!(zset.remove_ranks(start..start + n, |m, s| gone.push((m.to_vec(), s))), expected.len());
            assert_eq!(gone, expected);
            expected.iter().for_each(|(member, _)| _ = model.remove(member));
        }
        Change::Pack => zset.pack_if_small(limits),
        Change::Reload => {
            if let Some(pack) = zset.as_pack() {
                *zset = ZSet::from_pack(Listpack::from_bytes(pack.as_bytes()).unwrap(), limits).unwrap();
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 3 } else { 256 }))]

    #[test]
    fn behaves_as_an_ordered_set(
        entries in prop_oneof![Just(0usize), Just(3), Just(30), Just(128)],
        changes in proptest::collection::vec(any_change(), 0..if cfg!(miri) { 20 } else { 60 }),
        a in any::<usize>(), b in 0..SCORES.len(), c in 0..SCORES.len(), open: (bool, bool)
    ) {
        let limits = Limits { zset_max_listpack_entries: entries, zset_max_listpack_value: 20, ..Limits::default() };
        let (mut zset, mut model) = (ZSet::new(), Model::default());
        for change in changes {
            apply(change, &mut zset, &mut model, &limits);
            prop_assert_eq!(zset.len(), model.order.len());
        }
        let all = model.pairs();
        prop_assert_eq!(pairs(zset.iter()), all.clone());
        prop_assert_eq!(pairs(zset.clone().iter()), all.clone());
        let start = a % (all.len() + 1);
        let ranks = start..start + 10;
        let part = &all[start..(start + 10).min(all.len())];
        prop_assert_eq!(pairs(zset.range(ranks.clone())), part.to_vec());
        prop_assert_eq!(pairs(zset.range_rev(ranks)), part.iter().rev().cloned().collect::<Vec<_>>());
        let bound = |i: usize, open| if open { ScoreBound::Exclusive(SCORES[i]) } else { ScoreBound::Inclusive(SCORES[i]) };
        let range = ScoreRange { min: bound(b, open.0), max: bound(c, open.1) };
        let expected: Vec<_> = all.iter().filter(|(_, score)| range.contains(*score)).cloned().collect();
        prop_assert_eq!(pairs(zset.range(zset.score_ranks(&range))), expected);
        let mut scanned = Vec::new();
        let mut cursor = 0;
        loop {
            cursor = zset.scan(cursor, |member, score| scanned.push((member.to_vec(), score)));
            if cursor == 0 { break }
        }
        prop_assert_eq!(scanned.len(), all.len());
        for (rank, (member, score)) in all.iter().enumerate() {
            prop_assert_eq!(zset.rank(member), Some((rank, *score)));
            prop_assert_eq!(zset.score(member), Some(*score));
        }
        prop_assert!(zset.score(b"absent").is_none() && zset.rank(b"absent").is_none());
        let (was_big, fits) = (zset.as_pack().is_none(), all.len() <= entries && all.iter().all(|(m, _)| m.len() <= 20));
        prop_assert!(was_big || fits);
        zset.pack_if_small(&limits);
        prop_assert_eq!(zset.as_pack().is_some(), fits);
        prop_assert_eq!(pairs(zset.iter()), all);
    }

    #[test]
    fn members_of_one_score_are_in_the_order_of_their_bytes(
        members in proptest::collection::btree_set(any_member(), 0..if cfg!(miri) { 40 } else { 200 }), min in any_member(), max in any_member(), big: bool
    ) {
        let limits = Limits { zset_max_listpack_entries: if big { 0 } else { 1000 }, ..Limits::default() };
        let mut zset = ZSet::new();
        members.iter().for_each(|m| _ = zset.insert(m, 0.0, &limits));
        for (low, high) in [
            (LexBound::Inclusive(&min), LexBound::Exclusive(&max)),
            (LexBound::Exclusive(&min), LexBound::Inclusive(&max)),
            (LexBound::Min, LexBound::Inclusive(&max)),
            (LexBound::Exclusive(&min), LexBound::Max),
            (LexBound::Min, LexBound::Max),
            (LexBound::Max, LexBound::Min),
        ] {
            let range = LexRange { min: low, max: high };
            let expected: Vec<_> =
                members.iter().filter(|m| low.admits_from_below(m) && high.admits_from_above(m)).cloned().collect();
            let found: Vec<_> = zset.range(zset.lex_ranks(&range)).map(|(m, _)| m.to_vec()).collect();
            prop_assert_eq!(found, expected);
        }
    }
}

#[test]
fn scores_change_where_they_stand_and_across() {
    let limits = Limits { zset_max_listpack_entries: 0, ..Limits::default() };
    let mut zset = ZSet::new();
    for n in 0..100u32 {
        zset.insert(format!("m{n:02}").as_bytes(), f64::from(n * 10), &limits);
    }
    assert!(zset.as_pack().is_none());
    let order = |zset: &ZSet| pairs(zset.range(40..43));
    let expected = |three: [(&str, f64); 3]| three.map(|(member, score)| (member.as_bytes().to_vec(), score)).to_vec();
    // Within its neighbours, then past them, then back to where it was.
    assert_eq!(zset.insert(b"m41", 419.0, &limits), super::Change::Updated(410.0));
    assert_eq!(order(&zset), expected([("m40", 400.0), ("m41", 419.0), ("m42", 420.0)]));
    assert_eq!(zset.insert(b"m41", 421.0, &limits), super::Change::Updated(419.0));
    assert_eq!(order(&zset), expected([("m40", 400.0), ("m42", 420.0), ("m41", 421.0)]));
    assert_eq!(zset.insert(b"m41", 410.0, &limits), super::Change::Updated(421.0));
    assert_eq!(order(&zset), expected([("m40", 400.0), ("m41", 410.0), ("m42", 420.0)]));
    for n in 0..100u32 {
        zset.insert(format!("m{n:02}").as_bytes(), f64::from(1000 - n), &limits);
    }
    assert_eq!((zset.rank(b"m99"), zset.rank(b"m00"), zset.len()), (Some((0, 901.0)), Some((99, 1000.0)), 100));
}

#[test]
fn scores_are_stored_as_redis_stores_them() {
    let limits = Limits::default();
    let mut zset = ZSet::new();
    for (member, score) in [("a", 1.0), ("b", 1.5), ("c", f64::INFINITY), ("d", -7e4), ("e", 1e30), ("f", -0.0)] {
        zset.insert(member.as_bytes(), score, &limits);
    }
    let texts: Vec<Vec<u8>> = zset.as_pack().unwrap().iter().map(|e| e.to_vec()).collect();
    assert_eq!(texts.join(&b' '), b"d -70000 f 0 a 1 b 1.5 e 1e30 c inf");
}

#[test]
fn packs_from_outside_are_not_trusted() {
    let limits = Limits::default();
    let pack = |texts: &[&str]| {
        let mut pack = Listpack::new();
        texts.iter().for_each(|text| pack.push_back(text.as_bytes()));
        ZSet::from_pack(pack, &limits)
    };
    assert!(pack(&["a", "1", "b"]).is_none());
    assert!(pack(&["a", "1", "b", "x"]).is_none());
    assert!(pack(&["a", "nan"]).is_none());
    assert!(pack(&["a", "1", "a", "2"]).is_none());
    let unsorted = pack(&["b", "2", "a", "1"]).unwrap();
    assert_eq!(pairs(unsorted.iter()), [(b"a".to_vec(), 1.0), (b"b".to_vec(), 2.0)]);
    assert_eq!(unsorted.encoding(), "listpack");
}

#[test]
#[cfg_attr(miri, ignore)]
fn a_member_of_16_bytes_costs_less_than_60() {
    let limits = Limits::default();
    for shuffled in [false, true] {
        let mut zset = ZSet::new();
        for i in 0..300_000u32 {
            let score = if shuffled { i.wrapping_mul(2_654_435_761) } else { i };
            zset.insert(format!("member:{i:09}").as_bytes(), f64::from(score), &limits);
        }
        let per_member = zset.memory() as f64 / 3e5;
        assert!(per_member < 60.0, "{per_member} bytes per member, shuffled: {shuffled}");
    }
}
