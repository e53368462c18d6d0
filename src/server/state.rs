//! Everything that workers share. One value, made by `boot`, alive until the process ends.

use super::clients::Clients;
use super::config::ConfigStore;
use super::evict::Eviction;
use super::expire_cycle::ExpireCycle;
use super::intents::Intents;
use super::journal::Journal;
use super::lazyfree::LazyFree;
use super::monitor::Monitors;
use super::pause::Pauses;
use super::pubsub::PubSub;
use super::stats::{ServerStats, WorkerStats};
use super::table::CommandTable;
use super::tracking::Tracking;
use crate::commands::effects::Observers;
use crate::engine::keyspace::Keyspace;
use parking_lot::RwLock;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, AtomicUsize, Ordering};

pub struct Server {
    pub config: ConfigStore,
    pub keyspace: &'static Keyspace,
    pub table: &'static CommandTable,
    pub clients: Clients,
    pub journal: Journal,
    pub stats: ServerStats,
    pub intents: Intents,
    pub pubsub: PubSub,
    pub tracking: Tracking,
    pub monitors: Monitors,
    pub pauses: Pauses,
    pub lazyfree: LazyFree,
    pub expire_cycle: ExpireCycle,
    pub eviction: Eviction,
    /// One set of counters per worker, and one for background work.
    worker_stats: RwLock<Vec<Arc<WorkerStats>>>,
    /// Clients that use client-side caching.
    pub tracking_clients: AtomicUsize,
    /// Raised whenever something that workers cache besides the configuration changes (the role, for one).
    pub settings_generation: AtomicU64,
    /// A data set is being loaded.
    pub loading: AtomicBool,
    /// This server follows a primary.
    pub is_replica: AtomicBool,
    /// Changes since the last successful save.
    pub dirty: AtomicI64,
    /// DEBUG SET-ACTIVE-EXPIRE 0 stops the cycle.
    pub active_expire: AtomicBool,
    /// DEBUG PAUSE-CRON 1 stops all periodic work.
    pub cron_paused: AtomicBool,
    /// Random identity of this run: 40 hexadecimal digits.
    pub run_id: String,
    pub started_ms: i64,
    /// Absolute path of the configuration file, if there is one.
    pub config_file: Option<std::path::PathBuf>,
}

impl Server {
    /// Leaked on purpose: a process has one server, and every worker, session and task refers to it.
    pub fn leak(
        config: ConfigStore,
        table: &'static CommandTable,
        config_file: Option<std::path::PathBuf>,
        now_ms: i64,
    ) -> &'static Self {
        let databases = config.current().databases;
        let mut random = crate::base::random::Random::from_entropy();
        let run_id = (0..40).map(|_| char::from(b"0123456789abcdef"[random.below(16) as usize])).collect();
        Box::leak(Box::new(Server {
            config,
            keyspace: Keyspace::leak(databases),
            table,
            clients: Clients::default(),
            journal: Journal::default(),
            stats: ServerStats::default(),
            intents: Intents::default(),
            pubsub: PubSub::default(),
            tracking: Tracking::default(),
            monitors: Monitors::default(),
            pauses: Pauses::default(),
            lazyfree: LazyFree::default(),
            expire_cycle: ExpireCycle::default(),
            eviction: Eviction::default(),
            worker_stats: RwLock::default(),
            tracking_clients: AtomicUsize::new(0),
            settings_generation: AtomicU64::new(0),
            loading: AtomicBool::new(false),
            is_replica: AtomicBool::new(false),
            dirty: AtomicI64::new(0),
            active_expire: AtomicBool::new(true),
            cron_paused: AtomicBool::new(false),
            run_id,
            started_ms: now_ms,
            config_file,
        }))
    }

    /// Counters for a new worker.
    pub fn add_worker_stats(&self) -> Arc<WorkerStats> {
        let stats = Arc::new(WorkerStats::new(self.table.len()));
        self.worker_stats.write().push(Arc::clone(&stats));
        stats
    }

    /// Adds up one figure over all workers.
    pub fn sum(&self, figure: impl Fn(&WorkerStats) -> u64) -> u64 {
        self.worker_stats.read().iter().map(|stats| figure(stats)).sum()
    }

    pub fn for_each_worker(&self, visit: impl FnMut(&Arc<WorkerStats>)) {
        self.worker_stats.read().iter().for_each(visit);
    }

    /// Who listens to changes right now.
    #[inline]
    pub fn observers(&self, notify: crate::commands::effects::EventClasses) -> Observers {
        Observers {
            journal: self.journal.is_active(),
            tracking: self.tracking_clients.load(Ordering::Relaxed) > 0,
            notify,
        }
    }

    /// Makes every worker renew its settings before its next batch.
    pub fn renew_settings(&self) {
        self.settings_generation.fetch_add(1, Ordering::Release);
    }
}
