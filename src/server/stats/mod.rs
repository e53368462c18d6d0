//! Counters: per worker where commands count, per server for what is rare. INFO adds them up.

pub mod latency_histogram;
pub mod rates;
pub mod running;

use super::state::Server;
use crate::base::counter::Counter;
use crate::commands::context::KeyStats;
use latency_histogram::LatencyHistogram;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// Scripts can answer errors of any code; beyond so many, further ones are not told apart.
const ERROR_CODES_MAX: usize = 128;
const ERRORS_DISABLED: &str = "ERRORSTATS_DISABLED";

/// One command's figures on one worker.
#[derive(Default)]
pub struct CommandStats {
    pub calls: Counter,
    /// Nanoseconds in the handler.
    pub time_ns: Counter,
    /// Refused before it ran.
    pub rejected: Counter,
    /// Ran and answered an error.
    pub failed: Counter,
    pub latency: OnceLock<Box<LatencyHistogram>>,
}

/// What one worker counts; only that worker writes.
pub struct WorkerStats {
    pub commands: Box<[CommandStats]>,
    pub keys: KeyStats,
    pub commands_processed: Counter,
    pub reads_processed: Counter,
    pub writes_processed: Counter,
    pub input_bytes: Counter,
    pub output_bytes: Counter,
    /// Error replies by prefix.
    pub errors: Mutex<BTreeMap<String, u64>>,
    pub error_replies: Counter,
    pub running: running::Running,
}

impl WorkerStats {
    pub fn new(commands: usize) -> Self {
        WorkerStats {
            commands: (0..commands).map(|_| CommandStats::default()).collect(),
            keys: KeyStats::default(),
            commands_processed: Counter::new(),
            reads_processed: Counter::new(),
            writes_processed: Counter::new(),
            input_bytes: Counter::new(),
            output_bytes: Counter::new(),
            errors: Mutex::default(),
            error_replies: Counter::new(),
            running: running::Running::default(),
        }
    }

    pub fn reset(&self) {
        for command in &self.commands {
            for counter in [&command.calls, &command.time_ns, &command.rejected, &command.failed] {
                counter.reset();
            }
            if let Some(latency) = command.latency.get() {
                latency.reset();
            }
        }
        let KeyStats { hits, misses, expired, expired_fields } = &self.keys;
        for counter in [
            hits,
            misses,
            expired,
            expired_fields,
            &self.commands_processed,
            &self.reads_processed,
            &self.writes_processed,
            &self.input_bytes,
            &self.output_bytes,
            &self.error_replies,
        ] {
            counter.reset();
        }
        self.errors.lock().clear();
    }

    pub fn count_error(&self, code: &str) {
        self.error_replies.add(1);
        let mut errors = self.errors.lock();
        if let Some(count) = errors.get_mut(code) {
            *count += 1;
        } else if errors.len() < ERROR_CODES_MAX {
            errors.insert(code.to_owned(), 1);
        } else if !errors.contains_key(ERRORS_DISABLED) {
            let codes: Vec<&str> = errors.keys().map(String::as_str).collect();
            tracing::warn!(
                "Errorstats stopped adding new errors because the number of errors reached the limit ({ERROR_CODES_MAX}). \
                 Current errors code list: {}",
                codes.join(", ")
            );
            errors.insert(ERRORS_DISABLED.to_owned(), 1);
        }
    }
}

/// Rare events of the whole server.
#[derive(Default)]
pub struct ServerStats {
    pub connections_received: AtomicU64,
    pub connections_rejected: AtomicU64,
    pub evicted_keys: AtomicU64,
    pub evicted_clients: AtomicU64,
    pub output_limit_disconnections: AtomicU64,
    pub query_limit_disconnections: AtomicU64,
    /// Bytes received from the primary: its stream and its snapshots.
    pub primary_bytes: AtomicU64,
    /// Commands of the primary's stream that failed here.
    pub unexpected_error_replies: AtomicU64,
    pub rates: rates::Rates,
}

impl ServerStats {
    fn reset(&self) {
        for counter in [
            &self.connections_received,
            &self.connections_rejected,
            &self.evicted_keys,
            &self.evicted_clients,
            &self.output_limit_disconnections,
            &self.query_limit_disconnections,
            &self.primary_bytes,
            &self.unexpected_error_replies,
        ] {
            counter.store(0, Ordering::Relaxed);
        }
        self.rates.reset();
    }
}

impl Server {
    /// CONFIG RESETSTAT.
    pub fn reset_statistics(&self) {
        self.for_each_worker(|stats| stats.reset());
        self.stats.reset();
        self.acl.log.reset_counts();
        self.expire_cycle.reset_stats();
        self.eviction.reset_stats();
        self.replicas.reset_stats();
        self.lazyfree.freed.store(0, Ordering::Relaxed);
    }
}
