//! What is written is read back; what is damaged is refused; hostile bytes do no harm.

use super::encode::{AccessData, Options};
use super::format::{self, Lineage, kind};
use super::reader::{Access, Reader};
use super::{Fault, Item, Writer, dump, value};
use crate::engine::hash::Hash;
use crate::engine::limits::Limits;
use crate::engine::list::List;
use crate::engine::quicklist::End;
use crate::engine::record::Record;
use crate::engine::set::Set;
use crate::engine::stream::{Entry, Group, Stream, StreamId};
use crate::engine::table::Entry as _;
use crate::engine::value::{StringRef, Value, ValueRef};
use crate::engine::zset::ZSet;
use proptest::prelude::*;

/// The content of a value as text, whatever its encoding.
fn content(record: &Record) -> Vec<String> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let mut all = Vec::new();
    match record.value() {
        ValueRef::String(StringRef::Int(value)) => all.push(value.to_string()),
        ValueRef::String(StringRef::Bytes(bytes)) => all.push(text(bytes)),
        ValueRef::List(list) => list.for_each(|element| all.push(text(&element.to_vec()))),
        ValueRef::Set(set) => all.extend(set.iter().map(|member| text(&member.to_vec()))),
        ValueRef::ZSet(zset) => {
            all.extend(zset.iter().map(|(member, score)| format!("{} {score:?}", text(&member.to_vec()))));
        }
        ValueRef::Hash(hash) => all.extend(hash.iter().map(|entry| {
            format!("{}={} {:?}", text(&entry.field.to_vec()), text(&entry.value.to_vec()), entry.expires_at)
        })),
        ValueRef::Stream(stream) => stream_content(stream, &mut all),
    }
    if !matches!(record.value(), ValueRef::List(_) | ValueRef::Stream(_)) {
        all.sort();
    }
    all
}

fn stream_content(stream: &Stream, all: &mut Vec<String>) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    all.push(format!("{} entries, {:?}, first {:?}", stream.len(), stream.totals(), stream.first_id()));
    let fields = |entry: &Entry<'_>| -> Vec<(String, String)> {
        entry.fields().map(|(field, value)| (text(&field.to_vec()), text(&value.to_vec()))).collect()
    };
    let forward: Vec<String> = stream
        .range(StreamId::MIN, StreamId::MAX)
        .map(|entry| format!("{:?} {:?}", entry.id(), fields(&entry)))
        .collect();
    let backward = stream.range_rev(StreamId::MIN, StreamId::MAX).count();
    assert_eq!((forward.len(), backward), (stream.len(), stream.len()));
    all.extend(forward);
    for (name, group) in stream.groups() {
        all.push(format!("group {} {:?} {:?}", text(name), group.last_id, group.entries_read));
        for (id, pending) in group.pending(..) {
            let owner = text(group.owner_name(pending));
            all.push(format!("{id:?} of {owner} {} {}", pending.delivered_ms, pending.deliveries));
        }
        for consumer in group.consumers() {
            let pending: Vec<StreamId> = consumer.pending(..).collect();
            all.push(format!("consumer {} {} {pending:?}", text(consumer.name()), consumer.seen_ms));
        }
    }
}

/// A stream with holes, other fields, and two groups.
fn sample_stream(count: u64) -> Stream {
    let limits = Limits::default();
    let mut stream = Stream::new();
    for n in 1..=count {
        let (name, value) = (if n % 7 == 0 { "other" } else { "n" }, n.to_string());
        let pairs = [(name.as_bytes(), value.as_bytes()), (b"text".as_slice(), b"value".as_slice())];
        stream.append(StreamId::new(n / 3, n), pairs.into_iter(), &limits).expect("ids grow");
    }
    stream.remove(StreamId::new(1, 3));
    for (name, read) in [("first", Some(4)), ("second", None)] {
        let mut group = Group::new(StreamId::new(1, 5), read);
        let (alice, bob) = (group.create_consumer(b"alice", 77), group.create_consumer(b"bob", 78));
        group.create_consumer(b"idle", 79);
        group.assign(StreamId::new(0, 1), alice.expect("new"), 1000, 1);
        group.assign(StreamId::new(0, 2), bob.expect("new"), 2000, 300);
        assert!(stream.create_group(name.as_bytes(), group));
    }
    stream
}

/// One key of every type in every encoding.
fn samples() -> Vec<Record> {
    let limits = Limits::default();
    let mut records = Vec::new();
    for text in
        ["", "7", "-129", "70000", "9223372036854775807", "hello", &"long ".repeat(1000), "0123456789012345678901"]
    {
        records.push(Record::string(
            format!("s{}", records.len()).as_bytes(),
            text.as_bytes(),
            Some(5_000_000_000_000),
        ));
    }
    for count in [3usize, 2000] {
        let (mut list, mut set, mut ints) = (List::new(), Set::new(), Set::new());
        let (mut zset, mut hash, mut expiring) = (ZSet::new(), Hash::new(), Hash::new());
        for n in 0..count {
            let text = format!("element:{n}");
            list.push(End::Tail, text.as_bytes(), &limits);
            set.add(text.as_bytes(), &limits);
            ints.add((n * 7919).to_string().as_bytes(), &limits);
            zset.insert(text.as_bytes(), n as f64 / 3.0, &limits);
            hash.set(text.as_bytes(), n.to_string().as_bytes(), &limits);
            expiring.set(text.as_bytes(), b"v", &limits);
            if n % 2 == 0 {
                expiring.set_expiry(text.as_bytes(), Some(1_900_000_000_000 + n as i64));
            }
        }
        for value in [
            Value::List(list),
            Value::Set(set),
            Value::Set(ints),
            Value::ZSet(zset),
            Value::Hash(hash),
            Value::Hash(expiring),
            Value::Stream(sample_stream(count as u64)),
        ] {
            records.push(Record::with_value(format!("c{}", records.len()).as_bytes(), value, None));
        }
    }
    records
}

fn file(records: &[Record], options: Options) -> Vec<u8> {
    let mut writer = Writer::new(format::VERSION_FIELD_EXPIRY, true, options);
    writer.aux("redis-ver", b"7.0.15");
    writer.resize(0, records.len() as u64, 1);
    for (n, record) in records.iter().enumerate() {
        writer.record(n % 3, record);
    }
    writer.function(b"#!lua name=lib\n");
    writer.finish();
    writer.take(Vec::new())
}

type Loaded = Vec<(usize, Vec<u8>, Option<i64>, Vec<String>)>;

fn read(bytes: &[u8], piece: usize) -> Result<(Loaded, bool), String> {
    let mut reader = Reader::new(true);
    let (mut keys, mut ended) = (Vec::new(), false);
    for piece in bytes.chunks(piece) {
        reader.feed(piece);
        while let Some(item) = reader.next_item().map_err(|error| error.to_string())? {
            match item {
                Item::Key(item) => {
                    let decoded = value::decode(item.kind, item.lineage, item.body, &Limits::default());
                    let record = decoded.map_err(|fault| fault.to_string())?.into_record(&item.key, item.expiry);
                    keys.push((item.db, record.key().to_vec(), record.expiry(), content(&record)));
                }
                Item::End => ended = true,
                _ => {}
            }
        }
    }
    Ok((keys, ended))
}

#[test]
fn everything_survives_in_pieces_of_any_size() {
    let records = samples();
    let bytes = file(&records, Options::default());
    let wanted: Loaded = records
        .iter()
        .enumerate()
        .map(|(n, record)| (n % 3, record.key().to_vec(), record.expiry(), content(record)))
        .collect();
    for piece in [1, 7, 1000, usize::MAX] {
        let (keys, ended) = read(&bytes, piece).expect("sound");
        assert!(ended);
        assert_eq!(keys, wanted, "in pieces of {piece}");
    }
    let plain = file(&records, Options { compress: false, ..Options::default() });
    assert!(plain.len() > bytes.len());
    assert_eq!(read(&plain, usize::MAX).expect("sound").0, wanted);
}

#[test]
fn access_data_and_checksum() {
    let record = Record::string(b"k", b"v", None);
    record.set_access(100);
    let mut bytes = file(&[record], Options { access: AccessData::Idle, now_ms: 160_000, ..Options::default() });
    let mut reader = Reader::new(true);
    reader.feed(&bytes);
    let mut access = None;
    while let Some(item) = reader.next_item().expect("sound") {
        if let Item::Key(key) = item {
            access = Some(key.access);
        }
    }
    assert_eq!(access, Some(Access::IdleSeconds(60)));
    let middle = bytes.len() - 15;
    bytes[middle] ^= 1;
    assert!(read(&bytes, usize::MAX).is_err_and(|error| error.contains("checksum")), "a flipped bit is noticed");
}

#[test]
fn dump_payloads_round_trip_and_are_verified() {
    for record in samples() {
        let mut payload = dump::payload(&record, true);
        let (kind, lineage, body) = dump::open(&payload, dump::Verify::Yes).expect("sound");
        let copy = value::decode(kind, lineage, body, &Limits::default()).expect("sound").into_record(b"k", None);
        assert_eq!(content(&copy), content(&record));
        assert_eq!(copy.encoding(), record.encoding());
        payload[0] ^= 1;
        assert!(dump::open(&payload, dump::Verify::Yes).is_err());
    }
}

#[test]
fn plain_types_stay_readable_for_redis_7_0() {
    for record in samples() {
        let wanted = match record.value() {
            ValueRef::Hash(hash) if hash.has_expiries() => format::VERSION_FIELD_EXPIRY,
            _ => format::VERSION_PLAIN,
        };
        assert_eq!(super::encode::version_for(&record.value()), wanted);
    }
}

#[test]
fn type_22_depends_on_the_lineage() {
    // Valkey: one field "f" = "v" that expires at 5; Redis: expiry first.
    let valkey = b"\x01\x01f\x01v\x05\0\0\0\0\0\0\0";
    let redis = b"\x01\x05\x01f\x01v";
    for (lineage, body) in [(Lineage::Valkey, valkey.as_slice()), (Lineage::Redis, redis)] {
        let decoded = value::decode(kind::HASH_METADATA_PRE_GA, lineage, body, &Limits::default());
        let record = decoded.expect("sound").into_record(b"h", None);
        assert_eq!(content(&record), ["f=v Some(5)"]);
    }
}

#[test]
fn modules_are_named_and_passed_over() {
    let mut bytes = b"REDIS0010".to_vec();
    // A key "m" of type 7: module id (of "AAAAAAAAB", version 3), an unsigned 5, a string, the end.
    bytes.extend(b"\x07\x01m\x81\0\0\0\0\0\0\x04\x03\x02\x05\x05\x03abc\x00");
    bytes.extend(b"\x00\x01k\x01v\xff\0\0\0\0\0\0\0\0");
    let mut reader = Reader::new(true);
    reader.feed(&bytes);
    let (mut said, mut keys) = (String::new(), 0);
    while let Some(item) = reader.next_item().expect("sound") {
        match item {
            Item::Skipped(what) => said = what,
            Item::Key(_) => keys += 1,
            _ => {}
        }
    }
    assert!(said.contains("'m'") && said.contains("AAAAAAAAB"), "{said}");
    assert_eq!(keys, 1);
}

#[test]
fn empty_collections_and_absurd_lengths() {
    let limits = Limits::default();
    for kind in [kind::LIST, kind::SET, kind::ZSET_2, kind::HASH, kind::LIST_QUICKLIST_2] {
        assert_eq!(value::decode(kind, Lineage::Redis, b"\0", &limits).err(), Some(Fault::Empty));
        let huge = b"\x81\x00\xff\xff\xff\xff\xff\xff\xff\x01a";
        assert!(value::decode(kind, Lineage::Redis, huge, &limits).is_err());
    }
    assert!(Reader::new(true).next_item().is_ok());
    for header in [b"REDIS9999".as_slice(), b"VALKEY011", b"RADIS0010", b"REDIS00x1"] {
        let mut reader = Reader::new(true);
        reader.feed(header);
        assert!(reader.next_item().is_err(), "{}", String::from_utf8_lossy(header));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever is done to a sound file, reading ends with keys or an error.
    #[test]
    fn damage_never_panics(changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6), cut in any::<prop::sample::Index>()) {
        thread_local!(static SOUND: Vec<u8> = file(&samples()[..15], Options { compress: false, ..Options::default() }));
        let mut bytes = SOUND.with(Clone::clone);
        for (at, value) in changes {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        bytes.truncate(cut.index(bytes.len()) + 1);
        let _ = read(&bytes, usize::MAX);
    }

    /// Random bytes as a value of every type.
    #[test]
    fn random_values_never_panic(kind in 0u8..32, body in prop::collection::vec(any::<u8>(), 0..80)) {
        for lineage in [Lineage::Redis, Lineage::Valkey] {
            let _ = value::decode(kind, lineage, &body, &Limits::default());
        }
        let _ = dump::open(&body, dump::Verify::No);
    }

    /// Damaged payloads of every type: what is accepted can be used.
    #[test]
    fn damaged_payloads_are_refused_or_usable(which in 0usize..22, at in any::<prop::sample::Index>(), value in any::<u8>()) {
        thread_local!(static PAYLOADS: Vec<Vec<u8>> = samples().iter().map(|record| dump::payload(record, true)).collect());
        let mut payload = PAYLOADS.with(|all| all[which].clone());
        let at = at.index(payload.len().min(300));
        payload[at] = value;
        if let Ok((kind, lineage, body)) = dump::open(&payload, dump::Verify::No)
            && let Ok(decoded) = value::decode(kind, lineage, body, &Limits::default())
        {
            let record = decoded.into_record(b"k", None);
            content(&record);
            dump::payload(&record, true);
        }
    }
}
