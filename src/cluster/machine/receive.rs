//! What a message changes.
//!
//! ```text
//!   parse ─► who sent it? ─► epochs, offset ─┬─ PING MEET: answer PONG; MEET of a stranger: shake hands
//!                                            ├─ PING PONG MEET: name, address, role, slots, news of others
//!                                            ├─ FAIL · UPDATE · PUBLISH
//!                                            └─ AUTH_REQUEST, AUTH_ACK, MFSTART: `election`
//! ```

use super::node::{Id, LinkId, Name, Node, flag};
use super::{Action, Machine};
use crate::cluster::message::{self, Body, Gossip, KIND_NAMES, Kind, Message, Refused, mflag};

/// Reports of a failure count for that many node timeouts.
const REPORT_TIMEOUTS: i64 = 2;
/// A failed primary that answers and was not replaced is well again after that many node timeouts.
const RECOVERY_TIMEOUTS: i64 = 2;
/// Clocks may differ by that much.
const CLOCK_TOLERANCE_MS: i64 = 500;

impl Machine {
    /// A message has come.
    pub fn receive(&mut self, link: LinkId, bytes: &[u8]) {
        if let Some(count) = self.received.get_mut(message::kind_number(bytes)) {
            *count += 1;
        }
        if self.ignored_kind == Some(message::kind_number(bytes)) {
            return tracing::warn!("Dropping packet that matches debug drop filter");
        }
        let message = match message::parse(bytes) {
            Ok(message) => message,
            Err(Refused::Version) => return,
            Err(Refused::Unknown(number)) => return tracing::warn!("Received unknown packet type: {number}"),
            Err(Refused::Malformed(why)) => {
                let kind = KIND_NAMES.get(message::kind_number(bytes)).unwrap_or(&"unknown");
                return tracing::warn!("Received invalid {kind} packet of length {}: {why}", bytes.len());
            }
        };
        if self.links.contains_key(&link) {
            let sender = self.sender_of(link, &message);
            self.take(link, sender, message);
        }
    }

    /// The node that has sent a message, if we know it. A link that was opened to us is that node's from now on.
    fn sender_of(&mut self, link: LinkId, message: &Message) -> Option<Id> {
        let known = self.links.get(&link)?.node;
        if let Some(node) = known.filter(|node| !self.node(*node).has(flag::HANDSHAKE)) {
            return Some(node);
        }
        let sender = self.find(&message.sender)?;
        if known.is_none() {
            if let Some(old) = self.node(sender).inbound {
                self.close_link(old);
            }
            self.node_mut(sender).inbound = Some(link);
            self.links.get_mut(&link)?.node = Some(sender);
        }
        Some(sender)
    }

    fn take(&mut self, link: LinkId, sender: Option<Id>, message: Message) {
        if let Some(sender) = sender {
            self.note_sender(sender, &message);
        }
        match &message.body {
            Body::Gossip { nodes, hostname } => self.take_ping(link, sender, &message, nodes, hostname.as_deref()),
            Body::Fail(name) => match sender {
                Some(_) => self.take_failure(&message.sender, name),
                None => tracing::info!("Ignoring FAIL message from unknown node {} about {name}", message.sender),
            },
            Body::Publish { .. } | Body::Update { .. } | Body::Empty if sender.is_none() => {}
            Body::Publish { .. } => {
                let is_sharded = message.kind == Kind::PublishShard;
                if let Body::Publish { channel, message } = message.body {
                    self.actions.push(Action::Deliver { channel, message, is_sharded });
                }
            }
            Body::Update { config_epoch, name, slots } => {
                let known = self.find(name).filter(|id| self.node(*id).config_epoch < *config_epoch);
                if let Some(id) = known {
                    self.become_primary(id);
                    self.node_mut(id).config_epoch = *config_epoch;
                    self.todo.save = true;
                    self.todo.sync = true;
                    self.take_claim(id, *config_epoch, slots);
                }
            }
            Body::Empty => {
                let Some(sender) = sender else { return };
                match message.kind {
                    Kind::AuthRequest => self.consider_vote(sender, &message),
                    Kind::AuthAck => self.count_vote(sender, message.current_epoch),
                    Kind::ManualFailoverStart => self.pause_for(sender),
                    _ => {}
                }
            }
        }
    }

    /// What every message of a known node tells.
    fn note_sender(&mut self, sender: Id, message: &Message) {
        let now_ms = self.now();
        self.node_mut(sender).data_received_ms = now_ms;
        if self.node(sender).has(flag::HANDSHAKE) {
            return;
        }
        self.current_epoch = self.current_epoch.max(message.current_epoch);
        let node = self.node_mut(sender);
        node.offset = message.offset;
        if message.config_epoch > node.config_epoch {
            node.config_epoch = message.config_epoch;
            self.todo.save = true;
            self.todo.sync = true;
        }
        let me = self.me();
        let is_my_primary = me.is_replica() && me.primary == Some(sender);
        if self.manual.until_ms != 0
            && is_my_primary
            && message.message_flags & mflag::PAUSED != 0
            && self.manual.primary_offset.is_none()
        {
            self.manual.primary_offset = Some(message.offset);
            self.todo.manual_failover = true;
            tracing::warn!("Received replication offset for paused master manual failover: {}", message.offset);
        }
    }

    fn take_ping(
        &mut self,
        link: LinkId,
        sender: Option<Id>,
        message: &Message,
        news: &[Gossip],
        hostname: Option<&str>,
    ) {
        if message.kind != Kind::Pong {
            self.learn_own_address(link, message.kind);
            if sender.is_none() && message.kind == Kind::Meet {
                self.meet(link, message);
                self.take_news(None, news);
            }
            self.send_ping(link, Kind::Pong);
        }
        let Some((node, is_inbound)) = self.links.get(&link).map(|link| (link.node, link.is_inbound)) else { return };
        let outbound = node.filter(|_| !is_inbound);
        if let Some(node) = outbound
            && !self.confirm_name(link, node, sender, message)
        {
            return;
        }
        if let Some(sender) = sender {
            let no_failover = message.flags & flag::NO_FAILOVER != 0;
            self.node_mut(sender).set(flag::NO_FAILOVER, no_failover);
            if message.kind == Kind::Ping && !self.node(sender).has(flag::HANDSHAKE) {
                self.renew_address(sender, link, message);
            }
        }
        if let Some(node) = outbound.filter(|_| message.kind == Kind::Pong) {
            self.note_pong(node);
        }
        let Some(sender) = sender else { return };
        self.take_role(sender, message);
        self.take_slots(sender, message);
        let is_rival = self.me().is_primary() && self.node(sender).is_primary();
        if is_rival && message.config_epoch == self.me().config_epoch {
            self.resolve_collision(sender);
        }
        self.take_news(Some(sender), news);
        if self.nodes.contains_key(&sender) && self.node(sender).hostname != hostname.unwrap_or_default() {
            self.node_mut(sender).hostname = hostname.unwrap_or_default().to_owned();
            self.todo.publish = true;
        }
    }

    /// Others reach us at the address that they have connected to.
    fn learn_own_address(&mut self, link: LinkId, kind: Kind) {
        if self.settings.ip.is_some() || (kind != Kind::Meet && !self.me().ip.is_empty()) {
            return;
        }
        let Some(local_ip) = self.links.get(&link).map(|link| link.local_ip.clone()) else { return };
        if !local_ip.is_empty() && self.me().ip != local_ip {
            tracing::warn!("IP address for this node updated to {local_ip}");
            self.me_mut().ip = local_ip;
            self.todo.save = true;
            self.todo.publish = true;
        }
    }

    /// A stranger wants to be known; we call back and learn the rest.
    fn meet(&mut self, link: LinkId, message: &Message) {
        let name = Name::random(&mut self.random);
        let mut node = Node::new(name, flag::HANDSHAKE, self.now());
        node.ip = self.address_of(link, message);
        (node.port, node.plain_port, node.bus_port) = (message.port, message.plain_port, message.bus_port);
        self.add_node(node);
        self.todo.save = true;
    }

    fn address_of(&self, link: LinkId, message: &Message) -> String {
        match self.links.get(&link) {
            Some(link) if message.ip.is_empty() => link.peer_ip.clone(),
            _ => message.ip.clone(),
        }
    }

    /// Whoever we have called says who it is. False if the link is over.
    fn confirm_name(&mut self, link: LinkId, node: Id, sender: Option<Id>, message: &Message) -> bool {
        if self.node(node).has(flag::HANDSHAKE) {
            if let Some(sender) = sender {
                tracing::debug!("Handshake: we already know node {}, updating the address if needed.", message.sender);
                self.renew_address(sender, link, message);
                self.remove_node(node);
                return false;
            }
            self.rename(node, message.sender);
            let node = self.node_mut(node);
            node.set(flag::HANDSHAKE, false);
            node.flags |= message.flags & (flag::PRIMARY | flag::REPLICA);
            self.todo.save = true;
            return true;
        }
        if self.node(node).name == message.sender {
            return true;
        }
        tracing::debug!("PONG contains mismatching sender ID, about node {}", self.node(node).name);
        let node = self.node_mut(node);
        node.set(flag::NO_ADDRESS, true);
        node.ip.clear();
        (node.port, node.plain_port, node.bus_port) = (0, 0, 0);
        self.close_link(link);
        self.todo.save = true;
        self.todo.publish = true;
        false
    }

    /// The node calls from somewhere else than we know.
    fn renew_address(&mut self, sender: Id, link: LinkId, message: &Message) {
        if self.node(sender).link == Some(link) {
            return;
        }
        let ip = self.address_of(link, message);
        let place = (message.port, message.bus_port, message.plain_port);
        let node = self.node_mut(sender);
        if ip.is_empty() || ((node.port, node.bus_port, node.plain_port) == place && node.ip == ip) {
            return;
        }
        node.ip = ip;
        (node.port, node.bus_port, node.plain_port) = place;
        node.set(flag::NO_ADDRESS, false);
        tracing::warn!("Address updated for node {}, now {}:{}", node.name, node.ip, node.port);
        if let Some(link) = node.link {
            self.close_link(link);
        }
        if self.me().is_replica() && self.me().primary == Some(sender) {
            self.follow_in_fact(sender);
        }
        self.todo.save = true;
        self.todo.update_state = true;
        self.todo.publish = true;
    }

    fn note_pong(&mut self, id: Id) {
        let now_ms = self.now();
        let node = self.node_mut(id);
        node.pong_received_ms = now_ms;
        node.ping_sent_ms = 0;
        if node.has(flag::SUSPECTED) {
            node.set(flag::SUSPECTED, false);
            self.todo.save = true;
            self.todo.update_state = true;
        } else if node.is_failed() {
            self.clear_failure(id);
        }
    }

    /// A failed node answers: it is well again unless its slots are about to go to somebody else.
    fn clear_failure(&mut self, id: Id) {
        let (now_ms, undo_ms) = (self.now(), self.settings.node_timeout_ms * RECOVERY_TIMEOUTS);
        let node = self.node_mut(id);
        if node.is_replica() || node.slots.is_empty() {
            let what = if node.is_replica() { "replica" } else { "master without slots" };
            tracing::info!("Clear FAIL state for node {}: {what} is reachable again.", node.name);
        } else if node.is_primary() && now_ms - node.failed_ms > undo_ms {
            tracing::info!(
                "Clear FAIL state for node {}: is reachable again and nobody is serving its slots after some time.",
                node.name
            );
        } else {
            return;
        }
        node.set(flag::FAILED, false);
        self.todo.save = true;
        self.todo.update_state = true;
    }

    fn take_role(&mut self, sender: Id, message: &Message) {
        let Some(name) = message.primary else { return self.become_primary(sender) };
        if self.node(sender).is_primary() {
            self.delete_slots_of(sender);
            let node = self.node_mut(sender);
            node.set(flag::PRIMARY | flag::MIGRATE_TO, false);
            node.set(flag::REPLICA, true);
            self.todo.save = true;
            self.todo.update_state = true;
        }
        let primary = self.find(&name).filter(|primary| *primary != sender);
        if let Some(primary) = primary.filter(|primary| self.node(sender).primary != Some(*primary)) {
            self.attach(primary, sender);
            self.todo.save = true;
        }
    }

    /// Slots that the sender, or its primary, claims.
    fn take_slots(&mut self, sender: Id, message: &Message) {
        let node = self.node(sender);
        let claimant = if node.is_primary() { Some(sender) } else { node.primary };
        let is_news = claimant.is_some_and(|claimant| self.node(claimant).slots != message.slots);
        if !is_news {
            return;
        }
        if self.node(sender).is_primary() {
            self.take_claim(sender, message.config_epoch, &message.slots);
        }
        // It may not know that somebody else has won them meanwhile.
        let winner = message.slots.iter().find_map(|slot| {
            let owner = self.owner(slot).filter(|owner| *owner != sender && !self.unclaimed.contains(slot))?;
            (self.node(owner).config_epoch > message.config_epoch).then_some(owner)
        });
        if let (Some(winner), Some(link)) = (winner, self.node(sender).link) {
            tracing::debug!(
                "Node {} has old slots configuration, sending an UPDATE message about {}",
                self.node(sender).name,
                self.node(winner).name
            );
            self.send_update(link, winner);
        }
    }

    /// Two primaries with one epoch: the one with the smaller name moves on.
    fn resolve_collision(&mut self, sender: Id) {
        let (me, other) = (self.me(), self.node(sender));
        if other.config_epoch != me.config_epoch || other.name <= me.name {
            return;
        }
        let name = other.name;
        self.current_epoch += 1;
        let epoch = self.current_epoch;
        self.me_mut().config_epoch = epoch;
        self.todo.save = true;
        self.todo.sync = true;
        tracing::debug!("WARNING: configEpoch collision with node {name}. configEpoch set to {epoch}");
    }

    fn take_failure(&mut self, sender: &Name, about: &Name) {
        let Some(id) = self.find(about) else { return };
        let now_ms = self.now();
        let node = self.node_mut(id);
        if node.has(flag::FAILED | flag::MYSELF) {
            return;
        }
        tracing::info!("FAIL message received from {sender} about {about}");
        node.set(flag::FAILED, true);
        node.set(flag::SUSPECTED, false);
        node.failed_ms = now_ms;
        self.todo.save = true;
        self.todo.update_state = true;
    }

    /// What others say of others. Strangers are taken up only on the word of somebody whom we know.
    fn take_news(&mut self, sender: Option<Id>, news: &[Gossip]) {
        for gossip in news {
            match self.find(&gossip.name) {
                Some(id) => self.take_news_of(id, sender, gossip),
                None if sender.is_some() && gossip.flags & flag::NO_ADDRESS == 0 => self.take_up(gossip),
                None => {}
            }
        }
    }

    fn take_up(&mut self, gossip: &Gossip) {
        let now_ms = self.now();
        self.blacklist.retain(|_, until_ms| *until_ms >= now_ms);
        if self.blacklist.contains_key(&gossip.name) || Name::parse(&gossip.name.0).is_none() {
            return;
        }
        // What it is to itself it is not to us.
        let mut node = Node::new(gossip.name, gossip.flags & !(flag::MYSELF | flag::HANDSHAKE), now_ms);
        node.ip.clone_from(&gossip.ip);
        (node.port, node.plain_port, node.bus_port) = (gossip.port, gossip.plain_port, gossip.bus_port);
        self.add_node(node);
    }

    fn take_news_of(&mut self, id: Id, sender: Option<Id>, gossip: &Gossip) {
        let is_bad = gossip.flags & (flag::FAILED | flag::SUSPECTED) != 0;
        let reporter = sender.filter(|sender| self.node(*sender).is_primary() && id != self.myself);
        if let Some(reporter) = reporter {
            if is_bad {
                self.add_report(id, reporter);
                self.consider_failed(id);
            } else {
                self.drop_report(id, reporter);
            }
        }
        let heard_ms = i64::from(gossip.pong_received_s) * 1000;
        let (reports, now_ms) = (self.reports(id), self.now());
        let node = self.node_mut(id);
        let is_believable = heard_ms <= now_ms + CLOCK_TOLERANCE_MS;
        if !is_bad && node.ping_sent_ms == 0 && reports == 0 && is_believable {
            node.pong_received_ms = node.pong_received_ms.max(heard_ms);
        }
        let place = (gossip.port, gossip.bus_port);
        let is_elsewhere = node.ip != gossip.ip || (node.port, node.bus_port) != place;
        if node.has(flag::FAILED | flag::SUSPECTED) && !is_bad && gossip.flags & flag::NO_ADDRESS == 0 && is_elsewhere {
            node.ip.clone_from(&gossip.ip);
            (node.port, node.plain_port, node.bus_port) = (gossip.port, gossip.plain_port, gossip.bus_port);
            node.set(flag::NO_ADDRESS, false);
            if let Some(link) = node.link {
                self.close_link(link);
            }
            self.todo.publish = true;
        }
    }

    fn add_report(&mut self, id: Id, reporter: Id) {
        let now_ms = self.now();
        let name = self.node(reporter).name;
        let node = self.node_mut(id);
        match node.reports.iter_mut().find(|(known, _)| *known == reporter) {
            Some((_, reported_ms)) => *reported_ms = now_ms,
            None => {
                node.reports.push((reporter, now_ms));
                tracing::debug!("Node {name} reported node {} as not reachable.", node.name);
            }
        }
    }

    fn drop_report(&mut self, id: Id, reporter: Id) {
        let name = self.node(reporter).name;
        let node = self.node_mut(id);
        let before = node.reports.len();
        node.reports.retain(|(known, _)| *known != reporter);
        if node.reports.len() < before {
            tracing::debug!("Node {name} reported node {} is back online.", node.name);
        }
    }

    /// Reports that are fresh enough to count.
    pub fn reports(&mut self, id: Id) -> usize {
        let oldest_ms = self.now() - self.settings.node_timeout_ms * REPORT_TIMEOUTS;
        let node = self.node_mut(id);
        node.reports.retain(|(_, reported_ms)| *reported_ms >= oldest_ms);
        node.reports.len()
    }

    /// A suspicion that most primaries share is a failure, and everybody is told.
    fn consider_failed(&mut self, id: Id) {
        let node = self.node(id);
        if !node.has(flag::SUSPECTED) || node.is_failed() {
            return;
        }
        let votes = self.reports(id) + usize::from(self.me().is_primary());
        if votes < self.quorum() {
            return;
        }
        let now_ms = self.now();
        let node = self.node_mut(id);
        tracing::info!("Marking node {} as failing (quorum reached).", node.name);
        node.set(flag::SUSPECTED, false);
        node.set(flag::FAILED, true);
        node.failed_ms = now_ms;
        self.broadcast_failure(id);
        self.todo.save = true;
        self.todo.update_state = true;
    }

    pub(super) fn quorum(&self) -> usize {
        self.size / 2 + 1
    }
}
