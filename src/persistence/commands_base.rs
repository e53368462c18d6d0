//! Keys as the commands that make them: the base of an append-only file without RDB preamble.

use crate::base::clock;
use crate::base::number::{DoubleText, IntText};
use crate::engine::hash::Hash;
use crate::engine::keyspace::snapshot::Place;
use crate::engine::listpack::Element;
use crate::engine::memory::size_class;
use crate::engine::quicklist::End;
use crate::engine::record::Record;
use crate::engine::stream::{Consumer, Entry, Group, Stream, StreamId};
use crate::engine::table::Entry as _;
use crate::engine::value::{StringRef, ValueRef};
use crate::server::Server;

/// Elements per command, so that no command becomes too long to load.
const ITEMS: usize = 64;

/// Gathers commands in the stream's form.
#[derive(Default)]
pub struct CommandWriter {
    out: Vec<u8>,
    db: Option<usize>,
}

/// Elements of a slice of a long collection.
const SLICE: usize = 512;

impl CommandWriter {
    /// Begins with the time, if the file shall have times, and the function libraries.
    pub fn new(server: &Server) -> Self {
        let mut writer = CommandWriter::default();
        if server.config.current().aof_timestamp_enabled {
            writer.out.extend_from_slice(format!("#TS:{}\r\n", clock::unix_ms() / 1000).as_bytes());
        }
        for library in server.scripts.libraries().values() {
            writer.command(&[b"FUNCTION", b"LOAD", &library.code]);
        }
        writer
    }

    pub fn pending(&self) -> usize {
        self.out.len()
    }

    pub fn held(&self) -> usize {
        size_class(self.out.capacity())
    }

    pub fn take(&mut self, mut spare: Vec<u8>) -> Vec<u8> {
        spare.clear();
        std::mem::replace(&mut self.out, spare)
    }

    /// Takes another's commands over and empties it.
    pub fn append(&mut self, fragment: &mut CommandWriter) {
        let Some(db) = fragment.db.take() else { return };
        self.out.append(&mut fragment.out);
        self.db = Some(db);
    }

    pub fn record(&mut self, db: usize, record: &Record) {
        let mut place = None;
        while !self.slice(db, record, &mut place) {}
    }

    /// Writes a piece of a record from a place on (nothing: its beginning) and moves the place on; true when it is complete.
    /// Other records may come in between.
    pub fn slice(&mut self, db: usize, record: &Record, place: &mut Option<Place>) -> bool {
        if self.db != Some(db) {
            self.db = Some(db);
            self.command(&[b"SELECT", &IntText::new(db as i64)]);
        }
        let (key, begin) = (record.key(), place.unwrap_or_default());
        let from = begin.at as u64;
        let next = match record.value() {
            ValueRef::String(StringRef::Int(value)) => {
                self.command(&[b"SET", key, &IntText::new(value)]);
                None
            }
            ValueRef::String(StringRef::Bytes(value)) => {
                self.command(&[b"SET", key, value]);
                None
            }
            ValueRef::List(list) => {
                let mut items = Items::new(self, b"RPUSH", key, 1);
                list.walk(from as usize, SLICE, End::Head, &mut |element| {
                    element.with_bytes(|text| items.push(&[text]));
                    true
                });
                items.finish();
                next_of(from, list.len())
            }
            ValueRef::Set(set) => {
                let mut items = Items::new(self, b"SADD", key, 1);
                let next = by_cursor(from, |cursor, count| {
                    set.scan(cursor, |member| {
                        member.with_bytes(|text| items.push(&[text]));
                        *count += 1;
                    })
                });
                items.finish();
                next
            }
            ValueRef::ZSet(zset) => {
                let mut items = Items::new(self, b"ZADD", key, 2);
                let from = from as usize;
                zset.range(from..zset.len().min(from + SLICE)).for_each(|(member, score)| {
                    member.with_bytes(|text| items.push(&[&DoubleText::new(score), text]));
                });
                items.finish();
                next_of(from as u64, zset.len())
            }
            ValueRef::Hash(hash) => self.hash(key, hash, from),
            ValueRef::Stream(stream) => {
                *place = self.stream(key, stream, begin);
                return self.finish(record, place);
            }
        };
        *place = next.map(Place::at);
        self.finish(record, place)
    }

    /// The expiry behind the last slice; true if this was it.
    fn finish(&mut self, record: &Record, place: &Option<Place>) -> bool {
        if place.is_none()
            && let Some(at) = record.expiry()
        {
            self.command(&[b"PEXPIREAT", record.key(), &IntText::new(at)]);
        }
        place.is_none()
    }

    fn hash(&mut self, key: &[u8], hash: &Hash, from: u64) -> Option<u64> {
        let mut items = Items::new(self, b"HMSET", key, 2);
        let mut expiring: Vec<(i64, Vec<u8>)> = Vec::new();
        let next = by_cursor(from, |cursor, count| {
            hash.scan(cursor, |entry| {
                pair(entry.field, entry.value, |field, value| items.push(&[field, value]));
                expiring.extend(entry.expires_at.map(|at| (at, entry.field.to_vec())));
                *count += 1;
            })
        });
        items.finish();
        for (at, field) in expiring {
            self.command(&[b"HPEXPIREAT", key, &IntText::new(at), b"FIELDS", b"1", &field]);
        }
        next
    }

    /// Entries from a place on, then what the stream knows, then its groups, a consumer at a time. A place counts groups and consumers
    /// as `rdb::types::stream` does.
    fn stream(&mut self, key: &[u8], stream: &Stream, from: Place) -> Option<Place> {
        if from.group == 0 {
            let start = StreamId::from_bytes(from.at.to_be_bytes());
            let mut entries = stream.range(start, StreamId::MAX);
            for entry in entries.by_ref().take(SLICE) {
                self.entry(key, &entry);
            }
            if let Some(next) = entries.next() {
                return Some(Place { at: u128::from_be_bytes(next.id().to_bytes()), ..from });
            }
            self.stream_totals(key, stream);
            return Some(Place { group: 1, ..Place::default() });
        }
        let (name, group) = stream.groups().nth(from.group as usize - 1)?;
        if from.consumer == 0 {
            let read = group.entries_read.map_or(-1, |read| read as i64);
            let last = group.last_id.text();
            self.command(&[b"XGROUP", b"CREATE", key, name, &last, b"ENTRIESREAD", &IntText::new(read)]);
            return Some(Place { consumer: 1, ..from });
        }
        let Some(consumer) = group.consumers().nth(from.consumer as usize - 1) else {
            self.released(key, name, group);
            return Some(Place { group: from.group + 1, ..Place::default() });
        };
        let next = self.consumer(key, name, group, consumer, StreamId::from_bytes(from.at.to_be_bytes()));
        Some(match next {
            Some(next) => Place { at: u128::from_be_bytes(next.to_bytes()), ..from },
            None => Place { at: 0, consumer: from.consumer + 1, ..from },
        })
    }

    fn entry(&mut self, key: &[u8], entry: &Entry<'_>) {
        count(&mut self.out, 3 + 2 * entry.len());
        [b"XADD".as_slice(), key, &entry.id().text()].iter().for_each(|arg| bulk(&mut self.out, arg));
        for (field, value) in entry.fields() {
            pair(field, value, |field, value| {
                bulk(&mut self.out, field);
                bulk(&mut self.out, value);
            });
        }
    }

    fn stream_totals(&mut self, key: &[u8], stream: &Stream) {
        if stream.is_empty() {
            // An entry that is trimmed at once leaves an empty stream.
            self.command(&[b"XADD", key, b"MAXLEN", b"0", b"0-1", b"x", b"y"]);
        }
        let totals = stream.totals();
        self.command(&[
            b"XSETID",
            key,
            &totals.last_id.text(),
            b"ENTRIESADDED",
            &IntText::new(totals.entries_added as i64),
            b"MAXDELETEDID",
            &totals.max_deleted_id.text(),
        ]);
        if let Some(producers) = stream.producers() {
            let (seconds, keys) = (IntText::new(producers.duration_s as i64), IntText::new(producers.keys_max as i64));
            self.command(&[b"XCFGSET", key, b"IDMP-DURATION", &seconds, b"IDMP-MAXSIZE", &keys]);
            for (producer, keys) in producers.iter() {
                for (message, id) in keys.filter(|(_, id)| stream.contains(*id)) {
                    self.command(&[b"XIDMPRECORD", key, producer, message, &id.text()]);
                }
            }
        }
    }

    /// A consumer with its pending entries from an id on; where the next slice begins.
    fn consumer(
        &mut self,
        key: &[u8],
        name: &[u8],
        group: &Group,
        consumer: &Consumer,
        from: StreamId,
    ) -> Option<StreamId> {
        if consumer.pending_len() == 0 {
            self.command(&[b"XGROUP", b"CREATECONSUMER", key, name, consumer.name()]);
        }
        let mut ids = consumer.pending(from..);
        for id in ids.by_ref().take(SLICE) {
            let Some(pending) = group.find_pending(id) else { continue };
            self.command(&[
                b"XCLAIM",
                key,
                name,
                consumer.name(),
                b"0",
                &id.text(),
                b"TIME",
                &IntText::new(pending.delivered_ms),
                b"RETRYCOUNT",
                &IntText::new(pending.deliveries as i64),
                b"JUSTID",
                b"FORCE",
            ]);
        }
        ids.next()
    }

    /// Entries that nobody owns.
    fn released(&mut self, key: &[u8], name: &[u8], group: &Group) {
        if group.unowned_len() == 0 {
            return;
        }
        for (id, pending) in group.pending(..).filter(|(_, pending)| pending.owner.is_none()) {
            let deliveries = IntText::new(i64::try_from(pending.deliveries).unwrap_or(i64::MAX));
            let id = id.text();
            self.command(&[b"XNACK", key, name, b"FAIL", b"IDS", b"1", &id, b"RETRYCOUNT", &deliveries, b"FORCE"]);
        }
    }

    fn command(&mut self, args: &[&[u8]]) {
        count(&mut self.out, args.len());
        args.iter().for_each(|arg| bulk(&mut self.out, arg));
    }
}

/// The place behind a slice of a sequence.
fn next_of(from: u64, len: usize) -> Option<u64> {
    let next = from + SLICE as u64;
    (next < len as u64).then_some(next)
}

/// Goes on with a scan until a slice is full; nothing at its end. While nothing changes a scan shows each element once.
fn by_cursor(from: u64, mut step: impl FnMut(u64, &mut usize) -> u64) -> Option<u64> {
    let (mut cursor, mut count) = (from, 0);
    while count < SLICE {
        cursor = step(cursor, &mut count);
        if cursor == 0 {
            return None;
        }
    }
    Some(cursor)
}

fn pair(first: Element<'_>, second: Element<'_>, mut f: impl FnMut(&[u8], &[u8])) {
    first.with_bytes(|first| second.with_bytes(|second| f(first, second)));
}

/// The items of a collection, in commands of up to `ITEMS` each.
struct Items<'a> {
    writer: &'a mut CommandWriter,
    name: &'static [u8],
    key: &'a [u8],
    width: usize,
    gathered: Vec<u8>,
    count: usize,
}

impl<'a> Items<'a> {
    fn new(writer: &'a mut CommandWriter, name: &'static [u8], key: &'a [u8], width: usize) -> Self {
        Items { writer, name, key, width, gathered: Vec::new(), count: 0 }
    }

    fn push(&mut self, parts: &[&[u8]]) {
        parts.iter().for_each(|part| bulk(&mut self.gathered, part));
        self.count += 1;
        if self.count == ITEMS {
            self.finish();
        }
    }

    fn finish(&mut self) {
        if self.count > 0 {
            let out = &mut self.writer.out;
            count(out, 2 + self.count * self.width);
            bulk(out, self.name);
            bulk(out, self.key);
            out.append(&mut self.gathered);
            self.count = 0;
        }
    }
}

fn count(out: &mut Vec<u8>, count: usize) {
    out.push(b'*');
    out.extend_from_slice(&IntText::new(count as i64));
    out.extend_from_slice(b"\r\n");
}

fn bulk(out: &mut Vec<u8>, text: &[u8]) {
    out.push(b'$');
    out.extend_from_slice(&IntText::new(text.len() as i64));
    out.extend_from_slice(b"\r\n");
    out.extend_from_slice(text);
    out.extend_from_slice(b"\r\n");
}
