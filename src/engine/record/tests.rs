//! Sizes, forms and overwriting in place.

use super::*;

fn text(record: &Record) -> Vec<u8> {
    match record.string_ref() {
        Some(StringRef::Int(value)) => value.to_string().into_bytes(),
        Some(StringRef::Bytes(bytes)) => bytes.to_vec(),
        None => panic!("a string was expected"),
    }
}

#[test]
fn sizes_that_the_memory_aims_rest_on() {
    let key = [b'k'; 16];
    assert_eq!(Record::string(&key, &[b'v'; 64], None).own_memory(), 96);
    assert_eq!(Record::string(&key, &[b'v'; 64], Some(1)).own_memory(), 96);
    assert_eq!(Record::string(&key, b"123456", None).own_memory(), 32);
}

#[test]
fn every_form_keeps_key_value_and_expiry() {
    let long_key = vec![b'K'; 70_000];
    for key in [b"k".as_slice(), b"", &long_key] {
        for value in
            [b"".as_slice(), b"abc", b"12", b"-9223372036854775808", b"012", &[b'x'; 255], &[b'y'; 256], &[b'z'; 5000]]
        {
            let mut record = Record::string(key, value, None);
            assert_eq!((record.key(), text(&record), record.expiry()), (key, value.to_vec(), None));
            record.set_access(0x00ab_cdef);
            record.set_expiry(Some(77));
            assert_eq!((record.key(), text(&record), record.expiry()), (key, value.to_vec(), Some(77)));
            record.set_expiry(None);
            assert_eq!(record.expiry(), None);
            assert_eq!(record.access(), 0x00ab_cdef);
            record.block_mut().expect("a string").append(b"!");
            assert_eq!((record.encoding(), text(&record).last()), ("raw", Some(&b'!')));
            assert_eq!(record.key(), key);
            assert!(record.memory(0) > key.len() + value.len().min(20));
            let copy = Record::with_value(b"copy", record.copy_value(), None);
            let moved = Record::with_value(b"moved", record.into_value(), Some(5));
            assert_eq!(text(&copy), text(&moved));
        }
    }
}

#[test]
fn overwrites_in_place_only_within_the_size_class() {
    let mut record = Record::string(b"0123456789abcdef", &[b'v'; 64], Some(9));
    assert!(record.overwrite_string(&[b'w'; 60]));
    assert_eq!((text(&record), record.expiry()), (vec![b'w'; 60], Some(9)));
    assert!(!record.overwrite_string(&[b'w'; 100]));
    assert!(!record.overwrite_string(b"12"));
    let mut number = Record::string(b"n", b"1", None);
    assert!(number.overwrite_string(b"-5") && number.overwrite_integer(7));
    assert_eq!(text(&number), b"7");
    assert!(!number.overwrite_string(b"x"));
}
