//! A worker: one thread's share of the server. It serves its connections' commands from start to end by itself.

use super::blocking::Release;
use super::config::{Config, EncodingNames};
use super::dispatch::Resolved;
use super::journal::Audience;
use super::pause::{Pause, PauseMode};
use super::state::Server;
use super::stats::WorkerStats;
use crate::base::clock::{self, Stopwatch};
use crate::base::random::Random;
use crate::commands::effects::Effects;
use crate::commands::settings::Settings;
use crate::engine::keyspace::OnExpired;
use crate::engine::keyspace::waiters::Ticket;
use crate::resp::OwnedArgs;
use std::sync::Arc;
use std::sync::atomic::Ordering;

pub struct Worker {
    pub server: &'static Server,
    pub config: Arc<Config>,
    pub settings: Settings,
    pub stats: Arc<WorkerStats>,
    pub random: Random,
    pub stopwatch: Stopwatch,
    /// Milliseconds since the epoch, read once per batch.
    pub now_ms: i64,
    /// Stopwatch reading at which the last command ended; the next one's time counts from there.
    pub lap: u64,
    /// Commands that take so long are looked at by the slow log and the latency monitor.
    pub slow_ns: u64,
    /// The hard output limit of normal clients, at which endless replies stop.
    pub reply_limit: usize,
    /// CLIENT PAUSE, and whether MONITOR is in use; as of the beginning of the batch.
    pub pause: Pause,
    pub has_monitors: bool,
    /// Something may make the server refuse commands (loading, a busy script, a failed save); as of the beginning of the batch or
    /// this worker's last command on the server.
    pub in_special_state: bool,
    /// Keys of some slot move between nodes, from or to this one.
    pub has_open_slots: bool,
    /// Generation of the users that this worker goes by.
    pub acl_generation: u64,
    config_generation: u64,
    settings_generation: u64,
    /// The role that requests were admitted under.
    pub role_epoch: u64,
    /// This worker applies the stream of the primary that was followed in this epoch: whatever else changes, it acts for that
    /// role, and sees what the primary saw.
    pub follows: Option<u64>,
    /// Bytes of the primary's stream that the running command goes into our own with.
    pub stream: Vec<u8>,
    pub effects: Effects,
    /// What the running command, transaction or script sends to the journal, in order: (database, arguments).
    pub unit: Vec<(usize, OwnedArgs)>,
    /// Which of these are not for everybody, by their places.
    pub narrow: Vec<(usize, Audience)>,
    /// Offset behind what the running command has written to the journal; 0 = nothing.
    pub appended: u64,
    /// Keys that blocked clients may now be served from, in order of their change.
    pub ready: Vec<(usize, Box<[u8]>)>,
    /// Such keys whose waiters need shards that were not locked; and waits to end once nothing is locked any more.
    pub overdue: Vec<(usize, Box<[u8]>)>,
    pub releases: Vec<(Arc<Ticket>, Release)>,
    /// What the look-ahead found out about the requests of the batch.
    pub resolved: Vec<Resolved>,
    pub eviction_pool: super::evict::Pool,
    /// Memory was over its limit when the running command began, and nothing could be evicted.
    pub out_of_memory: bool,
    /// Hashes of the running command's keys, by address.
    pub planned: Vec<(usize, u64)>,
    /// Changed keys of the running unit for clients that cache by prefix (BCAST).
    pub broadcast: Vec<Box<[u8]>>,
    /// Who changed them.
    pub broadcast_by: u64,
    /// The script that runs here, as other workers see it.
    pub script: &'static super::scripts::Run,
}

impl Worker {
    pub fn new(server: &'static Server) -> Self {
        let config = server.config.current();
        let (stats, script) = server.seat();
        let mut worker = Worker {
            server,
            settings: Settings::default(),
            stats,
            random: Random::from_entropy(),
            stopwatch: Stopwatch::new(),
            now_ms: clock::unix_ms(),
            lap: 0,
            slow_ns: u64::MAX,
            reply_limit: 0,
            pause: Pause::default(),
            has_monitors: false,
            in_special_state: false,
            has_open_slots: false,
            acl_generation: server.acl.generation(),
            config_generation: server.config.generation(),
            settings_generation: server.settings_generation.load(Ordering::Acquire),
            role_epoch: 0,
            follows: None,
            stream: Vec::new(),
            effects: Effects::default(),
            unit: Vec::new(),
            narrow: Vec::new(),
            appended: 0,
            ready: Vec::new(),
            overdue: Vec::new(),
            releases: Vec::new(),
            resolved: Vec::new(),
            eviction_pool: super::evict::Pool::default(),
            out_of_memory: false,
            planned: Vec::new(),
            broadcast: Vec::new(),
            broadcast_by: 0,
            script,
            config,
        };
        worker.renew_settings();
        worker
    }

    /// To be called before each batch: reads the clock, and the configuration if it has changed.
    #[inline]
    pub fn refresh(&mut self) {
        self.now_ms = clock::unix_ms();
        self.renew_if_changed();
        self.note_state();
    }

    /// Looks whether the server is in a state in which it refuses commands.
    #[inline]
    pub fn note_state(&mut self) {
        let server = self.server;
        self.in_special_state = self.config.min_replicas_to_write > 0
            || server.loading.load(Ordering::Relaxed)
            || server.async_loading.load(Ordering::Relaxed)
            || server.scripts.running.is_busy()
            || server.save_status.is_alarmed();
    }

    /// Whether something has changed since that running commands must know of (CLIENT PAUSE, MONITOR). Who holds the locks of a command
    /// and finds nothing changed runs before whatever changes next under all locks.
    #[inline]
    pub fn is_outdated(&self) -> bool {
        self.server.settings_generation.load(Ordering::Acquire) != self.settings_generation
    }

    /// Renews what is cached of the configuration if it has changed. The limits of a request count before it is parsed.
    #[inline]
    pub fn renew_if_changed(&mut self) {
        self.lap = self.stopwatch.raw();
        let config_generation = self.server.config.generation();
        let settings_generation = self.server.settings_generation.load(Ordering::Acquire);
        let pause_over = self.pause.mode != PauseMode::None && self.pause.until_ms <= self.now_ms;
        let changed = config_generation != self.config_generation || settings_generation != self.settings_generation;
        if changed || pause_over {
            self.config_generation = config_generation;
            self.settings_generation = settings_generation;
            // Waits out a DEBUG SLEEP, which has raised the generation for this.
            drop(self.server.standstill.lock());
            self.now_ms = clock::unix_ms();
            self.lap = self.stopwatch.raw();
            self.renew_settings();
        }
    }

    /// The configuration after a change by this worker's own command.
    #[cold]
    pub fn renew_settings(&mut self) {
        // In this order: what is read behind the epoch is at least as new.
        self.role_epoch = self.follows.unwrap_or_else(|| self.server.role.epoch());
        self.config = self.server.config.current();
        self.acl_generation = self.server.acl.generation();
        let config = &self.config;
        let slowlog_ns = u64::try_from(config.slowlog_log_slower_than).map_or(u64::MAX, |us| us.saturating_mul(1000));
        let latency_ns = match config.latency_monitor_threshold {
            0 => u64::MAX,
            ms => ms.saturating_mul(1_000_000),
        };
        self.slow_ns = slowlog_ns.min(latency_ns);
        self.reply_limit = usize::try_from(config.client_output_buffer_limit.normal.hard_bytes).unwrap_or(usize::MAX);
        self.pause = self.server.pauses.at(self.now_ms);
        self.has_open_slots = self.config.cluster_enabled && self.server.slots.map().has_open();
        self.has_monitors = !self.server.monitors.is_empty();
        let is_replica = self.server.is_replica.load(Ordering::Acquire);
        self.settings = Settings {
            limits: Arc::clone(&config.limits),
            databases: self.server.keyspace.databases(),
            cluster_enabled: config.cluster_enabled,
            old_encoding_names: config.encoding_names == EncodingNames::Redis70,
            bulk_len_max: config.proto_max_bulk_len,
            lfu: config.maxmemory_policy.is_lfu(),
            shares_integers: config.maxmemory == 0 || !config.maxmemory_policy.needs_access_bits(),
            lfu_log_factor: config.lfu_log_factor,
            lfu_decay_minutes: config.lfu_decay_time,
            on_expired: if self.follows.is_some() {
                // The primary decides what has expired.
                OnExpired::Ignore
            } else if is_replica || self.pause.mode != PauseMode::None {
                OnExpired::Hide
            } else {
                OnExpired::Remove
            },
            lazy_user_del: config.lazyfree_lazy_user_del,
            lazy_server_del: config.lazyfree_lazy_server_del,
            lazy_expire: config.lazyfree_lazy_expire,
            lazy_user_flush: config.lazyfree_lazy_user_flush,
            rdb_compression: config.rdbcompression,
            skip_checksum: self.server.save_status.skip_checksum.load(Ordering::Acquire),
            notify: config.notify_keyspace_events,
        };
    }

    /// Ends the measurement of a command: nanoseconds since the last lap.
    #[inline]
    pub fn lap_ns(&mut self) -> u64 {
        let now = self.stopwatch.raw();
        let ns = self.stopwatch.ns_between(self.lap, now);
        self.lap = now;
        ns
    }
}

/// Loading makes a worker for every append-only file: what they count by must not be left behind each time.
impl Drop for Worker {
    fn drop(&mut self) {
        self.server.leave((Arc::clone(&self.stats), self.script));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::config::ConfigStore;
    use crate::server::table::CommandTable;

    #[test]
    fn whoever_goes_leaves_the_counters_to_the_next() {
        let table = CommandTable::leak(crate::commands::FAMILIES, crate::server::commands::FAMILIES);
        let server = Server::leak(ConfigStore::new(Config::default()), table, None, 0);
        let first = Worker::new(server);
        first.stats.commands_processed.add(3);
        drop(first);
        let (second, third) = (Worker::new(server), Worker::new(server));
        second.stats.commands_processed.add(1);
        third.stats.commands_processed.add(1);
        let mut workers = 0;
        server.for_each_worker(|_| workers += 1);
        assert_eq!((workers, server.sum(|stats| stats.commands_processed.value())), (2, 5));
    }
}
