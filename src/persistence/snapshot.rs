//! A point in time of all keys without a fork, for a file, an append-only base or a replica.
//!
//! ```text
//!   all shards locked:  begin()  every table remembers that it is being saved; the journal's offset is read
//!   one shard at a time, short slices:  run()  buckets ─► sink ─► bytes ─► the caller's output
//!   writers meanwhile:  a bucket is serialized into the same sink before its first change
//! ```
//! Keys come in any order and switch databases freely, which RDB and a stream of commands both allow.

use super::commands_base::CommandWriter;
use crate::engine::keyspace::snapshot::SnapshotSink;
use crate::engine::keyspace::{Keyspace, Locked, SHARDS, ShardSet};
use crate::engine::record::Record;
use crate::rdb::Writer;
use crate::server::Server;
use crate::server::save_status::SaveStatus;
use parking_lot::Mutex;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Buckets saved under one hold of a shard's lock: some 200 keys, tens of microseconds.
const SLICE: usize = 32;
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

    fn pending(&self) -> usize {
        match self {
            Serializer::Rdb(writer) => writer.pending(),
            Serializer::Commands(writer) => writer.pending(),
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

/// Takes the records of the snapshot, from the thread that walks and from writers alike.
pub struct Sink {
    serializer: Mutex<Serializer>,
    keys: AtomicU64,
    status: &'static SaveStatus,
}

impl SnapshotSink for Sink {
    fn save(&self, db: usize, record: &Record) {
        self.serializer.lock().record(db, record);
        self.keys.fetch_add(1, Ordering::Relaxed);
    }

    fn is_wanted(&self) -> bool {
        !self.status.is_cancelled()
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
pub fn begin(server: &'static Server, locked: &mut Locked, serializer: Serializer) -> Arc<Sink> {
    let status = &server.save_status;
    let sink = Arc::new(Sink { serializer: Mutex::new(serializer), keys: AtomicU64::new(0), status });
    let mut total = 0;
    for shard in 0..SHARDS {
        for (index, db) in locked.shard_mut(shard).dbs_mut().iter_mut().enumerate() {
            if !db.is_empty() {
                total += db.len() as u64;
                db.start_snapshot(index, sink.clone());
            }
        }
    }
    status.keys_total.store(total, Ordering::Relaxed);
    sink
}

/// Walks all shards and writes what comes; blocks until the snapshot is complete or given up. Runs on a thread of its own.
pub fn run(server: &Server, sink: &Sink, mut write: impl FnMut(&[u8]) -> io::Result<()>) -> Result<(), Stopped> {
    let keyspace = server.keyspace;
    let result = walk(keyspace, sink, Delay::new(server.config.current().rdb_key_save_delay), &mut write);
    if result.is_err() {
        abandon(keyspace);
        return result;
    }
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
    mut delay: Delay,
    write: &mut impl FnMut(&[u8]) -> io::Result<()>,
) -> Result<(), Stopped> {
    let mut spare = Vec::new();
    let slice = if delay.is_set() { 1 } else { SLICE };
    for shard in 0..SHARDS {
        loop {
            if sink.status.is_cancelled() {
                return Err(Stopped::Cancelled);
            }
            let done = {
                let mut locked = keyspace.lock(ShardSet::one(shard));
                locked.shard_mut(shard).dbs_mut().iter_mut().all(|db| db.advance_snapshot(slice))
            };
            let keys = sink.keys.load(Ordering::Relaxed);
            sink.status.keys_processed.store(keys, Ordering::Relaxed);
            spare = flush(sink, spare, FLUSH, write)?;
            delay.after(keys, sink.status);
            if done {
                break;
            }
        }
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
        serializer.take(spare)
    };
    write(&full)?;
    Ok(full)
}

fn abandon(keyspace: &'static Keyspace) {
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
    let mut delay = Delay::new(server.config.current().rdb_key_save_delay);
    let (mut keys, mut spare) = (0, Vec::new());
    for shard in 0..SHARDS {
        for (index, db) in locked.shard(shard).dbs().iter().enumerate() {
            for record in db.table().iter() {
                serializer.record(index, record);
                keys += 1;
                if serializer.pending() >= FLUSH {
                    spare = serializer.take(spare);
                    write(&spare)?;
                }
                delay.after(keys, &server.save_status);
            }
        }
    }
    serializer.finish();
    write(&serializer.take(spare))?;
    Ok(keys)
}

/// rdb-key-save-delay: slows a snapshot down, for tests.
struct Delay {
    setting: i64,
    /// Keys that have been waited for.
    keys: u64,
}

impl Delay {
    fn new(setting: i64) -> Self {
        Delay { setting, keys: 0 }
    }

    fn is_set(&self) -> bool {
        self.setting != 0
    }

    /// Waits for the keys that came since, unless the snapshot is given up.
    fn after(&mut self, keys: u64, status: &SaveStatus) {
        if self.setting == 0 {
            return;
        }
        let new = keys - self.keys;
        let micros = if self.setting > 0 {
            new.saturating_mul(self.setting as u64)
        } else {
            let every = self.setting.unsigned_abs();
            keys / every - self.keys / every
        };
        self.keys = keys;
        pause(micros, status);
    }
}

/// Sleeps in pieces, so that giving up works at once.
fn pause(mut micros: u64, status: &SaveStatus) {
    while micros > 0 && !status.is_cancelled() {
        let piece = micros.min(10_000);
        std::thread::sleep(Duration::from_micros(piece));
        micros -= piece;
    }
}
