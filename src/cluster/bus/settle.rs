//! What the machine has decided takes effect on the server: under every shard's lock, so that no command runs half before and half after.
//!
//! A busy script keeps the locks; then it is tried again with the next tick. Until then clients are told what was true before.

use super::Bus;
use super::surroundings;
use crate::base::crc16::SLOTS;
use crate::cluster::machine::node::{Id, SlotSet};
use crate::cluster::machine::{Action, Health, Machine};
use crate::engine::keyspace::{Db, Locked, SHARDS, ShardSet, place, shard_of};
use crate::engine::table::Entry;
use crate::resp::OwnedArgs;
use crate::server::commands::keyspace;
use crate::server::config::PrimaryAddress;
use crate::server::pause::{PauseMode, Purpose};
use crate::server::slots::{Map, NodeIndex, Place, redirect};
use crate::server::{Server, blocking, call, propagation, role_change};
use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::Ordering;

/// What waits for the locks.
#[derive(Default)]
pub struct Pending {
    map: bool,
    flush: bool,
    lost_keys: BTreeSet<u16>,
    lost_channels: Option<Box<SlotSet>>,
    pause_until_ms: Option<i64>,
    unpause: bool,
}

impl Pending {
    /// Keeps what needs locks; the rest comes back.
    pub fn take_from(&mut self, actions: Vec<Action>) -> Vec<Action> {
        let mut rest = Vec::with_capacity(actions.len());
        for action in actions {
            match action {
                // Whom to follow is a part of the map.
                Action::Follow { .. } | Action::Promote | Action::Publish => self.map = true,
                Action::Flush => self.flush = true,
                Action::DropKeys(slots) => self.lost_keys.extend(slots),
                Action::DropChannels(slots) => {
                    let mut lost = self.lost_channels.take().unwrap_or_else(SlotSet::boxed);
                    slots.iter().for_each(|slot| lost.insert(slot));
                    self.lost_channels = Some(lost);
                }
                Action::Pause { until_ms } => {
                    self.pause_until_ms = Some(until_ms);
                    self.unpause = false;
                }
                Action::Unpause => {
                    self.pause_until_ms = None;
                    self.unpause = true;
                }
                other => rest.push(other),
            }
        }
        rest
    }

    fn is_empty(&self) -> bool {
        let has_slots = !self.lost_keys.is_empty() || self.lost_channels.is_some();
        !(self.map || self.flush || has_slots || self.pause_until_ms.is_some() || self.unpause)
    }
}

/// Keys of a slot, or of all.
pub fn count_keys(locked: &Locked, slot: Option<u16>) -> usize {
    match slot {
        Some(slot) => locked.db(place::hash_in(slot), 0).map_or(0, Db::len),
        None => (0..SHARDS).flat_map(|shard| locked.shard(shard).parts(0)).map(Db::len).sum(),
    }
}

impl Bus {
    /// Takes the locks for what waits for them, if anything does.
    pub fn settle(&self) {
        if self.pending.lock().is_empty() {
            return;
        }
        if let Some(mut locked) = self.server.lock(ShardSet::ALL) {
            self.settle_locked(&mut locked);
        }
    }

    pub fn settle_locked(&self, locked: &mut Locked) {
        let pending = std::mem::take(&mut *self.pending.lock());
        if pending.is_empty() {
            return;
        }
        let server = self.server;
        if pending.map {
            let (map, primary) = {
                let machine = self.machine.lock();
                (map_of(&machine), primary_of(&machine))
            };
            take_role(server, locked, primary);
            server.slots.replace(map);
            redirect_blocked(server, locked);
        }
        if pending.flush {
            self.flush(locked);
        }
        if !pending.lost_keys.is_empty() {
            self.drop_keys(locked, &pending.lost_keys);
        }
        if let Some(slots) = pending.lost_channels {
            server.leave_shard_channels(|channel| slots.contains(place::slot_of(Locked::hash(channel))));
        }
        if pending.unpause {
            server.unpause_clients(Purpose::Failover);
        }
        server.renew_settings();
        if let Some(until_ms) = pending.pause_until_ms {
            self.pause(until_ms);
        }
    }

    /// From here on no client writes; so the stream ends here until the failover is over.
    fn pause(&self, until_ms: i64) {
        let server = self.server;
        let around = surroundings(server);
        server.pause_clients(Purpose::Failover, PauseMode::Writes, until_ms, around.now_ms);
        let actions = {
            let mut machine = self.machine.lock();
            machine.begin(around);
            machine.paused();
            machine.finish()
        };
        for action in actions {
            if let Action::Send { link, bytes } = action
                && let Some(outgoing) = self.links.lock().get(&link)
            {
                outgoing.send(bytes);
            }
        }
    }

    /// CLUSTER RESET of a replica: what it has belongs to others.
    fn flush(&self, locked: &mut Locked) {
        let mut worker = self.worker.lock();
        worker.refresh();
        keyspace::empty(locked, 0, Some(&self.server.lazyfree));
        self.server.invalidate_all(None);
        if self.server.journal.is_active() {
            worker.unit.push((0, OwnedArgs::new([b"FLUSHALL".as_slice()])));
        }
        propagation::finish_unit(&mut worker, locked);
    }

    fn drop_keys(&self, locked: &mut Locked, slots: &BTreeSet<u16>) {
        let mut worker = self.worker.lock();
        worker.refresh();
        let map = self.server.slots.map();
        for slot in slots.iter().filter(|slot| !map.may_hold(**slot)) {
            let hash = place::hash_in(*slot);
            let keys: Vec<Box<[u8]>> = match locked.shard(shard_of(hash)).part(place::part_of(hash, 0)) {
                Some(part) => part.table().iter().map(|record| record.key().into()).collect(),
                None => Vec::new(),
            };
            for key in keys {
                call::outside_commands(&mut worker, locked, 0, &mut |found| found.evict(&key, b"DEL"));
            }
        }
    }

    /// After the load: the slots of which there are keys belong to somebody.
    pub fn adopt(&self) {
        let server = self.server;
        let locked = server.keyspace.lock_all();
        let with_keys: Vec<u16> = (0..SLOTS).filter(|slot| count_keys(&locked, Some(*slot)) > 0).collect();
        drop(locked);
        self.input(|machine| machine.adopt(with_keys.into_iter()));
    }
}

/// Becomes what the machine says this node is.
fn take_role(server: &'static Server, locked: &mut Locked, primary: Option<Option<PrimaryAddress>>) {
    match primary {
        None if server.is_replica.load(Ordering::Acquire) => role_change::promote(server, locked),
        Some(Some(primary)) if server.role.primary().as_ref() != Some(&primary) => {
            role_change::follow(server, locked, primary);
        }
        // A primary that stays one; one followed already; one whose address is not known yet.
        _ => {}
    }
}

/// Nothing: this node is a primary. Otherwise its primary's address, if that is known.
fn primary_of(machine: &Machine) -> Option<Option<PrimaryAddress>> {
    let me = machine.me();
    me.is_replica().then(|| {
        let primary = machine.node(me.primary?);
        (!primary.ip.is_empty()).then(|| PrimaryAddress { host: primary.ip.clone(), port: primary.port })
    })
}

fn map_of(machine: &Machine) -> Map {
    let indices: HashMap<Id, NodeIndex> = machine.nodes().zip(0..).map(|((id, _), index)| (id, index)).collect();
    let index = |id: Id| indices[&id];
    let place = |node: &crate::cluster::machine::node::Node| Place {
        ip: node.ip.clone(),
        hostname: node.hostname.clone(),
        port: node.port,
        plain_port: node.plain_port,
    };
    let me = machine.me();
    Map {
        is_ok: machine.health == Health::Ok,
        nodes: machine.nodes().map(|(_, node)| place(node)).collect(),
        myself: index(machine.myself),
        primary: me.primary.filter(|_| me.is_replica()).map(index),
        owners: (0..SLOTS).map(|slot| machine.owner(slot).map(index)).collect(),
        migrating: machine.migrating.iter().map(|(slot, id)| (*slot, index(*id))).collect(),
        importing: machine.importing.iter().map(|(slot, id)| (*slot, index(*id))).collect(),
    }
}

/// Whoever waits for a key that is served elsewhere now is sent there.
fn redirect_blocked(server: &'static Server, locked: &mut Locked) {
    let (map, config) = (server.slots.map(), server.config.current());
    blocking::release_if(server, locked, |client, entry, key| {
        redirect::redirect_blocked(&map, &config, client, entry, key)
    });
}
