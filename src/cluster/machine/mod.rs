//! What a node of the cluster knows and decides, as a pure state machine: messages, events and the time go in, actions come out.
//! No clock, socket or file; so a whole cluster runs in a test (`simulation`).
//!
//! ```text
//!   receive(link, message) ┐
//!   accepted, connected,   ├─► node table, slots, epochs ─► finish() ─► publish · roles · save (fsync) · then send
//!   closed, tick()         │                                            (a vote is on disk before it is given)
//!   CLUSTER … (admin)      ┘
//! ```
//! | file | about |
//! |---|---|
//! | `node` | names, sets of slots, the node |
//! | `receive` | what a message changes |
//! | `gossip` | the messages that go out |
//! | `cron` | ten times a second: links, pings, suspicions |
//! | `slots` | who serves what; whether the cluster is well |
//! | `election` | a replica takes its primary's place; manual failover; votes; replicas that move |
//! | `admin` | what operators change |

mod admin;
mod cron;
mod election;
mod gossip;
pub mod node;
mod receive;
mod restore;
#[cfg(test)]
mod simulation;
mod slots;

pub use admin::Change;

use super::message::KIND_NAMES;
use crate::base::crc16::SLOTS;
use crate::base::random::Random;
use bytes::Bytes;
use election::Election;
use node::{Id, LinkId, Name, Node, SlotSet, flag};
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// What of the settings counts here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    pub node_timeout_ms: i64,
    pub validity_factor: i64,
    pub repl_ping_period_ms: i64,
    pub migration_barrier: usize,
    pub allow_replica_migration: bool,
    pub require_full_coverage: bool,
    pub no_failover: bool,
    /// What others are told; no address means that they shall take the one that they see.
    pub ip: Option<String>,
    pub port: u16,
    pub plain_port: u16,
    pub bus_port: u16,
    pub hostname: String,
}

/// What is true outside at the moment of an input.
#[derive(Clone, Copy, Debug, Default)]
pub struct Surroundings {
    pub now_ms: i64,
    /// End of this node's replication stream.
    pub offset: u64,
    /// How old a replica's data is: since when it has heard nothing from its primary.
    pub data_age_ms: i64,
    /// The server follows somebody.
    pub follows: bool,
}

/// What is to be done, in this order.
#[derive(Clone, Debug)]
pub enum Action {
    Connect {
        link: LinkId,
        ip: String,
        port: u16,
    },
    Close(LinkId),
    Send {
        link: LinkId,
        bytes: Bytes,
    },
    /// The server becomes a replica.
    Follow {
        ip: String,
        port: u16,
    },
    /// The server becomes a primary.
    Promote,
    /// CLUSTER RESET of a replica: its data belongs to others.
    Flush,
    /// What dispatch reads has changed.
    Publish,
    Save {
        sync: bool,
    },
    /// Slots that are served elsewhere now: their keys go, if there are any.
    DropKeys(Vec<u16>),
    /// Who listens to channels of these slots must go elsewhere.
    DropChannels(Box<SlotSet>),
    Pause {
        until_ms: i64,
    },
    Unpause,
    Deliver {
        channel: Vec<u8>,
        message: Vec<u8>,
        is_sharded: bool,
    },
}

/// A connection of the bus.
#[derive(Clone, Debug)]
pub struct Link {
    pub node: Option<Id>,
    pub is_inbound: bool,
    pub created_ms: i64,
    is_connected: bool,
    peer_ip: String,
    local_ip: String,
}

/// What an input has left to be done at its end.
#[derive(Clone, Copy, Debug, Default)]
struct Todo {
    update_state: bool,
    save: bool,
    sync: bool,
    failover: bool,
    manual_failover: bool,
    publish: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    Ok,
    Fail,
}

/// A manual failover that is under way.
#[derive(Clone, Copy, Debug, Default)]
struct Manual {
    /// Until when; 0: there is none.
    until_ms: i64,
    /// At a primary: the replica that has asked.
    replica: Option<Id>,
    /// Its clients wait by now.
    is_paused: bool,
    /// At a replica: the offset of the primary that has paused its clients.
    primary_offset: Option<u64>,
    may_start: bool,
}

pub struct Machine {
    settings: Settings,
    around: Surroundings,
    random: Random,
    nodes: BTreeMap<Id, Node>,
    names: HashMap<Name, Id>,
    next_id: Id,
    pub myself: Id,
    pub current_epoch: u64,
    last_vote_epoch: u64,
    pub health: Health,
    /// Primaries that serve slots.
    pub size: usize,
    owners: Vec<Option<Id>>,
    pub migrating: BTreeMap<u16, Id>,
    pub importing: BTreeMap<u16, Id>,
    /// Slots that their owner does not claim any more, though nobody else does.
    unclaimed: Box<SlotSet>,
    /// Forgotten nodes, and until when nobody brings them back.
    blacklist: BTreeMap<Name, i64>,
    links: BTreeMap<LinkId, Link>,
    next_link: LinkId,
    election: Election,
    manual: Manual,
    pub sent: [u64; KIND_NAMES.len()],
    pub received: [u64; KIND_NAMES.len()],
    pub links_over_limit: u64,
    ignored_kind: Option<usize>,
    suspected: usize,
    ticks: u64,
    messages: u64,
    first_update_ms: Option<i64>,
    minority_ms: i64,
    todo: Todo,
    lost_keys: BTreeSet<u16>,
    lost_channels: Box<SlotSet>,
    actions: Vec<Action>,
    sends: Vec<Action>,
}

impl Machine {
    /// A node that knows nobody.
    pub fn new(settings: Settings, around: Surroundings, mut random: Random) -> Self {
        let name = Name::random(&mut random);
        let mut machine = Machine::empty(settings, around, random);
        machine.myself = machine.add_node(Node::new(name, flag::MYSELF | flag::PRIMARY, around.now_ms));
        machine
    }

    /// The same without itself, to be filled from its file.
    pub(super) fn empty(settings: Settings, around: Surroundings, random: Random) -> Self {
        Machine {
            settings,
            around,
            random,
            nodes: BTreeMap::new(),
            names: HashMap::new(),
            next_id: 1,
            myself: 0,
            current_epoch: 0,
            last_vote_epoch: 0,
            health: Health::Fail,
            size: 1,
            owners: vec![None; usize::from(SLOTS)],
            migrating: BTreeMap::new(),
            importing: BTreeMap::new(),
            unclaimed: SlotSet::boxed(),
            blacklist: BTreeMap::new(),
            links: BTreeMap::new(),
            next_link: 1,
            election: Election::default(),
            manual: Manual::default(),
            sent: [0; KIND_NAMES.len()],
            received: [0; KIND_NAMES.len()],
            links_over_limit: 0,
            ignored_kind: None,
            suspected: 0,
            ticks: 0,
            messages: 0,
            first_update_ms: None,
            minority_ms: 0,
            todo: Todo::default(),
            lost_keys: BTreeSet::new(),
            lost_channels: SlotSet::boxed(),
            actions: Vec::new(),
            sends: Vec::new(),
        }
    }

    /// Before every input: the time, and what is true outside.
    pub fn begin(&mut self, around: Surroundings) {
        self.around = around;
    }

    /// The settings have changed, or are new.
    pub fn configure(&mut self, settings: Settings) {
        let old_ip = std::mem::replace(&mut self.settings, settings).ip;
        let Settings { ip, port, plain_port, bus_port, hostname, no_failover, .. } = self.settings.clone();
        let me = self.me_mut();
        let before = me.flags;
        (me.port, me.plain_port, me.bus_port, me.hostname) = (port, plain_port, bus_port, hostname);
        me.set(flag::NO_FAILOVER, no_failover);
        match &ip {
            Some(ip) => me.ip.clone_from(ip),
            // To be found out again.
            None if old_ip.is_some() => me.ip.clear(),
            None => {}
        }
        if before != me.flags {
            self.todo.save = true;
        }
        self.todo.update_state = true;
        self.todo.publish = true;
    }

    fn now(&self) -> i64 {
        self.around.now_ms
    }

    /// After every input: what is to be done, in this order.
    pub fn finish(&mut self) -> Vec<Action> {
        if std::mem::take(&mut self.todo.manual_failover) && self.me().is_replica() {
            self.advance_manual_failover();
            self.advance_failover();
        }
        if std::mem::take(&mut self.todo.failover) {
            self.advance_failover();
        }
        if self.todo.update_state {
            self.update_state();
        }
        let todo = std::mem::take(&mut self.todo);
        let mut actions = std::mem::take(&mut self.actions);
        if todo.publish {
            actions.push(Action::Publish);
        }
        if todo.save || todo.sync {
            actions.push(Action::Save { sync: todo.sync });
        }
        if !self.lost_keys.is_empty() {
            actions.push(Action::DropKeys(std::mem::take(&mut self.lost_keys).into_iter().collect()));
        }
        if !self.lost_channels.is_empty() {
            actions.push(Action::DropChannels(std::mem::replace(&mut self.lost_channels, SlotSet::boxed())));
        }
        actions.append(&mut self.sends);
        actions
    }

    pub fn me(&self) -> &Node {
        &self.nodes[&self.myself]
    }

    fn me_mut(&mut self) -> &mut Node {
        self.node_mut(self.myself)
    }

    pub fn node(&self, id: Id) -> &Node {
        &self.nodes[&id]
    }

    fn node_mut(&mut self, id: Id) -> &mut Node {
        match self.nodes.get_mut(&id) {
            Some(node) => node,
            // Whoever removes a node takes its id out of everything that holds one.
            None => panic!("node {id} has been removed"),
        }
    }

    pub fn nodes(&self) -> impl Iterator<Item = (Id, &Node)> {
        self.nodes.iter().map(|(id, node)| (*id, node))
    }

    pub fn find(&self, name: &Name) -> Option<Id> {
        self.names.get(name).copied()
    }

    pub fn link(&self, id: LinkId) -> Option<&Link> {
        self.links.get(&id)
    }

    pub fn owner(&self, slot: u16) -> Option<Id> {
        self.owners[usize::from(slot)]
    }

    /// In the order in which they came.
    pub fn replicas_of(&self, primary: Id) -> impl Iterator<Item = Id> {
        self.nodes().filter(move |(_, node)| node.primary == Some(primary)).map(|(id, _)| id)
    }

    /// This node's primary, or itself if it is one.
    pub fn my_primary(&self) -> Option<Id> {
        if self.me().is_primary() { Some(self.myself) } else { self.me().primary }
    }

    /// End of the stream as this node knows it of another.
    pub fn offset_of(&self, id: Id) -> u64 {
        if id == self.myself { self.around.offset } else { self.node(id).offset }
    }

    pub fn last_vote_epoch(&self) -> u64 {
        self.last_vote_epoch
    }

    fn add_node(&mut self, node: Node) -> Id {
        let id = self.next_id;
        self.next_id += 1;
        self.names.insert(node.name, id);
        self.nodes.insert(id, node);
        id
    }

    fn rename(&mut self, id: Id, name: Name) {
        let old = self.node(id).name;
        self.names.remove(&old);
        self.names.insert(name, id);
        self.node_mut(id).name = name;
    }

    /// Takes a node out of everything.
    fn remove_node(&mut self, id: Id) {
        self.importing.retain(|_, node| *node != id);
        self.migrating.retain(|_, node| *node != id);
        let slots = self.node(id).slots.clone();
        slots.iter().for_each(|slot| self.delete_slot(slot));
        let links = [self.node(id).link, self.node(id).inbound];
        links.into_iter().flatten().for_each(|link| self.close_link(link));
        if let Some(primary) = self.node(id).primary {
            self.detach(primary, id);
        }
        for node in self.nodes.values_mut() {
            node.reports.retain(|(reporter, _)| *reporter != id);
            if node.primary == Some(id) {
                node.primary = None;
            }
        }
        if self.manual.replica == Some(id) {
            self.reset_manual_failover();
        }
        if let Some(node) = self.nodes.remove(&id) {
            self.names.remove(&node.name);
        }
        self.todo.publish = true;
    }

    /// A replica follows a primary from here on.
    fn attach(&mut self, primary: Id, replica: Id) {
        if self.node(replica).primary != Some(primary) {
            if let Some(old) = self.node(replica).primary {
                self.detach(old, replica);
            }
            self.node_mut(replica).primary = Some(primary);
        }
        self.node_mut(primary).set(flag::MIGRATE_TO, true);
        self.todo.publish = true;
    }

    fn detach(&mut self, primary: Id, replica: Id) {
        self.node_mut(replica).primary = None;
        if self.replicas_of(primary).next().is_none() {
            self.node_mut(primary).set(flag::MIGRATE_TO, false);
        }
        self.todo.publish = true;
    }

    fn become_primary(&mut self, id: Id) {
        if self.node(id).is_primary() {
            return;
        }
        if let Some(primary) = self.node(id).primary {
            self.detach(primary, id);
            if id != self.myself {
                self.node_mut(id).set(flag::MIGRATE_TO, true);
            }
        }
        let node = self.node_mut(id);
        node.set(flag::REPLICA, false);
        node.set(flag::PRIMARY, true);
        self.todo.save = true;
        self.todo.update_state = true;
        self.todo.publish = true;
    }

    /// This node follows another from here on. It serves no slot any more.
    fn follow(&mut self, primary: Id) {
        if self.me().is_primary() {
            let me = self.me_mut();
            me.set(flag::PRIMARY | flag::MIGRATE_TO, false);
            me.set(flag::REPLICA, true);
            self.migrating.clear();
            self.importing.clear();
        }
        self.attach(primary, self.myself);
        self.follow_in_fact(primary);
        self.reset_manual_failover();
    }

    fn follow_in_fact(&mut self, primary: Id) {
        let (ip, port) = (self.node(primary).ip.clone(), self.node(primary).port);
        self.actions.push(Action::Follow { ip, port });
    }

    fn new_link(&mut self, link: Link) -> LinkId {
        let id = self.next_link;
        self.next_link += 1;
        self.links.insert(id, link);
        id
    }

    /// Somebody has connected to us. Which node it is its first message tells.
    pub fn accepted(&mut self, peer_ip: String, local_ip: String) -> LinkId {
        let created_ms = self.now();
        self.new_link(Link { node: None, is_inbound: true, created_ms, is_connected: true, peer_ip, local_ip })
    }

    /// A link is over.
    pub fn closed(&mut self, id: LinkId) {
        let Some(link) = self.links.remove(&id) else { return };
        let Some(node) = link.node.and_then(|node| self.nodes.get_mut(&node)) else { return };
        if node.link == Some(id) {
            node.link = None;
            if !link.is_connected && node.ping_sent_ms == 0 {
                // It could not be reached: as good as a ping without an answer.
                node.ping_sent_ms = self.around.now_ms;
            }
        }
        if node.inbound == Some(id) {
            node.inbound = None;
        }
    }

    fn close_link(&mut self, id: LinkId) {
        if let Some(link) = self.links.get_mut(&id) {
            // Nobody failed to be reached.
            link.is_connected = true;
            self.closed(id);
            self.sends.push(Action::Close(id));
        }
    }

    /// Too much waits to be sent on a link.
    pub fn close_overfull(&mut self, id: LinkId) {
        self.links_over_limit += 1;
        self.close_link(id);
    }

    /// DEBUG: closes links to or from a node.
    pub fn close_links(&mut self, id: Id, to: bool, from: bool) {
        let node = self.node(id);
        let links = [node.link.filter(|_| to), node.inbound.filter(|_| from)];
        links.into_iter().flatten().for_each(|link| self.close_link(link));
    }

    /// DEBUG: ignores messages of a type.
    pub fn ignore(&mut self, kind: Option<usize>) {
        self.ignored_kind = kind;
    }

    /// The greatest config epoch that is known.
    fn max_epoch(&self) -> u64 {
        self.nodes.values().map(|node| node.config_epoch).fold(self.current_epoch, u64::max)
    }
}
