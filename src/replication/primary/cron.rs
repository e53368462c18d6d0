//! What a primary does by itself: PING into the stream, newlines, timeouts, the end of an unused backlog, syncs that wait.

use super::link::{Link, Stage};
use super::{full_sync, primary};
use crate::engine::keyspace::ShardSet;
use crate::server::failover;
use crate::server::pause::Purpose;
use crate::server::replicas::FailoverStage;
use crate::server::{Server, Worker};
use std::sync::atomic::{AtomicI64, Ordering};

const PING: &[u8] = b"*1\r\n$4\r\nPING\r\n";
const GETACK: &[u8] = b"*3\r\n$8\r\nREPLCONF\r\n$6\r\nGETACK\r\n$1\r\n*\r\n";

/// To be called ten times a second.
pub fn run(worker: &mut Worker) {
    let (server, now_ms) = (worker.server, worker.now_ms);
    full_sync::try_start(server, now_ms);
    limit_output(worker);
    server.check_ack_waits();
    failover::look(server, now_ms);
    static DUE_MS: AtomicI64 = AtomicI64::new(0);
    if now_ms >= DUE_MS.load(Ordering::Relaxed) {
        DUE_MS.store(now_ms + 1000, Ordering::Relaxed);
        run_each_second(worker);
    }
}

fn run_each_second(worker: &Worker) {
    let (server, now_ms) = (worker.server, worker.now_ms);
    ping(worker);
    for link in primary().links.all() {
        link.keep_alive();
        if let Some(what) = timed_out(&link, i64::from(worker.config.repl_timeout) * 1000, now_ms) {
            tracing::warn!("Disconnecting timedout replica ({what}): {}", link.replica.name());
            server.clients.kill(&link.replica.client);
        }
    }
    server.refresh_good_replicas(now_ms);
    end_unused_backlog(worker);
}

/// Shows replicas that their primary is there.
fn ping(worker: &Worker) {
    static LAST_MS: AtomicI64 = AtomicI64::new(0);
    let (server, now_ms) = (worker.server, worker.now_ms);
    // The first one is due a period after the start.
    let _ = LAST_MS.compare_exchange(0, now_ms, Ordering::Relaxed, Ordering::Relaxed);
    let period_ms = i64::from(worker.config.repl_ping_replica_period) * 1000;
    if now_ms - LAST_MS.load(Ordering::Relaxed) < period_ms || server.replicas.is_empty() {
        return;
    }
    // While a replica takes over the stream must not grow.
    let is_handing_over =
        server.replicas.failover_stage() != FailoverStage::None || server.pauses.is_for(Purpose::Failover, now_ms);
    let is_due = !is_handing_over && !server.intents.is_shutting_down();
    if !is_due || append(server, PING) {
        LAST_MS.store(now_ms, Ordering::Relaxed);
    }
}

/// Into the stream, unless it is not ours: the role changes under all locks. False if a busy script keeps them; this thread accepts
/// clients and must not wait for it.
fn append(server: &Server, bytes: &[u8]) -> bool {
    let Some(_locked) = server.lock(ShardSet::one(0)) else { return false };
    if !server.is_replica.load(Ordering::Acquire) && server.journal.backlog().is_some() {
        server.journal.append_for_replicas(bytes);
    }
    true
}

/// Has replicas say how far they are, unless they were asked since that offset.
pub fn ask_for_acks(server: &Server, offset: u64) {
    if server.replicas.asked_at.load(Ordering::Acquire) > offset {
        return;
    }
    // Otherwise they say so within a second all the same.
    if append(server, GETACK) {
        server.replicas.asked_at.store(server.journal.end(), Ordering::Release);
    }
}

/// What a link was doing when its replica fell silent for too long.
fn timed_out(link: &Link, limit_ms: i64, now_ms: i64) -> Option<&'static str> {
    let inner = link.lock();
    match inner.stage {
        Stage::Payload(_) if inner.stalled_since_ms != 0 => {
            (now_ms - inner.stalled_since_ms > limit_ms).then_some("full sync")
        }
        Stage::Stream | Stage::AwaitAck | Stage::Transmitted if !link.is_old => {
            (link.replica.lag_ms(now_ms) > limit_ms).then_some("streaming sync")
        }
        _ => None,
    }
}

/// Output limits count what waits in the journal, and the limit is never below the backlog: a replica that continues from there
/// would be dropped at once, again and again.
fn limit_output(worker: &Worker) {
    for replica in worker.server.replicas.all() {
        let link = primary().links.find(replica.client.id).filter(|link| link.has_place_in_journal());
        let in_memory = |link| primary().spill.bytes_in_memory(worker.server, &link, &worker.config);
        let waiting = link.map_or(0, in_memory) as usize;
        replica.client.feed_bytes.store(waiting, Ordering::Relaxed);
        worker.server.check_output(&replica.client, &worker.config, worker.now_ms);
    }
}

fn end_unused_backlog(worker: &Worker) {
    let (server, now_ms) = (worker.server, worker.now_ms);
    let ttl_s = worker.config.repl_backlog_ttl as i64;
    let since_ms = server.replicas.none_since_ms.load(Ordering::Relaxed);
    if ttl_s == 0 || since_ms == 0 || now_ms - since_ms <= ttl_s.saturating_mul(1000) {
        return;
    }
    if server.is_replica.load(Ordering::Acquire) || server.journal.backlog().is_none() {
        return;
    }
    let Some(_locked) = server.lock(ShardSet::ALL) else { return };
    // The stream may stop here, so whoever comes back must not continue.
    if server.replicas.is_empty() && !server.is_replica.load(Ordering::Acquire) {
        server.role.change_ids(|ids| ids.renew());
        server.journal.set_retained(0);
        server.replicas.none_since_ms.store(0, Ordering::Relaxed);
        tracing::info!("Replication backlog freed after {ttl_s} seconds without connected replicas.");
    }
}
