//! The first load: an append-only file if that is on, else the RDB file. Clients are answered meanwhile (-LOADING).

use super::aof;
use super::aof_load::{self, Place, Refused};
use super::aof_manifest::{Manifest, Part};
use super::aof_redo;
use super::files::TempFile;
use super::rdb_damage;
use super::rdb_load::{self, Rules, Summary};
use super::storage::{DISK, Storage};
use crate::base::clock::{self, Timer};
use crate::rdb::reader::LoadError;
use crate::resp::OwnedArgs;
use crate::server::Server;
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::atomic::Ordering;

/// Loads what is on disk. An error means that the server must not start.
pub fn load(server: &'static Server) -> Result<(), String> {
    let config = server.config.current();
    let manifest = read_manifest(DISK, Path::new(&config.appenddirname), &config.appendfilename)?;
    let manifest = if config.appendonly { load_aof(server, manifest)? } else { load_rdb(server).map(|()| manifest)? };
    aof::start(server, manifest)?;
    end(server);
    Ok(())
}

/// The manifest, if there is one. It is read even if the file is off: turning it on later must not reuse its numbers.
pub fn read_manifest(storage: &dyn Storage, dir: &Path, stem: &str) -> Result<Manifest, String> {
    let path = dir.join(format!("{stem}.manifest"));
    let mut text = Vec::new();
    match storage.open(&path).and_then(|mut file| file.read_to_end(&mut text)) {
        Ok(_) => {}
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Manifest::default()),
        Err(error) => return Err(format!("Fatal error: can't open the AOF manifest file {}: {error}", path.display())),
    }
    Manifest::parse(&String::from_utf8_lossy(&text)).map_err(|error| {
        tracing::warn!("\n*** FATAL AOF MANIFEST FILE ERROR ***\n");
        if error.line_number > 0 {
            tracing::warn!("Reading the manifest file, at line {}\n", error.line_number);
            tracing::warn!(">>> '{}'\n", error.line);
        }
        error.what.to_owned()
    })
}

/// Takes over the single file of a server before 7.0: it becomes the base.
fn adopt_old_file(server: &Server, manifest: &mut Manifest) -> Result<(), String> {
    let config = server.config.current();
    let (old, dir) = (Path::new(&config.appendfilename), Path::new(&config.appenddirname));
    let interrupted = manifest.incr.is_empty()
        && manifest
            .base
            .as_ref()
            .is_some_and(|base| base.name == config.appendfilename && !dir.join(&base.name).exists());
    if !old.exists() || !(!dir.is_dir() || manifest.is_empty() || interrupted) {
        return Ok(());
    }
    let fail = |error: std::io::Error| {
        format!("Error trying to move the old AOF file {} into dir {}: {error}", old.display(), dir.display())
    };
    DISK.create_dir(dir).map_err(fail)?;
    if !interrupted {
        *manifest = Manifest {
            base: Some(Part { name: config.appendfilename.clone(), seq: 1 }),
            base_seq: 1,
            ..Manifest::default()
        };
        let path = dir.join(format!("{}.manifest", config.appendfilename));
        let write = || {
            let mut file =
                TempFile::create(DISK, path.with_file_name(format!("temp-{}.manifest", config.appendfilename)), false)?;
            file.write(manifest.text().as_bytes())?;
            file.commit(&path)
        };
        write().map_err(fail)?;
    }
    std::fs::rename(old, dir.join(old)).map_err(fail)?;
    tracing::info!(
        "Successfully migrated an old-style AOF file ({}) into the AOF directory ({}).",
        old.display(),
        dir.display()
    );
    Ok(())
}

/// Base, then incr files in order.
fn load_aof(server: &'static Server, mut manifest: Manifest) -> Result<Manifest, String> {
    adopt_old_file(server, &mut manifest)?;
    let config = server.config.current();
    let place = Place { storage: DISK, dir: Path::new(&config.appenddirname) };
    redo(place, &config.appendfilename, &manifest)?;
    let total = aof_load::total_len(place, &manifest)?;
    if total > 0 {
        begin(server, total);
        // The log's last line says what is wrong.
        aof_load::load_all(server, place, &manifest).map_err(|Refused| String::new())?;
    }
    Ok(manifest)
}

/// After a power cut: brings the last file up to what the redo log says that it held.
pub fn redo(place: Place<'_>, stem: &str, manifest: &Manifest) -> Result<(), String> {
    let Some(part) = manifest.incr.last() else { return Ok(()) };
    let log = place.dir.join(aof_redo::name(stem));
    let count = aof_redo::recover(place.storage, &log, &place.dir.join(&part.name), part.seq)
        .map_err(|error| format!("Can't bring {} up to its redo log {}: {error}", part.name, log.display()))?;
    if count > 0 {
        tracing::warn!("{count} bytes of {} were not on disk: they are brought back from the redo log.", part.name);
    }
    Ok(())
}

fn load_rdb(server: &'static Server) -> Result<(), String> {
    let config = server.config.current();
    let start = Timer::start();
    let path = Path::new(&config.dbfilename);
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(format!("Fatal error loading the DB: {error}. Exiting.")),
    };
    let bytes = file.metadata().map_or(0, |metadata| metadata.len());
    // An empty file is what a crash before the first save leaves: there is nothing in it to lose.
    if bytes == 0 {
        return Ok(());
    }
    begin(server, bytes);
    let is_replica = server.is_replica.load(Ordering::Acquire);
    let rules = Rules { keep_expired: is_replica, replace: false, name_expired: !is_replica };
    match rdb_load::load(server, &mut { file }, rules) {
        Ok(summary) => {
            take_up_history(server, &summary);
            tracing::info!("DB loaded from disk: {:.3} seconds", start.elapsed().as_secs_f64());
            server.dirty.store(0, Ordering::Release);
            Ok(())
        }
        Err(error) => {
            let last_words = fatal(path, &error);
            if let Ok(mut file) = File::open(path) {
                // What an operator wants to know before he decides between the file, a backup and a replica.
                tracing::warn!("--- RDB ERROR DETECTED --- Reading all of {} again", path.display());
                let findings = rdb_damage::examine(&mut file, &config.limits);
                findings.lines().iter().for_each(|line| tracing::warn!("{line}"));
            }
            Err(last_words)
        }
    }
}

/// Goes on where the file says that the history was: a replica in that history, so that it may get by with a partial sync;
/// a primary in a new one, into which its replicas may follow from the old.
fn take_up_history(server: &Server, summary: &Summary) {
    let known = summary.repl_id.clone().zip(summary.repl_offset).zip(summary.repl_stream_db);
    let Some(((replid, offset), db)) = known else { return };
    let Ok(offset) = u64::try_from(offset) else { return };
    if server.is_replica.load(Ordering::Acquire) {
        server.role.change_ids(|ids| ids.replace(replid));
        server.role.stream_db.store(db, Ordering::Release);
        server.role.update_link(server.role.epoch(), |link| link.may_continue = true);
        server.journal.restart_at(offset);
        return;
    }
    server.role.change_ids(|ids| {
        ids.replid2 = replid;
        ids.second_offset = offset as i64 + 1;
    });
    server.journal.restart_at(offset);
    server.journal.set_retained(server.config.current().repl_backlog_size);
    server.replicas.none_since_ms.store(clock::unix_ms(), Ordering::Relaxed);
    // Replicas still have what has expired meanwhile.
    let verb: &[u8] = if server.config.current().lazyfree_lazy_expire { b"UNLINK" } else { b"DEL" };
    for (db, key) in &summary.expired {
        server.journal.append(&[(*db, OwnedArgs::new([verb, &**key]))]);
    }
}

/// From here on clients get -LOADING.
pub fn begin(server: &Server, bytes: u64) {
    let loading = &server.save_status.loading;
    loading.started_s.store(clock::unix_ms() / 1000, Ordering::Relaxed);
    loading.total_bytes.store(bytes, Ordering::Relaxed);
    loading.loaded_bytes.store(0, Ordering::Relaxed);
    loading.file_used_memory.store(0, Ordering::Relaxed);
    server.loading.store(true, Ordering::Release);
    // Commands that were let in before look again under their locks.
    server.renew_settings();
}

pub fn end(server: &Server) {
    server.loading.store(false, Ordering::Release);
}

/// The log's last words when a file cannot be loaded.
fn fatal(path: &Path, error: &LoadError) -> String {
    if let crate::rdb::Fault::Truncated(_) = error.fault {
        tracing::warn!("Short read or OOM loading DB. Unrecoverable error, aborting now.");
    }
    tracing::warn!("Internal error in RDB reading offset {}, file {} -> {}", error.offset, path.display(), error.fault);
    "Terminating server after rdb file reading failure.".to_owned()
}
