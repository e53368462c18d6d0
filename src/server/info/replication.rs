//! INFO replication.

use super::{Field, View};
use std::sync::atomic::Ordering;

pub fn write(view: &View<'_>, text: &mut String) {
    super::write_fields(view, FIELDS, text);
}

const FIELDS: &[Field] = &[
    Field::new("role", |view| if view.server.is_replica.load(Ordering::Relaxed) { "slave" } else { "master" }.into()),
    Field::new("connected_slaves", |view| view.clients().replicas.into()),
    Field::new("master_failover_state", |_| "no-failover".into()),
    Field::new("master_replid", |view| view.server.role.ids().replid.into()),
    Field::new("master_replid2", |view| view.server.role.ids().replid2.into()),
    Field::new("master_repl_offset", |view| view.server.journal.end().into()),
    Field::new("second_repl_offset", |view| view.server.role.ids().second_offset.into()),
    Field::new("repl_backlog_active", |_| false.into()),
    Field::new("repl_backlog_size", |view| view.config.repl_backlog_size.into()),
    Field::new("repl_backlog_first_byte_offset", |_| 0u64.into()),
    Field::new("repl_backlog_histlen", |_| 0u64.into()),
];
