//! What is sent to the watched in regular turns, and what their replies mean.
//!
//! | | to | every |
//! |---|---|---|
//! | PING | all | second, or down-after-milliseconds if that is less |
//! | INFO | primaries, replicas | 10 s; 1 s for replicas in trouble |
//! | PUBLISH | all (sentinels take it as a hello) | 2 s |

use super::core::Core;
use super::instance::{ConnId, Id, Kind, Request, Way};
use super::periods::PENDING_MAX;

/// A reply as far as it matters here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PeerReply {
    Status(Vec<u8>),
    Error(Vec<u8>),
    Bulk(Vec<u8>),
    Integer(i64),
    Array(Vec<PeerReply>),
    /// Null, and kinds that no reply to our requests has.
    Other,
}

impl PeerReply {
    pub fn bulk(&self) -> Option<&[u8]> {
        match self {
            PeerReply::Bulk(bytes) => Some(bytes),
            _ => None,
        }
    }
}

impl Core {
    pub(super) fn send_periodic(&mut self, id: Id) {
        let link = self.link(id);
        if link.disconnected || link.pending() >= PENDING_MAX * link.users {
            return;
        }
        let (last_pong_ms, last_ping_ms) = (link.last_pong_ms, link.last_ping_ms);
        let (now_ms, instance) = (self.now_ms, self.it(id));
        let (publish_due, ping_period_ms) =
            (now_ms - instance.last_publish_ms > self.periods.publish, instance.down_after_ms.min(self.periods.ping));
        let info_due = instance.info_ms == 0 || now_ms - instance.info_ms > self.info_period_ms(id);
        if instance.kind != Kind::Sentinel && info_due {
            self.command(id, Request::Info, "INFO", &[]);
        }
        if now_ms - last_pong_ms > ping_period_ms && now_ms - last_ping_ms > ping_period_ms / 2 {
            self.send_ping(id);
        }
        if publish_due {
            self.send_hello(id);
        }
    }

    /// Replicas are looked at closely while their primary is down or they have lost it: somebody may promote them.
    fn info_period_ms(&self, id: Id) -> i64 {
        let Some(replica) = self.replicas.get(&id) else { return self.periods.info };
        let primary = self.primary(self.primary_of(id));
        let in_trouble = primary.o_down || primary.failover.in_progress || replica.link_down_ms != 0;
        if in_trouble { 1000 } else { self.periods.info }
    }

    pub(super) fn send_ping(&mut self, id: Id) {
        if self.command(id, Request::Ping, "PING", &[]) {
            let now_ms = self.now_ms;
            let link = self.link_mut(id);
            link.last_ping_ms = now_ms;
            // The wait counts from the first PING that was not answered well.
            if link.ping_pending_ms == 0 {
                link.ping_pending_ms = now_ms;
            }
        }
    }

    /// Something came on a connection.
    pub fn replied(&mut self, now_ms: i64, conn: ConnId, reply: PeerReply) {
        self.now_ms = now_ms;
        let Some((link_id, way)) = self.conns.get(&conn).copied() else { return };
        let Some(link) = self.links.get_mut(&link_id) else { return };
        if way == Way::Hello
            && let PeerReply::Array(items) = &reply
        {
            link.hello_activity_ms = now_ms;
            match items.as_slice() {
                [kind, _, PeerReply::Bulk(text)] if kind.bulk() == Some(b"message") => self.hear(text),
                _ => drop(link.hello.as_mut().and_then(|conn| conn.waiting.pop_front())),
            }
            return;
        }
        let expected = link.slot(way).as_mut().and_then(|conn| conn.waiting.pop_front());
        match expected {
            // An error that nobody asked for (too many clients), or instead of the subscription: it will not get better here.
            None | Some((_, Request::Subscribe)) => self.close(link_id, way),
            // The instance may be gone meanwhile.
            Some((id, request)) if self.instances.contains_key(&id) => self.understand(id, request, &reply),
            Some(_) => {}
        }
    }

    fn understand(&mut self, id: Id, request: Request, reply: &PeerReply) {
        match (request, reply) {
            (Request::Ping, _) => self.pong(id, reply),
            (Request::Info, PeerReply::Bulk(text)) => self.refresh(id, text),
            (Request::Publish, PeerReply::Error(_)) => {}
            (Request::Publish, _) => self.it_mut(id).last_publish_ms = self.now_ms,
            (Request::AskDown, PeerReply::Array(items)) => self.hear_opinion(id, items),
            _ => {}
        }
    }

    fn pong(&mut self, id: Id, reply: &PeerReply) {
        let now_ms = self.now_ms;
        if let PeerReply::Status(text) | PeerReply::Error(text) = reply {
            let is_pong = text.starts_with(b"PONG");
            if is_pong || text.starts_with(b"LOADING") || text.starts_with(b"MASTERDOWN") {
                let link = self.link_mut(id);
                link.available_ms = now_ms;
                link.ping_pending_ms = 0;
                if let Some(primary) = self.primaries.get_mut(&id).filter(|_| is_pong) {
                    primary.is_rebooting = false;
                }
            } else if text.starts_with(b"BUSY") && self.it(id).s_down && !self.it(id).script_kill_sent {
                // Down because of a script that does not end: perhaps it can be ended.
                self.command(id, Request::Ignored, "SCRIPT", &[b"KILL"]);
                self.it_mut(id).script_kill_sent = true;
            }
        }
        self.link_mut(id).last_pong_ms = now_ms;
    }
}
