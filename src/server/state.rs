//! Everything that workers share. One value, made by `boot`, alive until the process ends.

use super::acl::Acl;
use super::clients::Clients;
use super::commands::debug::DebugCommand;
use super::config::ConfigStore;
use super::evict::Eviction;
use super::expire_cycle::ExpireCycle;
use super::intents::Intents;
use super::journal::Journal;
use super::latency::LatencyMonitor;
use super::lazyfree::LazyFree;
use super::migrations::Migrations;
use super::monitor::Monitors;
use super::own_expiry::OwnExpiries;
use super::pause::Pauses;
use super::process::ProcessFacts;
use super::pubsub::PubSub;
use super::replicas::Replicas;
use super::role::Role;
use super::save_status::SaveStatus;
use super::scripts::{self, Scripts};
use super::slots::Slots;
use super::slowlog::SlowLog;
use super::stats::{ServerStats, WorkerStats};
use super::table::CommandTable;
use super::tracking::Tracking;
use super::workers::Workers;
use crate::commands::effects::Observers;
use crate::engine::keyspace::{Keyspace, Locked, ShardSet, place};
use parking_lot::{Mutex, RwLock};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

pub struct Server {
    pub config: ConfigStore,
    pub keyspace: &'static Keyspace,
    pub table: &'static CommandTable,
    pub acl: Acl,
    pub clients: Clients,
    pub journal: Journal,
    pub stats: ServerStats,
    pub slowlog: SlowLog,
    pub latency: LatencyMonitor,
    pub intents: Intents,
    pub pubsub: PubSub,
    pub scripts: Scripts,
    /// DEBUG SET-DISABLE-DENY-SCRIPTS: scripts may call what is flagged noscript.
    pub allow_noscript: AtomicBool,
    /// Serves this thread's other clients while a busy script keeps it; placed by `boot`.
    pub busy_hook: OnceLock<fn(&'static Server)>,
    /// Told when this server has become a replica or a primary; placed by `boot`.
    pub role_hook: OnceLock<fn(&Server)>,
    pub tracking: Tracking,
    pub monitors: Monitors,
    pub pauses: Pauses,
    pub lazyfree: LazyFree,
    pub expire_cycle: ExpireCycle,
    pub eviction: Eviction,
    pub save_status: SaveStatus,
    pub workers: Workers,
    /// One set of counters per worker, and one for background work.
    worker_stats: RwLock<Vec<Arc<WorkerStats>>>,
    empty_seats: Mutex<Vec<Seat>>,
    /// Clients that use client-side caching.
    pub tracking_clients: AtomicUsize,
    /// Raised whenever something that workers cache besides the configuration changes (the role, for one).
    pub settings_generation: AtomicU64,
    /// A data set is being loaded.
    pub loading: AtomicBool,
    /// A data set is being loaded that will replace the one in use, which is served meanwhile.
    pub async_loading: AtomicBool,
    /// This server follows a primary.
    pub is_replica: AtomicBool,
    /// Its history in replication.
    pub role: Role,
    /// What clients of a writable replica made expire.
    pub own_expiries: OwnExpiries,
    /// What TLS connections begin with.
    pub tls: crate::net::tls::Contexts,
    /// Those that follow this server.
    pub replicas: Replicas,
    pub migrations: Migrations,
    /// Who serves which slot, in cluster mode.
    pub slots: Slots,
    /// Changes since the last successful save.
    pub dirty: AtomicI64,
    /// DEBUG SET-ACTIVE-EXPIRE 0 stops the cycle.
    pub active_expire: AtomicBool,
    /// DEBUG PAUSE-CRON 1 stops all periodic work.
    pub cron_paused: AtomicBool,
    /// What DEBUG switches, for tests.
    pub switches: Switches,
    /// DEBUG SLEEP holds it; every worker passes it on its next batch.
    pub standstill: Mutex<()>,
    debug_commands: OnceLock<Vec<&'static [DebugCommand]>>,
    /// Facts of the process that no command can find out by itself: `front` fills them in.
    pub process: ProcessFacts,
    /// Random identity of this run: 40 hexadecimal digits.
    pub run_id: String,
    pub started_ms: i64,
    /// Absolute path of the configuration file, if there is one.
    pub config_file: Option<std::path::PathBuf>,
}

/// What the server keeps of a worker: its counters, and its scripts as others see them.
pub type Seat = (Arc<WorkerStats>, &'static scripts::Run);

/// DEBUG's switches.
pub struct Switches {
    pub reply_buffer_resizing: AtomicBool,
    /// Milliseconds after which a client's reply buffer forgets its peak; -1: never.
    pub reply_peak_reset_ms: AtomicI64,
}

/// DEBUG REPLYBUFFER PEAK-RESET-TIME RESET.
pub const REPLY_PEAK_RESET_MS: i64 = 5000;

impl Default for Switches {
    fn default() -> Self {
        Switches {
            reply_buffer_resizing: AtomicBool::new(true),
            reply_peak_reset_ms: AtomicI64::new(REPLY_PEAK_RESET_MS),
        }
    }
}

impl Server {
    /// Leaked on purpose: a process has one server, and every worker, session and task refers to it.
    pub fn leak(
        config: ConfigStore,
        table: &'static CommandTable,
        config_file: Option<std::path::PathBuf>,
        now_ms: i64,
    ) -> &'static Self {
        let in_cluster = config.current().cluster_enabled;
        if in_cluster {
            place::live_by_slot();
        }
        let databases = if in_cluster { 1 } else { config.current().databases };
        let primary = config.current().replicaof.clone();
        let workers = Workers::new(config.current().io_threads);
        let acl = Acl::new(table, &config.current());
        Box::leak(Box::new(Server {
            config,
            acl,
            keyspace: Keyspace::leak(databases),
            table,
            clients: Clients::default(),
            journal: Journal::of(primary.is_some()),
            stats: ServerStats::default(),
            slowlog: SlowLog::default(),
            latency: LatencyMonitor::default(),
            intents: Intents::default(),
            pubsub: PubSub::default(),
            scripts: Scripts::default(),
            allow_noscript: AtomicBool::new(false),
            busy_hook: OnceLock::new(),
            role_hook: OnceLock::new(),
            tracking: Tracking::default(),
            monitors: Monitors::default(),
            pauses: Pauses::default(),
            lazyfree: LazyFree::default(),
            expire_cycle: ExpireCycle::default(),
            eviction: Eviction::default(),
            save_status: SaveStatus::default(),
            workers,
            worker_stats: RwLock::default(),
            empty_seats: Mutex::default(),
            tracking_clients: AtomicUsize::new(0),
            settings_generation: AtomicU64::new(0),
            loading: AtomicBool::new(false),
            async_loading: AtomicBool::new(false),
            is_replica: AtomicBool::new(primary.is_some()),
            role: Role::of(primary),
            own_expiries: OwnExpiries::default(),
            tls: crate::net::tls::Contexts::default(),
            replicas: Replicas::default(),
            migrations: Migrations::default(),
            slots: if in_cluster { Slots::of_node() } else { Slots::default() },
            dirty: AtomicI64::new(0),
            active_expire: AtomicBool::new(true),
            cron_paused: AtomicBool::new(false),
            switches: Switches::default(),
            standstill: Mutex::default(),
            debug_commands: OnceLock::new(),
            process: ProcessFacts::default(),
            run_id: super::role::new_replid(),
            started_ms: now_ms,
            config_file,
        }))
    }

    /// What a new worker counts with and shows its scripts by: what one that is gone has left, if there is any.
    pub fn seat(&self) -> Seat {
        if let Some(seat) = self.empty_seats.lock().pop() {
            return seat;
        }
        let stats = Arc::new(WorkerStats::new(self.table.len()));
        self.worker_stats.write().push(Arc::clone(&stats));
        (stats, self.scripts.running.add_worker())
    }

    /// A worker goes; what it has counted stays in the sums.
    pub fn leave(&self, seat: Seat) {
        self.empty_seats.lock().push(seat);
    }

    /// Adds up one figure over all workers.
    pub fn sum(&self, figure: impl Fn(&WorkerStats) -> u64) -> u64 {
        self.worker_stats.read().iter().map(|stats| figure(stats)).sum()
    }

    pub fn for_each_worker(&self, visit: impl FnMut(&Arc<WorkerStats>)) {
        self.worker_stats.read().iter().for_each(visit);
    }

    /// The subcommands of DEBUG, of all rooms; `boot` sets them once.
    pub fn declare_debug_commands(&self, commands: Vec<&'static [DebugCommand]>) {
        let _ = self.debug_commands.set(commands);
    }

    pub fn debug_commands(&self) -> impl Iterator<Item = &'static DebugCommand> {
        self.debug_commands.get().into_iter().flatten().copied().flatten()
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

    /// Locks shards for a client's command; nothing if a script that keeps them becomes busy meanwhile.
    #[inline]
    pub fn lock(&self, set: ShardSet) -> Option<Locked> {
        self.keyspace.lock_unless(set, || self.scripts.running.is_busy())
    }

    /// Called by a script that has run for too long, every now and then.
    pub fn serve_while_busy(&'static self) {
        if let Some(hook) = self.busy_hook.get() {
            hook(self);
        }
    }

    /// Makes every worker renew its settings before its next batch.
    pub fn renew_settings(&self) {
        self.settings_generation.fetch_add(1, Ordering::Release);
    }
}
