//! Before the end: replicas get what is on its way to them, and one of them the role, if that is wished.

use super::cron;
use crate::base::clock;
use crate::server::Server;
use crate::server::failover;
use crate::server::intents::ShutdownWish;
use crate::server::pause::{PauseMode, Purpose};
use crate::server::replicas::{FailoverStage, ReplicaState};
use std::sync::atomic::Ordering;
use std::task::Waker;
use std::time::Duration;

/// How often a waiting shutdown looks.
const LOOK: Duration = Duration::from_millis(5);

/// What became of the wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Waited {
    /// Go on, as wished now: a later SHUTDOWN may have said more.
    Done(ShutdownWish),
    Aborted,
}

/// Waits until every replica has acknowledged everything, shutdown-timeout is over, or somebody says NOW. Writes wait meanwhile,
/// and when this is over.
pub async fn await_replicas(server: &'static Server, mut wish: ShutdownWish) -> Waited {
    let config = server.config.current();
    let may_wait = !wish.now && config.shutdown_timeout > 0 && !server.loading.load(Ordering::Acquire);
    let has_replicas = !server.replicas.is_empty();
    if may_wait && has_replicas && (!is_ready(server) || config.failover_on_shutdown) {
        let now_ms = clock::unix_ms();
        let deadline_ms = now_ms + i64::from(config.shutdown_timeout) * 1000;
        server.pause_clients(Purpose::Shutdown, PauseMode::Writes, i64::MAX, now_ms);
        server.intents.set_shutdown_deadline(deadline_ms);
        tracing::info!("Waiting for replicas before shutting down.");
        cron::ask_for_acks(server, server.journal.end());
        while clock::unix_ms() < deadline_ms && !is_ready(server) {
            tokio::time::sleep(LOOK).await;
            if let Some(later) = server.intents.poll_shutdown(Waker::noop()) {
                wish = later;
            }
            if !server.intents.is_shutting_down() {
                return Waited::Aborted;
            }
            if wish.now {
                break;
            }
        }
        if config.failover_on_shutdown && !server.is_replica.load(Ordering::Acquire) {
            hand_over(server, deadline_ms).await;
        }
    }
    report(server);
    Waited::Done(wish)
}

/// Whether every replica has all changes; PING and the like behind them do not matter.
fn is_ready(server: &Server) -> bool {
    let end = server.journal.changes_end();
    server.replicas.all().iter().all(|replica| replica.state() == ReplicaState::Transmitted || replica.ack() >= end)
}

/// Gives the role to the best replica, if one is there in time.
async fn hand_over(server: &'static Server, deadline_ms: i64) {
    let Some(target) = failover::best(server) else { return };
    let port = target.announced.lock().port;
    tracing::info!("Handing over to replica {} before shutting down.", target.name());
    failover::begin(server, Some((target.ip(), port)), false, Some(deadline_ms), clock::unix_ms());
    while server.replicas.failover_stage() != FailoverStage::None && server.intents.is_shutting_down() {
        tokio::time::sleep(LOOK).await;
        failover::look(server, clock::unix_ms());
        if clock::unix_ms() >= deadline_ms {
            return failover::abort(server, "The shutdown does not wait longer");
        }
    }
}

/// Who has everything, and who has not.
fn report(server: &Server) {
    let (end, now_ms) = (server.journal.changes_end(), clock::unix_ms());
    let replicas = server.replicas.all();
    if replicas.is_empty() || server.is_replica.load(Ordering::Acquire) {
        return;
    }
    let lagging: Vec<_> = replicas.iter().filter(|replica| replica.ack() < end).collect();
    for replica in &lagging {
        let lag_s = if replica.is_online() { replica.lag_ms(now_ms) / 1000 } else { 0 };
        tracing::warn!(
            "Lagging replica {} reported offset {} behind master, lag={lag_s}, state={}.",
            replica.name(),
            server.journal.end().saturating_sub(replica.ack()),
            replica.state().name().unwrap_or("transmitted")
        );
    }
    tracing::info!("{} of {} replicas are in sync when shutting down.", replicas.len() - lagging.len(), replicas.len());
}
