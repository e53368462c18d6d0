use super::*;
use proptest::prelude::*;
use std::collections::{BTreeSet, HashMap};

fn set_of(members: &[&str], limits: &Limits) -> Set {
    let mut set = Set::for_members(members[0].as_bytes(), members.len(), limits);
    for member in members {
        set.add(member.as_bytes(), limits);
    }
    set
}

fn texts(set: &Set) -> BTreeSet<Vec<u8>> {
    set.iter().map(|member| member.to_vec()).collect()
}

#[test]
fn a_handle_is_one_word() {
    assert_eq!(size_of::<Option<Set>>(), 8);
}

#[test]
fn encodings_follow_the_members() {
    let limits = Limits::default();
    assert_eq!(set_of(&["1", "2"], &limits).encoding(), "intset");
    assert_eq!(set_of(&["1", "a"], &limits).encoding(), "listpack");
    assert_eq!(set_of(&["a", "01"], &limits).encoding(), "listpack");
    let long = "x".repeat(65);
    assert_eq!(set_of(&["1", &long], &limits).encoding(), "hashtable");
    assert_eq!(set_of(&["a", &long], &limits).encoding(), "hashtable");
}

#[test]
fn encodings_follow_the_count() {
    let limits = Limits { set_max_intset_entries: 8, set_max_listpack_entries: 4, ..Limits::default() };
    let mut set = Set::new();
    for value in 0..8 {
        set.add(value.to_string().as_bytes(), &limits);
    }
    assert_eq!(set.encoding(), "intset");
    let mut mixed = set.clone();
    mixed.add(b"a", &limits);
    assert_eq!((mixed.encoding(), mixed.len()), ("hashtable", 9));
    set.add(b"8", &limits);
    assert_eq!((set.encoding(), set.len()), ("hashtable", 9));
    set.remove(b"8");
    set.compact(&limits);
    assert_eq!(set.encoding(), "intset");

    let mut packed = set_of(&["a", "b", "c", "d"], &limits);
    assert_eq!(packed.encoding(), "listpack");
    assert!(!packed.add(b"d", &limits));
    assert_eq!(packed.encoding(), "listpack");
    packed.add(b"e", &limits);
    assert_eq!(packed.encoding(), "hashtable");
    assert_eq!(Set::for_members(b"1", 9, &limits).encoding(), "hashtable");
    let mut expecting = Set::new();
    expecting.expect(9, &limits);
    assert_eq!(expecting.encoding(), "hashtable");
}

#[test]
fn foreign_blobs_are_checked() {
    let limits = Limits::default();
    let good = set_of(&["a", "5", "b"], &limits);
    let Packed::Listpack(blob) = good.as_packed() else { panic!("a listpack expected") };
    assert_eq!(texts(&Set::from_listpack_blob(blob, &limits).expect("our own blob")), texts(&good));
    let few = Limits { set_max_listpack_entries: 2, set_max_intset_entries: 1, ..Limits::default() };
    assert_eq!(Set::from_listpack_blob(blob, &few).expect("our own blob").encoding(), "hashtable");

    let mut twice = Listpack::new();
    twice.push_back(b"a");
    twice.push_back(b"a");
    assert!(Set::from_listpack_blob(twice.as_bytes(), &limits).is_none());
    assert!(Set::from_listpack_blob(Listpack::new().as_bytes(), &limits).is_none());
    assert!(Set::from_listpack_blob(&blob[..blob.len() - 1], &limits).is_none());

    let integers = set_of(&["1", "2"], &limits);
    let Packed::Intset(blob) = integers.as_packed() else { panic!("an intset expected") };
    assert_eq!(Set::from_intset_blob(blob, &limits).expect("our own blob").len(), 2);
    assert_eq!(Set::from_intset_blob(blob, &few).expect("our own blob").encoding(), "hashtable");
}

#[test]
fn long_members_keep_their_bytes() {
    const LONG: usize = if cfg!(miri) { 300 } else { 70_000 };
    let limits = Limits::default();
    let members: Vec<String> = [0, 1, 247, 248, 255, 256, LONG].iter().map(|len| "m".repeat(*len)).collect();
    let set = set_of(&members.iter().map(String::as_str).collect::<Vec<_>>(), &limits);
    assert_eq!(set.encoding(), "hashtable");
    assert_eq!(texts(&set), members.iter().map(|member| member.clone().into_bytes()).collect());
    assert!(set.memory_usage(0) > LONG);
}

#[test]
#[cfg_attr(miri, ignore)]
fn random_members_are_near_uniform() {
    let limits = Limits::default();
    for members in [(0..60).map(|n| n.to_string()).collect(), (0..60).map(|n| format!("m{n}")).collect::<Vec<_>>()] {
        let set = set_of(&members.iter().map(String::as_str).collect::<Vec<_>>(), &limits);
        let mut random = Random::seeded(3);
        let mut hits: HashMap<Vec<u8>, f64> = HashMap::new();
        for _ in 0..60_000 {
            *hits.entry(set.random(&mut random).expect("not empty").to_vec()).or_default() += 1.0;
        }
        let chi_square: f64 = hits.values().map(|hits| (hits - 1000.0).powi(2) / 1000.0).sum();
        assert!(hits.len() == 60 && chi_square < 105.0, "chi square {chi_square} of 59 degrees of freedom");
    }
}

/// The bar is 45 bytes of memory for a member of 16 bytes.
#[test]
#[cfg_attr(miri, ignore)]
fn a_member_of_sixteen_bytes_costs_32_at_most() {
    let limits = Limits::default();
    let mut set = Set::new();
    let count = 100_000;
    for n in 0..count {
        set.add(format!("member:{n:09}").as_bytes(), &limits);
    }
    let each = set.memory_usage(0) as f64 / f64::from(count);
    assert!(each <= 32.0, "{each} bytes a member");
}

fn member() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        6 => (-30i64..30).prop_map(|value| value.to_string().into_bytes()),
        1 => any::<i64>().prop_map(|value| value.to_string().into_bytes()),
        2 => "[a-c0-2]{0,3}".prop_map(String::into_bytes),
        1 => (0usize..9).prop_map(|units| vec![b'y'; units * 16]),
        1 => (60usize..300).prop_map(|len| vec![b'x'; len]),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: if cfg!(miri) { 4 } else { 128 }, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn behaves_as_a_btree_set(
        steps in prop::collection::vec((0..10u8, member()), 0..if cfg!(miri) { 30 } else { 250 }),
        entries in 1usize..40,
        seed in any::<u64>(),
    ) {
        let limits = Limits { set_max_intset_entries: entries, set_max_listpack_entries: entries, ..Limits::default() };
        let (mut set, mut model) = (Set::new(), BTreeSet::new());
        let mut random = Random::seeded(seed);
        for (step, member) in steps {
            match step {
                0..=5 => prop_assert_eq!(set.add(&member, &limits), model.insert(member.clone())),
                6 | 7 => prop_assert_eq!(set.remove(&member), model.remove(&member)),
                8 => {
                    let popped = set.pop(&mut random);
                    prop_assert_eq!(popped.is_some(), !model.is_empty());
                    prop_assert!(popped.is_none_or(|popped| model.remove(&popped)));
                }
                _ => set.compact(&limits),
            }
            prop_assert_eq!(set.contains(&member), model.contains(&member));
            prop_assert_eq!(set.len(), model.len());
        }
        prop_assert_eq!(&texts(&set), &model);
        prop_assert_eq!(&texts(&set.clone()), &model);
        prop_assert!(set.iter().all(|member| set.contains_element(member)));
        let mut union = Set::new();
        set.iter().for_each(|member| { union.add_element(member, &limits); });
        prop_assert_eq!(&texts(&union), &model);
        let (mut scanned, mut cursor) = (BTreeSet::new(), 0);
        loop {
            cursor = set.scan(cursor, |member| { scanned.insert(member.to_vec()); });
            if cursor == 0 {
                break;
            }
        }
        prop_assert_eq!(&scanned, &model);
    }
}
