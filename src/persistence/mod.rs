//! Level 5: files. RDB, the append-only file, the configuration. No sockets.
//!
//! ```text
//!   snapshot   a point in time of all keys, serialized without a fork ──► rdb_save (a file)  aof_rewrite (a base)  replication
//!   rdb_save   temporary file ─► sync ─► rename ─► sync the directory
//!   rdb_load   file ─► rdb::Reader (one thread) ─► batches ─► decode and insert (several threads)
//! ```

pub mod acl_file;
pub mod aof;
pub mod aof_durable;
pub mod aof_load;
pub mod aof_manifest;
pub mod aof_pen;
pub mod aof_redo;
pub mod aof_rewrite;
pub mod aof_writer;
pub mod commands;
pub mod commands_base;
pub mod config_file;
pub mod cron;
pub mod debug;
pub mod files;
pub mod fuzzing;
pub mod rdb_damage;
pub mod rdb_load;
pub mod rdb_save;
pub mod shutdown;
pub mod snapshot;
pub mod startup;
pub mod storage;

#[cfg(test)]
mod crash_tests;
