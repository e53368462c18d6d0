//! INFO replication.

use super::{Field, Figure, View};
use crate::server::role::{Link, LinkState};
use std::fmt::Write;
use std::sync::atomic::Ordering;

pub fn write(view: &View<'_>, text: &mut String) {
    super::write_fields(view, FIELDS, text);
    write_replicas(view, text);
    super::write_fields(view, HISTORY, text);
}

const FIELDS: &[Field] = &[
    Field::new("role", |view| if view.server.is_replica.load(Ordering::Relaxed) { "slave" } else { "master" }.into()),
    Field::new("master_host", |view| of_replica(view, |link| link.primary.map(|primary| primary.host).into())),
    Field::new("master_port", |view| {
        of_replica(view, |link| link.primary.map(|primary| u64::from(primary.port)).into())
    }),
    Field::new("master_link_status", |view| {
        of_replica(view, |link| if link.state == LinkState::Connected { "up" } else { "down" }.into())
    }),
    Field::new("master_last_io_seconds_ago", |view| {
        of_replica(view, |link| if link.state == LinkState::Connected { heard_s(view) } else { -1 }.into())
    }),
    Field::new("master_sync_in_progress", |view| of_replica(view, |link| (link.state == LinkState::Transfer).into())),
    Field::new("slave_read_repl_offset", |view| {
        of_replica(view, |link| match link.state {
            LinkState::Connected => view.server.role.read_offset.load(Ordering::Relaxed).into(),
            _ => applied(view, &link).into(),
        })
    }),
    Field::new("slave_repl_offset", |view| of_replica(view, |link| applied(view, &link).into())),
    Field::new("master_sync_total_bytes", |view| in_transfer(view, |total, _| total.into())),
    Field::new("master_sync_read_bytes", |view| in_transfer(view, |_, read| read.into())),
    Field::new("master_sync_left_bytes", |view| in_transfer(view, |total, read| (total - read).into())),
    Field::new("master_sync_perc", |view| {
        in_transfer(view, |total, read| Figure::Ratio(if total > 0 { read as f64 / total as f64 * 100.0 } else { 0.0 }))
    }),
    Field::new("master_sync_last_io_seconds_ago", |view| in_transfer(view, |_, _| heard_s(view).into())),
    Field::new("master_link_down_since_seconds", |view| {
        of_replica(view, |link| match link.state {
            LinkState::Connected => Figure::Absent,
            _ => link.down_since_ms.map_or(-1, |since| seconds_since(view, since)).into(),
        })
    }),
    Field::new("slave_priority", |view| of_replica(view, |_| view.config.replica_priority.into())),
    Field::new("slave_read_only", |view| of_replica(view, |_| view.config.replica_read_only.into())),
    Field::new("replica_announced", |view| of_replica(view, |_| view.config.replica_announced.into())),
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
    Field::new("repl_spill_bytes", |view| match view.config.repl_spill_size {
        0 => Figure::Absent,
        _ => view.server.replicas.spilled_bytes.load(Ordering::Relaxed).into(),
    }),
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

/// A field that only replicas have.
fn of_replica(view: &View<'_>, value: impl FnOnce(Link) -> Figure) -> Figure {
    if view.server.is_replica.load(Ordering::Relaxed) { value(view.link().clone()) } else { Figure::Absent }
}

/// A field that only replicas have while a snapshot comes: from its size and what has come.
fn in_transfer(view: &View<'_>, value: impl FnOnce(i64, i64) -> Figure) -> Figure {
    of_replica(view, |link| match link.state {
        LinkState::Transfer => {
            let transfer = &view.server.role.transfer;
            value(transfer.total.load(Ordering::Relaxed), transfer.read.load(Ordering::Relaxed))
        }
        _ => Figure::Absent,
    })
}

/// The offset up to which the primary's history was applied; 0 if what is here is none of it.
fn applied(view: &View<'_>, link: &Link) -> u64 {
    let has_history = link.may_continue || link.state == LinkState::Connected;
    if has_history { view.server.journal.end() } else { 0 }
}

fn heard_s(view: &View<'_>) -> i64 {
    seconds_since(view, view.server.role.last_io_ms.load(Ordering::Relaxed))
}

fn seconds_since(view: &View<'_>, since_ms: i64) -> i64 {
    (view.now_us / 1000 - since_ms).max(0) / 1000
}
