//! What INFO says, taken in: new replicas, changes of role, a promotion that has come true, and instances that follow the wrong
//! primary and are put right.

use super::action::{Action, Level};
use super::core::Core;
use super::info_text::{self, Report};
use super::instance::{Id, Kind, Reconf, Role, Stage};

impl Core {
    pub(super) fn refresh(&mut self, id: Id, text: &[u8]) {
        let report = info_text::read(text);
        let now_ms = self.now_ms;
        self.it_mut(id).info = Some(text.to_vec());
        self.note_run_id(id, report.run_id.clone());
        if self.it(id).kind == Kind::Primary {
            self.find_replicas(id, &report);
        } else if let Some(replica) = self.replicas.get_mut(&id) {
            replica.link_down_ms = report.link_down_ms;
            if report.role == Role::Replica {
                replica.note(&report, now_ms);
            }
        }
        self.it_mut(id).info_ms = now_ms;
        self.note_role(id, report.role);
        if self.tilt || self.it(id).kind != Kind::Replica {
            // A primary that calls itself a replica is down before long (`down.rs`).
            return;
        }
        match report.role {
            Role::Primary => self.replica_is_primary(id),
            Role::Replica => {
                self.put_right(id);
                self.follow_reconfiguration(id);
            }
            Role::Unknown => {}
        }
    }

    fn note_run_id(&mut self, id: Id, run_id: Option<String>) {
        let Some(run_id) = run_id else { return };
        let known = self.it_mut(id).run_id.replace(run_id.clone());
        if known.is_some_and(|known| known != run_id) {
            self.event_of(Level::Notice, "+reboot", id, "");
            let now_ms = self.now_ms;
            if let Some(primary) = self.primaries.get_mut(&id).filter(|primary| primary.reboot_down_after_ms != 0) {
                (primary.is_rebooting, primary.reboot_since_ms) = (true, now_ms);
            }
        }
    }

    fn find_replicas(&mut self, primary: Id, report: &Report) {
        for (host, port) in &report.replicas {
            let Ok(address) = self.address(host, *port, false) else { continue };
            let name = super::address::host_and_port(self.shown(&address), address.port);
            if self.primary(primary).replicas.contains_key(&name) {
                continue;
            }
            if let Ok(replica) = self.add_replica(primary, host, *port) {
                self.event_of(Level::Notice, "+slave", replica, "");
                self.act(Action::Persist);
            }
        }
    }

    fn note_role(&mut self, id: Id, role: Role) {
        let (now_ms, instance) = (self.now_ms, self.it_mut(id));
        if role == instance.role {
            return;
        }
        (instance.role, instance.role_since_ms) = (role, now_ms);
        let is_expected =
            matches!((instance.kind, role), (Kind::Primary, Role::Primary) | (Kind::Replica, Role::Replica));
        if let Some(replica) = self.replicas.get_mut(&id).filter(|_| role == Role::Replica) {
            replica.conf_change_ms = now_ms;
        }
        let channel = if is_expected { "+role-change" } else { "-role-change" };
        let name = if role == Role::Primary { "master" } else { "slave" };
        self.event_of(Level::Verbose, channel, id, &format!(" new reported role is {name}"));
    }

    /// A replica has become a primary: as we wanted, or not.
    fn replica_is_primary(&mut self, id: Id) {
        let primary = self.primary_of(id);
        let failover = &self.primary(primary).failover;
        let is_promoted = self.replica(id).is_promoted;
        if is_promoted && failover.in_progress && failover.stage == Stage::WaitPromotion {
            return self.promotion_is_done(primary, id);
        }
        // Others may have a newer configuration that will reach us soon.
        let patience_ms = self.periods.publish * 4;
        let is_stale = self.now_ms - self.it(id).role_since_ms > patience_ms;
        if !is_promoted && is_stale && self.looks_sane(primary) && self.was_never_down_for(id, patience_ms) {
            self.point_at_primary(id, primary, "+convert-to-slave");
        }
    }

    fn put_right(&mut self, id: Id) {
        let primary = self.primary_of(id);
        let (replica, address) = (self.replica(id), &self.it(primary).addr);
        let is_right = replica.master_port == i64::from(address.port)
            && replica.master_host.as_ref().is_some_and(|host| self.is_at(address, host));
        if is_right {
            return;
        }
        let patience_ms = self.primary(primary).failover.timeout_ms;
        let is_stale = self.now_ms - replica.conf_change_ms > patience_ms;
        if is_stale && self.looks_sane(primary) && self.was_never_down_for(id, patience_ms) {
            self.point_at_primary(id, primary, "+fix-slave-config");
        }
    }

    fn point_at_primary(&mut self, id: Id, primary: Id, channel: &'static str) {
        let address = self.it(primary).addr.clone();
        if self.send_replicaof(id, Some(&address)) {
            self.event_of(Level::Notice, channel, id, "");
        }
    }

    /// A primary that is one, says so, is up and was heard of lately.
    fn looks_sane(&self, id: Id) -> bool {
        let instance = self.it(id);
        instance.role == Role::Primary
            && !instance.s_down
            && !self.primary(id).o_down
            && self.now_ms - instance.info_ms < self.periods.info * 2
    }

    /// REPLICAOF sent → it names the new primary → its link is up.
    fn follow_reconfiguration(&mut self, id: Id) {
        let Some(promoted) = self.primary(self.primary_of(id)).failover.promoted else { return };
        let (replica, address) = (self.replica(id), &self.it(promoted).addr);
        let follows_promoted = replica.master_port == i64::from(address.port)
            && replica.master_host.as_ref().is_some_and(|host| self.is_at(address, host));
        if replica.reconf == Reconf::Sent && follows_promoted {
            self.replica_mut(id).reconf = Reconf::InProgress;
            self.event_of(Level::Notice, "+slave-reconf-inprog", id, "");
        }
        if self.replica(id).reconf == Reconf::InProgress && self.replica(id).master_link_up {
            self.replica_mut(id).reconf = Reconf::Done;
            self.event_of(Level::Notice, "+slave-reconf-done", id, "");
        }
    }
}

impl super::instance::Replica {
    fn note(&mut self, report: &Report, now_ms: i64) {
        if let Some(host) = &report.master_host
            && !self.master_host.as_ref().is_some_and(|known| known.eq_ignore_ascii_case(host))
        {
            self.master_host = Some(host.clone());
            self.conf_change_ms = now_ms;
        }
        if let Some(port) = report.master_port.filter(|port| *port != self.master_port) {
            self.master_port = port;
            self.conf_change_ms = now_ms;
        }
        self.master_link_up = report.master_link_up.unwrap_or(self.master_link_up);
        self.priority = report.priority.unwrap_or(self.priority);
        self.offset = report.offset.unwrap_or(self.offset);
        self.is_announced = report.is_announced.unwrap_or(self.is_announced);
    }
}
