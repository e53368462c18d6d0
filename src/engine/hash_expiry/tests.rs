use super::*;
use crate::engine::hash::Packed;
use crate::engine::limits::Limits;

const NOW: i64 = 1_700_000_000_000;

fn hash_of(fields: &[&str], limits: &Limits) -> Hash {
    let mut hash = Hash::new();
    for field in fields {
        hash.set(field.as_bytes(), b"v", limits);
    }
    hash
}

fn order_of(hash: &Hash) -> Vec<String> {
    hash.iter().map(|entry| String::from_utf8_lossy(&entry.field.to_vec()).into_owned()).collect()
}

#[test]
fn packed_fields_stand_in_the_order_of_expiry() {
    let limits = Limits::default();
    let mut hash = hash_of(&["a", "b", "c", "d"], &limits);
    assert!(!hash.set_expiry(b"missing", Some(NOW)));
    assert_eq!(hash.encoding(), "listpack");
    assert!(hash.set_expiry(b"c", Some(NOW + 20)) && hash.set_expiry(b"d", Some(NOW + 10)));
    assert_eq!(hash.encoding(), "listpackex");
    assert_eq!(order_of(&hash), ["d", "c", "a", "b"]);
    hash.set(b"d", b"w", &limits);
    assert_eq!(order_of(&hash), ["c", "a", "b", "d"]);
    hash.set_keeping_ttl(b"c", b"w", &limits);
    assert_eq!((hash.expiry(b"c"), hash.earliest_expiry()), (Some(Some(NOW + 20)), Some(NOW + 20)));
    assert!(hash.set_expiry(b"c", None) && !hash.has_expiries());
    assert_eq!(hash.encoding(), "listpackex");
}

#[test]
fn expired_fields_are_hidden_counted_and_taken() {
    for entries in [0, 100] {
        let limits = Limits { hash_max_listpack_entries: entries, ..Limits::default() };
        let mut hash = hash_of(&["a", "b", "c", "d"], &limits);
        for (field, at) in [(b"a", 3), (b"b", 1), (b"c", 2)] {
            hash.set_expiry(field, Some(NOW + at));
        }
        assert!(hash.contains(b"b", NOW + 1) && !hash.contains(b"b", NOW + 2));
        assert_eq!((hash.len(), hash.live_len(NOW + 3)), (4, 2));
        assert!(hash.take_expired(NOW + 1, 10).is_empty());
        assert_eq!(hash.take_expired(NOW + 9, 2), [b"b".to_vec(), b"c".to_vec()]);
        assert_eq!(hash.take_expired(NOW + 9, 2), [b"a".to_vec()]);
        assert_eq!((hash.len(), hash.has_expiries()), (1, false));
    }
}

#[test]
fn a_table_takes_over_expiries() {
    let limits = Limits { hash_max_listpack_entries: 3, ..Limits::default() };
    let mut hash = hash_of(&["a", "b", "c"], &limits);
    hash.set_expiry(b"b", Some(NOW));
    assert_eq!(hash.encoding(), "listpackex");
    hash.set(b"d", b"v", &limits);
    assert_eq!((hash.encoding(), hash.expiry(b"b"), hash.earliest_expiry()), ("hashtable", Some(Some(NOW)), Some(NOW)));
    hash.remove(b"b");
    assert!(!hash.has_expiries());
}

#[test]
fn foreign_triples_are_checked_and_put_in_order() {
    let limits = Limits::default();
    let packed = |elements: &[&[u8]]| {
        let mut packed = Listpack::new();
        elements.iter().for_each(|element| packed.push_back(element));
        Hash::from_triples_blob(packed.as_bytes(), &limits)
    };
    let sorted = packed(&[b"a", b"1", b"0", b"b", b"2", b"7", b"c", b"3", b"5"]).expect("well-formed");
    assert_eq!(order_of(&sorted), ["c", "b", "a"]);
    let Packed::Triples(blob) = sorted.as_packed() else { panic!("triples expected") };
    assert_eq!(order_of(&Hash::from_triples_blob(blob, &limits).expect("our own blob")), ["c", "b", "a"]);
    let spoiled: [&[&[u8]]; 5] = [
        &[],
        &[b"a", b"1", b"0", b"b"],
        &[b"a", b"1", b"x"],
        &[b"a", b"1", b"-5"],
        &[b"a", b"1", b"0", b"a", b"2", b"7"],
    ];
    for elements in spoiled {
        assert!(packed(elements).is_none(), "{elements:?}");
    }
    assert!(packed(&[b"a", b"1", (MAX_EXPIRY + 1).to_string().as_bytes()]).is_none());
}
