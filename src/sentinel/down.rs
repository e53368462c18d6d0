//! Whether an instance is down: for us (SDOWN), and for enough of us (ODOWN).
//!
//! ```text
//!                 no good answer for down-after-milliseconds, or a primary that calls itself a replica for long,
//!                 or one that restarted and is not back
//!     up ───────────────────────────────────────────────► SDOWN ── as many sentinels as the quorum say so ──► ODOWN
//!        ◄────────────── a good answer ───────────────────      ◄── fewer, or not down for us any more ──────
//! ```

use super::action::Level;
use super::core::Core;
use super::instance::{Id, Kind, Request, Role, Stage, Way};
use super::watch::PeerReply;

impl Core {
    pub(super) fn check_subjectively_down(&mut self, id: Id) {
        self.give_up_silent(id);
        let (now_ms, instance, link) = (self.now_ms, self.it(id), self.link(id));
        let silent_ms = match link.ping_pending_ms {
            0 if link.disconnected => now_ms - link.available_ms,
            0 => 0,
            since_ms => now_ms - since_ms,
        };
        let claims_replica = instance.kind == Kind::Primary
            && instance.role == Role::Replica
            && now_ms - instance.role_since_ms > instance.down_after_ms + self.periods.info * 2;
        let is_not_back = self.primaries.get(&id).is_some_and(|primary| {
            primary.is_rebooting && now_ms - primary.reboot_since_ms > primary.reboot_down_after_ms
        });
        let is_down = silent_ms > instance.down_after_ms || claims_replica || is_not_back;
        if is_down == instance.s_down {
            return;
        }
        self.event_of(Level::Warning, if is_down { "+sdown" } else { "-sdown" }, id, "");
        let instance = self.it_mut(id);
        instance.s_down = is_down;
        if is_down {
            instance.s_down_since_ms = now_ms;
        } else {
            instance.script_kill_sent = false;
        }
    }

    /// A connection may seem to stand long after the other end is gone.
    fn give_up_silent(&mut self, id: Id) {
        let (now_ms, patience_ms) = (self.now_ms, self.it(id).down_after_ms / 2);
        let (link_id, link) = (self.it(id).link, self.link(id));
        let is_old = |since_ms: i64| now_ms - since_ms > self.periods.min_reconnect;
        let commands_silent = link.commands.as_ref().is_some_and(|conn| is_old(conn.since_ms))
            && link.ping_pending_ms != 0
            && now_ms - link.ping_pending_ms > patience_ms
            && now_ms - link.last_pong_ms > patience_ms;
        // Our own hellos come back on it, too.
        let hello_silent = link.hello.as_ref().is_some_and(|conn| is_old(conn.since_ms))
            && now_ms - link.hello_activity_ms > self.periods.publish * 3;
        if commands_silent {
            self.close(link_id, Way::Commands);
        }
        if hello_silent {
            self.close(link_id, Way::Hello);
        }
    }

    pub(super) fn check_objectively_down(&mut self, id: Id) {
        let primary = self.primary(id);
        let others = primary.sentinels.values().filter(|other| self.other(**other).says_down).count();
        let agreeing = 1 + others;
        let is_down = self.it(id).s_down && agreeing >= primary.quorum as usize;
        if is_down == primary.o_down {
            return;
        }
        let (now_ms, quorum) = (self.now_ms, primary.quorum);
        if is_down {
            self.event_of(Level::Warning, "+odown", id, &format!(" #quorum {agreeing}/{quorum}"));
            self.primary_mut(id).o_down_since_ms = now_ms;
        } else {
            self.event_of(Level::Warning, "-odown", id, "");
        }
        self.primary_mut(id).o_down = is_down;
    }

    /// Asks the other sentinels whether they find a primary down that is down for us; during an election, for their votes.
    pub(super) fn ask_others(&mut self, primary: Id, at_once: bool) {
        let (now_ms, period_ms) = (self.now_ms, self.periods.ask);
        for id in self.sentinel_ids(primary) {
            let other = self.other_mut(id);
            let silent_ms = now_ms - other.last_answer_ms;
            if silent_ms > period_ms * 5 {
                (other.says_down, other.leader) = (false, None);
            }
            if !self.it(primary).s_down || self.link(id).disconnected || (!at_once && silent_ms < period_ms) {
                continue;
            }
            let address = &self.it(primary).addr;
            let (host, port) = (self.shown(address).to_owned(), address.port.to_string());
            let seeks_votes = self.primary(primary).failover.stage > Stage::None;
            let candidate = if seeks_votes { self.my_id.clone() } else { "*".into() };
            let epoch = self.epoch.to_string();
            let words = ["is-master-down-by-addr", &host, &port, &epoch, &candidate].map(str::as_bytes);
            self.command(id, Request::AskDown, "SENTINEL", &words);
        }
    }

    pub(super) fn hear_opinion(&mut self, id: Id, items: &[PeerReply]) {
        let [PeerReply::Integer(is_down), PeerReply::Bulk(leader), PeerReply::Integer(epoch)] = items else { return };
        let (now_ms, epoch) = (self.now_ms, *epoch as u64);
        let leader = String::from_utf8_lossy(leader).into_owned();
        let other = self.other_mut(id);
        other.last_answer_ms = now_ms;
        other.says_down = *is_down == 1;
        if leader == "*" {
            return;
        }
        let is_new = std::mem::replace(&mut other.leader_epoch, epoch) != epoch;
        other.leader = Some(leader.clone());
        if is_new {
            let text = format!("{} voted for {leader} {epoch}", self.it(id).name);
            self.log(Level::Warning, text);
        }
    }
}

impl Core {
    /// What another sentinel is told of a primary: whether it is down, whom our vote has gone to, and in which epoch.
    pub fn opine(&mut self, host: &str, port: i64, epoch: u64, candidate: &str) -> (bool, Option<String>, u64) {
        let Ok(address) = self.address(host, port, true) else { return (false, None, 0) };
        let found = self.primary_ids().into_iter().find(|id| self.it(*id).addr.is_same(&address));
        let Some(id) = found else { return (false, None, 0) };
        let is_down = self.it(id).s_down && !self.tilt;
        let (leader, epoch) = if candidate == "*" { (None, 0) } else { self.vote(id, epoch, candidate) };
        (is_down, leader, epoch)
    }
}
