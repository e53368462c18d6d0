//! The listpack against a vector of texts, and its bytes against blobs as Redis writes them.

use proptest::prelude::*;

use super::*;

fn texts(pack: &Listpack) -> Vec<Vec<u8>> {
    pack.iter().map(|e| e.to_vec()).collect()
}

fn pack_of(texts: &[Vec<u8>]) -> Listpack {
    let mut pack = Listpack::new();
    texts.iter().for_each(|text| pack.push_back(text));
    pack
}

fn any_text() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..70),
        (0usize..3).prop_map(|i| vec![b'x'; [4090, 4100, 17_000][i]]),
        any::<i64>().prop_map(|v| v.to_string().into_bytes()),
        (-5000i64..5000).prop_map(|v| v.to_string().into_bytes()),
        (0u32..63, any::<bool>()).prop_map(|(bit, low)| ((1i64 << bit) - i64::from(low)).to_string().into_bytes()),
    ]
}

#[derive(Clone, Debug)]
enum Change {
    PushBack(Vec<u8>),
    PushFront(Vec<u8>),
    Before(usize, Vec<u8>),
    After(usize, Vec<u8>),
    Replace(usize, Vec<u8>),
    Remove(usize),
    RemoveRange(usize, usize),
    Split(usize),
}

fn any_change() -> impl Strategy<Value = Change> {
    let at = any::<usize>();
    prop_oneof![
        4 => any_text().prop_map(Change::PushBack),
        2 => any_text().prop_map(Change::PushFront),
        2 => (at, any_text()).prop_map(|(i, t)| Change::Before(i, t)),
        2 => (at, any_text()).prop_map(|(i, t)| Change::After(i, t)),
        2 => (at, any_text()).prop_map(|(i, t)| Change::Replace(i, t)),
        2 => at.prop_map(Change::Remove),
        1 => (at, 0usize..5).prop_map(|(i, n)| Change::RemoveRange(i, n)),
        1 => at.prop_map(Change::Split),
    ]
}

fn apply(change: Change, pack: &mut Listpack, model: &mut Vec<Vec<u8>>) {
    let len = model.len();
    let place = |i: usize| (i % len, (i % len) as i64);
    match change {
        Change::PushBack(text) => {
            pack.push_back(&text);
            model.push(text);
        }
        Change::PushFront(text) => {
            pack.push_front(&text);
            model.insert(0, text);
        }
        _ if len == 0 => {}
        Change::Before(i, text) => {
            let pos = pack.seek(place(i).1).unwrap();
            assert_eq!(pack.insert_before(pos, &text), pos);
            assert!(pack.get(pos).eq_bytes(&text));
            model.insert(place(i).0, text);
        }
        Change::After(i, text) => {
            let pos = pack.seek(place(i).1 - len as i64).unwrap();
            let new = pack.insert_after(pos, &text);
            assert!(pack.get(new).eq_bytes(&text));
            model.insert(place(i).0 + 1, text);
        }
        Change::Replace(i, text) => {
            let pos = pack.seek(place(i).1).unwrap();
            pack.replace(pos, &text);
            model[place(i).0] = text;
        }
        Change::Remove(i) => {
            let pos = pack.seek(place(i).1).unwrap();
            let next = pack.remove(pos);
            model.remove(place(i).0);
            assert_eq!(next.map(|pos| pack.get(pos).to_vec()), model.get(place(i).0).cloned());
        }
        Change::RemoveRange(i, n) => {
            pack.remove_range(place(i).1, n);
            model.drain(place(i).0..(place(i).0 + n).min(len));
        }
        Change::Split(i) => {
            let pos = pack.seek(place(i).1).unwrap();
            let tail = pack.split_off(pos);
            assert_eq!(texts(&tail), model[place(i).0..]);
            pack.append(&tail);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 4 } else { 256 }))]

    #[test]
    fn behaves_as_a_vector(changes in proptest::collection::vec(any_change(), 0..if cfg!(miri) { 20 } else { 40 })) {
        let (mut pack, mut model) = (Listpack::new(), Vec::new());
        for change in changes {
            apply(change, &mut pack, &mut model);
            prop_assert_eq!(pack.len(), model.len());
            prop_assert_eq!(texts(&pack), model.clone());
        }
        let mut backwards: Vec<_> = pack.iter().rev().map(|e| e.to_vec()).collect();
        backwards.reverse();
        prop_assert_eq!(backwards, model.clone());
        for (i, text) in model.iter().enumerate() {
            let pos = pack.find(text, None, 0).unwrap();
            prop_assert!(pack.get(pos).eq_bytes(text));
            prop_assert_eq!(pos, pack.seek(model.iter().position(|t| t == text).unwrap() as i64).unwrap());
            prop_assert_eq!(pack.seek(i as i64), pack.seek(i as i64 - model.len() as i64));
            prop_assert_eq!(pack.get(pos).len(), text.len());
        }
        prop_assert_eq!(pack.seek(model.len() as i64), None);
        prop_assert_eq!(pack.seek(-(model.len() as i64) - 1), None);
        let again = Listpack::from_bytes(pack.as_bytes()).unwrap();
        let copy = again.clone();
        prop_assert_eq!(copy.as_bytes(), pack.as_bytes());
    }

    #[test]
    fn damaged_bytes_are_refused_or_harmless(
        model in proptest::collection::vec(any_text(), 1..6), at in any::<usize>(), byte in any::<u8>(), cut in any::<bool>()
    ) {
        let mut bytes = pack_of(&model).as_bytes().to_vec();
        let at = at % bytes.len();
        if cut { bytes.truncate(at) } else { bytes[at] = byte }
        if let Some(pack) = Listpack::from_bytes(&bytes) {
            prop_assert_eq!(pack.iter().count(), pack.iter().rev().count());
            prop_assert_eq!(pack.len(), pack.iter().count());
        }
    }
}

#[test]
fn bytes_are_those_of_redis() {
    let mut pack = Listpack::new();
    pack.push_back(b"foo");
    pack.push_back(b"127");
    pack.push_back(b"-1");
    pack.push_back(b"70000");
    pack.push_back(b"007");
    let expected = b"\x1e\0\0\0\x05\0\x83foo\x04\x7f\x01\xdf\xff\x02\xf2\x70\x11\x01\x04\x83007\x04\xff";
    assert_eq!(pack.as_bytes(), &[&[expected.len() as u8], &expected[1..]].concat()[..]);
    assert_eq!(pack.find(b"007", None, 0).map(|p| pack.get(p)), Some(Element::Bytes(b"007")));
    assert_eq!(pack.find(b"7", None, 0), None);
}

#[test]
fn find_skips_values() {
    let pack = pack_of(&["a", "b", "b", "c", "5", "a"].map(|s| s.as_bytes().to_vec()));
    assert_eq!(pack.find(b"b", None, 1), pack.seek(2));
    assert_eq!(pack.find(b"c", None, 1), None);
    assert_eq!(pack.find(b"5", None, 1), pack.seek(4));
    assert_eq!(pack.find(b"a", pack.seek(1), 1), pack.seek(5));
}

#[test]
#[cfg_attr(miri, ignore)]
fn more_entries_than_the_header_counts() {
    let mut pack = Listpack::new();
    for i in 0..70_000 {
        pack.push_back_int(i % 100);
    }
    assert_eq!(pack.len(), 70_000);
    assert_eq!(pack.seek(69_999), pack.last());
    pack.remove_range(10, 69_980);
    assert_eq!(pack.len(), 20);
    assert!(Listpack::from_bytes(pack.as_bytes()).is_some());
}

#[test]
fn a_handle_is_one_word() {
    assert_eq!(size_of::<Option<Listpack>>(), size_of::<usize>());
    let raw = pack_of(&[b"x".to_vec()]).into_raw();
    assert_eq!(raw.as_ptr() as usize % 8, 0);
    // SAFETY: `raw` comes from `into_raw` just now.
    assert_eq!(unsafe { Listpack::from_raw(raw) }.len(), 1);
}
