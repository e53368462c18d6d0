//! The messages that go out.

use super::node::{Id, LinkId, Node, flag};
use super::{Action, Health, Machine};
use crate::cluster::message::{Body, Gossip, Kind, Message, mflag};
use bytes::Bytes;

/// Nodes of which a ping tells at least, if there are as many.
const GOSSIP_MIN: usize = 3;

impl Machine {
    fn message(&self, kind: Kind, body: Body) -> Message {
        let me = self.me();
        // A replica speaks of its primary's slots.
        let serving = me.primary.filter(|_| me.is_replica()).map_or(me, |primary| self.node(primary));
        let is_paused = me.is_primary() && self.manual.is_paused;
        Message {
            kind,
            port: self.settings.port,
            plain_port: self.settings.plain_port,
            bus_port: self.settings.bus_port,
            current_epoch: self.current_epoch,
            config_epoch: serving.config_epoch,
            offset: self.around.offset,
            sender: me.name,
            slots: serving.slots.clone(),
            primary: me.primary.map(|primary| self.node(primary).name),
            ip: self.settings.ip.clone().unwrap_or_default(),
            flags: me.flags,
            state: u8::from(self.health == Health::Fail),
            message_flags: if is_paused { mflag::PAUSED } else { 0 },
            body,
        }
    }

    pub(super) fn send(&mut self, link: LinkId, message: &Message) {
        self.send_bytes(link, message.kind, message.encode().into());
    }

    fn send_bytes(&mut self, link: LinkId, kind: Kind, bytes: Bytes) {
        self.sent[kind as usize] += 1;
        self.sends.push(Action::Send { link, bytes });
    }

    /// To everybody whom we have a link to.
    fn broadcast(&mut self, message: &Message) {
        let bytes: Bytes = message.encode().into();
        let known = self.nodes().filter(|(_, node)| !node.has(flag::MYSELF | flag::HANDSHAKE));
        let links: Vec<LinkId> = known.filter_map(|(_, node)| node.link).collect();
        links.into_iter().for_each(|link| self.send_bytes(link, message.kind, bytes.clone()));
    }

    /// PING, PONG or MEET with news of some other nodes.
    pub(super) fn send_ping(&mut self, link: LinkId, kind: Kind) {
        self.messages += 1;
        let target = self.links.get(&link).filter(|link| !link.is_inbound).and_then(|link| link.node);
        if let (Kind::Ping, Some(target)) = (kind, target) {
            self.node_mut(target).ping_sent_ms = self.around.now_ms;
        }
        let nodes = self.news();
        let hostname = Some(self.settings.hostname.clone()).filter(|name| !name.is_empty());
        let message = self.message(kind, Body::Gossip { nodes, hostname });
        self.send(link, &message);
    }

    /// A tenth of the nodes, chosen at random, and everybody who is suspected.
    fn news(&mut self) -> Vec<Gossip> {
        let mut fresh = self.nodes.len().saturating_sub(2);
        let wanted = (self.nodes.len() / 10).max(GOSSIP_MIN).min(fresh);
        let ids: Vec<Id> = self.nodes.keys().copied().collect();
        let mut chosen = Vec::new();
        for _ in 0..wanted * 3 {
            if fresh == 0 || chosen.len() == wanted {
                break;
            }
            let id = ids[self.random.below(ids.len() as u64) as usize];
            let messages = self.messages;
            let node = self.node_mut(id);
            if node.has(flag::MYSELF | flag::SUSPECTED) || node.gossiped == messages {
                continue;
            }
            fresh -= 1;
            if node.has(flag::HANDSHAKE | flag::NO_ADDRESS) || (node.link.is_none() && node.slots.is_empty()) {
                continue;
            }
            node.gossiped = messages;
            chosen.push(gossip_of(node));
        }
        let is_bad_news = |node: &&Node| node.has(flag::SUSPECTED) && !node.has(flag::HANDSHAKE | flag::NO_ADDRESS);
        chosen.extend(self.nodes.values().filter(is_bad_news).map(gossip_of));
        chosen
    }

    /// To everybody, or to the replicas of this node's primary only: our state, at once.
    pub(super) fn broadcast_pong(&mut self, only_siblings: bool) {
        let mine = self.my_primary();
        let links: Vec<LinkId> = self
            .nodes()
            .filter(|(_, node)| !node.has(flag::MYSELF | flag::HANDSHAKE))
            .filter(|(_, node)| !only_siblings || (node.is_replica() && node.primary.is_some() && node.primary == mine))
            .filter_map(|(_, node)| node.link)
            .collect();
        links.into_iter().for_each(|link| self.send_ping(link, Kind::Pong));
    }

    pub(super) fn broadcast_failure(&mut self, failed: Id) {
        let message = self.message(Kind::Fail, Body::Fail(self.node(failed).name));
        self.broadcast(&message);
    }

    /// Tells a node who serves slots that it claims.
    pub(super) fn send_update(&mut self, link: LinkId, about: Id) {
        let node = self.node(about);
        let slots = node.slots.without(&self.unclaimed);
        let body = Body::Update { config_epoch: node.config_epoch, name: node.name, slots };
        let message = self.message(Kind::Update, body);
        self.send(link, &message);
    }

    pub(super) fn ask_for_votes(&mut self) {
        let mut message = self.message(Kind::AuthRequest, Body::Empty);
        if self.manual.until_ms != 0 {
            message.message_flags |= mflag::FORCE_ACK;
        }
        self.broadcast(&message);
    }

    /// A message without content, if there is a link.
    pub(super) fn send_plain(&mut self, to: Id, kind: Kind) {
        if let Some(link) = self.node(to).link {
            let message = self.message(kind, Body::Empty);
            self.send(link, &message);
        }
    }

    /// PUBLISH goes to every node, SPUBLISH to those that serve the same slots.
    pub fn publish(&mut self, channel: &[u8], message: &[u8], is_sharded: bool) {
        let kind = if is_sharded { Kind::PublishShard } else { Kind::Publish };
        let body = Body::Publish { channel: channel.to_vec(), message: message.to_vec() };
        let message = self.message(kind, body);
        if !is_sharded {
            return self.broadcast(&message);
        }
        let Some(primary) = self.my_primary() else { return };
        let shard: Vec<Id> = [primary].into_iter().chain(self.replicas_of(primary)).collect();
        let bytes: Bytes = message.encode().into();
        for id in shard {
            let node = self.node(id);
            if let Some(link) = node.link.filter(|_| !node.has(flag::MYSELF | flag::HANDSHAKE)) {
                self.send_bytes(link, kind, bytes.clone());
            }
        }
    }
}

fn gossip_of(node: &Node) -> Gossip {
    Gossip {
        name: node.name,
        ping_sent_s: (node.ping_sent_ms / 1000) as u32,
        pong_received_s: (node.pong_received_ms / 1000) as u32,
        ip: node.ip.clone(),
        port: node.port,
        bus_port: node.bus_port,
        flags: node.flags,
        plain_port: node.plain_port,
    }
}
