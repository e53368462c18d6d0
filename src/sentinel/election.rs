//! Votes: who may fail a primary over.
//!
//! An epoch is a number that only grows, and every sentinel has one vote per primary and epoch, for the first who asks. The vote is in
//! the file before anybody learns of it, so that a sentinel which restarts does not vote twice. Who has the votes of a majority of all
//! known sentinels, and of as many as the quorum, is the leader of that epoch. Two majorities of the same epoch cannot be.

use super::action::{Action, Level};
use super::core::Core;
use super::instance::Id;
use super::periods::DESYNC_MAX_MS;
use std::collections::BTreeMap;

impl Core {
    /// Votes, if there is a vote to give; whom the last vote went to, and its epoch.
    pub fn vote(&mut self, primary: Id, epoch: u64, candidate: &str) -> (Option<String>, u64) {
        if epoch > self.epoch {
            self.epoch = epoch;
            self.act(Action::Persist);
            self.event_about(Level::Warning, "+new-epoch", primary, epoch.to_string());
        }
        if self.primary(primary).leader_epoch < epoch && self.epoch <= epoch {
            let (mine, now_ms) = (self.epoch, self.now_ms);
            let voted = self.primary_mut(primary);
            (voted.leader, voted.leader_epoch) = (Some(candidate.to_owned()), mine);
            self.act(Action::Persist);
            self.event_about(Level::Warning, "+vote-for-leader", primary, format!("{candidate} {mine}"));
            if !candidate.eq_ignore_ascii_case(&self.my_id) {
                // He shall have his time before we try ourselves.
                let delay_ms = self.random.below(DESYNC_MAX_MS) as i64;
                self.primary_mut(primary).failover.start_ms = now_ms + delay_ms;
            }
        }
        let voted = self.primary(primary);
        (voted.leader.clone(), voted.leader_epoch)
    }

    /// Who has won an epoch, as far as we know. Asks for our own vote as well: it goes to whom most have voted for, else to us.
    pub(super) fn leader_of(&mut self, primary: Id, epoch: u64) -> Option<String> {
        let mut votes: BTreeMap<String, usize> = BTreeMap::new();
        for id in self.sentinel_ids(primary) {
            let other = self.other(id);
            if let Some(leader) = other.leader.clone().filter(|_| other.leader_epoch == self.epoch) {
                *votes.entry(leader).or_default() += 1;
            }
        }
        let candidate = most(&votes).map_or_else(|| self.my_id.clone(), |(leader, _)| leader);
        if let (Some(mine), voted_epoch) = self.vote(primary, epoch, &candidate)
            && voted_epoch == epoch
        {
            *votes.entry(mine).or_default() += 1;
        }
        let primary = self.primary(primary);
        let needed = majority(primary.sentinels.len()).max(primary.quorum as usize);
        most(&votes).filter(|(_, count)| *count >= needed).map(|(leader, _)| leader)
    }
}

/// More than half of all, ourselves included.
pub fn majority(others: usize) -> usize {
    let voters = others + 1;
    voters / 2 + 1
}

fn most(votes: &BTreeMap<String, usize>) -> Option<(String, usize)> {
    votes.iter().max_by_key(|(_, count)| **count).map(|(leader, count)| (leader.clone(), *count))
}
