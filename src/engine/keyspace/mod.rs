//! The keyspace: 64 shards under striped locks, each with every database's part of the keys.
//!
//! ```text
//!   key ── hash ──► shard (top 6 bits) ──► Db of the selected database ──► table bucket (low bits) ──► record
//! ```
//! A worker locks the shards of a command's keys in ascending order, runs it, and lets them go (`lock`). Whoever waits for
//! a key (`waiters`) or watches it (`watch`) is registered in the key's shard, under the same lock as the key.

pub mod db;
pub mod lock;
pub mod place;
pub mod shard;
pub mod snapshot;
pub mod waiters;
pub mod watch;

pub use db::{Db, Displaced, NewExpiry, OnExpired};
pub use lock::{Keyspace, Locked, SHARDS, ShardSet, shard_of};
pub use shard::Shard;
