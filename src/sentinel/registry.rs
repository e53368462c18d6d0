//! Who is watched: primaries, replicas and sentinels are added, removed, and forgotten at a reset or with a new configuration.

use super::action::{Action, Level};
use super::address::{Address, Fault, host_and_port};
use super::core::Core;
use super::instance::{Id, Instance, Kind, Link, LinkId, Other, Primary, Replica, Role, Stage};

impl Core {
    pub fn add_primary(&mut self, name: &str, host: &str, port: i64, quorum: u32) -> Result<Id, Fault> {
        let addr = self.address(host, port, true)?;
        if self.names.contains_key(name) {
            return Err(Fault::Duplicate);
        }
        let down_after_ms = self.periods.default_down_after;
        let id = self.add(Kind::Primary, name.to_owned(), addr, None, down_after_ms);
        self.primaries.insert(id, Primary::new(quorum, self.periods.default_failover_timeout));
        self.names.insert(name.to_owned(), id);
        Ok(id)
    }

    /// A replica's name is its address.
    pub fn add_replica(&mut self, primary: Id, host: &str, port: i64) -> Result<Id, Fault> {
        let addr = self.address(host, port, true)?;
        let name = host_and_port(self.shown(&addr), addr.port);
        if self.primary(primary).replicas.contains_key(&name) {
            return Err(Fault::Duplicate);
        }
        let id = self.add(Kind::Replica, name.clone(), addr, Some(primary), self.it(primary).down_after_ms);
        self.replicas.insert(id, Replica::new(self.now_ms));
        self.primary_mut(primary).replicas.insert(name, id);
        Ok(id)
    }

    pub fn add_sentinel(&mut self, primary: Id, host: &str, port: i64, run_id: &str) -> Result<Id, Fault> {
        let addr = self.address(host, port, true)?;
        if self.primary(primary).sentinels.contains_key(run_id) {
            return Err(Fault::Duplicate);
        }
        let id = self.add(Kind::Sentinel, run_id.to_owned(), addr, Some(primary), self.it(primary).down_after_ms);
        self.others.insert(id, Other::new(self.now_ms));
        self.it_mut(id).run_id = Some(run_id.to_owned());
        self.primary_mut(primary).sentinels.insert(run_id.to_owned(), id);
        self.share_link(id);
        Ok(id)
    }

    fn add(&mut self, kind: Kind, name: String, addr: Address, primary: Option<Id>, down_after_ms: i64) -> Id {
        let (id, link) = (Id(self.next_number()), LinkId(self.next_number()));
        let now_ms = self.now_ms;
        self.links.insert(link, Link::new(now_ms));
        let role = match kind {
            Kind::Primary => Role::Primary,
            Kind::Replica => Role::Replica,
            Kind::Sentinel => Role::Unknown,
        };
        let instance = Instance {
            kind,
            name,
            run_id: None,
            addr,
            link,
            primary,
            last_publish_ms: now_ms,
            s_down: false,
            s_down_since_ms: 0,
            down_after_ms,
            info_ms: 0,
            info: None,
            script_kill_sent: false,
            role,
            role_since_ms: now_ms,
        };
        self.instances.insert(id, instance);
        id
    }

    /// The same process seen through another primary: its link is used.
    fn share_link(&mut self, id: Id) {
        let (run_id, primary) = (self.it(id).run_id.clone(), self.it(id).primary);
        let known = self.others.keys().find(|other| {
            let other = self.it(**other);
            other.primary != primary && other.run_id == run_id
        });
        if let Some(link) = known.map(|known| self.it(*known).link) {
            let old = std::mem::replace(&mut self.it_mut(id).link, link);
            self.let_go(old);
            self.link_mut(id).users += 1;
        }
    }

    /// Replies to what it has asked are dropped when they come.
    pub(super) fn remove(&mut self, id: Id) {
        let Some(instance) = self.instances.remove(&id) else { return };
        self.replicas.remove(&id);
        self.others.remove(&id);
        self.let_go(instance.link);
        if let Some(primary) = instance.primary.and_then(|primary| self.primaries.get_mut(&primary)) {
            let family = if instance.kind == Kind::Replica { &mut primary.replicas } else { &mut primary.sentinels };
            family.remove(&instance.name);
            if primary.failover.promoted == Some(id) {
                primary.failover.promoted = None;
            }
        }
    }

    pub fn remove_primary(&mut self, id: Id) {
        self.family(id).into_iter().for_each(|id| self.remove(id));
        self.names.remove(&self.instances[&id].name);
        self.primaries.remove(&id);
        self.remove(id);
    }

    /// Whether there was a sentinel of that id.
    pub(super) fn remove_sentinel(&mut self, primary: Id, run_id: &str) -> bool {
        let found = self.primary(primary).sentinels.get(run_id).copied();
        found.into_iter().for_each(|id| self.remove(id));
        found.is_some()
    }

    /// SENTINEL RESET, and the beginning of a new configuration: what happened so far is forgotten.
    pub(super) fn reset(&mut self, id: Id, keep_sentinels: bool) {
        self.replica_ids(id).into_iter().for_each(|id| self.remove(id));
        if !keep_sentinels {
            self.sentinel_ids(id).into_iter().for_each(|id| self.remove(id));
        }
        self.close_link(self.it(id).link);
        let now_ms = self.now_ms;
        let primary = self.primary_mut(id);
        primary.o_down = false;
        primary.is_rebooting = false;
        primary.leader = None;
        let failover = &mut primary.failover;
        (failover.stage, failover.in_progress, failover.forced) = (Stage::None, false, false);
        // Another failover may begin at once.
        (failover.stage_since_ms, failover.start_ms, failover.promoted) = (0, 0, None);
        let instance = self.it_mut(id);
        (instance.s_down, instance.script_kill_sent, instance.run_id) = (false, false, None);
        (instance.role, instance.role_since_ms) = (Role::Primary, now_ms);
        let link = self.link_mut(id);
        (link.ping_pending_ms, link.last_ping_ms) = (now_ms, 0);
        (link.available_ms, link.last_pong_ms) = (now_ms, now_ms);
    }

    pub fn reset_by_wish(&mut self, id: Id) {
        self.reset(id, false);
        self.event_of(Level::Warning, "+reset-master", id, "");
    }

    /// The primary is at another address from now on; the old one joins the replicas.
    pub(super) fn change_address(&mut self, id: Id, host: &str, port: i64) {
        let Ok(new) = self.address(host, port, false) else { return };
        let old = self.it(id).addr.clone();
        let replicas = self.primary(id).replicas.values().map(|replica| self.it(*replica).addr.clone());
        let mut addresses: Vec<Address> = replicas.filter(|address| !address.is_same(&new)).collect();
        if !old.is_same(&new) {
            addresses.push(old);
        }
        self.reset(id, true);
        self.it_mut(id).addr = new;
        self.it_mut(id).s_down_since_ms = 0;
        self.primary_mut(id).o_down_since_ms = 0;
        for address in addresses {
            if let Ok(replica) = self.add_replica(id, &address.host, i64::from(address.port)) {
                self.event_of(Level::Notice, "+slave", replica, "");
            }
        }
        self.act(Action::Persist);
    }
}
