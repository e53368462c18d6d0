//! What clients may cost: output limits, the sum of their memory, idle time.
//!
//! ```text
//!   output of one client   hard limit ─► killed at once      soft limit ─► killed after so many seconds on end
//!   memory of all          maxmemory-clients ─► the biggest are killed until it fits
//! ```
//! A connection reports its buffers whenever it goes to sleep; nothing is added up per command.

use super::clients::{Client, Kind, OUTPUT_CHUNK, flag};
use super::config::Config;
use super::state::Server;
use super::worker::Worker;
use crate::base::clock;
use bytes::Bytes;
use std::sync::atomic::Ordering;

impl Server {
    /// Sends bytes that are not the reply to a request of this client, within its output limit.
    pub fn deliver(&self, client: &Client, bytes: Bytes) {
        let waiting = client.send(bytes);
        if waiting > OUTPUT_CHUNK {
            self.clients.count_memory(client);
            self.check_output(client, &self.config.current(), clock::unix_ms());
        }
    }

    /// Kills a client whose replies have piled up too high or for too long.
    pub fn check_output(&self, client: &Client, config: &Config, now_ms: i64) {
        let limits = &config.client_output_buffer_limit;
        let limit = match client.kind() {
            Kind::Normal => limits.normal,
            // Below the backlog a limit would drop who continues from there, again and again.
            Kind::Replica => limits.replica.at_least(config.repl_backlog_size),
            Kind::PubSub => limits.pubsub,
            Kind::Primary => return,
        };
        let listed = client.output().listed as u64;
        let over_hard = limit.hard_bytes > 0 && listed >= limit.hard_bytes;
        let over_soft = limit.soft_bytes > 0 && listed >= limit.soft_bytes;
        let since = &client.soft_since_ms;
        if !over_soft {
            since.store(0, Ordering::Relaxed);
        } else if since.load(Ordering::Relaxed) == 0 {
            since.store(now_ms, Ordering::Relaxed);
        }
        let soft_time = now_ms - since.load(Ordering::Relaxed);
        let over_time = over_soft && soft_time > limit.soft_seconds.saturating_mul(1000) as i64;
        if (over_hard || over_time) && !client.is_killed() {
            self.kill_for_output(client, listed);
        }
    }

    /// Kills a client that would get more than its limit.
    #[cold]
    pub fn kill_for_output(&self, client: &Client, bytes: u64) {
        self.stats.output_limit_disconnections.fetch_add(1, Ordering::Relaxed);
        tracing::warn!(
            "Client id={} addr={} laddr={} name={} omem={bytes} scheduled to be closed ASAP for overcoming of output \
             buffer limits.",
            client.id,
            client.addr,
            client.laddr,
            client.texts.lock().name
        );
        self.clients.kill(client);
    }

    /// The memory limit of clients with the figures of this moment, also of those whose worker has not reported yet.
    pub fn recount_clients(&self, config: &Config) {
        if config.maxmemory_clients_bytes() > 0 {
            self.clients.all().iter().for_each(|client| self.clients.count_memory(client));
            self.evict_clients(config);
        }
    }

    /// Kills the biggest clients until all of them together keep to maxmemory-clients.
    pub fn evict_clients(&self, config: &Config) {
        let limit = config.maxmemory_clients_bytes();
        if limit == 0 || self.clients.memory() <= limit {
            return;
        }
        let evictable = |client: &Client| {
            matches!(client.kind(), Kind::Normal | Kind::PubSub) && !client.has(flag::NO_EVICT) && !client.is_killed()
        };
        let mut candidates: Vec<_> = self.clients.all().into_iter().filter(|client| evictable(client)).collect();
        candidates.sort_by_key(|client| client.memory());
        while self.clients.memory() > limit {
            let Some(biggest) = candidates.pop() else { return };
            self.stats.evicted_clients.fetch_add(1, Ordering::Relaxed);
            tracing::info!("Evicting client: id={} addr={} tot-mem={}", biggest.id, biggest.addr, biggest.memory());
            self.clients.kill(&biggest);
        }
    }

    /// The same before a command, as long as the replies of the batch are not with the connection yet. False if this very client
    /// had to go.
    pub fn make_room_for_client(&self, client: &Client, config: &Config, reply_bytes: usize) -> bool {
        client.reply_bytes.store(reply_bytes, Ordering::Relaxed);
        self.clients.count_memory(client);
        self.evict_clients(config);
        !client.is_killed()
    }
}

/// Once a second: idle clients, soft limits, and memory limits that were lowered meanwhile.
pub fn check_clients(worker: &mut Worker) {
    let (server, config, now_ms) = (worker.server, &worker.config, worker.now_ms);
    let timeout_ms = i64::from(config.timeout) * 1000;
    for client in server.clients.all() {
        if client.has_output_backlog() {
            server.check_output(&client, config, now_ms);
        }
        let is_exempt = client.has(flag::BLOCKED | flag::REPLICA | flag::PRIMARY | flag::MONITOR | flag::PUBSUB);
        let idle_ms = now_ms - client.last_interaction_ms.load(Ordering::Relaxed);
        if timeout_ms > 0 && idle_ms > timeout_ms && !is_exempt {
            tracing::debug!("Closing idle client id={}", client.id);
            server.clients.kill(&client);
        }
    }
    server.evict_clients(config);
}
