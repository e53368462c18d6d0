//! A whole cluster in one test: machines under a virtual clock and network, everything drawn from one seed. Nodes crash and come back from
//! what they had saved, links are slow, the network falls apart and heals.
//!
//! Held at every step: epochs never go back; a node votes at most once per epoch; no two nodes claim a slot with the same epoch
//! for longer than it takes to notice. Held at the end, with everybody back: all agree.

use super::node::{LinkId, Name};
use super::{Action, Change, Health, Machine, Settings, Surroundings};
use crate::base::crc16::SLOTS;
use crate::base::random::Random;
use crate::cluster::message::{self, Kind};
use crate::cluster::nodes_file;
use bytes::Bytes;
use std::collections::{BTreeMap, HashMap, HashSet};

const TIMEOUT_MS: i64 = 1000;
const TICK_MS: i64 = 100;

/// Something that happens at a moment.
enum Event {
    Tick(usize),
    Connect { from: usize, link: LinkId, to: Option<usize> },
    Arrive { to: usize, link: LinkId, life: u64, bytes: Bytes },
    Closed { at: usize, link: LinkId, life: u64 },
}

struct Host {
    machine: Option<Machine>,
    /// What it has saved, and synced.
    disk: String,
    /// Counts its starts: nothing sent to an earlier life arrives.
    life: u64,
    /// Where the other end of its links is.
    ends: HashMap<LinkId, (usize, LinkId, u64)>,
    offset: u64,
    heard_ms: i64,
    highest_epoch: u64,
}

struct World {
    now_ms: i64,
    random: Random,
    hosts: Vec<Host>,
    events: BTreeMap<(i64, u64), Event>,
    order: u64,
    /// Hosts of different sides do not hear each other.
    sides: Vec<u8>,
    votes: HashSet<(usize, u64)>,
    promotions: usize,
}

fn settings(index: usize) -> Settings {
    Settings {
        node_timeout_ms: TIMEOUT_MS,
        validity_factor: 0,
        repl_ping_period_ms: 1000,
        migration_barrier: 1,
        allow_replica_migration: true,
        require_full_coverage: true,
        no_failover: false,
        ip: None,
        port: 7000 + index as u16,
        plain_port: 0,
        bus_port: 17000 + index as u16,
        hostname: String::new(),
    }
}

impl World {
    fn new(seed: u64, count: usize) -> Self {
        let mut world = World {
            now_ms: 1_000_000,
            random: Random::seeded(seed),
            hosts: Vec::new(),
            events: BTreeMap::new(),
            order: 0,
            sides: vec![0; count],
            votes: HashSet::new(),
            promotions: 0,
        };
        for index in 0..count {
            let random = Random::seeded(world.random.next_u64());
            let around = Surroundings { now_ms: world.now_ms, ..Surroundings::default() };
            let machine = Machine::new(settings(index), around, random);
            world.hosts.push(Host {
                disk: nodes_file::text(&machine),
                machine: Some(machine),
                life: 0,
                ends: HashMap::new(),
                offset: 1,
                heard_ms: 0,
                highest_epoch: 0,
            });
            world.at(index as i64, Event::Tick(index));
        }
        world
    }

    fn at(&mut self, delay_ms: i64, event: Event) {
        self.order += 1;
        self.events.insert((self.now_ms + delay_ms, self.order), event);
    }

    fn delay(&mut self) -> i64 {
        // Mostly fast, now and then slow.
        let slow = self.random.below(50) == 0;
        1 + self.random.below(if slow { 300 } else { 5 }) as i64
    }

    fn hears(&self, a: usize, b: usize) -> bool {
        self.sides[a] == self.sides[b] && self.hosts[b].machine.is_some()
    }

    fn input<T>(&mut self, index: usize, input: impl FnOnce(&mut Machine) -> T) -> Option<T> {
        let around = Surroundings {
            now_ms: self.now_ms,
            offset: self.hosts[index].offset,
            data_age_ms: self.now_ms - self.hosts[index].heard_ms,
            follows: true,
        };
        let host = &mut self.hosts[index];
        let machine = host.machine.as_mut()?;
        machine.begin(around);
        let result = input(machine);
        let actions = machine.finish();
        assert!(machine.current_epoch >= host.highest_epoch, "the epoch of host {index} went back");
        host.highest_epoch = machine.current_epoch;
        self.perform(index, actions);
        Some(result)
    }

    fn perform(&mut self, index: usize, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::Save { .. } => {
                    if let Some(machine) = &self.hosts[index].machine {
                        self.hosts[index].disk = nodes_file::text(machine);
                    }
                }
                Action::Connect { link, port, .. } => {
                    let to = usize::from(port).checked_sub(17000).filter(|to| *to < self.hosts.len());
                    let delay_ms = self.delay();
                    self.at(delay_ms, Event::Connect { from: index, link, to });
                }
                Action::Close(link) => self.hang_up(index, link),
                Action::Send { link, bytes } => self.send(index, link, bytes),
                Action::Promote => self.promotions += 1,
                Action::Pause { .. } => {
                    self.input(index, Machine::paused);
                }
                Action::Follow { .. }
                | Action::Flush
                | Action::Publish
                | Action::DropKeys(_)
                | Action::DropChannels(_)
                | Action::Unpause
                | Action::Deliver { .. } => {}
            }
        }
    }

    fn send(&mut self, from: usize, link: LinkId, bytes: Bytes) {
        if message::kind_number(&bytes) == Kind::AuthAck as usize {
            let epoch = self.hosts[from].machine.as_ref().map_or(0, Machine::last_vote_epoch);
            assert!(self.votes.insert((from, epoch)), "host {from} has voted twice in epoch {epoch}");
            let saved = format!("lastVoteEpoch {epoch}\n");
            assert!(self.hosts[from].disk.ends_with(&saved), "the vote went out before it was on disk");
        }
        if let Some((to, end, life)) = self.hosts[from].ends.get(&link).copied() {
            let delay_ms = self.delay();
            self.at(delay_ms, Event::Arrive { to, link: end, life, bytes });
        }
    }

    fn hang_up(&mut self, index: usize, link: LinkId) {
        if let Some((to, end, life)) = self.hosts[index].ends.remove(&link) {
            let delay_ms = self.delay();
            self.at(delay_ms, Event::Closed { at: to, link: end, life });
        }
    }

    fn step(&mut self) {
        let Some(((at_ms, _), event)) = self.events.pop_first() else { return };
        self.now_ms = at_ms;
        match event {
            Event::Tick(index) => {
                self.input(index, Machine::tick);
                self.at(TICK_MS, Event::Tick(index));
            }
            Event::Connect { from, link, to } => {
                let reached = to.filter(|to| self.hears(from, *to) && self.hosts[from].machine.is_some());
                let Some(to) = reached else {
                    self.input(from, |machine| machine.closed(link));
                    return;
                };
                let ip = || "127.0.0.1".to_owned();
                let Some(end) = self.input(to, |machine| machine.accepted(ip(), ip())) else { return };
                let (from_life, to_life) = (self.hosts[from].life, self.hosts[to].life);
                self.hosts[from].ends.insert(link, (to, end, to_life));
                self.hosts[to].ends.insert(end, (from, link, from_life));
                self.input(from, |machine| machine.connected(link));
            }
            Event::Arrive { to, link, life, bytes } => {
                let from = self.hosts[to].ends.get(&link).map(|(from, _, _)| *from);
                // A message to the other side of a partition is lost; so is one to somebody who is gone.
                if let Some(from) = from
                    && self.hosts[to].life == life
                    && self.hears(from, to)
                {
                    self.input(to, |machine| machine.receive(link, &bytes));
                }
            }
            Event::Closed { at, link, life } => {
                if self.hosts[at].life == life {
                    self.hosts[at].ends.remove(&link);
                    self.input(at, |machine| machine.closed(link));
                }
            }
        }
    }

    fn run(&mut self, ms: i64) {
        let until_ms = self.now_ms + ms;
        while self.events.first_key_value().is_some_and(|((at_ms, _), _)| *at_ms <= until_ms) {
            self.step();
        }
        self.now_ms = until_ms;
    }

    fn run_until(&mut self, what: &str, mut condition: impl FnMut(&World) -> bool) {
        for _ in 0..1200 {
            if condition(self) {
                return;
            }
            self.run(100);
        }
        panic!("two minutes did not suffice until {what}:\n{}", self.describe());
    }

    fn describe(&self) -> String {
        let texts = self.hosts.iter().map(|host| host.machine.as_ref().map(nodes_file::text).unwrap_or_default());
        texts.collect::<Vec<_>>().join("\n")
    }

    fn crash(&mut self, index: usize) {
        self.hosts[index].machine = None;
        self.hosts[index].life += 1;
        for (_, (to, end, life)) in std::mem::take(&mut self.hosts[index].ends) {
            self.at(1, Event::Closed { at: to, link: end, life });
        }
    }

    fn restart(&mut self, index: usize) {
        if self.hosts[index].machine.is_some() {
            return;
        }
        let around = Surroundings { now_ms: self.now_ms, ..Surroundings::default() };
        let random = Random::seeded(self.random.next_u64());
        let machine = nodes_file::parse(&self.hosts[index].disk, settings(index), around, random);
        let machine = machine.expect("its own file");
        // What was saved may be behind what it knew; but never behind what it has promised.
        self.hosts[index].highest_epoch = machine.current_epoch;
        self.hosts[index].machine = Some(machine);
    }

    fn alive(&self) -> impl Iterator<Item = &Machine> {
        self.hosts.iter().filter_map(|host| host.machine.as_ref())
    }

    fn change(&mut self, index: usize, change: &Change) {
        let done = self.input(index, |machine| machine.change(change, &|_| 0));
        done.expect("it lives").unwrap_or_else(|error| panic!("{change:?}: {}", error.text()));
    }

    fn name(&self, index: usize) -> Name {
        self.hosts[index].machine.as_ref().expect("it lives").me().name
    }

    /// Primaries first, each with as many slots as the next; then the replicas, dealt out.
    fn form(&mut self, primaries: usize) {
        let each = SLOTS / primaries as u16;
        for index in 0..primaries {
            let first = index as u16 * each;
            let last = if index + 1 == primaries { SLOTS - 1 } else { first + each - 1 };
            self.change(index, &Change::AddSlots(vec![(first, last)]));
            self.change(index, &Change::SetEpoch(index as i64 + 1));
        }
        for index in 1..self.hosts.len() {
            let (port, bus_port) = (7000 + index as i64, 17000 + index as i64);
            self.change(0, &Change::Meet { ip: "127.0.0.1".into(), port, bus_port });
        }
        let count = self.hosts.len();
        self.run_until("all have met", |world| world.alive().all(|machine| knows(machine, count)));
        for index in primaries..count {
            let name = self.name(index % primaries).to_string().into_bytes();
            self.change(index, &Change::Replicate(name));
        }
        self.run_until("the cluster is formed", World::is_in_order);
    }

    /// Who serves each slot, as a machine sees it.
    fn view(machine: &Machine) -> Vec<Option<Name>> {
        (0..SLOTS).map(|slot| machine.owner(slot).map(|owner| machine.node(owner).name)).collect()
    }

    /// Everybody is well and agrees with everybody about everything.
    fn is_in_order(&self) -> bool {
        if self.alive().any(|machine| machine.health == Health::Fail) {
            return false;
        }
        let views: Vec<_> = self.alive().map(World::view).collect();
        let epochs: HashSet<u64> = self.alive().map(|machine| machine.current_epoch).collect();
        let first = &views[0];
        let claims = self.alive().filter(|machine| !machine.me().slots.is_empty());
        let config_epochs: Vec<u64> = claims.map(|machine| machine.me().config_epoch).collect();
        let is_unique = config_epochs.iter().collect::<HashSet<_>>().len() == config_epochs.len();
        let owns_what_it_claims = |machine: &Machine| {
            let name = Some(machine.me().name);
            (0..SLOTS).all(|slot| machine.me().slots.contains(slot) == (first[usize::from(slot)] == name))
        };
        epochs.len() == 1
            && is_unique
            && views.iter().all(|view| view == first)
            && first.iter().all(Option::is_some)
            && self.alive().all(owns_what_it_claims)
    }

    /// No two nodes may claim a slot with one epoch.
    fn check_claims(&self) {
        let mut claims: HashMap<(u16, u64), Name> = HashMap::new();
        for machine in self.alive().filter(|machine| machine.me().is_primary()) {
            for (first, _) in machine.me().slots.ranges() {
                let old = claims.insert((first, machine.me().config_epoch), machine.me().name);
                assert!(old.is_none(), "slot {first} has two owners in one epoch:\n{}", self.describe());
            }
        }
    }
}

fn knows(machine: &Machine, count: usize) -> bool {
    let known = machine.nodes().filter(|(_, node)| !node.has(super::node::flag::HANDSHAKE));
    known.count() == count && machine.nodes().all(|(id, node)| id == machine.myself || node.link.is_some())
}

fn storm(seed: u64) {
    let mut world = World::new(seed, 9);
    world.form(3);
    for _ in 0..12 {
        match world.random.below(4) {
            0 => {
                let victim = world.random.below(9) as usize;
                world.crash(victim);
            }
            1 => (0..9).for_each(|index| world.restart(index)),
            2 => {
                for index in 0..9 {
                    world.sides[index] = world.random.below(3) as u8 / 2;
                }
            }
            _ => world.sides.fill(0),
        }
        for index in 0..9 {
            world.hosts[index].offset += world.random.below(3);
        }
        let ms = 200 + world.random.below(8000) as i64;
        world.run(ms);
        world.check_claims();
    }
    world.sides.fill(0);
    (0..9).for_each(|index| world.restart(index));
    world.run_until("all agree again", World::is_in_order);
    world.check_claims();
}

#[test]
fn whatever_happens_all_agree_in_the_end() {
    for seed in 0..3 {
        storm(seed);
    }
}

#[test]
fn a_replica_takes_the_place_of_a_dead_primary() {
    let mut world = World::new(1, 6);
    world.form(3);
    let (dead, heir) = (world.name(0), world.name(3));
    world.hosts[3].heard_ms = world.now_ms;
    world.crash(0);
    world.run_until("the replica serves", |world| {
        world.is_in_order() && world.alive().all(|machine| World::view(machine)[0] == Some(heir))
    });
    assert_eq!(world.promotions, 1);
    world.restart(0);
    world.run_until("the old primary follows", |world| {
        let machine = world.hosts[0].machine.as_ref().expect("it lives");
        machine.me().is_replica() && machine.me().primary.is_some_and(|id| machine.node(id).name == heir)
    });
    assert_eq!(world.name(0), dead);
}

#[test]
fn a_minority_serves_nobody_and_comes_back_as_replicas() {
    let mut world = World::new(2, 6);
    world.form(3);
    // One primary alone.
    world.sides[0] = 1;
    world.run_until("the lone primary stops", |world| {
        world.hosts[0].machine.as_ref().is_some_and(|machine| machine.health == Health::Fail)
    });
    let heir = world.name(3);
    world.run_until("the others go on", |world| {
        let machine = world.hosts[1].machine.as_ref().expect("it lives");
        machine.health == Health::Ok && World::view(machine)[0] == Some(heir)
    });
    world.sides[0] = 0;
    world.run_until("all agree", World::is_in_order);
    assert!(world.hosts[0].machine.as_ref().is_some_and(|machine| machine.me().is_replica()));
}

#[test]
fn a_manual_failover_changes_places() {
    let mut world = World::new(3, 6);
    world.form(3);
    let heir = world.name(4);
    world.change(4, &Change::Failover { is_forced: false, takes_over: false });
    world.run_until("the replica serves", |world| {
        world.is_in_order() && world.alive().all(|machine| World::view(machine).contains(&Some(heir)))
    });
    assert!(world.hosts[1].machine.as_ref().is_some_and(|machine| machine.me().is_replica()));
}

#[test]
fn a_takeover_needs_nobody_and_colliding_epochs_part() {
    let mut world = World::new(4, 6);
    world.form(3);
    // Everybody for himself: both take over, with whatever epoch they come upon.
    world.sides = vec![0, 0, 0, 1, 2, 0];
    world.run(50);
    world.change(3, &Change::Failover { is_forced: true, takes_over: true });
    world.change(4, &Change::Failover { is_forced: true, takes_over: true });
    let epoch =
        |world: &World, index: usize| world.hosts[index].machine.as_ref().map(|machine| machine.me().config_epoch);
    world.sides.fill(0);
    world.run_until("all agree", World::is_in_order);
    assert_ne!(epoch(&world, 3), epoch(&world, 4));
    for index in [3, 4] {
        assert!(world.hosts[index].machine.as_ref().is_some_and(|machine| machine.me().is_primary()));
    }
}

#[test]
fn a_replica_moves_to_a_primary_without_any() {
    let mut world = World::new(5, 7);
    // Host 6 is a second replica of host 0.
    world.form(3);
    world.crash(4);
    world.run_until("a replica has moved", |world| {
        let machine = world.hosts[1].machine.as_ref().expect("it lives");
        machine.working_replicas(machine.myself) == 1
    });
}

#[test]
fn a_forgotten_node_stays_away_for_a_while() {
    let mut world = World::new(6, 4);
    world.form(3);
    let gone = world.name(3);
    world.crash(3);
    for index in 0..3 {
        world.change(index, &Change::Forget(gone.to_string().into_bytes()));
    }
    world.run(10_000);
    assert!(world.alive().all(|machine| machine.find(&gone).is_none()));
}
