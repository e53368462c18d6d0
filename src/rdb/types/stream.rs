//! Streams.
//!
//! ```text
//! 15 STREAM     nodes, length, last id, groups                                             Redis 5 and 6
//! 19 STREAM_2   nodes, length, last id, first id, max deleted id, entries added, groups    what is written
//! 21 STREAM_3   the same with the time at which each consumer last got something           Redis 7.2
//! 26 STREAM_4   the same with what producers have sent already                             Redis 8.6, written if there is any
//! 27 STREAM_5   the same with entries that were released                                   Redis 8.8, written if there are any
//!
//! node      id (16 B big-endian) and listpack, as strings
//! group     name, last id, [entries read,] pending: (id 16 B, time i64, deliveries)*, consumers
//!           [5: released: (id 16 B)*]
//! consumer  name, seen i64, [3: active i64,] pending: (id 16 B)*
//! 4, 5      duration, maximum, producers: (name, (key, id)*)*, added, duplicates
//! ```
//! The pending entries of all consumers together are those of the group, but for the released ones.

use crate::engine::keyspace::snapshot::Place;
use crate::engine::listpack::Listpack;
use crate::engine::stream::{Consumer, ConsumerId, Entries, Group, Producers, Stream, StreamId, Totals};
use crate::rdb::encode::{self, Options};
use crate::rdb::fault::Fault;
use crate::rdb::format::{VERSION_PRODUCERS, VERSION_RELEASED, kind};
use crate::rdb::source::{Result, Source};

pub fn kind_of(stream: &Stream, version: u32) -> u8 {
    if version >= VERSION_RELEASED && stream.groups().any(|(_, group)| group.unowned_len() > 0) {
        kind::STREAM_5
    } else if version >= VERSION_PRODUCERS && stream.producers().is_some() {
        kind::STREAM_4
    } else {
        kind::STREAM_2
    }
}

pub fn put(out: &mut Vec<u8>, stream: &Stream, options: Options) {
    begin(out, stream);
    let mut place = Some(Place::default());
    while let Some(from) = place {
        place = slice(out, stream, from, options);
    }
}

/// Whether its entries, or those that are pending in its groups, are as many.
pub fn is_long(stream: &Stream, count: usize) -> bool {
    stream.len() + stream.groups().map(|(_, group)| group.pending_len()).sum::<usize>() >= count
}

/// What stands before the first node.
pub fn begin(out: &mut Vec<u8>, stream: &Stream) {
    encode::length(out, stream.nodes().len() as u64);
}

/// Nodes and pending entries of a slice; a node holds about a hundred entries and is compressed.
const SLICE_NODES: usize = 16;
const SLICE_PENDING: usize = 1024;

/// The next nodes, or pending entries of a group or of a consumer. A place says which group and which consumer are next, counted
/// from 1, and from which id on; 0 means that nothing of it is written.
pub fn slice(out: &mut Vec<u8>, stream: &Stream, from: Place, options: Options) -> Option<Place> {
    let compress = options.compress;
    if from.group == 0 {
        let mut nodes = stream.nodes_from(id_at(from));
        for (id, pack) in nodes.by_ref().take(SLICE_NODES) {
            encode::string(out, &id.to_bytes(), compress);
            encode::string(out, pack.as_bytes(), compress);
        }
        if let Some((next, _)) = nodes.next() {
            return Some(Place { at: at_id(next), ..from });
        }
        put_totals(out, stream);
        return Some(Place { group: 1, ..Place::default() });
    }
    let kind = kind_of(stream, options.version);
    let Some((name, group)) = stream.groups().nth(from.group as usize - 1) else {
        put_end(kind, out, stream, compress);
        return None;
    };
    if from.consumer == 0 {
        if from.at == 0 {
            encode::string(out, name, compress);
            put_id(out, group.last_id);
            encode::length(out, group.entries_read.unwrap_or(UNKNOWN));
            encode::length(out, group.pending_len() as u64);
        }
        let mut pending = group.pending(id_at(from)..);
        for (id, pending) in pending.by_ref().take(SLICE_PENDING) {
            out.extend_from_slice(&id.to_bytes());
            out.extend_from_slice(&pending.delivered_ms.to_le_bytes());
            encode::length(out, pending.deliveries);
        }
        if let Some((next, _)) = pending.next() {
            return Some(Place { at: at_id(next), ..from });
        }
        encode::length(out, (group.consumers_len() + usize::from(needs_nobody(kind, group))) as u64);
        return Some(Place { at: 0, consumer: 1, ..from });
    }
    let mut room = SLICE_PENDING;
    let mut place = from;
    for consumer in group.consumers().skip(from.consumer as usize - 1) {
        if room == 0 {
            return Some(place);
        }
        if place.at == 0 {
            let adopts = kind < kind::STREAM_5 && consumer.name().is_empty();
            put_consumer_head(kind, out, consumer, if adopts { group.unowned_len() } else { 0 }, compress);
            if adopts {
                put_unowned(out, group);
            }
        }
        let mut pending = consumer.pending(id_at(place)..);
        for id in pending.by_ref().take(room) {
            out.extend_from_slice(&id.to_bytes());
            room -= 1;
        }
        if let Some(next) = pending.next() {
            return Some(Place { at: at_id(next), ..place });
        }
        room = room.saturating_sub(1);
        place = Place { at: 0, consumer: place.consumer + 1, ..place };
    }
    if kind >= kind::STREAM_5 {
        encode::length(out, group.unowned_len() as u64);
        put_unowned(out, group);
    } else if needs_nobody(kind, group) {
        encode::string(out, b"", compress);
        out.extend_from_slice(&0i64.to_le_bytes());
        if kind >= kind::STREAM_3 {
            out.extend_from_slice(&(-1i64).to_le_bytes());
        }
        encode::length(out, group.unowned_len() as u64);
        put_unowned(out, group);
    }
    Some(Place { group: from.group + 1, ..Place::default() })
}

/// Whether a consumer without a name must be made up, for released entries of which the version knows nothing.
fn needs_nobody(kind: u8, group: &Group) -> bool {
    kind < kind::STREAM_5 && group.unowned_len() > 0 && group.find_consumer(b"").is_none()
}

fn put_unowned(out: &mut Vec<u8>, group: &Group) {
    if group.unowned_len() > 0 {
        let unowned = group.pending(..).filter(|(_, pending)| pending.owner.is_none());
        unowned.for_each(|(id, _)| out.extend_from_slice(&id.to_bytes()));
    }
}

fn id_at(place: Place) -> StreamId {
    StreamId::from_bytes(place.at.to_be_bytes())
}

fn at_id(id: StreamId) -> u128 {
    u128::from_be_bytes(id.to_bytes())
}

/// What stands behind the nodes.
fn put_totals(out: &mut Vec<u8>, stream: &Stream) {
    let totals = stream.totals();
    encode::length(out, stream.len() as u64);
    put_id(out, totals.last_id);
    put_id(out, stream.first_id());
    put_id(out, totals.max_deleted_id);
    encode::length(out, totals.entries_added);
    encode::length(out, stream.groups_len() as u64);
}

fn put_consumer_head(kind: u8, out: &mut Vec<u8>, consumer: &Consumer, adopted: usize, compress: bool) {
    encode::string(out, consumer.name(), compress);
    out.extend_from_slice(&consumer.seen_ms.to_le_bytes());
    if kind >= kind::STREAM_3 {
        out.extend_from_slice(&consumer.active_ms.unwrap_or(-1).to_le_bytes());
    }
    encode::length(out, (consumer.pending_len() + adopted) as u64);
}

/// What stands behind the groups.
fn put_end(kind: u8, out: &mut Vec<u8>, stream: &Stream, compress: bool) {
    if kind >= kind::STREAM_4 {
        match stream.producers() {
            Some(producers) => put_producers(out, producers, compress),
            None => put_producers(out, &Producers::default(), compress),
        }
    }
}

fn put_producers(out: &mut Vec<u8>, producers: &Producers, compress: bool) {
    encode::length(out, producers.duration_s);
    encode::length(out, producers.keys_max as u64);
    encode::length(out, producers.producers_len() as u64);
    for (name, keys) in producers.iter() {
        encode::string(out, name, compress);
        encode::length(out, keys.len() as u64);
        for (key, id) in keys {
            encode::string(out, key, compress);
            put_id(out, id);
        }
    }
    encode::length(out, producers.added);
    encode::length(out, producers.duplicates);
}

/// Entries read by a group of which that is not known.
const UNKNOWN: u64 = u64::MAX;

fn put_id(out: &mut Vec<u8>, id: StreamId) {
    encode::length(out, id.ms);
    encode::length(out, id.seq);
}

pub fn decode(kind: u8, source: &mut Source<'_>) -> Result<Stream> {
    let mut nodes = Vec::new();
    for _ in 0..source.count()? {
        let id = source.string()?;
        let id: [u8; 16] =
            id.as_ref().try_into().map_err(|_| Fault::fixed("Stream node key entry is not the size of a stream ID"))?;
        let pack = Listpack::from_bytes(&source.string()?).ok_or(DAMAGED_NODE)?;
        nodes.push((StreamId::from_bytes(id), pack));
    }
    // Redis writes them in order, but reads them in any.
    nodes.sort_by_key(|(id, _)| *id);
    let mut entries = Entries::from_nodes(nodes).ok_or(DAMAGED_NODE)?;
    if source.number()? != entries.len() as u64 {
        return Err(Fault::fixed("Stream length inconsistent with rax entries"));
    }
    let held = entries.totals();
    let mut totals = Totals { last_id: id(source)?.max(held.last_id), ..held };
    if kind != kind::STREAM {
        // The first id follows from the entries.
        id(source)?;
        totals.max_deleted_id = id(source)?;
        totals.entries_added = source.number()?;
    }
    entries.set_totals(totals);
    let mut stream = Stream::from_entries(entries);
    for _ in 0..source.count()? {
        let name = source.string()?;
        let group = decode_group(kind, &stream, source)?;
        if !stream.create_group(&name, group) {
            return Err(Fault::fixed("Duplicated consumer group name"));
        }
    }
    if kind >= kind::STREAM_4 {
        decode_producers(&mut stream, source)?;
    }
    Ok(stream)
}

const DAMAGED_NODE: Fault = Fault::fixed("Stream listpack integrity check failed.");

fn decode_group(kind: u8, stream: &Stream, source: &mut Source<'_>) -> Result<Group> {
    let last_id = id(source)?;
    let entries_read = match kind {
        kind::STREAM => stream.counter().read_up_to(last_id),
        _ => Some(source.number()?).filter(|read| i64::try_from(*read).is_ok()),
    };
    let mut group = Group::new(last_id, entries_read);
    for _ in 0..source.count()? {
        let (id, delivered_ms, deliveries) = (raw_id(source)?, source.i64_le()?, source.number()?);
        if group.find_pending(id).is_some() {
            return Err(Fault::fixed("Duplicated global PEL entry loading stream consumer group"));
        }
        group.expect(id, delivered_ms, deliveries);
    }
    for _ in 0..source.count()? {
        let name = source.string()?;
        let seen_ms = source.i64_le()?;
        let consumer =
            group.create_consumer(&name, seen_ms).ok_or(Fault::fixed("Duplicate stream consumer detected."))?;
        // Older servers did not know the difference.
        let active_ms = if kind >= kind::STREAM_3 { source.i64_le()? } else { seen_ms };
        group.consumer_mut(consumer).active_ms = Some(active_ms).filter(|active_ms| *active_ms >= 0);
        decode_pending(&mut group, consumer, source)?;
    }
    let mut unowned = group.pending(..).filter(|(_, pending)| pending.owner.is_none()).count();
    if kind >= kind::STREAM_5 {
        let mut released = std::collections::BTreeSet::new();
        for _ in 0..source.count()? {
            let id = raw_id(source)?;
            let pending = group.find_pending(id).filter(|pending| pending.owner.is_none()).copied();
            let pending = pending.filter(|_| released.insert(id));
            let pending = pending.ok_or(Fault::fixed("Released entry not found in group global PEL"))?;
            group.release(id, pending.delivered_ms, pending.deliveries);
        }
        unowned -= released.len();
    }
    if unowned > 0 {
        return Err(Fault::fixed("Stream CG PEL entry without consumer"));
    }
    Ok(group)
}

fn decode_pending(group: &mut Group, consumer: ConsumerId, source: &mut Source<'_>) -> Result<()> {
    for _ in 0..source.count()? {
        let id = raw_id(source)?;
        let pending = *group.find_pending(id).ok_or(Fault::fixed("Consumer entry not found in group global PEL"))?;
        if pending.owner.is_some() {
            return Err(Fault::fixed("Stream consumer PEL entry already has a consumer assigned"));
        }
        group.assign(id, consumer, pending.delivered_ms, pending.deliveries);
    }
    Ok(())
}

/// The time of a key is that of its entry.
fn decode_producers(stream: &mut Stream, source: &mut Source<'_>) -> Result<()> {
    let mut producers = Producers::default();
    let (duration_s, keys_max) = (source.number()?, source.count()?);
    producers.configure(duration_s, keys_max);
    for _ in 0..source.count()? {
        let name = source.string()?;
        for _ in 0..source.count()? {
            let (key, id) = (source.string()?, id(source)?);
            let at_ms = i64::try_from(id.ms).unwrap_or(i64::MAX);
            producers.record(&name, &key, id, at_ms, i64::MIN);
        }
    }
    (producers.added, producers.duplicates) = (source.number()?, source.number()?);
    if producers.producers_len() > 0 || producers.added > 0 {
        *stream.producers_mut() = producers;
    }
    Ok(())
}

fn id(source: &mut Source<'_>) -> Result<StreamId> {
    Ok(StreamId::new(source.number()?, source.number()?))
}

fn raw_id(source: &mut Source<'_>) -> Result<StreamId> {
    Ok(StreamId::from_bytes(source.array()?))
}
