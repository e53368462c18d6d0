//! Ten times a second: links are opened, the silent are pinged, those that stay silent are suspected.

use super::node::{Id, flag};
use super::{Action, Health, Link, Machine};
use crate::cluster::message::Kind;

/// A handshake may take that long at least.
const HANDSHAKE_MIN_MS: i64 = 1000;
/// Ticks between two pings of a random node, and how many are looked at for it.
const PING_TICKS: u64 = 10;
const PING_SAMPLES: usize = 5;

/// What a look at all nodes tells a replica about where replicas are missing.
#[derive(Default)]
struct Replicas {
    orphans: usize,
    most: usize,
    mine: usize,
}

impl Machine {
    pub fn tick(&mut self) {
        self.ticks += 1;
        self.tend_links();
        if self.ticks.is_multiple_of(PING_TICKS) {
            self.ping_somebody();
        }
        let mut replicas = Replicas::default();
        let mut has_suspected = false;
        for id in self.nodes.keys().copied().collect::<Vec<_>>() {
            if !self.node(id).has(flag::MYSELF | flag::NO_ADDRESS | flag::HANDSHAKE) {
                self.count_replicas(id, &mut replicas);
                has_suspected |= self.watch(id);
            }
        }
        self.follow_who_is_known();
        if self.manual.until_ms != 0 && self.manual.until_ms < self.now() {
            tracing::warn!("Manual failover timed out.");
            self.reset_manual_failover();
        }
        if self.me().is_replica() {
            self.advance_manual_failover();
            self.advance_failover();
            let may_move = replicas.orphans > 0 && replicas.most >= 2 && replicas.mine == replicas.most;
            if may_move && self.settings.allow_replica_migration {
                self.consider_moving(replicas.most);
            }
        }
        if has_suspected || self.health == Health::Fail {
            self.todo.update_state = true;
        }
    }

    /// Opens links that are missing, and forgets handshakes that came to nothing.
    fn tend_links(&mut self) {
        let timeout_ms = self.settings.node_timeout_ms.max(HANDSHAKE_MIN_MS);
        self.suspected = 0;
        for id in self.nodes.keys().copied().collect::<Vec<_>>() {
            let node = self.node(id);
            if node.has(flag::MYSELF | flag::NO_ADDRESS) {
                continue;
            }
            if node.has(flag::HANDSHAKE) && self.now() - node.created_ms > timeout_ms {
                self.remove_node(id);
                continue;
            }
            self.suspected += usize::from(node.has(flag::SUSPECTED));
            if self.node(id).link.is_none() {
                self.connect(id);
            }
        }
    }

    fn connect(&mut self, id: Id) {
        let (ip, port) = (self.node(id).ip.clone(), self.node(id).bus_port);
        let link = self.new_link(Link {
            node: Some(id),
            is_inbound: false,
            created_ms: self.now(),
            is_connected: false,
            peer_ip: ip.clone(),
            local_ip: String::new(),
        });
        self.node_mut(id).link = Some(link);
        self.sends.push(Action::Connect { link, ip, port });
    }

    /// A link that we opened stands: it begins with a ping.
    pub fn connected(&mut self, link: u64) {
        let Some(opened) = self.links.get_mut(&link) else { return };
        opened.is_connected = true;
        let Some(id) = opened.node else { return };
        let waiting_since_ms = self.node(id).ping_sent_ms;
        let is_meeting = self.node(id).has(flag::MEET);
        self.send_ping(link, if is_meeting { Kind::Meet } else { Kind::Ping });
        let node = self.node_mut(id);
        if waiting_since_ms != 0 {
            // Still the same silence.
            node.ping_sent_ms = waiting_since_ms;
        }
        node.set(flag::MEET, false);
    }

    fn has_open_link(&self, id: Id) -> Option<u64> {
        self.node(id).link.filter(|link| self.links.get(link).is_some_and(|link| link.is_connected))
    }

    /// Of a few nodes the one that was heard least recently.
    fn ping_somebody(&mut self) {
        let ids: Vec<Id> = self.nodes.keys().copied().collect();
        let mut oldest: Option<(i64, u64)> = None;
        for _ in 0..PING_SAMPLES {
            let id = ids[self.random.below(ids.len() as u64) as usize];
            let node = self.node(id);
            if node.ping_sent_ms != 0 || node.has(flag::MYSELF | flag::HANDSHAKE) {
                continue;
            }
            if let Some(link) = self.has_open_link(id)
                && oldest.is_none_or(|(heard_ms, _)| heard_ms > node.pong_received_ms)
            {
                oldest = Some((node.pong_received_ms, link));
            }
        }
        if let Some((_, link)) = oldest {
            self.send_ping(link, Kind::Ping);
        }
    }

    fn count_replicas(&self, id: Id, replicas: &mut Replicas) {
        let (me, node) = (self.me(), self.node(id));
        if !me.is_replica() || !node.is_primary() || node.is_failed() {
            return;
        }
        let working = self.working_replicas(id);
        if working == 0 && !node.slots.is_empty() && node.has(flag::MIGRATE_TO) {
            replicas.orphans += 1;
        }
        replicas.most = replicas.most.max(working);
        if me.primary == Some(id) {
            replicas.mine = working;
        }
    }

    pub(super) fn working_replicas(&self, primary: Id) -> usize {
        self.replicas_of(primary).filter(|id| !self.node(*id).is_failed()).count()
    }

    /// Pings a node that was silent for long; true if it is suspected from now on.
    fn watch(&mut self, id: Id) -> bool {
        let (now_ms, timeout_ms) = (self.now(), self.settings.node_timeout_ms);
        let node = self.node(id);
        let (ping_delay_ms, data_delay_ms) = (now_ms - node.ping_sent_ms, now_ms - node.data_received_ms);
        let (is_waiting, half_ms) = (node.ping_sent_ms != 0, timeout_ms / 2);
        let silent_for_ms = now_ms - node.pong_received_ms;
        if let Some(link) = node.link
            && is_waiting
            && self.links.get(&link).is_some_and(|link| now_ms - link.created_ms > timeout_ms)
            && ping_delay_ms > half_ms
            && data_delay_ms > half_ms
        {
            // The link may be broken rather than the node.
            self.close_link(link);
        }
        if let Some(link) = self.has_open_link(id) {
            let is_failing_over = self.manual.until_ms != 0 && self.manual.replica == Some(id);
            let wants_offset = is_failing_over && self.me().is_primary() && self.manual.is_paused;
            if (!is_waiting && silent_for_ms > half_ms) || wants_offset {
                self.send_ping(link, Kind::Ping);
                return false;
            }
        } else if self.node(id).link.is_some() && !is_waiting && silent_for_ms > half_ms {
            // Whoever cannot even be reached is silent, too.
            self.node_mut(id).ping_sent_ms = now_ms;
            return false;
        }
        if !is_waiting || ping_delay_ms.min(data_delay_ms) <= timeout_ms {
            return false;
        }
        let node = self.node_mut(id);
        if node.has(flag::SUSPECTED | flag::FAILED) {
            return false;
        }
        tracing::debug!("*** NODE {} possibly failing", node.name);
        node.set(flag::SUSPECTED, true);
        // The others hear of it with the next ping, since a lone report may be all that is missing.
        self.suspected += 1;
        true
    }

    /// A replica that has started, or whose primary had no address, begins to follow.
    fn follow_who_is_known(&mut self) {
        let Some(primary) = self.me().primary.filter(|_| self.me().is_replica() && !self.around.follows) else {
            return;
        };
        if !self.node(primary).has(flag::NO_ADDRESS) && !self.node(primary).ip.is_empty() {
            self.follow_in_fact(primary);
        }
    }
}
