//! What saving does by itself: save points, scheduled saves and rewrites.

use super::{aof_rewrite, aof_writer, rdb_save};
use crate::base::clock;
use crate::engine::keyspace::{Locked, ShardSet};
use crate::server::Server;
use crate::server::save_status::Activity;
use std::sync::atomic::Ordering;

/// Seconds before a save that failed is tried again.
const RETRY_SECONDS: i64 = 5;

/// To be called a few times per second.
pub fn run(server: &'static Server) {
    let status = &server.save_status;
    server.journal.collect();
    aof_writer::watch(server);
    if server.loading.load(Ordering::Acquire)
        || server.async_loading.load(Ordering::Acquire)
        || status.activity() != Activity::None
    {
        return;
    }
    if status.aof.rewrite_scheduled.load(Ordering::Acquire) && may_rewrite(server) {
        unless_busy(server, |locked| aof_rewrite::start(server, Some(locked)));
        return;
    }
    if status.bgsave_scheduled.load(Ordering::Acquire) && may_try(server) {
        unless_busy(server, |locked| {
            status.bgsave_scheduled.store(false, Ordering::Release);
            rdb_save::start(server, Some(locked))
        });
        return;
    }
    let (dirty, now_s) = (server.dirty.load(Ordering::Acquire), clock::unix_ms() / 1000);
    let elapsed = now_s - status.last_save_s.load(Ordering::Acquire);
    let config = server.config.current();
    let due = config.save.iter().find(|point| dirty >= point.changes as i64 && elapsed > point.seconds as i64);
    if let Some(point) = due.filter(|_| may_try(server)) {
        tracing::info!("{} changes in {} seconds. Saving...", point.changes, point.seconds);
        unless_busy(server, |locked| rdb_save::start(server, Some(locked)));
        return;
    }
    if status.aof.enabled.load(Ordering::Acquire)
        && let Some(growth) = aof_rewrite::growth_due(server)
        && may_rewrite(server)
    {
        tracing::info!("Starting automatic rewriting of AOF on {growth}% growth");
        unless_busy(server, |locked| aof_rewrite::start(server, Some(locked)));
    }
}

/// Starts a snapshot with everything locked. This thread accepts connections, too: while a busy script keeps the shards it must not
/// wait for them.
fn unless_busy(server: &'static Server, start: impl FnOnce(&mut Locked) -> bool) {
    if let Some(mut locked) = server.lock(ShardSet::ALL) {
        start(&mut locked);
    }
}

/// Rewrites that fail again and again are tried ever more seldom: after 1, 2, 4 … 60 minutes.
fn may_rewrite(server: &Server) -> bool {
    let status = &server.save_status;
    let failures = status.aof.rewrites_consecutive_failures.load(Ordering::Relaxed);
    if failures < 3 {
        return true;
    }
    let minutes = (1i64 << (failures - 3).min(6)).min(60);
    let limit = &status.aof.rewrite_limit_failures;
    if limit.swap(failures, Ordering::Relaxed) != failures {
        tracing::warn!(
            "Background AOF rewrite has repeatedly failed and triggered the limit, will retry in {minutes} minutes"
        );
    }
    clock::unix_ms() / 1000 - status.activity_started_s.load(Ordering::Relaxed) >= minutes * 60
}

fn may_try(server: &Server) -> bool {
    let status = &server.save_status;
    let since = clock::unix_ms() / 1000 - status.last_bgsave_try_s.load(Ordering::Relaxed);
    since > RETRY_SECONDS || !status.last_bgsave_failed.load(Ordering::Relaxed)
}
