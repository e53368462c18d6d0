//! Who serves which slot, and whether the cluster as a whole is well.
//!
//! A claim with a greater config epoch wins. So two nodes that claim a slot are told apart by everybody in the same way, whatever
//! the order in which their messages come.

use super::node::{Id, SlotSet, flag};
use super::{Health, Machine};
use crate::base::crc16::SLOTS;

/// How long a primary that was alone with few others waits before it serves again: the others may have chosen somebody else.
const REJOIN_MIN_MS: i64 = 500;
const REJOIN_MAX_MS: i64 = 5000;
/// How long it waits after its start.
const WRITABLE_AFTER_MS: i64 = 2000;

impl Machine {
    /// Gives a slot that nobody has to a node.
    pub(super) fn add_slot(&mut self, id: Id, slot: u16) {
        self.owners[usize::from(slot)] = Some(id);
        let node = self.node_mut(id);
        let is_first = node.slots.is_empty();
        node.slots.insert(slot);
        // A primary that gets its first slot where others have replicas may get some, too.
        if is_first && self.nodes.values().any(|node| node.primary.is_some()) {
            self.node_mut(id).set(flag::MIGRATE_TO, true);
        }
        self.todo.publish = true;
    }

    pub(super) fn delete_slot(&mut self, slot: u16) {
        let Some(owner) = self.owners[usize::from(slot)].take() else { return };
        if self.my_primary() == Some(owner) {
            self.lost_channels.insert(slot);
        }
        self.node_mut(owner).slots.remove(slot);
        self.unclaimed.remove(slot);
        self.todo.publish = true;
    }

    pub(super) fn delete_slots_of(&mut self, id: Id) {
        let slots = self.node(id).slots.clone();
        slots.iter().for_each(|slot| self.delete_slot(slot));
    }

    /// A node claims slots with an epoch.
    pub(super) fn take_claim(&mut self, claimant: Id, epoch: u64, slots: &SlotSet) {
        if claimant == self.myself {
            return tracing::warn!("Discarding UPDATE message about myself.");
        }
        let mine = self.my_primary();
        let (mut claimed, mut taken_from_mine, mut lost) = (0, 0, Vec::new());
        for slot in 0..SLOTS {
            let owner = self.owner(slot);
            if !slots.contains(slot) {
                if owner == Some(claimant) {
                    self.unclaimed.insert(slot);
                }
                continue;
            }
            claimed += 1;
            if owner == Some(claimant) {
                self.unclaimed.remove(slot);
                continue;
            }
            // Whoever imports a slot closes it by hand.
            if self.importing.contains_key(&slot) {
                continue;
            }
            let is_won = match owner {
                Some(owner) => self.unclaimed.contains(slot) || self.node(owner).config_epoch < epoch,
                None => true,
            };
            if !is_won {
                continue;
            }
            if owner == Some(self.myself) {
                lost.push(slot);
            }
            if owner.is_some() && owner == mine {
                taken_from_mine += 1;
            }
            self.delete_slot(slot);
            self.add_slot(claimant, slot);
            self.todo.save = true;
            self.todo.sync = true;
            self.todo.update_state = true;
        }
        let is_left_empty = mine.is_some_and(|mine| self.node(mine).slots.is_empty());
        let may_follow = self.settings.allow_replica_migration || claimed == taken_from_mine;
        if taken_from_mine > 0 && is_left_empty && may_follow {
            tracing::warn!(
                "Configuration change detected. Reconfiguring myself as a replica of {}",
                self.node(claimant).name
            );
            self.follow_from_now_on(claimant);
        } else if let Some(grandparent) = self.grandparent() {
            tracing::warn!(
                "I'm a sub-replica! Reconfiguring myself as a replica of grandmaster {}",
                self.node(grandparent).name
            );
            self.follow_from_now_on(grandparent);
        } else {
            self.lost_keys.extend(lost);
        }
    }

    fn follow_from_now_on(&mut self, primary: Id) {
        self.follow(primary);
        self.todo.save = true;
        self.todo.sync = true;
        self.todo.update_state = true;
    }

    /// The primary of a primary that has become a replica.
    fn grandparent(&self) -> Option<Id> {
        let primary = self.me().primary?;
        self.node(primary).primary.filter(|grandparent| *grandparent != self.myself)
    }

    /// Looks whether the cluster can serve.
    pub(super) fn update_state(&mut self) {
        self.todo.update_state = false;
        let now_ms = self.now();
        let first_ms = *self.first_update_ms.get_or_insert(now_ms);
        self.size = self.nodes.values().filter(|node| node.counts()).count();
        let is_primary = self.me().is_primary();
        if is_primary && self.health == Health::Fail && now_ms - first_ms < WRITABLE_AFTER_MS {
            return;
        }
        let is_served = |owner: &Option<Id>| owner.is_some_and(|owner| !self.node(owner).is_failed());
        let is_covered = !self.settings.require_full_coverage || self.owners.iter().all(is_served);
        let is_reachable = |node: &&super::Node| !node.has(flag::FAILED | flag::SUSPECTED);
        let reachable = self.nodes.values().filter(|node| node.counts()).filter(is_reachable).count();
        let is_minority = reachable < self.quorum();
        if is_minority {
            self.minority_ms = now_ms;
        }
        let health = if is_covered && !is_minority { Health::Ok } else { Health::Fail };
        if health == self.health {
            return;
        }
        let rejoin_ms = self.settings.node_timeout_ms.clamp(REJOIN_MIN_MS, REJOIN_MAX_MS);
        if health == Health::Ok && is_primary && now_ms - self.minority_ms < rejoin_ms {
            return;
        }
        tracing::warn!("Cluster state changed: {}", if health == Health::Ok { "ok" } else { "fail" });
        self.health = health;
        self.todo.publish = true;
    }

    /// After the start: slots of which there are keys belong to somebody. Those that nobody has are ours; those that others have we
    /// are importing, so that an operator sees them.
    pub fn adopt(&mut self, with_keys: impl Iterator<Item = u16>) {
        if self.me().is_replica() {
            return;
        }
        for slot in with_keys {
            match self.owner(slot) {
                Some(owner) if owner == self.myself || self.importing.contains_key(&slot) => {}
                Some(owner) => {
                    tracing::warn!(
                        "I have keys for slot {slot}, but the slot is assigned to another node. Setting it to importing state."
                    );
                    self.importing.insert(slot, owner);
                    self.todo.save = true;
                    self.todo.sync = true;
                }
                None if self.importing.contains_key(&slot) => {}
                None => {
                    tracing::warn!("I have keys for unassigned slot {slot}. Taking responsibility for it.");
                    self.add_slot(self.myself, slot);
                    self.todo.save = true;
                    self.todo.sync = true;
                }
            }
        }
        self.todo.publish = true;
    }
}
