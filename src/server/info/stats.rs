//! INFO stats, and INFO debug.

use super::view::load_u64;
use super::{Field, Figure};
use crate::server::acl::log::Reason;
use crate::server::pubsub::Kind;
use crate::server::stats::rates::Rate;
use std::sync::atomic::Ordering;

pub const FIELDS: &[Field] = &[
    Field::new("total_connections_received", |view| load_u64(&view.server.stats.connections_received).into()),
    Field::new("total_commands_processed", |view| view.sum(|stats| stats.commands_processed.value()).into()),
    Field::new("instantaneous_ops_per_sec", |view| (view.server.stats.rates.per_second(Rate::Commands) as u64).into()),
    Field::new("total_net_input_bytes", |view| view.sum(|stats| stats.input_bytes.value()).into()),
    Field::new("total_net_output_bytes", |view| view.sum(|stats| stats.output_bytes.value()).into()),
    Field::new("total_net_repl_input_bytes", |view| load_u64(&view.server.stats.primary_bytes).into()),
    Field::new("total_net_repl_output_bytes", |view| load_u64(&view.server.replicas.output_bytes).into()),
    Field::new("instantaneous_input_kbps", |view| {
        Figure::Ratio(view.server.stats.rates.per_second(Rate::InputBytes) / 1024.0)
    }),
    Field::new("instantaneous_output_kbps", |view| {
        Figure::Ratio(view.server.stats.rates.per_second(Rate::OutputBytes) / 1024.0)
    }),
    Field::new("instantaneous_input_repl_kbps", |view| {
        Figure::Ratio(view.server.stats.rates.per_second(Rate::InputFromPrimary) / 1024.0)
    }),
    Field::new("instantaneous_output_repl_kbps", |view| {
        Figure::Ratio(view.server.stats.rates.per_second(Rate::OutputToReplicas) / 1024.0)
    }),
    Field::new("rejected_connections", |view| load_u64(&view.server.stats.connections_rejected).into()),
    Field::new("sync_full", |view| load_u64(&view.server.replicas.sync_full).into()),
    Field::new("sync_partial_ok", |view| load_u64(&view.server.replicas.sync_partial_ok).into()),
    Field::new("sync_partial_err", |view| load_u64(&view.server.replicas.sync_partial_err).into()),
    Field::new("expired_subkeys", |view| view.sum(|stats| stats.keys.expired_fields.value()).into()),
    Field::new("expired_keys", |view| view.sum(|stats| stats.keys.expired.value()).into()),
    Field::new("expired_stale_perc", |view| Figure::Ratio(view.server.expire_cycle.stale_perc())),
    Field::new("expired_time_cap_reached_count", |view| load_u64(&view.server.expire_cycle.time_cap_reached).into()),
    Field::new("expire_cycle_cpu_milliseconds", |view| (load_u64(&view.server.expire_cycle.time_us) / 1000).into()),
    Field::new("evicted_keys", |view| load_u64(&view.server.stats.evicted_keys).into()),
    Field::new("evicted_clients", |view| load_u64(&view.server.stats.evicted_clients).into()),
    Field::new("evicted_scripts", |view| load_u64(&view.server.scripts.evicted).into()),
    Field::new("total_eviction_exceeded_time", |view| (view.server.eviction.total_exceeded_us() / 1000).into()),
    Field::new("current_eviction_exceeded_time", |view| (view.server.eviction.current_exceeded_us() / 1000).into()),
    Field::new("keyspace_hits", |view| view.sum(|stats| stats.keys.hits.value()).into()),
    Field::new("keyspace_misses", |view| view.sum(|stats| stats.keys.misses.value()).into()),
    Field::new("pubsub_channels", |view| view.server.pubsub.count(Kind::Channel).into()),
    Field::new("pubsub_patterns", |view| view.server.pubsub.count(Kind::Pattern).into()),
    Field::new("pubsubshard_channels", |view| view.server.pubsub.count(Kind::ShardChannel).into()),
    // Nothing here forks.
    Field::new("latest_fork_usec", |_| 0u64.into()),
    // Nothing forks here: snapshots begun.
    Field::new("total_forks", |view| load_u64(&view.server.save_status.snapshots).into()),
    Field::new("migrate_cached_sockets", |view| view.server.migrations.cached_sockets.load(Ordering::Relaxed).into()),
    Field::new("slave_expires_tracked_keys", |view| view.server.own_expiries.len().into()),
    Field::new("active_defrag_hits", |_| 0u64.into()),
    Field::new("active_defrag_misses", |_| 0u64.into()),
    Field::new("active_defrag_key_hits", |_| 0u64.into()),
    Field::new("active_defrag_key_misses", |_| 0u64.into()),
    Field::new("total_active_defrag_time", |_| 0u64.into()),
    Field::new("current_active_defrag_time", |_| 0u64.into()),
    Field::new("tracking_total_keys", |view| view.server.tracking.key_count().into()),
    Field::new("tracking_total_items", |view| view.server.tracking.item_count().into()),
    Field::new("tracking_total_prefixes", |view| view.server.tracking.prefix_count().into()),
    Field::new("unexpected_error_replies", |view| load_u64(&view.server.stats.unexpected_error_replies).into()),
    Field::new("total_error_replies", |view| view.sum(|stats| stats.error_replies.value()).into()),
    Field::new("dump_payload_sanitizations", |_| 0u64.into()),
    Field::new("total_reads_processed", |view| view.sum(|stats| stats.reads_processed.value()).into()),
    Field::new("total_writes_processed", |view| view.sum(|stats| stats.writes_processed.value()).into()),
    // Every worker reads and writes for itself: nothing is handed to another thread.
    Field::new("io_threaded_reads_processed", |_| 0u64.into()),
    Field::new("io_threaded_writes_processed", |_| 0u64.into()),
    Field::new("client_query_buffer_limit_disconnections", |view| {
        load_u64(&view.server.stats.query_limit_disconnections).into()
    }),
    Field::new("client_output_buffer_limit_disconnections", |view| {
        load_u64(&view.server.stats.output_limit_disconnections).into()
    }),
    Field::new("reply_buffer_shrinks", |_| 0u64.into()),
    Field::new("reply_buffer_expands", |_| 0u64.into()),
    Field::new("acl_access_denied_auth", |view| view.server.acl.log.count(Reason::Auth).into()),
    Field::new("acl_access_denied_cmd", |view| view.server.acl.log.count(Reason::Command).into()),
    Field::new("acl_access_denied_key", |view| view.server.acl.log.count(Reason::Key).into()),
    Field::new("acl_access_denied_channel", |view| view.server.acl.log.count(Reason::Channel).into()),
];

/// What only INFO debug shows.
pub const DEBUG_FIELDS: &[Field] = &[
    Field::new("workers", |view| view.config.io_threads.into()),
    Field::new("workers_active", |view| view.server.workers.active().into()),
];
