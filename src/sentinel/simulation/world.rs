//! A small world: data servers and sentinels on a network that delays, cuts and loses, under a clock that jumps from event to event.
//!
//! ```text
//!   node n: 10.0.0.(n+1); servers first, then sentinels           one seed decides everything
//!   sentinel ── wire ──► node      both ways in order, each message late by its own dice
//!                 └── a message that meets a partition is lost, and so is the wire, silently: TCP without its patience
//! ```

use super::data::DataServer;
use crate::base::random::Random;
use crate::sentinel::action::Action;
use crate::sentinel::address::Names;
use crate::sentinel::core::Core;
use crate::sentinel::instance::ConnId;
use crate::sentinel::watch::PeerReply;
use std::collections::{BTreeMap, BTreeSet, HashMap};

pub const NAME: &str = "mymaster";
pub(super) const DATA_PORT: u16 = 6379;
pub(super) const SENTINEL_PORT: u16 = 26379;
const START_MS: i64 = 1_700_000_000_000;
pub const DOWN_AFTER_MS: i64 = 1000;
pub const FAILOVER_TIMEOUT_MS: i64 = 6000;

pub(super) struct Watcher {
    pub(super) core: Option<Core>,
    pub(super) file: Vec<Vec<u8>>,
    /// How far its clock is wrong.
    pub(super) skew_ms: i64,
    /// It stands still until then (SIGSTOP, a host that swaps).
    pub(super) paused_until_ms: i64,
    /// It crashes in the middle of the next things it does, behind so many of them.
    pub(super) dies_after: Option<usize>,
}

pub(super) struct Wire {
    pub(super) from: usize,
    pub(super) conn: ConnId,
    pub(super) to: usize,
    is_subscribed: bool,
    transaction: Option<Vec<Vec<String>>>,
    /// Messages do not overtake each other.
    last_there_ms: i64,
    last_back_ms: i64,
}

pub(super) enum What {
    Tick { node: usize, life: u64 },
    Replicate,
    Established { wire: u64 },
    Refused { wire: u64 },
    Arrives { wire: u64, words: Vec<String> },
    Answers { wire: u64, reply: PeerReply },
}

/// What has ever been said, and must not be contradicted.
#[derive(Default)]
pub struct Records {
    /// Who won an epoch.
    pub leaders: BTreeMap<u64, String>,
    /// Who was promoted in an epoch.
    pub promoted: BTreeMap<u64, String>,
    /// (voter, epoch): for whom.
    votes: BTreeMap<(String, u64), String>,
    /// The highest epoch that a sentinel has told anybody.
    told: BTreeMap<usize, u64>,
    pub failovers: usize,
    pub tilts: usize,
}

pub struct World {
    pub now_ms: i64,
    pub dice: Random,
    pub servers: Vec<DataServer>,
    watchers: Vec<Watcher>,
    pub(super) up: Vec<bool>,
    pub(super) lives: Vec<u64>,
    /// Pairs that cannot reach each other, the smaller first.
    pub cut: BTreeSet<(usize, usize)>,
    pub delay_max_ms: u64,
    pub(super) wires: BTreeMap<u64, Wire>,
    by_conn: HashMap<(usize, ConnId), u64>,
    next: u64,
    events: BTreeMap<(i64, u64), What>,
    pub records: Records,
    pub log: Vec<String>,
}

pub(super) struct NoNames;

impl Names for NoNames {
    fn resolve(&self, _: &str) -> Option<String> {
        None
    }
}

fn status(text: &str) -> PeerReply {
    PeerReply::Status(text.into())
}

fn bulk(text: &str) -> PeerReply {
    PeerReply::Bulk(text.into())
}

impl World {
    /// A primary with its replicas, watched by sentinels that know nothing but the primary.
    pub fn new(seed: u64, servers: usize, sentinels: usize) -> Self {
        let mut world = World {
            now_ms: START_MS,
            dice: Random::seeded(seed),
            servers: Vec::new(),
            watchers: Vec::new(),
            up: vec![true; servers + sentinels],
            lives: vec![0; servers + sentinels],
            cut: BTreeSet::new(),
            delay_max_ms: 5,
            wires: BTreeMap::new(),
            by_conn: HashMap::new(),
            next: 0,
            events: BTreeMap::new(),
            records: Records::default(),
            log: Vec::new(),
        };
        for node in 0..servers {
            let run = world.dice.next_u64();
            let follows = (node > 0).then(|| ip(0));
            world.servers.push(DataServer {
                run,
                follows,
                link_up: false,
                link_down_since_ms: START_MS,
                offset: 0,
                priority: 100,
            });
        }
        let quorum = sentinels / 2 + 1;
        for node in servers..servers + sentinels {
            let lines = [
                format!("myid {:040x}", node),
                format!("monitor {NAME} {} {DATA_PORT} {quorum}", ip(0)),
                format!("down-after-milliseconds {NAME} {DOWN_AFTER_MS}"),
                format!("failover-timeout {NAME} {FAILOVER_TIMEOUT_MS}"),
            ];
            let file = lines.iter().map(|line| format!("sentinel {line}").into_bytes()).collect();
            world.watchers.push(Watcher { core: None, file, skew_ms: 0, paused_until_ms: 0, dies_after: None });
            world.boot(node);
        }
        world.at(100, What::Replicate);
        world
    }

    pub fn nodes(&self) -> usize {
        self.up.len()
    }

    pub fn is_up(&self, node: usize) -> bool {
        self.up[node]
    }

    /// The machines that run.
    pub fn cores(&self) -> impl Iterator<Item = &Core> {
        self.watchers.iter().filter_map(|watcher| watcher.core.as_ref())
    }

    pub(super) fn note(&mut self, node: usize, text: &str) {
        self.log.push(format!("{:>8} {}: {text}", self.now_ms - START_MS, ip(node)));
    }

    pub(super) fn at(&mut self, delay_ms: i64, what: What) {
        self.next += 1;
        self.events.insert((self.now_ms + delay_ms, self.next), what);
    }

    pub(super) fn reaches(&self, a: usize, b: usize) -> bool {
        !self.cut.contains(&(a.min(b), a.max(b)))
    }

    pub(super) fn delay(&mut self) -> i64 {
        1 + self.dice.below(self.delay_max_ms) as i64
    }

    // ---- the course of time ---------------------------------------------------------------------------------------

    pub fn run_for(&mut self, ms: i64) {
        let end_ms = self.now_ms + ms;
        while let Some(entry) = self.events.first_entry().filter(|entry| entry.key().0 <= end_ms) {
            self.now_ms = entry.key().0;
            let what = entry.remove();
            self.happen(what);
        }
        self.now_ms = end_ms;
    }

    fn happen(&mut self, what: What) {
        match what {
            What::Tick { node, life } if self.lives[node] == life && self.up[node] => {
                let pause_ms = self.watcher(node).paused_until_ms - self.now_ms;
                if pause_ms > 0 {
                    return self.at(pause_ms, What::Tick { node, life });
                }
                let delay_ms = 50 + self.dice.below(50) as i64;
                self.at(delay_ms, What::Tick { node, life });
                self.with(node, |core, now_ms| core.tick(now_ms));
            }
            What::Tick { .. } => {}
            What::Replicate => {
                self.replicate();
                self.at(100, What::Replicate);
            }
            What::Established { wire } => {
                let Some((from, conn, to)) = self.ends(wire) else { return };
                if !self.up[to] {
                    self.at(0, What::Refused { wire });
                } else if self.reaches(from, to) {
                    self.with(from, |core, now_ms| core.connected(now_ms, conn, Some(ip(from))));
                }
            }
            What::Refused { wire } => {
                let Some((from, conn, _)) = self.ends(wire) else { return };
                self.drop_wire(wire);
                self.with(from, |core, now_ms| core.closed(now_ms, conn));
            }
            What::Arrives { wire, words } => {
                let Some((from, _, to)) = self.ends(wire) else { return };
                if self.reaches(from, to) {
                    self.serve(wire, to, words);
                } else {
                    self.lose(wire);
                }
            }
            What::Answers { wire, reply } => {
                let Some((from, conn, to)) = self.ends(wire) else { return };
                if self.reaches(from, to) {
                    self.with(from, |core, now_ms| core.replied(now_ms, conn, reply));
                } else {
                    self.lose(wire);
                }
            }
        }
    }

    fn ends(&self, wire: u64) -> Option<(usize, ConnId, usize)> {
        self.wires.get(&wire).map(|wire| (wire.from, wire.conn, wire.to))
    }

    pub(super) fn drop_wire(&mut self, wire: u64) {
        if let Some(wire) = self.wires.remove(&wire) {
            self.by_conn.remove(&(wire.from, wire.conn));
        }
    }

    /// Nothing comes through any more, and nobody is told.
    fn lose(&mut self, wire: u64) {
        self.drop_wire(wire);
    }

    // ---- requests -------------------------------------------------------------------------------------------------

    fn serve(&mut self, wire: u64, node: usize, words: Vec<String>) {
        let is_exec = words[0] == "EXEC";
        if let Some(queue) = self.wires.get_mut(&wire).and_then(|wire| wire.transaction.as_mut()).filter(|_| !is_exec) {
            queue.push(words);
            return self.answer(wire, status("QUEUED"));
        }
        let word = |at: usize| words.get(at).map_or("", String::as_str);
        match (word(0), node >= self.servers.len()) {
            ("PING", _) => self.answer(wire, status("PONG")),
            ("INFO", false) => self.answer(wire, PeerReply::Bulk(self.info(node).into_bytes())),
            ("SUBSCRIBE", false) => {
                let Some(found) = self.wires.get_mut(&wire) else { return };
                found.is_subscribed = true;
                self.answer(wire, PeerReply::Array(vec![bulk("subscribe"), bulk(word(1)), PeerReply::Integer(1)]));
            }
            ("PUBLISH", false) => {
                let message = word(2).to_owned();
                self.publish(node, &message);
                self.answer(wire, PeerReply::Integer(1));
            }
            ("PUBLISH", true) => {
                let message = word(2).to_owned();
                if self.with(node, |core, _| core.take_hello(message.as_bytes())).is_some() {
                    self.answer(wire, PeerReply::Integer(1));
                }
            }
            ("SENTINEL", true) => {
                let (host, port, epoch, candidate) = (word(2), word(3), word(4), word(5));
                let (port, epoch) = (port.parse().expect("a port"), epoch.parse().expect("an epoch"));
                let opinion = self.with(node, |core, _| core.opine(host, port, epoch, candidate));
                // Whoever crashes while he votes says nothing.
                let Some((is_down, leader, epoch)) = opinion else { return };
                if let Some(leader) = &leader {
                    self.record_vote(node, epoch, leader);
                }
                let leader = leader.unwrap_or("*".into());
                let items =
                    vec![PeerReply::Integer(i64::from(is_down)), bulk(&leader), PeerReply::Integer(epoch as i64)];
                self.answer(wire, PeerReply::Array(items));
            }
            ("MULTI", false) => {
                let Some(found) = self.wires.get_mut(&wire) else { return };
                found.transaction = Some(Vec::new());
                self.answer(wire, status("OK"));
            }
            ("EXEC", false) => {
                let queue = self.wires.get_mut(&wire).and_then(|wire| wire.transaction.take()).unwrap_or_default();
                for queued in queue.iter().filter(|queued| queued[0] == "SLAVEOF") {
                    self.follow(node, &queued[1]);
                }
                self.answer(wire, PeerReply::Array(queue.iter().map(|_| status("OK")).collect()));
            }
            _ => self.answer(wire, status("OK")),
        }
    }

    fn answer(&mut self, wire: u64, reply: PeerReply) {
        let delay_ms = self.delay();
        let now_ms = self.now_ms;
        let Some(found) = self.wires.get_mut(&wire) else { return };
        found.last_back_ms = (now_ms + delay_ms).max(found.last_back_ms);
        let wait_ms = found.last_back_ms - now_ms;
        self.at(wait_ms, What::Answers { wire, reply });
    }

    /// To the subscribers of a server, and of the replicas that get its stream.
    fn publish(&mut self, node: usize, message: &str) {
        let gets_it = |other: usize| other == node || (self.servers[other].link_up && self.source(other) == Some(node));
        let nodes: Vec<usize> = (0..self.servers.len()).filter(|other| self.up[*other] && gets_it(*other)).collect();
        let listening = |wire: &Wire| wire.is_subscribed && nodes.contains(&wire.to);
        let wires: Vec<u64> = self.wires.iter().filter(|(_, wire)| listening(wire)).map(|(id, _)| *id).collect();
        for wire in wires {
            let reply = PeerReply::Array(vec![bulk("message"), bulk("__sentinel__:hello"), bulk(message)]);
            self.answer(wire, reply);
        }
    }

    // ---- sentinels ------------------------------------------------------------------------------------------------

    pub(super) fn watcher(&mut self, node: usize) -> &mut Watcher {
        let at = node - self.servers.len();
        &mut self.watchers[at]
    }

    /// Lets a sentinel do something, and does what follows. Nothing if it is down, or did not live to the end of it.
    fn with<T>(&mut self, node: usize, work: impl FnOnce(&mut Core, i64) -> T) -> Option<T> {
        let now_ms = self.now_ms + self.watcher(node).skew_ms;
        let mut core = self.watcher(node).core.take()?;
        core.now_ms = now_ms;
        let result = work(&mut core, now_ms);
        let actions = core.take_actions();
        let survives = self.act(node, &core, actions);
        let epoch = core.epoch;
        if !survives {
            self.crash(node);
            return None;
        }
        self.watcher(node).core = Some(core);
        assert!(epoch >= self.records.told.get(&node).copied().unwrap_or(0), "the epoch of {} went back", ip(node));
        Some(result)
    }

    /// False if it crashes meanwhile.
    fn act(&mut self, node: usize, core: &Core, actions: Vec<Action>) -> bool {
        for action in actions {
            if let Some(left) = &mut self.watcher(node).dies_after {
                if *left == 0 {
                    return false;
                }
                *left -= 1;
            }
            match action {
                Action::Connect { conn, ip, .. } => self.dial(node, conn, &ip),
                Action::Send { conn, bytes } => self.send(node, conn, &bytes),
                Action::Close { conn } => {
                    if let Some(wire) = self.by_conn.get(&(node, conn)).copied() {
                        self.drop_wire(wire);
                    }
                }
                Action::Persist => {
                    self.watcher(node).file = core.lines().into_iter().map(|line| line.text).collect();
                }
                Action::Event { channel, message, .. } => {
                    self.note(node, &format!("{channel} {message}"));
                    self.record(node, core, channel, &message);
                }
                Action::Log { text, .. } => self.note(node, &text),
                Action::RunScript { .. } | Action::KillScript { .. } | Action::Crash => {}
            }
        }
        true
    }

    fn dial(&mut self, node: usize, conn: ConnId, to: &str) {
        let Some(to) = node_at(to).filter(|to| *to < self.nodes()) else { return };
        self.next += 1;
        let wire = self.next;
        self.by_conn.insert((node, conn), wire);
        let delay_ms = self.delay();
        let last_ms = self.now_ms + delay_ms;
        self.wires.insert(
            wire,
            Wire {
                from: node,
                conn,
                to,
                is_subscribed: false,
                transaction: None,
                last_there_ms: last_ms,
                last_back_ms: last_ms,
            },
        );
        self.at(delay_ms, What::Established { wire });
    }

    fn send(&mut self, node: usize, conn: ConnId, bytes: &[u8]) {
        let words = words_of(bytes);
        self.check_told(node, &words);
        let Some(wire) = self.by_conn.get(&(node, conn)).copied() else { return };
        let (delay_ms, now_ms) = (self.delay(), self.now_ms);
        let Some(found) = self.wires.get_mut(&wire) else { return };
        found.last_there_ms = (now_ms + delay_ms).max(found.last_there_ms);
        let wait_ms = found.last_there_ms - now_ms;
        self.at(wait_ms, What::Arrives { wire, words });
    }

    /// An epoch is in the file before anybody hears of it.
    fn check_told(&mut self, node: usize, words: &[String]) {
        let epoch = match words[0].as_str() {
            "PUBLISH" => words[2].split(',').nth(3),
            "SENTINEL" => words.get(4).map(String::as_str),
            _ => None,
        };
        let Some(epoch) = epoch.map(|epoch| epoch.parse::<u64>().expect("an epoch")) else { return };
        let in_file = self.watcher(node).file.iter().find_map(|line| {
            let line = std::str::from_utf8(line).expect("text");
            line.strip_prefix("sentinel current-epoch ").map(|epoch| epoch.parse::<u64>().expect("an epoch"))
        });
        assert!(epoch <= in_file.unwrap_or(0), "{} tells of epoch {epoch}, its file of {in_file:?}", ip(node));
        let told = self.records.told.entry(node).or_default();
        *told = (*told).max(epoch);
    }

    fn record_vote(&mut self, node: usize, epoch: u64, leader: &str) {
        let known = self.records.votes.entry((ip(node), epoch)).or_insert_with(|| leader.to_owned());
        assert_eq!(known, leader, "{} voted twice in epoch {epoch}", ip(node));
    }

    fn record(&mut self, node: usize, core: &Core, channel: &str, message: &str) {
        let failover = || core.primary(core.names[NAME]).failover.epoch;
        let last_two = || message.rsplitn(2, ' ').collect::<Vec<_>>();
        match channel {
            "+vote-for-leader" => {
                let words = last_two();
                self.record_vote(node, words[0].parse().expect("an epoch"), words[1]);
            }
            "+elected-leader" => {
                let epoch = failover();
                let known = self.records.leaders.insert(epoch, ip(node));
                assert!(known.is_none(), "epoch {epoch} has two leaders: {known:?} and {}", ip(node));
            }
            "+selected-slave" => {
                let epoch = failover();
                let known = self.records.promoted.insert(epoch, message.to_owned());
                assert!(known.is_none(), "epoch {epoch} promotes twice: {known:?} and {message}");
            }
            "+failover-end" => self.records.failovers += 1,
            "+tilt" => self.records.tilts += 1,
            _ => {}
        }
    }
}

pub fn ip(node: usize) -> String {
    format!("10.0.0.{}", node + 1)
}

pub(super) fn node_at(ip: &str) -> Option<usize> {
    ip.strip_prefix("10.0.0.")?.parse::<usize>().ok()?.checked_sub(1)
}

/// The words of a request, as it was encoded; none of ours holds a line end.
fn words_of(bytes: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(bytes);
    text.split("\r\n").skip(2).step_by(2).map(str::to_owned).collect()
}
