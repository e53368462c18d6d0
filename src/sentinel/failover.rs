//! The failover of a primary, step by step.
//!
//! ```text
//!   ODOWN, or SENTINEL FAILOVER
//!     ▼
//!   wait_start ── elected ──► select_slave ── one is good ──► send_slaveof_noone ── sent ──► wait_promotion
//!     │ election-timeout          │ none                        │ failover-timeout             │ failover-timeout
//!     ▼                           ▼                             ▼                              ▼
//!   ───────────────────────────── aborted; again after twice the failover-timeout ─────────────────────────────
//!
//!   wait_promotion ── INFO says role:master ──► reconf_slaves ── all follow, or failover-timeout ──► update_config
//!                     config epoch := our epoch                                                      +switch-master
//! ```
//! From reconf_slaves on nothing is taken back: the new configuration is told to everybody, with the epoch that was won.

use super::action::{Action, Level};
use super::address::Address;
use super::core::Core;
use super::instance::{Id, Reconf, Request, Stage};
use super::periods::DESYNC_MAX_MS;

/// The part in a failover that a reconfiguration script hears of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    Leader,
    Observer,
}

impl Core {
    pub fn start_failover(&mut self, id: Id) {
        self.epoch += 1;
        // Others are asked for votes in this epoch before we have voted ourselves.
        self.act(Action::Persist);
        let (epoch, now_ms) = (self.epoch, self.now_ms);
        let delay_ms = self.random.below(DESYNC_MAX_MS) as i64;
        self.event_about(Level::Warning, "+new-epoch", id, epoch.to_string());
        self.event_of(Level::Warning, "+try-failover", id, "");
        let failover = &mut self.primary_mut(id).failover;
        (failover.in_progress, failover.epoch) = (true, epoch);
        failover.start_ms = now_ms + delay_ms;
        self.enter(id, Stage::WaitStart);
    }

    pub(super) fn start_failover_if_needed(&mut self, id: Id) -> bool {
        let primary = self.primary(id);
        let failover = &primary.failover;
        if !primary.o_down || failover.in_progress {
            return false;
        }
        let next_ms = failover.start_ms + failover.timeout_ms * 2;
        if self.now_ms < next_ms {
            if failover.delay_told_for_ms != failover.start_ms {
                let told = failover.start_ms;
                self.primary_mut(id).failover.delay_told_for_ms = told;
                let when = crate::base::clock::calendar_time(next_ms);
                self.log(Level::Warning, format!("Next failover delay: I will not start a failover before {when}"));
            }
            return false;
        }
        self.start_failover(id);
        true
    }

    fn enter(&mut self, id: Id, stage: Stage) {
        let now_ms = self.now_ms;
        let failover = &mut self.primary_mut(id).failover;
        (failover.stage, failover.stage_since_ms) = (stage, now_ms);
    }

    fn abort_failover(&mut self, id: Id) {
        let failover = &mut self.primary_mut(id).failover;
        (failover.in_progress, failover.forced) = (false, false);
        let promoted = failover.promoted.take();
        self.enter(id, Stage::None);
        if let Some(replica) = promoted.and_then(|promoted| self.replicas.get_mut(&promoted)) {
            replica.is_promoted = false;
        }
    }

    pub(super) fn drive_failover(&mut self, id: Id) {
        if !self.primary(id).failover.in_progress {
            return;
        }
        match self.primary(id).failover.stage {
            Stage::WaitStart => self.wait_start(id),
            Stage::SelectReplica => self.select_replica(id),
            Stage::SendReplicaOfNoOne => self.send_replicaof_no_one(id),
            Stage::WaitPromotion => self.wait_promotion(id),
            Stage::ReconfigureReplicas => self.reconfigure_replicas(id),
            Stage::None | Stage::UpdateConfig => {}
        }
    }

    fn wait_start(&mut self, id: Id) {
        let epoch = self.primary(id).failover.epoch;
        let leader = self.leader_of(id, epoch);
        let is_leader = leader.is_some_and(|leader| leader.eq_ignore_ascii_case(&self.my_id));
        let failover = &self.primary(id).failover;
        if !is_leader && !failover.forced {
            let patience_ms = self.periods.election_timeout.min(failover.timeout_ms);
            if self.now_ms - failover.start_ms > patience_ms {
                self.event_of(Level::Warning, "-failover-abort-not-elected", id, "");
                self.abort_failover(id);
            }
            return;
        }
        self.event_of(Level::Warning, "+elected-leader", id, "");
        if self.simulated.crash_after_election {
            self.act(Action::Crash);
        }
        self.enter(id, Stage::SelectReplica);
        self.event_of(Level::Warning, "+failover-state-select-slave", id, "");
    }

    /// The best of the replicas that may be promoted: lowest priority, most of the stream, lowest run id.
    pub fn best_replica(&self, id: Id) -> Option<Id> {
        let (now_ms, primary) = (self.now_ms, self.it(id));
        let down_ms = if primary.s_down { now_ms - primary.s_down_since_ms } else { 0 };
        let link_down_max_ms = down_ms + primary.down_after_ms * 10;
        // Those of a primary that is down are asked every second.
        let info_age_max_ms = if primary.s_down { self.periods.ping * 5 } else { self.periods.info * 3 };
        let is_good = |replica: &Id| {
            let (instance, link) = (self.it(*replica), self.link(*replica));
            !instance.s_down
                && !link.disconnected
                && now_ms - link.available_ms <= self.periods.ping * 5
                && self.replica(*replica).priority != 0
                && now_ms - instance.info_ms <= info_age_max_ms
                && self.replica(*replica).link_down_ms <= link_down_max_ms
        };
        let rank = |id: &Id| {
            let (replica, run_id) = (self.replica(*id), &self.it(*id).run_id);
            // One without a run id comes last.
            let run_id = run_id.as_ref().map(|run_id| run_id.to_ascii_lowercase());
            (replica.priority, u64::MAX - replica.offset, run_id.is_none(), run_id)
        };
        self.replica_ids(id).into_iter().filter(is_good).min_by_key(rank)
    }

    fn select_replica(&mut self, id: Id) {
        let Some(replica) = self.best_replica(id) else {
            self.event_of(Level::Warning, "-failover-abort-no-good-slave", id, "");
            return self.abort_failover(id);
        };
        self.event_of(Level::Warning, "+selected-slave", replica, "");
        self.replica_mut(replica).is_promoted = true;
        self.primary_mut(id).failover.promoted = Some(replica);
        self.enter(id, Stage::SendReplicaOfNoOne);
        self.event_of(Level::Notice, "+failover-state-send-slaveof-noone", replica, "");
    }

    /// True if the stage has lasted too long, and the failover was aborted for it.
    fn abort_if_late(&mut self, id: Id) -> bool {
        let failover = &self.primary(id).failover;
        let is_late = self.now_ms - failover.stage_since_ms > failover.timeout_ms;
        if is_late {
            self.event_of(Level::Warning, "-failover-abort-slave-timeout", id, "");
            self.abort_failover(id);
        }
        is_late
    }

    fn send_replicaof_no_one(&mut self, id: Id) {
        let Some(promoted) = self.primary(id).failover.promoted else { return self.abort_failover(id) };
        if self.link(promoted).disconnected {
            self.abort_if_late(id);
        } else if self.send_replicaof(promoted, None) {
            self.event_of(Level::Notice, "+failover-state-wait-promotion", promoted, "");
            self.enter(id, Stage::WaitPromotion);
        }
    }

    fn wait_promotion(&mut self, id: Id) {
        self.abort_if_late(id);
    }

    /// INFO of the promoted replica says that it is a primary.
    pub(super) fn promotion_is_done(&mut self, id: Id, promoted: Id) {
        let primary = self.primary_mut(id);
        primary.config_epoch = primary.failover.epoch;
        self.enter(id, Stage::ReconfigureReplicas);
        self.act(Action::Persist);
        self.event_of(Level::Warning, "+promoted-slave", promoted, "");
        if self.simulated.crash_after_promotion {
            self.act(Action::Crash);
        }
        self.event_of(Level::Warning, "+failover-state-reconf-slaves", id, "");
        let (old, new) = (self.it(id).addr.clone(), self.it(promoted).addr.clone());
        self.tell_clients(id, Part::Leader, &old, &new);
        self.hurry_hello(id);
    }

    /// Points the replicas at the new primary, `parallel-syncs` at a time.
    fn reconfigure_replicas(&mut self, id: Id) {
        let replicas = self.replica_ids(id);
        replicas.iter().for_each(|replica| self.give_up_on_late(*replica));
        let mut under_way = replicas.iter().filter(|replica| self.is_reconfiguring(**replica)).count() as i64;
        for replica in replicas {
            if under_way >= self.primary(id).parallel_syncs {
                break;
            }
            let state = self.replica(replica);
            if state.is_promoted || state.reconf == Reconf::Done {
                continue;
            }
            if self.is_reconfiguring(replica) || self.link(replica).disconnected {
                continue;
            }
            if self.send_to_promoted(id, replica, "+slave-reconf-sent") {
                under_way += 1;
            }
        }
        self.detect_end(id);
    }

    /// A replica that does not react makes room for the next. It will be seen to follow the wrong primary, and put right, later.
    fn give_up_on_late(&mut self, replica: Id) {
        let state = self.replica(replica);
        if state.reconf == Reconf::Sent && self.now_ms - state.reconf_sent_ms > self.periods.reconf_timeout {
            self.event_of(Level::Notice, "-slave-reconf-sent-timeout", replica, "");
            self.replica_mut(replica).reconf = Reconf::Done;
        }
    }

    fn send_to_promoted(&mut self, id: Id, replica: Id, channel: &'static str) -> bool {
        let Some(promoted) = self.primary(id).failover.promoted else { return false };
        let (address, now_ms) = (self.it(promoted).addr.clone(), self.now_ms);
        let is_sent = self.send_replicaof(replica, Some(&address));
        if is_sent {
            let state = self.replica_mut(replica);
            (state.reconf, state.reconf_sent_ms) = (Reconf::Sent, now_ms);
            self.event_of(Level::Notice, channel, replica, "");
        }
        is_sent
    }

    fn detect_end(&mut self, id: Id) {
        let failover = &self.primary(id).failover;
        let Some(promoted) = failover.promoted.filter(|promoted| !self.it(*promoted).s_down) else { return };
        let is_late = self.now_ms - failover.stage_since_ms > failover.timeout_ms;
        let is_left = |replica: &Id| {
            *replica != promoted && self.replica(*replica).reconf != Reconf::Done && !self.it(*replica).s_down
        };
        if !is_late && self.replica_ids(id).iter().any(is_left) {
            return;
        }
        if is_late {
            self.event_of(Level::Warning, "+failover-end-for-timeout", id, "");
        }
        self.event_of(Level::Warning, "+failover-end", id, "");
        self.enter(id, Stage::UpdateConfig);
        if !is_late {
            return;
        }
        // At least they are told once.
        for replica in self.replica_ids(id) {
            let state = self.replica(replica);
            let is_told = state.is_promoted || matches!(state.reconf, Reconf::Done | Reconf::Sent);
            if !is_told && !self.link(replica).disconnected {
                self.send_to_promoted(id, replica, "+slave-reconf-sent-be");
            }
        }
    }

    /// The promoted replica takes the primary's place.
    pub(super) fn switch_to_promoted(&mut self, id: Id) {
        let old = self.it(id).addr.clone();
        let new = self.primary(id).failover.promoted.map_or(old.clone(), |promoted| self.it(promoted).addr.clone());
        let name = self.it(id).name.clone();
        let text = format!("{name} {} {} {} {}", self.shown(&old), old.port, self.shown(&new), new.port);
        self.event_about(Level::Warning, "+switch-master", id, text);
        self.change_address(id, &new.host, i64::from(new.port));
    }

    /// REPLICAOF (or NO ONE), kept by CONFIG REWRITE; clients are thrown out so that they ask where the primary is now. One
    /// transaction, so that none of it happens alone.
    pub(super) fn send_replicaof(&mut self, id: Id, address: Option<&Address>) -> bool {
        let (host, port) = match address {
            None => ("NO".to_owned(), "ONE".to_owned()),
            Some(address) => (self.shown(address).to_owned(), address.port.to_string()),
        };
        let steps: [(&str, &[&[u8]]); 6] = [
            ("MULTI", &[]),
            ("SLAVEOF", &[host.as_bytes(), port.as_bytes()]),
            ("CONFIG", &[b"REWRITE"]),
            ("CLIENT", &[b"KILL", b"TYPE", b"normal"]),
            ("CLIENT", &[b"KILL", b"TYPE", b"pubsub"]),
            ("EXEC", &[]),
        ];
        steps.into_iter().all(|(name, rest)| self.command(id, Request::Ignored, name, rest))
    }

    /// Runs the client-reconfig-script, if there is one.
    pub(super) fn tell_clients(&mut self, id: Id, part: Part, from: &Address, to: &Address) {
        let Some(script) = self.primary(id).client_reconfig_script.clone() else { return };
        let part = if part == Part::Leader { "leader" } else { "observer" };
        let ports = [from.port.to_string(), to.port.to_string()];
        let words = [&self.it(id).name, part, "start", self.shown(from), &ports[0], self.shown(to), &ports[1]];
        let words = std::iter::once(script).chain(words.map(|word| word.as_bytes().to_vec())).collect();
        self.schedule_script(words);
    }
}
