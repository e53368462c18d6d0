//! Handing out the effects of commands, still under the locks of their keys: stream, watchers, events, blocked clients.

use super::blocking;
use super::call::Caller;
use super::table::Entry;
use super::worker::Worker;
use crate::commands::effects::{Effects, Propagation};
use crate::engine::keyspace::{Locked, shard_of};
use crate::resp::Args;
use std::sync::atomic::Ordering;

/// Room for a primary's command that is kept for the next one; what a long one has taken is given back.
const STREAM_KEPT: usize = 64 * 1024;

/// After each command: what it changed goes to the unit, its events to their subscribers.
#[inline]
pub fn finish_command(worker: &mut Worker, locked: &mut Locked, caller: Caller, entry: &Entry, args: Args<'_>) {
    if worker.effects.dirty == 0 && worker.effects.is_idle() {
        return;
    }
    if worker.server.journal.is_active() && !caller.is_replay {
        queue(worker, caller.db, entry, args);
    }
    hand_out(worker, locked, caller.client);
}

/// After a change that no command has asked for: only what it says itself goes to the unit.
pub fn finish_outside_commands(worker: &mut Worker, locked: &mut Locked) {
    worker.unit.append(&mut worker.effects.commands);
    hand_out(worker, locked, 0);
}

/// All effects but the stream; `by` is the client that caused them.
#[inline]
fn hand_out(worker: &mut Worker, locked: &mut Locked, by: u64) {
    worker.server.dirty.fetch_add(worker.effects.dirty as i64, Ordering::Relaxed);
    if worker.effects.is_only_dirty() {
        worker.effects.clear();
        return;
    }
    let mut effects = std::mem::take(&mut worker.effects);
    for (db, key) in effects.expired.drain(..) {
        touch_expired(worker, locked, db, key);
    }
    worker.ready.append(&mut effects.ready);
    worker.server.publish_effects(&effects, by);
    if worker.server.tracking.prefix_count() > 0 {
        worker.broadcast_by = by;
        worker.broadcast.extend(effects.changed.drain(..).map(|(_, key)| key));
    }
    if !effects.garbage.is_empty() {
        worker.server.lazyfree.drop_records(std::mem::take(&mut effects.garbage));
    }
    effects.clear();
    worker.effects = effects;
}

/// After a command, transaction or script: its stream goes out as one piece, then blocked clients are served.
#[inline]
pub fn finish_unit(worker: &mut Worker, locked: &mut Locked) {
    flush_unit(worker);
    if !worker.broadcast.is_empty() {
        let keys: Vec<&[u8]> = worker.broadcast.iter().map(|key| &**key).collect();
        worker.server.broadcast_changes(&keys, worker.broadcast_by);
        worker.broadcast.clear();
    }
    if !worker.ready.is_empty() {
        blocking::serve_ready(worker, locked);
    }
}

/// Appends the unit to the journal.
#[inline]
pub fn flush_unit(worker: &mut Worker) {
    if !worker.stream.is_empty() {
        worker.server.journal.append_raw(&worker.stream);
        worker.stream.clear();
        worker.stream.shrink_to(STREAM_KEPT);
    }
    if !worker.unit.is_empty() {
        worker.appended = worker.server.journal.append_to(&worker.unit, &worker.narrow);
        worker.unit.clear();
        worker.narrow.clear();
    }
}

/// Appends the parts of the unit to the journal one by one.
pub fn flush_separately(worker: &mut Worker) {
    for (place, part) in worker.unit.drain(..).enumerate() {
        let narrow = worker.narrow.iter().find(|(narrowed, _)| *narrowed == place);
        let narrow = narrow.map(|(_, audience)| (0, *audience));
        worker.appended = worker.server.journal.append_to(&[part], narrow.as_slice());
    }
    worker.narrow.clear();
}

/// What goes to the stream for one command: deletions of expired keys, then the command as it came or as it was rewritten.
fn queue(worker: &mut Worker, db: usize, entry: &Entry, args: Args<'_>) {
    let Effects { commands, before, propagation, dirty, .. } = &mut worker.effects;
    let rest = commands.split_off(*before);
    worker.unit.append(commands);
    match propagation {
        Propagation::Nothing => {}
        Propagation::Verbatim if *dirty > 0 && (entry.writes || rest.is_empty()) => {
            worker.unit.push((db, args.to_owned()));
            worker.unit.extend(rest);
        }
        Propagation::Verbatim | Propagation::Rewritten => worker.unit.extend(rest),
    }
}

/// The part of a change by expiry that needs the shard: watchers and caches.
fn touch_expired(worker: &mut Worker, locked: &mut Locked, db: usize, key: Box<[u8]>) {
    let shard = shard_of(Locked::hash(&key));
    if !locked.set().contains(shard) {
        return;
    }
    let shard = locked.shard(shard);
    shard.watches.touch(db, &key);
    if shard.waiters.has(db, &key) {
        worker.ready.push((db, key.clone()));
    }
    worker.server.invalidate_key(db, &key);
}
