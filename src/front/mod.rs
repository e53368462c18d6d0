//! Level 8: accepting connections, the connection loop, periodic work, signals. No rules of Redis.

pub mod busy;
pub mod connection;
pub mod crash;
pub mod cron;
pub mod gathering;
mod handshake;
pub mod listener;
pub mod log;
mod parking;
pub mod pool;
pub mod ports;
pub mod process;
pub mod signals;
mod sync_turn;
pub mod title;
pub mod tls;
pub mod watchdog;
