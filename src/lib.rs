//! rsredis: a drop-in replacement for redis-server. `src/README.md` is the map of the house.
//!
//! Rooms are layered; a room imports only rooms of a lower level (`tests/architecture.rs` holds the wall):
//!
//! | level | rooms |
//! |---|---|
//! | 0 | `base` |
//! | 1 | `resp`, `engine` |
//! | 2 | `rdb`, `net` |
//! | 3 | `commands` |
//! | 4 | `server` |
//! | 5 | `script`, `persistence` |
//! | 6 | `replication` |
//! | 7 | `cluster`, `sentinel` |
//! | 8 | `front` |
//! | 9 | `boot`, `cli` |
//!
//! Lock order: shards ascending → journal → changes of users → pub/sub registry → client outbox. No lock is held across an `.await`.

pub mod base;
pub mod boot;
pub mod cli;
pub mod cluster;
pub mod commands;
pub mod engine;
pub mod front;
pub mod net;
pub mod persistence;
pub mod rdb;
pub mod replication;
pub mod resp;
pub mod script;
pub mod sentinel;
pub mod server;
