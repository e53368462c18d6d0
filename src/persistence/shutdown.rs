//! The last save.

use super::{aof, rdb_save};
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
    stop_snapshot(server);
    let wanted = wish.save.unwrap_or(!server.config.current().save.is_empty());
    let locked = server.keyspace.lock_all();
    if let Some(aof) = aof::get().filter(|aof| aof.is_enabled()) {
        tracing::info!("Calling fsync() on the AOF file.");
        if !aof.flush(Duration::from_secs(10)) {
            tracing::warn!("Fail to fsync the AOF file: it takes too long");
            if !wish.force {
                return false;
            }
        }
    }
    if wanted {
        tracing::info!("Saving the final RDB snapshot before exiting.");
        if rdb_save::save(server, &locked).is_err() && !wish.force {
            tracing::warn!("Error trying to save the DB, can't exit.");
            return false;
        }
    }
    std::mem::forget(locked);
    true
}

fn stop_snapshot(server: &Server) {
    let status = &server.save_status;
    match status.activity() {
        Activity::None => return,
        Activity::Rdb => tracing::warn!("There is a child saving an .rdb. Killing it!"),
        Activity::AofRewrite => tracing::warn!("There is a child rewriting the AOF. Killing it!"),
        Activity::Replication => tracing::warn!("There is a snapshot on its way to a replica. Stopping it!"),
    }
    status.cancel();
    // It looks at the wish after every slice.
    for _ in 0..1000 {
        if status.activity() == Activity::None {
            return;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}
