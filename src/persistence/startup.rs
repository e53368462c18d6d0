//! The first load: an append-only file if that is on, else the RDB file. Clients are answered meanwhile (-LOADING).

use super::rdb_load::{self, Rules};
use crate::base::clock;
use crate::rdb::reader::LoadError;
use crate::server::Server;
use std::fs::File;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::Instant;

/// Loads what is on disk. An error means that the server must not start.
pub fn load(server: &'static Server) -> Result<(), String> {
    let result = load_rdb(server);
    end(server);
    result
}

fn load_rdb(server: &'static Server) -> Result<(), String> {
    let config = server.config.current();
    let start = Instant::now();
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
    let rules = Rules { keep_expired: server.is_replica.load(Ordering::Acquire), replace: false };
    match rdb_load::load(server, &mut { file }, rules) {
        Ok(_) => {
            tracing::info!("DB loaded from disk: {:.3} seconds", start.elapsed().as_secs_f64());
            server.dirty.store(0, Ordering::Release);
            Ok(())
        }
        Err(error) => Err(fatal(path, &error)),
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
