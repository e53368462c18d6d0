//! What operators change: the CLUSTER commands that are more than a question.

use super::node::{Id, Name, Node, SlotSet, flag};
use super::{Action, Machine, Manual};
use crate::cluster::message::Kind;
use crate::commands::error::CommandError;
use std::net::IpAddr;

/// A forgotten node does not come back for so long by what others say.
const BLACKLIST_MS: i64 = 60_000;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    Meet {
        ip: String,
        port: i64,
        bus_port: i64,
    },
    Forget(Vec<u8>),
    /// Ranges of slots, first and last.
    AddSlots(Vec<(u16, u16)>),
    DeleteSlots(Vec<(u16, u16)>),
    FlushSlots,
    Migrating {
        slot: u16,
        to: Vec<u8>,
    },
    Importing {
        slot: u16,
        from: Vec<u8>,
    },
    Stable {
        slot: u16,
    },
    Assign {
        slot: u16,
        to: Vec<u8>,
    },
    BumpEpoch,
    SetEpoch(i64),
    Replicate(Vec<u8>),
    Failover {
        is_forced: bool,
        takes_over: bool,
    },
    Reset {
        is_hard: bool,
    },
    Save,
}

/// Why a change was not made: the error's text.
pub type Refusal = CommandError;

type Outcome = Result<(), Refusal>;

fn refuse<T>(text: impl Into<String>) -> Result<T, Refusal> {
    Err(CommandError::new(format!("ERR {}", text.into())))
}

/// Counts the keys of a slot here, or all keys.
pub type CountKeys<'a> = &'a dyn Fn(Option<u16>) -> usize;

impl Machine {
    /// Makes a change; the status to answer.
    pub fn change(&mut self, change: &Change, count_keys: CountKeys<'_>) -> Result<String, Refusal> {
        match change {
            Change::Meet { ip, port, bus_port } => self.meet_address(ip, *port, *bus_port)?,
            Change::Forget(name) => self.forget(name)?,
            Change::AddSlots(ranges) => self.add_slots(ranges)?,
            Change::DeleteSlots(ranges) => self.delete_slots(ranges)?,
            Change::FlushSlots => self.flush_slots(count_keys)?,
            Change::Migrating { slot, to } => self.set_migrating(*slot, to)?,
            Change::Importing { slot, from } => self.set_importing(*slot, from)?,
            Change::Stable { slot } => {
                self.refuse_setslot_on_replica()?;
                self.importing.remove(slot);
                self.migrating.remove(slot);
                self.slots_changed();
            }
            Change::Assign { slot, to } => self.assign(*slot, to, count_keys)?,
            Change::BumpEpoch => {
                let is_new = self.bump_epoch();
                let word = if is_new { "BUMPED" } else { "STILL" };
                return Ok(format!("{word} {}", self.me().config_epoch));
            }
            Change::SetEpoch(epoch) => self.set_epoch(*epoch)?,
            Change::Replicate(name) => self.replicate(name, count_keys)?,
            Change::Failover { is_forced, takes_over } => self.fail_over(*is_forced, *takes_over)?,
            Change::Reset { is_hard } => self.reset(*is_hard, count_keys)?,
            Change::Save => {
                self.todo.save = true;
                self.todo.sync = true;
            }
        }
        Ok("OK".into())
    }

    pub fn find_text(&self, name: &[u8]) -> Option<Id> {
        Name::parse(name).and_then(|name| self.find(&name))
    }

    fn known(&self, name: &[u8], unknown: &str) -> Result<Id, Refusal> {
        match self.find_text(name) {
            Some(id) => Ok(id),
            None => refuse(format!("{unknown} {}", String::from_utf8_lossy(name))),
        }
    }

    fn slots_changed(&mut self) {
        self.todo.save = true;
        self.todo.update_state = true;
        self.todo.publish = true;
    }

    fn meet_address(&mut self, ip: &str, port: i64, bus_port: i64) -> Outcome {
        let ports = u16::try_from(port).ok().zip(u16::try_from(bus_port).ok());
        let place = ip.parse::<IpAddr>().ok().zip(ports.filter(|(port, bus_port)| *port > 0 && *bus_port > 0));
        let Some((address, (port, bus_port))) = place else {
            return refuse(format!("Invalid node address specified: {ip}:{port}"));
        };
        let ip = address.to_string();
        let is_same = |node: &Node| node.ip == ip && (node.port, node.bus_port) == (port, bus_port);
        if self.nodes.values().any(|node| node.has(flag::HANDSHAKE) && is_same(node)) {
            return Ok(());
        }
        let name = Name::random(&mut self.random);
        let mut node = Node::new(name, flag::HANDSHAKE | flag::MEET, self.now());
        (node.ip, node.port, node.bus_port) = (ip, port, bus_port);
        self.add_node(node);
        Ok(())
    }

    fn forget(&mut self, name: &[u8]) -> Outcome {
        let id = self.known(name, "Unknown node")?;
        if id == self.myself {
            return refuse("I tried hard but I can't forget myself...");
        }
        if self.me().is_replica() && self.me().primary == Some(id) {
            return refuse("Can't forget my master!");
        }
        let until_ms = self.now() + BLACKLIST_MS;
        self.blacklist.insert(self.node(id).name, until_ms);
        self.remove_node(id);
        self.slots_changed();
        Ok(())
    }

    /// The slots of ranges, if each is named once and is as it should be.
    fn check_slots(&self, ranges: &[(u16, u16)], must_be_served: bool) -> Result<Box<SlotSet>, Refusal> {
        let mut named = SlotSet::boxed();
        for slot in ranges.iter().flat_map(|(first, last)| *first..=*last) {
            match self.owner(slot) {
                None if must_be_served => return refuse(format!("Slot {slot} is already unassigned")),
                Some(_) if !must_be_served => return refuse(format!("Slot {slot} is already busy")),
                _ if named.contains(slot) => return refuse(format!("Slot {slot} specified multiple times")),
                _ => named.insert(slot),
            }
        }
        Ok(named)
    }

    fn add_slots(&mut self, ranges: &[(u16, u16)]) -> Outcome {
        for slot in self.check_slots(ranges, false)?.iter() {
            self.importing.remove(&slot);
            self.add_slot(self.myself, slot);
        }
        self.slots_changed();
        Ok(())
    }

    fn delete_slots(&mut self, ranges: &[(u16, u16)]) -> Outcome {
        for slot in self.check_slots(ranges, true)?.iter() {
            self.importing.remove(&slot);
            self.delete_slot(slot);
        }
        self.slots_changed();
        Ok(())
    }

    fn flush_slots(&mut self, count_keys: CountKeys<'_>) -> Outcome {
        if count_keys(None) != 0 {
            return refuse("DB must be empty to perform CLUSTER FLUSHSLOTS.");
        }
        self.delete_slots_of(self.myself);
        self.slots_changed();
        Ok(())
    }

    fn refuse_setslot_on_replica(&self) -> Outcome {
        if self.me().is_replica() { refuse("Please use SETSLOT only with masters.") } else { Ok(()) }
    }

    fn primary_named(&self, name: &[u8], unknown: &str) -> Result<Id, Refusal> {
        let id = self.known(name, unknown)?;
        if self.node(id).is_replica() { refuse("Target node is not a master") } else { Ok(id) }
    }

    fn set_migrating(&mut self, slot: u16, to: &[u8]) -> Outcome {
        self.refuse_setslot_on_replica()?;
        if self.owner(slot) != Some(self.myself) {
            return refuse(format!("I'm not the owner of hash slot {slot}"));
        }
        let id = self.primary_named(to, "I don't know about node")?;
        self.migrating.insert(slot, id);
        self.slots_changed();
        Ok(())
    }

    fn set_importing(&mut self, slot: u16, from: &[u8]) -> Outcome {
        self.refuse_setslot_on_replica()?;
        if self.owner(slot) == Some(self.myself) {
            return refuse(format!("I'm already the owner of hash slot {slot}"));
        }
        let id = self.primary_named(from, "I don't know about node")?;
        self.importing.insert(slot, id);
        self.slots_changed();
        Ok(())
    }

    fn assign(&mut self, slot: u16, to: &[u8], count_keys: CountKeys<'_>) -> Outcome {
        self.refuse_setslot_on_replica()?;
        let id = self.primary_named(to, "Unknown node")?;
        let was_mine = self.owner(slot) == Some(self.myself);
        let has_keys = count_keys(Some(slot)) != 0;
        if was_mine && id != self.myself && has_keys {
            return refuse(format!(
                "Can't assign hashslot {slot} to a different node while I still hold keys for this hash slot."
            ));
        }
        if !has_keys {
            self.migrating.remove(&slot);
        }
        self.delete_slot(slot);
        self.add_slot(id, slot);
        let is_left_empty = was_mine && id != self.myself && self.me().slots.is_empty();
        if is_left_empty && self.settings.allow_replica_migration {
            tracing::warn!(
                "Configuration change detected. Reconfiguring myself as a replica of {}",
                self.node(id).name
            );
            self.follow(id);
            self.todo.sync = true;
        }
        if id == self.myself && self.importing.remove(&slot).is_some() {
            if self.bump_epoch() {
                tracing::warn!("configEpoch updated after importing slot {slot}");
            }
            self.broadcast_pong(false);
        }
        self.slots_changed();
        Ok(())
    }

    /// A greater config epoch than everybody's, without asking; false if this node's is that already.
    fn bump_epoch(&mut self) -> bool {
        let mine = self.me().config_epoch;
        if mine != 0 && mine == self.max_epoch() {
            return false;
        }
        self.current_epoch += 1;
        let epoch = self.current_epoch;
        self.me_mut().config_epoch = epoch;
        self.todo.save = true;
        self.todo.sync = true;
        tracing::warn!("New configEpoch set to {epoch}");
        true
    }

    fn set_epoch(&mut self, epoch: i64) -> Outcome {
        let Ok(wanted) = u64::try_from(epoch) else {
            return refuse(format!("Invalid config epoch specified: {epoch}"));
        };
        if self.nodes.len() > 1 {
            return refuse("The user can assign a config epoch only when the node does not know any other node.");
        }
        if self.me().config_epoch != 0 {
            return refuse("Node config epoch is already non-zero");
        }
        self.me_mut().config_epoch = wanted;
        tracing::warn!("configEpoch set to {wanted} via CLUSTER SET-CONFIG-EPOCH");
        self.current_epoch = self.current_epoch.max(wanted);
        self.slots_changed();
        Ok(())
    }

    fn replicate(&mut self, name: &[u8], count_keys: CountKeys<'_>) -> Outcome {
        let id = self.known(name, "Unknown node")?;
        if id == self.myself {
            return refuse("Can't replicate myself");
        }
        if self.node(id).is_replica() {
            return refuse("I can only replicate a master, not a replica.");
        }
        if self.me().is_primary() && (!self.me().slots.is_empty() || count_keys(None) != 0) {
            return refuse("To set a master the node must be empty and without assigned slots.");
        }
        self.follow(id);
        self.slots_changed();
        Ok(())
    }

    fn fail_over(&mut self, is_forced: bool, takes_over: bool) -> Outcome {
        if self.me().is_primary() {
            return refuse("You should send CLUSTER FAILOVER to a replica");
        }
        let Some(primary) = self.me().primary else {
            return refuse("I'm a replica but my master is unknown to me");
        };
        let is_down = self.node(primary).is_failed() || self.node(primary).link.is_none();
        if !is_forced && is_down {
            return refuse("Master is down or failed, please use CLUSTER FAILOVER FORCE");
        }
        self.reset_manual_failover();
        self.manual = Manual { until_ms: self.now() + super::election::MANUAL_TIMEOUT_MS, ..Manual::default() };
        if takes_over {
            tracing::warn!("Taking over the master (user request).");
            self.bump_epoch();
            self.replace_primary();
        } else if is_forced {
            tracing::warn!("Forced failover user request accepted.");
            self.manual.may_start = true;
        } else {
            tracing::warn!("Manual failover user request accepted.");
            self.send_plain(primary, Kind::ManualFailoverStart);
        }
        Ok(())
    }

    fn reset(&mut self, is_hard: bool, count_keys: CountKeys<'_>) -> Outcome {
        if self.me().is_primary() && count_keys(None) != 0 {
            return refuse("CLUSTER RESET can't be called with master nodes containing keys");
        }
        if self.me().is_replica() {
            self.become_primary(self.myself);
            self.actions.push(Action::Promote);
            self.actions.push(Action::Flush);
        }
        self.migrating.clear();
        self.importing.clear();
        self.reset_manual_failover();
        let others: Vec<Id> = self.nodes.keys().copied().filter(|id| *id != self.myself).collect();
        let all: Vec<Id> = self.nodes.keys().copied().collect();
        all.into_iter().for_each(|id| self.delete_slots_of(id));
        others.into_iter().for_each(|id| self.remove_node(id));
        if is_hard {
            self.current_epoch = 0;
            self.last_vote_epoch = 0;
            self.me_mut().config_epoch = 0;
            tracing::warn!("configEpoch set to 0 via CLUSTER RESET HARD");
            let name = Name::random(&mut self.random);
            self.rename(self.myself, name);
            tracing::info!("Node hard reset, now I'm {name}");
        }
        self.todo.sync = true;
        self.slots_changed();
        Ok(())
    }
}
