//! The link when it is up: read, apply, acknowledge.

use super::Replica;
use super::handshake::{patience, plain};
use super::wire::Wire;
use crate::base::clock;
use crate::net::stream::Stream;
use crate::resp::{Batch, Limits, Reply, RequestParser};
use crate::server::clients::{Client, flag};
use crate::server::dispatch::{self, BATCH_MAX};
use crate::server::follow::{Follower, Stop};
use crate::server::pause::PauseMode;
use crate::server::{Server, Session};
use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Poll;
use std::time::Duration;

const ACK_PERIOD_MS: i64 = 1000;
/// While a busy script keeps the stream from being applied: how often that is tried again, and how much of it is received ahead.
const RETRY: Duration = Duration::from_millis(20);
const AHEAD_MAX: usize = 64 << 20;

/// Why the stream ended.
enum End {
    /// The connection is gone, or was killed: the next one may continue.
    Lost,
    /// What comes is no stream of commands.
    Nonsense,
    RoleChanged,
}

/// The session of the link. However the link ends, nothing of it stays in any registry.
struct LinkSession {
    server: &'static Server,
    session: Session,
}

impl Drop for LinkSession {
    fn drop(&mut self) {
        self.server.clients.remove(self.session.client.id);
    }
}

impl Replica {
    /// Applies what comes until the link ends.
    pub async fn stream(&mut self, wire: &mut Wire) {
        let mut link = self.open_session(wire);
        self.worker.follows = Some(self.epoch);
        self.worker.renew_settings();
        let end = self.run_stream(wire, &mut link.session).await;
        // A transaction whose end did not come has changed nothing; its bytes are asked for again.
        dispatch::close_session(&mut self.worker, &mut link.session);
        self.worker.stream.clear();
        self.worker.follows = None;
        self.worker.renew_settings();
        if let End::Nonsense = end {
            self.server.role.update_link(self.epoch, |link| link.may_continue = false);
        }
    }

    fn open_session(&mut self, wire: &Wire) -> LinkSession {
        let server = self.server;
        let (addr, laddr) = addresses(wire.stream());
        let client = Client::new(server.clients.next_id(), addr, laddr, -1, clock::unix_ms());
        client.set(flag::PRIMARY, true);
        let client = Arc::new(client);
        server.clients.add(Arc::clone(&client));
        super::let_others_look(server, wire, Some(Arc::clone(&client)));
        let mut session = Session::new(client, true);
        session.is_primary_link = true;
        session.select(server.role.stream_db.load(Ordering::Acquire));
        LinkSession { server, session }
    }

    async fn run_stream(&mut self, wire: &mut Wire, session: &mut Session) -> End {
        let mut follower = Follower::default();
        let (mut parser, mut batch, mut reply) = (RequestParser::default(), Batch::default(), Reply::new(false));
        let client = Arc::clone(&session.client);
        let mut ack_due_ms = 0;
        let mut tick = tokio::time::interval(Duration::from_millis(100));
        loop {
            let stands_still = match self.apply(wire, session, &mut follower, &mut parser, &mut batch, &mut reply) {
                Ok(applied) => !applied,
                Err(end) => return end,
            };
            let now_ms = clock::unix_ms();
            if std::mem::take(&mut follower.asked_for_ack) || now_ms >= ack_due_ms {
                if let Err(error) = self.acknowledge(wire).await {
                    tracing::warn!("Error writing to the master: {}", plain(&error));
                    return End::Lost;
                }
                ack_due_ms = now_ms + ACK_PERIOD_MS;
            }
            let killed = poll_fn(|context| {
                client.register(context.waker());
                if client.is_killed() { Poll::Ready(()) } else { Poll::Pending }
            });
            tokio::select! {
                () = killed => return End::Lost,
                read = wire.read_some(), if !stands_still || wire.rest().len() < AHEAD_MAX => {
                    if read.is_err() {
                        return End::Lost;
                    }
                }
                () = tokio::time::sleep(RETRY), if stands_still => {}
                _ = tick.tick() => {
                    let silent = clock::unix_ms() - self.server.role.last_io_ms.load(Ordering::Relaxed);
                    if wire.rest().len() < AHEAD_MAX && silent > patience(self.server).as_millis() as i64 {
                        tracing::warn!("MASTER timeout: no data nor PING received...");
                        return End::Lost;
                    }
                }
            }
        }
    }

    /// Runs every whole command that was received, unless clients are paused; false if a busy script does not let it.
    fn apply(
        &mut self,
        wire: &mut Wire,
        session: &mut Session,
        follower: &mut Follower,
        parser: &mut RequestParser,
        batch: &mut Batch,
        reply: &mut Reply,
    ) -> Result<bool, End> {
        let limits = Limits { bulk_len_max: usize::MAX >> 1, authenticated: true };
        let received = self.server.journal.end() + wire.rest().len() as u64;
        self.server.role.read_offset.store(received, Ordering::Relaxed);
        session.client.query_bytes.store(wire.rest().len(), Ordering::Relaxed);
        loop {
            self.worker.refresh();
            if self.worker.pause.mode != PauseMode::None {
                // The stream is a client, too: its commands wait where they are, and are acknowledged when they have run.
                return Ok(false);
            }
            batch.clear();
            let start = wire.start;
            let parsed = parser.parse(&mut wire.input, start, BATCH_MAX, limits, batch);
            wire.start = parsed.map_err(|(_, error)| {
                tracing::warn!("Protocol error ({}) from master: the link is closed", error.0);
                End::Nonsense
            })?;
            if batch.is_empty() {
                return Ok(true);
            }
            let applied = follower.apply(&mut self.worker, session, batch, &wire.input, start, reply);
            session.client.last_interaction_ms.store(self.worker.now_ms, Ordering::Relaxed);
            match applied {
                Ok(()) => {}
                Err(Stop::RoleChanged) => return Err(End::RoleChanged),
                Err(Stop::Busy { at }) => {
                    parser.reset();
                    wire.start = at;
                    return Ok(false);
                }
            }
        }
    }

    /// How far this replica is, and how far its disk.
    async fn acknowledge(&self, wire: &mut Wire) -> std::io::Result<()> {
        let journal = &self.server.journal;
        let offset = journal.end().to_string();
        if self.server.save_status.aof.enabled.load(Ordering::Acquire) {
            let durable = journal.marks.durable().to_string();
            return wire.send(&[b"REPLCONF", b"ACK", offset.as_bytes(), b"FACK", durable.as_bytes()]).await;
        }
        wire.send(&[b"REPLCONF", b"ACK", offset.as_bytes()]).await
    }
}

/// The primary's address and ours, as CLIENT LIST shows them.
fn addresses(stream: &Stream) -> (String, String) {
    let (peer, local) = stream.addresses();
    let text = |address: Option<std::net::SocketAddr>| address.map_or_else(|| "?:0".into(), |a| a.to_string());
    (text(peer), text(local))
}
