//! Level 4: shared state, sessions, and the way of a command: dispatch → admission → plan → call → propagation.
//!
//! No runtime, file or socket: whatever must move (replica links, the AOF writer, gossip) lives above and reads or changes
//! the plain data here; a handler that wants something to happen up there leaves an intent.

pub mod ack_wait;
pub mod acl;
pub mod auth;
pub mod blocking;
pub mod call;
pub mod client_limits;
pub mod clients;
pub mod commands;
pub mod config;
pub mod dispatch;
pub mod evict;
pub mod expire_cycle;
pub mod failover;
pub mod follow;
pub mod info;
pub mod intents;
pub mod journal;
pub mod latency;
pub mod lazyfree;
pub mod migrations;
pub mod monitor;
pub mod multi;
pub mod notify;
pub mod own_expiry;
pub mod pause;
pub mod plan;
pub mod process;
pub mod propagation;
pub mod pubsub;
pub mod replicas;
pub mod role;
pub mod role_change;
pub mod save_status;
pub mod script_flags;
pub mod scripts;
pub mod session;
pub mod slots;
pub mod slowlog;
pub mod state;
pub mod stats;
pub mod table;
pub mod tracking;
pub mod worker;
pub mod workers;

pub use session::{Session, SessionCommand, SessionContext, SessionFlow};
pub use state::Server;
pub use worker::Worker;
