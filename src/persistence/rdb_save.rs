//! RDB files: SAVE, BGSAVE, and the header of every snapshot.

use super::files::TempFile;
use super::snapshot::{self, Serializer, Sink, Stopped};
use super::storage::DISK;
use crate::base::{clock, processors};
use crate::engine::hash::Hash;
use crate::engine::keyspace::Locked;
use crate::engine::memory;
use crate::engine::stream::{Group as StreamGroup, Stream};
use crate::rdb::encode::{AccessData, Options};
use crate::rdb::{Writer, format};
use crate::server::Server;
use crate::server::config::REDIS_VERSION;
use crate::server::replicas::Contents;
use crate::server::save_status::Activity;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// What a snapshot is for; its header says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    File,
    AofBase,
    Replica(Contents),
}

/// A writer with the header written: version, AUX fields, functions. To be called at the cut, with every shard locked: the
/// header says where in the stream of writes the snapshot stands.
pub fn writer(server: &Server, purpose: Purpose) -> Writer {
    let config = server.config.current();
    let access = if config.maxmemory_policy.is_lfu() {
        AccessData::Frequency
    } else if config.maxmemory_policy.is_lru() {
        AccessData::Idle
    } else {
        AccessData::None
    };
    let now_ms = clock::unix_ms();
    let lowest = if StreamGroup::releases_seen() {
        format::VERSION_RELEASED
    } else if Stream::producers_seen() {
        format::VERSION_PRODUCERS
    } else if Hash::expiring_fields_seen() {
        format::VERSION_FIELD_EXPIRY
    } else {
        format::VERSION_PLAIN
    };
    let version = if config.rdb_version == 0 { lowest } else { config.rdb_version.max(format::VERSION_PLAIN) };
    if version < lowest {
        tracing::warn!(
            "rdb-version {version} cannot hold all that is in memory: expiries of hash fields need 12, keys of stream producers 13, \
             released stream entries 14; they are left out of the file"
        );
    }
    let options = Options { compress: config.rdbcompression, access, now_ms, version };
    let mut writer = Writer::new(version, config.rdbchecksum, options);
    writer.aux("redis-ver", REDIS_VERSION.as_bytes());
    writer.aux("redis-bits", b"64");
    writer.aux("ctime", (now_ms / 1000).to_string().as_bytes());
    writer.aux("used-mem", memory::used().to_string().as_bytes());
    if purpose != Purpose::AofBase && server.journal.backlog().is_some() {
        // A stream of our own goes on with SELECT; a primary's that we pass on goes on in the database that it is in.
        let is_replica = server.is_replica.load(Ordering::Acquire);
        let db = if is_replica { server.role.stream_db.load(Ordering::Acquire) } else { 0 };
        writer.aux("repl-stream-db", db.to_string().as_bytes());
        writer.aux("repl-id", server.role.ids().replid.as_bytes());
        writer.aux("repl-offset", server.journal.end().to_string().as_bytes());
    }
    writer.aux("aof-base", if purpose == Purpose::AofBase { b"1" } else { b"0" });
    if !matches!(purpose, Purpose::Replica(Contents { functions: false, .. })) {
        for library in server.scripts.libraries().values() {
            writer.function(&library.code);
        }
    }
    writer
}

/// SAVE: everything at once, under all locks.
pub fn save(server: &'static Server, locked: &Locked) -> Result<(), String> {
    let result = save_file(server, locked);
    match &result {
        Ok(()) => {
            tracing::info!("DB saved on disk");
            note_saved(server, server.dirty.load(Ordering::Acquire));
            server.save_status.note_bgsave(false);
        }
        Err(error) => tracing::warn!("Error saving the RDB file: {error}"),
    }
    result.map_err(|error| error.to_string())
}

fn save_file(server: &'static Server, locked: &Locked) -> io::Result<()> {
    let (temp, target) = paths(server, &temp_name())?;
    let config = server.config.current();
    let mut file = TempFile::create(DISK, temp, config.rdb_save_incremental_fsync)?;
    let serializer = Serializer::Rdb(Box::new(writer(server, Purpose::File)));
    snapshot::run_locked(server, locked, serializer, |bytes| file.write(bytes))?;
    file.commit(&target)
}

/// Where a snapshot is written, and what it is called when it is done. Absolute, because CONFIG SET dir may come between.
fn paths(server: &Server, temp_name: &str) -> io::Result<(PathBuf, PathBuf)> {
    let dir = std::env::current_dir()?;
    let temp = dir.join(temp_name);
    Ok((temp, dir.join(&server.config.current().dbfilename)))
}

fn temp_name() -> String {
    format!("temp-{}.rdb", std::process::id())
}

/// Another name: SAVE must not be disturbed by a BGSAVE that was given up and takes its file away.
fn background_temp_name() -> String {
    format!("temp-bg-{}.rdb", std::process::id())
}

/// Removes what saves under way have written so far, when the process ends without waiting for them.
pub fn remove_temporary_files() {
    for name in [temp_name(), background_temp_name()] {
        // Mostly there is none.
        let _ = std::fs::remove_file(name);
    }
}

/// The file has what was there when `dirty` was read.
pub fn note_saved(server: &Server, dirty: i64) {
    server.dirty.fetch_sub(dirty, Ordering::AcqRel);
    server.save_status.last_save_s.store(clock::unix_ms() / 1000, Ordering::Release);
    server.save_status.rdb_saves.fetch_add(1, Ordering::Relaxed);
}

/// BGSAVE: takes the cut now, under the locks given or its own, and writes on a thread. False if another snapshot runs.
pub fn start(server: &'static Server, locked: Option<&mut Locked>) -> bool {
    let status = &server.save_status;
    let now_s = clock::unix_ms() / 1000;
    if !status.begin(Activity::Rdb, now_s) {
        return false;
    }
    status.last_bgsave_try_s.store(now_s, Ordering::Relaxed);
    let cut = |locked: &mut Locked| {
        let serializer = Serializer::Rdb(Box::new(writer(server, Purpose::File)));
        (snapshot::begin(server, locked, serializer), server.dirty.load(Ordering::Acquire))
    };
    let (sink, dirty) = match locked {
        Some(locked) => cut(locked),
        None => cut(&mut server.keyspace.lock_all()),
    };
    tracing::info!("Background saving started by pid {}", std::process::id());
    let spawned = std::thread::Builder::new().name("bgsave".into()).spawn(move || background(server, &sink, dirty));
    if let Err(error) = spawned {
        tracing::warn!("Can't save in background: {error}");
        snapshot::abandon(server.keyspace);
        status.end();
        status.note_bgsave(true);
    }
    true
}

fn background(server: &'static Server, sink: &Arc<Sink>, dirty: i64) {
    let _member = processors::join(processors::Kind::Snapshot);
    let status = &server.save_status;
    let result = background_file(server, sink);
    let seconds = clock::unix_ms() / 1000 - status.activity_started_s.load(Ordering::Relaxed);
    status.last_bgsave_seconds.store(seconds, Ordering::Relaxed);
    status.last_ahead_bytes.store(status.ahead_bytes.load(Ordering::Relaxed), Ordering::Relaxed);
    match result {
        Ok(()) => {
            tracing::info!("DB saved on disk");
            tracing::info!("Background saving terminated with success");
            note_saved(server, dirty);
            status.note_bgsave(false);
        }
        // Given up on purpose: as in Redis this says nothing about the disk.
        Err(Stopped::Cancelled) => tracing::warn!("Background saving terminated by signal 10"),
        Err(Stopped::Io(error)) => {
            tracing::warn!("Write error saving DB on disk: {error}");
            tracing::warn!("Background saving error");
            status.note_bgsave(true);
        }
    }
    status.end();
}

fn background_file(server: &'static Server, sink: &Sink) -> Result<(), Stopped> {
    write_file(server, |write| snapshot::run(server, sink, write)).map(drop)
}

/// Writes the RDB file from what `produce` hands out; where it is then.
pub fn write_file(
    server: &'static Server,
    produce: impl FnOnce(&mut dyn FnMut(&[u8]) -> io::Result<()>) -> Result<(), Stopped>,
) -> Result<PathBuf, Stopped> {
    let opened = paths(server, &background_temp_name()).and_then(|(temp, target)| {
        let incremental = server.config.current().rdb_save_incremental_fsync;
        Ok((TempFile::create(DISK, temp, incremental)?, target))
    });
    let (mut file, target) = match opened {
        Ok(opened) => opened,
        Err(error) => {
            // The walk must end anyway, so that tables may grow again.
            server.save_status.cancel();
            let _ = produce(&mut |_| Ok(()));
            return Err(Stopped::Io(error));
        }
    };
    produce(&mut |bytes| file.write(bytes))?;
    file.commit(&target)?;
    Ok(target)
}
