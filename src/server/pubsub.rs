//! Channels and who listens to them.

use super::clients::Client;
use crate::base::glob;
use crate::resp::Reply;
use bytes::Bytes;
use parking_lot::RwLock;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Listeners of one channel or pattern, by client id.
type Listeners = Vec<Arc<Client>>;

#[derive(Default)]
struct Registry {
    channels: HashMap<Box<[u8]>, Listeners>,
    patterns: HashMap<Box<[u8]>, Listeners>,
    shard_channels: HashMap<Box<[u8]>, Listeners>,
}

/// The three kinds of subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Channel,
    Pattern,
    ShardChannel,
}

#[derive(Default)]
pub struct PubSub(RwLock<Registry>);

impl Registry {
    fn of(&self, kind: Kind) -> &HashMap<Box<[u8]>, Listeners> {
        match kind {
            Kind::Channel => &self.channels,
            Kind::Pattern => &self.patterns,
            Kind::ShardChannel => &self.shard_channels,
        }
    }

    fn of_mut(&mut self, kind: Kind) -> &mut HashMap<Box<[u8]>, Listeners> {
        match kind {
            Kind::Channel => &mut self.channels,
            Kind::Pattern => &mut self.patterns,
            Kind::ShardChannel => &mut self.shard_channels,
        }
    }
}

impl PubSub {
    /// False if the client listened already.
    pub fn subscribe(&self, kind: Kind, name: &[u8], client: &Arc<Client>) -> bool {
        let mut registry = self.0.write();
        let listeners = registry.of_mut(kind).entry(name.into()).or_default();
        let is_new = !listeners.iter().any(|other| other.id == client.id);
        if is_new {
            listeners.push(Arc::clone(client));
        }
        is_new
    }

    /// False if the client did not listen.
    pub fn unsubscribe(&self, kind: Kind, name: &[u8], client: &Arc<Client>) -> bool {
        let mut registry = self.0.write();
        let map = registry.of_mut(kind);
        let Some(listeners) = map.get_mut(name) else { return false };
        let before = listeners.len();
        listeners.retain(|other| other.id != client.id);
        let was_there = listeners.len() < before;
        if listeners.is_empty() {
            map.remove(name);
        }
        was_there
    }

    /// Sends a message to the listeners of a channel and of the patterns that match it; how many there were.
    pub fn publish(&self, channel: &[u8], message: &[u8]) -> usize {
        let registry = self.0.read();
        let mut receivers = 0;
        if let Some(listeners) = registry.channels.get(channel) {
            receivers += send(listeners, &[b"message", channel, message]);
        }
        for (pattern, listeners) in &registry.patterns {
            if glob::matches(pattern, channel) {
                receivers += send(listeners, &[b"pmessage", pattern, channel, message]);
            }
        }
        receivers
    }

    pub fn publish_shard(&self, channel: &[u8], message: &[u8]) -> usize {
        let registry = self.0.read();
        registry.shard_channels.get(channel).map_or(0, |listeners| send(listeners, &[b"smessage", channel, message]))
    }

    /// The names of a kind that match a pattern, with their number of listeners.
    pub fn names(&self, kind: Kind, pattern: Option<&[u8]>) -> Vec<(Box<[u8]>, usize)> {
        let registry = self.0.read();
        let wanted = |name: &[u8]| pattern.is_none_or(|pattern| glob::matches(pattern, name));
        let all = registry.of(kind).iter().filter(|(name, _)| wanted(name));
        all.map(|(name, listeners)| (name.clone(), listeners.len())).collect()
    }

    pub fn listeners(&self, kind: Kind, name: &[u8]) -> usize {
        self.0.read().of(kind).get(name).map_or(0, Vec::len)
    }

    pub fn count(&self, kind: Kind) -> usize {
        self.0.read().of(kind).len()
    }
}

/// Encodes a message once per protocol and shares the bytes among the listeners.
fn send(listeners: &Listeners, parts: &[&[u8]]) -> usize {
    let mut encoded: [Option<Bytes>; 2] = [None, None];
    for client in listeners {
        let resp3 = client.resp.load(Ordering::Relaxed) == 3;
        let bytes = encoded[usize::from(resp3)].get_or_insert_with(|| {
            let mut reply = Reply::new(resp3);
            reply.push(parts.len());
            parts.iter().for_each(|part| reply.bulk(part));
            Bytes::from(std::mem::take(reply.buffer_mut()))
        });
        client.send(bytes.clone());
    }
    listeners.len()
}
