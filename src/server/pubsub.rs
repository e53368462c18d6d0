//! Channels and who listens to them.
//!
//! ```text
//!   name ─► listeners by client id ─► each client's outbox     a message is encoded once per protocol version;
//!                                                              the outboxes share its bytes
//! ```
//! The registry knows every listener; a session keeps the names it listens to, to count them and to leave them all.

use super::clients::{Client, flag};
use super::session::Session;
use super::state::Server;
use crate::base::glob;
use crate::resp::Reply;
use bytes::Bytes;
use parking_lot::RwLock;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Listeners of one channel or pattern, by client id.
type Listeners = BTreeMap<u64, Arc<Client>>;
type Names = HashMap<Box<[u8]>, Listeners, ahash::RandomState>;

/// The three kinds of subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Channel,
    Pattern,
    ShardChannel,
}

impl Kind {
    pub const ALL: [Kind; 3] = [Kind::Channel, Kind::Pattern, Kind::ShardChannel];
}

/// By `Kind as usize`.
#[derive(Default)]
pub struct PubSub(RwLock<[Names; 3]>);

/// What one session listens to, by `Kind as usize`.
#[derive(Default)]
pub struct Subscriptions([BTreeSet<Box<[u8]>>; 3]);

impl Subscriptions {
    pub fn names(&self, kind: Kind) -> &BTreeSet<Box<[u8]>> {
        &self.0[kind as usize]
    }

    /// The number that replies to SUBSCRIBE and the like carry: shard channels count for themselves.
    pub fn count(&self, kind: Kind) -> usize {
        match kind {
            Kind::Channel | Kind::Pattern => self.names(Kind::Channel).len() + self.names(Kind::Pattern).len(),
            Kind::ShardChannel => self.names(kind).len(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.0.iter().all(BTreeSet::is_empty)
    }
}

impl PubSub {
    fn add(&self, kind: Kind, name: &[u8], client: &Arc<Client>) {
        let names = &mut self.0.write()[kind as usize];
        match names.get_mut(name) {
            Some(listeners) => {
                listeners.insert(client.id, Arc::clone(client));
            }
            None => {
                names.insert(name.into(), BTreeMap::from([(client.id, Arc::clone(client))]));
            }
        }
    }

    fn remove(&self, kind: Kind, name: &[u8], client: u64) {
        let names = &mut self.0.write()[kind as usize];
        if let Some(listeners) = names.get_mut(name) {
            listeners.remove(&client);
            if listeners.is_empty() {
                names.remove(name);
            }
        }
    }

    /// The names of a kind that match a pattern.
    pub fn names(&self, kind: Kind, pattern: Option<&[u8]>) -> Vec<Box<[u8]>> {
        let registry = self.0.read();
        let wanted = |name: &[u8]| pattern.is_none_or(|pattern| glob::matches(pattern, name));
        registry[kind as usize].keys().filter(|name| wanted(name)).cloned().collect()
    }

    pub fn listeners(&self, kind: Kind, name: &[u8]) -> usize {
        self.0.read()[kind as usize].get(name).map_or(0, BTreeMap::len)
    }

    /// Whoever listens to a name that fits.
    pub fn listeners_if(&self, wanted: impl Fn(Kind, &[u8]) -> bool) -> Vec<Arc<Client>> {
        let registry = self.0.read();
        let of_kind = |kind: Kind| {
            let names = registry[kind as usize].iter().filter(|(name, _)| wanted(kind, name)).collect::<Vec<_>>();
            names.into_iter().flat_map(|(_, listeners)| listeners.values().cloned())
        };
        Kind::ALL.into_iter().flat_map(of_kind).collect()
    }

    pub fn count(&self, kind: Kind) -> usize {
        self.0.read()[kind as usize].len()
    }
}

impl Session {
    /// Listens to a name; no harm if it does already.
    pub fn subscribe(&mut self, server: &Server, kind: Kind, name: &[u8]) {
        if self.subscriptions.0[kind as usize].insert(name.into()) {
            server.pubsub.add(kind, name, &self.client);
            self.client.hold(name);
            self.note_subscriptions();
        }
    }

    pub fn unsubscribe(&mut self, server: &Server, kind: Kind, name: &[u8]) {
        if self.subscriptions.0[kind as usize].remove(name) {
            server.pubsub.remove(kind, name, self.client.id);
            self.client.let_go(name);
            self.note_subscriptions();
        }
    }

    /// Shard channels that the server has left on behalf of this client, because their slots are served elsewhere now.
    pub fn forget_lost_channels(&mut self, server: &Server) {
        if !self.client.has(flag::LOST_CHANNELS) {
            return;
        }
        self.client.set(flag::LOST_CHANNELS, false);
        let id = self.client.id;
        let registry = server.pubsub.0.read();
        let known = &registry[Kind::ShardChannel as usize];
        let is_known = |name: &[u8]| known.get(name).is_some_and(|listeners| listeners.contains_key(&id));
        let names = std::mem::take(&mut self.subscriptions.0[Kind::ShardChannel as usize]);
        let (kept, lost): (BTreeSet<_>, BTreeSet<_>) = names.into_iter().partition(|name| is_known(name));
        drop(registry);
        self.subscriptions.0[Kind::ShardChannel as usize] = kept;
        lost.iter().for_each(|name| self.client.let_go(name));
        self.note_subscriptions();
    }

    /// Leaves every channel and pattern.
    pub fn unsubscribe_all(&mut self, server: &Server) {
        for kind in Kind::ALL {
            for name in std::mem::take(&mut self.subscriptions.0[kind as usize]) {
                server.pubsub.remove(kind, &name, self.client.id);
                self.client.let_go(&name);
            }
        }
        self.note_subscriptions();
    }

    fn note_subscriptions(&mut self) {
        let client = &self.client;
        let counters = [&client.channels, &client.patterns, &client.shard_channels];
        for (counter, names) in counters.into_iter().zip(&self.subscriptions.0) {
            counter.store(names.len(), Ordering::Relaxed);
        }
        client.set(flag::PUBSUB, !self.subscriptions.is_empty());
        self.note_pushes();
    }
}

impl Server {
    /// Sends a message to the listeners of a channel and of the patterns that match it; how many there were.
    pub fn publish(&self, channel: &[u8], message: &[u8]) -> usize {
        let registry = self.pubsub.0.read();
        let mut receivers = 0;
        if let Some(listeners) = registry[Kind::Channel as usize].get(channel) {
            receivers += self.send_all(listeners, &[b"message", channel, message]);
        }
        for (pattern, listeners) in &registry[Kind::Pattern as usize] {
            if glob::matches(pattern, channel) {
                receivers += self.send_all(listeners, &[b"pmessage", pattern, channel, message]);
            }
        }
        receivers
    }

    pub fn publish_shard(&self, channel: &[u8], message: &[u8]) -> usize {
        let registry = self.pubsub.0.read();
        let listeners = registry[Kind::ShardChannel as usize].get(channel);
        listeners.map_or(0, |listeners| self.send_all(listeners, &[b"smessage", channel, message]))
    }

    /// Ends the subscriptions of shard channels that are served elsewhere now; their listeners are told.
    pub fn leave_shard_channels(&self, is_lost: impl Fn(&[u8]) -> bool) {
        let mut registry = self.pubsub.0.write();
        let names = &mut registry[Kind::ShardChannel as usize];
        let lost: Vec<Box<[u8]>> = names.keys().filter(|name| is_lost(name)).cloned().collect();
        for name in lost {
            let Some(listeners) = names.remove(&name) else { continue };
            for client in listeners.values() {
                // Its session learns of it before its next command.
                client.set(flag::LOST_CHANNELS, true);
                let left = client.shard_channels.load(Ordering::Relaxed).saturating_sub(1);
                client.shard_channels.store(left, Ordering::Relaxed);
                let mut reply = Reply::new(client.resp.load(Ordering::Relaxed) == 3);
                reply.push(3);
                reply.bulk(b"sunsubscribe");
                reply.bulk(&name);
                reply.count(left);
                self.deliver(client, Bytes::from(std::mem::take(reply.buffer_mut())));
            }
        }
    }

    /// Encodes a message once per protocol and shares the bytes among the listeners.
    fn send_all(&self, listeners: &Listeners, parts: &[&[u8]]) -> usize {
        let mut encoded: [Option<Bytes>; 2] = [None, None];
        for client in listeners.values() {
            let resp3 = client.resp.load(Ordering::Relaxed) == 3;
            let bytes = encoded[usize::from(resp3)].get_or_insert_with(|| {
                let mut reply = Reply::new(resp3);
                reply.push(parts.len());
                parts.iter().for_each(|part| reply.bulk(part));
                Bytes::from(std::mem::take(reply.buffer_mut()))
            });
            self.deliver(client, bytes.clone());
        }
        listeners.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(id: u64) -> Arc<Client> {
        Arc::new(Client::new(id, String::new(), String::new(), 0, 0))
    }

    #[test]
    fn names_live_as_long_as_their_listeners() {
        let pubsub = PubSub::default();
        let (a, b) = (client(1), client(2));
        pubsub.add(Kind::Channel, b"news", &a);
        pubsub.add(Kind::Channel, b"news", &a);
        pubsub.add(Kind::Channel, b"news", &b);
        pubsub.add(Kind::Channel, b"weather", &b);
        assert_eq!(pubsub.listeners(Kind::Channel, b"news"), 2);
        assert_eq!(pubsub.names(Kind::Channel, Some(b"n*")), [Box::from(&b"news"[..])]);
        assert_eq!(pubsub.count(Kind::Pattern), 0);
        pubsub.remove(Kind::Channel, b"news", a.id);
        pubsub.remove(Kind::Channel, b"news", b.id);
        assert_eq!(pubsub.count(Kind::Channel), 1);
    }
}
