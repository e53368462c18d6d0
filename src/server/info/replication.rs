//! INFO replication.

use super::{Field, Figure, View};
use std::fmt::Write;
use std::sync::atomic::Ordering;

pub fn write(view: &View<'_>, text: &mut String) {
    super::write_fields(view, FIELDS, text);
    write_replicas(view, text);
    super::write_fields(view, HISTORY, text);
}

const FIELDS: &[Field] = &[
    Field::new("role", |view| if view.server.is_replica.load(Ordering::Relaxed) { "slave" } else { "master" }.into()),
    Field::new("connected_slaves", |view| view.server.replicas.len().into()),
    Field::new("min_slaves_good_slaves", |view| match counts_good_replicas(view) {
        true => view.server.replicas.good.load(Ordering::Relaxed).into(),
        false => Figure::Absent,
    }),
];

const HISTORY: &[Field] = &[
    Field::new("master_failover_state", |view| view.server.replicas.failover_stage().name().into()),
    Field::new("master_replid", |view| view.server.role.ids().replid.into()),
    Field::new("master_replid2", |view| view.server.role.ids().replid2.into()),
    Field::new("master_repl_offset", |view| view.server.journal.end().into()),
    Field::new("second_repl_offset", |view| view.server.role.ids().second_offset.into()),
    Field::new("repl_backlog_active", |view| view.server.journal.backlog().is_some().into()),
    Field::new("repl_backlog_size", |view| view.config.repl_backlog_size.into()),
    Field::new("repl_backlog_first_byte_offset", |view| {
        // Redis numbers the bytes from 1.
        view.server.journal.backlog().map_or(0, |backlog| backlog.first + 1).into()
    }),
    Field::new("repl_backlog_histlen", |view| view.server.journal.backlog().map_or(0, |backlog| backlog.len).into()),
];

fn counts_good_replicas(view: &View<'_>) -> bool {
    view.config.min_replicas_to_write > 0 && view.config.min_replicas_max_lag > 0
}

/// A line for each replica that is listed.
fn write_replicas(view: &View<'_>, text: &mut String) {
    let now_ms = view.now_us / 1000;
    let replicas = view.server.replicas.all();
    let listed = replicas.iter().filter_map(|replica| Some((replica, replica.state().name()?)));
    for (index, (replica, state)) in listed.enumerate() {
        let port = replica.announced.lock().port;
        let lag_s = if replica.is_online() { replica.lag_ms(now_ms).max(0) / 1000 } else { 0 };
        // A String takes whatever is written.
        let _ = write!(
            text,
            "slave{index}:ip={},port={port},state={state},offset={},lag={lag_s}\r\n",
            replica.ip(),
            replica.ack()
        );
    }
}
