use super::*;
use crate::base::number::IntText;
use proptest::prelude::*;
use std::collections::{BTreeMap, HashMap};

const NOW: i64 = 1_700_000_000_000;

fn hash_of(pairs: &[(&str, &str)], limits: &Limits) -> Hash {
    let mut hash = Hash::new();
    for (field, value) in pairs {
        hash.set(field.as_bytes(), value.as_bytes(), limits);
    }
    hash
}

type Model = BTreeMap<Vec<u8>, (Vec<u8>, Option<i64>)>;

fn content(hash: &Hash) -> Model {
    hash.iter().map(|entry| (entry.field.to_vec(), (entry.value.to_vec(), entry.expires_at))).collect()
}

#[test]
fn a_handle_is_one_word() {
    assert_eq!(size_of::<Option<Hash>>(), 8);
}

#[test]
fn encodings_follow_count_and_length() {
    let limits = Limits { hash_max_listpack_entries: 2, ..Limits::default() };
    let mut hash = hash_of(&[("a", "1"), ("b", "2")], &limits);
    assert_eq!(hash.encoding(), "listpack");
    assert!(!hash.set(b"b", b"3", &limits));
    assert_eq!(hash.encoding(), "listpack");
    assert!(hash.set(b"c", b"3", &limits));
    assert_eq!((hash.encoding(), hash.len()), ("hashtable", 3));
    let long = "x".repeat(65);
    assert_eq!(hash_of(&[("a", &long)], &limits).encoding(), "hashtable");
    assert_eq!(hash_of(&[(&long, "a")], &limits).encoding(), "hashtable");

    let mut expecting = Hash::new();
    expecting.expect(1, [1, 64].into_iter(), &limits);
    assert_eq!(expecting.encoding(), "listpack");
    expecting.expect(1, [1, 65].into_iter(), &limits);
    assert_eq!(expecting.encoding(), "hashtable");
    assert_eq!(Hash::for_fields(3, &limits).encoding(), "hashtable");
}

#[test]
fn values_change_in_every_form() {
    for entries in [0, 10] {
        let limits = Limits { hash_max_listpack_entries: entries, ..Limits::default() };
        let mut hash = hash_of(&[("a", "1"), ("b", "text")], &limits);
        assert_eq!(hash.get(b"a", NOW).map(|value| value.to_vec()), Some(b"1".to_vec()));
        for len in [0usize, 3, 14, 15, 40, 41, 64, 2] {
            let value = vec![b'v'; len];
            assert!(!hash.set(b"b", &value, &limits));
            assert!(hash.get(b"b", NOW).expect("is there").eq_bytes(&value));
        }
        assert!(!hash.set_nx(b"a", b"2", &limits) && hash.set_nx(b"c", b"2", &limits));
        assert!(hash.remove(b"a") && !hash.remove(b"a") && !hash.contains(b"a", NOW));
        assert_eq!(hash.len(), 2);
    }
}

#[test]
fn foreign_blobs_are_checked() {
    let limits = Limits::default();
    let good = hash_of(&[("a", "1"), ("b", "1"), ("7", "7")], &limits);
    let Packed::Pairs(blob) = good.as_packed() else { panic!("pairs expected") };
    assert_eq!(content(&Hash::from_pairs_blob(blob, &limits).expect("our own blob")), content(&good));
    let few = Limits { hash_max_listpack_entries: 2, ..Limits::default() };
    assert_eq!(Hash::from_pairs_blob(blob, &few).expect("our own blob").encoding(), "hashtable");
    let spoiled: [&[&[u8]]; 3] = [&[], &[b"a", b"1", b"b"], &[b"a", b"1", b"a", b"2"]];
    for elements in spoiled {
        let mut packed = Listpack::new();
        elements.iter().for_each(|element| packed.push_back(element));
        assert!(Hash::from_pairs_blob(packed.as_bytes(), &limits).is_none(), "{packed:?}");
        assert!(Hash::from_triples_blob(packed.as_bytes(), &limits).is_none(), "{packed:?}");
    }
}

/// The bar is 55 bytes of memory for a field and a value of 15 bytes each.
#[test]
#[cfg_attr(miri, ignore)]
fn a_field_of_thirty_bytes_costs_48_at_most() {
    let limits = Limits::default();
    let mut hash = Hash::new();
    let count = 100_000;
    for n in 0..count {
        hash.set(format!("field:{n:09}").as_bytes(), format!("value:{n:09}").as_bytes(), &limits);
    }
    let each = hash.memory_usage(0) as f64 / f64::from(count);
    assert!(each <= 48.0, "{each} bytes a field");
}

/// The bar is 27 bytes of memory per field of a hash of ten, 17 of them content; its key comes on top.
#[test]
fn ten_small_fields_cost_their_listpack() {
    let mut hash = Hash::new();
    for n in 0..10u8 {
        hash.set(format!("field{n}").as_bytes(), format!("value{n:06}").as_bytes(), &Limits::default());
    }
    assert!(hash.memory_usage(0) <= 224, "{} bytes", hash.memory_usage(0));
}

#[test]
#[cfg_attr(miri, ignore)]
fn random_fields_are_near_uniform() {
    for entries in [0, 100] {
        let limits = Limits { hash_max_listpack_entries: entries, ..Limits::default() };
        let mut hash = Hash::new();
        for n in 0..60 {
            hash.set(format!("f{n}").as_bytes(), b"v", &limits);
        }
        let mut random = Random::seeded(3);
        let mut hits: HashMap<Vec<u8>, f64> = HashMap::new();
        for _ in 0..60_000 {
            *hits.entry(hash.random(&mut random).expect("not empty").field.to_vec()).or_default() += 1.0;
        }
        let chi_square: f64 = hits.values().map(|hits| (hits - 1000.0).powi(2) / 1000.0).sum();
        assert!(hits.len() == 60 && chi_square < 105.0, "chi square {chi_square} of 59 degrees of freedom");
    }
}

#[derive(Clone, Debug)]
enum Step {
    Set(Vec<u8>, Vec<u8>),
    SetKeeping(Vec<u8>, Vec<u8>),
    SetNx(Vec<u8>, Vec<u8>),
    Remove(Vec<u8>),
    Expire(Vec<u8>, Option<i64>),
    TakeExpired(usize),
    Tick(i64),
}

fn text() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        4 => (0i64..25).prop_map(|value| IntText::new(value).to_vec()),
        4 => "[a-c]{0,2}".prop_map(String::into_bytes),
        1 => any::<i64>().prop_map(|value| IntText::new(value).to_vec()),
        1 => (0usize..70).prop_map(|len| vec![b'x'; len]),
        1 => (240usize..260).prop_map(|len| vec![b'y'; len]),
    ]
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => (text(), text()).prop_map(|(field, value)| Step::Set(field, value)),
        2 => (text(), text()).prop_map(|(field, value)| Step::SetKeeping(field, value)),
        1 => (text(), text()).prop_map(|(field, value)| Step::SetNx(field, value)),
        2 => text().prop_map(Step::Remove),
        4 => (text(), prop::option::weighted(0.8, NOW..NOW + 50)).prop_map(|(field, expiry)| Step::Expire(field, expiry)),
        1 => (0usize..4).prop_map(Step::TakeExpired),
        1 => (0i64..10).prop_map(Step::Tick),
    ];
    prop::collection::vec(step, 0..if cfg!(miri) { 30 } else { 200 })
}

/// Runs one step on both; what the hash answered must be what the model answers.
fn run(hash: &mut Hash, model: &mut Model, now: &mut i64, step: Step, limits: &Limits) -> Result<(), TestCaseError> {
    match step {
        Step::Set(field, value) => {
            prop_assert_eq!(hash.set(&field, &value, limits), model.insert(field, (value, None)).is_none());
        }
        Step::SetKeeping(field, value) => {
            let kept = model.get(&field).and_then(|(_, expires_at)| *expires_at);
            prop_assert_eq!(hash.set_keeping_ttl(&field, &value, limits), model.insert(field, (value, kept)).is_none());
        }
        Step::SetNx(field, value) => {
            let absent = !model.contains_key(&field);
            prop_assert_eq!(hash.set_nx(&field, &value, limits), absent);
            model.entry(field).or_insert((value, None));
        }
        Step::Remove(field) => prop_assert_eq!(hash.remove(&field), model.remove(&field).is_some()),
        Step::Expire(field, expires_at) => {
            prop_assert_eq!(hash.set_expiry(&field, expires_at), model.contains_key(&field));
            if let Some(entry) = model.get_mut(&field) {
                entry.1 = expires_at;
            }
        }
        Step::TakeExpired(limit) => {
            let mut expired: Vec<i64> = model.values().filter_map(|(_, at)| at.filter(|at| *at < *now)).collect();
            expired.sort_unstable();
            expired.truncate(limit);
            let taken = hash.take_expired(*now, limit);
            let times: Vec<_> = taken.iter().filter_map(|field| model.remove(field)).filter_map(|(_, at)| at).collect();
            prop_assert_eq!(times, expired);
        }
        Step::Tick(ms) => *now += ms,
    }
    prop_assert_eq!(hash.len(), model.len());
    prop_assert_eq!(hash.earliest_expiry(), model.values().filter_map(|(_, at)| *at).min());
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: if cfg!(miri) { 4 } else { 192 }, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn behaves_as_a_btree_map(steps in steps(), entries in 0usize..30, value_limit in 10usize..300, seed in any::<u64>()) {
        let limits = Limits { hash_max_listpack_entries: entries, hash_max_listpack_value: value_limit, ..Limits::default() };
        let (mut hash, mut model, mut now) = (Hash::new(), Model::new(), NOW);
        for step in steps {
            run(&mut hash, &mut model, &mut now, step, &limits)?;
        }
        prop_assert_eq!(&content(&hash), &model);
        prop_assert_eq!(&content(&hash.clone()), &model);
        prop_assert_eq!(hash.clone().earliest_expiry(), hash.earliest_expiry());
        let live = model.values().filter(|(_, at)| at.is_none_or(|at| at >= now)).count();
        prop_assert_eq!(hash.live_len(now), live);
        for (field, (value, expires_at)) in &model {
            let found = hash.find(field).expect("in the model");
            prop_assert!(found.value.eq_bytes(value));
            prop_assert_eq!(hash.expiry(field), Some(*expires_at));
            prop_assert_eq!(hash.contains(field, now), expires_at.is_none_or(|at| at >= now));
        }
        let mut random = Random::seeded(seed);
        prop_assert_eq!(hash.random(&mut random).is_some_and(|entry| model.contains_key(&entry.field.to_vec())), !model.is_empty());
        let (mut scanned, mut cursor) = (Model::new(), 0);
        loop {
            cursor = hash.scan(cursor, |entry| { scanned.insert(entry.field.to_vec(), (entry.value.to_vec(), entry.expires_at)); });
            if cursor == 0 {
                break;
            }
        }
        prop_assert_eq!(&scanned, &model);
        let reloaded = match hash.as_packed() {
            Packed::Pairs(blob) => Hash::from_pairs_blob(blob, &limits),
            Packed::Triples(blob) => Hash::from_triples_blob(blob, &limits),
            Packed::Table => Some(hash.clone()),
        };
        prop_assert_eq!(reloaded.map(|hash| content(&hash)), Some(model).filter(|model| !model.is_empty() || hash.encoding() == "hashtable"));
    }
}
