//! INFO clients.

use super::Field;
use super::view::{load, load_u64};
use crate::engine::keyspace::SHARDS;

pub const FIELDS: &[Field] = &[
    Field::new("connected_clients", |view| view.clients().normal.into()),
    Field::new("cluster_connections", |view| load_u64(&view.server.slots.connections).into()),
    Field::new("maxclients", |view| view.config.maxclients.into()),
    Field::new("client_recent_max_input_buffer", |view| view.clients().max_input.into()),
    Field::new("client_recent_max_output_buffer", |view| view.clients().max_output.into()),
    Field::new("blocked_clients", |view| load(&view.server.clients.blocked).into()),
    Field::new("tracking_clients", |view| load(&view.server.tracking_clients).into()),
    Field::new("pubsub_clients", |view| view.clients().pubsub.into()),
    Field::new("watching_clients", |view| view.clients().watching.into()),
    // Blocked clients have their deadlines in their own tasks; nothing else keeps a table of them.
    Field::new("clients_in_timeout_table", |_| 0u64.into()),
    Field::new("total_watched_keys", |view| view.clients().watched_keys.into()),
    Field::new("total_blocking_keys", |view| {
        let waiting = |shard: usize| {
            let waiters = &view.locked.shard(shard).waiters;
            (0..view.server.keyspace.databases()).map(|db| waiters.keys_of(db).count()).sum::<usize>()
        };
        (0..SHARDS).map(waiting).sum::<usize>().into()
    }),
    Field::new("total_blocking_keys_on_nokey", |_| 0u64.into()),
];
