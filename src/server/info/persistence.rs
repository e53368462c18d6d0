//! INFO persistence.

use super::view::load_u64;
use super::{Field, Figure, View};
use crate::server::save_status::{Activity, AofStatus, Loading, SaveStatus};
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

pub const FIELDS: &[Field] = &[
    Field::new("loading", |view| view.is_loading().into()),
    Field::new("async_loading", |view| load_bool(&view.server.async_loading).into()),
    // Snapshots here copy no pages: what writers had to save ahead of them is the counterpart.
    Field::new("current_cow_peak", |view| load_u64(&view.save().ahead_bytes).into()),
    Field::new("current_cow_size", |view| load_u64(&view.save().ahead_bytes).into()),
    Field::new("current_cow_size_age", |_| 0u64.into()),
    Field::new("current_fork_perc", |view| Figure::Ratio(saved_percent(view))),
    Field::new("current_save_keys_processed", |view| load_u64(&view.save().keys_processed).into()),
    Field::new("current_save_keys_total", |view| load_u64(&view.save().keys_total).into()),
    Field::new("rdb_changes_since_last_save", |view| view.server.dirty.load(Ordering::Relaxed).into()),
    Field::new("rdb_bgsave_in_progress", |view| is_saving(view).into()),
    Field::new("rdb_last_save_time", |view| load_i64(&view.save().last_save_s).into()),
    Field::new("rdb_last_bgsave_status", |view| status(load_bool(&view.save().last_bgsave_failed))),
    Field::new("rdb_last_bgsave_time_sec", |view| load_i64(&view.save().last_bgsave_seconds).into()),
    Field::new("rdb_current_bgsave_time_sec", |view| running_s(view, is_saving(view)).into()),
    Field::new("rdb_saves", |view| load_u64(&view.save().rdb_saves).into()),
    Field::new("rdb_last_cow_size", |view| load_u64(&view.save().last_ahead_bytes).into()),
    Field::new("rdb_last_load_keys_expired", |view| load_u64(&view.save().loading.keys_expired).into()),
    Field::new("rdb_last_load_keys_loaded", |view| load_u64(&view.save().loading.keys_loaded).into()),
    Field::new("aof_enabled", |view| view.config.appendonly.into()),
    Field::new("aof_rewrite_in_progress", |view| view.save().is_rewriting_aof().into()),
    Field::new("aof_rewrite_scheduled", |view| view.save().is_rewrite_scheduled().into()),
    Field::new("aof_last_rewrite_time_sec", |view| load_i64(&view.save().aof.last_rewrite_seconds).into()),
    Field::new("aof_current_rewrite_time_sec", |view| {
        running_s(view, view.save().activity() == Activity::AofRewrite).into()
    }),
    Field::new("aof_last_bgrewrite_status", |view| status(load_bool(&view.save().aof.last_rewrite_failed))),
    Field::new("aof_rewrites", |view| load_u64(&view.save().aof.rewrites).into()),
    Field::new("aof_rewrites_consecutive_failures", |view| {
        load_u64(&view.save().aof.rewrites_consecutive_failures).into()
    }),
    Field::new("aof_last_write_status", |view| status(load_i64(&view.save().aof.write_error) != 0)),
    Field::new("aof_last_cow_size", |view| load_u64(&view.save().aof.last_ahead_bytes).into()),
    Field::new("aof_current_size", |view| aof_only(view, |aof| load_u64(&aof.current_size))),
    Field::new("aof_base_size", |view| aof_only(view, |aof| load_u64(&aof.base_size))),
    Field::new("aof_pending_rewrite", |view| aof_only(view, |aof| load_bool(&aof.rewrite_scheduled).into())),
    Field::new("aof_buffer_length", |view| aof_only(view, |aof| aof.waiting(&view.server.journal))),
    Field::new("aof_pending_bio_fsync", |view| aof_only(view, |aof| load_bool(&aof.pending_fsync).into())),
    Field::new("aof_delayed_fsync", |view| aof_only(view, |aof| load_u64(&aof.delayed_fsync))),
    Field::new("loading_start_time", |view| loading_only(view, |loading| load_i64(&loading.started_s) as u64)),
    Field::new("loading_total_bytes", |view| loading_only(view, |loading| load_u64(&loading.total_bytes))),
    Field::new("loading_rdb_used_mem", |view| loading_only(view, |loading| load_u64(&loading.file_used_memory))),
    Field::new("loading_loaded_bytes", |view| loading_only(view, |loading| load_u64(&loading.loaded_bytes))),
    Field::new("loading_loaded_perc", |view| {
        if view.is_loading() { Figure::Ratio(loaded_share(&view.save().loading) * 100.0) } else { Figure::Absent }
    }),
    Field::new("loading_eta_seconds", |view| {
        let elapsed_s = view.now_us / 1_000_000 - load_i64(&view.save().loading.started_s);
        match loaded_share(&view.save().loading) {
            _ if !view.is_loading() => Figure::Absent,
            // Nothing is known yet.
            0.0 => 1u64.into(),
            share => ((elapsed_s.max(0) as f64 * (1.0 - share) / share) as u64).into(),
        }
    }),
    Field::new("module_fork_in_progress", |_| false.into()),
    Field::new("module_fork_last_cow_size", |_| 0u64.into()),
];

impl View<'_> {
    fn save(&self) -> &SaveStatus {
        &self.server.save_status
    }
}

/// A snapshot for a replica is a BGSAVE for Redis.
fn is_saving(view: &View<'_>) -> bool {
    matches!(view.save().activity(), Activity::Rdb | Activity::Replication)
}

fn load_i64(value: &AtomicI64) -> i64 {
    value.load(Ordering::Relaxed)
}

fn load_bool(value: &AtomicBool) -> bool {
    value.load(Ordering::Relaxed)
}

fn status(failed: bool) -> Figure {
    if failed { "err" } else { "ok" }.into()
}

/// Seconds since the running activity began, -1 if it is not the one asked for.
fn running_s(view: &View<'_>, is_that: bool) -> i64 {
    if !is_that {
        return -1;
    }
    (view.now_us / 1_000_000 - load_i64(&view.save().activity_started_s)).max(0)
}

/// How much of a running snapshot is written.
fn saved_percent(view: &View<'_>) -> f64 {
    let total = load_u64(&view.save().keys_total);
    if view.save().activity() == Activity::None || total == 0 {
        return 0.0;
    }
    load_u64(&view.save().keys_processed) as f64 * 100.0 / total as f64
}

/// How much of the data set is loaded, from 0 to 1.
fn loaded_share(loading: &Loading) -> f64 {
    let total = load_u64(&loading.total_bytes).max(1);
    (load_u64(&loading.loaded_bytes) as f64 / total as f64).min(1.0)
}

/// Lines that are there only with an append-only file.
fn aof_only(view: &View<'_>, figure: impl Fn(&AofStatus) -> u64) -> Figure {
    let aof = &view.save().aof;
    if load_bool(&aof.enabled) { figure(aof).into() } else { Figure::Absent }
}

/// Lines that are there only while a data set is loaded.
fn loading_only(view: &View<'_>, figure: fn(&Loading) -> u64) -> Figure {
    if view.is_loading() { figure(&view.save().loading).into() } else { Figure::Absent }
}
