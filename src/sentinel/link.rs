//! Connections to the watched: opened again and again, given up when they are silent.
//!
//! ```text
//!   disconnected ── at most once per ping period ──► AUTH, CLIENT SETNAME, PING            commands
//!        ▲                                           AUTH, CLIENT SETNAME, SUBSCRIBE       hello (not to sentinels)
//!        └── closed by the peer, refused, or silent for too long (`down.rs`)
//! ```

use super::action::{Action, Level};
use super::core::Core;
use super::hello::HELLO_CHANNEL;
use super::instance::{Conn, ConnId, Id, Kind, LinkId, Request, Way};
use crate::resp::encode;
use std::collections::VecDeque;

impl Core {
    /// The service has reached the peer.
    pub fn connected(&mut self, now_ms: i64, conn: ConnId, local_ip: Option<String>) {
        self.now_ms = now_ms;
        let Some((link, way)) = self.conns.get(&conn).copied() else { return };
        if let Some(conn) = self.links.get_mut(&link).and_then(|link| link.slot(way).as_mut()) {
            conn.local_ip = local_ip;
        }
    }

    /// The connection is gone, or never came to be.
    pub fn closed(&mut self, now_ms: i64, conn: ConnId) {
        self.now_ms = now_ms;
        let Some((link, way)) = self.conns.remove(&conn) else { return };
        if let Some(link) = self.links.get_mut(&link) {
            *link.slot(way) = None;
            link.disconnected = true;
        }
    }

    pub(super) fn close(&mut self, link: LinkId, way: Way) {
        let Some(found) = self.links.get_mut(&link) else { return };
        if let Some(conn) = found.slot(way).take() {
            found.disconnected = true;
            self.conns.remove(&conn.id);
            self.act(Action::Close { conn: conn.id });
        }
    }

    pub(super) fn close_link(&mut self, link: LinkId) {
        self.close(link, Way::Commands);
        self.close(link, Way::Hello);
    }

    /// One user less; the last one takes the link along.
    pub(super) fn let_go(&mut self, link: LinkId) {
        let Some(found) = self.links.get_mut(&link) else { return };
        found.users -= 1;
        if found.users == 0 {
            self.close_link(link);
            self.links.remove(&link);
        }
    }

    /// After a change of the password: primary and replicas.
    pub fn drop_data_connections(&mut self, primary: Id) {
        let ids = std::iter::once(primary).chain(self.replica_ids(primary));
        let links: Vec<LinkId> = ids.map(|id| self.it(id).link).collect();
        links.into_iter().for_each(|link| self.close_link(link));
    }

    /// After a change of our credentials: all other sentinels.
    pub fn drop_sentinel_connections(&mut self) {
        let links: Vec<LinkId> = self.others.keys().map(|id| self.it(*id).link).collect();
        links.into_iter().for_each(|link| self.close_link(link));
    }

    pub(super) fn reconnect(&mut self, id: Id) {
        let (now_ms, ping_period_ms) = (self.now_ms, self.periods.ping);
        let instance = self.it(id);
        let (kind, link_id, port) = (instance.kind, instance.link, instance.addr.port);
        let link = self.link_mut(id);
        if !link.disconnected || port == 0 || now_ms - link.last_reconnect_ms < ping_period_ms {
            return;
        }
        link.last_reconnect_ms = now_ms;
        if self.link(id).commands.is_none() {
            // The name may have been unknown so far, or mean another address by now.
            if let Some(ip) = self.resolve(&self.it(id).addr.host) {
                self.it_mut(id).addr.ip = ip;
            }
            if self.open(id, link_id, Way::Commands) {
                self.introduce(id, Way::Commands, "cmd");
                self.send_ping(id);
            }
        }
        if kind != Kind::Sentinel && self.link(id).hello.is_none() && self.open(id, link_id, Way::Hello) {
            self.introduce(id, Way::Hello, "pubsub");
            let words = [self.mapped(id, "SUBSCRIBE"), HELLO_CHANNEL.into()];
            self.send(id, Way::Hello, Request::Subscribe, &words);
        }
        let link = self.link_mut(id);
        link.disconnected = link.commands.is_none() || (kind != Kind::Sentinel && link.hello.is_none());
    }

    fn open(&mut self, id: Id, link: LinkId, way: Way) -> bool {
        let addr = self.it(id).addr.clone();
        if addr.ip.is_empty() {
            let channel = if way == Way::Commands { "-cmd-link-reconnection" } else { "-pubsub-link-reconnection" };
            self.event_of(Level::Debug, channel, id, " #the host name has no address");
            return false;
        }
        let conn = ConnId(self.next_number());
        self.conns.insert(conn, (link, way));
        let since_ms = self.now_ms;
        *self.link_mut(id).slot(way) = Some(Conn { id: conn, since_ms, local_ip: None, waiting: VecDeque::new() });
        self.act(Action::Connect { conn, ip: addr.ip, port: addr.port });
        true
    }

    /// AUTH if there is a password, and the name that CLIENT LIST shows on the other side.
    fn introduce(&mut self, id: Id, way: Way, kind_of_use: &str) {
        let auth = self.mapped(id, "AUTH");
        match self.credentials(id) {
            (Some(user), Some(password)) => self.send(id, way, Request::Ignored, &[auth, user, password]),
            (None, Some(password)) => self.send(id, way, Request::Ignored, &[auth, password]),
            (_, None) => false,
        };
        let name = format!("sentinel-{}-{kind_of_use}", self.my_id.get(..8).unwrap_or_default());
        let words = [self.mapped(id, "CLIENT"), b"SETNAME".to_vec(), name.into()];
        self.send(id, way, Request::Ignored, &words);
    }

    /// User and password. Replicas are taken to have those of the primary, sentinels those that this one demands itself.
    fn credentials(&self, id: Id) -> (Option<Vec<u8>>, Option<Vec<u8>>) {
        if self.it(id).kind != Kind::Sentinel {
            let primary = self.primary(self.primary_of(id));
            return (primary.auth_user.clone(), primary.auth_pass.clone());
        }
        let settings = &self.settings;
        match &settings.auth_pass {
            Some(password) => (settings.auth_user.clone(), Some(password.clone())),
            None => (None, settings.own_password.clone()),
        }
    }

    /// What a command is called there (`sentinel rename-command`).
    pub(super) fn mapped(&self, id: Id, command: &str) -> Vec<u8> {
        let renamed = &self.primary(self.primary_of(id)).renamed;
        renamed.get(command.as_bytes()).map_or_else(|| command.into(), |(_, new)| new.clone())
    }

    /// False if there is no connection to send it on.
    pub(super) fn send(&mut self, id: Id, way: Way, request: Request, words: &[Vec<u8>]) -> bool {
        let Some(conn) = self.link_mut(id).slot(way) else { return false };
        conn.waiting.push_back((id, request));
        let mut bytes = Vec::new();
        encode(&mut bytes, words.iter().map(Vec::as_slice));
        let conn = conn.id;
        self.act(Action::Send { conn, bytes });
        true
    }

    /// A command on the connection for commands; the first word may be renamed there.
    pub(super) fn command(&mut self, id: Id, request: Request, name: &str, rest: &[&[u8]]) -> bool {
        let mut words = vec![self.mapped(id, name)];
        words.extend(rest.iter().map(|word| word.to_vec()));
        self.send(id, Way::Commands, request, &words)
    }
}
