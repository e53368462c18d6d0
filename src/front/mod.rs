//! Level 8: accepting connections, the connection loop, periodic work, signals. No rules of Redis.

pub mod busy;
pub mod connection;
pub mod crash;
pub mod cron;
mod handshake;
pub mod listener;
pub mod log;
mod parking;
pub mod pool;
pub mod process;
pub mod signals;
pub mod tls;
