//! Client-side caching: who has to forget a key when it changes (redis.io, "Client-side caching").
//!
//! ```text
//!   default mode    read of a key ─► stripes[hash]: key ─► ids of clients       forgotten once it was told
//!   BCAST           prefix ─► clients                                           told of every change
//! ```
//! A read is remembered, and a change told, under the lock of the key's shard, so that no change falls between a read and
//! its note. Key names are kept without their database, as in Redis.

use super::acl::Users;
use super::clients::{Client, flag};
use super::plan;
use super::session::Session;
use super::state::Server;
use super::table::Entry;
use crate::commands::keyspec::KeyFlags;
use crate::engine::keyspace::{Locked, shard_of};
use crate::resp::{Args, Reply};
use bytes::Bytes;
use parking_lot::{Mutex, RwLock};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

const STRIPES: usize = 64;
const CHANNEL: &[u8] = b"__redis__:invalidate";

/// Ids of clients that may have a key, by key; ordered by hash, so that any hash leads to a random key.
type Stripe = BTreeMap<u64, Vec<(Box<[u8]>, Vec<u64>)>>;
type Prefixes = BTreeMap<Box<[u8]>, BTreeMap<u64, Arc<Client>>>;

pub struct Tracking {
    stripes: Box<[Mutex<Stripe>]>,
    keys: AtomicUsize,
    items: AtomicUsize,
    prefixes: RwLock<Prefixes>,
    /// Prefixes; kept here to be read without the lock.
    prefix_count: AtomicUsize,
    /// Where the next key to forget is looked for.
    victim: AtomicUsize,
}

impl Default for Tracking {
    fn default() -> Self {
        Tracking {
            stripes: (0..STRIPES).map(|_| Mutex::default()).collect(),
            keys: AtomicUsize::new(0),
            items: AtomicUsize::new(0),
            prefixes: RwLock::default(),
            prefix_count: AtomicUsize::new(0),
            victim: AtomicUsize::new(0),
        }
    }
}

/// What CLIENT TRACKING ON was told.
#[derive(Clone, Copy, Debug, Default)]
pub struct TrackingOptions {
    pub bcast: bool,
    pub optin: bool,
    pub optout: bool,
    pub noloop: bool,
    /// Client that gets the messages instead; 0 for the same connection.
    pub redirect: i64,
}

/// The session's side of tracking.
#[derive(Default)]
pub struct SessionTracking {
    pub on: bool,
    pub options: TrackingOptions,
    /// CLIENT CACHING was just said: it concerns the next command only.
    pub caching: bool,
    pub prefixes: Vec<Box<[u8]>>,
}

impl SessionTracking {
    /// Whether keys that the next command reads are to be remembered.
    pub fn remembers_reads(&self) -> bool {
        let options = &self.options;
        let consented = if options.optin { self.caching } else { !(options.optout && self.caching) };
        self.on && !options.bcast && consented
    }
}

impl Tracking {
    pub fn key_count(&self) -> usize {
        self.keys.load(Ordering::Relaxed)
    }

    /// Pairs of key and client.
    pub fn item_count(&self) -> usize {
        self.items.load(Ordering::Relaxed)
    }

    pub fn prefix_count(&self) -> usize {
        self.prefix_count.load(Ordering::Relaxed)
    }

    fn remember(&self, key: &[u8], client: u64) {
        let hash = Locked::hash(key);
        let mut stripe = self.stripes[shard_of(hash)].lock();
        let keys = stripe.entry(hash).or_default();
        let at = keys.iter().position(|(known, _)| **known == *key).unwrap_or_else(|| {
            keys.push((key.into(), Vec::new()));
            self.keys.fetch_add(1, Ordering::Relaxed);
            keys.len() - 1
        });
        let ids = &mut keys[at].1;
        if let Err(at) = ids.binary_search(&client) {
            ids.insert(at, client);
            self.items.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The clients that may have a key; they will be told once.
    fn take(&self, key: &[u8]) -> Vec<u64> {
        let hash = Locked::hash(key);
        let mut stripe = self.stripes[shard_of(hash)].lock();
        let Some(keys) = stripe.get_mut(&hash) else { return Vec::new() };
        let Some(at) = keys.iter().position(|(known, _)| **known == *key) else { return Vec::new() };
        let (_, ids) = keys.swap_remove(at);
        if keys.is_empty() {
            stripe.remove(&hash);
        }
        self.forgot(ids.len());
        ids
    }

    fn forgot(&self, items: usize) {
        self.keys.fetch_sub(1, Ordering::Relaxed);
        self.items.fetch_sub(items, Ordering::Relaxed);
    }

    /// Takes out some key, for the sake of the table's limit.
    fn take_any(&self) -> Option<(Box<[u8]>, Vec<u64>)> {
        for _ in 0..STRIPES {
            let mut stripe = self.stripes[self.victim.fetch_add(1, Ordering::Relaxed) % STRIPES].lock();
            let Some(mut first) = stripe.first_entry() else { continue };
            let Some((key, ids)) = first.get_mut().pop() else { continue };
            if first.get().is_empty() {
                first.remove();
            }
            self.forgot(ids.len());
            return Some((key, ids));
        }
        None
    }

    fn clear(&self) {
        for stripe in &self.stripes {
            let keys = std::mem::take(&mut *stripe.lock());
            keys.values().flatten().for_each(|(_, ids)| self.forgot(ids.len()));
        }
    }

    fn add_prefix(&self, prefix: &[u8], client: &Arc<Client>) {
        let mut prefixes = self.prefixes.write();
        prefixes.entry(prefix.into()).or_default().insert(client.id, Arc::clone(client));
        self.prefix_count.store(prefixes.len(), Ordering::Relaxed);
    }

    fn remove_prefix(&self, prefix: &[u8], client: &Client) {
        let mut prefixes = self.prefixes.write();
        if let Some(clients) = prefixes.get_mut(prefix) {
            clients.remove(&client.id);
            if clients.is_empty() {
                prefixes.remove(prefix);
            }
        }
        self.prefix_count.store(prefixes.len(), Ordering::Relaxed);
    }
}

impl Session {
    /// Begins tracking, or changes how it is done.
    pub fn start_tracking(&mut self, server: &Server, options: TrackingOptions, prefixes: &[&[u8]]) {
        if !self.tracking.on {
            server.tracking_clients.fetch_add(1, Ordering::Relaxed);
        }
        self.tracking.on = true;
        self.tracking.options = options;
        let client = &self.client;
        client.set(flag::TRACKING, true);
        client.set(flag::TRACKING_BROKEN, false);
        client.set(flag::TRACKING_BCAST, options.bcast);
        client.set(flag::TRACKING_NOLOOP, options.noloop);
        client.redirect.store(options.redirect, Ordering::Relaxed);
        if options.bcast {
            let everything: &[&[u8]] = &[b""];
            for prefix in if prefixes.is_empty() { everything } else { prefixes } {
                if !self.tracking.prefixes.iter().any(|known| **known == **prefix) {
                    server.tracking.add_prefix(prefix, client);
                    client.hold(prefix);
                    self.tracking.prefixes.push(Box::from(*prefix));
                }
            }
            self.tracking.prefixes.sort();
        }
        self.note_pushes();
    }

    pub fn stop_tracking(&mut self, server: &Server) {
        let tracking = std::mem::take(&mut self.tracking);
        for prefix in &tracking.prefixes {
            server.tracking.remove_prefix(prefix, &self.client);
            self.client.let_go(prefix);
        }
        if tracking.on {
            server.tracking_clients.fetch_sub(1, Ordering::Relaxed);
            let flags = flag::TRACKING | flag::TRACKING_BROKEN | flag::TRACKING_BCAST | flag::TRACKING_NOLOOP;
            self.client.set(flags, false);
            self.client.redirect.store(-1, Ordering::Relaxed);
        }
        self.note_pushes();
    }
}

impl Server {
    /// Notes the keys that a command of a tracking client has read; the locks of the keys are still held.
    #[cold]
    pub fn remember_reads(&self, client: u64, entry: &Entry, args: Args<'_>) {
        plan::visit_keys(entry, args, &mut |index, flags| {
            if let Some(key) = args.get(index).filter(|_| !flags.has(KeyFlags::NOT_KEY)) {
                self.tracking.remember(key, client);
            }
        });
    }

    /// A key has changed, was evicted or has expired.
    pub fn invalidate_key(&self, _db: usize, key: &[u8]) {
        if self.tracking_clients.load(Ordering::Relaxed) > 0 {
            self.invalidate_remembered(key, 0);
            self.broadcast_changes(&[key], 0);
        }
    }

    /// Tells those who have read a key that `by` has changed it (0: nobody in particular).
    pub fn invalidate_remembered(&self, key: &[u8], by: u64) {
        for id in self.tracking.take(key) {
            let Some(client) = self.clients.find(id) else { continue };
            // Whoever has switched to BCAST since is told that way.
            let tracks = client.has(flag::TRACKING) && !client.has(flag::TRACKING_BCAST);
            if tracks && !(id == by && client.has(flag::TRACKING_NOLOOP)) {
                self.send_invalidation(&client, Some(&[key]));
            }
        }
    }

    /// Tells the clients of matching prefixes, each prefix in one message.
    pub fn broadcast_changes(&self, keys: &[&[u8]], by: u64) {
        if self.tracking.prefix_count() == 0 {
            return;
        }
        let users = self.acl.users();
        for (prefix, clients) in self.tracking.prefixes.read().iter() {
            let mut matching: Vec<&[u8]> = keys.iter().copied().filter(|key| key.starts_with(prefix)).collect();
            matching.sort_unstable();
            matching.dedup();
            if matching.is_empty() {
                continue;
            }
            for client in clients.values() {
                if !(client.id == by && client.has(flag::TRACKING_NOLOOP)) {
                    self.broadcast_to(client, &users, &matching);
                }
            }
        }
    }

    /// Names of keys that a user may not read are none of its clients' business, whatever prefix they have asked for.
    fn broadcast_to(&self, client: &Client, users: &Users, keys: &[&[u8]]) {
        // The client of a user that is gone is about to be disconnected.
        let Some(user) = users.by_id(client.user.load(Ordering::Acquire)) else { return };
        if user.is_unrestricted() {
            return self.send_invalidation(client, Some(keys));
        }
        let readable: Vec<&[u8]> = keys.iter().copied().filter(|key| user.may_read(key)).collect();
        if !readable.is_empty() {
            self.send_invalidation(client, Some(&readable));
        }
    }

    /// A database (or all of them) was emptied: every cache is void, since databases are not told apart.
    pub fn invalidate_all(&self, _db: Option<usize>) {
        if self.tracking_clients.load(Ordering::Relaxed) == 0 {
            return;
        }
        self.tracking.clear();
        for client in self.clients.all().iter().filter(|client| client.has(flag::TRACKING)) {
            self.send_invalidation(client, None);
        }
    }

    /// Forgets keys beyond the table's limit, telling the clients that they changed.
    pub fn limit_tracked_keys(&self, max: usize) {
        if max == 0 {
            return;
        }
        while self.tracking.key_count() > max {
            let Some((key, ids)) = self.tracking.take_any() else { return };
            for client in ids.iter().filter_map(|id| self.clients.find(*id)) {
                if client.has(flag::TRACKING) && !client.has(flag::TRACKING_BCAST) {
                    self.send_invalidation(&client, Some(&[&*key]));
                }
            }
        }
    }

    /// `keys`: nothing = all keys.
    fn send_invalidation(&self, client: &Client, keys: Option<&[&[u8]]>) {
        let redirect = client.redirect.load(Ordering::Relaxed);
        let mut found = None;
        if redirect > 0 {
            found = self.clients.find(redirect as u64);
            if found.is_none() {
                return self.tell_broken(client, redirect);
            }
        }
        let target = found.as_deref().unwrap_or(client);
        let resp3 = target.resp.load(Ordering::Relaxed) == 3;
        let mut reply = Reply::new(resp3);
        if resp3 {
            reply.push(2);
            reply.bulk(b"invalidate");
        } else if redirect > 0 && target.has(flag::PUBSUB) {
            reply.array(3);
            reply.bulk(b"message");
            reply.bulk(CHANNEL);
        } else {
            // RESP2 has no way to tell a connection that does not listen to channels.
            return;
        }
        match keys {
            None => reply.null(),
            Some(keys) => {
                reply.array(keys.len());
                keys.iter().for_each(|key| reply.bulk(key));
            }
        }
        self.deliver(target, Bytes::from(std::mem::take(reply.buffer_mut())));
    }

    /// The client to which messages were redirected is gone.
    fn tell_broken(&self, client: &Client, redirect: i64) {
        client.set(flag::TRACKING_BROKEN, true);
        if client.resp.load(Ordering::Relaxed) == 3 {
            let mut reply = Reply::new(true);
            reply.push(2);
            reply.bulk(b"tracking-redir-broken");
            reply.integer(redirect);
            self.deliver(client, Bytes::from(std::mem::take(reply.buffer_mut())));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reader_is_told_once() {
        let tracking = Tracking::default();
        for (key, client) in [("a", 7), ("a", 3), ("a", 7), ("b", 3)] {
            tracking.remember(key.as_bytes(), client);
        }
        assert_eq!((tracking.key_count(), tracking.item_count()), (2, 3));
        assert_eq!(tracking.take(b"a"), [3, 7]);
        assert!(tracking.take(b"a").is_empty());
        assert_eq!(tracking.take_any(), Some((Box::from(&b"b"[..]), vec![3])));
        assert_eq!((tracking.key_count(), tracking.item_count()), (0, 0));
        assert_eq!(tracking.take_any(), None);
    }

    #[test]
    fn consent_decides_what_is_remembered() {
        let with = |optin, optout, caching| SessionTracking {
            on: true,
            options: TrackingOptions { optin, optout, ..TrackingOptions::default() },
            caching,
            prefixes: Vec::new(),
        };
        assert!(with(false, false, false).remembers_reads());
        assert!(!with(true, false, false).remembers_reads());
        assert!(with(true, false, true).remembers_reads());
        assert!(with(false, true, false).remembers_reads());
        assert!(!with(false, true, true).remembers_reads());
    }
}
