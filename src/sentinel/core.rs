//! The machine: everything that a sentinel knows, changed by messages and by the passing of time, and the actions that follow.
//!
//! ```text
//!   tick(now) ──────────────┐                        ┌─► Connect, Send, Close
//!   connected, closed ──────┤                        ├─► Event (log, channel), Log
//!   replied(conn, reply) ───┼─► Core ─► Vec<Action> ─┼─► Persist       always before what others may learn of it
//!   SENTINEL … ─────────────┤                        ├─► RunScript, KillScript
//!   script_ended ───────────┘                        └─► Crash
//! ```
//! No clock, socket, file or dice in here: time, seed and names are handed in, so that the simulation plays whole nights in a
//! second and plays them again from a seed.

use super::action::{Action, Level};
use super::address::{Address, Fault, Names, numeric};
use super::instance::{ConnId, Id, Instance, Kind, Link, LinkId, Other, Primary, Reconf, Replica, Stage, Way};
use super::periods::Periods;
use super::scripts::Scripts;
use crate::base::random::Random;
use std::collections::BTreeMap;

/// Settings of the sentinel itself, which SENTINEL CONFIG shows.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    pub announce_ip: Option<String>,
    pub announce_port: u16,
    pub resolve_hostnames: bool,
    pub announce_hostnames: bool,
    pub auth_user: Option<Vec<u8>>,
    pub auth_pass: Option<Vec<u8>>,
    /// SENTINEL SET may name scripts.
    pub allow_script_changes: bool,
    /// requirepass: what other sentinels are told where no sentinel-pass is set.
    pub own_password: Option<Vec<u8>>,
    /// The port that others reach us by.
    pub port: u16,
}

/// Whom to imitate a crash.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Simulated {
    pub crash_after_election: bool,
    pub crash_after_promotion: bool,
}

pub struct Core {
    pub my_id: String,
    pub epoch: u64,
    pub settings: Settings,
    pub periods: Periods,
    pub simulated: Simulated,
    pub now_ms: i64,
    pub tilt: bool,
    pub tilt_since_ms: i64,
    pub scripts: Scripts,
    /// Primaries by name.
    pub names: BTreeMap<String, Id>,
    pub instances: BTreeMap<Id, Instance>,
    pub primaries: BTreeMap<Id, Primary>,
    pub replicas: BTreeMap<Id, Replica>,
    pub others: BTreeMap<Id, Other>,
    pub links: BTreeMap<LinkId, Link>,
    pub conns: BTreeMap<ConnId, (LinkId, Way)>,
    pub(super) random: Random,
    resolver: Box<dyn Names>,
    previous_tick_ms: i64,
    next_number: u64,
    actions: Vec<Action>,
}

impl Core {
    pub fn new(now_ms: i64, seed: u64, resolver: Box<dyn Names>) -> Self {
        Core {
            my_id: String::new(),
            epoch: 0,
            settings: Settings::default(),
            periods: Periods::default(),
            simulated: Simulated::default(),
            now_ms,
            tilt: false,
            tilt_since_ms: 0,
            scripts: Scripts::default(),
            names: BTreeMap::new(),
            instances: BTreeMap::new(),
            primaries: BTreeMap::new(),
            replicas: BTreeMap::new(),
            others: BTreeMap::new(),
            links: BTreeMap::new(),
            conns: BTreeMap::new(),
            random: Random::seeded(seed),
            resolver,
            previous_tick_ms: now_ms,
            next_number: 0,
            actions: Vec::new(),
        }
    }

    /// What is to be done now, in order.
    pub fn take_actions(&mut self) -> Vec<Action> {
        std::mem::take(&mut self.actions)
    }

    pub(super) fn act(&mut self, action: Action) {
        self.actions.push(action);
    }

    pub(super) fn next_number(&mut self) -> u64 {
        self.next_number += 1;
        self.next_number
    }

    /// The start, when the file has been read: a sentinel without an id gets one, for good.
    pub fn begin(&mut self, now_ms: i64, new_id: impl FnOnce() -> String) {
        self.now_ms = now_ms;
        self.previous_tick_ms = now_ms;
        if self.my_id.is_empty() {
            self.my_id = new_id();
            self.act(Action::Persist);
        }
        self.log(Level::Warning, format!("Sentinel ID is {}", self.my_id));
        self.primary_ids().into_iter().for_each(|id| self.tell_monitored(id));
    }

    /// The timer, some ten to twenty times a second.
    pub fn tick(&mut self, now_ms: i64) {
        self.now_ms = now_ms;
        self.check_clock();
        for primary in self.primary_ids() {
            self.handle(primary);
            for id in self.family(primary) {
                self.handle(id);
            }
            if self.primary(primary).failover.stage == Stage::UpdateConfig {
                self.switch_to_promoted(primary);
            }
        }
        self.run_scripts();
    }

    /// TILT: time went backwards, or the process stood still, so what looks like silence of others may be our own. Until things
    /// have been in order for a while this sentinel watches, but neither acts nor calls anybody down.
    fn check_clock(&mut self) {
        let delta = self.now_ms - self.previous_tick_ms;
        if delta < 0 || delta > self.periods.tilt_trigger {
            self.tilt = true;
            self.tilt_since_ms = self.now_ms;
            self.event(Level::Warning, "+tilt", "#tilt mode entered".into());
        }
        self.previous_tick_ms = self.now_ms;
    }

    fn handle(&mut self, id: Id) {
        self.reconnect(id);
        self.send_periodic(id);
        if self.tilt {
            if self.now_ms - self.tilt_since_ms < self.periods.tilt {
                return;
            }
            self.tilt = false;
            self.event(Level::Warning, "-tilt", "#tilt mode exited".into());
        }
        self.check_subjectively_down(id);
        if self.it(id).kind == Kind::Primary {
            self.check_objectively_down(id);
            if self.start_failover_if_needed(id) {
                self.ask_others(id, true);
            }
            self.drive_failover(id);
            self.ask_others(id, false);
        }
    }

    // ---- looking up -----------------------------------------------------------------------------------------------

    pub fn primary_ids(&self) -> Vec<Id> {
        self.names.values().copied().collect()
    }

    /// Replicas and sentinels of a primary.
    pub(super) fn family(&self, primary: Id) -> Vec<Id> {
        let primary = self.primary(primary);
        primary.replicas.values().chain(primary.sentinels.values()).copied().collect()
    }

    pub fn replica_ids(&self, primary: Id) -> Vec<Id> {
        self.primary(primary).replicas.values().copied().collect()
    }

    pub fn sentinel_ids(&self, primary: Id) -> Vec<Id> {
        self.primary(primary).sentinels.values().copied().collect()
    }

    pub fn it(&self, id: Id) -> &Instance {
        &self.instances[&id]
    }

    pub(super) fn it_mut(&mut self, id: Id) -> &mut Instance {
        self.instances.get_mut(&id).expect("an id of a living instance")
    }

    pub fn primary(&self, id: Id) -> &Primary {
        &self.primaries[&id]
    }

    pub(super) fn primary_mut(&mut self, id: Id) -> &mut Primary {
        self.primaries.get_mut(&id).expect("the id of a primary")
    }

    pub fn replica(&self, id: Id) -> &Replica {
        &self.replicas[&id]
    }

    pub(super) fn replica_mut(&mut self, id: Id) -> &mut Replica {
        self.replicas.get_mut(&id).expect("the id of a replica")
    }

    pub fn other(&self, id: Id) -> &Other {
        &self.others[&id]
    }

    pub(super) fn other_mut(&mut self, id: Id) -> &mut Other {
        self.others.get_mut(&id).expect("the id of a sentinel")
    }

    pub fn link(&self, id: Id) -> &Link {
        &self.links[&self.it(id).link]
    }

    pub(super) fn link_mut(&mut self, id: Id) -> &mut Link {
        let link = self.it(id).link;
        self.links.get_mut(&link).expect("an instance has a link")
    }

    /// The primary of an instance, or itself.
    pub fn primary_of(&self, id: Id) -> Id {
        self.it(id).primary.unwrap_or(id)
    }

    // ---- addresses ------------------------------------------------------------------------------------------------

    pub(super) fn resolve(&self, host: &str) -> Option<String> {
        numeric(host).or_else(|| self.settings.resolve_hostnames.then(|| self.resolver.resolve(host)).flatten())
    }

    /// An address as it was told. A name that nobody knows yet is good enough for some.
    pub(super) fn address(&mut self, host: &str, port: i64, may_be_unknown: bool) -> Result<Address, Fault> {
        let port = u16::try_from(port).map_err(|_| Fault::BadPort)?;
        let ip = match self.resolve(host) {
            Some(ip) => ip,
            None => {
                self.log(Level::Warning, format!("Failed to resolve hostname '{host}'"));
                if !(self.settings.resolve_hostnames && may_be_unknown) {
                    return Err(Fault::Unresolved);
                }
                String::new()
            }
        };
        Ok(Address { host: host.to_owned(), ip, port })
    }

    /// Whether an instance's address is meant by a name that another one told.
    pub(super) fn is_at(&self, address: &Address, host: &str) -> bool {
        match self.resolve(host) {
            Some(ip) => address.ip.eq_ignore_ascii_case(&ip),
            None if self.settings.resolve_hostnames => address.host.eq_ignore_ascii_case(host),
            None => address.ip.eq_ignore_ascii_case(host),
        }
    }

    /// How others are told of an address.
    pub fn shown<'a>(&self, address: &'a Address) -> &'a str {
        if self.settings.announce_hostnames { &address.host } else { &address.ip }
    }

    /// The address that clients shall use: that of the promoted replica as soon as it is a primary.
    pub fn current_address(&self, primary: Id) -> &Address {
        let failover = &self.primary(primary).failover;
        match failover.promoted {
            Some(promoted) if failover.in_progress && failover.stage >= Stage::ReconfigureReplicas => {
                &self.it(promoted).addr
            }
            _ => &self.it(primary).addr,
        }
    }

    pub(super) fn spread_down_after(&mut self, primary: Id) {
        let down_after_ms = self.it(primary).down_after_ms;
        self.family(primary).into_iter().for_each(|id| self.it_mut(id).down_after_ms = down_after_ms);
    }

    /// No SDOWN or ODOWN in the last milliseconds.
    pub(super) fn was_never_down_for(&self, id: Id, ms: i64) -> bool {
        let o_down_since_ms = self.primaries.get(&id).map_or(0, |primary| primary.o_down_since_ms);
        let latest = self.it(id).s_down_since_ms.max(o_down_since_ms);
        latest == 0 || self.now_ms - latest > ms
    }

    /// The replica is on its way to the new primary.
    pub(super) fn is_reconfiguring(&self, replica: Id) -> bool {
        matches!(self.replica(replica).reconf, Reconf::Sent | Reconf::InProgress)
    }

    // ---- telling --------------------------------------------------------------------------------------------------

    pub(super) fn log(&mut self, level: Level, text: String) {
        self.act(Action::Log { level, text });
    }

    /// An event that concerns no instance.
    pub(super) fn event(&mut self, level: Level, channel: &'static str, message: String) {
        self.act(Action::Event { level, channel, message });
    }

    /// An event about an instance, which it names: `slave NAME IP PORT @ PRIMARY IP PORT`, and what comes behind.
    pub(super) fn event_of(&mut self, level: Level, channel: &'static str, id: Id, more: &str) {
        let message = self.describe(id) + more;
        self.event_about(level, channel, id, message);
    }

    /// An event about an instance in words of its own. What is worth a warning is worth a notification.
    pub(super) fn event_about(&mut self, level: Level, channel: &'static str, id: Id, message: String) {
        self.event(level, channel, message.clone());
        if level == Level::Warning
            && let Some(script) = self.primary(self.primary_of(id)).notification_script.clone()
        {
            self.schedule_script(vec![script, channel.into(), message.into()]);
        }
    }

    fn describe(&self, id: Id) -> String {
        let place = |id: Id| {
            let instance = self.it(id);
            format!("{} {} {}", instance.name, self.shown(&instance.addr), instance.addr.port)
        };
        let instance = self.it(id);
        let text = format!("{} {}", instance.kind.wire_name(), place(id));
        instance.primary.map_or(text.clone(), |primary| format!("{text} @ {}", place(primary)))
    }

    pub(super) fn tell_monitored(&mut self, id: Id) {
        let quorum = self.primary(id).quorum;
        self.event_of(Level::Warning, "+monitor", id, &format!(" quorum {quorum}"));
    }
}
