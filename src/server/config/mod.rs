//! The configuration: every directive declared once, read from redis.conf syntax, TOML or the command line, changed by CONFIG SET.
//!
//! ```text
//! params/*  one entry per directive ──┬─► struct Config   typed fields, shared as Arc<Config>
//!                                     └─► PARAMS          name, alias, kind, flags, doc, read, print
//!
//! redis.conf, argv ─► load ─┐                             ┌─► CONFIG GET
//! rsredis.toml ─► toml ─────┴─► Config ─► store ──────────┼─► CONFIG SET (copy, change, hooks, publish)
//!                                                         └─► rewrite ─► redis.conf
//! ```
//! This room opens no file: `persistence::config_file` reads, includes and replaces them.

mod check;
mod choice;
mod special;
mod value;

#[macro_use]
mod param;
#[macro_use]
mod params;

mod args;
mod load;
mod rewrite;
mod store;
mod toml;

use std::sync::{Arc, OnceLock};

pub use args::{Arguments, read_arguments};
pub use check::expand_proc_title;
pub use choice::*;
pub use load::{Checks, Declared, Includes, Loaded, Loader, Place, Problem, UserFault};
pub use param::{Flags, Param};
pub use rewrite::{Extra, SentinelLine, rewrite};
pub use special::{
    BindAddresses, MemoryLimit, OomScoreAdjValues, OutputBufferLimit, OutputBufferLimits, Percentiles, PrimaryAddress,
    SavePoint, ShutdownFlags,
};
pub use store::{ApplyHook, Caller, ChangedHook, ConfigStore, Rewriter, SetError};
use value::Value;
pub use value::{Kind, print_memory, read_memory};

use crate::commands::effects::EventClasses;
use crate::engine::limits::Limits;

/// The version of Redis that is reported to clients and tools.
pub const REDIS_VERSION: &str = "7.4.2";

const INT_MAX: i64 = i32::MAX as i64;
const UINT_MAX: i64 = u32::MAX as i64;
const LONG_MAX: u64 = i64::MAX as u64;
const REPL_BACKLOG_MIN: u64 = 16 * 1024;
const MAXMEMORY_CLIENTS_MIN: u64 = 128 * 1024;

network_params! {
    [general_params memory_params data_params persistence_params replication_params cluster_params tls_params define_config]
}

impl Config {
    /// The defaults of a Sentinel, which listens elsewhere and is reached by others from the start. It has no data to share out
    /// among workers.
    pub fn for_sentinel() -> Config {
        Config { port: 26379, protected_mode: false, io_threads: 1, is_sentinel: true, ..Config::default() }
    }

    /// How HELLO, INFO and the log call what this process is.
    pub fn mode(&self) -> &'static str {
        match () {
            () if self.cluster_enabled => "cluster",
            () if self.is_sentinel => "sentinel",
            () => "standalone",
        }
    }

    /// Brings what depends on several settings, or is cut to a range, into its final form. Called after every change.
    pub(crate) fn settle(&mut self) {
        self.hz = self.hz.clamp(1, 500);
        self.repl_backlog_size = self.repl_backlog_size.max(REPL_BACKLOG_MIN);
        let limits = Limits {
            list_max_listpack_size: self.list_max_listpack_size,
            list_compress_depth: self.list_compress_depth,
            hash_max_listpack_entries: self.hash_max_listpack_entries,
            hash_max_listpack_value: self.hash_max_listpack_value,
            set_max_intset_entries: self.set_max_intset_entries,
            set_max_listpack_entries: self.set_max_listpack_entries,
            set_max_listpack_value: self.set_max_listpack_value,
            zset_max_listpack_entries: self.zset_max_listpack_entries,
            zset_max_listpack_value: self.zset_max_listpack_value,
            stream_node_max_bytes: self.stream_node_max_bytes,
            stream_node_max_entries: self.stream_node_max_entries,
            hll_sparse_max_bytes: self.hll_sparse_max_bytes,
            // Not a directive: DEBUG QUICKLIST-PACKED-THRESHOLD sets it.
            packed_threshold: self.limits.packed_threshold,
        };
        self.limits = Arc::new(limits);
    }

    /// The limit of clients' memory in bytes; 0 for none. So low that nobody could take it back it cannot be.
    pub fn maxmemory_clients_bytes(&self) -> u64 {
        match self.maxmemory_clients {
            MemoryLimit::Bytes(0) => 0,
            MemoryLimit::Percent(_) if self.maxmemory == 0 => 0,
            limit => limit.bytes(self.maxmemory).max(MAXMEMORY_CLIENTS_MIN),
        }
    }
}

/// The directive of that name or alias, in any case of letters.
pub fn find_param(name: &[u8]) -> Option<&'static Param> {
    PARAMS.iter().find(|param| param.names().any(|known| known.as_bytes().eq_ignore_ascii_case(name)))
}

/// The settings of a server that is told nothing.
pub fn defaults() -> &'static Config {
    static DEFAULTS: OnceLock<Config> = OnceLock::new();
    DEFAULTS.get_or_init(Config::default)
}

/// Whether a value in this place of a CONFIG SET must not be shown to anybody.
pub fn is_sensitive(name: &[u8]) -> bool {
    find_param(name).is_some_and(|param| param.is(Flags::SENSITIVE))
}

fn default_workers() -> usize {
    std::thread::available_parallelism().map_or(1, |cores| cores.get().min(128))
}

fn default_save_points() -> Vec<SavePoint> {
    [(3600, 1), (300, 100), (60, 10000)].map(|(seconds, changes)| SavePoint { seconds, changes }).to_vec()
}

#[cfg(test)]
mod tests;
