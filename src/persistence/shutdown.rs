//! The last save.

use super::aof::{self, Aof};
use super::rdb_save;
use crate::engine::keyspace::ShardSet;
use crate::server::Server;
use crate::server::intents::ShutdownWish;
use crate::server::save_status::Activity;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Makes everything durable that shall be; false if that failed and the shutdown was not forced. On success no command
/// runs any more: what it changed would be lost.
pub fn prepare(server: &'static Server, wish: ShutdownWish) -> bool {
    tracing::warn!("User requested shutdown...");
    if server.loading.load(Ordering::Acquire) {
        return true;
    }
    let done = save(server, wish);
    if !done {
        tracing::warn!("Errors trying to shut down the server. Check the logs for more information.");
    }
    done
}

fn save(server: &'static Server, wish: ShutdownWish) -> bool {
    if !stop_snapshot(server, wish) {
        return false;
    }
    let wanted = wish.save.unwrap_or(!server.config.current().save.is_empty());
    // What a busy script has done so far is lost, and it goes on until the process ends.
    let given_up = || !wanted && server.scripts.running.is_busy();
    let locked = server.keyspace.lock_unless(ShardSet::ALL, given_up);
    if let Some(aof) = aof::get().filter(|aof| aof.is_enabled()) {
        tracing::info!("Calling fsync() on the AOF file.");
        if !aof.flush(Duration::from_secs(10)) {
            tracing::warn!("Fail to fsync the AOF file: it takes too long");
            if !wish.force {
                return false;
            }
        }
    }
    // If that fails the next start makes up for it.
    let _ = aof::get().map(Aof::retire_redo);
    if let Some(locked) = locked.as_ref().filter(|_| wanted) {
        tracing::info!("Saving the final RDB snapshot before exiting.");
        if rdb_save::save(server, locked).is_err() {
            if !wish.force {
                tracing::warn!("Error trying to save the DB, can't exit.");
                return false;
            }
            tracing::warn!("Error trying to save the DB. Exiting anyway.");
        }
    }
    std::mem::forget(locked);
    true
}

/// False if the running snapshot is one without which the data would be lost.
fn stop_snapshot(server: &Server, wish: ShutdownWish) -> bool {
    let status = &server.save_status;
    match status.activity() {
        Activity::None => return true,
        Activity::Rdb => tracing::warn!("There is a child saving an .rdb. Killing it!"),
        Activity::AofRewrite if aof::get().is_some_and(Aof::has_no_base) => {
            if !wish.force {
                tracing::warn!("Writing initial AOF, can't exit.");
                return false;
            }
            tracing::warn!("Writing initial AOF. Exiting anyway.");
        }
        Activity::AofRewrite => tracing::warn!("There is a child rewriting the AOF. Killing it!"),
        Activity::Replication => tracing::warn!("There is a snapshot on its way to a replica. Stopping it!"),
    }
    status.cancel();
    // It looks at the wish after every slice.
    for _ in 0..1000 {
        if status.activity() == Activity::None {
            break;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    true
}
