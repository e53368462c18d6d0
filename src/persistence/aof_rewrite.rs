//! BGREWRITEAOF: a new base from a snapshot, after which the old files go.
//!
//! ```text
//!   cut ─┬─ the writer goes on to incr n+1          manifest: base m, incr …n, incr n+1
//!        └─ snapshot ─► temp file ─► base m+1       manifest: base m+1, incr n+1     (the rest is history)
//! ```

use super::aof::{self, Aof};
use super::aof_load::plain;
use super::commands_base::CommandWriter;
use super::files::TempFile;
use super::rdb_save::{self, Purpose};
use super::snapshot::{self, Serializer, Sink, Stopped};
use crate::base::{clock, processors};
use crate::engine::keyspace::Locked;
use crate::server::Server;
use crate::server::save_status::Activity;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

fn serializer(server: &Server) -> (Serializer, bool) {
    let rdb = server.config.current().aof_use_rdb_preamble;
    let serializer = if rdb {
        Serializer::Rdb(Box::new(rdb_save::writer(server, Purpose::AofBase)))
    } else {
        Serializer::Commands(CommandWriter::new(server))
    };
    (serializer, rdb)
}

/// A base of what is there now, under locks that the caller holds (the first file of a new server).
pub fn write_base_locked(aof: &Aof, locked: &Locked, target: &Path) -> io::Result<()> {
    let (serializer, _) = serializer(aof.server);
    let mut file = TempFile::create(aof.storage, target.with_file_name(temp_name()), false)?;
    snapshot::run_locked(aof.server, locked, serializer, |bytes| file.write(bytes))?;
    file.commit(target)
}

fn temp_name() -> String {
    format!("temp-rewriteaof-bg-{}.aof", std::process::id())
}

/// Starts a rewrite; false if another snapshot is being written.
pub fn start(server: &'static Server, locked: Option<&mut Locked>) -> bool {
    let Some(aof) = aof::get() else { return false };
    debug_assert!(std::ptr::eq(server, aof.server));
    let cut = cut(aof, locked, |aof, _| {
        if aof.is_enabled() {
            aof.rotate_here();
        }
    });
    cut.is_some_and(|cut| in_background(aof, cut))
}

/// Turns the file on: its first base is a rewrite, and the first commands come after the cut.
pub fn start_first(aof: &'static Aof) -> bool {
    cut(aof, None, |aof, locked| aof.enable_locked(locked)).is_some_and(|cut| in_background(aof, cut))
}

/// A rewrite whose point in time is settled.
pub struct Cut {
    sink: Arc<Sink>,
    rdb: bool,
}

/// Settles the point in time; nothing if another snapshot is being written.
pub fn cut(aof: &'static Aof, locked: Option<&mut Locked>, at_cut: impl FnOnce(&Aof, &Locked)) -> Option<Cut> {
    let server = aof.server;
    let status = &server.save_status;
    if !status.begin(Activity::AofRewrite, clock::unix_ms() / 1000) {
        return None;
    }
    status.aof.rewrite_scheduled.store(false, Ordering::Release);
    status.aof.rewrites.fetch_add(1, Ordering::Relaxed);
    let cut = |locked: &mut Locked| {
        at_cut(aof, locked);
        let (serializer, rdb) = serializer(server);
        (snapshot::begin(server, locked, serializer), rdb)
    };
    let (sink, rdb) = match locked {
        Some(locked) => cut(locked),
        None => cut(&mut server.keyspace.lock_all()),
    };
    Some(Cut { sink, rdb })
}

fn in_background(aof: &'static Aof, cut: Cut) -> bool {
    tracing::info!("Background append only file rewriting started by pid {}", std::process::id());
    let spawned = std::thread::Builder::new().name("aof-rewrite".into()).spawn(move || run(aof, &cut));
    if let Err(error) = spawned {
        tracing::warn!("Can't rewrite append only file in background: {error}");
        snapshot::abandon(aof.server.keyspace);
        note(aof.server, true);
        aof.server.save_status.end();
    }
    true
}

/// Writes the base and makes it the current one.
pub fn run(aof: &'static Aof, cut: &Cut) {
    let _member = processors::join(processors::Kind::Rewrite);
    let server = aof.server;
    let status = &server.save_status;
    let result = rewrite(aof, cut);
    let seconds = clock::unix_ms() / 1000 - status.activity_started_s.load(Ordering::Relaxed);
    status.aof.last_rewrite_seconds.store(seconds, Ordering::Relaxed);
    status.aof.last_ahead_bytes.store(status.ahead_bytes.load(Ordering::Relaxed), Ordering::Relaxed);
    match result {
        Ok(()) => {
            tracing::info!("Background AOF rewrite finished successfully");
            note(server, false);
        }
        Err(Stopped::Cancelled) => tracing::warn!("Background AOF rewrite terminated by signal 10"),
        Err(Stopped::Io(error)) => {
            tracing::warn!("Write error writing append only file on disk: {}", plain(&error));
            tracing::warn!("Background AOF rewrite terminated with error");
            note(server, true);
        }
    }
    // A file that was just turned on has no base yet: it must be tried again.
    if let Some(part) = &aof.files.lock().unlisted {
        tracing::info!("Removing the temp incr aof file {} in the background", part.name);
        status.aof.rewrite_scheduled.store(true, Ordering::Release);
    }
    status.end();
}

fn note(server: &Server, failed: bool) {
    let aof = &server.save_status.aof;
    aof.last_rewrite_failed.store(failed, Ordering::Relaxed);
    if failed {
        aof.rewrites_consecutive_failures.fetch_add(1, Ordering::Relaxed);
    } else {
        aof.rewrites_consecutive_failures.store(0, Ordering::Relaxed);
    }
}

fn rewrite(aof: &'static Aof, cut: &Cut) -> Result<(), Stopped> {
    let server = aof.server;
    let incremental = server.config.current().aof_rewrite_incremental_fsync;
    let opened = aof
        .create_dir()
        .and_then(|()| std::env::current_dir())
        .and_then(|dir| TempFile::create(aof.storage, dir.join(temp_name()), incremental));
    // Tables wait for the end of the snapshot to grow again.
    let mut file = opened.inspect_err(|_| snapshot::abandon(server.keyspace))?;
    snapshot::run(server, &cut.sink, |bytes| file.write(bytes))?;
    file.sync()?;
    tracing::info!("Successfully created the temporary AOF base file {}", temp_name());
    while aof.is_enabled() && !aof.has_rotated() {
        if server.save_status.is_cancelled() {
            return Err(Stopped::Cancelled);
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    tracing::info!("Background AOF rewrite terminated with success");
    let mut files = aof.files.lock();
    let mut manifest = files.manifest.clone();
    let base = manifest.replace_base(&aof.stem, cut.rdb);
    let kept = if aof.is_enabled() { aof.rotated_to.load(Ordering::Acquire) } else { i64::MAX };
    manifest.retire_incr_before(kept);
    manifest.incr.extend(files.unlisted.clone());
    file.commit(&aof.path(&base.name))?;
    aof.persist(&mut manifest, aof.auto_gc())?;
    files.manifest = manifest;
    files.unlisted = None;
    aof.measure_rewritten(&files);
    Ok(())
}

/// By how many percent the file has grown since the last rewrite, if that is enough for another.
pub fn growth_due(server: &Server) -> Option<u64> {
    let (config, aof) = (server.config.current(), &server.save_status.aof);
    let (size, base) = (aof.current_size.load(Ordering::Relaxed), aof.base_size.load(Ordering::Relaxed).max(1));
    if config.auto_aof_rewrite_percentage == 0 || size <= config.auto_aof_rewrite_min_size {
        return None;
    }
    let growth = (size * 100 / base).saturating_sub(100);
    (growth >= u64::from(config.auto_aof_rewrite_percentage)).then_some(growth)
}
