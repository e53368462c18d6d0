//! A replica takes its primary's place: by election, by hand, or by order. Votes. Replicas that move to a primary without any.
//!
//! ```text
//!   replica:  primary FAILED ─► wait 0.5–1 s + 1 s per better replica ─► AUTH_REQUEST, epoch + 1 ─► majority ─► PONG to all
//!   primary:  vote at most once per epoch, and only for the replica of a failed primary; on disk before it goes out
//!
//!   by hand:  CLUSTER FAILOVER ─► MFSTART ─► primary pauses its clients, tells its offset ─► replica has caught up ─► election
//! ```

use super::node::{Id, flag};
use super::{Action, Health, Machine, Manual};
use crate::cluster::message::{Kind, Message, mflag};

/// How long a manual failover may take, and for how many times that the primary holds its clients.
pub(super) const MANUAL_TIMEOUT_MS: i64 = 5000;
const PAUSE_TIMEOUTS: i64 = 2;
/// The message that a primary has failed gets around.
const ELECTION_DELAY_MS: i64 = 500;
const ELECTION_RANDOM_MS: u64 = 500;
const RANK_DELAY_MS: i64 = 1000;
const AUTH_TIMEOUT_MIN_MS: i64 = 2000;
/// A primary is without replicas for so long before one comes.
const MOVE_AFTER_MS: i64 = 5000;

/// What hinders a failover; told in the log when it changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Hindrance {
    DataAge,
    Delay,
    Expired,
    Votes,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Election {
    /// When it begins, or has begun.
    at_ms: i64,
    votes: usize,
    is_asked: bool,
    rank: i64,
    epoch: u64,
    hindrance: Option<Hindrance>,
}

impl Machine {
    pub(super) fn advance_failover(&mut self) {
        let now_ms = self.now();
        let is_manual = self.manual.until_ms != 0 && self.manual.may_start;
        let me = self.me();
        let primary = me.primary.filter(|primary| {
            let primary = self.node(*primary);
            me.is_replica() && (primary.is_failed() || is_manual) && !primary.slots.is_empty()
        });
        let Some(primary) = primary.filter(|_| !self.settings.no_failover || is_manual) else {
            self.election.hindrance = None;
            return;
        };
        let timeout_ms = (self.settings.node_timeout_ms * 2).max(AUTH_TIMEOUT_MIN_MS);
        let age_ms = now_ms - self.election.at_ms;
        if !is_manual && self.is_data_too_old() {
            return self.note_hindrance(primary, Hindrance::DataAge);
        }
        if age_ms > timeout_ms * 2 {
            return self.schedule_election();
        }
        if !self.election.is_asked && self.manual.until_ms == 0 {
            self.review_rank();
        }
        if now_ms < self.election.at_ms {
            return self.note_hindrance(primary, Hindrance::Delay);
        }
        if age_ms > timeout_ms {
            return self.note_hindrance(primary, Hindrance::Expired);
        }
        if !self.election.is_asked {
            self.current_epoch += 1;
            self.election.epoch = self.current_epoch;
            tracing::warn!("Starting a failover election for epoch {}.", self.current_epoch);
            self.ask_for_votes();
            self.election.is_asked = true;
            self.todo.save = true;
            self.todo.sync = true;
            self.todo.update_state = true;
            return;
        }
        if self.election.votes < self.quorum() {
            return self.note_hindrance(primary, Hindrance::Votes);
        }
        tracing::warn!("Failover election won: I'm the new master.");
        let epoch = self.election.epoch;
        if self.me().config_epoch < epoch {
            self.me_mut().config_epoch = epoch;
            tracing::warn!("configEpoch set to {epoch} after successful failover");
        }
        self.replace_primary();
    }

    fn is_data_too_old(&self) -> bool {
        let timeout_ms = self.settings.node_timeout_ms;
        let age_ms = self.around.data_age_ms;
        // So long it took to find out that the primary is gone.
        let age_ms = if age_ms > timeout_ms { age_ms - timeout_ms } else { age_ms };
        let factor = self.settings.validity_factor;
        factor != 0 && age_ms > self.settings.repl_ping_period_ms + timeout_ms.saturating_mul(factor)
    }

    fn schedule_election(&mut self) {
        let now_ms = self.now();
        let rank = self.rank();
        let random_ms = self.random.below(ELECTION_RANDOM_MS) as i64;
        let delay_ms = ELECTION_DELAY_MS + random_ms + rank * RANK_DELAY_MS;
        let is_manual = self.manual.until_ms != 0;
        let (delay_ms, rank) = if is_manual { (0, 0) } else { (delay_ms, rank) };
        let hindrance = self.election.hindrance;
        self.election = Election { at_ms: now_ms + delay_ms, rank, hindrance, ..Election::default() };
        tracing::warn!(
            "Start of election delayed for {delay_ms} milliseconds (rank #{rank}, offset {}).",
            self.around.offset
        );
        if is_manual {
            // Nothing to wait for.
            return self.advance_failover();
        }
        self.broadcast_pong(true);
    }

    /// Replicas of the same primary that have more of its data.
    fn rank(&self) -> i64 {
        let Some(primary) = self.me().primary else { return 0 };
        let is_better = |id: &Id| {
            let node = self.node(*id);
            *id != self.myself && !node.has(flag::NO_FAILOVER) && node.offset > self.around.offset
        };
        self.replicas_of(primary).filter(is_better).count() as i64
    }

    fn review_rank(&mut self) {
        let rank = self.rank();
        if rank > self.election.rank {
            let added_ms = (rank - self.election.rank) * RANK_DELAY_MS;
            self.election.at_ms += added_ms;
            self.election.rank = rank;
            tracing::warn!("Replica rank updated to #{rank}, added {added_ms} milliseconds of delay.");
        }
    }

    fn note_hindrance(&mut self, primary: Id, hindrance: Hindrance) {
        if self.election.hindrance.replace(hindrance) == Some(hindrance) {
            return;
        }
        // In the first seconds an election takes its course.
        let quiet_ms = self.settings.node_timeout_ms + 5000;
        let primary = self.node(primary);
        if primary.is_failed() && self.now() - primary.failed_ms < quiet_ms {
            return;
        }
        let text = match hindrance {
            Hindrance::DataAge => {
                "Disconnected from master for longer than allowed. Please check the 'cluster-replica-validity-factor' \
                 configuration option."
            }
            Hindrance::Delay => "Waiting the delay before I can start a new failover.",
            Hindrance::Expired => "Failover attempt expired.",
            Hindrance::Votes => "Waiting for votes, but majority still not reached.",
        };
        tracing::warn!("Currently unable to failover: {text}");
    }

    /// Takes over everything that the primary serves.
    pub(super) fn replace_primary(&mut self) {
        let Some(primary) = self.me().primary.filter(|_| self.me().is_replica()) else { return };
        self.become_primary(self.myself);
        self.actions.push(Action::Promote);
        let slots = self.node(primary).slots.clone();
        for slot in slots.iter() {
            self.delete_slot(slot);
            self.add_slot(self.myself, slot);
        }
        self.update_state();
        self.todo.save = true;
        self.todo.sync = true;
        self.broadcast_pong(false);
        self.reset_manual_failover();
    }

    /// A replica asks for this node's vote.
    pub(super) fn consider_vote(&mut self, candidate: Id, request: &Message) {
        if !self.me().counts() {
            return;
        }
        let name = self.node(candidate).name;
        match self.vote_refusal(candidate, request) {
            Some(why) => tracing::warn!("Failover auth denied to {name}: {why}"),
            None => {
                let now_ms = self.now();
                self.last_vote_epoch = self.current_epoch;
                if let Some(primary) = self.node(candidate).primary {
                    self.node_mut(primary).voted_ms = now_ms;
                }
                self.todo.save = true;
                self.todo.sync = true;
                self.send_plain(candidate, Kind::AuthAck);
                tracing::warn!("Failover auth granted to {name} for epoch {}", self.current_epoch);
            }
        }
    }

    fn vote_refusal(&self, candidate: Id, request: &Message) -> Option<String> {
        let current = self.current_epoch;
        if request.current_epoch < current {
            return Some(format!("reqEpoch ({}) < curEpoch({current})", request.current_epoch));
        }
        if self.last_vote_epoch == current {
            return Some(format!("already voted for epoch {current}"));
        }
        if self.node(candidate).is_primary() {
            return Some("it is a master node".into());
        }
        let Some(primary) = self.node(candidate).primary else { return Some("I don't know its master".into()) };
        let primary = self.node(primary);
        let is_forced = request.message_flags & mflag::FORCE_ACK != 0;
        if !primary.is_failed() && !is_forced {
            return Some("its master is up".into());
        }
        let wait_ms = self.settings.node_timeout_ms * 2 - (self.now() - primary.voted_ms);
        if wait_ms > 0 && primary.voted_ms != 0 {
            return Some(format!("can't vote about this master before {wait_ms} milliseconds"));
        }
        request.slots.iter().find_map(|slot| {
            let owner = self.owner(slot).filter(|_| !self.unclaimed.contains(slot))?;
            let epoch = self.node(owner).config_epoch;
            let asked = request.config_epoch;
            (epoch > asked).then(|| format!("slot {slot} epoch ({epoch}) > reqEpoch ({asked})"))
        })
    }

    pub(super) fn count_vote(&mut self, sender: Id, epoch: u64) {
        if self.node(sender).counts() && epoch >= self.election.epoch {
            self.election.votes += 1;
            self.todo.failover = true;
        }
    }

    /// A replica of ours wants to take over: clients wait from here on, and it hears where the stream ends.
    pub(super) fn pause_for(&mut self, replica: Id) {
        if self.node(replica).primary != Some(self.myself) {
            return;
        }
        self.reset_manual_failover();
        let now_ms = self.now();
        self.manual = Manual { until_ms: now_ms + MANUAL_TIMEOUT_MS, replica: Some(replica), ..Manual::default() };
        tracing::warn!("Manual failover requested by replica {}.", self.node(replica).name);
        self.actions.push(Action::Pause { until_ms: now_ms + MANUAL_TIMEOUT_MS * PAUSE_TIMEOUTS });
    }

    /// The clients wait: the offset that the stream has now is its last, and the replica is told.
    pub fn paused(&mut self) {
        let Some(replica) = self.manual.replica else { return };
        self.manual.is_paused = true;
        if let Some(link) = self.node(replica).link {
            self.send_ping(link, Kind::Ping);
        }
    }

    pub(super) fn reset_manual_failover(&mut self) {
        if self.manual.replica.is_some() {
            self.actions.push(Action::Unpause);
        }
        self.manual = Manual::default();
    }

    pub(super) fn advance_manual_failover(&mut self) {
        let Manual { until_ms, primary_offset: Some(offset), may_start: false, .. } = self.manual else { return };
        if until_ms == 0 || self.around.offset < offset {
            return;
        }
        self.manual.may_start = true;
        tracing::warn!("All master replication stream processed, manual failover can start.");
        self.todo.failover = true;
    }

    /// The replica may have caught up.
    pub fn look_at_stream(&mut self) {
        self.todo.manual_failover = true;
    }

    /// Whether the end of the stream is awaited: then the next look must come soon.
    pub fn awaits_stream(&self) -> bool {
        self.manual.primary_offset.is_some() && !self.manual.may_start
    }

    /// A replica of a primary that has several moves to one that has none, if it is the one among all that should.
    pub(super) fn consider_moving(&mut self, most: usize) {
        let Some(mine) = self.me().primary.filter(|_| self.health == Health::Ok) else { return };
        let works = |id: &Id| !self.node(*id).has(flag::FAILED | flag::SUSPECTED);
        if self.replicas_of(mine).filter(works).count() <= self.settings.migration_barrier {
            return;
        }
        let now_ms = self.now();
        let (mut target, mut candidate) = (None, self.myself);
        for id in self.nodes.keys().copied().collect::<Vec<_>>() {
            let working = if self.node(id).is_primary() { self.working_replicas(id) } else { 0 };
            let node = self.node_mut(id);
            let is_orphan = !node.is_replica() && !node.is_failed() && node.has(flag::MIGRATE_TO) && working == 0;
            if !is_orphan {
                node.orphaned_ms = 0;
            } else {
                if node.orphaned_ms == 0 {
                    node.orphaned_ms = now_ms;
                }
                if target.is_none() && !node.slots.is_empty() {
                    target = Some(id);
                }
            }
            if working == most {
                let rivals: Vec<Id> = self.replicas_of(id).collect();
                candidate =
                    rivals.into_iter().chain([candidate]).min_by_key(|id| self.node(*id).name).unwrap_or(candidate);
            }
        }
        if let Some(target) = target
            && candidate == self.myself
            && now_ms - self.node(target).orphaned_ms > MOVE_AFTER_MS
        {
            tracing::warn!("Migrating to orphaned master {}", self.node(target).name);
            self.follow(target);
            self.todo.save = true;
            self.todo.update_state = true;
        }
    }
}
