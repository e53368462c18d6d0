//! Which shards a command needs, and taking them.
//!
//! Locks widen only before a handler runs: if somebody is blocked on a key that is about to be written, the shards that
//! serving him needs are added first, so that he is served under the same locks as the gift.

use super::state::Server;
use super::table::Entry;
use crate::commands::flags::Flags;
use crate::commands::keyspec::KeyFlags;
use crate::engine::keyspace::{Locked, ShardSet, shard_of};
use crate::resp::Args;

/// Calls `visit` with the argument index of each key of a request; false if the arguments do not fit the declaration.
pub fn visit_keys(entry: &Entry, args: Args<'_>, visit: &mut impl FnMut(usize, KeyFlags)) -> bool {
    match entry.spec.flags_by_use {
        None => visit_declared(entry, args, visit),
        Some(narrow) => visit_declared(entry, args, &mut |index, flags| visit(index, narrow(args, index, flags))),
    }
}

fn visit_declared(entry: &Entry, args: Args<'_>, visit: &mut impl FnMut(usize, KeyFlags)) -> bool {
    if let Some(finder) = entry.spec.key_finder {
        let flags = entry.spec.keys.first().map_or(KeyFlags::RW, |spec| spec.flags);
        finder(args).into_iter().for_each(|index| visit(index, flags));
        return true;
    }
    // Every specification is tried, so that a bad count in one does not hide the keys of another.
    let mut fits = true;
    for spec in entry.spec.keys {
        fits &= spec.visit(args, visit);
    }
    fits
}

/// The shards of a request; the hashes of its keys go to `planned`.
#[inline]
pub fn shards(entry: &Entry, args: Args<'_>, planned: &mut Vec<(usize, u64)>) -> ShardSet {
    if let Some(key) = entry.single_key.and_then(|index| args.get(index)) {
        let hash = Locked::hash(key);
        planned.push((key.as_ptr() as usize, hash));
        return ShardSet::one(shard_of(hash));
    }
    if entry.spec.flags.has(Flags::ALL_SHARDS.with(Flags::SHARD_BY_SHARD)) {
        return ShardSet::ALL;
    }
    if entry.spec.every_shard_if.is_some_and(|condition| condition(args)) {
        return ShardSet::ALL;
    }
    let mut set = ShardSet::EMPTY;
    visit_keys(entry, args, &mut |index, flags| {
        if flags.has(KeyFlags::NOT_KEY) {
            return;
        }
        if let Some(key) = args.get(index) {
            let hash = Locked::hash(key);
            planned.push((key.as_ptr() as usize, hash));
            set.insert(shard_of(hash));
        }
    });
    set
}

/// Locks the shards of one command, and if it may write, those of whoever is blocked on its keys. Nothing if a busy script keeps one.
#[inline]
pub fn lock(server: &'static Server, set: ShardSet, db: usize, entry: &Entry, args: Args<'_>) -> Option<Locked> {
    let locked = server.lock(set)?;
    if !entry.writes || set == ShardSet::ALL || set.iter().all(|shard| locked.shard(shard).waiters.is_empty()) {
        return Some(locked);
    }
    widen(server, locked, |locked| {
        let mut keys = Vec::new();
        visit_keys(entry, args, &mut |index, _| keys.extend(args.get(index)));
        needed_by_waiters(locked, db, keys)
    })
}

/// The shards that serving the waiters of `keys` needs. What is served may be a gift to somebody else (a chain of BLMOVEs), so
/// the gifts are followed as far as their shards are locked; the rest shows once they are.
pub fn needed_by_waiters<'a>(locked: &'a Locked, db: usize, mut keys: Vec<&'a [u8]>) -> ShardSet {
    let mut needed = ShardSet::EMPTY;
    let mut next = 0;
    while let Some(key) = keys.get(next).copied() {
        next += 1;
        let shard = shard_of(Locked::hash(key));
        if !locked.set().contains(shard) {
            continue;
        }
        let waiters = &locked.shard(shard).waiters;
        needed = needed.union(waiters.shards_of(db, key));
        for gift in waiters.gifts_of(db, key) {
            if !keys.contains(&gift) {
                keys.push(gift);
            }
        }
    }
    needed
}

/// Locks the shard of keys that will be deleted; all shards if somebody waits for one of the keys, who may need others.
pub fn lock_to_delete(server: &'static Server, shard: usize, db: usize, keys: &[impl AsRef<[u8]>]) -> Option<Locked> {
    widen(server, server.lock(ShardSet::one(shard))?, |locked| {
        let waiters = &locked.shard(shard).waiters;
        let awaited = !waiters.is_empty() && keys.iter().any(|key| waiters.has(db, key.as_ref()));
        if awaited { ShardSet::ALL } else { ShardSet::EMPTY }
    })
}

/// Takes more shards until what is wanted under the lock is held. To take more, all are let go first: ascending order.
pub fn widen(server: &'static Server, mut locked: Locked, wanted: impl Fn(&Locked) -> ShardSet) -> Option<Locked> {
    loop {
        let set = locked.set().union(wanted(&locked));
        if locked.set().covers(set) {
            return Some(locked);
        }
        drop(locked);
        locked = server.lock(set)?;
    }
}
