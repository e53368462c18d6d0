//! A point in time of all keys without a fork, for a file, an append-only base or a replica.
//!
//! ```text
//!   all shards locked:  begin()  every table remembers that it is being saved; the journal's offset is read
//!   one shard at a time, short slices:  run()  buckets ─► sink ─► bytes ─► the caller's output
//!   writers meanwhile:  a bucket is serialized into the same sink before its first change
//! ```
//! A long value is serialized in slices, with the lock released in between; only whoever wants to change that very key has
//! to finish it first.
//! Keys come in any order and switch databases freely, which RDB and a stream of commands both allow.

use super::commands_base::CommandWriter;
use crate::engine::keyspace::snapshot::{Cause, Place, SnapshotSink};
use crate::engine::keyspace::{Db, Keyspace, Locked, SHARDS, ShardSet, place};
use crate::engine::memory::size_class;
use crate::engine::record::Record;
use crate::rdb::{self, Writer};
use crate::server::Server;
use crate::server::save_status::SaveStatus;
use parking_lot::Mutex;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

/// Buckets saved under one hold of a shard's lock: some 200 keys, tens of microseconds.
const SLICE: usize = 64;
/// Tables that one hold may finish.
const SLICE_TABLES: usize = 8;
/// Sleep between two slices; the kernel makes some 50 µs of it.
const REST: Duration = Duration::from_micros(1);
/// Bytes that gather before they are written.
const FLUSH: usize = 256 * 1024;

/// What the keys become.
pub enum Serializer {
    Rdb(Box<Writer>),
    Commands(CommandWriter),
}

impl Serializer {
    pub fn record(&mut self, db: usize, record: &Record) {
        match self {
            Serializer::Rdb(writer) => writer.record(db, record),
            Serializer::Commands(writer) => writer.record(db, record),
        }
    }

    /// The next slice of a long record; true when it is complete.
    fn slice(&mut self, db: usize, record: &Record, place: &mut Option<Place>) -> bool {
        match self {
            Serializer::Rdb(writer) => writer.slice(db, record, place),
            Serializer::Commands(writer) => writer.slice(db, record, place),
        }
    }

    fn fragment(&self) -> Fragment {
        match self {
            Serializer::Rdb(writer) => Fragment::Rdb(writer.fragment()),
            Serializer::Commands(_) => Fragment::Commands(CommandWriter::default()),
        }
    }

    fn append(&mut self, fragment: &mut Fragment) {
        match (self, fragment) {
            (Serializer::Rdb(writer), Fragment::Rdb(fragment)) => writer.append(fragment),
            (Serializer::Commands(writer), Fragment::Commands(fragment)) => writer.append(fragment),
            // A sink makes its fragments from its own serializer.
            (Serializer::Rdb(_), Fragment::Commands(_)) | (Serializer::Commands(_), Fragment::Rdb(_)) => {}
        }
    }

    fn pending(&self) -> usize {
        match self {
            Serializer::Rdb(writer) => writer.pending(),
            Serializer::Commands(writer) => writer.pending(),
        }
    }

    /// The memory behind what is pending.
    fn held(&self) -> usize {
        match self {
            Serializer::Rdb(writer) => writer.held(),
            Serializer::Commands(writer) => writer.held(),
        }
    }

    fn take(&mut self, spare: Vec<u8>) -> Vec<u8> {
        match self {
            Serializer::Rdb(writer) => writer.take(spare),
            Serializer::Commands(writer) => writer.take(spare),
        }
    }

    fn finish(&mut self) {
        match self {
            Serializer::Rdb(writer) => writer.finish(),
            Serializer::Commands(_) => {}
        }
    }
}

/// Records on their way into the serializer.
enum Fragment {
    Rdb(rdb::Fragment),
    Commands(CommandWriter),
}

impl Fragment {
    fn record(&mut self, db: usize, record: &Record) {
        match self {
            Fragment::Rdb(fragment) => fragment.record(db, record),
            Fragment::Commands(fragment) => fragment.record(db, record),
        }
    }

    fn another(&self) -> Fragment {
        match self {
            Fragment::Rdb(fragment) => Fragment::Rdb(fragment.another()),
            Fragment::Commands(_) => Fragment::Commands(CommandWriter::default()),
        }
    }

    fn held(&self) -> usize {
        match self {
            Fragment::Rdb(fragment) => fragment.held(),
            Fragment::Commands(fragment) => fragment.held(),
        }
    }

    fn pending(&self) -> usize {
        match self {
            Fragment::Rdb(fragment) => fragment.pending(),
            Fragment::Commands(fragment) => fragment.pending(),
        }
    }

    fn append(&mut self, later: &mut Fragment) {
        match (self, later) {
            (Fragment::Rdb(fragment), Fragment::Rdb(later)) => fragment.append(later),
            (Fragment::Commands(fragment), Fragment::Commands(later)) => fragment.append(later),
            // A sink makes all its fragments from one.
            (Fragment::Rdb(_), Fragment::Commands(_)) | (Fragment::Commands(_), Fragment::Rdb(_)) => {}
        }
    }
}

/// Takes the records of the snapshot, from the thread that walks and from writers alike. Each turns them into bytes by itself. Writers
/// put theirs where only they do, for as long as it takes to copy them; so they never wait for the walk, which holds the serializer
/// for whole slices of long values and for the checksum.
pub struct Sink {
    serializer: Mutex<Serializer>,
    /// What writers had to save ahead since the last slice, in pieces: one that grew would be copied whole, and twice in memory, while
    /// it grows.
    ahead: Mutex<Vec<Fragment>>,
    /// An empty one to copy.
    template: Fragment,
    /// What the walk has gathered in its slice.
    walked: Mutex<Fragment>,
    keys: AtomicU64,
    status: &'static SaveStatus,
    /// Behind what it tells of, so that it is dropped after that.
    held: Held,
}

/// The memory of what a snapshot has serialized and not yet handed over. While the output is slow, what writers save ahead gathers
/// without a limit. Eviction must not count it: what it deletes comes here too, so it would never get below its limit and empty the
/// database. Nothing may be missing from the sum even for a moment; rather something is in it twice.
struct Held {
    /// Each is changed under the lock of what it tells of.
    serializer: AtomicUsize,
    walked: AtomicUsize,
    ahead: AtomicUsize,
    /// The bytes that are being written.
    taken: AtomicUsize,
    status: &'static SaveStatus,
}

impl Held {
    fn new(status: &'static SaveStatus) -> Self {
        let [serializer, walked, ahead, taken] = [const { AtomicUsize::new(0) }; 4];
        Held { serializer, walked, ahead, taken, status }
    }

    fn note(&self, part: &AtomicUsize, bytes: usize) {
        let before = part.swap(bytes, Ordering::Relaxed);
        // Wraps around when it becomes less.
        self.status.buffered.fetch_add(bytes.wrapping_sub(before), Ordering::Relaxed);
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        [&self.serializer, &self.walked, &self.ahead, &self.taken].into_iter().for_each(|part| self.note(part, 0));
    }
}

impl SnapshotSink for Sink {
    fn save(&self, db: usize, record: &Record, cause: Cause) {
        match cause {
            Cause::Walk => {
                let mut walked = self.walked.lock();
                walked.record(db, record);
                self.held.note(&self.held.walked, walked.held());
            }
            Cause::Change => {
                let mut fragment = self.template.another();
                fragment.record(db, record);
                let mut ahead = self.ahead.lock();
                let mut held = self.held.ahead.load(Ordering::Relaxed);
                match ahead.last_mut() {
                    Some(last) if last.pending() < FLUSH => {
                        held -= last.held();
                        last.append(&mut fragment);
                        held += last.held();
                    }
                    _ => {
                        held += fragment.held();
                        ahead.push(fragment);
                    }
                }
                self.held.note(&self.held.ahead, held);
            }
        }
        self.keys.fetch_add(1, Ordering::Relaxed);
        self.note(record, cause);
    }

    fn is_long(&self, record: &Record) -> bool {
        rdb::is_long(&record.value())
    }

    fn save_slice(&self, db: usize, record: &Record, place: &mut Option<Place>, cause: Cause) -> bool {
        let is_first = place.is_none();
        let done = {
            let mut serializer = self.serializer.lock();
            let mut done = false;
            self.grow(&mut serializer, FLUSH, |serializer| done = serializer.slice(db, record, place));
            done
        };
        if done {
            self.keys.fetch_add(1, Ordering::Relaxed);
        }
        if is_first {
            self.note(record, cause);
        }
        done
    }

    fn is_wanted(&self) -> bool {
        !self.status.is_cancelled()
    }
}

impl Sink {
    /// Moves what the walk has gathered to the serializer.
    fn gather_walked(&self) {
        let mut serializer = self.serializer.lock();
        let mut walked = self.walked.lock();
        self.grow(&mut serializer, walked.held(), |serializer| serializer.append(&mut walked));
        self.held.note(&self.held.walked, walked.held());
    }

    /// What was saved ahead until now; what comes later is for the next time, or a busy writer would keep the walk from going on.
    fn take_ahead(&self) -> Vec<Fragment> {
        std::mem::take(&mut *self.ahead.lock())
    }

    /// Moves a piece of that to the serializer.
    fn gather_ahead(&self, mut piece: Fragment) {
        let bytes = piece.held();
        self.grow(&mut self.serializer.lock(), bytes, |serializer| serializer.append(&mut piece));
        drop(piece);
        let _ahead = self.ahead.lock();
        self.held.note(&self.held.ahead, self.held.ahead.load(Ordering::Relaxed) - bytes);
    }

    /// Something that adds about so many bytes to the serializer.
    fn grow(&self, serializer: &mut Serializer, bytes: usize, work: impl FnOnce(&mut Serializer)) {
        // Its buffer may become twice as large, or as large as it must.
        self.held.note(&self.held.serializer, serializer.held() * 2 + bytes);
        work(serializer);
        self.held.note(&self.held.serializer, serializer.held());
    }

    /// What writers had to save ahead is what the snapshot costs them: INFO's copy-on-write size.
    fn note(&self, record: &Record, cause: Cause) {
        if cause == Cause::Change {
            self.status.ahead_bytes.fetch_add(record.memory(1) as u64, Ordering::Relaxed);
        }
    }
}

/// Why there is no snapshot.
#[derive(Debug)]
pub enum Stopped {
    Cancelled,
    Io(io::Error),
}

impl From<io::Error> for Stopped {
    fn from(error: io::Error) -> Self {
        Stopped::Io(error)
    }
}

/// The cut. To be called with all shards locked and the activity claimed in `save_status`; ends with `run`.
pub fn begin(server: &'static Server, locked: &mut Locked, mut serializer: Serializer) -> Arc<Sink> {
    let status = &server.save_status;
    if let Serializer::Rdb(writer) = &mut serializer {
        announce_sizes(writer, locked);
    }
    let walked = Mutex::new(serializer.fragment());
    let sink = Arc::new(Sink {
        ahead: Mutex::default(),
        template: serializer.fragment(),
        serializer: Mutex::new(serializer),
        walked,
        keys: AtomicU64::new(0),
        status,
        held: Held::new(status),
    });
    let mut total = 0;
    for shard in 0..SHARDS {
        for (index, db) in locked.shard_mut(shard).dbs_mut().iter_mut().enumerate() {
            if !db.is_empty() {
                total += db.len() as u64;
                db.start_snapshot(place::db_of(index), sink.clone());
            }
        }
    }
    status.keys_total.store(total, Ordering::Relaxed);
    sink
}

/// How many keys each database holds, so that a loader can make room.
fn announce_sizes(writer: &mut Writer, locked: &Locked) {
    for db in 0..locked.keyspace().databases() {
        let parts = (0..SHARDS).flat_map(|shard| locked.shard(shard).parts(db));
        let (keys, volatile) =
            parts.fold((0, 0), |(keys, volatile), part| (keys + part.len(), volatile + part.volatile_len()));
        if keys > 0 {
            writer.resize(db, keys as u64, volatile as u64);
        }
    }
}

/// Walks all shards and writes what comes; blocks until the snapshot is complete or given up. Runs on a thread of its own.
pub fn run(server: &Server, sink: &Sink, mut write: impl FnMut(&[u8]) -> io::Result<()>) -> Result<(), Stopped> {
    let keyspace = server.keyspace;
    let result = walk(keyspace, sink, Delay::new(server), &mut write);
    if result.is_err() {
        abandon(keyspace);
    }
    result?;
    let rest = {
        let mut serializer = sink.serializer.lock();
        serializer.finish();
        serializer.take(Vec::new())
    };
    write(&rest)?;
    Ok(())
}

fn walk(
    keyspace: &'static Keyspace,
    sink: &Sink,
    mut delay: Delay<'_>,
    write: &mut impl FnMut(&[u8]) -> io::Result<()>,
) -> Result<(), Stopped> {
    let mut spare = Vec::new();
    for shard in 0..SHARDS {
        loop {
            if sink.status.is_cancelled() {
                return Err(Stopped::Cancelled);
            }
            let slice = if delay.setting() == 0 { SLICE } else { 1 };
            let done = {
                let mut locked = keyspace.lock(ShardSet::one(shard));
                // Cluster mode has many small tables.
                let mut left = SLICE_TABLES;
                let advance = |db: &mut Db| {
                    left -= 1;
                    db.advance_snapshot(slice) && left > 0
                };
                locked.shard_mut(shard).dbs_mut().iter_mut().filter(|db| db.is_in_snapshot()).all(advance)
            };
            sink.gather_walked();
            let keys = sink.keys.load(Ordering::Relaxed);
            sink.status.keys_processed.store(keys, Ordering::Relaxed);
            spare = flush(sink, spare, FLUSH, write)?;
            for piece in sink.take_ahead() {
                sink.gather_ahead(piece);
                spare = flush(sink, spare, FLUSH, write)?;
            }
            delay.after(keys, sink.status);
            if done {
                break;
            }
            // Not only to let others have the lock: a thread that never sleeps uses up its share and is then stopped wherever it
            // is, mostly within the next slice, with the lock in its hand.
            std::thread::sleep(REST);
        }
    }
    // A writer may have saved the last bucket between two slices.
    for piece in sink.take_ahead() {
        sink.gather_ahead(piece);
        spare = flush(sink, spare, FLUSH, write)?;
    }
    flush(sink, spare, 1, write)?;
    Ok(())
}

/// Writes what has gathered, if it is at least that much; returns a buffer to use next.
fn flush(
    sink: &Sink,
    spare: Vec<u8>,
    threshold: usize,
    write: &mut impl FnMut(&[u8]) -> io::Result<()>,
) -> io::Result<Vec<u8>> {
    let full = {
        let mut serializer = sink.serializer.lock();
        if serializer.pending() < threshold {
            return Ok(spare);
        }
        let full = serializer.take(spare);
        sink.held.note(&sink.held.taken, size_class(full.capacity()));
        sink.held.note(&sink.held.serializer, serializer.held());
        full
    };
    write(&full)?;
    Ok(full)
}

/// Gives a snapshot up that was begun: tables may grow again.
pub fn abandon(keyspace: &'static Keyspace) {
    for shard in 0..SHARDS {
        let mut locked = keyspace.lock(ShardSet::one(shard));
        locked.shard_mut(shard).dbs_mut().iter_mut().for_each(|db| db.end_snapshot());
    }
}

/// Serializes everything at once under all locks (SAVE, shutdown).
pub fn run_locked(
    server: &Server,
    locked: &Locked,
    mut serializer: Serializer,
    mut write: impl FnMut(&[u8]) -> io::Result<()>,
) -> io::Result<u64> {
    let mut delay = Delay::new(server);
    let (mut keys, mut spare) = (0, Vec::new());
    if let Serializer::Rdb(writer) = &mut serializer {
        announce_sizes(writer, locked);
    }
    for shard in 0..SHARDS {
        for (index, db) in locked.shard(shard).dbs().iter().enumerate() {
            let index = place::db_of(index);
            for record in db.table().iter() {
                let mut place = None;
                loop {
                    // Long values in slices here too: not for the lock, but so that they never lie in memory twice.
                    let done = if rdb::is_long(&record.value()) {
                        serializer.slice(index, record, &mut place)
                    } else {
                        serializer.record(index, record);
                        true
                    };
                    if serializer.pending() >= FLUSH {
                        spare = serializer.take(spare);
                        write(&spare)?;
                    }
                    if done {
                        break;
                    }
                }
                keys += 1;
                delay.after(keys, &server.save_status);
            }
        }
    }
    serializer.finish();
    write(&serializer.take(spare))?;
    Ok(keys)
}

/// rdb-key-save-delay: slows a snapshot down, for tests. The setting is looked at all the time, so that setting it to 0 ends
/// a slow one.
struct Delay<'a> {
    server: &'a Server,
    /// Keys that have been waited for.
    keys: u64,
}

impl<'a> Delay<'a> {
    fn new(server: &'a Server) -> Self {
        Delay { server, keys: 0 }
    }

    fn setting(&self) -> i64 {
        self.server.config.current().rdb_key_save_delay
    }

    /// Waits for the keys that came since, unless the snapshot is given up.
    fn after(&mut self, keys: u64, status: &SaveStatus) {
        let (new, before) = (keys - self.keys, self.keys);
        self.keys = keys;
        let setting = self.setting();
        let mut micros = match setting {
            0 => return,
            1.. => new.saturating_mul(setting as u64),
            _ => keys / setting.unsigned_abs() - before / setting.unsigned_abs(),
        };
        // In pieces, so that giving up works at once.
        while micros > 0 && !status.is_cancelled() && self.setting() == setting {
            let piece = micros.min(10_000);
            std::thread::sleep(Duration::from_micros(piece));
            micros -= piece;
        }
    }
}
