//! The replica's end: the link to the primary, the load of its snapshot, the application of its stream.
//!
//! ```text
//!                 ┌──────────────────────── lost: at once · refused: after a second ◄───────────────────────┐
//!                 ▼                                                                                         │
//!   REPLICAOF ─► dial ─► handshake ─┬─ +CONTINUE ────────────────────────────────────────────────► stream ──┤
//!                                   ├─ +FULLRESYNC ─► receive (file, or straight) ─► load ─► put in place ──┘
//!                                   └─ not now: after a second
//!
//!   a snapshot that we cannot keep or load (a full disk): after one second, two, four, … sixteen, since each costs the primary a snapshot
//! ```
//! One thread owns the link and applies the stream with a worker of its own. It follows whomever `server::role` names; when
//! the role changes, whatever it was doing is dropped.

mod full_sync;
mod handshake;
mod stream;
mod wire;

use crate::base::clock;
use crate::net::dial::{self, Dial};
use crate::server::clients::Client;
use crate::server::config::PrimaryAddress;
use crate::server::failover;
use crate::server::replicas::FailoverStage;
use crate::server::role::{LinkState, LookAtLink};
use crate::server::role_change;
use crate::server::{Server, Worker};
use handshake::{Failed, Greeting, Request, Verdict, patience, plain, timed_out};
use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use wire::Wire;

/// Pause before the next try after a refusal.
const PAUSE: Duration = Duration::from_secs(1);
/// How often that is doubled, while one snapshot after the other fails for a reason of our own.
const DOUBLED_MAX: u32 = 4;

/// Starts the thread that owns the link. To be called once, when the data set of the disk has been loaded.
pub fn start(server: &'static Server) -> std::io::Result<()> {
    if server.is_replica.load(Ordering::Acquire) {
        // Kept from the first byte on: this replica may be promoted.
        server.journal.set_retained(server.config.current().repl_backlog_size);
        server.journal.set_active(true);
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let run = move || runtime.block_on(run(server));
    std::thread::Builder::new().name("replica".into()).spawn(run).map(drop)
}

async fn run(server: &'static Server) {
    let mut replica = Replica { server, worker: Worker::new(server), epoch: 0, own_failures: 0 };
    loop {
        replica.epoch = server.role.epoch();
        replica.own_failures = 0;
        replica.worker.follows = None;
        replica.worker.stream.clear();
        replica.worker.renew_settings();
        let epoch = replica.epoch;
        let changed = poll_fn(move |context| server.role.poll_changed(epoch, context));
        match server.role.primary() {
            None => {
                full_sync::restart_aof(server);
                changed.await;
            }
            Some(primary) => {
                tokio::select! {
                    biased;
                    () = changed => {}
                    () = replica.follow(&primary) => {}
                }
            }
        }
    }
}

/// What the link's thread works with.
struct Replica {
    server: &'static Server,
    worker: Worker,
    /// The role on whose behalf it works.
    epoch: u64,
    /// Snapshots in a row that came whole, or would have, and were of no use to us.
    own_failures: u32,
}

/// How one connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum After {
    AtOnce,
    Pause,
}

/// Others may look at the link's connection while it lasts.
struct Watched(&'static Server);

impl Drop for Watched {
    fn drop(&mut self) {
        self.0.role.set_look(None);
    }
}

/// Has others see at once that the connection is over, or the link's client killed, however late this thread gets to it.
fn let_others_look(server: &Server, wire: &Wire, client: Option<Arc<Client>>) {
    // Without a second handle (there may be too many) the link is up until its thread says otherwise.
    server.role.set_look(wire.stream().watch().ok().map(|watch| -> LookAtLink {
        Box::new(move || client.as_ref().is_some_and(|client| client.is_killed()) || watch.has_hung_up())
    }));
}

/// Pause after so many snapshots in a row that failed for a reason of our own.
fn pause_after(own_failures: u32) -> Duration {
    PAUSE * (1 << own_failures.saturating_sub(1).min(DOUBLED_MAX))
}

impl Replica {
    /// Follows a primary through any number of connections; ends with the role.
    async fn follow(&mut self, primary: &PrimaryAddress) {
        while self.server.role.epoch() == self.epoch {
            tracing::info!("Connecting to MASTER {}:{}", primary.host, primary.port);
            let own_failures = self.own_failures;
            let after = self.connect(primary).await.unwrap_or(After::Pause);
            self.note(LinkState::Connect);
            if after == After::Pause {
                let is_ours = self.own_failures > own_failures;
                tokio::time::sleep(if is_ours { pause_after(self.own_failures) } else { PAUSE }).await;
            }
        }
    }

    fn note(&self, state: LinkState) {
        let now_ms = clock::unix_ms();
        self.server.role.update_link(self.epoch, |link| {
            if link.state == LinkState::Connected && state != LinkState::Connected {
                link.down_since_ms = Some(now_ms);
            } else if state == LinkState::Connected {
                link.down_since_ms = None;
            }
            link.state = state;
        });
    }

    /// One connection, from dialing to its end.
    async fn connect(&mut self, primary: &PrimaryAddress) -> Result<After, Failed> {
        let server = self.server;
        self.note(LinkState::Connecting);
        tracing::info!("MASTER <-> REPLICA sync started");
        let source = server.config.current().bind_source_addr.as_ref().and_then(|source| source.parse().ok());
        let dial = Dial { source, timeout: patience(server) };
        let dialed = match server.tls.client() {
            Some(tls) if server.config.current().tls_replication => {
                dial::tls(&primary.host, primary.port, &dial, tls).await
            }
            // With tls-replication there always is a context: the setting is refused otherwise.
            _ => dial::tcp(&primary.host, primary.port, &dial).await,
        };
        let stream = dialed.map_err(|error| {
            if error.kind() == std::io::ErrorKind::TimedOut {
                return timed_out();
            }
            tracing::warn!("Error condition on socket for SYNC: {}", plain(&error));
            Failed
        })?;
        tracing::info!("Non blocking connect for SYNC fired the event.");
        let mut wire = Wire::new(server, stream);
        let _watched = Watched(server);
        let_others_look(server, &wire, None);
        self.note(LinkState::Handshake);
        let verdict = self.shake_hands(&mut wire).await?;
        // If this was about FAILOVER, it has come to its end.
        failover::conclude(server, matches!(verdict, Verdict::Continue(_) | Verdict::Full { .. }));
        match verdict {
            Verdict::Later => return Err(Failed),
            Verdict::Continue(replid) => self.go_on(replid),
            Verdict::Full { replid, offset } => {
                self.receive(&mut wire, replid, offset).await.map_err(|_| self.reconnecting(primary))?;
            }
            Verdict::Unsupported => {
                tracing::info!("Retrying with SYNC...");
                if let Err(error) = wire.write(b"SYNC\r\n").await {
                    tracing::warn!("I/O error writing to MASTER: {}", plain(&error));
                    return Err(Failed);
                }
                // A history without a name: nobody can continue it.
                self.receive(&mut wire, crate::server::role::new_replid(), 0).await?;
            }
        }
        self.stream(&mut wire).await;
        tracing::warn!("Connection with master lost.");
        tracing::info!("Caching the disconnected master state.");
        tracing::info!("Reconnecting to MASTER {}:{}", primary.host, primary.port);
        Ok(After::AtOnce)
    }

    fn reconnecting(&self, primary: &PrimaryAddress) -> Failed {
        tracing::info!("Reconnecting to MASTER {}:{} after failure", primary.host, primary.port);
        Failed
    }

    async fn shake_hands(&self, wire: &mut Wire) -> Result<Verdict, Failed> {
        let introduction = Greeting(wire).ping().await?;
        let question = introduction.introduce(&self.server.config.current()).await?;
        question.ask(&self.request()).await
    }

    fn request(&self) -> Request {
        let (role, link) = (&self.server.role, self.server.role.link());
        let known = link.may_continue.then(|| (role.ids().replid, self.server.journal.end()));
        Request { known, hands_over: self.server.replicas.failover_stage() == FailoverStage::InProgress }
    }

    /// The primary goes on where we are. Its history may have got another name: ours follows, and replicas must hear it.
    fn go_on(&mut self, replid: Option<String>) {
        let server = self.server;
        tracing::info!("MASTER <-> REPLICA sync: Master accepted a Partial Resynchronization.");
        let _all = server.keyspace.lock_all();
        if server.role.epoch() != self.epoch {
            return;
        }
        if let Some(replid) = replid.filter(|replid| *replid != server.role.ids().replid) {
            tracing::warn!("Master replication ID changed to {replid}");
            let end = server.journal.end();
            server.role.change_ids(|ids| ids.rename(replid, end));
            role_change::drop_replicas(server);
        }
        server.role.read_offset.store(server.journal.end(), Ordering::Relaxed);
        self.note(LinkState::Connected);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_with_failures_of_our_own_up_to_a_limit() {
        let seconds: Vec<u64> = (1..=7).map(|failures| pause_after(failures).as_secs()).collect();
        assert_eq!(seconds, [1, 2, 4, 8, 16, 16, 16]);
    }
}
