//! Keys that clients of a writable replica made expire: no primary will delete them, so this server does it itself.
//!
//! Every key that a client's write leaves with an expiry is remembered, whether the primary has it as well or not; what is
//! no longer there, or no longer expires, is forgotten when its turn comes.

use super::call;
use super::plan;
use super::table::Entry;
use super::worker::Worker;
use crate::engine::keyspace::{Locked, OnExpired, shard_of};
use crate::resp::Args;
use parking_lot::Mutex;
use std::collections::HashSet;
use std::sync::atomic::Ordering;

/// Keys looked at under one call.
const KEYS_PER_RUN: usize = 1000;

#[derive(Default)]
pub struct OwnExpiries(Mutex<HashSet<(usize, Box<[u8]>)>>);

impl OwnExpiries {
    /// `slave_expires_tracked_keys`.
    pub fn len(&self) -> usize {
        self.0.lock().len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The data set is another one by now, or this server is a primary and all keys are its own.
    pub fn clear(&self) {
        self.0.lock().clear();
    }
}

/// After a client's write on a replica, under its locks.
#[cold]
pub fn note(worker: &Worker, locked: &Locked, db: usize, entry: &Entry, args: Args<'_>) {
    plan::visit_keys(entry, args, &mut |index, _| {
        let Some(key) = args.get(index) else { return };
        let hash = Locked::hash(key);
        if !locked.set().contains(shard_of(hash)) {
            return;
        }
        let found = locked.db(hash, db).and_then(|part| part.find(hash, key));
        if found.is_some_and(|record| record.expiry().is_some()) {
            worker.server.own_expiries.0.lock().insert((db, key.into()));
        }
    });
}

/// As a step of the cron.
pub fn run(worker: &mut Worker) {
    let server = worker.server;
    if !server.is_replica.load(Ordering::Relaxed) || server.own_expiries.is_empty() {
        return;
    }
    let keys: Vec<(usize, Box<[u8]>)> = server.own_expiries.0.lock().iter().take(KEYS_PER_RUN).cloned().collect();
    let before = std::mem::replace(&mut worker.settings.on_expired, OnExpired::Remove);
    for (db, key) in keys {
        let hash = Locked::hash(&key);
        // A busy script keeps the shard: the next run sees to it.
        let Some(mut locked) = plan::lock_to_delete(server, shard_of(hash), db, &[&key]) else { break };
        call::outside_commands(worker, &mut locked, db, &mut |keys| {
            keys.exists(&key);
        });
        let found = locked.db(hash, db).and_then(|part| part.find(hash, &key));
        if found.is_none_or(|record| record.expiry().is_none()) {
            server.own_expiries.0.lock().remove(&(db, key));
        }
    }
    worker.settings.on_expired = before;
}
