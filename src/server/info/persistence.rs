//! INFO persistence.

use super::{Field, Figure};
use std::sync::atomic::Ordering;

pub const FIELDS: &[Field] = &[
    Field::new("loading", |view| view.is_loading().into()),
    Field::new("async_loading", |_| false.into()),
    // Snapshots here copy no pages: what they hold in memory is bounded by design, not measured by the kernel.
    Field::new("current_cow_peak", |_| 0u64.into()),
    Field::new("current_cow_size", |_| 0u64.into()),
    Field::new("current_cow_size_age", |_| 0u64.into()),
    Field::new("current_fork_perc", |_| Figure::Ratio(0.0)),
    Field::new("current_save_keys_processed", |_| 0u64.into()),
    Field::new("current_save_keys_total", |_| 0u64.into()),
    Field::new("rdb_changes_since_last_save", |view| view.server.dirty.load(Ordering::Relaxed).into()),
    Field::new("rdb_bgsave_in_progress", |_| false.into()),
    Field::new("rdb_last_save_time", |view| (view.server.started_ms / 1000).into()),
    Field::new("rdb_last_bgsave_status", |_| "ok".into()),
    Field::new("rdb_last_bgsave_time_sec", |_| (-1i64).into()),
    Field::new("rdb_current_bgsave_time_sec", |_| (-1i64).into()),
    Field::new("rdb_saves", |_| 0u64.into()),
    Field::new("rdb_last_cow_size", |_| 0u64.into()),
    Field::new("rdb_last_load_keys_expired", |_| 0u64.into()),
    Field::new("rdb_last_load_keys_loaded", |_| 0u64.into()),
    Field::new("aof_enabled", |view| view.config.appendonly.into()),
    Field::new("aof_rewrite_in_progress", |_| false.into()),
    Field::new("aof_rewrite_scheduled", |_| false.into()),
    Field::new("aof_last_rewrite_time_sec", |_| (-1i64).into()),
    Field::new("aof_current_rewrite_time_sec", |_| (-1i64).into()),
    Field::new("aof_last_bgrewrite_status", |_| "ok".into()),
    Field::new("aof_rewrites", |_| 0u64.into()),
    Field::new("aof_rewrites_consecutive_failures", |_| 0u64.into()),
    Field::new("aof_last_write_status", |_| "ok".into()),
    Field::new("aof_last_cow_size", |_| 0u64.into()),
    Field::new("module_fork_in_progress", |_| false.into()),
    Field::new("module_fork_last_cow_size", |_| 0u64.into()),
];
